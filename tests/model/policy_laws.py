"""What holds for every policy, whatever a response is: laws that take a policy and some encoded examples."""

import fnmatch
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from dpo_lab.data.batch import response_keys
from dpo_lab.model.policy import Policy
from dpo_lab.reference.adapter_off import adapter_off
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import frozen
from dpo_lab.types import Encoded, LogProbs

ROUNDING = 2e-5
"""Nats that the same decision may differ by where it is computed beside other rows, in float32."""


def decisions(policy: Policy, groups: Sequence[Encoded]) -> list[list[float]]:
    """Log-probs of each response, in order, without padding."""
    with torch.no_grad():
        return unpadded(policy.log_prob(policy.collate(groups)))


def unpadded(log_probs: LogProbs) -> list[list[float]]:
    return [token[mask].tolist() for token, mask in zip(log_probs.token, log_probs.mask, strict=True)]


def singly(groups: Sequence[Encoded]) -> list[Encoded]:
    """Each response as a group of its own."""
    return [replace(group, responses=(response,)) for group in groups for response in group.responses]


def assert_same(found: list[list[float]], expected: list[list[float]], tolerance: float = ROUNDING) -> None:
    assert [len(row) for row in found] == [len(row) for row in expected]
    for ours, theirs in zip(found, expected, strict=True):
        assert ours == pytest.approx(theirs, abs=tolerance)


def company_and_order_change_nothing(policy: Policy, groups: Sequence[Encoded]) -> None:
    """Padding comes with company: each response alone, all in another order, and each prompt's in another order."""
    policy.eval()
    together = decisions(policy, groups)
    spread = [value for row in together for value in row]
    assert max(spread) - min(spread) > 0.05, "a policy this flat would hide a mix-up"
    assert_same([decisions(policy, [one])[0] for one in singly(groups)], together)
    assert_same(decisions(policy, singly(groups)[::-1])[::-1], together)
    turned = [replace(group, responses=group.responses[::-1]) for group in groups]
    number, expected = 0, []
    for group in groups:
        rows = together[number : number + len(group.responses)]
        number += len(rows)
        expected += rows[::-1]
    assert_same(decisions(policy, turned), expected)


def mask_covers_exactly_the_response(policy: Policy, groups: Sequence[Encoded], num_decisions: list[int]) -> None:
    """As many decisions as a response has, from the left on, known without the model, and zero elsewhere."""
    inputs = policy.collate(groups)
    log_probs = policy.log_prob(inputs)
    assert log_probs.mask.sum(1).tolist() == num_decisions
    assert log_probs.mask.tolist() == policy.decision_mask(inputs).tolist()
    first = torch.arange(log_probs.mask.shape[1])[None] < torch.tensor(num_decisions)[:, None]
    assert torch.equal(log_probs.mask, first)
    assert not log_probs.token[~log_probs.mask].any()
    assert (log_probs.token[log_probs.mask] < 0).all()
    assert log_probs.token.dtype == torch.float32


def the_whole_space_sums_to_one(policy: Policy, prompt: Encoded, answers: Sequence[tuple[int, ...]]) -> None:
    """`answers` are all that can be said, each once."""
    policy.eval()
    assert len(set(answers)) == len(answers)
    found = decisions(policy, [replace(prompt, responses=tuple(answers))])
    assert math.fsum(math.exp(sum(row)) for row in found) == pytest.approx(1, abs=1e-5)


def distribution_holds_what_was_decided(policy: Policy, groups: Sequence[Encoded]) -> None:
    """Same log-probs; a distribution at every decision, in which each of them is found."""
    policy.eval()
    with torch.no_grad():
        log_probs, distribution = policy.log_prob_and_distribution(policy.collate(groups))
    assert_same(unpadded(log_probs), decisions(policy, groups))
    assert distribution[log_probs.mask].logsumexp(-1).tolist() == pytest.approx(
        [0] * int(log_probs.mask.sum()), abs=1e-5
    )
    distance = (distribution - log_probs.token[..., None]).abs().amin(-1)
    assert float(distance[log_probs.mask].max()) < ROUNDING


