"""One optimizer step: the gradient of a window does not depend on how the window is computed."""

import copy
from functools import partial
from pathlib import Path

import pytest
import torch

from dpo_lab.loss.aot import aot
from dpo_lab.loss.bco import bco
from dpo_lab.loss.hinge import hinge
from dpo_lab.loss.ipo import ipo
from dpo_lab.loss.sft import sft
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.module import PreferenceModule
from dpo_lab.needs import Objective, Term
from dpo_lab.non_finite import NonFiniteError
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.reference.frozen import frozen
from dpo_lab.types import LossOutput
from tests.small import small_loader, small_policy, train_module

OBJECTIVES = {
    "sigmoid": Objective((Term("sigmoid", sigmoid),)),
    "ipo": Objective((Term("ipo", ipo),)),
    "hinge": Objective((Term("hinge", hinge),)),
    "sft": Objective((Term("sft", sft),)),
    "mix": Objective((Term("preference", sigmoid, 1.0), Term("penalty", sft, 0.3))),
}


def gradients(name: str, *, num_pairs: int, micro_batch_size: int | None) -> dict[str, torch.Tensor]:
    """Gradient of the first window, read just before the update; policy and reference differ, so that nothing is 0."""
    policy = small_policy(seed=1)
    objective = OBJECTIVES[name]
    reference = frozen(small_policy(seed=2)) if "reference" in objective.needs else None
    loader = small_loader(policy, num_pairs, micro_batch_size=micro_batch_size)
    found: dict[str, torch.Tensor] = {}

    class Keep(torch.optim.SGD):
        def step(self, closure=None):
            found.update(
                {key: value.grad.clone() for key, value in policy.named_parameters() if value.grad is not None}
            )

    def make_optimizer(model):
        optimizer = Keep(model.parameters(), lr=0.0)
        return optimizer, torch.optim.lr_scheduler.ConstantLR(optimizer)

    train_module(policy, reference, objective, loader, make_optimizer=make_optimizer)
    return found


@pytest.mark.parametrize("name", OBJECTIVES)
@pytest.mark.parametrize(("num_pairs", "micro_batch_sizes"), [(8, (4, 2, 1)), (7, (3, 2))], ids=["whole", "ragged"])
def test_gradient_does_not_depend_on_micro_batches(name: str, num_pairs: int, micro_batch_sizes: tuple[int, ...]):
    """1 x 8, 2 x 4, 4 x 2 and 8 x 1, and a ragged window of 7 as 3 + 3 + 1: the same to 1e-6 of the gradient's norm."""
    whole = gradients(name, num_pairs=num_pairs, micro_batch_size=None)
    assert any(float(gradient.abs().max()) > 1e-4 for gradient in whole.values())
    for size in micro_batch_sizes:
        split = gradients(name, num_pairs=num_pairs, micro_batch_size=size)
        gap = torch.stack([(split[key] - gradient).norm() for key, gradient in whole.items()]).norm()
        assert gap <= 1e-6 * torch.stack([gradient.norm() for gradient in whole.values()]).norm()


def test_gradient_is_that_of_the_plain_formula():
    """The step's gradient equals backward through mean(-log sigmoid(beta h)) written out over the whole window."""
    policy, reference = small_policy(seed=1), small_policy(seed=2)
    (batch,) = next(iter(small_loader(policy)))
    chosen, rejected = batch.pairs[:, 0], batch.pairs[:, 1]
    with torch.no_grad():
        other = reference.log_prob(batch.inputs).sum()
    ratio = policy.log_prob(batch.inputs).sum() - other
    torch.log(1 + torch.exp(-0.1 * (ratio[chosen] - ratio[rejected]))).mean().backward()
    found = gradients("sigmoid", num_pairs=8, micro_batch_size=3)
    for key, tensor in policy.named_parameters():
        torch.testing.assert_close(found[key], tensor.grad, rtol=1e-4, atol=1e-6)


