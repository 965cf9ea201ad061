"""The moving reference: where it goes, when, and that it comes back from a checkpoint."""

import copy
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.errors import UserError
from dpo_lab.loss.ipo import ipo
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.tiny import tiny
from dpo_lab.module import PreferenceModule
from dpo_lab.needs import Objective, Term
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.reference.ema import EmaReference, ema
from dpo_lab.reference.frozen import frozen
from dpo_lab.run.checkpoint import load
from tests.small import SMALL, run_train, small_loader, small_policy, train_module

OBJECTIVE = Objective((Term("ipo", ipo),))


def set_all(policy: CausalLM, value: float) -> None:
    with torch.no_grad():
        for tensor in policy.parameters():
            tensor.fill_(value)


def values(reference: EmaReference) -> set[float]:
    return {float(value) for tensor in reference.state().values() for value in tensor.unique()}


def train(num_steps: int, checkpoint: Path | None = None, **knobs: Any) -> PreferenceModule:
    """Four pairs a step in two micro-batches; the seed of the policy moves nothing but its own weights."""
    policy = small_policy(seed=1)
    reference = ema(policy, **{"decay": 0.5, "every": 1, **knobs})
    loader = small_loader(policy, 16, global_batch_size=4, micro_batch_size=2)
    factory = partial(adamw, num_steps=4, lr=1e-2)
    return train_module(
        policy, reference, OBJECTIVE, loader, num_steps=num_steps, make_optimizer=factory, checkpoint=checkpoint
    )


def state_of(module: PreferenceModule) -> dict[str, torch.Tensor]:
    assert isinstance(module.reference, EmaReference)
    return module.reference.state()


def test_two_moves_by_hand():
    """Decay 0.75, from 1, policy at 3 and then at 5: 0.75 + 0.75 = 1.5, then 1.125 + 1.25 = 2.375."""
    policy = small_policy()
    set_all(policy, 1.0)
    reference = ema(policy, decay=0.75)
    set_all(policy, 3.0)
    reference.follow(policy, 1)
    assert values(reference) == {1.5}
    set_all(policy, 5.0)
    reference.follow(policy, 2)
    assert values(reference) == {2.375}


def test_it_moves_after_every_nth_step_alone():
    """`every` 3, hard sync, policy at 1, 2, ... after its updates: a copy after updates 3 and 6."""
    policy = small_policy()
    set_all(policy, 0.0)
    reference = ema(policy, decay=0.0, every=3)
    seen = []
    for step in range(1, 8):
        set_all(policy, float(step))
        reference.follow(policy, step)
        seen.append(values(reference))
    assert seen == [{0.0}, {0.0}, {3.0}, {3.0}, {3.0}, {6.0}, {6.0}]


def test_starts_as_the_policy_and_hard_sync_is_a_copy_to_the_last_bit():
    policy = small_policy(seed=1)
    reference = ema(policy, decay=0.0)
    assert reference.fingerprint() == policy.fingerprint()
    other = small_policy(seed=2)
    reference.follow(other, 1)
    assert reference.fingerprint() == other.fingerprint() != policy.fingerprint()
    (batch,) = next(iter(small_loader(policy)))
    assert torch.equal(reference.log_prob(batch.inputs, batch.key).token, other.log_prob(batch.inputs).token.detach())
    assert torch.equal(reference.log_prob_and_choices(batch.inputs)[0].mask, other.decision_mask(batch.inputs))
    assert reference.num_forward_passes == 2


def test_sees_neither_training_mode_nor_gradients():
    policy = small_policy(dropout=0.5).train()
    reference = ema(policy)
    (batch,) = next(iter(small_loader(policy)))
    policy.train()
    first = reference.log_prob(batch.inputs)
    assert torch.equal(first.token, reference.log_prob(batch.inputs).token)
    assert not first.token.requires_grad
    assert all(tensor.requires_grad for tensor in policy.parameters())


