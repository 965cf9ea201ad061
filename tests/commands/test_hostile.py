"""Run folders from elsewhere: none of their code is run, no file outside the output folder changes, all is escaped."""

import hashlib
import json
import os
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from dpo_lab.checkpoints import CONTENT, check_content
from dpo_lab.commands import cli
from dpo_lab.commands import train as command
from dpo_lab.errors import UserError
from dpo_lab.run import RunFolder
from dpo_lab.run.checkpoint import checkpoint_path, load, saved_checkpoints
from dpo_lab.run.claim import LOCK
from dpo_lab.run.digests import FIELD, digests_of
from dpo_lab.run.kept import manifest_path, newest_sound
from dpo_lab.run.links import own_folder
from tests.commands.test_report import Tags
from tests.report.folders import rows, write_run
from tests.torture.processes import SMALL

OUTSIDE = "root:x:0:0:root:/root:/bin/sh\n"
EVIL = ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", '"><svg onload=alert(1)>', "javascript:alert(1)")
TWO_STEPS = (*SMALL, "trainer.max_steps=2", "trainer.checkpoint_every=1", "trainer.keep_last=2", "model=tiny")


class Payload:
    """Makes a file when it is unpickled."""

    def __init__(self, target: Path) -> None:
        self._target = target

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return os.mkdir, (str(self._target),)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A folder with a run of two steps in runs/torture/ID."""
    folder = tmp_path_factory.mktemp("hostile")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        assert cli.main(["train", *TWO_STEPS, f"runs_dir={folder}/runs", f"cache_dir={folder}/cache"]) == 0
        yield folder


@pytest.fixture
def run(made: Path) -> Path:
    """A copy of that run, in which anything may be done; as if it had been killed after its last step."""
    shutil.copytree(made / "runs", "runs")
    (folder,) = Path("runs").glob("torture/*")
    write_info(folder, status="running")
    return folder.absolute()


@pytest.fixture
def outside(tmp_path: Path) -> Iterator[Path]:
    """A file and a folder that are not the run's; they are as they were when the test ends."""
    folder = tmp_path / "outside"
    (folder / "charts").mkdir(parents=True)
    for name in ("passwd", "charts/old.svg", "step-00000001.ckpt", "step-00000001.json", ".step.partial"):
        (folder / name).write_text(OUTSIDE)
    yield folder
    assert {path.read_text() for path in folder.rglob("*") if path.is_file()} == {OUTSIDE}
    assert sum(path.is_file() for path in folder.rglob("*")) == 5


def write_info(run: Path, **fields: Any) -> None:
    info = json.loads((run / "run.json").read_text())
    (run / "run.json").write_text(json.dumps({**info, **fields}))


def write_config(run: Path, change: Callable[[dict[str, Any]], Any]) -> None:
    config = yaml.safe_load((run / "config.yaml").read_text())
    change(config)
    (run / "config.yaml").write_text(yaml.safe_dump(config, sort_keys=False))
    if FIELD in json.loads((run / "run.json").read_text()):  # whoever wrote the one file could write the other
        write_info(run, **{FIELD: digests_of(run)})


def resume(made: Path, *words: str) -> int:
    return cli.main(["train", *TWO_STEPS, "runs_dir=runs", f"cache_dir={made}/cache", *words])


def spoil(run: Path, target: Path, legacy: bool) -> None:
    """Each checkpoint a payload, with the manifest that is right for it."""
    for path in saved_checkpoints(run / "checkpoints"):
        if legacy:
            path.write_bytes(pickle.dumps(Payload(target), protocol=2))
        else:
            torch.save({"format": 1, "step": Payload(target)}, path)
        agree(path)


