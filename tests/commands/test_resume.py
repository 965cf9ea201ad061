"""Runs that go on: from any step to the same bits, after any signal, and never as another run than they were."""

import os
import re
import resource
import shutil
import signal
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
import pytorch_lightning as pl
import torch

from dpo_lab.assemble import steps
from dpo_lab.commands import train as command
from dpo_lab.data.batch import response_key
from dpo_lab.data.reviews import reviews
from dpo_lab.errors import UserError
from dpo_lab.interruption import SIGNALS, Stopped
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.module import PreferenceModule
from dpo_lab.non_finite import NonFiniteError
from dpo_lab.run import Run, hex_key, read_run
from dpo_lab.run.checkpoint import load, saved_checkpoints
from dpo_lab.run.files import WriteError, write_json
from dpo_lab.run.kept import manifest_path
from dpo_lab.types import LogProbs
from tests.small import weights_of
from tests.torture.processes import config
from tests.torture.torture import KINDS, compare

SEVEN = ("trainer.max_steps=7", "trainer.validate_every=2")
"""Seven steps over windows of 8, 8, 8, 8 and 2 pairs: the fifth ends an epoch."""


@pytest.fixture(scope="module", autouse=True)
def no_picture() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(command, "draw_run", lambda *_: None)
        yield


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Supervised starts, tokens and reference log-probs, made once."""
    return tmp_path_factory.mktemp("cache")


Train = Callable[..., Run]


def train_in(runs: str, cache: Path, *overrides: str) -> Run:
    cfg = config(*SEVEN, *overrides, f"cache_dir={cache}", f"runs_dir={runs}")
    assert command.train(cfg, list(overrides)) == 0
    return the_run(runs)


@pytest.fixture
def train(cache: Path) -> Train:
    """Trains in the folder `runs` of the test and reads the run back."""
    return lambda *overrides, runs="runs": train_in(runs, cache, *overrides)


@pytest.fixture(scope="module")
def whole(cache: Path) -> Run:
    """The run of `SEVEN`, left in peace."""
    return train_in(str(cache / "whole"), cache)


def the_run(runs: str = "runs") -> Run:
    (found,) = Path(runs).glob("*/*/run.json")
    return read_run(found.parent)


def kept(run: Run) -> list[int]:
    """Steps of the checkpoints of a run."""
    return [int(path.stem.partition("-")[2]) for path in saved_checkpoints(run.path / "checkpoints")]


def stopped_at(step: int, act: Callable[[], object], train: Train, *overrides: str) -> BaseException:
    """What training ends with where `act` is called in the middle of optimizer step `step`."""
    original = PreferenceModule.training_step

    def training_step(self: PreferenceModule, window: Any, index: int) -> None:
        if self.trainer.global_step == step - 1:
            act()
        original(self, window, index)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(PreferenceModule, "training_step", training_step)
        with pytest.raises((RuntimeError, Stopped, UserError)) as ended:
            train(*overrides)
    return ended.value


def boom() -> None:
    raise RuntimeError("boom")


def send(number: signal.Signals, times: int = 1) -> Callable[[], None]:
    return lambda: [os.kill(os.getpid(), number) for _ in range(times)].clear()


@pytest.mark.parametrize(("kind", "steps"), list(zip(KINDS, [(1, 4, 5, 7), (4,), (5,)], strict=True)))
def test_from_any_step_to_the_same_bits(kind: str, steps: tuple[int, ...], train: Train):
    """A run with a checkpoint at every step, put back to some of them: the middle and the end of an epoch, a step that
    is validated, the last."""
    go_on_from(steps, train, *KINDS[kind])


def go_on_from(steps: Iterable[int], train: Train, *overrides: str) -> Run:
    peaceful = train(*overrides, "trainer.checkpoint_every=1", "trainer.keep_last=9", runs="whole")
    for step in steps:
        shutil.copytree("whole", f"from-{step}")
        folder = the_run(f"from-{step}").path
        for path in saved_checkpoints(folder / "checkpoints")[step:]:
            path.unlink()
            manifest_path(path).unlink()
        shutil.rmtree(folder / "model")
        write_json(folder / "run.json", {**read_run(folder).info, "status": "running"})
        resumed = train(*overrides, "trainer.checkpoint_every=3", runs=f"from-{step}")
        assert compare(resumed.path, peaceful.path) == []
        assert [entry["step"] for entry in resumed.info["resumed"]] == [step]
        seconds = [row["seconds"] for row in resumed.timing]
        assert seconds[1:] == sorted(seconds[1:])  # the first row is from before training
    return peaceful


def test_what_moves_with_the_steps_goes_on_where_it_was(train: Train):
    """A batch that grows from 2 to 8 in 3 steps, a weight that grows from 0.1 by 0.15 a step and is validated with."""
    warmup = ("trainer.initial_batch_size=2", "trainer.batch_warmup_steps=3")
    ramp = ("loss=mix", "loss.terms.penalty.final_weight=1", "loss.terms.penalty.ramp_steps=6")
    run = go_on_from((2, 7), train, *warmup, *ramp)
    rows = [row for row in run.metrics if "train/loss" in row]
    assert [row["examples_seen"] for row in rows] == [2, 6, 12, 20, 28, 34, 42]
    assert [row["train/loss_weight/penalty"] for row in rows] == pytest.approx([0.1 + 0.15 * step for step in range(7)])
    for row in run.metrics[1:]:
        for split in {"train", "val"} & {name.partition("/")[0] for name in row}:
            weighted = row[f"{split}/loss/preference"] + (0.1 + 0.15 * (row["step"] - 1)) * row[f"{split}/loss/penalty"]
            assert row[f"{split}/loss"] == pytest.approx(weighted)


@pytest.mark.parametrize(
    ("number", "code", "step"), [(signal.SIGTERM, 143, 4), (signal.SIGINT, 130, 5), (signal.SIGUSR1, 138, 7)]
)
def test_a_signal_ends_the_run_after_its_step(number, code: int, step: int, train: Train, whole: Run):
    """After step 4 there is a validation, which is not lost; step 5 ends an epoch, step 7 the run."""
    handlers = [signal.getsignal(each) for each in SIGNALS]
    ended = stopped_at(step, send(number), train)
    assert isinstance(ended, Stopped) and ended.code == code
    assert handlers == [signal.getsignal(each) for each in SIGNALS]
    run = the_run()
    assert (run.status, run.info["exit_reason"]) == ("interrupted", f"Stopped: {code}")
    assert kept(run) == [step] and run.metrics[-1]["step"] == step
    assert not (run.path / "model").exists()
    assert compare(train().path, whole.path) == []


def test_a_signal_between_two_steps_ends_the_run_after_the_next(train: Train, whole: Run):
    """It comes while the row of step 3 is written, after all that was asked at the end of that step."""

    class Late(pl.Callback):
        def on_train_batch_end(self, trainer: pl.Trainer, *_: Any) -> None:
            if trainer.global_step == 3:
                os.kill(os.getpid(), signal.SIGTERM)

    original = steps.make_trainer
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(steps, "make_trainer", lambda *given, **knobs: with_last(original(*given, **knobs), Late()))
        with pytest.raises(Stopped, match="143"):
            train()
    assert kept(the_run()) == [4]
    assert compare(train().path, whole.path) == []


def with_last(trainer: pl.Trainer, callback: pl.Callback) -> pl.Trainer:
    trainer.callbacks.append(callback)  # pyright: ignore[reportAttributeAccessIssue]
    return trainer


def test_a_second_ctrl_c_ends_at_once(train: Train, whole: Run):
    """It comes in step 4, of which nothing is kept; the checkpoint of step 2 is whole."""
    ended = stopped_at(4, send(signal.SIGINT, times=2), train, "trainer.checkpoint_every=2")
    assert isinstance(ended, Stopped) and ended.code == 130
    assert the_run().status == "interrupted" and kept(the_run()) == [2]
    assert compare(train().path, whole.path) == []


def test_a_torn_checkpoint_is_passed_over_by_name(train: Train, whole: Run, capsys: pytest.CaptureFixture[str]):
    stopped_at(5, boom, train, "trainer.checkpoint_every=2", "trainer.keep_last=2")
    run = the_run()
    assert run.status == "failed" and kept(run) == [2, 4]
    torn = saved_checkpoints(run.path / "checkpoints")[-1]
    torn.write_bytes(torn.read_bytes()[:-10])
    assert compare(train().path, whole.path) == []
    said = capsys.readouterr().err
    assert "checkpoint step-00000004.ckpt is not used: it has" in said
    assert "going on after step 2, from" in said


def test_without_a_checkpoint_it_starts_over_in_place(train: Train, whole: Run, capsys: pytest.CaptureFixture[str]):
    stopped_at(3, boom, train)
    assert compare(train().path, whole.path) == []
    assert "left no checkpoint: starting over in" in capsys.readouterr().err


@pytest.fixture
def limited() -> Iterator[Callable[[int], None]]:
    """Sets the size that a file may have, as a disk that is full would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield lambda num_bytes: resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, before[1]))
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


