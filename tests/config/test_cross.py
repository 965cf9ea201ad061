"""One test per contradiction: found where it is, silent where it is not."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.commands.sweep_entry import is_elsewhere
from dpo_lab.config import cross, find_faults

TARGETS = "tests.config.stub_targets"


def test_a_micro_batch_is_no_larger_than_the_batch() -> None:
    [fault] = cross.micro_batch_fits({"trainer": {"micro_batch_size": 9, "global_batch_size": 8}})
    assert fault == "trainer.micro_batch_size: must be at most trainer.global_batch_size, which is 8, got 9"
    for micro in (8, None, "x"):
        assert not list(cross.micro_batch_fits({"trainer": {"micro_batch_size": micro, "global_batch_size": 8}}))


def test_each_of_several_processes_has_an_item() -> None:
    [fault] = cross.every_process_has_items({"trainer": {"num_devices": 3, "global_batch_size": 2}})
    assert fault == "trainer.num_devices: must be at most trainer.global_batch_size, which is 2, got 3"
    for num in (2, 1, None, "x"):
        assert not list(cross.every_process_has_items({"trainer": {"num_devices": num, "global_batch_size": 2}}))


def test_a_warmup_of_the_batch_is_whole() -> None:
    whole = {"global_batch_size": 8, "num_devices": 2, "initial_batch_size": 4, "batch_warmup_steps": 10}
    assert not list(cross.batch_warmup_is_whole({"trainer": whole}))
    assert not list(cross.batch_warmup_is_whole({"trainer": {**whole, "initial_batch_size": "x"}}))
    [fault] = cross.batch_warmup_is_whole({"trainer": {**whole, "batch_warmup_steps": None}})
    assert fault.startswith("trainer.batch_warmup_steps: is null beside trainer.initial_batch_size=4; ")
    [fault] = cross.batch_warmup_is_whole({"trainer": {**whole, "initial_batch_size": 9}})
    assert fault == "trainer.initial_batch_size: must be at most trainer.global_batch_size, which is 8, got 9"
    [fault] = cross.batch_warmup_is_whole({"trainer": {**whole, "initial_batch_size": 1}})
    assert fault == "trainer.initial_batch_size: must be at least trainer.num_devices, which is 2, got 1"


def test_data_that_looks_like_a_file_exists(tmp_path: Path) -> None:
    there = tmp_path / "pairs.jsonl"
    there.write_text("")
    missing = ["", ["nope.jsonl"], "nope.jsonl", "./nope", str(tmp_path / "nope"), "~/nope-pairs.csv.gz", "a/b/c"]
    for path in missing:
        assert len(list(cross.data_files_exist({"data": {"path": path}}))) == 1, path
    for path in (str(there), str(tmp_path), "owner/name", "name", None):
        assert not list(cross.data_files_exist({"data": {"validation_path": path}})), path


def test_a_model_is_a_folder_or_a_hub_name(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    file.write_text("")
    for path in ("./nope", str(tmp_path / "nope"), str(file), "a/b/c", "owner/", ""):
        assert len(list(cross.model_folders_exist({"model": {"path": path}}))) == 1, path
    for path in (str(tmp_path), "owner/name-1.5_b", "gpt2", None, "???"):
        assert not list(cross.model_folders_exist({"reference": {"path": path}})), path


def test_a_gpu_is_asked_for_only_where_there_is_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    [fault] = cross.gpu_is_there({"trainer": {"accelerator": "gpu"}})
    assert fault.startswith("trainer=gpu: torch finds no CUDA device here")
    assert not list(cross.gpu_is_there({"trainer": {"accelerator": "cpu"}}))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    [fault] = cross.gpu_is_there({"trainer": {"accelerator": "gpu", "num_devices": 3}})
    assert fault == "trainer.num_devices: 3 is more than the 2 CUDA devices here"
    for num in (None, 1, 2, "x"):
        assert not list(cross.gpu_is_there({"trainer": {"accelerator": "gpu", "num_devices": num}}))


def test_folders_can_be_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    [fault] = cross.folders_can_be_written({"runs_dir": str(tmp_path / "file" / "runs"), "cache_dir": str(tmp_path)})
    assert fault.startswith("runs_dir: cannot make")
    assert not list(cross.folders_can_be_written({"runs_dir": str(tmp_path / "a" / "b"), "cache_dir": 3}))
    for key, words in (("runs_dir", "is empty"), ("cache_dir", "is empty")):
        [fault] = cross.folders_can_be_written({key: ""})
        assert fault.startswith(f"{key}: {words}")
    [fault] = cross.folders_can_be_written({"runs_dir": "/proc/nope"})
    assert fault.startswith("runs_dir: cannot write to /proc/nope")
    monkeypatch.setattr("os.access", lambda *_: False)
    [fault] = cross.folders_can_be_written({"cache_dir": str(tmp_path / "new")})
    assert fault.startswith("cache_dir: cannot write to")


def test_a_loss_asks_for_what_a_batch_has() -> None:
    def node(name: str) -> dict[str, Any]:
        return {"_target_": f"{TARGETS}.{name}"}

    terms = {"a": {"weight": 1, "loss": node("hungry")}, "b": {"weight": 1, "loss": node("sigmoid")}}
    cfg = {"plugins": [TARGETS], "loss": {**node("mix"), "terms": terms}}
    [fault] = cross.losses_can_be_fed(cfg)
    assert fault.startswith("loss.terms.a.loss: loss 'hungry' asks for weather, which no batch has.")
    assert not list(cross.losses_can_be_fed({"loss": {"_target_": "os.system"}}))


def test_checkpoints_are_compared_by_validation() -> None:
    [fault] = cross.best_is_of_validation({"trainer": {"save": "best", "best_metric": "train/loss"}})
    assert fault == "trainer.best_metric: must be a curve of validation, such as val/loss, got train/loss"
    for trainer in ({"save": "best", "best_metric": "val/loss"}, {"save": "last", "best_metric": "train/loss"}):
        assert not list(cross.best_is_of_validation({"trainer": trainer}))


def test_a_test_chooses_nothing() -> None:
    cfg = {"trainer": {"save": "last", "best_metric": "test/loss"}, "sweep": {"objective": "test/rewards/accuracies"}}
    faults = list(cross.nothing_is_chosen_on_the_test(cfg))
    assert [fault.partition(":")[0] for fault in faults] == ["trainer.best_metric", "sweep.objective"]
    assert not list(cross.nothing_is_chosen_on_the_test({"trainer": {"best_metric": "val/loss"}, "sweep": {}}))


def test_validation_and_test_leave_something_to_train_on() -> None:
    for data, said in (
        ({"validation_fraction": 0.6, "test_fraction": 0.5}, "leaves nothing"),
        ({"validation_fraction": 0.05, "test_path": "t.jsonl", "test_fraction": 0.1}, "one of the two"),
    ):
        [fault] = cross.sides_leave_something({"data": data})
        assert fault.startswith("data.test_fraction: ") and said in fault
    for data in ({"validation_fraction": 0.5, "validation_path": "v", "test_fraction": 0.6}, {"num_pairs": 3}):
        assert not list(cross.sides_leave_something({"data": data}))


def test_a_fresh_attempt_goes_on_with_none() -> None:
    [fault] = cross.resume_or_fresh({"fresh": True, "resume": {"run": "abc"}})
    assert fault.startswith("resume.run: fresh=true begins another attempt")
    for cfg in ({"fresh": False, "resume": {"run": "abc"}}, {"fresh": True, "resume": {"run": None}}, {"fresh": True}):
        assert not list(cross.resume_or_fresh(cfg))


def test_a_run_to_go_on_with_is_there(tmp_path: Path) -> None:
    folder = tmp_path / "default" / "0123456789ab"
    folder.mkdir(parents=True)
    (folder / "run.json").write_text('{"status": "interrupted"}')
    for run in (str(folder), folder.name, None, 3):
        assert not list(cross.resumed_run_is_there({"resume": {"run": run}, "runs_dir": str(tmp_path)})), run
    [fault] = cross.resumed_run_is_there({"resume": {"run": "nope"}, "runs_dir": str(tmp_path)})
    assert fault == f"resume.run: neither the folder of a run nor the id of one under {tmp_path}"


def test_a_loss_that_borrows_has_a_neighbour() -> None:
    loss = {"_target_": "dpo_lab.loss.kto.kto"}
    [fault] = cross.borrowing_has_a_neighbour({"loss": loss, "trainer": {"global_batch_size": 1}})
    assert fault.startswith("trainer.global_batch_size: loss borrows responses from the other items")
    assert not list(cross.borrowing_has_a_neighbour({"loss": loss, "trainer": {"global_batch_size": 2}}))
    grows = {"global_batch_size": 8, "initial_batch_size": 1}
    assert len(list(cross.borrowing_has_a_neighbour({"loss": loss, "trainer": grows}))) == 1
    sigmoid = {"_target_": "dpo_lab.loss.sigmoid.sigmoid"}
    assert not list(cross.borrowing_has_a_neighbour({"loss": sigmoid, "trainer": {"global_batch_size": 1}}))


def test_what_another_machine_will_run_needs_no_gpu_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """A login node of a cluster has none."""
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    cfg = {"trainer": {"accelerator": "gpu", "num_devices": 2}}
    assert any(fault.startswith("trainer=gpu") for fault in find_faults(cfg))
    assert not any(fault.startswith("trainer=gpu") for fault in find_faults(cfg, is_here=False))
    assert is_elsewhere(["hydra/launcher=submitit_slurm"])
    assert not is_elsewhere(["hydra/launcher=submitit_local", "name=submitit_slurm"])
