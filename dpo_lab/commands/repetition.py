"""One run made again: begun from its saved config beside what it was made from, watched, and judged."""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
from omegaconf import OmegaConf

from dpo_lab.assemble import Experiment
from dpo_lab.commands.begin import Begun, Now
from dpo_lab.commands.saved_run import config_of_run, heads_of, name_of
from dpo_lab.commands.train import EnoughError, Manner, train
from dpo_lab.data.row_fingerprint import parts_of
from dpo_lab.model.fingerprint import fingerprint_of_each
from dpo_lab.reproduction.differences import (
    MEANING,
    Difference,
    Present,
    find_differences,
    find_later_differences,
    other_packages,
)
from dpo_lab.reproduction.original import Original, read_original
from dpo_lab.reproduction.verdict import Verdict, judge
from dpo_lab.run import RunFolder, run_id
from dpo_lab.run.provenance import device_info, source_fingerprints
from dpo_lab.run.read import read_rows

FOLDER = ".reproductions"
"""Below the folder of runs: reports and lists of runs do not look into it."""

ORDER = list(MEANING)
AS_IT_WAS = "config, data, tokenizer, weights, reference, code, versions, threads, device"


@dataclass(frozen=True)
class Wanted:
    """What is asked for. `steps`: only so many, of the schedule of the whole; None is all."""

    overrides: Sequence[str]
    steps: int | None
    tolerance: float
    runs_dir: Path


@dataclass(frozen=True)
class Outcome:
    """What became of one run, for a table."""

    run: str
    verdict: str
    where: str
    cause: str
    exit_code: int

    @classmethod
    def failed(cls, path: Path, reason: str, exit_code: int) -> "Outcome":
        """Of a run that was not made again."""
        return cls(f"{path.parent.name}/{path.name}", "not made again", reason, "", exit_code)


def repeat_run(path: Path, wanted: Wanted) -> Outcome:
    """Make the run at `path` again, say what is not as it was, print the verdict, and keep it in the new run.json.

    Raises:
        UserError: it cannot be made again, and the message says why.
    """
    original = read_original(path)
    repetition = Repetition(original, wanted)
    config = repetition.config()
    watching = [] if repetition.stop_after is None else [StopAfter(repetition.stop_after)]
    manner = Manner(begin=repetition.begin, watching=watching, ended=repetition.end)
    train(OmegaConf.create(config), list(wanted.overrides), manner=manner)
    return repetition.outcome()


@final
class StopAfter(pl.Callback):
    """Ends training before step `num_steps` + 1, when all that belongs to the steps before is on record."""

    def __init__(self, num_steps: int) -> None:
        self._num_steps = num_steps

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Any, batch_idx: int) -> None:
        if trainer.global_step >= self._num_steps:
            raise EnoughError