@pytest.mark.parametrize(("num_bytes", "refused"), [(20_000, r"step-00000004\.ckpt"), (700, r"metrics\.jsonl")])
@pytest.mark.usefixtures("capsys")  # else what is said goes into a file, which may not grow either
def test_a_full_disk_names_the_file_and_keeps_what_was_there(num_bytes, refused, train: Train, whole: Run, limited):
    """From step 4 on no file may grow beyond a size that a checkpoint needs, or that the curves have already."""
    ended = stopped_at(4, lambda: limited(num_bytes), train, "trainer.checkpoint_every=2", "trainer.keep_last=2")
    limited(-1)
    assert isinstance(ended, WriteError) and ended.exit_code == 1
    assert re.search(f"cannot write .*{refused}: File too large", str(ended))
    folder = the_run().path
    assert kept(the_run()) == [2] and not list(folder.rglob("*.partial"))
    assert compare(train().path, whole.path) == []


def test_other_code_is_refused_until_it_is_allowed(train: Train, capsys: pytest.CaptureFixture[str]):
    stopped_at(5, boom, train, "trainer.checkpoint_every=2")
    folder = the_run().path
    info = the_run().info
    info["code"]["hash"], info["packages"]["torch"] = "0" * 64, "1.0"
    write_json(folder / "run.json", info)
    with pytest.raises(UserError, match=r"(?s)code: code of dpo_lab.*resume\.allow_change=\[versions,code\]"):
        train()
    with pytest.raises(UserError, match=r"(?s)versions: torch: 1.0 then"):
        train("resume.allow_change=[code]")
    assert the_run().info == info
    run = train("resume.allow_change=[versions,code]")
    assert run.status == "finished"
    assert any("torch: 1.0 then" in line for line in run.info["resumed"][0]["changed"])
    assert (run.path / "code.diff").exists() and (run.path / "code-00000004.diff").exists()
    assert "not as before: versions: torch: 1.0 then" in capsys.readouterr().err


