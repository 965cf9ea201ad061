"""From run folders to the table: cells, comparisons, equal KL, selection; all figures by hand."""

import csv
import io
from pathlib import Path

import numpy as np
import pytest

from dpo_lab import metrics
from dpo_lab.errors import UserError
from dpo_lab.report import pairs as report_pairs
from dpo_lab.report.behaviour import accuracy_by_length, displacement, trivial_accuracies
from dpo_lab.report.cells import choose_cell
from dpo_lab.report.compare import compare_to_baseline
from dpo_lab.report.environment import differences
from dpo_lab.report.equal_kl import compare_families
from dpo_lab.report.more_sections import cost_section, environment_section, runs_section
from dpo_lab.report.pairs import read_pairs
from dpo_lab.report.sections import comparison_section, main_table
from dpo_lab.report.selection import select
from dpo_lab.report.study import Study, read_study
from dpo_lab.report.winner import winner_section
from tests.report.folders import HASHES, rows, write_run

ACCURACIES = {"sigmoid": (0.60, 0.62, 0.64), "ipo": (0.66, 0.67, 0.71)}


@pytest.fixture
def runs(workplace: Path) -> Path:
    """Two losses, three seeds."""
    for loss, values in ACCURACIES.items():
        for seed, accuracy in enumerate(values):
            write_run(workplace / "runs", loss=loss, seed=seed, metrics=rows(accuracy))
    return workplace / "runs"


def test_table_by_hand(runs: Path):
    """sigmoid: mean 0.62, spread 0.02, half width 4.302653 * 0.02 / sqrt(3) = 0.049683."""
    study = read_study([runs])
    found = {row["loss"]: row for row in csv.DictReader(io.StringIO(main_table(study).csv()))}
    assert set(found) == {"sigmoid", "ipo"} and found["sigmoid"]["seeds"] == "3"
    metric = "val/rewards/accuracies"
    assert float(found["sigmoid"][metric]) == pytest.approx(0.62)
    assert float(found["sigmoid"][f"{metric} sd"]) == pytest.approx(0.02)
    assert float(found["sigmoid"][f"{metric} low"]) == pytest.approx(0.62 - 0.049683, abs=1e-6)
    assert float(found["ipo"][metric]) == pytest.approx(0.68)
    assert found["ipo"][f"{metric} bootstrap low"] == ""


def test_comparison_by_hand(runs: Path):
    """Differences 0.06, 0.05, 0.07: mean 0.06, spread 0.01, t = 0.06 / (0.01 / sqrt(3)) = sqrt(108).

    With 2 degrees of freedom p = 1 - t / sqrt(t^2 + 2) = 1 - sqrt(108 / 110) = 0.0091326.
    """
    study = read_study([runs])
    assert study.baseline.label == "loss=sigmoid"
    (comparison,) = compare_to_baseline(study.cells, study.baseline, study.metric)
    assert comparison.seeds.difference == pytest.approx(0.06)
    assert comparison.seeds.p == comparison.adjusted_p == pytest.approx(0.0091326, abs=1e-7)
    assert comparison.verdict == "better" and comparison.shared == ("0", "1", "2")


def test_metric_in_the_unit_of_a_loss_is_told(workplace: Path):
    for loss in ("sigmoid", "ipo"):
        write_run(workplace, loss=loss, metrics=[{"step": 1, "val/loss": 0.5, "val/rewards/accuracies": 0.6}])
    for metric, is_told in (("val/loss", True), ("val/rewards/accuracies", False)):
        study = read_study([workplace], metric=metric)
        comparisons = compare_to_baseline(study.cells, study.baseline, metric)
        section = comparison_section(study, comparisons)
        assert any("own unit" in line for line in section.paragraphs) is is_told


def test_seeds_that_are_not_shared_are_not_compared(workplace: Path):
    for seed, accuracy in ((0, 0.6), (1, 0.7)):
        write_run(workplace, loss="sigmoid", seed=seed, metrics=rows(accuracy))
        write_run(workplace, loss="ipo", seed=seed + 1, metrics=rows(accuracy))
    study = read_study([workplace])
    (comparison,) = compare_to_baseline(study.cells, study.baseline, study.metric)
    assert comparison.verdict == "not tested: one shared seed has no spread"


