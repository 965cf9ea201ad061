"""The section of a report about the best cell: what its figure is worth, and which figure to report."""

from collections.abc import Sequence

from dpo_lab.report.cells import Cell
from dpo_lab.report.content import Section, Table, Value, with_interval
from dpo_lab.report.selection import TESTED, Selection, select
from dpo_lab.report.study import Study


def winner_section(study: Study) -> Section:
    """The best cell, and how much of its figure is luck."""
    chosen = select(study.cells, study.metric, study.pairs_of, study.baseline)
    if chosen is None:
        return Section("winner", "The best cell", [f"No run has {study.metric} above step 0."])
    steps = sorted(set(chosen.steps))
    at = f"step {steps[0]}" if len(steps) == 1 else f"the weights that each run keeps (steps {_list(steps)})"
    among = f"{len(study.cells)} cells" + ("" if chosen.on_test else " and their checkpoints")
    value, last = with_interval(*chosen.on_validation[:3]), with_interval(*chosen.at_last_step[:3])
    paragraphs = [
        f"Chosen on validation among {among}: {chosen.cell.label} at {at}, {chosen.metric} {value}; at its last step "
        f"{last}."
    ]
    if chosen.on_test is not None:
        paragraphs += _test_paragraphs(chosen, study.baseline)
    else:
        paragraphs.append(_without_test(study))
    rows: list[list[Value]] = [
        [f"best of all, on what chose it ({chosen.metric})", "seeds and pairs", chosen.on_validation.mean],
        ["chosen on the other seeds, measured on the one left out", "pairs", chosen.left_out_seed],
        ["chosen on half of the prompts, measured on the other half", "seeds", chosen.half_of_pairs],
        ["the same cell on the test split", "seeds", chosen.on_test.mean if chosen.on_test else None],
        ["chosen on the other seeds, measured on the test of the one left out", "none", chosen.left_out_seed_on_test],
    ]
    rows = [row for row in rows if row[2] is not None]
    note = (
        "Luck with seeds: other seeds of training. Luck with pairs: other pairs to measure on. The halves of prompts "
        "are those of the last step."
    )
    columns = ("figure", "luck that is left in it", chosen.metric.partition("/")[2])
    tables = [Table("winner", "what choosing adds", columns, rows, note)] if len(rows) > 1 else []
    return Section("winner", "The best cell", paragraphs, tables)


def _test_paragraphs(chosen: Selection, baseline: Cell) -> list[str]:
    assert chosen.on_test is not None
    figure = f"On the untouched test split it has {with_interval(*chosen.on_test[:3])}: report this figure."
    if chosen.baseline_on_test is not None:
        figure += f" The baseline, {baseline.label}, has {with_interval(*chosen.baseline_on_test[:3])} there."
    curse = (
        "It was chosen for being the best on validation, so part of what made it so is luck (the winner's curse). "
        "The test split takes away the luck with pairs; the luck with seeds stays, since these seeds chose it."
    )
    return [figure, curse] if chosen.baseline_on_test is not None or chosen.left_out_seed is not None else [figure]


def _list(steps: Sequence[int]) -> str:
    shown = ", ".join(map(str, steps[:6]))
    return shown if len(steps) <= 6 else f"{shown}, ..."


def _without_test(study: Study) -> str:
    runs = [run for cell in study.cells for run in cell.runs.values()]
    if any(TESTED in run.curves for run in runs):
        lack = "Not every run has a test of the weights that it validated and kept, so no test figure is given"
    else:
        lack = "These runs have no test split (data.test_fraction, data.num_test_pairs): nothing was kept apart"
    if len(study.cells) > 1:
        return (
            f"{lack}, and the winner's figure is optimistic: it was chosen for being the best, so part of what made it "
            "so is luck with seeds and pairs (the winner's curse)."
        )
    return f"{lack}. If checkpoints were compared, the best one's figure is optimistic."
