"""A reference as a policy to draw from: what it draws is what it gives log-probabilities of."""

from pathlib import Path

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.reference.adapter_off import adapter_off
from dpo_lab.reference.ema import ema
from dpo_lab.reference.frozen import frozen
from dpo_lab.reference.uniform import uniform
from dpo_lab.types import Encoded
from tests.small import small_policy

GROUPS = [Encoded((1, 20, 31), ((40, 2), (41, 42, 43, 2)))]


@pytest.mark.parametrize("kind", ["frozen", "cached", "ema", "adapter_off"])
@torch.no_grad()
def test_it_is_the_reference_and_not_the_policy(kind: str):
    """After the policy has moved; with the adapter off the policy itself, which comes out as it was."""
    small_policy(seed=1).export(Path("MODEL"))
    policy = causal_lm(path="MODEL", lora_rank=2 if kind == "adapter_off" else None)
    made = {
        "frozen": lambda: frozen(policy),
        "cached": lambda: frozen(policy, Path("cache")),
        "ema": lambda: ema(policy),
        "adapter_off": lambda: adapter_off(policy),
    }
    reference = made[kind]()
    moved = policy.adapter.tensors().values() if policy.adapter is not None else policy.parameters()
    generator = torch.Generator().manual_seed(0)
    for tensor in moved:
        tensor.add_(torch.randn(tensor.shape, generator=generator) * 0.3)
    inputs = policy.collate(GROUPS)
    own, wanted = policy.log_prob(inputs).sum(), reference.log_prob(inputs).sum()
    assert (own - wanted).abs().max() > 1e-3
    with reference.as_policy() as opponent:
        assert_close(opponent.log_prob(inputs).sum(), wanted)
    assert_close(policy.log_prob(inputs).sum(), own)
    assert policy.training


def test_what_is_no_distribution_cannot_be_drawn_from():
    with pytest.raises(TypeError, match="UniformReference is no distribution"):
        uniform(small_policy()).as_policy()
