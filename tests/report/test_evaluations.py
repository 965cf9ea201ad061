"""Figures of evaluations in a report: by cell, over seeds; those of a test only where they are asked for."""

import csv
import io
from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.report.build import build_report
from dpo_lab.report.study import read_study
from dpo_lab.run.evaluations import write_evaluation
from tests.report.folders import rows, write_run


def evaluate(run: Path, file: str, **values: float) -> None:
    (run / "evaluation").mkdir(exist_ok=True)
    figures = {name: {"value": value} for name, value in values.items()}
    write_evaluation(run / "evaluation" / f"{file}.json", {"step": 2, "figures": figures}, [])


@pytest.fixture
def runs(tmp_path: Path) -> Path:
    """Win rates 0.5 and 0.6 of sigmoid, 0.8 of ipo, whose second seed was not evaluated."""
    for loss, seed, rate in (("sigmoid", 0, 0.5), ("sigmoid", 1, 0.6), ("ipo", 0, 0.8), ("ipo", 1, None)):
        run = write_run(tmp_path / "runs", loss=loss, seed=seed, metrics=rows(0.6 + seed / 100))
        if rate is not None:
            evaluate(run, "val", win_rate=rate, calibration_error=1 - rate)
            evaluate(run, "test", win_rate=rate / 2)
    return tmp_path / "runs"


def test_a_table_by_cell_and_columns_of_the_csv(runs: Path):
    """0.55, t(1) 12.706 times 0.05: [-0.0853, 1.19]; one seed has no interval."""
    report = build_report(read_study([runs]), "title")
    (section,) = [section for section in report.sections if section.name == "evaluations"]
    (table,) = section.tables
    assert table.columns == ("cell", "seeds evaluated", "calibration_error", "win_rate")
    assert table.rows[0][1:] == [1, "0.2", "0.8"]
    assert table.rows[1][1::2] == [2, "0.55 [-0.0853, 1.19]"]
    main = list(csv.DictReader(io.StringIO(report.main.csv())))
    assert [float(row["evaluation/val/win_rate"]) for row in main] == pytest.approx([0.8, 0.55])
    assert not any("evaluation/test" in column for column in main[0])


def test_a_figure_can_be_what_cells_are_compared_by(runs: Path):
    """Also one of the test; of an error less is better."""
    study = read_study([runs], metric="evaluation/test/win_rate", baseline="loss=sigmoid")
    report = build_report(study, "title")
    assert "evaluation/test/win_rate" in report.main.columns
    report = build_report(read_study([runs], metric="evaluation/val/calibration_error"), "title")
    said = [line for section in report.sections for line in section.paragraphs]
    assert any("evaluation/val/calibration_error, lower is better" in line for line in said)


def test_without_any_the_section_says_how(tmp_path: Path):
    write_run(tmp_path / "runs", metrics=rows(0.6))
    sections = build_report(read_study([tmp_path / "runs"]), "title").sections
    (section,) = [section for section in sections if section.name == "evaluations"]
    assert section.tables == [] and "dpo-lab evaluate RUN" in section.paragraphs[0]


def test_a_damaged_evaluation_is_told(runs: Path):
    (runs / "made/sigmoid-0.1-0/evaluation/val.json").write_text("{")
    study = read_study([runs])
    (reason,) = [reason for _, reason in study.unused]
    assert "evaluation/val.json is damaged" in reason
    with pytest.raises(UserError, match="evaluation/val/nothing"):
        read_study([runs], metric="evaluation/val/nothing")