@final
class Repetition:
    """What is known of one repetition while it is made."""

    def __init__(self, original: Original, wanted: Wanted) -> None:
        self._original = original
        self._wanted = wanted
        self._differences: list[Difference] = []
        self._verdict: Verdict | None = None
        self._cause: Difference | None = None

    @property
    def last_step(self) -> int:
        """The last one that is compared."""
        return min(self._wanted.steps or self._original.last_step, self._original.last_step)

    @property
    def stop_after(self) -> int | None:
        """None where the whole run is made again."""
        is_short = self._wanted.steps is not None and self._wanted.steps < self._original.last_step
        return self.last_step if is_short or not self._original.is_finished else None

    def config(self) -> dict[str, Any]:
        """The saved one with the overrides, and what it takes to repeat bits and to disturb nothing.

        Raises:
            ConfigError: see `saved_config`.
        """
        original = self._original
        return config_of_run(original.config, original.info, self._wanted.overrides, runs_dir=self._runs_dir())

    def begin(self, now: Now, experiment: Experiment) -> Begun:
        """Say what is not as it was, and take a folder of its own."""
        present = _present(now, experiment)
        self._differences = find_differences(self._original, present)
        self._say_before(present)
        name, identity = now.config["name"], run_id(now.config, now.contents)
        folder = RunFolder.claim(Path(now.config["runs_dir"]).expanduser() / FOLDER, name, identity, fresh=True)
        folder.update(reproduces=self._record())
        return Begun(folder)

    def end(self, folder: RunFolder) -> None:
        """Judge, print, and keep the verdict."""
        original = self._original
        verdict = self._verdict = judge(
            original.path,
            folder.path,
            original.metrics,
            read_rows(folder.path / "metrics.jsonl"),
            last_step=self.last_step,
            is_whole=self.stop_after is None,
            tolerance=self._wanted.tolerance,
        )
        self._differences += find_later_differences(original, folder.info)
        if verdict.kind != "bit-identical":
            nothing = Difference("nondeterminism", MEANING["nondeterminism"])
            asked = self._variation()
            self._cause = min(
                [*self._differences, nothing], key=lambda one: (one.line not in asked, ORDER.index(one.cause))
            )
        folder.update(reproduces=self._record())
        self._print_after(verdict)

    def outcome(self) -> Outcome:
        verdict = self._verdict
        assert verdict is not None
        path = self._original.path
        where = "" if verdict.gap is None else f"{verdict.gap.name} at step {verdict.gap.step}"
        cause = "" if self._cause is None else self._cause.line
        return Outcome(f"{path.parent.name}/{path.name}", verdict.kind, where, cause, verdict.exit_code)

    def _runs_dir(self) -> Path:
        """The folder of runs that the original lies in, where it lies in one that may be written to."""
        path = self._original.path.absolute()
        is_in_place = path.parent.name == self._original.config.get("name") and path.name.startswith(self._original.id)
        found = path.parents[1] if is_in_place and len(path.parents) > 1 else self._wanted.runs_dir
        return found if os.access(found, os.W_OK) else self._wanted.runs_dir

    def _variation(self) -> list[str]:
        """Differences that the overrides ask for."""
        is_asked = tuple(f"{name_of(text)}{end}" for text in self._wanted.overrides for end in (":", "."))
        heads = heads_of(self._wanted.overrides)
        of_contents = {"data": "data", "initial weights": "model", "reference": "reference", "tokenizer": "model"}
        return [
            line
            for cause, line in self._differences
            if line.startswith(is_asked)
            or of_contents.get(cause) in heads
            or (cause == "tokenizer" and "data" in heads)
        ]

    def _record(self) -> dict[str, Any]:
        verdict, gap = self._verdict, None if self._verdict is None else self._verdict.gap
        return {
            "id": self._original.id,
            "path": str(self._original.path.absolute()),
            "steps": self.stop_after,
            "variation": self._variation(),
            "differences": [f"{cause}: {line}" for cause, line in self._differences],
            "verdict": None if verdict is None else verdict.kind,
            "compared": None if verdict is None else verdict.compared,
            "at": None if gap is None else gap._asdict(),
            "cause": None if self._cause is None else self._cause.cause,
        }

    def _say_before(self, present: Present) -> None:
        original = self._original
        how = "finished" if original.is_finished else f"{original.info.get('status')} after step {original.last_step}"
        part = "" if self.stop_after is None else f"; made again up to step {self.stop_after}"
        _say(f"original: {original.path} ({how}){part}")
        variation = self._variation()
        for line in variation:
            _say(f"a variation of it: {line}")
        others = [one for one in self._differences if one.line not in variation]
        for cause, line in others:
            _say(f"not as it was: {cause}: {line}" if not line.startswith(f"{cause}:") else f"not as it was: {line}")
        if not self._differences:
            _say(f"as it was: {AS_IT_WAS}")
        packages = other_packages(original, present)
        if packages:
            _say(f"other packages, not known to move a number: {', '.join(packages)}")

    def _print_after(self, verdict: Verdict) -> None:
        variation = self._variation()
        print(f"{'variation, ' if variation else ''}{verdict.line}")
        if verdict.first is not None and verdict.first != verdict.gap:
            print(f"first difference: {verdict.first}")
        for note in verdict.notes:
            print(note)
        if self._cause is not None:
            print(f"likeliest cause: {MEANING[self._cause.cause]}")
            if self._cause.cause != "nondeterminism":
                same = [one.line for one in self._differences if one.cause == self._cause.cause]
                print("\n".join(f"  {line}" for line in same))
            others = [
                cause
                for cause in ORDER
                if cause != self._cause.cause and cause in {one.cause for one in self._differences}
            ]
            if others:
                print(f"also not as it was: {', '.join(others)}")


def _present(now: Now, experiment: Experiment) -> Present:
    trained = {name: tensor for name, tensor in experiment.policy.named_parameters() if tensor.requires_grad}
    return Present(
        config=now.config,
        contents=now.contents,
        provenance=now.provenance,
        device=device_info(),
        rows=parts_of(experiment.source),
        weights=fingerprint_of_each(trained),
        code=source_fingerprints(),
    )


def _say(line: str) -> None:
    print(line, file=sys.stderr)
