"""Declared steps between the rows of files and the rows of a run, each with what it did to how many rows."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, final

from dpo_lab.data.errors import DataError
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import Split
from dpo_lab.types import Example

Responses = Literal["texts", "classes", "spans"]
"""What responses of a data set are: free text, names of classes, or pieces of their passage."""


@final
@dataclass
class Work:
    """What one step is told, and where it says what it did.

    After every step `num_kept` is `num_read` - `num_dropped` + `num_made`, and `num_changed` of the rows kept are not
    as they were. `details` are numbers of rows by what was done to them, in the words that people read. `held_out` are
    the rows that are validated or tested on, where these are known.
    """

    name: str
    responses: Responses
    report: DataReport
    held_out: Sequence[Example] = ()
    num_read: int = 0
    num_changed: int = 0
    num_dropped: int = 0
    num_made: int = 0
    num_kept: int = 0
    details: Counter[str] = field(default_factory=Counter)

    def drop(self, reason: str, source: str) -> None:
        """Count a row that is left out; `reason` is one of `dpo_lab.data.reasons.REASONS`."""
        self.num_dropped += 1
        self.report.count(reason, source=source)

    def finish(self, num_kept: int) -> None:
        """
        Raises:
            ValueError: the step gave other rows than it counted.
        """
        if num_kept != self.num_read - self.num_dropped + self.num_made:
            raise ValueError(
                f"{self.name} was given {self.num_read} rows and gave {num_kept}, but counted {self.num_dropped} "
                f"dropped and {self.num_made} made"
            )
        self.num_kept = num_kept
        sizes = {name: getattr(self, f"num_{name}") for name in ("read", "changed", "dropped", "made", "kept")}
        self.report.prepared.append({"step": self.name, **sizes, "details": dict(self.details)})


@final
@dataclass(frozen=True)
class BeforeSplit:
    """A step on every row, before any is held out of training.

    `apply` gets the rows of the files that are trained, validated and tested on. `refuses` says of kinds of responses
    why the step is not for them.
    """

    apply: Callable[[Split, Work], Split]
    refuses: Mapping[Responses, str] = field(default_factory=dict)


@final
@dataclass(frozen=True)
class OfTraining:
    """A step on the training rows alone, once the others are held out: what it makes can stand on no other side."""

    apply: Callable[[Sequence[Example], Work], list[Example]]
    refuses: Mapping[Responses, str] = field(default_factory=dict)


Step = BeforeSplit | OfTraining


@final
@dataclass(frozen=True)
class Preparation:
    """The steps of a run by name, in their order. Those before the split come before those of training rows."""

    steps: Mapping[str, Step] = field(default_factory=dict)

    def check(self, responses: Responses) -> None:
        """
        Raises:
            DataError: a step is not for responses of this kind.
        """
        for name, step in self.steps.items():
            if responses in step.refuses:
                raise DataError(f"prepare.{name}: {step.refuses[responses]}. Leave it out: ~prepare.{name}")

    def before_split(self, sides: Sequence[list[Example]], responses: Responses, report: DataReport) -> Split:
        """The rows of the files that are trained, validated and tested on, in this order, prepared and counted.

        Raises:
            DataError: a step has left no row of a file.
        """
        split = Split(*sides)
        for name, step in self.steps.items():
            if isinstance(step, BeforeSplit):
                work = Work(name, responses, report, num_read=sum(map(len, split)))
                prepared = step.apply(split, work)
                work.finish(sum(map(len, prepared)))
                for key, was, now in zip(("path", "validation_path", "test_path"), split, prepared, strict=True):
                    _check_left(name, f"data.{key}", was, now)
                split = prepared
        return split

    def of_training(self, split: Split, responses: Responses, report: DataReport) -> list[Example]:
        """The training rows of `split`, prepared and counted; `report.num_train` is then their number.

        Raises:
            DataError: a step has left no row, or cannot act on one.
        """
        rows = split.train
        held_out = (*split.validation, *split.test)
        for name, step in self.steps.items():
            if isinstance(step, OfTraining):
                work = Work(name, responses, report, held_out, num_read=len(rows))
                prepared = step.apply(rows, work)
                work.finish(len(prepared))
                _check_left(name, "training", rows, prepared)
                rows = prepared
        report.num_train = len(rows)
        return rows


UNPREPARED = Preparation()


def _check_left(name: str, side: str, was: Sequence[Any], now: Sequence[Any]) -> None:
    if was and not now:
        raise DataError(
            f"prepare.{name} has left none of the {len(was)} rows of {side}. Change its knobs, or leave it out."
        )
