"""Curves are sums and counts: any split of the same pairs gives the same values."""

import pytest
import torch

from dpo_lab.loss.kto import kto
from dpo_lab.loss.sft import sft
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.metrics import Tally, curves, tally_batch, tally_shares
from dpo_lab.needs import Objective, Term
from dpo_lab.types import LogProbs, PreferenceBatch

OBJECTIVE = Objective((Term("sigmoid", sigmoid),))


def batch_of(pairs: list[list[int]], num_rows: int) -> PreferenceBatch:
    return PreferenceBatch(
        inputs={},
        group=torch.arange(num_rows) // 2,
        key=torch.zeros(num_rows, 2, dtype=torch.long),
        pairs=torch.tensor(pairs).reshape(-1, 2),
        chosen=torch.tensor([chosen for chosen, _ in pairs], dtype=torch.long),
    )


def log_probs(*sums: float) -> LogProbs:
    return LogProbs(torch.tensor(sums, dtype=torch.float64)[:, None], torch.ones(len(sums), 1, dtype=torch.bool))


def tally_of(pairs: list[list[int]], policy: LogProbs, reference: LogProbs) -> Tally:
    batch = batch_of(pairs, len(policy.token))
    outputs = OBJECTIVE({"policy": policy, "reference": reference, "pairs": batch.pairs})
    return tally_batch(OBJECTIVE, outputs, batch, policy, reference)


def test_by_hand():
    """Ratios are 3, 1 | 0, 0 | -2, 2 nats, so rewards (beta 0.1) 0.3, 0.1 | 0, 0 | -0.2, 0.2.

    Margins 0.2, 0, -0.4, mean -0.0667. Right, tied, wrong: accuracy (1 + 1/2 + 0) / 3 = 0.5. Chosen log-ratio
    (3 + 0 - 2) / 3 = 1/3 nats.
    """
    policy, reference = log_probs(-7, -9, -5, -5, -12, -8), log_probs(-10, -10, -5, -5, -10, -10)
    row = curves(OBJECTIVE, tally_of([[0, 1], [2, 3], [4, 5]], policy, reference), prefix="train")
    assert row["train/rewards/margins"] == pytest.approx(-0.2 / 3)
    assert row["train/rewards/accuracies"] == pytest.approx(0.5)
    assert row["train/log_ratios/chosen"] == pytest.approx(1 / 3)
    assert row["train/logps/rejected"] == pytest.approx(-22 / 3)
    assert row["train/lengths/chosen"] == 1


def test_uneven_split_gives_the_same_as_the_whole():
    """2 + 1 pairs: the mean of the two means would be another number."""
    policy, reference = log_probs(-7, -9, -5, -5, -12, -8), log_probs(-10, -10, -5, -5, -10, -10)
    whole = tally_of([[0, 1], [2, 3], [4, 5]], policy, reference).means()
    first = tally_of([[0, 1], [2, 3]], log_probs(-7, -9, -5, -5), log_probs(-10, -10, -5, -5))
    first.merge(tally_of([[0, 1]], log_probs(-12, -8), log_probs(-10, -10)))
    assert first.means() == pytest.approx(whole)
    assert first.count("rewards/accuracies") == 3


def test_no_reference_no_log_ratio():
    objective = Objective((Term("sft", sft),))
    policy, batch = log_probs(-4, -2), batch_of([[0, 1]], 2)
    outputs = objective({"policy": policy, "chosen": batch.chosen})
    row = curves(objective, tally_batch(objective, outputs, batch, policy, None), prefix="val")
    assert row["val/loss"] == 4
    assert not any("log_ratios" in name or "rewards" in name for name in row)


def test_terms_are_shown_apart_and_weighted_in_the_sum():
    """sigmoid at margin 0 is ln 2 = 0.6931, sft is 4 nats: 1 * 0.6931 + 0.5 * 4 = 2.6931."""
    objective = Objective((Term("preference", sigmoid), Term("penalty", sft, 0.5)))
    policy, batch = log_probs(-4, -2), batch_of([[0, 1]], 2)
    ingredients = {"policy": policy, "reference": policy, "pairs": batch.pairs, "chosen": batch.chosen}
    row = curves(objective, tally_batch(objective, objective(ingredients), batch, policy, policy), prefix="train")
    assert row["train/loss"] == pytest.approx(2.693147, abs=1e-6)
    assert row["train/loss/penalty"] == 4
    assert row["train/loss_share/penalty"] == pytest.approx(2 / 2.693147, abs=1e-6)
    assert row["train/loss_share/preference"] + row["train/loss_share/penalty"] == pytest.approx(1)
    assert next(iter(row)) == "train/loss"


def test_empty_tally():
    assert Tally().means() == {}
    assert Tally().count("x") == 0


def test_shares_of_the_gradient_by_hand():
    """3 x: magnitude 3 at each of two decisions; -x: 1 at each. So 6 / 8 and 2 / 8; a second, flat batch adds none."""
    token = torch.tensor([-1.0, -2.0], requires_grad=True)
    attached = token * 1.0
    tally = tally_shares({"steep": 3 * attached.sum(), "flat": -attached.sum()}, [attached])
    tally.merge(tally_shares({"steep": 0 * attached.sum(), "flat": 0 * attached.sum()}, [attached]))
    assert tally.means() == pytest.approx({"gradient_share/steep": 0.75, "gradient_share/flat": 0.25})


def test_a_single_term_has_no_share():
    attached = torch.ones(2, requires_grad=True) * 1.0
    assert tally_shares({"only": attached.sum()}, [attached]).means() == {}


def test_single_labels_by_hand():
    """Rows 1 (desirable), 0, 1, -1 (borrowed): reward 0.1 log-ratio. Chosen (0.3 - 0.2) / 2, rejected 0.1."""
    policy, reference = log_probs(-7, -9, -12, -3), log_probs(-10, -10, -10, -9)
    batch = batch_of([], 4)._replace(labels=torch.tensor([1, 0, 1, -1]), drift=torch.tensor([3]))
    objective = Objective((Term("kto", kto),))
    given = {"policy": policy, "reference": reference, "labels": batch.labels, "drift": batch.drift}
    row = curves(objective, tally_batch(objective, objective(given), batch, policy, reference), prefix="train")
    assert row["train/rewards/chosen"] == pytest.approx(0.05)
    assert row["train/rewards/rejected"] == pytest.approx(0.1)
    assert row["train/rewards/margins"] == pytest.approx(-0.05)
    assert row["train/drift"] == 6
    assert "train/rewards/accuracies" not in row


def test_a_kind_of_which_there_is_none_has_no_curve():
    tally = Tally()
    tally.add("rewards/rejected", torch.zeros(0))
    assert tally.means() == {}
