"""Rows for tests of steps, and what a step makes of them."""

from collections.abc import Sequence
from typing import Any

from dpo_lab.data.preparation import BeforeSplit, OfTraining, Preparation, Responses
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import Split
from dpo_lab.types import Example


def pair(prompt: Any, chosen: Any = "good", rejected: Any = "bad", source: str = "row") -> Example:
    return Example(prompt, (chosen, rejected), ((0, 1),), source=source)


def on_every_row(
    step: BeforeSplit, rows: Sequence[Example], responses: Responses = "texts"
) -> tuple[list[Any], dict[str, Any]]:
    """What is left of training rows, and what was counted."""
    report = DataReport()
    split = Preparation({"step": step}).before_split([list(rows), [], []], responses, report)
    return split.train, report.prepared[0] | {"reasons": report.counts}


def on_training(
    step: OfTraining, rows: Sequence[Example], validation: Sequence[Example] = (), responses: Responses = "texts"
) -> tuple[list[Any], dict[str, Any]]:
    report = DataReport()
    split = Split(list(rows), list(validation), [])
    prepared = Preparation({"step": step}).of_training(split, responses, report)
    return prepared, report.prepared[0] | {"reasons": report.counts}