def test_a_run_that_is_left_behind_is_named(train: Train, cache: Path, capsys: pytest.CaptureFixture[str]):
    """As after a row of its data was edited: same config, another id."""
    stopped_at(5, boom, train, "trainer.checkpoint_every=2")
    run = the_run()
    write_json(run.path / "run.json", {**run.info, "hashes": {**run.info["hashes"], "data": "0" * 64}})
    run.path.rename(run.path.with_name("0123456789ab"))
    run.path.with_name("damaged").mkdir()
    (run.path.with_name("damaged") / "run.json").write_text("{")
    here = (f"cache_dir={cache}", "runs_dir=runs")
    assert command.train(config(*SEVEN, "trainer.checkpoint_every=2", *here), []) == 0
    said = capsys.readouterr().err
    assert "0123456789ab began with this config and has not finished; its data have changed" in said
    assert "resume.run=0123456789ab resume.allow_change=[data]" in said
    assert command.train(config(*SEVEN, "trainer.max_steps=3", *here), []) == 0
    assert "0123456789ab" not in capsys.readouterr().err


def test_a_finished_run_is_extended_in_a_folder_of_its_own(train: Train, cache: Path):
    """Ten steps, and from there to twelve: bit for bit the run of twelve, under an id that tells where it began. It is
    interrupted itself, and goes on."""
    ten, twelve = "trainer.max_steps=10", "trainer.max_steps=12"
    long, short = train(twelve, runs="twelve"), train(ten)
    with pytest.raises(UserError, match=r"config: trainer.max_steps: 10 then, 12 now"):
        train(twelve, f"resume.run={short.path.name}")
    longer = (twelve, f"resume.run={short.path.name}", "resume.allow_change=[config]")
    assert isinstance(stopped_at(11, send(signal.SIGTERM), train, *longer), Stopped)
    cfg = config(*SEVEN, *longer, f"cache_dir={cache}", "runs_dir=runs")
    assert command.train(cfg, []) == 0
    (extended,) = (path for path in short.path.parent.iterdir() if path.name != short.path.name)
    assert compare(extended, long.path) == []
    info = read_run(extended).info
    assert info["origin"] == {"run": str(short.path.absolute()), "id": short.path.name, "step": 10}
    assert extended.name != long.path.name


def test_a_run_is_named_by_folder_or_id(train: Train, capsys: pytest.CaptureFixture[str]):
    stopped_at(5, boom, train, "trainer.checkpoint_every=2")
    folder = the_run().path
    for unknown in ("nope", "runs", "../runs"):
        with pytest.raises(UserError, match="neither the folder of a run nor the id of one under"):
            train(f"resume.run={unknown}")
    assert train(f"resume.run={folder}").status == "finished"
    train(f"resume.run={folder.name}")
    assert f"already finished: {folder.absolute()}" in capsys.readouterr().out