def test_cells_are_what_differs_but_seeds(workplace: Path):
    """Folders, threads and names do not count; the data's hash does; what a loss decides is no factor."""
    write_run(workplace, seed=0, metrics=rows(0.6), config={"name": "a"}, id="1")
    threads = {"trainer": {"precision": "32-true", "num_threads": 4}}
    write_run(workplace, seed=1, metrics=rows(0.6), config=threads, id="2")
    write_run(workplace, seed=0, metrics=rows(0.6), info={"hashes": {**HASHES, "data": "other"}}, id="3")
    ipo = {"loss": {"_target_": "x.ipo", "norm": 1}}
    write_run(workplace, loss="ipo", seed=0, metrics=rows(0.6), config=ipo, id="4")
    study = read_study([workplace])
    assert sorted((cell.label, len(cell.runs)) for cell in study.cells) == [
        ("loss=ipo data (hash)=da7a", 1),
        ("loss=sigmoid data (hash)=da7a", 2),
        ("loss=sigmoid data (hash)=other", 1),
    ]


def test_hash_that_follows_the_seed_is_no_factor(workplace: Path):
    for seed in range(2):
        write_run(workplace, seed=seed, metrics=rows(0.6), info={"hashes": {"initial_weights": f"w{seed}"}})
    assert [cell.label for cell in read_study([workplace]).cells] == ["loss=sigmoid"]


def test_first_attempt_of_a_seed_counts(workplace: Path):
    write_run(workplace, metrics=rows(0.6), id="a", info={"started": "2026-01-01"})
    write_run(workplace, metrics=rows(0.9), id="a-2", info={"started": "2026-01-02"})
    (cell,) = read_study([workplace]).cells
    assert cell.last("val/rewards/accuracies") == {"0": 0.6} and [run.path.name for run in cell.repeats] == ["a-2"]


def test_a_run_that_was_made_again_is_no_attempt_of_its_own(workplace: Path):
    write_run(workplace / "runs", metrics=rows(0.6))
    again = {"started": "2025-01-01T00:00:00+00:00", "reproduces": {"id": "abc", "verdict": "diverged"}}
    write_run(workplace / "runs", id="again", metrics=rows(0.9), info=again)
    study = read_study([workplace / "runs"])
    assert [list(cell.last("val/rewards/accuracies").values()) for cell in study.cells] == [[0.6]]
    assert [(run.path.name, why) for run, why in study.unused] == [
        ("again", "made abc again (diverged), so it is no run of its own")
    ]


def test_selector_must_name_one_cell(runs: Path):
    cells = read_study([runs]).cells
    assert choose_cell(cells, "loss=ipo").loss == "ipo"
    for selector, said in (("seed=1", "no run has it"), ("loss!=kto", "2 cells"), ("loss=kto", "names no cell")):
        with pytest.raises(UserError, match=said):
            choose_cell(cells, selector)


def test_damaged_and_unfinished_runs_are_told(runs: Path):
    write_run(runs, seed=7, id="failed", metrics=rows(0.9), info={"status": "failed", "exit_reason": "boom"})
    write_run(runs, seed=8, id="killed", metrics=rows(0.9), info={"status": "running"})
    (write_run(runs, seed=9, id="torn") / "metrics.jsonl").write_text('{"step": 1}\nnot json\n')
    (write_run(runs, seed=9, id="list") / "metrics.jsonl").write_text("[1]\n")
    (write_run(runs, seed=9, id="yaml") / "config.yaml").write_text("a: [")
    (write_run(runs, seed=9, id="json") / "run.json").write_text("{")
    study = read_study([runs])
    told = {record.path.name: reason for record, reason in study.unused}
    assert set(told) == {"failed", "killed", "torn", "list", "yaml", "json"}
    assert told["failed"] == "failed after step 2: boom" and told["killed"].startswith("killed after step 2")
    assert "metrics.jsonl line 2 is damaged" in told["torn"].replace(str(runs), "")
    assert "config.yaml" in told["yaml"] and "run.json" in told["json"]
    assert sum(len(cell.runs) for cell in study.cells) == 6


def test_nothing_to_report(workplace: Path):
    with pytest.raises(UserError, match="no such folder"):
        read_study([workplace / "nowhere"])
    with pytest.raises(UserError, match="holds no run"):
        read_study([workplace])
    write_run(workplace / "runs", metrics=rows(0.6), info={"status": "failed"})
    with pytest.raises(UserError, match="none of 1 runs has finished"):
        read_study([workplace / "runs"])


