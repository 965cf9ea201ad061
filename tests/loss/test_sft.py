import pytest
from torch.testing import assert_close

from dpo_lab.loss import sft
from tests.loss.batch import by_decision, gradient, make_batch, reduce

# Chosen are row 0 (log-probs -1 - 0.5 - 2 = -3.5, 3 tokens) and row 3 (-0.2 - 0.4 - 1.1 - 2.3 = -4, 4 tokens).


def test_token_by_hand():
    """(3.5 + 4) / (3 + 4) tokens = 1.071429; each of the 7 tokens has gradient -1/7."""
    batch = make_batch()
    output = sft(batch.policy, batch.pairs[:, 0], normalization="token")
    assert_close(output.loss.tolist(), [3.5 / 3, 4 / 4], atol=1e-12, rtol=0)
    assert output.weight.tolist() == [3.0, 4.0]
    assert reduce(output).item() == pytest.approx(7.5 / 7, abs=1e-12)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-1 / 7, 0, 0, -1 / 7]), atol=1e-12, rtol=0)


def test_sequence_mean_by_hand():
    """(3.5 / 3 + 4 / 4) / 2 = 1.083333; a token's gradient is -1/2 shared among 3, and among 4."""
    batch = make_batch()
    output = sft(batch.policy, batch.pairs[:, 0], normalization="sequence_mean")
    assert output.weight.tolist() == [1.0, 1.0]
    assert reduce(output).item() == pytest.approx(13 / 12, abs=1e-12)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-1 / 6, 0, 0, -1 / 8]), atol=1e-12, rtol=0)


def test_sequence_sum_by_hand():
    """(3.5 + 4) / 2 = 3.75; every token of a chosen response has gradient -1/2."""
    batch = make_batch()
    output = sft(batch.policy, batch.pairs[:, 0], normalization="sequence_sum")
    assert output.weight.tolist() == [1.0, 1.0]
    assert reduce(output).item() == pytest.approx(3.75, abs=1e-12)
    assert_close(gradient(reduce(output), batch.policy), by_decision([-0.5, 0, 0, -0.5]), atol=1e-12, rtol=0)


def test_defines_no_reward():
    batch = make_batch()
    assert sft(batch.policy, batch.pairs[:, 0]).reward is None
