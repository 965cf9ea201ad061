from functools import partial
from typing import Any

import pytest
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.loss import bco, hinge, kto, modified, odpo, plackett_luce, rpo, sft, simpo
from dpo_lab.needs import LossFunction
from dpo_lab.types import LossOutput
from tests.loss.batch import gradient, make_batch, total

BASE = partial(hinge, beta=1.25)


def call(base: LossFunction = BASE, **modifiers: Any) -> LossOutput:
    [output] = modified(base=base, **modifiers)(make_batch().ingredients()).values()
    return output


def test_label_smoothing_by_hand():
    """Margins 0.7 and 0.9: hinge 0.125 and 0, the other way round 1.875 and 2.125.

    0.8 * 0.125 + 0.2 * 1.875 = 0.475; 0.2 * 2.125 = 0.425.
    """
    assert call(label_smoothing=0.2).loss.tolist() == pytest.approx([0.475, 0.425])


def test_confidence_by_hand():
    """Log-probs per token -3.5 / 3, -0.7, -1.55 and -1, each plus 0.5: a collision is as likely as exp(-0.5).

    exp(-3.5 / 3 - 0.7 + 1) = 0.420350, times 0.125 = 0.052544. The second pair has no loss to weigh.
    """
    assert call(confidence=True).loss.tolist() == pytest.approx([0.052544, 0.0], abs=1e-6)


def test_tails_by_hand():
    """Row 0 beside a response of one token: 0.2 + 0.5 * (-0.1 + 0.5) = 0.4, margin 0.4 + 0.1, so 1 - 0.625 = 0.375.

    Row 3 beside two tokens: 0.1 + 0.4 + 0.5 * (-0.1 - 0.3) = 0.3, margin 0.3 + 0.8, beyond the kink. Rewards are 1.25
    times 0.4, -0.1, -0.8 and 0.3.
    """
    output = call(alpha=0.5)
    assert output.loss.tolist() == pytest.approx([0.375, 0.0])
    assert output.reward is not None
    assert output.reward.tolist() == pytest.approx([0.5, -0.125, -1.0, 0.375])


def test_all_three_by_hand():
    """0.420350 (0.8 * 0.375 + 0.2 * 1.625) = 0.262719; exp(-1 - 1.55 + 1) = 0.212248, times 0.2 * 2.375 = 0.100818.

    The slope at the first token of row 0 is that of its margin, 0.420350 * 1.25 (-0.8 + 0.2) = -0.315263, halved by the
    average over two pairs; a token of its tail has half of it.
    """
    modifiers: Any = {"label_smoothing": 0.2, "confidence": True, "alpha": 0.5}
    assert call(**modifiers).loss.tolist() == pytest.approx([0.262719, 0.100818], abs=1e-6)
    batch = make_batch()
    slopes = gradient(total(modified(base=BASE, **modifiers), batch), batch.policy)[0].tolist()
    assert slopes == pytest.approx([-0.157631, -0.078816, -0.078816, 0.0], abs=1e-6)


def test_with_the_defaults_nothing_is_modified():
    batch = make_batch()
    plain = hinge(batch.policy, batch.reference, batch.pairs, beta=1.25)
    output = call()
    assert_close(output.loss, plain.loss, atol=0, rtol=0)
    assert output.reward is not None and plain.reward is not None
    assert_close(output.reward, plain.reward, atol=0, rtol=0)


def test_needs_are_those_of_the_base_and_of_the_modifiers():
    assert modified(base=simpo, label_smoothing=0.1).needs == {"policy", "pairs"}
    assert modified(base=simpo, confidence=True).needs == {"policy", "pairs", "policy_stats"}


@pytest.mark.parametrize("base", [kto, bco, odpo, plackett_luce, sft, rpo])
def test_what_is_no_function_of_two_responses_alone_is_refused(base: LossFunction):
    named = f"{base.__name__} takes no modifier .*Losses that take them: alphapo, .*hinge, ipo"
    with pytest.raises(UserError, match=rf"loss\.base: {named}"):
        modified(base=base, label_smoothing=0.1)