def cached_equals_live(policy: Policy, groups: Sequence[Encoded], folder: Path) -> None:
    """What a reference keeps on disk is what it computes, looked up by key in batches of another shape."""
    live = decisions(policy.eval(), groups)
    reference = frozen(policy, folder)
    assert isinstance(reference, CachedReference)
    keys = np.array([key for group in groups for key in response_keys(group)])
    use = reference.prepare([(list(groups), keys)], say=lambda line: None)
    assert use.num_computed == len(np.unique(keys, axis=0))
    passes = reference.num_forward_passes
    assert_same(unpadded(reference.log_prob(policy.collate(groups), torch.from_numpy(keys))), live)
    assert reference.num_forward_passes == passes, "nothing is computed that is on disk"


def reference_off_is_the_base(adapted: Policy, base: Policy, groups: Sequence[Encoded]) -> None:
    """The policy with its adapter off gives what the model below gives, while the adapter changes its numbers."""
    expected = decisions(base.eval(), groups)
    assert_same(decisions(adapted.eval(), groups), expected)
    assert disturb_adapter(adapted) > 0
    changed = decisions(adapted, groups)
    moved = [abs(sum(row) - sum(was)) for row, was in zip(changed, expected, strict=True)]
    assert max(moved) > 0.01
    off = adapter_off(adapted, start="base", cache="off")
    assert_same(unpadded(off.log_prob(adapted.collate(groups))), expected)
    assert_same(decisions(adapted, groups), changed)


def disturb_adapter(policy: Policy) -> int:
    """Give the adapter of `policy` numbers that change what it says; how many tensors it has."""
    assert policy.adapter is not None
    generator = torch.Generator().manual_seed(7)
    tensors = policy.adapter.tensors()
    with torch.no_grad():
        for tensor in tensors.values():
            tensor.copy_(torch.randn(tensor.shape, generator=generator) * 0.3)
    return len(tensors)


def export_gives_the_same_policy(
    policy: Policy, load: Callable[[Path], Policy], groups: Sequence[Encoded], folder: Path
) -> None:
    """Read back from disk, the policy says the same, has the same fingerprints, and takes weights into another."""
    policy.eval()
    policy.export(folder)
    again = load(folder)
    assert_same(decisions(again.eval(), groups), decisions(policy, groups))
    assert again.fingerprint() == policy.fingerprint()
    assert again.encoding_fingerprint() == policy.encoding_fingerprint()
    with torch.no_grad():
        for parameter in again.parameters():
            parameter.add_(0.1)
    assert again.fingerprint() != policy.fingerprint()
    again.load_weights(folder)
    assert again.fingerprint() == policy.fingerprint()


def draws_follow_log_probs(policy: Policy, prompt: Encoded, answers: Sequence[tuple[int, ...]], num: int) -> None:
    """Of `num` draws as many are every other one of `answers` as their probabilities say, within four deviations.

    The weights and the mode of the policy stay what they were.
    """
    before = policy.fingerprint()
    policy.train()
    drawn = policy.sample([prompt] * num, generator=torch.Generator().manual_seed(0), max_new_tokens=2)
    assert policy.training and policy.fingerprint() == before
    assert {tuple(response) for response in drawn} <= set(answers)
    policy.eval()
    half = list(answers[::2])
    probability = math.fsum(math.exp(sum(row)) for row in decisions(policy, [replace(prompt, responses=tuple(half))]))
    assert 0.02 < probability < 0.98
    found = sum(tuple(response) in half for response in drawn)
    assert abs(found - num * probability) < 4 * math.sqrt(num * probability * (1 - probability))


def noise_of_training_is_off(policy: Policy, groups: Sequence[Encoded]) -> None:
    """Without dropout, training mode computes what evaluation mode computes; every weight gets a gradient.

    But for those of which the policy says that they get none.
    """
    live = decisions(policy.eval(), groups)
    policy.train()
    assert_same(decisions(policy, groups), live)
    policy.log_prob(policy.collate(groups)).sum().sum().backward()
    unreached = [
        name for name, parameter in policy.named_parameters() if parameter.requires_grad and parameter.grad is None
    ]
    exempt = policy.without_gradient
    assert [name for name in unreached if not any(fnmatch.fnmatchcase(name, pattern) for pattern in exempt)] == []
    policy.zero_grad()


def what_sees_is_reached_by_images_alone(policy: Policy, groups: Sequence[Encoded]) -> None:
    """Prompts without a picture leave without a gradient what the policy says, and nothing else."""
    policy.log_prob(policy.collate([group for group in groups if not group.images])).sum().sum().backward()
    unreached = {name for name, parameter in policy.named_parameters() if parameter.grad is None}
    assert unreached == {*policy.reached_by_images} != set()
    policy.zero_grad()
