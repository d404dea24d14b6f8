"""What TrainCalculation accepts and writes, and what its parser makes of what a training leaves; nothing is trained by AiiDA here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest
import yaml
from aiida import orm
from aiida.common import LinkType
from aiida.common.datastructures import StashMode
from aiida.common.folders import SandboxFolder
from aiida.engine import run_get_node
from aiida.engine.processes.calcjobs.monitors import CalcJobMonitorAction
from aiida.engine.utils import instantiate_process
from aiida.manage import get_manager
from aiida.manage.caching import enable_caching

from aiida_xastruct.calculations.functions.train_family import train_family
from aiida_xastruct.calculations.monitors import training_loss
from aiida_xastruct.calculations.train import TrainCalculation, effective_config
from aiida_xastruct.data.dataset import DatasetData
from aiida_xastruct.engine import ALGORITHM_VERSION
from aiida_xastruct.engine.cli import main
from aiida_xastruct.engine.content import content_hash
from aiida_xastruct.groups.family import install_models
from aiida_xastruct.parsers.train import TrainParser

CONFIG = {
    "name": "tiny",
    "tasks": ["distance-XANES", "neighbours-XANES"],
    "architecture": {"width": 16, "depth": 1},
    "training": {"members": 1, "epochs": 2, "batch_size": 32, "accelerator": "cpu", "devices": 1},
}


@pytest.fixture(scope="module")
def trained(make_dataset, tmp_path_factory) -> Path:
    """Folder of a job in which `xastruct train` was run. Read only."""
    folder = tmp_path_factory.mktemp("job")
    make_dataset().save(folder / "dataset.h5")
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG))
    words = ["train", folder / "config.yaml", "--dataset", folder / "dataset.h5", "-o", folder / "family"]
    words += ["--log", folder / TrainCalculation.LOG_FILE, "--report", folder / TrainCalculation.REPORT_FILE]
    assert main([str(word) for word in words]) == 0
    return folder


@pytest.fixture
def dataset(aiida_profile_clean, trained) -> DatasetData:
    return DatasetData.from_file(trained / "dataset.h5").store()


@pytest.fixture
def prepare(dataset, aiida_code_installed):
    """Function (options, inputs) -> configuration, CalcInfo."""

    def make(options: dict | None = None, **inputs):
        code = aiida_code_installed(default_calc_job_plugin="xastruct.train", filepath_executable="/bin/true")
        options = {"resources": {"num_machines": 1, "num_mpiprocs_per_machine": 1}} | (options or {})
        inputs = {"code": code, "dataset": dataset, "config": CONFIG} | inputs
        process = instantiate_process(get_manager().get_runner(), TrainCalculation, metadata={"options": options}, **inputs)
        with SandboxFolder() as folder:
            info = process.prepare_for_submission(folder)
            return yaml.safe_load(Path(folder.get_abs_path("config.yaml")).read_text()), info

    return make


def test_what_a_job_is_given(prepare, dataset):
    config, info = prepare({"max_wallclock_seconds": 1000})
    assert config == CONFIG | {"training": CONFIG["training"] | {"progress": False}}
    assert info.local_copy_list == [(dataset.uuid, "dataset.h5", "dataset.h5")]
    words = " ".join(info.codes_info[0].cmdline_params)
    assert words == (
        "train config.yaml --dataset dataset.h5 -o family --log xastruct-train.jsonl --report xastruct-train.json --seconds 950"
    )
    assert "family" in info.retrieve_list


def test_seed_device_and_crystals_are_inputs(prepare, tmp_path):
    (tmp_path / "sites.h5").write_bytes(b"x")
    own = {"forward-XANES": {"seed": 1, "epochs": 3}}
    config, info = prepare(seed=7, device="cuda", crystals=orm.SinglefileData(tmp_path / "sites.h5"), config=CONFIG | {"training_of": own})
    assert (config["training"]["seed"], config["training"]["accelerator"]) == (7, "gpu")
    assert config["training_of"] == {"forward-XANES": {"seed": 7, "epochs": 3}}
    assert info.local_copy_list[1][2] == "crystals.h5"
    assert info.codes_info[0].cmdline_params[-4:-2] == ["--crystals", "crystals.h5"]


def test_several_machines_share_a_training(prepare):
    """What `srun` starts is what Lightning is told."""
    options = {"withmpi": True, "resources": {"num_machines": 2, "num_mpiprocs_per_machine": 4}}
    config, _ = prepare(options, device="cuda")
    assert (config["training"]["devices"], config["training"]["nodes"], config["training"]["accelerator"]) == (4, 2, "gpu")


@pytest.mark.parametrize(
    ("inputs", "words"),
    [
        ({"config": {"training": {"epoch": 1}}}, "unknown key training.epoch"),
        ({"config": CONFIG | {"dataset": "set.h5"}}, "unknown key dataset"),
        ({"config": CONFIG | {"tasks": ["forward-EXAFS"]}}, "no EXAFS spectra"),
        ({"device": "tpu"}, "use one of auto, cpu, cuda"),
        ({"checkpoint": orm.FolderData}, "give the `retrieved` or the `remote_folder`"),
    ],
)
def test_bad_inputs_are_refused(prepare, inputs, words):
    with pytest.raises(ValueError, match=words):
        prepare(**{name: value() if isinstance(value, type) else value for name, value in inputs.items()})


def test_where_a_training_goes_on_from(prepare, aiida_localhost, trained, tmp_path):
    shutil.copytree(trained / "family", tmp_path / "job" / "family")
    (tmp_path / "job" / "family" / "training").mkdir()
    (tmp_path / "job" / "family" / "training" / "run.json").write_text("{}")
    folder = orm.FolderData(tree=tmp_path / "job").store()
    _, info = prepare(checkpoint=folder)
    assert (folder.uuid, "family", "family") in info.local_copy_list
    _, info = prepare(checkpoint=orm.RemoteData(computer=aiida_localhost, remote_path="/scratch/1").store())
    assert [item[1:] for item in info.remote_copy_list] == [
        ("/scratch/1/family", "family"), ("/scratch/1/xastruct-train.jsonl", "xastruct-train.jsonl"),
    ]  # fmt: skip
    stash = orm.RemoteStashFolderData(StashMode.COPY, "/keep/ab", ["family"], computer=aiida_localhost).store()
    _, info = prepare(checkpoint=stash)
    assert info.remote_copy_list == [(aiida_localhost.uuid, "/keep/ab/family", "family")]
    other = orm.Computer(label="other", hostname="other", transport_type="core.local", scheduler_type="core.direct").store()
    with pytest.raises(ValueError, match="is on other, and the job on localhost; give the `retrieved` folder"):
        prepare(checkpoint=orm.RemoteData(computer=other, remote_path="/scratch/1").store())


# ---------------------------------------------------------------- the parser


@pytest.fixture
def parse(dataset, trained, tmp_path, aiida_localhost):
    """Function (changes of the job's folder, exit status of the scheduler) -> exit code, outputs."""

    def run(change=lambda folder: None, stderr: str = "", scheduler: int | None = None, shell: str = "", **inputs):
        folder = tmp_path / "retrieved"
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(trained, folder, ignore=shutil.ignore_patterns("dataset.h5", "config.yaml"))
        change(folder)
        (folder / TrainCalculation.ERROR_FILE).write_text(stderr)
        (folder / "_scheduler-stderr.txt").write_text(shell)
        node = orm.CalcJobNode(computer=aiida_localhost, process_type="aiida.calculations:xastruct.train")
        node.set_option("resources", {"num_machines": 1, "num_mpiprocs_per_machine": 1})
        node.set_option("scheduler_stderr", "_scheduler-stderr.txt")
        inputs = {"dataset": dataset, "config": orm.Dict(CONFIG), "algorithm_version": orm.Dict(ALGORITHM_VERSION)} | inputs
        for name, value in inputs.items():
            node.base.links.add_incoming(value.store(), link_type=LinkType.INPUT_CALC, link_label=name)
        node.store()
        if scheduler is not None:
            node.set_exit_status(scheduler)
        retrieved = orm.FolderData(tree=folder)
        retrieved.base.links.add_incoming(node, link_type=LinkType.CREATE, link_label="retrieved")
        retrieved.store()
        parser = TrainParser(node)
        return parser.parse(), dict(parser.outputs)

    return run


def report_says(ended: str, reason: str = "the reason."):
    def change(folder: Path) -> None:
        path = folder / TrainCalculation.REPORT_FILE
        content = json.loads(path.read_text()) | {"ended": ended, "reason": reason}
        del content["family"]
        path.write_text(json.dumps(content))

    return change


def stopped(ended: str, finished: tuple[str, ...] = (), epochs: bool = True):
    """A family that was not finished, with a checkpoint or without."""

    def change(folder: Path) -> None:
        report_says(ended)(folder)
        state = folder / "family" / "training"
        state.mkdir()
        (state / "run.json").write_text(json.dumps({"finished": list(finished), "fingerprint": "x"}))
        if epochs:
            (state / "shell-XANES").mkdir()
            (state / "shell-XANES" / "network-0.checkpoint").write_bytes(b"")

    return change


def test_models_become_nodes_and_a_family(parse, trained):
    code, outputs = parse()
    assert code is None
    report = outputs["report"].get_dict()
    assert report["finished"] == ["distance-XANES", "neighbours-XANES"]
    assert report["losses"]["shell-XANES"][0]["epoch"] == [1, 2]
    assert report["epochs_done"] == 2
    assert report["config"]["training"]["progress"] is False
    assert report["metrics"]["distance-XANES"]["report"]["mae"] > 0
    models = {name.removeprefix("models."): node.store() for name, node in outputs.items() if name.startswith("models.")}
    assert set(models) == {"distance_XANES", "neighbours_XANES"}
    family = install_models(models, report["family"], "mine")
    assert {node.uuid for node in family.nodes} == {node.uuid for node in models.values()}
    assert family.content_hash == content_hash(trained / "family")


@pytest.mark.parametrize(
    ("ended", "label"),
    [
        ("refused", "ERROR_INPUT_REFUSED"), ("dataset_unfit", "ERROR_DATASET_UNFIT"), ("out_of_memory", "ERROR_OUT_OF_MEMORY"),
        ("diverged", "ERROR_DIVERGED"), ("no_device", "ERROR_NO_DEVICE"), ("failed", "ERROR_FAILED"),
    ],
)  # fmt: skip
def test_ends_become_exit_codes(parse, ended, label):
    code, outputs = parse(report_says(ended))
    assert code == getattr(TrainCalculation.exit_codes, label).format(reason="the reason.")
    assert outputs["report"]["ended"] == ended


@pytest.mark.parametrize(("ended", "words"), [("out_of_time", "OUT_OF_WALLTIME"), ("no", "KILLED")])
def test_a_checkpoint_makes_the_difference(parse, ended, words):
    assert parse(stopped(ended))[0].status == getattr(TrainCalculation.exit_codes, f"WARNING_{words}").status
    assert parse(stopped(ended, epochs=False))[0].status == getattr(TrainCalculation.exit_codes, f"ERROR_{words}").status
    code, outputs = parse(stopped(ended, ("distance-XANES",), epochs=False))
    assert code.status == getattr(TrainCalculation.exit_codes, f"WARNING_{words}").status
    assert [name for name in outputs if name.startswith("models")] == ["models.distance_XANES"]


def test_a_job_without_a_last_word(parse):
    """Killed for memory, by the scheduler for time, with a loss that was no number, and one that was no training."""
    with pytest.raises(RuntimeError) as error:
        __import__("torch").empty(10**17)
    assert parse(stopped("no"), stderr=f"RuntimeError: {error.value}")[0].status == 305
    assert parse(stopped("no"), stderr="slurmstepd: error: Detected 1 oom_kill event in StepId=1.0.")[0].status == 305
    assert parse(stopped("no"), scheduler=110)[0].status == 305
    assert parse(stopped("no"), scheduler=120)[0].status == 410

    def diverged(folder):
        stopped("no")(folder)
        with (folder / TrainCalculation.LOG_FILE).open("a") as stream:
            stream.write('{"task": "shell-XANES", "network": 0, "diverged": "the loss is not a number."}\n')

    assert parse(diverged)[0].status == 307

    def no_training(folder):
        shutil.rmtree(folder / "family")
        (folder / TrainCalculation.REPORT_FILE).unlink()

    code, _ = parse(no_training, stderr="true: no\n")
    assert (code.status, "true: no" in code.message) == (301, True)
    assert parse(no_training)[0].status == 310  # killed while it still read its modules: to be begun again
    assert parse(no_training, shell="_aiidasubmit.sh: line 9: 4711 Killed  xastruct train\n")[0].status == 310
    code, _ = parse(no_training, shell="_aiidasubmit.sh: line 9: xastruct-train.stderr: Permission denied\n")
    assert (code.status, "Permission denied" in code.message) == (301, True)


def test_another_version_or_a_damaged_model_is_refused(parse):
    assert parse(algorithm_version=orm.Dict({"forward": "0"}))[0].status == 311
    assert parse(lambda folder: (folder / "family" / "distance-XANES" / "weights.safetensors").write_bytes(b"x"))[0].status == 302


@pytest.mark.parametrize("content", ["[1]", "7", "null", "[" * 100_000, '{"ended": "failed"}', "{", '{"ended": ["failed"]}'])
def test_a_damaged_report_is_an_exit_code(parse, content):
    """What a job wrote is no object, is cut off, or lacks what it should say: never a parser that raises."""

    def change(folder):
        stopped("no")(folder)
        said = json.loads(content) if content.startswith("{") and content.endswith("}") else None
        own = {"algorithm_version": ALGORITHM_VERSION}
        (folder / TrainCalculation.REPORT_FILE).write_text(content if said is None else json.dumps(said | own))
        (folder / "family" / "training" / "run.json").write_text(content)

    code, outputs = parse(change)
    assert code.status in (301, 312, 411)
    assert outputs["report"]["finished"] == []


def test_models_of_a_job_without_a_report_are_of_the_version_asked_for(parse):
    def change(folder):
        stopped("no", ("distance-XANES",))(folder)
        (folder / TrainCalculation.REPORT_FILE).unlink()
        card = folder / "family" / "distance-XANES" / "card.json"
        card.write_text(json.dumps(json.loads(card.read_text()) | {"algorithm_version": "older"}))

    code, outputs = parse(change)
    assert (code.status, "distance-XANES by older" in code.message) == (311, True)
    assert not outputs


def test_a_stopped_job_names_models_and_no_paths(parse, trained):
    def change(folder):
        stopped("no", ("../../elsewhere", "distance-XANES", "/etc"))(folder)
        shutil.copytree(folder / "family" / "neighbours-XANES", folder.parent / "elsewhere", dirs_exist_ok=True)

    code, outputs = parse(change)
    assert code.status == 411
    assert [name for name in outputs if name.startswith("models")] == ["models.distance_XANES"]


def test_the_monitor_reads_the_log(dataset, aiida_localhost, tmp_path):
    node = orm.CalcJobNode(computer=aiida_localhost).store()
    node.set_remote_workdir(str(tmp_path))
    with aiida_localhost.get_transport() as transport:
        assert training_loss(node, transport) is None
        log = tmp_path / TrainCalculation.LOG_FILE
        line = {"task": "shell-XANES", "network": 0, "epoch": 1, "epochs": 9, "loss": 1.0, "select_loss": 2.0, "seconds": 1.0}
        log.write_text(json.dumps(line) + "\n")
        assert training_loss(node, transport) is None
        assert "network 1 of shell-XANES: epoch 1 of 9" in orm.Log.collection.get_logs_for(node)[0].message
        log.write_text(json.dumps(line | {"loss": None}) + "\n")
        result = training_loss(node, transport)
    assert result.action is CalcJobMonitorAction.KILL
    assert not result.override_exit_code
    assert "epoch 1 is not a number" in result.message


def test_exit_codes_follow_the_house_rule():
    codes = {name: code for name, code in TrainCalculation.exit_codes.items() if code.status >= 300}
    assert all((300 <= code.status < 400) == name.startswith("ERROR") for name, code in codes.items())
    keeps = {"ERROR_INPUT_REFUSED", "ERROR_DATASET_UNFIT", "ERROR_DIVERGED"}
    assert {name for name, code in codes.items() if not code.invalidates_cache} == keeps


# ---------------------------------------------------------------- in this process


def test_a_small_family_is_trained_here_once(dataset):
    """The same again comes from the cache; another seed does not."""
    config = CONFIG | {"tasks": ["distance-XANES"]}
    results, node = run_get_node(train_family, dataset=dataset, config=orm.Dict(config))
    assert node.is_finished_ok, node.exit_message
    assert node.inputs.algorithm_version.get_dict() == ALGORITHM_VERSION
    assert results["models"]["distance_XANES"].creator.uuid == node.uuid
    assert results["report"]["losses"]["shell-XANES"][0]["epoch"] == [1, 2]
    assert install_models(results["models"], results["report"]["family"], "here").label == "here"
    with enable_caching():
        again, copy = run_get_node(train_family, dataset=dataset, config=orm.Dict(config))
        assert copy.base.caching.get_cache_source() == node.uuid
        assert again["models"]["distance_XANES"].content_hash == results["models"]["distance_XANES"].content_hash
        other = config | {"training": CONFIG["training"] | {"seed": 1}}
        _, new = run_get_node(train_family, dataset=dataset, config=orm.Dict(other))
    assert not new.base.caching.is_created_from_cache


def test_what_cannot_be_trained_here(dataset, monkeypatch):
    _, node = run_get_node(train_family, dataset=dataset, config=orm.Dict({"tasks": ["forward-EXAFS"]}))
    assert (node.exit_status, "no EXAFS spectra" in node.exit_message) == (310, True)
    monkeypatch.setattr("aiida.engine.runners.Runner.is_daemon_runner", True)
    _, node = run_get_node(train_family, dataset=dataset, config=orm.Dict(CONFIG))
    assert (node.exit_status, "submit xastruct.train" in node.exit_message) == (311, True)


def test_own_options_of_a_task_are_changed_too():
    config = orm.Dict({"training": {"seed": 1}, "training_of": {"forward-XANES": {"accelerator": "gpu", "epochs": 2}}})
    changed = effective_config({"config": config, "device": orm.Str("cpu")})
    assert changed["training"] == {"seed": 1, "accelerator": "cpu", "progress": False}
    assert changed["training_of"] == {"forward-XANES": {"accelerator": "cpu", "epochs": 2}}
