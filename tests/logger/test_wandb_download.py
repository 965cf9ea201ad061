"""Runs of W&B fetched into folders, from an object that answers as W&B's client would; nothing was tried online."""

import io
import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from wandb.errors import CommError

from dpo_lab.commands.cli import main
from dpo_lab.errors import UserError
from dpo_lab.logger import wandb_download
from dpo_lab.logger.wandb import headlines
from dpo_lab.logger.wandb_download import download, parse_address
from dpo_lab.report.records import read_record
from tests.report.folders import rows, write_run

CONFIG: dict[str, Any] = {"loss": {"_target_": "dpo_lab.loss.ipo.ipo", "beta": 0.1}, "seed": 3}


@dataclass
class FakeFile:
    name: str
    source: Path
    asked: list[str]

    def download(self, root: str, replace: bool) -> io.TextIOWrapper:
        self.asked.append(self.name)
        target = Path(root) / self.name
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(self.source, target)
        return target.open()


@dataclass
class FakeRun:
    """As `wandb.apis.public.Run`: files by name, config, history, state."""

    id: str
    state: str = "finished"
    group: str | None = None
    config: dict[str, Any] = field(default_factory=dict)
    history: list[dict[str, Any]] = field(default_factory=list)
    record: Path | None = None
    name: str = "made/run"
    created_at: str = "2026-01-01T00:00:00Z"
    asked: list[str] = field(default_factory=list)

    def files(self, names: list[str]) -> Iterator[FakeFile]:
        paths = {} if self.record is None else {f"dpo_lab/{path.name}": path for path in self.record.iterdir()}
        return iter(FakeFile(name, path, self.asked) for name, path in paths.items() if name in names)

    def scan_history(self) -> Iterator[dict[str, Any]]:
        self.asked.append("history")
        return iter(self.history)


@dataclass
class FakeApi:
    known: list[FakeRun]

    def runs(self, path: str, filters: dict[str, Any]) -> list[FakeRun]:
        if path != "us/lab":
            raise ValueError(f"Could not find project {path}")
        wanted = filters.get("$or", [])
        asked = [next(iter(condition.items())) for condition in wanted]
        return [run for run in self.known if not wanted or ("group", run.group) in asked or ("name", run.id) in asked]


Online = Callable[..., FakeApi]


@pytest.fixture
def online(monkeypatch: pytest.MonkeyPatch) -> Online:
    """Makes W&B know these runs, and a key be there."""

    def start(*runs: FakeRun) -> FakeApi:
        api = FakeApi(list(runs))
        monkeypatch.setattr(wandb_download, "open_api", lambda: api)
        monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
        return api

    return start


def test_report_on_a_sweep_of_wandb_is_that_of_its_folders(online: Online, workplace: Path):
    """Records come back whole; another sweep is left alone; what is over is fetched once."""
    sent = []
    for loss, accuracy in (("sigmoid", 0.6), ("ipo", 0.7)):
        for seed in range(2):
            pairs = {"chosen": [1.0, 2.0], "rejected": [0.0, 3.0]}
            metrics = rows(accuracy + seed / 100)
            folder = write_run(workplace / "sent", loss=loss, seed=seed, metrics=metrics, pairs=pairs)
            sent.append(FakeRun(f"{loss}{seed}", group="monday", record=folder))
    api = online(*sent, FakeRun("other", group="tuesday", record=sent[0].record))
    assert main(["report", "wandb:us/lab/monday"]) == 0
    assert main(["report", "sent", "out=local"]) == 0
    out = Path("runs/.reports/us-lab-monday")
    assert (out / "table.csv").read_bytes() == (Path("local") / "table.csv").read_bytes()
    assert (out / "table.csv").read_text().count("\n") == 3
    assert "differs within a seed" not in (out / "report.html").read_text()
    assert "dpo_lab/predictions.parquet" in sent[0].asked and "history" not in sent[0].asked
    assert api.known[-1].asked == []
    asked = [list(run.asked) for run in sent]
    assert main(["report", "wandb:us/lab/groups/monday"]) == 0
    assert [run.asked for run in sent] == asked


