"""Samples: their summary by hand, and that drawing them moves nothing."""

import pytest
import torch

from dpo_lab.reference.frozen import frozen
from dpo_lab.samples import Sample, draw_samples, summarize
from dpo_lab.sampling import SampleSettings
from dpo_lab.types import Encoded
from tests.small import small_dataset, small_policy


def sample(reward: float | None, policy: float = -2.0, reference: float | None = -3.0) -> Sample:
    return Sample("p", "r", 4, policy, reference, reward)


def test_summary_by_hand():
    """Rewards 1, 2, 3: mean 2, standard deviation 1, half-width 1.96 / sqrt 3 = 1.1316. KL: -2 - -3 = 1 nat each."""
    row = summarize([sample(1.0), sample(2.0), sample(3.0)])
    assert row["samples/true_reward"] == 2
    assert row["samples/true_reward_ci95"] == pytest.approx(1.96 / 3**0.5)
    assert row["samples/kl"] == 1
    assert row["samples/kl_ci95"] == 0
    assert row["samples/length"] == 4


def test_unknown_reward_and_reference_are_left_out():
    row = summarize([sample(None, reference=None), sample(None, reference=None)])
    assert set(row) == {"samples/length", "samples/length_ci95"}


def test_policy_that_is_its_reference_has_no_divergence():
    policy = small_policy()
    prompts = small_dataset(policy).encoded
    settings = SampleSettings(num=10, max_new_tokens=6)
    samples = draw_samples(
        policy, frozen(policy), prompts, settings, seed=1, true_reward=lambda asked, said: len(asked) + len(said)
    )
    assert len(samples) == 10
    assert summarize(samples)["samples/kl"] == pytest.approx(0, abs=1e-5)
    assert all(drawn.true_reward == len(drawn.prompt) + len(drawn.response) for drawn in samples)


def test_same_seed_same_samples_and_nothing_else_moves():
    policy = small_policy()
    policy.train()
    prompts = small_dataset(policy).encoded
    settings = SampleSettings(num=5, max_new_tokens=6)
    state, weights = torch.get_rng_state(), policy.fingerprint()
    first = draw_samples(policy, None, prompts, settings, seed=1, true_reward=None)
    assert draw_samples(policy, None, prompts, settings, seed=1, true_reward=None) == first
    assert draw_samples(policy, None, prompts, settings, seed=2, true_reward=None) != first
    assert torch.equal(torch.get_rng_state(), state)
    assert policy.fingerprint() == weights
    assert policy.training


def test_none_asked_for():
    assert (
        draw_samples(small_policy(), None, [Encoded((1,), ())], SampleSettings(num=0), seed=0, true_reward=None) == []
    )
