"""The sections of a report beside results: curves, what moved, lengths, cost, environment, runs that are not in it."""

from collections.abc import Sequence

import numpy as np

from dpo_lab.report import pictures
from dpo_lab.report.behaviour import displacement, trivial_accuracies
from dpo_lab.report.content import Section, Table, Value
from dpo_lab.report.environment import cost, differences
from dpo_lab.report.equal_kl import families
from dpo_lab.report.pairs import match
from dpo_lab.report.priority import left_out
from dpo_lab.report.study import Study

MOST_ROWS = 200


def beta_section(study: Study) -> Section:
    charts = pictures.over_beta(study)
    if not charts:
        return Section("beta", "Over beta", ["No loss was run at two betas."])
    text = "Means over seeds at the last step, with 95 % intervals. Margins are in nats, which no beta scales."
    return Section("beta", "Over beta", [text], [], charts)


def curves_section(study: Study) -> Section:
    charts = pictures.learning_curves(study)
    if not charts:
        text = "There is one validation a run: trainer.validate_every=N gives curves."
        return Section("curves", "Learning curves", [text])
    paragraphs = ["Mean over seeds, with a 95 % band, at the steps that all runs of a cell validated."]
    untold = left_out(len(families(study.cells)), pictures.MOST_FAMILIES, "families")
    if untold:
        return Section("curves", "Learning curves", [*paragraphs, untold], [], charts, [pictures.all_curves(study)])
    return Section("curves", "Learning curves", paragraphs, [], charts)


def displacement_section(study: Study) -> Section:
    rows: list[list[Value]] = []
    for cell in study.cells:
        found = [each for pairs in study.pairs_in(cell) if (each := displacement(pairs)) is not None]
        if found:
            means = np.mean(found, axis=0).tolist()
            rows.append([cell.label, means[4] + means[5], means[4], means[5], *means[:4]])
    if not rows:
        return Section("displacement", "What moved", ["No run has predictions with a reference."])
    columns = (
        "cell",
        "margin, nats",
        "from chosen going up",
        "from rejected going down",
        "chosen up, rejected down",
        "both up",
        "both down",
        "not grown",
    )
    text = (
        "A margin grows because the chosen response became likelier, because the rejected one became less likely, or "
        "although both went the same way. A negative number under 'from chosen going up' says that the chosen "
        "responses themselves became less likely (likelihood displacement). The last four columns are shares of "
        "validation pairs."
    )
    table = Table("displacement", "where the margin comes from", columns, rows)
    return Section("displacement", "What moved", [text], [table], pictures.displacements(study))


def length_section(study: Study) -> Section:
    known = {cell.label: pairs for cell in study.cells if (pairs := study.pairs_in(cell))}
    if not known:
        return Section("lengths", "Length and trivial rules", ["No run has validation pairs in predictions.parquet."])
    matched, num_unshared = match([one for pairs in known.values() for one in pairs])
    first, shared = matched[0], iter(matched)
    if not first.key:
        text = "The runs have no validation pair in common: their accuracies are not those of one set of pairs."
        return Section("lengths", "Length and trivial rules", [text], [], pictures.lengths(study))
    rows: list[list[Value]] = [[name, value] for name, value in trivial_accuracies(first).items()]
    rows += [[label, float(np.mean([next(shared).correct.mean() for _ in pairs]))] for label, pairs in known.items()]
    paragraphs = [
        "An accuracy says something where it is above rules that need no training, and where it does not follow length."
    ]
    if num_unshared:
        paragraphs.append(f"On the {len(first.key)} pairs that all runs share; {num_unshared} others are left out.")
    if first.num_left_out:
        paragraphs.append(
            f"{first.num_left_out} groups of an evaluation are no single pair (lists, single judgements); not here."
        )
    table = Table("rules", "accuracy on the validation pairs", ("rule or cell", "accuracy"), rows)
    return Section("lengths", "Length and trivial rules", paragraphs, [table], pictures.lengths(study))


def cost_section(study: Study) -> Section:
    names = list(cost(study.records[0]))
    rows: list[list[Value]] = []
    for cell in study.cells:
        table = np.asarray([list(cost(run).values()) for run in cell.runs.values()], dtype=np.float64)
        rows.append([cell.label, len(cell.runs), *(_mean(column) for column in table.T)])
    known = [place for place in range(len(names)) if any(row[2 + place] is not None for row in rows)]
    columns = ("cell", "runs", *(names[place] for place in known))
    rows = [[*row[:2], *(row[2 + place] for place in known)] for row in rows]
    used = [cost(run)["seconds"] for cell in study.cells for run in cell.runs.values()]
    others = np.asarray([cost(run)["seconds"] for run in study.not_in_figures], dtype=np.float64)
    paragraphs = [f"Means over runs. Training of the {len(used)} runs in the figures took {np.nansum(used):.0f} s."]
    if len(others):
        unknown = int(np.isnan(others).sum())
        paragraphs.append(
            f"The {len(others)} others (failed, killed, further attempts; in no row below) took "
            f"{np.nansum(others):.0f} s more"
            + (f", {unknown} of them without a record of their time." if unknown else ".")
        )
    paragraphs.append("Seconds are of wall time.")
    return Section("cost", "Cost", [" ".join(paragraphs)], [Table("cost", "cost of a run", columns, rows)])


