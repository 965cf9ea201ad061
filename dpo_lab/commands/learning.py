"""`dpo-lab explain RUN --learning`: which pairs were learnt first, never, or forgotten."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.assemble.explanations import pairs_of_data, swapped_sources
from dpo_lab.errors import UserError
from dpo_lab.explanation.learning import Histories, auroc, read_histories
from dpo_lab.explanation.page import Table, history_row, learning_page, write_page
from dpo_lab.whole_files import write_whole

if TYPE_CHECKING:
    from dpo_lab.assemble import Experiment
    from dpo_lab.run import Run
    from dpo_lab.types import Example

FILES = {"train": "training_pairs.parquet", "val": "predictions.parquet", "test": "predictions.parquet"}
NUM_SHOWN = 50
NUM_CHARACTERS = 200

Row = dict[str, Any]


def write_learning(
    run: "Run", experiment: "Experiment", split: str | None, out: Path, name: str
) -> tuple[list[str], list[list[Any]]]:
    """Write the page to `out` and all pairs as CSV beside it; its columns and rows, the most suspicious first.

    Args:
        split: train, val or test; None takes train where the run has recorded its training pairs, else val.

    Raises:
        UserError: nothing was recorded.
    """
    if split is None:
        split = "train" if (run.path / FILES["train"]).exists() else "val"
    histories = _read(run.path, split)
    swapped = swapped_sources(run.config | {"plugins": run.config.get("plugins", [])}, experiment.source)
    places = pairs_of_data(experiment, split)
    rows = [_row(pair, places.get(pair.keys), swapped if split == "train" else frozenset()) for pair in histories.pairs]
    columns = list(rows[0])
    whole = [[row[column] for column in columns] for row in rows]
    text = io.StringIO()
    csv.writer(text).writerows([columns, *whole])
    write_whole(out.with_suffix(".csv"), text.getvalue().encode("utf-8", errors="backslashreplace"))
    lines = _lines(histories, split, rows, out) + _noise(histories, rows)
    write_page(out, learning_page(f"Order of learning: {name}", lines, histories, _tables(rows, columns)))
    return columns, whole


def _read(run: Path, split: str) -> Histories:
    if split not in FILES:
        raise UserError(f"splits={split}: must be train, val or test, one of them")
    file = run / FILES[split]
    if split == "train" and not file.exists():
        raise UserError(
            f"{file} is not there: the run has not recorded its training pairs; train with trainer.record_pairs=true"
        )
    return read_histories(file, split)


def _row(pair: Any, example: "Example | None", swapped: frozenset[str]) -> Row:
    """All that is told of one pair; what stands nowhere in the data (it was borrowed, or is gone) has no place."""
    row: Row = {"source": "" if example is None else example.source, **history_row(pair)}
    if swapped:
        row["swapped by data.label_noise"] = row["source"] in swapped
    texts = ("", "", "")
    if example is not None:
        better, worse = example.pairs[0]
        texts = (example.prompt, example.responses[better], example.responses[worse])
    row |= {name: _short(text) for name, text in zip(("prompt", "chosen", "rejected"), texts, strict=True)}
    return row | {"chosen key": pair.keys[0], "rejected key": pair.keys[1]}


def _short(text: Any) -> str:
    words = text if isinstance(text, str) else "\n".join(f"{turn['role']}: {turn['content']}" for turn in text)
    return words if len(words) <= NUM_CHARACTERS else words[:NUM_CHARACTERS] + " ..."


def _lines(histories: Histories, split: str, rows: Sequence[Row], out: Path) -> list[str]:
    times = [row["times scored"] for row in rows]
    often = f"{min(times)} to {max(times)}" if min(times) < max(times) else str(max(times))
    lines = [
        f"{len(rows)} pairs of {split}, each scored {often} times after the first update: "
        + ", ".join(f"{histories.num(outcome)} {outcome}" for outcome in ("learnt", "forgotten", "never right"))
        + f". All of them stand in {out.with_suffix('.csv').name}, beside this page."
    ]
    if max(times) == 1:
        lines.append(
            "Each pair was scored once, so that nothing could be forgotten and no margin could spread: more epochs "
            "(train), or trainer.validate_every (val), tell more."
        )
    if histories.num_left_out:
        lines.append(f"{histories.num_left_out} times a row was no single pair (a list, a single label) and is not in.")
    return lines


def _noise(histories: Histories, rows: Sequence[Row]) -> list[str]:
    """How well the ranking finds the labels that are known to be wrong; nothing where none are known."""
    is_swapped = [bool(row.get("swapped by data.label_noise")) for row in rows]
    found = auroc([-pair.mean for pair in histories.pairs], is_swapped)
    if found is None:
        return []
    return [
        f"data.label_noise has swapped {sum(is_swapped)} of these pairs. A swapped pair has a lower mean margin than "
        f"one that is not with probability {found:.3f} (AUROC of the ranking)."
    ]


def _tables(rows: Sequence[Row], columns: Sequence[str]) -> list[Table]:
    shown = [column for column in columns if not column.endswith(" key")]
    learnt = sorted(
        (row for row in rows if row["outcome"] == "learnt"), key=lambda row: row["right for good from step"]
    )
    forgotten = [row for row in rows if row["times forgotten"]]
    forgotten.sort(key=lambda row: -row["times forgotten"])
    kinds = {
        "Suspicious labels": (rows, "The lowest mean margins: labels that may be wrong, or pairs that are hard."),
        "Forgotten most often": (forgotten, "Wrong after they had been right, most often first."),
        "Learnt first": (learnt, "Right for good from the earliest step on."),
    }
    return [
        Table(title, f"{note} {min(len(kind), NUM_SHOWN)} of {len(kind)}.", shown, _cells(kind, shown))
        for title, (kind, note) in kinds.items()
    ]


def _cells(rows: Sequence[Row], columns: Sequence[str]) -> list[list[Any]]:
    return [[row[column] for column in columns] for row in rows[:NUM_SHOWN]]
