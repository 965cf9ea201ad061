"""Each check on the first updates stops, or warns about, the fault that it is for."""

import fnmatch

import pytest
import torch
from torch import Tensor

from dpo_lab.loss.hinge import hinge
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.policy import Inputs
from dpo_lab.needs import Objective, Term
from dpo_lab.reference.frozen import FrozenReference, frozen
from dpo_lab.reference.rounding import is_exact, same_within
from dpo_lab.start_checks import StartCheckError, StartChecks, WeightsBarelyMoveWarning
from dpo_lab.types import LogProbs
from tests.small import small_loader, small_policy, train_module

OBJECTIVE = Objective((Term("sigmoid", sigmoid),))


def checks(num_steps: int = 12, **changes) -> StartChecks:
    settings = {
        "reference_is_policy": True,
        "dropout": 0.0,
        "is_exact": True,
        "zero_gradient_ok": (),
        "num_steps": num_steps,
    }
    return StartChecks(**{**settings, **changes})


def train(policy: CausalLM, found: StartChecks, reference: CausalLM | None = None, *, num_steps: int = 12, lr=1e-3):
    loader = small_loader(policy, 24)
    return train_module(
        policy, frozen(reference or policy), OBJECTIVE, loader, num_steps=num_steps, lr=lr, callbacks=[found]
    )


def test_healthy_run_passes_and_is_recorded():
    found = checks()
    train(small_policy(), found)
    assert found.results["sanity/initial_log_ratio"] <= 1e-3
    assert found.results["sanity/num_tensors_without_gradient"] == 0
    assert found.results["sanity/fraction_weights_moved"] > 0.9


def test_reference_that_is_not_the_policy_is_noticed():
    with pytest.raises(StartCheckError, match="log-ratio of"):
        train(small_policy(seed=1), checks(), small_policy(seed=2))


def test_every_row_of_the_first_window_is_looked_at_and_no_pass_is_made_for_it():
    """24 pairs in micro-batches of 5: a reference that is off in the last rows alone is found, at 24 pairs asked."""
    policy = small_policy()
    reference, num_asked = frozen(policy), 0

    def off_at_the_end(inputs: Inputs, key: Tensor | None = None) -> LogProbs:
        nonlocal num_asked
        token, mask = FrozenReference.log_prob(reference, inputs, key)  # type: ignore[arg-type]
        num_asked += len(token) // 2
        return LogProbs(token - 0.01 * mask * (num_asked == 24), mask)

    reference.log_prob = off_at_the_end  # type: ignore[method-assign]
    loader = small_loader(policy, 24, global_batch_size=24, micro_batch_size=5)
    with pytest.raises(StartCheckError, match=r"tolerance 0\.001"):
        train_module(policy, reference, OBJECTIVE, loader, num_steps=1, callbacks=[checks(1)])
    assert num_asked == 24


def test_tolerance_of_bfloat16_grows_with_the_root_of_the_length():
    """0.05 nats a decision, 0.5 for 100: what rows of other batches may differ by, and what is no more rounding."""
    lengths = torch.tensor([1, 100])
    assert same_within(lengths, is_exact=True).tolist() == pytest.approx([1e-3, 1e-3])
    assert same_within(lengths, is_exact=False).tolist() == pytest.approx([0.05, 0.5])
    assert is_exact(precision="32-true", dtype="float32")
    assert not is_exact(precision="32-true", dtype="bfloat16")
    assert not is_exact(precision="bf16-mixed", dtype="float32")


def test_named_other_reference_is_not_checked():
    found = checks(reference_is_policy=False)
    train(small_policy(seed=1), found, small_policy(seed=2))
    assert "sanity/initial_log_ratio" not in found.results


def test_dropout_that_nobody_asked_for_is_noticed():
    """A policy whose attention drops out although the config says 0: the margin of step 0 is not zero."""
    policy = small_policy(dropout=0.5)
    with pytest.raises(StartCheckError, match="dropout"):
        train(policy, checks())


def test_dropout_that_was_asked_for_is_no_fault():
    found = checks(dropout=0.5)
    train(small_policy(dropout=0.5), found)
    assert "sanity/initial_log_ratio" not in found.results


def add_tensor(policy: CausalLM, *, used: bool) -> None:
    """A trainable tensor that the forward pass ignores, or multiplies by zero."""
    extra = torch.nn.Parameter(torch.ones(3))
    policy.register_parameter("extra", extra)
    if used:
        model_forward = policy.model.forward

        def forward(*args, **kwargs):
            output = model_forward(*args, **kwargs)
            output.logits = output.logits + 0.0 * extra.sum()
            return output

        policy.model.forward = forward


def test_tensor_that_backward_does_not_reach_is_named():
    policy = small_policy()
    reference = small_policy()
    add_tensor(policy, used=False)
    with pytest.raises(StartCheckError, match=r"does not reach 1 trainable tensors \(extra\)"):
        train(policy, checks(), reference)


def test_tensor_whose_gradient_is_always_zero_is_named():
    policy, reference = small_policy(attention="padded"), small_policy()
    add_tensor(policy, used=True)
    with pytest.raises(StartCheckError, match=r"gradient of exactly zero .* \(extra\)"):
        train(policy, checks(), reference)


def test_declared_exception_passes():
    policy, reference = small_policy(), small_policy()
    add_tensor(policy, used=True)
    found = checks(zero_gradient_ok=("ext*",))
    assert fnmatch.fnmatchcase("extra", "ext*")
    train(policy, found, reference)
    assert found.results["sanity/num_tensors_without_gradient"] == 1


def test_bf16_weights_with_small_steps_warn():
    """Steps of 5e-7 are below half a unit in the last place of most bfloat16 weights."""
    policy = small_policy()
    policy.model.to(torch.bfloat16)
    found = checks()
    with pytest.warns(WeightsBarelyMoveWarning, match="weights changed"):
        train(policy, found, lr=5e-7)
    assert found.results["sanity/fraction_weights_moved"] < 0.5


def test_a_loss_without_any_gradient_is_named_as_such():
    """A hinge whose margin is met by far from the first step on: nothing moves, and not for rounding."""

    def met(policy, pairs):
        return hinge(policy, policy, pairs)._replace(loss=0.0 * policy.sum()[pairs[:, 0]])

    policy, found = small_policy(), checks(reference_is_policy=False)
    with pytest.warns(WeightsBarelyMoveWarning, match="every gradient was exactly zero"):
        train_module(
            policy, None, Objective((Term("met", met),)), small_loader(policy), num_steps=12, callbacks=[found]
        )


def test_float32_weights_with_the_same_small_steps_move():
    found = checks()
    train(small_policy(), found, lr=5e-7)
    assert found.results["sanity/fraction_weights_moved"] > 0.9
