"""The sections of a report about results: cells, comparisons, equal KL, claims."""

import math
from collections.abc import Sequence

import numpy as np

from dpo_lab.report import pictures
from dpo_lab.report.claims import Checked
from dpo_lab.report.compare import INDISTINCT, Comparison, lower_is_better
from dpo_lab.report.content import Section, Table, Value, p_text, with_interval
from dpo_lab.report.equal_kl import KL, EqualKL, compare_families, families
from dpo_lab.report.equal_kl import verdict as equal_kl_verdict
from dpo_lab.report.evaluations import evaluated
from dpo_lab.report.statistics import FEWEST_FOR_BOOTSTRAP, bootstrap_interval, estimate
from dpo_lab.report.study import Study

SHOWN = (
    "val/rewards/accuracies",
    "val/log_ratios/margins",
    "val/log_ratios/chosen",
    "val/log_ratios/rejected",
    KL,
    "samples/true_reward",
)


def main_table(study: Study) -> Table:
    """One row a cell, all digits: factors, seeds, and of every metric mean, interval and spread over seeds."""
    factors = list(dict.fromkeys(key for cell in study.cells for key in cell.factors))
    metrics = list(dict.fromkeys([*_metrics(study), *evaluated(study)]))
    columns: list[str] = [*factors, "seeds"]
    for metric in metrics:
        columns += [metric, f"{metric} low", f"{metric} high", f"{metric} sd"]
    columns += [f"{study.metric} bootstrap low", f"{study.metric} bootstrap high"]
    rows = []
    for cell in study.cells:
        row: list[Value] = [*(cell.factors.get(key) for key in factors), len(cell.runs)]
        for metric in metrics:
            found = estimate(list(cell.last(metric).values()))
            row += [found.mean, found.low, found.high, found.sd]
        row += bootstrap_interval(list(cell.last(study.metric).values())) or (None, None)
        rows.append(row)
    return Table("table", "cells", tuple(columns), rows)


def cells_section(study: Study) -> Section:
    metrics = _metrics(study)
    rows: list[list[Value]] = []
    for cell in study.cells:
        row: list[Value] = [cell.label + (" (baseline)" if cell is study.baseline else ""), len(cell.runs)]
        row += [with_interval(*estimate(list(cell.last(metric).values()))[:3]) for metric in metrics]
        if _has_bootstrap(study):
            low, high = bootstrap_interval(list(cell.last(study.metric).values())) or (math.nan, math.nan)
            row.append("" if math.isnan(low) else f"[{low:.3g}, {high:.3g}]")
        rows.append(row)
    bootstrap = [f"{pictures.title_of(study.metric)}, bootstrap"] * _has_bootstrap(study)
    columns = ("cell", "seeds", *map(pictures.title_of, metrics), *bootstrap)
    note = (
        "Mean over seeds at the last step, and its 95 % interval (Student's t). "
        f"From {FEWEST_FOR_BOOTSTRAP} seeds on a bootstrap over seeds (BCa) stands beside it. One seed has none. "
        "Rewards and margins in reward units hold beta inside; nats do not."
    )
    return Section("cells", "Cells", [], [Table("cells", "cells", columns, rows, note)], [])


def comparison_section(study: Study, comparisons: Sequence[Comparison]) -> Section:
    how = (
        "declared" if study.is_baseline_declared else "chosen because none was declared: baseline='KEY=VALUE ...' does"
    )
    tested = sum(math.isfinite(one.adjusted_p) for one in comparisons)
    paragraphs = [
        f"The baseline is {study.baseline.label} ({how}). The metric is {study.metric}, "
        f"{'lower' if lower_is_better(study.metric) else 'higher'} is better.",
        "Two tests, two questions. Over seeds: would another seed say the same? Student's paired t over the seeds that "
        f"both have, with Holm's correction over the {tested} comparisons that could be tested. Over pairs: would "
        "other prompts say the same of these very runs? Each validation pair averaged over the shared seeds; pairs of "
        "one prompt may err together and count as one cluster (t with one degree of freedom fewer than prompts); "
        "exploratory: not corrected, and it says nothing about other seeds. Better and worse go by the first alone.",
        f'"{INDISTINCT}" does not say that cells are equal: it says that these seeds cannot tell. "Detectable" is the '
        "smallest true difference that so many seeds find in four of five repetitions, at the first threshold of Holm; "
        '"seeds needed" is for the difference that was seen, were it true.',
    ]
    if _has_own_unit(study):
        paragraphs.append(
            f"{study.metric} is in the loss's own unit, with beta inside: it does not compare losses or betas; "
            "metric=val/rewards/accuracies and metric=val/log_ratios/margins do."
        )
    if comparisons:
        paragraphs.insert(0, _in_words(study, comparisons))
    rows = [_comparison_row(one) for one in comparisons]
    columns = (
        "cell",
        "verdict",
        "difference over seeds",
        "shared seeds",
        "p",
        "p, Holm",
        "detectable",
        "seeds needed",
        "difference over pairs",
        "p over pairs",
        "pairs",
        "prompts",
    )
    unshared = max((one.num_unshared_pairs for one in comparisons), default=0)
    note = (
        f"Up to {unshared} validation pairs are not in all runs of a comparison and are left out." if unshared else ""
    )
    title = "every cell less the baseline (the primary family of tests)"
    tables = [Table("comparisons", title, columns, rows, note)] if rows else []
    if not rows:
        paragraphs = ["There is one cell alone: nothing to compare."]
    return Section("comparisons", "Against the baseline", paragraphs, tables, pictures.differences(study, comparisons))