def test_averages_are_wide_where_weights_are_not():
    """1000 moves of 0.1 % of the way from 1 to 2 reach 2 - 0.999^1000 = 1.632; in bfloat16 each would round to none."""
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260, dtype="bfloat16")
    set_all(policy, 1.0)
    reference = ema(policy, decay=0.999)
    set_all(policy, 2.0)
    for step in range(1, 1001):
        reference.follow(policy, step)
    (average,) = {round(value, 3) for value in values(reference)}
    assert average == pytest.approx(2 - 0.999**1000, abs=2e-3)
    assert {tensor.dtype for tensor in reference.state().values()} == {torch.float32}
    held = reference._policy
    assert {tensor.dtype for tensor in held.parameters()} == {torch.bfloat16}
    assert next(held.parameters()).flatten()[0] == torch.tensor(average, dtype=torch.bfloat16)


def test_the_step_follows_after_its_update():
    """Hard sync after every step: the reference is the policy as it is when training ends."""
    module = train(2, decay=0.0)
    assert module.reference is not None
    assert module.reference.fingerprint() == module.policy.fingerprint() != small_policy(seed=1).fingerprint()
    still = train(2, decay=0.0, every=3)
    assert still.reference is not None
    assert still.reference.fingerprint() == small_policy(seed=1).fingerprint()


@pytest.mark.parametrize("knobs", [{}, {"decay": 0.0, "every": 3}], ids=["soft", "hard"])
def test_exact_resume(tmp_path: Path, knobs: dict[str, Any]):
    """Four steps in one go, and two steps, a checkpoint and two more: the same policy and reference, bit for bit."""
    whole = train(4, **knobs)
    train(2, **knobs).trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = train(4, tmp_path / "half.ckpt", **knobs)
    for name, tensor in whole.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], tensor)
    for name, tensor in state_of(whole).items():
        assert torch.equal(state_of(resumed)[name], tensor)
    moved = (tensor - dict(small_policy(seed=1).named_parameters())[name] for name, tensor in state_of(whole).items())
    assert any(bool(tensor.any()) for tensor in moved)


def test_it_alone_is_in_checkpoints(tmp_path: Path):
    moving = train(1)
    moving.trainer.save_checkpoint(tmp_path / "ema.ckpt")
    state = load(tmp_path / "ema.ckpt")["reference_state"]
    assert set(state) == set(dict(moving.policy.named_parameters()))
    policy = small_policy(seed=1)
    still = train_module(policy, frozen(small_policy(seed=2)), OBJECTIVE, small_loader(policy))
    still.trainer.save_checkpoint(tmp_path / "frozen.ckpt")
    checkpoint = load(tmp_path / "frozen.ckpt")
    assert checkpoint["reference_state"] is None
    assert checkpoint["reference"] == small_policy(seed=2).fingerprint()


def test_a_checkpoint_made_beside_another_reference_is_refused(tmp_path: Path):
    policy = small_policy(seed=1)
    made = train_module(policy, frozen(small_policy(seed=2)), OBJECTIVE, small_loader(policy))
    made.trainer.save_checkpoint(tmp_path / "made.ckpt")
    for reference in (frozen(small_policy(seed=3)), None, ema(policy)):
        objective = OBJECTIVE
        again = small_policy(seed=1)
        with pytest.raises(UserError, match="made beside another reference"):
            train_module(
                again, reference, objective, small_loader(again), num_steps=2, checkpoint=tmp_path / "made.ckpt"
            )


def test_it_can_be_moved():
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260, dtype="bfloat16")
    reference = ema(copy.deepcopy(policy))
    reference.to(torch.device("meta"))
    assert {tensor.device.type for tensor in reference.state().values()} == {"meta"}
    assert {tensor.device.type for tensor in reference._policy.parameters()} == {"meta"}


def test_a_moving_reference_takes_no_cache():
    from dpo_lab.config.signature import read_target

    assert set(read_target(ema).knobs) == {"decay", "every"}


def test_a_run_with_a_copy_after_every_step():
    """The reference is then the policy itself: the last validation finds no margin, though weights have moved."""
    run = run_train(*SMALL, "reference=ema", "reference.decay=0", "trainer.max_steps=2", "optimizer.lr=1e-2")
    assert run.metrics[-1]["val/rewards/margins"] == 0
    assert run.metrics[-1]["train/rewards/margins"] == 0
    other = run_train(*SMALL, "trainer.max_steps=2", "optimizer.lr=1e-2")
    assert other.metrics[-1]["val/rewards/margins"] != 0
