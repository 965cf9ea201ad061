from pathlib import Path

import pytest
import torch

from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.policy import Policy
from dpo_lab.model.tiny import tiny
from dpo_lab.reference.frozen import FrozenReference, frozen
from dpo_lab.reference.reference import Reference
from dpo_lab.types import Encoded, LogProbs

GROUP = Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2)))


def build(seed: int = 0, corpus: str = "a text", dropout: float = 0.0) -> CausalLM:
    return tiny([corpus], seed, hidden_size=16, num_layers=1, num_heads=2, vocab_size=262, dropout=dropout)


def score(scorer: object) -> LogProbs:
    inputs = build().collate([GROUP])
    return scorer.log_prob(inputs)  # type: ignore[attr-defined]


def held_by(reference: Reference) -> Policy:
    assert isinstance(reference, FrozenReference)
    return reference._policy


def test_equals_the_policy_that_it_was_made_from():
    """So that the margin at step 0 is zero to the last bit."""
    policy = build()
    reference = frozen(policy)
    assert torch.equal(score(reference).token, score(policy).token)
    assert torch.equal(score(reference).mask, score(policy).mask)
    assert reference.fingerprint() == policy.fingerprint()


def test_changing_the_policy_changes_nothing():
    """It is a deep copy: an optimizer that writes into the policy's tensors cannot reach it."""
    policy = build()
    reference = frozen(policy)
    before, fingerprint = score(reference).token, reference.fingerprint()
    optimizer = torch.optim.SGD(policy.parameters(), lr=10.0)
    score(policy).sum().sum().backward()
    optimizer.step()
    assert not torch.equal(score(policy).token, before)
    assert torch.equal(score(reference).token, before)
    assert reference.fingerprint() == fingerprint


def test_sees_neither_training_mode_nor_gradients():
    policy = build(dropout=0.5).train()
    reference = frozen(policy)
    policy.train()
    first, second = score(reference).token, score(reference).token
    assert torch.equal(first, second), "dropout is on"
    assert not first.requires_grad
    held = held_by(reference)
    assert not held.training
    assert not any(parameter.requires_grad for parameter in held.parameters())
    assert policy.training and all(parameter.requires_grad for parameter in policy.parameters())


def test_is_no_part_of_a_module_that_holds_it():
    """The optimizer, `.train()` and checkpoints go through the module tree."""
    module = torch.nn.Module()
    module.reference = frozen(build())  # type: ignore[assignment]
    assert list(module.modules()) == [module]
    assert module.state_dict() == {}


def test_another_named_model(tmp_path: Path):
    other = build(seed=1)
    other.export(tmp_path)
    reference = frozen(build(), path=str(tmp_path))
    assert torch.equal(score(reference).token, score(other).token)
    assert reference.fingerprint() == other.fingerprint() != build().fingerprint()
    assert not any(parameter.requires_grad for parameter in held_by(reference).parameters())


def test_another_tokenizer_is_refused(tmp_path: Path):
    build(corpus="zz zz zz").export(tmp_path)
    with pytest.raises(UserError, match=r"has another tokenizer than the policy, so their log-probabilities cannot"):
        frozen(build(), path=str(tmp_path))


def test_it_can_be_moved():
    reference = frozen(build())
    reference.to(torch.device("meta"))
    assert {parameter.device.type for parameter in held_by(reference).parameters()} == {"meta"}


def test_another_model_is_computed_the_way_that_is_forced(tmp_path: Path):
    """The way around a path that fails must lead around it for both."""
    build().export(tmp_path)
    forced = tiny(["a text"], 0, hidden_size=16, num_layers=1, num_heads=2, vocab_size=262)
    assert (forced.attention, forced.load_other(str(tmp_path)).attention) == ("shared", "shared")
    forced = CausalLM(
        forced.model,
        forced.encoder.tokenizer,
        dtype="float32",
        dropout=0.0,
        exported_dropout={},
        attention="padded",
    )
    assert forced.load_other(str(tmp_path)).attention == "padded"