def agree(checkpoint: Path) -> None:
    """Have the manifest say what the checkpoint holds now."""
    content = checkpoint.read_bytes()
    digest = {"step": 1, "num_bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    manifest_path(checkpoint).write_text(json.dumps(digest))


@pytest.mark.parametrize("legacy", [False, True])
def test_a_pickle_for_a_checkpoint_is_refused_by_name(
    run: Path, made: Path, tmp_path: Path, legacy: bool, capsys: pytest.CaptureFixture[str]
):
    target = tmp_path / "owned"
    spoil(run, target, legacy)
    newest = saved_checkpoints(run / "checkpoints")[-1]
    with pytest.raises(
        UserError, match=rf"{newest.name} is damaged or not a checkpoint of dpo_lab: it would run .*mkdir"
    ):
        load(newest)
    assert resume(made, f"resume.run={run}", "optimizer.lr=0.5", "resume.allow_change=[config]") == 2
    said = capsys.readouterr().err
    assert f"checkpoint {newest.name} is not used" in said and "has no checkpoint to go on from" in said
    assert "weights_only=False" not in said
    assert cli.main(["score", str(run), "weights=2"]) == 2
    assert not target.exists()
    pickle.loads(pickle.dumps(Payload(target)))  # what it would have done
    assert target.exists()


@pytest.mark.parametrize("content", [{"format": 1}, {"format": 2}, dict.fromkeys(CONTENT) | {"format": 1}])
def test_a_checkpoint_with_other_things_in_it_is_refused(content: Any):
    with pytest.raises(UserError, match="the checkpoint"):
        check_content(content)


@pytest.mark.parametrize("content", [[], 3, "text", None])
def test_a_checkpoint_that_is_no_dictionary_is_not_used(workplace: Path, content: Any):
    path = checkpoint_path(workplace, 1)
    torch.save(content, path)
    agree(path)
    said: list[str] = []
    assert newest_sound(workplace, said.append) is None
    assert said == [f"checkpoint {path.name} is not used: it holds something else than a checkpoint of dpo_lab"]


@pytest.mark.parametrize("verb", ["reproduce", "score"])
@pytest.mark.parametrize("target", ["builtins.open", "os.system", "dpo_lab.commands.cli.main"])
@pytest.mark.parametrize("group", ["loss", "data"])
def test_no_function_of_the_config_is_called(
    run: Path, verb: str, target: str, group: str, capsys: pytest.CaptureFixture[str]
):
    node = {"_target_": target, "file": "owned", "mode": "w", "command": "touch owned", "argv": ["--version"]}
    write_config(run, lambda config: config.update({group: node}))
    code = cli.main([verb, str(run), *(["--steps", "1"] if verb == "reproduce" else [])])
    assert code == 2 and f"{group}._target_" in capsys.readouterr().err
    assert not Path("owned").exists()


def test_plugins_of_a_saved_config_are_not_imported(run: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "stranger.py").write_text("from pathlib import Path\nPath('owned').touch()\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    write_config(run, lambda config: config.update(plugins=["stranger"], loss={"_target_": "stranger.loss"}))
    for verb in ("reproduce", "score"):
        assert cli.main([verb, str(run)]) == 2
    assert not Path("owned").exists()


def test_a_resumed_run_takes_no_function_of_the_saved_config(run: Path, made: Path):
    """What decides is the command's own config; that of the folder is compared with it, and differs."""
    write_config(run, lambda config: config.update(loss={"_target_": "os.system", "command": "touch owned"}))
    assert resume(made, f"resume.run={run}") == 2
    assert not Path("owned").exists()


@pytest.mark.parametrize("value", ["${oc.env:HOME}", "${hydra:runtime.cwd}"])
def test_nothing_of_a_saved_config_is_looked_up(
    run: Path, value: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
):
    monkeypatch.setenv("HOME", "/the/home/of/the/victim")
    write_config(run, lambda config: config["optimizer"].update(lr=value))
    for verb in ("reproduce", "score"):
        assert cli.main([verb, str(run)]) == 2
        said = capsys.readouterr()
        assert "optimizer.lr: would be looked up" in said.err and "victim" not in said.err + said.out
    write_info(run, status="finished")
    assert cli.main(["runs", "--json"]) == cli.main(["report", str(run)]) == 0
    assert "victim" not in capsys.readouterr().out + (run / "report/report.html").read_text()


def test_markup_in_every_text_of_a_folder_is_escaped(workplace: Path, capsys: pytest.CaptureFixture[str]):
    for number, evil in enumerate(EVIL):
        info = dict.fromkeys(("id", "name", "sweep", "status", "exit_reason", "started", "python", "host"), evil)
        info |= {
            "packages": {evil: evil},
            "code": {"hash": evil, "commit": evil, "dirty": evil},
            "platform": {"gpu": evil},
        }
        info |= {"hashes": {"data": evil, "initial_weights": evil, "reference": evil}, "seeds": {evil: evil}}
        metrics = [{**row, f"val/{evil}": 0.5, evil: 1.0} for row in rows(0.6 + number / 100, kl=1.0)]
        for seed in range(2):
            run = write_run(
                workplace / "runs",
                seed=seed,
                id=f"a{number}-{seed}",
                metrics=metrics,
                info={**info, "status": "finished"},
            )
            write_config(
                run, lambda config, evil=evil: config.update({"model": {"path": evil, evil: evil}, "name": evil})
            )
            (run / "overrides.yaml").write_text(yaml.safe_dump([f"model.path={evil}"]))
            samples = {"step": 2, "index": 0, "prompt": evil, "sample": evil, "before": evil, "answers": [evil]}
            (run / "samples.jsonl").write_text(json.dumps(samples) + "\n")
        write_run(workplace / "runs", id=f"b{number}", info=info)
        write_run(workplace / "runs", id=f"c{number}").joinpath("run.json").write_text(evil)
    assert cli.main(["report", "runs"]) == 0
    out = workplace / "runs/.reports/runs"
    page = (out / "report.html").read_text()
    assert "&lt;script&gt;" in page and not {"script", "img", "iframe", "object"} & set(Tags(page).tags)
    pages = [page, (out / "report.md").read_text(), *(path.read_text() for path in (out / "charts").glob("*.svg"))]
    for text in pages:
        assert not any(sign in text for sign in ("<script>alert", "<img src=x", "<svg onload"))
    assert all(link.startswith(("#", "data:text/csv")) for link in Tags(page).links)
    assert cli.main(["runs"]) == 0
    assert cli.main(["runs", "--json"]) == 0
    assert cli.main(["report", str(workplace / "runs/made/a0-0")]) == 0
    assert "<script>alert" not in (workplace / "runs/made/a0-0/report/report.html").read_text()


CLIMBING = ("../../../escaped", "/escaped", "..", "a/../../../../escaped", "x\u0000y", ".hidden/../../escaped")


def test_no_name_of_a_folder_leads_out_of_it(workplace: Path, tmp_path: Path):
    """Names, ids and sweeps that climb; curves whose names would be files outside of the report."""
    for number, climbing in enumerate(CLIMBING):
        info = {"name": climbing, "id": climbing, "sweep": climbing}
        metrics = [{**row, climbing: 0.5, f"val/{climbing}": 1.0} for row in rows(0.6, kl=1.0)]
        for seed in range(2):
            write_run(workplace / "runs", seed=seed, id=f"r{number}-{seed}", metrics=metrics, info=info)
    before = everything(tmp_path) | everything(Path("/"), deep=False)
    for metric in ("val/../../../escaped", "/escaped", "val/rewards/accuracies"):
        assert cli.main(["report", "runs", f"metric={metric}"]) == 0
    assert cli.main(["report", str(workplace / "runs/made/r0-0")]) == 0
    new = (everything(tmp_path) | everything(Path("/"), deep=False)) - before
    runs = workplace / "runs"
    assert new and all(
        path.is_relative_to(runs / ".reports")
        or path.parts[-2:-1] == ("report",)
        or "report" in path.relative_to(runs).parts
        for path in new
    )


def everything(folder: Path, *, deep: bool = True) -> set[Path]:
    return set(folder.rglob("*") if deep else folder.iterdir())


LINKED = ("metrics.jsonl", "timing.jsonl", "run.json", LOCK, "code.diff", "checkpoints", "model", "report", "wandb")


@pytest.mark.parametrize("name", LINKED)
def test_a_run_with_a_link_in_it_is_not_taken_over(workplace: Path, outside: Path, name: str):
    run = write_run(workplace / "runs", metrics=rows(0.6), info={"status": "killed"})
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(outside if "." not in name else outside / "passwd")
    with pytest.raises(UserError, match=f"{name} is a link to"):
        RunFolder.take_over(run)


def test_a_resume_writes_through_no_link(run: Path, made: Path, outside: Path, capsys: pytest.CaptureFixture[str]):
    (run / "metrics.jsonl").unlink()
    (run / "metrics.jsonl").symlink_to(outside / "passwd")
    assert resume(made) == 2
    assert "metrics.jsonl is a link to" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["checkpoints", "model", LOCK, "metrics.jsonl"])
def test_pruning_follows_no_link(workplace: Path, outside: Path, tmp_path: Path, name: str):
    run = write_run(workplace / "runs", metrics=rows(0.6))
    (run / LOCK).touch()
    (run / name).unlink(missing_ok=True)
    (run / name).symlink_to(tmp_path / "owned" if name == LOCK else outside)
    for what in ("checkpoints", "model", "all"):
        assert cli.main(["runs", "prune", "name~made", "--drop", what, "--yes"]) == 0
    assert run.exists() == (name == LOCK) and not (tmp_path / "owned").exists()


@pytest.mark.parametrize("place", ["report", "report/charts"])
def test_a_report_is_not_written_through_a_link(workplace: Path, outside: Path, place: str):
    run = write_run(workplace / "runs", metrics=rows(0.6, kl=1.0))
    (run / place).parent.mkdir(exist_ok=True)
    (run / place).symlink_to(outside / "charts" if "/" in place else outside)
    assert cli.main(["report", str(run)]) == 2


@pytest.mark.parametrize("name", ["scores", "explanations", "report"])
def test_nothing_is_written_through_a_link(workplace: Path, outside: Path, name: str):
    (workplace / name).symlink_to(outside)
    with pytest.raises(UserError, match=f"{name} is a link to"):
        own_folder(workplace, name)