def environment_section(study: Study) -> Section:
    unused = study.not_in_figures
    found = differences(study.cells, unused)
    unread = sum(not record.info for record in unused)
    silent = f" Of {unread} runs nothing is known: their run.json cannot be read." if unread else ""
    if not found:
        also = ", those that are in no figure included" if len(unused) > unread else ""
        text = f"All runs{also} have the same Python, packages, device, threads, machine and code."
        return Section("environment", "Environment", [text + silent])
    rows: list[list[Value]] = [
        [one.name, value, one.counts.get(value, 0), one.counts_of_unused.get(value, 0), _yes(one.is_confounded)]
        for one in found
        for value in dict.fromkeys([*one.counts, *one.counts_of_unused])
    ]
    confounded = [one.name for one in found if one.is_confounded]
    paragraphs = [f"Runs differ in: {', '.join(one.name for one in found)}.{silent}"]
    if alone := [one.name for one in found if len(one.counts) == 1]:
        paragraphs.append(
            f"In {', '.join(alone)} only runs that failed, or are in no figure for another reason, differ."
        )
    if confounded:
        paragraphs.append(
            f"Among runs of the same seed, {', '.join(confounded)} differ: a difference of results may come from that."
        )
    columns = ("what", "value", "runs in figures", "other runs", "differs within a seed")
    return Section("environment", "Environment", paragraphs, [Table("environment", "what differs", columns, rows)])


def runs_section(study: Study) -> Section:
    """Which runs are in the figures, which are not and why."""
    unused = study.unused
    paragraphs = [f"{len(study.records)} run folders, {len(unused)} of them not in any figure."]
    tables = []
    if unused:
        rows: list[list[Value]] = [[record.name, reason] for record, reason in unused]
        tables.append(Table("not-used", "not in any figure", ("run", "why"), rows[:MOST_ROWS], _more(len(rows))))
    repeats: list[list[Value]] = [[cell.label, run.name] for cell in study.cells for run in cell.repeats]
    if repeats:
        note = "The first finished attempt of a seed counts, whatever it came to."
        tables.append(Table("repeats", "further attempts at a seed, not counted", ("cell", "run"), repeats, note))
    holes: list[list[Value]] = [
        [cell.label, ", ".join(missing)]
        for cell in study.cells
        if (missing := [seed for seed in study.seeds if seed not in cell.runs])
    ]
    if holes:
        tables.append(Table("holes", "seeds that other cells have", ("cell", "missing seeds"), holes))
    if still := [cell.label for cell in study.cells if _is_still(list(cell.last(study.metric).values()))]:
        paragraphs.append(
            f"Seeds made no difference in: {', '.join(still)}. "
            "A spread of zero is no certainty; check what the seed moves."
        )
    steps = {run.last_step for cell in study.cells for run in cell.runs.values()}
    if len(steps) > 1:
        paragraphs.append(f"Runs end at different steps: {', '.join(map(str, sorted(step or 0 for step in steps)))}.")
    if apart := _disagreeing(study):
        paragraphs.append(
            f"In {len(apart)} runs the accuracy of the predictions is not the one that was logged, first {apart[0]}: "
            "their predictions are of other weights, or of a loss whose reward is not one number a response."
        )
    if study.pair_faults:
        faults: list[list[Value]] = [[name, fault] for name, fault in study.pair_faults.items()]
        tables.append(Table("pair-faults", "predictions that cannot be read", ("run", "why"), faults))
    used: list[list[Value]] = [[cell.label, seed, run.name] for cell in study.cells for seed, run in cell.runs.items()]
    tables.append(Table("runs", "runs of each cell", ("cell", "seed", "run"), used[:MOST_ROWS], _more(len(used))))
    return Section("runs", "Runs", paragraphs, tables)


def _disagreeing(study: Study) -> list[str]:
    """Runs whose last logged validation accuracy is not that of their predictions, all pairs read."""
    names = []
    for run in (run for cell in study.cells for run in cell.runs.values()):
        logged, pairs = run.last("val/rewards/accuracies"), study.pairs_of.get(run.name)
        if pairs is not None and pairs.num_left_out == 0 and abs(logged - float(pairs.correct.mean())) > 1e-6:
            names.append(run.name)
    return names


def _is_still(values: Sequence[float]) -> bool:
    return len(values) > 1 and len(set(values)) == 1


def _yes(is_so: bool) -> str:
    return "yes" if is_so else "no"


def _mean(column: np.ndarray) -> float | None:
    known = column[np.isfinite(column)]
    return float(known.mean()) if len(known) else None


def _more(count: int) -> str:
    return "" if count <= MOST_ROWS else f"The first {MOST_ROWS} of {count}."
