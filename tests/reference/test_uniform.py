import torch

from dpo_lab.log_ratio import log_ratio
from dpo_lab.model.tiny import tiny
from dpo_lab.reference.uniform import uniform
from dpo_lab.types import Encoded


def test_zeros_for_the_decisions_of_the_policy():
    """So that a log-ratio is the policy's own log-probability; the policy is not run for it."""
    policy = tiny(["a text"], 0, hidden_size=16, num_layers=1, num_heads=2, vocab_size=260)
    reference = uniform(policy)
    inputs = policy.collate([Encoded((1, 20), ((40, 2), (41, 42, 43, 2)))])
    own = policy.log_prob(inputs)
    calls = []
    policy.model.register_forward_hook(lambda *_: calls.append(1))
    found = reference.log_prob(inputs)
    assert calls == []
    assert not found.token.any() and not found.token.requires_grad
    assert torch.equal(found.mask, own.mask)
    assert torch.equal(log_ratio(own, found), own.sum())


def test_the_same_whatever_the_policy_holds():
    one, other = (tiny(["a text"], seed, hidden_size=16, num_layers=1, num_heads=2, vocab_size=260) for seed in (0, 1))
    assert uniform(one).fingerprint() == uniform(other).fingerprint()
    uniform(one).to(torch.device("meta"))