def test_last_window_of_an_epoch_weighs_its_own_pairs():
    """10 pairs in windows of 8: the second update is the mean over 2 pairs, as if they were a batch of their own."""
    policy = small_policy(seed=1)
    loader = small_loader(policy, 10)
    module = train_module(policy, frozen(small_policy(seed=2)), OBJECTIVES["sigmoid"], loader, num_steps=2)
    assert module.last_tally.count("rewards/margins") == 2


def test_reference_is_bit_identical_after_training():
    policy = small_policy(seed=1)
    reference = frozen(policy)
    before, first = reference.fingerprint(), policy.fingerprint()
    train_module(policy, reference, OBJECTIVES["sigmoid"], small_loader(policy), num_steps=5)
    assert reference.fingerprint() == before
    assert policy.fingerprint() != first


def test_module_holds_no_reference_weights():
    """Neither the state that checkpoints save nor the parameters that an optimizer could take."""
    policy = small_policy(seed=1)
    module = train_module(policy, frozen(policy), OBJECTIVES["sigmoid"], small_loader(policy))
    assert {name.split(".")[0] for name in module.state_dict()} == {"policy"}
    assert sum(1 for _ in module.parameters()) == sum(1 for _ in policy.parameters())


def test_clipping_bounds_the_gradient_and_reports_the_norm_before():
    policy, twin = small_policy(seed=1), small_policy(seed=1)
    reference = frozen(small_policy(seed=2))
    free = train_module(policy, reference, OBJECTIVES["ipo"], small_loader(policy))
    clipped = train_module(twin, reference, OBJECTIVES["ipo"], small_loader(twin), clip_norm=0.5)
    norm = free.last_tally.means()["grad_norm"]
    assert norm > 0.5
    assert clipped.last_tally.means()["grad_norm"] == pytest.approx(norm)


def test_a_large_gradient_is_clipped_and_not_taken_for_infinite():
    """Of 1e25: a float32 whose square is none. Its direction is that of the gradient of the loss itself."""
    (policy, twin), size = (small_policy(seed=1), small_policy(seed=1)), 1e25

    def large(policy, pairs) -> LossOutput:
        loss = size * (policy.sum()[pairs[:, 1]] - policy.sum()[pairs[:, 0]])
        return LossOutput(loss, torch.ones_like(loss))

    def plain(policy, pairs) -> LossOutput:
        return LossOutput(large(policy, pairs).loss / size, torch.ones(len(pairs)))

    found = []
    for model, loss in ((policy, large), (twin, plain)):
        objective = Objective((Term("only", loss),))
        module = train_module(model, None, objective, small_loader(model), lr=1e-2, clip_norm=0.5)
        found.append(module.last_tally.means()["grad_norm"])
    assert found[0] == pytest.approx(size * found[1], rel=1e-4)
    for name, value in twin.state_dict().items():
        torch.testing.assert_close(policy.state_dict()[name], value, atol=1e-5, rtol=1e-3)


