"""The policy without its adapter: the right numbers, and nothing of the policy is disturbed."""

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.config import cross
from dpo_lab.errors import UserError
from dpo_lab.loss.ipo import ipo
from dpo_lab.model import grouped_scoring
from dpo_lab.model.adapter import Adapter
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.needs import Objective, Term
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.reductions import sequential_kl
from dpo_lab.reference.adapter_off import AdapterOffReference, adapter_off
from dpo_lab.reference.frozen import frozen
from dpo_lab.reference.reference import Reference
from dpo_lab.run.checkpoint import load
from dpo_lab.types import Encoded
from tests.model.architectures import write_model
from tests.model.tokenizers import SIZE
from tests.small import SMALL, run_train, small_loader, small_policy, train_module, weights_of

GROUPS = [Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2))), Encoded((1,), ((5, 6),))]
OBJECTIVE = Objective((Term("ipo", ipo),))


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    return lambda name: write_model(tmp_path_factory.mktemp(name), name)


@pytest.fixture(scope="module")
def llama(folder: Callable[[str], Path]) -> Path:
    return folder("llama")


def adapter_of(policy: CausalLM) -> Adapter:
    assert policy.adapter is not None
    return policy.adapter


def disturbed(path: Path, seed: int = 7, **knobs: Any) -> CausalLM:
    """A policy whose adapter changes its numbers."""
    policy = causal_lm(path=str(path), lora_rank=2, **knobs)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for tensor in adapter_of(policy).tensors().values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return policy


