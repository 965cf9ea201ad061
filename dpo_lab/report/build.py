"""A report of a study: its sections in their order, and what is said first."""

from collections.abc import Sequence

from dpo_lab.report import more_sections, sections
from dpo_lab.report.claims import Checked
from dpo_lab.report.compare import compare_to_baseline
from dpo_lab.report.content import Report
from dpo_lab.report.evaluations import evaluation_section
from dpo_lab.report.seed_streams import seed_streams_section
from dpo_lab.report.study import Study
from dpo_lab.report.winner import winner_section


def build_report(study: Study, title: str, checked: Sequence[Checked] = ()) -> Report:
    """All sections of `study`, claims first where there are any."""
    comparisons = compare_to_baseline(study.cells, study.baseline, study.metric, study.pairs_of)
    comparison = sections.comparison_section(study, comparisons)
    winner = winner_section(study)
    parts = [
        *([sections.claims_section(checked)] if checked else []),
        sections.cells_section(study),
        comparison,
        winner,
        evaluation_section(study),
        more_sections.beta_section(study),
        sections.equal_kl_section(study),
        more_sections.curves_section(study),
        more_sections.displacement_section(study),
        more_sections.length_section(study),
        seed_streams_section(study),
        more_sections.cost_section(study),
        more_sections.environment_section(study),
        more_sections.runs_section(study),
    ]
    num_used = sum(len(cell.runs) for cell in study.cells)
    summary = [
        f"{num_used} runs in {len(study.cells)} cells, {len(study.seeds)} seeds; {len(study.unused)} runs left out."
    ]
    summary += [f"Claim {one.claim.name}: {one.verdict}." for one in checked]
    summary += [*comparison.paragraphs[:1], *winner.paragraphs[:2]]
    return Report(title, summary, parts, sections.main_table(study))
