"""Convert the SevenNet-0 checkpoint of the `sevenn` wheel to safetensors and JSON, once.

The checkpoint is a pickle, which runs code when it is read. This is the only place where the project reads one; what it writes is
shipped in `aiida_xastruct/pretrained/` and read by `aiida_xastruct.engine.sevennet`.

    python scripts/convert_sevennet.py aiida_xastruct/pretrained/sevennet0
"""

from __future__ import annotations

import hashlib
import json
import sys
from importlib.metadata import version
from pathlib import Path

import sevenn
from safetensors.torch import save_file
from sevenn.checkpoint import SevenNetCheckpoint

CHECKPOINT = Path(sevenn.__file__).parent / "pretrained_potentials" / "SevenNet_0__11Jul2024" / "checkpoint_sevennet_0.pth"

#: What of the training configuration says nothing about the network.
TRAINING = (
    *("optim", "scheduler", "loss", "continue", "epoch", "dataset", "_path", "seed", "log"),
    *("ddp", "rank", "world_size", "record", "batch", "data_", "device"),
)


def main(target: Path) -> None:
    """Write `weights.safetensors` and `config.json` of the checkpoint into `target`."""
    checkpoint = SevenNetCheckpoint(CHECKPOINT)
    config = {
        key: value.tolist() if hasattr(value, "tolist") else value
        for key, value in checkpoint.config.items()
        if not any(word in key for word in TRAINING) and not key.endswith("_cp")
    }
    source = {
        "model": "SevenNet-0 (11 July 2024)",
        "package": f"sevenn {version('sevenn')}",
        "licence": "MIT",
        "reference": "Park et al., J. Chem. Theory Comput. 20, 4857 (2024)",
        "checkpoint_sha256": hashlib.sha256(CHECKPOINT.read_bytes()).hexdigest(),
    }
    weights = {
        name: tensor.contiguous()
        for name, tensor in checkpoint.build_model().state_dict().items()  # built: sevenn mends sign conventions there
        if tensor.numel() and not name.startswith(("reduce_", "rescale_"))
    }
    target.mkdir(parents=True, exist_ok=True)
    save_file(weights, target / "weights.safetensors")
    (target / "config.json").write_text(json.dumps({"source": source, "architecture": config}, indent=1, default=str) + "\n")
    (target / "weights.safetensors").chmod(0o644)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
