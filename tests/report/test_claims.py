"""Claims written down before a sweep: what holds, what is refuted, what cannot be told; and faults of the file."""

import re
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from dpo_lab.errors import UserError
from dpo_lab.report.claims import Claim, check_claims, exit_code, read_claims
from dpo_lab.report.compare import INDISTINCT
from dpo_lab.report.records import Curve
from dpo_lab.report.statistics import paired_test
from dpo_lab.report.study import Study, read_study
from tests.report.folders import rows, write_run
from tests.report.null_sweeps import LOSSES, Shape, claims_of, draw_sweeps

METRIC = "val/rewards/accuracies"


@pytest.fixture
def study(workplace: Path) -> Study:
    """ipo lies 0.05 above sigmoid (give or take 0.01) at both betas; both reach the same KLs."""
    for seed, wobble in enumerate((-0.01, 0.0, 0.01, 0.0)):
        for beta, kl, accuracy in ((0.1, 2.0, 0.7), (1.0, 1.0, 0.6)):
            write_run(workplace, loss="sigmoid", beta=beta, seed=seed, metrics=rows(accuracy, kl=kl))
            write_run(workplace, loss="ipo", beta=beta, seed=seed, metrics=rows(accuracy + 0.05 + wobble, kl=kl))
            write_run(workplace, loss="hinge", beta=beta, seed=seed, metrics=rows(accuracy + wobble, kl=kl))
    return read_study([workplace])


def _claim(better: str, worse: str, at: str, by: float = 0.0) -> Claim:
    return Claim("said", METRIC, better, worse, at, by)


@pytest.mark.parametrize("at", ["equal_beta", "equal_kl", "best"])
def test_verdicts(study: Study, at: str):
    """Differences of ipo and sigmoid: 0.04, 0.05, 0.06, 0.05, mean 0.05; of hinge and sigmoid: mean 0."""
    (up,) = check_claims([_claim("loss=ipo", "loss=sigmoid", at)], study.cells)
    (down,) = check_claims([_claim("loss=sigmoid", "loss=ipo", at)], study.cells)
    (flat,) = check_claims([_claim("loss=hinge", "loss=sigmoid", at)], study.cells)
    (far,) = check_claims([_claim("loss=ipo", "loss=sigmoid", at, by=0.2)], study.cells)
    assert [one.verdict for one in (up, down, flat, far)] == ["holds", "refuted", INDISTINCT, "refuted"]
    assert up.test.difference == pytest.approx(0.05) and up.test.count == 4
    assert far.test.difference == pytest.approx(-0.15)
    assert [exit_code([one]) for one in (up, flat, down)] == [0, 3, 4]
    assert exit_code([up, flat, down]) == 4


def test_a_seed_that_collapsed_turns_no_claim_round(workplace: Path):
    """ipo at 0.1 has 0.70 and sigmoid 0.68 with every seed (give or take 0.001): ipo has the better best cell, by 0.02.

    ipo at 0.5 has 0.80 but for one seed of 0.05, mean 0.65. Chosen on the other seeds it wins where it collapsed alone,
    (0.05 + 4 * 0.70) / 5 = 0.57, which lies below sigmoid and says nothing of the best cell.
    """
    for seed, wobble in enumerate((-0.001, 0.0, 0.001, 0.0, 0.001)):
        write_run(workplace, loss="ipo", beta=0.1, seed=seed, metrics=rows(0.70 + wobble))
        write_run(workplace, loss="ipo", beta=0.5, seed=seed, metrics=rows(0.05 if seed == 4 else 0.80))
        write_run(workplace, loss="sigmoid", beta=0.1, seed=seed, metrics=rows(0.68))
    cells = read_study([workplace]).cells
    claim = _claim("loss=ipo", "loss=sigmoid", "best")
    (said,) = check_claims([claim], cells)
    (turned,) = check_claims([replace(claim, better=claim.worse, worse=claim.better)], cells)
    assert (said.verdict, turned.verdict) == ("holds", "refuted")
    assert said.test.difference == pytest.approx(0.0202) and 0 < said.test.low < said.test.difference < said.test.high
    assert "measured on the one left out: -0.1" in said.note and exit_code([said]) == 0


def test_one_cell_a_side_is_a_paired_test(study: Study):
    (said,) = check_claims([_claim("loss=ipo loss.beta=1", "loss=sigmoid loss.beta=1", "best", by=0.01)], study.cells)
    assert said.test == pytest.approx(paired_test([0.03, 0.04, 0.05, 0.04]))
    assert said.note == "one cell a side" and said.detectable > 0