def test_folder_of_a_sweep_stands_for_its_runs(runs: Path):
    write_run(runs, seed=5, metrics=rows(0.5), info={"sweep": "monday"})
    (runs / ".sweeps" / "monday").mkdir(parents=True)
    (only,) = read_study([runs / ".sweeps" / "monday"]).records
    assert only.info["sweep"] == "monday"
    # A job whose run another sweep had finished before names it.
    earlier = write_run(runs, seed=6, metrics=rows(0.5), info={"sweep": "sunday"})
    (runs / ".sweeps" / "monday" / "jobs" / "1").mkdir(parents=True)
    named = Path("/elsewhere/runs") / earlier.parent.name / earlier.name
    (runs / ".sweeps" / "monday" / "jobs" / "1" / "run.txt").write_text(f"{named}\nalready finished\n")
    assert [record.info["sweep"] for record in read_study([runs / ".sweeps" / "monday"]).records] == [
        "monday",
        "sunday",
    ]


def test_pairs_by_hand(workplace: Path):
    """(1, -1) up and down, (-1, -2) both down, (2, 1) both up, (0, 1) not grown, (1, 1) a tie: 3.5 of 5 right."""
    chosen, rejected = [1.0, -1.0, 2.0, 0.0, 1.0], [-1.0, -2.0, 1.0, 1.0, 1.0]
    lengths = {"chosen_length": [9, 1, 5, 5, 5], "rejected_length": [1, 9, 5, 5, 5]}
    folder = write_run(workplace, metrics=rows(0.7), pairs={"chosen": chosen, "rejected": rejected, **lengths})
    pairs = read_pairs(folder)
    assert pairs is not None and pairs.correct.sum() == 3.5
    moved = displacement(pairs)
    assert moved is not None and moved[:4] == pytest.approx((0.2, 0.2, 0.2, 0.4))
    assert (moved.from_chosen, moved.from_rejected) == pytest.approx((0.6, 0.0))
    assert trivial_accuracies(pairs)["the longer wins"] == pytest.approx((1 + 0 + 3 * 0.5) / 5)
    by_length = {name: (accuracy, count) for name, accuracy, count in accuracy_by_length([pairs])}
    assert by_length["much longer"] == (1.0, 1) and by_length["about equal"] == (0.5, 3)
    assert report_pairs.TIE_NATS == metrics.TIE_NATS


def test_test_over_pairs_by_hand(workplace: Path):
    """The baseline has 2 of 4 right, the other 4 of 4: differences 0, 0, 1, 1, mean 0.5, whatever the seeds say."""
    for seed in range(2):
        for loss, rejected in (("sigmoid", [0.0, 0.0, 2.0, 2.0]), ("ipo", [0.0] * 4)):
            pairs = {"chosen": [1.0] * 4, "rejected": rejected}
            write_run(workplace, loss=loss, seed=seed, metrics=rows(0.5 + seed / 10), pairs=pairs)
    study = read_study([workplace])
    (comparison,) = compare_to_baseline(study.cells, study.baseline, study.metric, study.pairs_of)
    assert comparison.pairs is not None and comparison.pairs.difference == 0.5 and comparison.pairs.count == 4
    assert comparison.verdict == "not tested: the same result for every seed"


def test_pairs_of_one_prompt_are_one_cluster(workplace: Path):
    """Differences 0, 0, 1, 1 of prompts a, a, b, b: sums -1 and 1 about the mean 0.5, variance (1 + 1) 2/1 / 4^2 = 1/4.

    So t = 0.5 / 0.5 = 1 with one degree of freedom: p = 0.5. Four prompts would give t = sqrt(3), 3 degrees: p = 0.18.
    """
    for loss, rejected in (("sigmoid", [0.0, 0.0, 2.0, 2.0]), ("ipo", [0.0] * 4)):
        pairs = {"chosen": [1.0] * 4, "rejected": rejected, "prompts": [0, 0, 1, 1]}
        write_run(workplace, loss=loss, metrics=rows(0.5), pairs=pairs)
    study = read_study([workplace])
    (comparison,) = compare_to_baseline(study.cells, study.baseline, study.metric, study.pairs_of)
    assert comparison.pairs is not None and (comparison.pairs.count, comparison.pairs.num_clusters) == (4, 2)
    assert comparison.pairs.p == pytest.approx(0.5)