def test_validation_changes_nothing():
    policy = small_policy(seed=1)
    module = train_module(policy, frozen(policy), OBJECTIVES["sigmoid"], small_loader(policy))
    before = copy.deepcopy(policy.state_dict())
    state = torch.get_rng_state()
    with torch.no_grad():
        rows = module.validation_step(next(iter(small_loader(policy))), 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(torch.equal(policy.state_dict()[name], tensor) for name, tensor in before.items())
    assert rows[0]["role"].tolist() == [1, 0] * 8


def test_scores_of_training_and_validation_are_one_function():
    """The loss that validation reports on a window is the loss that training reports on it before its update."""
    policy = small_policy(seed=1)
    reference = frozen(small_policy(seed=2))
    twin = small_policy(seed=1)
    trained = train_module(twin, reference, OBJECTIVES["sigmoid"], small_loader(twin))
    module = train_module(policy, reference, OBJECTIVES["sigmoid"], small_loader(policy), lr=1e-30)
    with torch.no_grad():
        module.validation_step(next(iter(small_loader(policy))), 0)
    assert module.last_tally.means()["loss/sigmoid"] == pytest.approx(
        trained.last_tally.means()["loss/sigmoid"], rel=1e-6
    )


def test_state_of_a_loss_is_saved_and_restored(tmp_path: Path):
    """Four steps in one go, and two steps, a checkpoint and two more: the same running means and the same weights."""
    reference = frozen(small_policy(seed=2))
    objective = Objective((Term("bco", bco),))

    def train(num_steps: int, checkpoint: Path | None = None) -> PreferenceModule:
        policy = small_policy(seed=1)
        loader = small_loader(policy, 16, global_batch_size=4, micro_batch_size=2)
        factory = partial(adamw, num_steps=4, lr=1e-2)
        return train_module(
            policy, reference, objective, loader, num_steps=num_steps, make_optimizer=factory, checkpoint=checkpoint
        )

    whole = train(4)
    half = train(2)
    half.trainer.save_checkpoint(tmp_path / "half.ckpt")
    resumed = train(4, tmp_path / "half.ckpt")
    assert half.loss_states["bco"]["chosen_count"] == 8
    assert whole.loss_states["bco"]["chosen_count"] == 16
    for name, value in whole.loss_states["bco"].items():
        assert torch.equal(resumed.loss_states["bco"][name], value)
    for name, value in whole.policy.state_dict().items():
        assert torch.equal(resumed.policy.state_dict()[name], value)


def test_validation_leaves_the_state_of_a_loss_alone():
    policy = small_policy(seed=1)
    module = train_module(policy, frozen(policy), Objective((Term("bco", bco),)), small_loader(policy))
    before = module.loss_states
    with torch.no_grad():
        module.validation_step(next(iter(small_loader(policy))), 0)
    assert module.loss_states is before


def test_a_loss_that_sees_the_whole_batch_is_validated_on_the_whole_window():
    """Two micro-batches are scored as one: the sort of `aot` runs over all eight pairs."""
    policy, reference = small_policy(seed=1), frozen(small_policy(seed=2))
    objective = Objective((Term("aot", aot),))
    losses = []
    for size in (None, 3):
        module = train_module(policy, reference, objective, small_loader(policy), lr=1e-30)
        with torch.no_grad():
            rows = module.validation_step(next(iter(small_loader(policy, micro_batch_size=size))), 0)
        losses.append(module.last_tally.means()["loss/aot"])
        assert sum(len(part["key"]) for part in rows) == 16
    assert losses[0] == pytest.approx(losses[1], rel=1e-6)


def test_shares_of_the_terms_are_recorded_and_do_not_depend_on_micro_batches():
    found = []
    for size in (None, 3):
        policy = small_policy(seed=1)
        loader = small_loader(policy, micro_batch_size=size)
        module = train_module(policy, frozen(small_policy(seed=2)), OBJECTIVES["mix"], loader)
        found.append({name: value for name, value in module.last_tally.means().items() if "share" in name})
    assert found[0] == pytest.approx(found[1], rel=1e-5)
    assert sum(found[0].values()) == pytest.approx(1)
    assert min(found[0].values()) > 0.01


def test_non_finite_gradient_stops_before_the_update():
    policy = small_policy(seed=1)
    reference = frozen(policy)
    with torch.no_grad():
        next(policy.parameters()).view(-1)[-1] = float("nan")
    with pytest.raises(NonFiniteError, match="optimizer step 1"):
        train_module(policy, reference, OBJECTIVES["sigmoid"], small_loader(policy))


def test_bf16_mixed_keeps_float32_weights_and_log_probs():
    policy: CausalLM = small_policy(seed=1)
    module = train_module(
        policy, frozen(policy), OBJECTIVES["sigmoid"], small_loader(policy), num_steps=2, precision="bf16-mixed"
    )
    assert {tensor.dtype for tensor in policy.parameters()} == {torch.float32}
    with torch.autocast("cpu", dtype=torch.bfloat16), torch.no_grad():
        (batch,) = next(iter(small_loader(policy)))
        assert module.policy.log_prob(batch.inputs).token.dtype == torch.float32
