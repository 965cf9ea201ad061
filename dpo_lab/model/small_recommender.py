"""A small recommender over the data's catalogue, built on the spot: nothing is downloaded."""

from collections.abc import Sequence

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.dropout import set_config_dropout
from dpo_lab.model.recommender_policy import Recommender, catalogue_tokenizer
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction, PositiveInt


def small_recommender(
    classes: Sequence[str] | None,
    seed: int,
    *,
    hidden_size: PositiveInt = 64,
    num_layers: PositiveInt = 2,
    num_heads: PositiveInt = 2,
    max_positions: PositiveInt = 64,
    dtype: Dtype = "float32",
    dropout: Fraction = 0.0,
    item_dropout: Fraction = 0.0,
) -> Recommender:
    """A random causal transformer over items (GPT-2's blocks, learned positions, one matrix for items read and items
    said): what SASRec is (Kang and McAuley 2018, arXiv 1808.09781), with a softmax over the whole catalogue.

    Args:
        classes: the catalogue, as the data knows it; the framework gives it.
        seed: of the initial weights; the framework gives it.
        hidden_size: width; a multiple of `num_heads`.
        num_layers: blocks.
        num_heads: attention heads.
        max_positions: longest history with its next item; at least data.max_history + 1.
        dtype: of the weights.
        dropout: every dropout rate, in [0, 1).
        item_dropout: share of the items of a history that are hidden while training, in [0, 1).

    Raises:
        UserError: when sizes do not fit each other; when the data has no catalogue.
    """
    from transformers import GPT2Config, GPT2LMHeadModel

    if classes is None:
        raise UserError(
            "model=small_recommender needs data with a catalogue: data=playlists, or data=interactions data.text=ids"
        )
    if hidden_size % num_heads:
        raise UserError(f"model.hidden_size: {hidden_size} is not a multiple of model.num_heads = {num_heads}")
    config = GPT2Config(
        vocab_size=len(classes),
        n_positions=max_positions,
        n_embd=hidden_size,
        n_layer=num_layers,
        n_head=num_heads,
        bos_token_id=None,
        eos_token_id=None,
    )
    rates = set_config_dropout(config, dropout)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)  # torch.manual_seed would move the generators of GPUs as well
        model = GPT2LMHeadModel(config).to(getattr(torch, dtype))
    return Recommender(
        model,
        catalogue_tokenizer(classes),
        dtype=dtype,
        dropout=dropout,
        exported_dropout=rates,
        item_dropout=item_dropout,
    )
