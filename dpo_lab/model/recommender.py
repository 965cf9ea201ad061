"""Recommenders of an earlier run, built from what `conf/model/recommender.yaml` says."""

from dpo_lab.errors import UserError
from dpo_lab.model.loading import load_model
from dpo_lab.model.recommender_policy import NEXT_ITEM_MODEL, Recommender
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.ranges import Fraction


def recommender(
    *, path: str, dtype: Dtype = "float32", dropout: Fraction = 0.0, item_dropout: Fraction = 0.0
) -> Recommender:
    """A recommender that an earlier run exported: a second stage begins where the first one ended.

    Args:
        path: ``model/`` of a run, or any folder with a causal model of transformers and a tokenizer of which every
            token is an item.
        dtype: of the weights.
        dropout: every dropout rate, in [0, 1).
        item_dropout: share of the items of a history that are hidden while training, in [0, 1).

    Raises:
        UserError: when the model cannot be had, or its vocabulary is not a catalogue.
    """
    model, tokenizer, rates = load_model(path, NEXT_ITEM_MODEL, dtype=dtype, dropout=dropout)
    if len(tokenizer) != model.config.vocab_size or tokenizer.all_special_ids:
        raise UserError(
            f"model {path!r} is no recommender: each of its {model.config.vocab_size} outputs must be an item, and its "
            f"tokenizer has {len(tokenizer)} tokens, {len(tokenizer.all_special_ids)} of them special. Build one with "
            "model=small_recommender; a language model that names items is model=causal_lm"
        )
    return Recommender(
        model, tokenizer, dtype=dtype, dropout=dropout, exported_dropout=rates, item_dropout=item_dropout
    )
