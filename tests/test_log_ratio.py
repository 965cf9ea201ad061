import pytest
import torch

from dpo_lab.log_ratio import log_ratio, mean_log_ratio
from tests.loss.batch import LENGTHS, RATIOS, make_batch


def test_by_hand():
    batch = make_batch()
    assert log_ratio(batch.policy, batch.reference).tolist() == pytest.approx(list(RATIOS), abs=1e-12)
    means = [ratio / num for ratio, num in zip(RATIOS, LENGTHS, strict=True)]
    assert mean_log_ratio(batch.policy, batch.reference).tolist() == pytest.approx(means, abs=1e-12)


def test_a_small_difference_of_two_long_responses_survives_float32():
    """1,000 tokens of -0.8 nats, each 2^-20 apart: sums near -800 have steps of 6e-5, so their difference would too."""
    gap = 2.0**-20
    policy, reference = (make_batch([[value] * 1000], [[0.0]], torch.float32).policy for value in (-0.8 + gap, -0.8))
    exact = (policy.token.double() - reference.token.double()).sum().item()
    assert log_ratio(policy, reference).item() == pytest.approx(exact, rel=1e-6)


def test_the_reference_is_a_constant():
    batch = make_batch()
    log_ratio(batch.policy, batch.reference).sum().backward()
    assert batch.policy.token.grad is not None
    assert batch.reference.token.grad is None


def test_other_rows_are_refused():
    one, other = make_batch().policy, make_batch([[-1.0, -1.0]] * 4).policy
    with pytest.raises(ValueError, match=r"shape \(4, 4\), the reference \(4, 2\): they must score the same rows"):
        log_ratio(one, other)


def test_a_reference_in_float32_leaves_float64_alone():
    batch = make_batch()
    assert log_ratio(batch.policy, make_batch(dtype=torch.float32).reference).dtype == torch.float64