def test_the_best_checkpoint_stays_and_becomes_the_model(train: Train, capsys: pytest.CaptureFixture[str]):
    knobs = ("optimizer.lr=0.05", "optimizer.warmup_steps=0", "trainer.best_metric=val/rewards/margins")
    run = train(*knobs, "trainer.save=best", "samples.num=0")
    steps, margins = run.curve("val/rewards/margins")
    value, step = min((margin, step) for margin, step in zip(margins, steps, strict=True) if step)
    assert run.info["best"] == {"step": step, "value": value}
    assert kept(run) == sorted({int(step), 7})
    best = load(run.path / "checkpoints" / f"step-{int(step):08d}.ckpt")["state_dict"]
    name = "model.embed_tokens.weight"
    assert weights_of(run)[name].equal(best[f"policy.model.{name}"])
    assert f"best checkpoint: step {step}, {value:g}" in capsys.readouterr().err


def test_the_test_is_scored_once_by_the_weights_that_are_kept(train: Train):
    """Beside it the run is what it is without a test; the exported model gives the log-probs of its predictions."""
    knobs = (
        "optimizer.lr=0.05",
        "optimizer.warmup_steps=0",
        "trainer.save=best",
        "trainer.best_metric=val/rewards/margins",
    )
    plain = train(*knobs, "data.num_test_pairs=0", runs="plain")
    run = train(*knobs, "data.num_test_pairs=6")
    rows = [{name: value for name, value in row.items() if not name.startswith("test/")} for row in run.metrics]
    assert rows == plain.metrics and run.info["best"] == plain.info["best"]
    assert [row["step"] for row in run.metrics if "test/loss" in row] == [7]
    step, last = run.info["best"]["step"], run.metrics[-1]
    assert step < 7 and last["test/step"] == step and last["test/num_pairs"] == run.info["num_test_items"] == 6
    table = pq.read_table(run.path / "predictions.parquet").to_pandas()
    tested = table[table.split == "test"]
    assert (
        len(tested) == 12 and set(tested.step) == {step} and not set(tested.key) & set(table.key[table.split == "val"])
    )
    chosen, rejected = (tested[tested.role == role].reward.to_numpy() for role in ("chosen", "rejected"))
    assert (chosen - rejected).mean() == pytest.approx(last["test/rewards/margins"], abs=1e-6)
    policy = causal_lm(path=str(run.path / "model"))
    encoded = policy.encode(reviews(num_pairs=1, num_test_pairs=6).test)
    with torch.no_grad():
        log_probs = policy.log_prob(policy.collate(encoded)).sum()
    keys = [hex_key(*response_key(one.prompt, response)) for one in encoded for response in one.responses]
    found = tested.set_index("key").policy_log_prob[keys].to_numpy()
    assert found == pytest.approx(log_probs.numpy(), abs=1e-4)
    assert tested.set_index("key").prompt[keys[::2]].tolist() == [hex_key(*response_key(o.prompt, ())) for o in encoded]


def test_a_metric_that_is_never_recorded_is_refused_at_the_start(train: Train):
    with pytest.raises(UserError, match=r"trainer.best_metric=val/los is never recorded; .* val/loss"):
        train("trainer.save=best", "trainer.best_metric=val/los")
    assert the_run().metrics == []


def test_weights_that_are_not_finite_are_neither_saved_nor_exported(train: Train):
    """The gradient of step 1 is finite; the step, some 1e38 long, is not what float32 can add."""
    with pytest.raises(NonFiniteError, match="not finite") as error:
        train("optimizer.lr=1e39", "optimizer.warmup_steps=0", "trainer.checkpoint_every=1")
    assert error.value.exit_code == 6
    assert not list(the_run().path.rglob("*.ckpt")) and not (the_run().path / "model").exists()


def test_rows_behind_a_gradient_that_is_not_finite_are_named(train: Train, monkeypatch: pytest.MonkeyPatch):
    """From step 4 on the policy finds the first row of each batch impossible."""
    original = CausalLM.log_prob
    called: list[PreferenceModule] = []

    def log_prob(self: CausalLM, inputs: Any) -> LogProbs:
        found = original(self, inputs)
        is_spoilt = called and called[0].trainer.global_step >= 3 and called[0].policy is self and self.training
        return found._replace(token=found.token * torch.tensor([float("inf")])) if is_spoilt else found

    monkeypatch.setattr(CausalLM, "log_prob", log_prob)
    monkeypatch.setattr(PreferenceModule, "on_train_start", lambda self: called.append(self))
    with pytest.raises(
        NonFiniteError, match=r"(?s)optimizer step 4 is not finite.*rows that are not finite:\n"
    ) as error:
        train("trainer.checkpoint_every=1")
    places = re.findall(r"\n  (.*) \(key [0-9a-f]{32}\)", str(error.value))
    assert len(places) == 16 and all(re.fullmatch(r"reviews.*\d+", place) for place in places)
    run = the_run()
    assert run.status == "failed" and not (run.path / "model").exists()
    assert kept(run) == [3]
    (last,) = saved_checkpoints(run.path / "checkpoints")
    assert all(tensor.isfinite().all() for tensor in load(last)["state_dict"].values())