def equal_kl_section(study: Study) -> Section:
    metrics = [study.metric]
    rewards = [run.last("samples/true_reward") for cell in study.cells for run in cell.runs.values()]
    if np.isfinite(rewards).any() and np.ptp(np.asarray(rewards)[np.isfinite(rewards)]) > 0:
        metrics.append("samples/true_reward")
    charts = pictures.over_kl(study, metrics)
    if not charts:
        return Section("equal-kl", "At equal KL", ["No run has a KL: samples.num=N draws the samples that it needs."])
    paragraphs = [
        "A beta of one loss is not a beta of another; a nat of KL is. The runs of one seed that differ in beta alone "
        "are joined in the order of their KL, and two such lines are compared by their mean heights over the "
        "KLs that both reach: one number a seed, tested over seeds with Holm's correction. Nothing is extrapolated.",
        "KL is a mean over the samples drawn at the end of a run and has an error of its own (samples/kl_ci95).",
        "Secondary to the comparison with the baseline, and a family of tests of its own: where nothing differs, 5 of "
        "100 such tables hold a false word.",
    ]
    rows = [_equal_kl_row(one) for one in compare_families(study.cells, study.baseline, metrics)]
    if not rows and len(families(study.cells)) > 1:
        paragraphs.append("No two families could be compared.")
    columns = (
        "family",
        "metric",
        "verdict",
        "mean difference at equal KL",
        "seeds",
        "p, Holm",
        "KLs of all seeds",
        "at the middle",
        "baseline there",
        "not compared",
    )
    title = f"every family less {study.baseline.family} at equal KL (secondary)"
    return Section(
        "equal-kl", "At equal KL", paragraphs, [Table("equal-kl", title, columns, rows)] * bool(rows), charts
    )


def _comparison_row(one: Comparison) -> list[Value]:
    return [
        one.cell.label,
        one.verdict,
        with_interval(*one.seeds[:3]),
        one.seeds.count,
        p_text(one.seeds.p),
        p_text(one.adjusted_p),
        one.detectable,
        ("> 1000" if math.isfinite(one.adjusted_p) else "") if one.needed is None else one.needed,
        with_interval(*one.pairs[:3]) if one.pairs else "",
        p_text(one.pairs.p) if one.pairs else "",
        one.pairs.count if one.pairs else None,
        one.pairs.num_clusters if one.pairs else None,
    ]


def _equal_kl_row(one: EqualKL) -> list[Value]:
    return [
        one.family,
        one.metric,
        equal_kl_verdict(one),
        with_interval(*one.test[:3]),
        one.test.count,
        p_text(one.adjusted_p),
        "none" if one.overlap is None else f"{one.overlap[0]:.3g} to {one.overlap[1]:.3g}",
        *one.at_middle,
        "; ".join(f"seed {seed}: {why}" for seed, why in one.apart.items()),
    ]


def claims_section(checked: Sequence[Checked]) -> Section:
    paragraphs = [
        f'Declared before the sweep. "Holds" and "refuted" are two-sided at 5 % with Holm\'s correction over the '
        f'{len(checked)} claims; "{INDISTINCT}" is everything between. The difference is better less worse (less '
        "by), turned so that positive is in favour of the claim.",
        "Secondary to the comparison with the baseline, and a family of tests of its own: where nothing differs, 5 of "
        "100 such tables hold a false word.",
    ]
    rows: list[list[Value]] = [
        [
            one.claim.name,
            one.verdict,
            with_interval(*one.test[:3]),
            one.test.count,
            p_text(one.adjusted_p),
            one.detectable,
            f"{one.claim.metric}: {one.claim.better} over {one.claim.worse}, at {one.claim.at}"
            + (f", by {one.claim.by:g}" if one.claim.by else ""),
            one.note,
        ]
        for one in checked
    ]
    columns = ("claim", "verdict", "difference", "seeds", "p, Holm", "detectable", "as declared", "compared at")
    return Section("claims", "Claims", paragraphs, [Table("claims", "claims", columns, rows)])


def _in_words(study: Study, comparisons: Sequence[Comparison]) -> str:
    """``Of 8 cells against the baseline 1 is better (loss=ipo), 7 are ...``, and whose family of tests that is."""
    words: dict[str, list[str]] = {}
    for one in comparisons:
        words.setdefault(one.verdict.partition(":")[0], []).append(one.cell.label)
    parts = [
        f"{len(words[verdict])} {'is' if len(words[verdict]) == 1 else 'are'} {verdict}"
        + (f" ({', '.join(words[verdict])})" if verdict in ("better", "worse") else "")
        for verdict in sorted(words, key=("better", "worse", INDISTINCT, "not tested").index)
    ]
    return (
        f"Of {len(comparisons)} cells against the baseline {', '.join(parts)}. This is the primary family of tests "
        f"({study.metric} over seeds): where nothing differs, 5 of 100 reports call some cell better or worse here. "
        "Claims, and what is said at equal KL, are secondary, each a family of its own."
    )


def _has_own_unit(study: Study) -> bool:
    """Whether the metric means another thing in another of the cells."""
    stem = study.metric.partition("/")[2]
    is_scaled = stem.startswith(("loss", "rewards/")) and stem != "rewards/accuracies"
    return is_scaled and len({(cell.loss, cell.beta) for cell in study.cells}) > 1


def _metrics(study: Study) -> list[str]:
    names = {name for cell in study.cells for run in cell.runs.values() for name in run.curves}
    return [metric for metric in dict.fromkeys((study.metric, *SHOWN)) if metric in names]


def _has_bootstrap(study: Study) -> bool:
    return any(len(cell.runs) >= FEWEST_FOR_BOOTSTRAP for cell in study.cells)
