"""What charts draw where they cannot draw all: the baseline, every loss where it is best, then the rest; and say so."""

import csv
import io
from itertools import product
from pathlib import Path

import pytest

from dpo_lab.report import pictures, write
from dpo_lab.report.charts import MOST_LINES, draw_differences, fit_labels
from dpo_lab.report.compare import compare_to_baseline
from dpo_lab.report.content import Chart, Report, Section
from dpo_lab.report.more_sections import curves_section
from dpo_lab.report.priority import by_priority
from dpo_lab.report.sections import main_table
from dpo_lab.report.study import Study, read_study
from dpo_lab.report.write import page, write_report
from tests.report.folders import rows, write_run

RATES = (3e-4, 1e-3, 3e-3)
HEIGHTS = {"sigmoid": 0.60, "exo": 0.55, "hinge": 0.70, "ipo": 0.65, "robust": 0.50}


@pytest.fixture
def study(workplace: Path) -> Study:
    """Five losses at three learning rates and two betas. hinge is best at 0.001, every other loss at 0.003, by 0.01."""
    for (loss, height), rate, beta, seed in product(HEIGHTS.items(), RATES, (0.1, 0.5), (0, 1)):
        gain = 0.01 * (rate == (1e-3 if loss == "hinge" else 3e-3)) + rate + seed * height / 1000
        pairs = {"chosen": [1.0, 1.0], "rejected": [0.0, 2.0], "chosen_length": [9, 7]}
        write_run(
            workplace / "runs",
            loss=loss,
            beta=beta,
            seed=seed,
            metrics=rows(height + gain, kl=beta + 10 * rate, **{"val/log_ratios/margins": beta + seed}),
            config={"optimizer": {"_target_": "dpo_lab.optimizer.adamw.adamw", "lr": rate}},
            pairs=pairs,
            id=f"{loss}-{rate}-{beta}-{seed}",
        )
    return read_study([workplace / "runs"], baseline="loss=sigmoid loss.beta=0.1 optimizer.lr=0.0003")


def test_labels_of_a_learning_rate_grid_tell_cells_apart():
    """The middle of these is what differs: cut out, four cells had two names."""
    labels = [
        f"loss=simpo loss.beta={beta} loss.gamma={gamma} optimizer.lr=0.0003" for beta in (1, 2.5) for gamma in (0.5, 1)
    ]
    bars = draw_differences(labels, [(0.0, -1.0, 1.0)] * 4, [False] * 4, "x")
    names = [label.get_text() for label in bars.axes[0].get_yticklabels()]
    assert names[0] == "simpo beta=1 gamma=0.5 lr=0.0003" and len(set(names)) == 4
    alike = ["model.one_group.seed=1", "start.other_group.seed=1"]
    assert fit_labels(alike, 23) == [alike[0], "start.other…roup.seed=1"]
    assert [len(label) for label in fit_labels(["a" * 60], 30)] == [30]


def _drawn(chart: Chart) -> list[str]:
    return [text.get_text() for legend in chart.figure.legends for text in legend.get_texts()]


def test_baseline_then_every_loss_at_its_best_then_the_rest(study: Study):
    """Heights: hinge 0.711, ipo 0.663, sigmoid 0.613, exo 0.563, robust 0.513; of the rest hinge at 0.003 is best."""
    assert list(by_priority(study))[:7] == [
        f"loss={loss} optimizer.lr={rate}"
        for loss, rate in (
            ("sigmoid", 0.0003),
            ("hinge", 0.001),
            ("ipo", 0.003),
            ("sigmoid", 0.003),
            ("exo", 0.003),
            ("robust", 0.003),
            ("hinge", 0.003),
        )
    ]
    assert len(by_priority(study)) == 15


def test_charts_leave_out_no_loss_and_say_what_they_leave_out(study: Study):
    charts = [*pictures.over_beta(study), *pictures.over_kl(study, [study.metric]), *pictures.lengths(study)]
    assert len(charts) == 5
    for chart in charts:
        drawn = _drawn(chart)
        losses = [loss for line in drawn if (loss := line.split()[0].removeprefix("loss=")) in HEIGHTS]
        assert losses[0] == "sigmoid" and drawn[0].endswith("lr=0.0003") and set(losses) == set(HEIGHTS)
        num_drawn = len(losses)
        assert num_drawn == MOST_LINES - 2 * (chart.name == "lengths")
        assert f"Drawn are {num_drawn} of 15" in chart.caption and "the baseline's, then each loss" in chart.caption
        names = {name for row in chart.data.rows for name in [str(row[0])] if "lr=" in name}
        assert len({name.replace(" loss.beta=0.1", "").replace(" loss.beta=0.5", "") for name in names}) == 15


def test_bars_are_of_the_first_families_where_there_are_many(study: Study, monkeypatch: pytest.MonkeyPatch):
    """Those of sigmoid itself differ from the baseline by the same with each seed and have no interval: 24 are left."""
    comparisons = compare_to_baseline(study.cells, study.baseline, study.metric)
    (bars,) = pictures.differences(study, comparisons)
    assert len(bars.data.rows) == 24 and "Drawn are" not in bars.caption
    monkeypatch.setattr(pictures, "MOST_BARS", 8)
    (bars,) = pictures.differences(study, comparisons)
    assert "Drawn are 8 of 24 cells" in bars.caption and len(bars.data.rows) == 24
    drawn = [label.get_text() for label in bars.figure.axes[0].get_yticklabels()]
    assert [label.split()[0] for label in drawn] == [
        loss for loss in ("hinge", "ipo", "exo", "robust") for _ in (0.1, 0.5)
    ]


def test_curves_of_all_families_can_be_had(study: Study, monkeypatch: pytest.MonkeyPatch):
    section = curves_section(study)
    assert len(section.charts) == 6 and section.charts[0].title.startswith("loss=sigmoid optimizer.lr=0.0003")
    assert {chart.title.split()[0] for chart in section.charts} == {f"loss={loss}" for loss in HEIGHTS}
    (every,) = section.numbers
    found = list(csv.DictReader(io.StringIO(every.csv())))
    assert {row["family"] for row in found} == set(by_priority(study)) and {row["seeds"] for row in found} == {"2"}
    assert sum(row["metric"] == study.metric and row["step"] == "2" for row in found) == len(study.cells)
    assert any("Drawn are 6 of 15 families" in line for line in section.paragraphs)
    report = Report("r", [], [Section("curves", "Curves", numbers=[every])], every)
    assert f'href="{every.link()}">curves.csv' in page(report, {})
    monkeypatch.setattr(write, "MOST_EMBEDDED", 10)
    write_report(Report("r", [], [Section("curves", "Curves", numbers=[every])], main_table(study)), Path("out"))
    assert "charts/curves.csv, beside this page" in Path("out/report.html").read_text()
    assert Path("out/charts/curves.csv").read_text() == every.csv()
    assert "charts/curves.csv" in Path("out/report.md").read_text()
