"""Guessing hidden tokens: the plain model of transformers as the specification."""

from pathlib import Path

import pytest
import torch
from torch.nn.functional import cross_entropy
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.model.classifier import classifier
from dpo_lab.model.masked_tokens import MaskedTokens
from dpo_lab.model.token_noise import hidden_spans
from tests.model.encoders import CLASSES, TEXTS, write_encoder


@pytest.mark.parametrize("name", ["bert", "roberta", "distilbert", "modernbert"])
def test_loss_is_that_of_the_whole_model(name: str, tmp_path: Path):
    """The encoder put back in its place, all tokens through the head; the same tokens hidden."""
    folder = write_encoder(tmp_path, name, "AutoModelForSequenceClassification")
    policy = classifier(CLASSES, path=str(folder)).eval()
    model = MaskedTokens(policy, seed=0).eval()
    rows = [policy.tokenizer(text)["input_ids"] for text in TEXTS]
    loss = model(rows, share=0.4, length=2, generator=torch.Generator().manual_seed(0))

    inputs = policy.pad(rows)
    special = torch.isin(inputs["input_ids"], torch.tensor(policy.tokenizer.all_special_ids))
    generator = torch.Generator().manual_seed(0)
    hidden = hidden_spans((inputs["attention_mask"] > 0) & ~special, 0.4, 2, generator)
    assert 5 < hidden.sum() < 40
    whole = model.head
    setattr(whole, whole.base_model_prefix, model.encoder)
    seen = inputs["input_ids"].masked_fill(hidden, policy.tokenizer.mask_token_id)
    logits = whole(input_ids=seen, attention_mask=inputs["attention_mask"]).logits
    assert_close(loss, cross_entropy(logits[hidden], inputs["input_ids"][hidden]), atol=1e-5, rtol=0)
    assert whole.get_output_embeddings().weight is policy.model.get_input_embeddings().weight  # tied

    loss.backward()
    reached = {key for key, tensor in policy.model.named_parameters() if tensor.grad is not None}
    base = policy.model.base_model_prefix
    assert reached and all(key.startswith(f"{base}.") and "pooler" not in key for key in reached)


def test_nothing_hidden_is_no_loss(tmp_path: Path):
    policy = classifier(CLASSES, path=str(write_encoder(tmp_path, "bert", "AutoModelForSequenceClassification")))
    model = MaskedTokens(policy, seed=0)
    cls, sep = policy.tokenizer.cls_token_id, policy.tokenizer.sep_token_id
    loss = model([[cls, sep]], share=0.9, length=1, generator=torch.Generator().manual_seed(0))
    loss.backward()
    assert loss.item() == 0


def test_a_model_that_reads_forward_is_refused(tmp_path: Path):
    folder = write_encoder(tmp_path, "gpt2", "AutoModelForSequenceClassification")
    with pytest.raises(UserError, match="guesses no masked tokens with a gpt2 model"):
        MaskedTokens(classifier(CLASSES, path=str(folder)), seed=0)