@pytest.fixture(scope="module")
def trained(llama: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder of an adapter that was trained before."""
    path = tmp_path_factory.mktemp("adapter")
    disturbed(llama, lora_export="adapter").export(path)
    return path


def score(scorer: CausalLM | Reference, policy: CausalLM) -> Tensor:
    return scorer.log_prob(policy.collate(GROUPS)).token.detach()


@pytest.mark.parametrize("name", ["llama", "gemma2", "gpt2", "mixtral"])
def test_gives_the_numbers_of_the_base_model(name: str, folder: Callable[[str], Path]):
    path = folder(name)
    plain, policy = causal_lm(path=str(path)), disturbed(path)
    reference = adapter_off(policy)
    torch.testing.assert_close(score(reference, policy), score(frozen(plain), policy), rtol=0, atol=1e-6)
    assert not torch.equal(score(policy, policy), score(reference, policy))
    assert reference.fingerprint() == plain.fingerprint(), "so both find the same log-probs in a cache"
    one, other = reference, frozen(plain)
    inputs = policy.collate(GROUPS)
    mine, theirs = (each.log_prob_and_choices(inputs)[1].dense() for each in (one, other))
    torch.testing.assert_close(mine, theirs, rtol=0, atol=1e-6)


def test_distributions_that_are_made_later_are_made_without_the_adapter(
    folder: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
):
    """Logits of two decisions at a time, of which none are made before the adapter is on again."""
    path = folder("qwen3")
    monkeypatch.setattr(grouped_scoring, "HEAD_BYTES", 2 * 4 * SIZE)
    plain, policy = causal_lm(path=str(path)), disturbed(path)
    inputs = policy.collate(GROUPS)
    log_probs, own = policy.log_prob_and_choices(inputs)
    _, found = adapter_off(policy).log_prob_and_choices(inputs)
    _, expected = frozen(plain).log_prob_and_choices(inputs)
    mask = log_probs.mask
    assert_close(found.dense()[mask], expected.dense()[mask], rtol=0, atol=1e-6)
    assert_close(sequential_kl(found, own), sequential_kl(expected, own), rtol=0, atol=1e-5)
    assert sequential_kl(found, own).min() > 1e-3
    assert policy.training


def test_leaves_the_policy_as_it_was(llama: Path):
    """Modes that differ from module to module, a factor that is not trained, and what the policy says."""
    policy = disturbed(llama, lora_dropout=0.5)
    adapter_of(policy)
    odd = next(iter(adapter_of(policy).tensors().values()))
    odd.requires_grad_(False)
    policy.model.model.norm.eval()
    modes = [module.training for module in policy.modules()]
    takes = [tensor.requires_grad for tensor in policy.parameters()]
    places = [id(tensor) for tensor in policy.parameters()]
    assert any(modes) and not all(modes) and any(takes)
    weights = copy.deepcopy(policy.state_dict())
    for start in (None, "adapter"):
        reference = adapter_off(policy, start=start)
        first, again = score(reference, policy), score(reference, policy)
        assert torch.equal(first, again), "dropout is on"
        assert [module.training for module in policy.modules()] == modes
        assert [tensor.requires_grad for tensor in policy.parameters()] == takes
        assert [id(tensor) for tensor in policy.parameters()] == places
        assert all(torch.equal(tensor, weights[name]) for name, tensor in policy.state_dict().items())


def test_an_error_inside_leaves_the_policy_as_it_was(llama: Path):
    policy = disturbed(llama)
    before = score(policy, policy)
    for start in (None, "adapter"):
        with pytest.raises(KeyError):
            adapter_off(policy, start=start).log_prob({})
        assert torch.equal(score(policy, policy), before)
        assert all(tensor.requires_grad for tensor in adapter_of(policy).tensors().values())
        assert policy.training


@pytest.mark.parametrize("start", [None, "adapter"])
@pytest.mark.parametrize("knobs", [{}, {"gradient_checkpointing": True}, {"attention": "padded"}])
def test_asked_between_forward_and_backward_it_changes_no_gradient(llama: Path, start: Any, knobs: dict[str, Any]):
    """The graph of the policy is alive while the reference runs on the same modules."""
    found = []
    for asks in (False, True):
        policy = disturbed(llama, **knobs)
        reference = adapter_off(policy, start=start)
        token = policy.log_prob(policy.collate(GROUPS)).token
        if asks:
            score(reference, policy)
        (token.sum() ** 2).backward()
        found.append({name: tensor.grad for name, tensor in adapter_of(policy).tensors().items()})
    for name, gradient in found[0].items():
        assert gradient is not None and gradient.any()
        assert torch.equal(found[1][name], gradient)


@pytest.mark.parametrize("micro_batch_size", [None, 2])
@pytest.mark.parametrize("start", ["base", "adapter"])
def test_training_equals_training_beside_a_frozen_copy(llama: Path, start: Any, micro_batch_size: int | None):
    """Three updates: the same weights as with a second model as reference, to 1e-6; the reference stays."""
    ends = []
    for held in (False, True):
        policy = disturbed(llama)
        if held and start == "base":
            reference = frozen(causal_lm(path=str(llama)))
        else:
            reference = frozen(policy) if held else adapter_off(policy, start=start)
        before = reference.fingerprint()
        loader = small_loader(policy, 8, global_batch_size=4, micro_batch_size=micro_batch_size)
        factory = partial(adamw, num_steps=3, lr=1e-3, eps=1e-3)
        train_module(policy, reference, OBJECTIVE, loader, num_steps=3, make_optimizer=factory)
        assert reference.fingerprint() == before
        ends.append({name: tensor.detach() for name, tensor in adapter_of(policy).tensors().items()})
    first = {name: tensor.detach() for name, tensor in adapter_of(disturbed(llama)).tensors().items()}
    assert max(float((ends[0][name] - tensor).abs().max()) for name, tensor in first.items()) > 1e-4
    for name, tensor in ends[1].items():
        torch.testing.assert_close(ends[0][name], tensor, rtol=0, atol=1e-6)


def test_start_says_which_of_two_references_it_is(trained: Path, llama: Path):
    policy = causal_lm(path=str(trained))
    with pytest.raises(UserError, match=r"reference.start=base .* or reference.start=adapter"):
        adapter_off(policy)
    first, untouched = score(policy, policy), causal_lm(path=str(trained))
    base, start = adapter_off(policy, start="base"), adapter_off(policy, start="adapter")
    with torch.no_grad():
        for tensor in adapter_of(policy).tensors().values():
            tensor.add_(0.1)
    torch.testing.assert_close(score(base, policy), score(causal_lm(path=str(llama)), policy), rtol=0, atol=1e-6)
    torch.testing.assert_close(score(start, policy), first, rtol=0, atol=1e-6)
    assert start.fingerprint() == untouched.fingerprint() != policy.fingerprint()
    assert base.fingerprint() == causal_lm(path=str(llama)).fingerprint()


def test_without_an_adapter_it_is_refused():
    with pytest.raises(UserError, match=r"no adapter to switch off.*model.lora_rank.*reference=frozen"):
        adapter_off(small_policy())


def test_contradictions_are_found_before_anything_is_loaded(trained: Path, llama: Path):
    node = {"_target_": f"{adapter_off.__module__}.adapter_off", "start": None}

    def faults(model: dict[str, Any], reference: Any = node, start: Any = None) -> list[str]:
        return list(cross.adapter_is_there({"model": model, "reference": reference, "start": start}))

    assert cross.adapter_is_there in cross.CROSS_CHECKS
    [fault] = faults({"path": str(llama), "lora_rank": None})
    assert fault.startswith("reference=adapter_off: the policy has no adapter")
    [fault] = faults({"path": str(trained), "lora_rank": None})
    assert fault.startswith("reference.start: training starts from the adapter in")
    assert not faults({"path": str(trained), "lora_rank": None}, {**node, "start": "base"})
    assert not faults({"path": str(llama), "lora_rank": 4})
    assert not faults({"size": 3}), "another package's model may have an adapter of its own"
    assert not faults({"path": str(llama), "lora_rank": None}, {"_target_": "dpo_lab.reference.frozen.frozen"})
    [fault] = faults({"lora_rank": 4, "lora_export": "adapter"}, start={"seed": 0})
    assert fault.startswith("model.lora_export: the start changes the model below")
    assert not faults({"lora_rank": 4, "lora_export": "adapter"})


def test_what_is_kept_moves_with_the_policy(llama: Path):
    policy = disturbed(llama)
    reference = adapter_off(policy, start="adapter")
    assert isinstance(reference, AdapterOffReference)
    reference.to(torch.device("meta"))
    assert reference._start is not None
    assert {tensor.device.type for tensor in reference._start.values()} == {"meta"}
    assert {tensor.device.type for tensor in policy.parameters()} == {"meta"}


def test_base_and_start_share_the_cache_of_a_frozen_model(llama: Path, tmp_path: Path):
    """Log-probs that a whole model's reference left on disk are those that an adapter's reference asks for."""
    plain, policy = causal_lm(path=str(llama)), disturbed(llama)
    groups = [(GROUPS, torch.tensor([[1, 1], [2, 2], [3, 3]]).numpy())]
    first = frozen(plain, tmp_path).prepare(groups, say=lambda line: None)  # type: ignore[attr-defined]
    again = adapter_off(policy, tmp_path).prepare(groups, say=lambda line: None)  # type: ignore[attr-defined]
    assert (first.num_computed, again.num_computed, again.num_hits) == (3, 0, 3)
    assert again.num_verified == 2
    own = adapter_off(policy, tmp_path, start="adapter").prepare(groups, say=lambda line: None)  # type: ignore[attr-defined]
    assert own.num_computed == 3
    assert policy.training


def test_a_fresh_adapter_beside_a_frozen_copy_asks_for_the_rows_of_the_base_model(llama: Path, tmp_path: Path):
    """Whatever the seed of its random factor: the other factor is zero, so it changes no number."""
    groups = [(GROUPS, torch.tensor([[1, 1], [2, 2], [3, 3]]).numpy())]
    policies = [
        causal_lm(path=str(llama)),
        causal_lm(0, path=str(llama), lora_rank=2),
        causal_lm(1, path=str(llama), lora_rank=2),
        disturbed(llama),
    ]
    used = [frozen(policy, tmp_path).prepare(groups, say=lambda line: None) for policy in policies]  # type: ignore[attr-defined]
    assert [use.num_computed for use in used] == [3, 0, 0, 3]
    assert len({use.rows_hash for use in used[:3]}) == 1
    assert used[3].rows_hash != used[0].rows_hash


def test_a_run_with_an_adapter_ends_in_a_plain_model():
    run = run_train(*SMALL, "model.lora_rank=2", "reference=adapter_off", "trainer.max_steps=3", "optimizer.lr=1e-2")
    assert not [name for name in weights_of(run) if "lora" in name or "base_layer" in name]
    assert run.curve("train/rewards/margins")[1][0] == pytest.approx(0, abs=1e-5)
    assert run.metrics[-1]["val/rewards/margins"] != 0
    # A fresh adapter changes nothing, so the first batch shows whether the rows on disk are this reference's.
    assert run.curve("sanity/initial_log_ratio")[1][0] == pytest.approx(0, abs=1e-3)
    assert run.info["reference_cache"]["num_verified"] == 0
    (checkpoint,) = (run.path / "checkpoints").glob("*.ckpt")
    assert all("lora_" in name for name in load(checkpoint)["state_dict"])