def test_run_without_a_record_is_asked_for_its_history(online: Online, workplace: Path):
    """Rows that were sent again after a resume take their place; what is no number is left out; nan stays unknown."""
    history = [
        {
            "_step": 0,
            "step": 1,
            "train/loss": 0.7,
            "samples": {"_type": "table-file"},
            "note": "text",
            "val/loss": None,
        },
        {"_step": 1, "step": 2, "train/loss": 0.9, "train/grad_norm": "NaN"},
        {"_step": 2, "step": 2, "train/loss": 0.6},
        {"_step": 3, "other/axis": 1.0},
    ]
    config = {**CONFIG, **headlines(CONFIG), "_wandb": {}}
    online(FakeRun("ab12", state="crashed", config=config, history=history, group="monday"))
    (path,) = download(parse_address("wandb:us/lab"), Path("cache"), print)
    assert path == Path("cache/wandb/us/lab/ab12")
    record = read_record(path)
    assert record.config == {"loss": "ipo", "loss.beta": 0.1, "seed": 3} and not record.faults
    assert record.status == "crashed" and record.info["sweep"] == "monday"
    assert {name: curve.values.tolist() for name, curve in record.curves.items()} == {
        "step": [1.0, 2.0],
        "train/loss": [0.7, 0.6],
        "train/grad_norm": [],
    }


def test_a_run_that_goes_on_is_fetched_anew_and_not_taken_for_finished(online: Online, workplace: Path):
    run = FakeRun("ab12", state="running", record=write_run(workplace / "sent", metrics=rows(0.6)))
    online(run)
    for state, status in (("running", "running on W&B"), ("finished", "finished")):
        run.state = state
        (path,) = download(parse_address("wandb:us/lab/ab12"), Path("cache"), print)
        assert read_record(path).status == status
    assert run.asked.count("dpo_lab/metrics.jsonl") == 2


def test_what_is_no_run_of_ours_is_left_out(online: Online, workplace: Path):
    said: list[str] = []
    strange = FakeRun("x1", config={"loss": "mse"}, name="theirs")
    online(strange, FakeRun("../../x", config=CONFIG), FakeRun("ab12", config=CONFIG, history=[{"step": 1, "a": 1.0}]))
    assert [path.name for path in download(parse_address("wandb:us/lab"), Path("cache"), said.append)] == ["ab12"]
    assert "x1 (theirs) is no run of dpo_lab" in said[0] and "no plain name" in said[1]
    assert sorted(path.name for path in Path("cache/wandb/us/lab").iterdir()) == ["ab12"]
    online(strange)
    with pytest.raises(UserError, match="no run of dpo_lab among 1"):
        download(parse_address("wandb:us/lab"), Path("cache"), said.append)


def test_nothing_there_no_key_no_answer(online: Online, monkeypatch: pytest.MonkeyPatch, workplace: Path):
    api = online()
    with pytest.raises(UserError, match="no run in the sweep or group, or with the id, nope"):
        download(parse_address("wandb:us/lab/nope"), Path("cache"), print)
    with pytest.raises(UserError, match="Could not find project us/other"):
        download(parse_address("wandb:us/other"), Path("cache"), print)
    monkeypatch.setattr(api, "runs", lambda *_, **__: (_ for _ in ()).throw(CommError("no route")))
    with pytest.raises(UserError, match=r"no route.*check the network"):
        download(parse_address("wandb:us/lab"), Path("cache"), print)
    monkeypatch.delenv("WANDB_API_KEY")
    monkeypatch.setenv("HOME", str(workplace))
    monkeypatch.setattr(wandb_download, "has_key", lambda: False)
    assert main(["report", "wandb:us/lab"]) == 2


@pytest.mark.parametrize("word", ["wandb:us", "wandb:us/lab/a/b", "wandb:../x", "wandb:us/lab/..", "wandb:us/la b"])
def test_what_is_no_address(word: str):
    with pytest.raises(UserError, match="write wandb:ENTITY/PROJECT"):
        parse_address(word)


def test_a_record_that_is_damaged_is_told_by_the_report(online: Online, workplace: Path, capsys: pytest.CaptureFixture):
    whole = write_run(workplace / "sent", metrics=rows(0.6))
    torn = write_run(workplace / "sent", seed=1, metrics=rows(0.6))
    (torn / "run.json").write_text(json.dumps({"status": "finished"})[:-3])
    online(FakeRun("whole", record=whole), FakeRun("torn", record=torn))
    assert main(["report", "wandb:us/lab"]) == 0
    assert "1 runs left out" in capsys.readouterr().err