def test_predictions_that_are_not_what_was_logged_are_told(workplace: Path):
    """One of two pairs is right: logged as 0.5 nothing is said, logged as 0.9 the run is named."""
    pairs = {"chosen": [1.0, 0.0], "rejected": [0.0, 1.0]}
    write_run(workplace, seed=0, metrics=rows(0.5), pairs=pairs)
    assert not [line for line in runs_section(read_study([workplace])).paragraphs if "predictions" in line]
    write_run(workplace, seed=1, metrics=rows(0.9), pairs=pairs)
    (told,) = [line for line in runs_section(read_study([workplace])).paragraphs if "predictions" in line]
    assert "In 1 runs" in told and "made/sigmoid-0.1-1" in told


def _line(folder: Path, loss: str, seed: int, points: dict[float, tuple[float, float]]) -> None:
    for beta, (kl, accuracy) in points.items():
        write_run(folder, loss=loss, beta=beta, seed=seed, metrics=rows(accuracy, kl=kl))


def test_equal_kl_by_hand(workplace: Path):
    """sigmoid rises from 0.5 at KL 0 to 0.7 at KL 2; ipo lies at 0.6 (+ 0.1 a seed) from KL 1 to 3.

    Both reach KL 1 to 2, where sigmoid has a mean of 0.65: differences 0.6 - 0.65 = -0.05 and 0.7 - 0.65 = 0.05.
    """
    for seed in range(2):
        _line(workplace, "sigmoid", seed, {0.1: (2.0, 0.7), 1.0: (0.0, 0.5)})
        level = 0.6 + 0.1 * seed
        _line(workplace, "ipo", seed, {0.1: (3.0, level), 1.0: (1.0, level)})
        _line(workplace, "hinge", seed, {0.1: (9.0, 0.9), 1.0: (8.0, 0.9)})
    study = read_study([workplace], baseline="loss=sigmoid loss.beta=1")
    found = {one.family: one for one in compare_families(study.cells, study.baseline, [study.metric])}
    assert found["loss=ipo"].overlap == (1.0, 2.0) and found["loss=ipo"].at_middle == pytest.approx((0.65, 0.65))
    assert found["loss=ipo"].test.difference == pytest.approx(0.0) and found["loss=ipo"].test.sd == pytest.approx(
        0.1 / 2**0.5
    )
    assert found["loss=hinge"].overlap is None and "do not overlap" in found["loss=hinge"].apart["0"]


def test_winner_is_measured_where_it_was_not_chosen(workplace: Path):
    """Seed 0: a 0.9, b 0.5; seed 1: a 0.4, b 0.6. Chosen on the other seed: b's 0.5 and a's 0.4, mean 0.45.

    On both seeds a has 0.65 and wins.
    """
    for loss, values in {"sigmoid": (0.9, 0.4), "ipo": (0.5, 0.6)}.items():
        for seed, accuracy in enumerate(values):
            write_run(workplace, loss=loss, seed=seed, metrics=rows(accuracy))
    study = read_study([workplace])
    selection = select(study.cells, study.metric, study.pairs_of, study.baseline)
    assert selection is not None and selection.cell.loss == "sigmoid" and selection.steps == (2,)
    assert selection.on_validation.mean == pytest.approx(0.65)
    assert selection.left_out_seed == pytest.approx(0.45)
    assert selection.on_test is None


def _tested(step: int, validation: dict[int, float], test: float) -> list[dict[str, float]]:
    """Validated at each of `validation`; the weights of `step` were tested, after the last."""
    lines = [{"step": at, "val/rewards/accuracies": value} for at, value in validation.items()]
    return [*lines[:-1], lines[-1] | {"test/rewards/accuracies": test, "test/step": step}]


def test_cell_is_chosen_on_validation_and_the_test_is_quoted(workplace: Path):
    """Seed 0 keeps step 1, seed 1 step 2. Validation there: ipo 0.9 and 0.8, mean 0.85; sigmoid 0.6 and 0.7, mean 0.65.

    ipo wins and has 0.5 and 0.6 on the test, where sigmoid has 0.8 and 0.9. On the other seed ipo wins as well: 0.55.
    """
    figures = {"ipo": ((1, 0.9, 0.2, 0.5), (2, 0.1, 0.8, 0.6)), "sigmoid": ((1, 0.6, 0.99, 0.8), (2, 0.99, 0.7, 0.9))}
    for loss, seeds in figures.items():
        for seed, (kept, first, second, test) in enumerate(seeds):
            write_run(workplace, loss=loss, seed=seed, metrics=_tested(kept, {1: first, 2: second}, test))
    for metric in ("val/rewards/accuracies", "test/rewards/accuracies"):
        study = read_study([workplace], metric=metric)
        chosen = select(study.cells, study.metric, {}, study.baseline)
        assert chosen is not None and chosen.cell.loss == "ipo" and chosen.steps == (1, 2)
        assert chosen.metric == "val/rewards/accuracies" and chosen.on_validation.mean == pytest.approx(0.85)
        assert chosen.on_test is not None and chosen.on_test.mean == pytest.approx(0.55)
        assert chosen.baseline_on_test is not None and chosen.baseline_on_test.mean == pytest.approx(0.85)
        assert chosen.left_out_seed == pytest.approx(0.85) and chosen.left_out_seed_on_test == pytest.approx(0.55)
    said = " ".join(winner_section(study).paragraphs)
    assert "the weights that each run keeps (steps 1, 2)" in said and "untouched test split it has 0.55" in said
    assert "luck with seeds stays" in said


