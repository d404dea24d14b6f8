"""What workflows that run a job again where it failed have in common."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar

from aiida.engine import BaseRestartWorkChain


class ProtocolRestartWorkChain(BaseRestartWorkChain):
    """A workflow with protocols, whose handlers count how often each has run.

    Attributes:
        PROTOCOLS: YAML file of `default` and `protocols`, each with a `description`.
        OVERRIDES: what a protocol may be overridden in.
    """

    PROTOCOLS: ClassVar[Path]
    OVERRIDES: ClassVar[tuple[str, ...]]

    @classmethod
    def read_protocols(cls) -> dict[str, Any]:
        """Content of the file of protocols."""
        import yaml

        content: dict[str, Any] = yaml.safe_load(cls.PROTOCOLS.read_text())
        return content

    @classmethod
    def get_protocols(cls) -> dict[str, str]:
        """Names of the protocols and what each means."""
        return {name: str(content["description"]) for name, content in cls.read_protocols()["protocols"].items()}

    @classmethod
    def choose_protocol(cls, protocol: str | None, overrides: Mapping[str, Any] | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """Content of a protocol, of the default one for None, and the overrides.

        Raises:
            ValueError: for an unknown protocol or override.
        """
        content = cls.read_protocols()
        name = protocol or content["default"]
        if name not in content["protocols"]:
            raise ValueError(f"the protocol {name!r} is unknown; use one of {', '.join(content['protocols'])}.")
        given = dict(overrides or {})
        if unknown := sorted(set(given) - set(cls.OVERRIDES)):
            raise ValueError(f"the override {unknown[0]!r} is unknown; use {', '.join(cls.OVERRIDES[:-1])} or {cls.OVERRIDES[-1]}.")
        return content["protocols"][name], given

    @staticmethod
    def job_options(seconds: int, overrides: Mapping[str, Any]) -> dict[str, Any]:
        """Options of a job of one process that may take so many seconds, with those that the overrides give in their place."""
        resources = {"num_machines": 1, "num_mpiprocs_per_machine": 1}
        return {"resources": resources, "max_wallclock_seconds": seconds, **overrides.get("options", {})}

    def setup(self) -> None:
        """Take the inputs of the job; handlers change them from there."""
        super().setup()
        self.ctx.tries = {}

    def _count(self, name: str) -> int:
        """How often a handler has run, this time included."""
        self.ctx.tries = {**self.ctx.tries, name: self.ctx.tries.get(name, 0) + 1}
        return int(self.ctx.tries[name])