def test_words_and_estimates_agree_with_intervals():
    """In each of the three ways, of sweeps in which losses differ and a run in ten collapsed: the estimate lies in its
    interval, the word on its side of 0."""
    shape, generator, words = Shape(3, 3, 5), np.random.default_rng(5), set()
    for cells in draw_sweeps(shape, 40, seed=3):
        gains: dict[str, float] = dict(zip(LOSSES, generator.normal(0, 0.3, len(LOSSES)).tolist(), strict=True))
        for run in (run for cell in cells for run in cell.runs.values()):
            steps, values = run.curves[METRIC]
            lost = 0.5 if generator.random() < 0.1 else 0.0
            run.curves[METRIC] = Curve(steps, values + gains[str(run.config["loss"])] - lost)
        for one in check_claims(claims_of(shape), cells):
            assert one.test.low <= one.test.difference <= one.test.high
            if one.verdict != INDISTINCT:
                assert one.test.low > 0 if one.verdict == "holds" else one.test.high < 0
                words.add((one.claim.at, one.verdict))
    assert words == set(product(("equal_beta", "equal_kl", "best"), ("holds", "refuted")))


def test_claims_are_corrected_together(study: Study):
    """Three of one claim: the p of each is three times the p of one."""
    claim = _claim("loss=ipo", "loss=sigmoid", "equal_beta")
    (alone,), several = check_claims([claim], study.cells), check_claims([claim] * 3, study.cells)
    assert [one.adjusted_p for one in several] == pytest.approx([3 * alone.adjusted_p] * 3)


def test_lower_is_better_for_a_loss(workplace: Path):
    for seed, wobble in enumerate((0.0, 0.01)):
        write_run(workplace, loss="ipo", seed=seed, metrics=[{"step": 1, "val/loss": 0.2 + wobble}])
        write_run(workplace, loss="sigmoid", seed=seed, metrics=[{"step": 1, "val/loss": 0.6}])
    claim = Claim("low", "val/loss", "loss=ipo", "loss=sigmoid", "best")
    (checked,) = check_claims([claim], read_study([workplace]).cells)
    assert checked.verdict == "holds" and checked.test.difference == pytest.approx(0.395)


def test_claims_are_read(workplace: Path):
    entry = "{name: a, metric: m, better: loss=ipo, worse: loss=sigmoid, at: best, by: 0.01}"
    Path("claims.yaml").write_text(f"claims:\n  - {entry}\n")
    assert read_claims(Path("claims.yaml")) == [Claim("a", "m", "loss=ipo", "loss=sigmoid", "best", 0.01)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("claims: []", "holds no claim"),
        ("- a", "under the one key"),
        ("claims: [", "no YAML"),
        ("claims: [1]", "claim 1: not a mapping"),
        ("claims: [{name: a, metric: m, better: loss=a, worse: loss=b}]", "missing: at"),
        ("claims: [{name: a, metric: m, better: loss=a, worse: loss=b, at: best, than: 1}]", "unknown: than"),
        ("claims: [{name: a, metric: m, better: loss=a, worse: loss=b, at: kl}]", "equal_beta, equal_kl, best"),
        ("claims: [{name: a, metric: m, better: ipo, worse: loss=b, at: best}]", "'ipo' is no condition"),
        ("claims: [{name: a, metric: m, better: loss=a, worse: loss=b, at: best, by: much}]", "by must be a number"),
    ],
)
def test_faults_of_the_file_are_named(workplace: Path, text: str, said: str):
    Path("claims.yaml").write_text(text)
    with pytest.raises(UserError, match=said):
        read_claims(Path("claims.yaml"))


def test_claims_of_the_documented_sweep_fit_its_cells(workplace: Path, root: Path):
    """Runs of the sweep as the README orders it, made of numbers: every selector and metric names something."""
    (words,) = re.findall(r"^dpo-lab train -m name=losses (.*?) \\$", (root / "README.md").read_text(), re.MULTILINE)
    choices = {key: values.split(",") for key, _, values in (word.partition("=") for word in words.split()[:3])}
    assert list(choices) == ["loss", "loss.beta", "seed"]
    generator = np.random.default_rng(0)
    for loss, beta, seed in product(*choices.values()):
        kl = 0.2 / float(beta) + generator.random() / 10
        values = rows(0.7 + generator.normal(0, 0.01), kl=kl)
        write_run(workplace / "runs/losses", loss=loss, beta=float(beta), seed=int(seed), metrics=values)
    claims = read_claims(root / "docs/claims_losses.yaml")
    checked = check_claims(claims, read_study([workplace / "runs/losses"]).cells)
    assert [one.test.count for one in checked] == [len(choices["seed"])] * len(claims)
    told = (root / "docs/report.md").read_text()
    assert all(f"| {claim.name} |" in told for claim in claims)


def test_claims_about_nothing_are_refused(study: Study):
    for claim, said in (
        (_claim("loss=kto", "loss=ipo", "best"), "names no cell"),
        (_claim("loss=ipo", "loss.beta=0.1", "best"), "both name loss=ipo loss.beta=0.1"),
        (Claim("a", "val/nothing", "loss=ipo", "loss=sigmoid", "best"), "no run of its cells has the metric"),
    ):
        with pytest.raises(UserError, match=said):
            check_claims([claim], study.cells)
