"""Rotary embeddings that turn every position otherwise once the longest row of a batch passes a limit."""

from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, LlamaConfig

from dpo_lab.model.positions import known_positions

LONGROPE = {
    "rope_type": "longrope",
    "rope_theta": 100.0,
    "factor": 4.0,
    "original_max_position_embeddings": 8,
    "short_factor": [1.0, 1.0],
    "long_factor": [3.0, 5.0],
}
DYNAMIC = {"rope_type": "dynamic", "rope_theta": 100.0, "factor": 4.0}


def config(rotary: dict[str, Any]) -> LlamaConfig:
    return LlamaConfig(
        vocab_size=50,
        hidden_size=16,
        num_hidden_layers=2,
        num_attention_heads=4,
        intermediate_size=16,
        max_position_embeddings=8 if rotary["rope_type"] == "dynamic" else 32,
        rope_parameters=rotary,
        initializer_range=0.5,
    )


@pytest.mark.parametrize(("rotary", "limit"), [(LONGROPE, 8), (DYNAMIC, 8), ({"rope_type": "default"}, 32)])
def test_up_to_which_length_a_row_means_the_same(rotary: dict[str, Any], limit: int):
    assert known_positions(config({"rope_theta": 100.0, **rotary})) == limit


@pytest.mark.parametrize("rotary", [LONGROPE, DYNAMIC])
def test_past_it_a_row_depends_on_the_others(rotary: dict[str, Any]):
    """The reason for the limit: a row of 5 beside one of 8 keeps its numbers, beside one of 20 it does not."""
    torch.manual_seed(0)
    model = AutoModelForCausalLM.from_config(config(rotary)).eval()
    tokens = torch.randint(50, (2, 20))

    def first_row(width: int) -> torch.Tensor:
        model.model.rotary_emb = type(model.model.rotary_emb)(model.config)
        return model(tokens[:, :width]).logits[0, :5].log_softmax(-1)

    with torch.no_grad():
        alone, beside_short, beside_long = first_row(5), first_row(8), first_row(20)
    torch.testing.assert_close(alone, beside_short, rtol=0, atol=1e-5)
    assert (alone - beside_long).abs().max() > 0.05


def test_one_limit_where_kinds_of_layers_differ():
    """Of layers of full and of sliding attention the smaller limit counts."""
    both = config(LONGROPE)
    both.rope_parameters = {"full_attention": LONGROPE, "sliding_attention": {"rope_type": "default"}}
    assert known_positions(both) == 8