def test_a_test_of_some_runs_is_no_test(workplace: Path):
    write_run(workplace, loss="ipo", metrics=_tested(2, {1: 0.5, 2: 0.9}, 0.5))
    write_run(workplace, loss="sigmoid", metrics=rows(0.6))
    study = read_study([workplace])
    chosen = select(study.cells, study.metric, {}, study.baseline)
    assert chosen is not None and chosen.on_test is None and chosen.left_out_seed_on_test is None
    assert "Not every run has a test" in winner_section(study).paragraphs[1]


def test_keys_that_say_nothing_make_no_cell(workplace: Path):
    """A run from before there was a test split and one with none are of one cell."""
    write_run(workplace, seed=0, metrics=rows(0.6))
    write_run(workplace, seed=1, metrics=rows(0.7), config={"data": {"num_test_pairs": 0, "test_path": None}})
    assert [len(cell.runs) for cell in read_study([workplace]).cells] == [2]


def test_environment_that_goes_with_the_cell_is_confounded(workplace: Path):
    for loss, torch in (("sigmoid", "2.13.0"), ("ipo", "2.12.0")):
        write_run(workplace, loss=loss, metrics=rows(0.6), info={"packages": {"torch": torch}, "python": "3.11.7"})
    (found,) = differences(read_study([workplace]).cells)
    assert (found.name, found.is_confounded) == ("torch", True) and found.counts == {"2.13.0": 1, "2.12.0": 1}


def test_environment_and_cost_of_runs_that_failed_are_told(workplace: Path):
    """Two runs of 2 s in the figures; one that failed under another torch, one killed without timing, one repeat."""
    for seed in range(2):
        write_run(workplace, seed=seed, metrics=rows(0.6))
    study = read_study([workplace])
    assert environment_section(study).paragraphs[0].startswith("All runs have the same")
    assert cost_section(study).paragraphs == [
        "Means over runs. Training of the 2 runs in the figures took 4 s. Seconds are of wall time."
    ]
    failed = {"status": "failed", "packages": {"torch": "2.12.0"}}
    write_run(workplace, seed=2, metrics=rows(0.6), info=failed)
    early = {"status": "running", "python": None, "packages": None, "code": None}
    (write_run(workplace, seed=3, info=early) / "timing.jsonl").unlink()
    write_run(workplace, seed=1, metrics=rows(0.6), id="again", info={"started": "2026-01-02T00:00:00+00:00"})
    study = read_study([workplace])
    section = environment_section(study)
    assert section.paragraphs[0] == "Runs differ in: torch." and "only runs that failed" in section.paragraphs[1]
    assert section.tables[0].rows == [["torch", "2.13.0", 2, 1, "no"], ["torch", "2.12.0", 0, 1, "no"]]
    (said,) = cost_section(study).paragraphs
    assert "The 3 others" in said and "took 4 s more, 1 of them without a record of their time" in said


def test_false_alarms_of_the_whole_way(workplace: Path):
    """No loss better, one sweep: the table, comparisons and words come out without one."""
    generator = np.random.default_rng(3)
    for loss in ("sigmoid", "ipo", "hinge"):
        for seed in range(4):
            write_run(workplace, loss=loss, seed=seed, metrics=rows(0.6 + generator.normal(0, 0.02)))
    study: Study = read_study([workplace])
    comparisons = compare_to_baseline(study.cells, study.baseline, study.metric)
    assert {one.verdict for one in comparisons} == {"not distinguishable"}
    assert all(one.detectable > abs(one.seeds.difference) for one in comparisons)
