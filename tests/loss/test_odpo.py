from decimal import Decimal
from functools import partial
from typing import Literal

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.loss.odpo import odpo
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.types import LossOutput
from tests.loss.batch import MARGINS, RATIOS, Batch, by_decision, gradient, make_batch, reduce
from tests.loss.exact import BETAS, assert_exact, log_sigmoid

# Of the pairs (0, 1) and (3, 2): differences 2 and 0.5.
SCORES = torch.tensor([2.5, 0.5, 1.0, 1.5], dtype=torch.float64)


def call(batch: Batch, scores: torch.Tensor = SCORES, **knobs) -> LossOutput:
    return odpo(batch.policy, batch.reference, batch.pairs, scores.to(batch.policy.token.dtype), **knobs)


def plain(batch: Batch, beta: float) -> torch.Tensor:
    return sigmoid(batch.policy, batch.reference, batch.pairs, beta=beta).loss


def test_log_by_hand():
    """beta 1, alpha 0.5: offsets 0.5 log 2 = 0.346574 and 0.5 log 0.5 = -0.346574.

    -log sigmoid(0.7 - 0.346574) = 0.531967, -log sigmoid(0.9 + 0.346574) = 0.252693; slopes -sigmoid(-0.353426) =
    -0.412552 and -sigmoid(-1.246574) = -0.223294, halved by the average over two pairs.
    """
    batch = make_batch()
    output = call(batch, beta=1.0, alpha=0.5)
    assert output.extra["offset"].tolist() == pytest.approx([0.346574, -0.346574], abs=1e-6)
    assert output.loss.tolist() == pytest.approx([0.531967, 0.252693], abs=1e-6)
    one, two = 0.412552 / 2, 0.223294 / 2
    assert_close(gradient(reduce(output), batch.policy), by_decision([-one, one, two, -two]), atol=1e-6, rtol=0)
    assert output.weight.tolist() == [1.0, 1.0]
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx(list(RATIOS))


def test_difference_by_hand():
    """alpha 0.5: offsets 0.5 * 2 = 1 and 0.5 * 0.5 = 0.25; margins 0.7 - 1 and 0.9 - 0.25."""
    output = call(make_batch(), beta=1.0, alpha=0.5, offset="difference")
    assert output.extra["offset"].tolist() == pytest.approx([1.0, 0.25])
    expected = [float(-log_sigmoid(Decimal(margin))) for margin in (-0.3, 0.65)]
    assert output.loss.tolist() == pytest.approx(expected)


@pytest.mark.parametrize("offset", ["log", "difference"])
@pytest.mark.parametrize(
    ("chosen", "rejected"), [(1.0, 1.0), (0.0, 1.0), (float("nan"), 1.0), (1.0, float("nan")), (-1e30, 1e30)]
)
def test_no_offset_where_the_chosen_response_is_not_scored_better(chosen: float, rejected: float, offset: str):
    """The second pair keeps its offset."""
    batch = make_batch()
    scores = torch.tensor([chosen, rejected, 1.0, 1.5], dtype=torch.float64)
    output = call(batch, scores, beta=0.3, offset=offset)
    assert output.extra["has_offset"].tolist() == [0.0, 1.0]
    assert output.loss[0].item() == plain(batch, 0.3)[0].item()
    assert output.loss[1].item() != plain(batch, 0.3)[1].item()
    assert gradient(output.loss.sum(), batch.policy).isfinite().all()


@pytest.mark.parametrize("offset", ["log", "difference"])
def test_alpha_0_is_sigmoid(offset: str):
    batch = make_batch()
    ours, theirs = call(batch, beta=0.7, alpha=0.0, offset=offset).loss, plain(batch, 0.7)
    assert_close(ours, theirs, atol=0, rtol=0)
    assert_close(gradient(ours.sum(), batch.policy), gradient(theirs.sum(), batch.policy), atol=0, rtol=0)


def test_a_larger_alpha_asks_for_more_where_the_scores_are_far_apart_and_for_less_where_they_are_close():
    batch = make_batch()
    small, large = (call(batch, beta=0.5, alpha=alpha).loss for alpha in (0.5, 2.0))
    assert large[0] > small[0] and large[1] < small[1]


def test_a_score_of_another_width_does_not_change_the_type_of_the_loss():
    batch = make_batch(dtype=torch.float32)
    output = odpo(batch.policy, batch.reference, batch.pairs, SCORES)
    assert output.loss.dtype == output.extra["offset"].dtype == torch.float32
    assert output.loss.tolist() == pytest.approx(call(make_batch()).loss.tolist(), rel=1e-6)


@pytest.mark.parametrize("beta", BETAS)
@pytest.mark.parametrize("offset", ["log", "difference"])
def test_is_exact(beta: float, offset: Literal["log", "difference"]):
    """Scores 1 and -0.5, as the batch has them: a difference of 1.5."""
    b, shift = Decimal(beta), Decimal("2") * (Decimal("1.5").ln() if offset == "log" else Decimal("1.5"))
    loss = partial(odpo, beta=beta, alpha=2.0, offset=offset)
    assert_exact(loss, lambda w, r: -log_sigmoid(b * (w - r) - shift), steepness=max(beta, 1))


def test_margins_are_those_of_the_batch():
    assert_close(
        call(make_batch(), alpha=0.0, beta=1.0).loss.tolist(), [float(-log_sigmoid(Decimal(m))) for m in MARGINS]
    )
