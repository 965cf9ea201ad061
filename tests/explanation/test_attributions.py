"""Attributions: by hand where integrated gradients are known, and complete on models whose gradients are not."""

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from torch import nn

from dpo_lab.data.facts import facts
from dpo_lab.errors import UserError
from dpo_lab.explanation import attributions
from dpo_lab.explanation.attributions import Attributed, baseline_id, integrated_gradients, require_captum
from dpo_lab.explanation.pieces import Piece
from dpo_lab.explanation.shown import ShownAttribution
from dpo_lab.explanation.written import lay_over
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.reading import Reading, TokenPlace
from dpo_lab.model.small_classifier import small_classifier
from dpo_lab.model.small_extractive_qa import small_extractive_qa
from dpo_lab.types import Example

TEXTS = ["the good ball", "the bad bank", "a good bank, the ball", "bad, bad ball"] * 2
SIZES: dict[str, Any] = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}


def same(inputs: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    return inputs


def classify(text: str = "The good\tball", response: str = "sport", **knobs: Any) -> tuple[Any, Example, Any]:
    """A random classifier, made large enough that its log-probability bends."""
    policy = small_classifier(TEXTS, ["sport", "money"], 0, **SIZES, **knobs).eval()
    with torch.no_grad():
        policy.embedding.weight.mul_(20)  # type: ignore[operator, union-attr]
    example = Example(text, (response,))
    return policy, example, policy.encode([example])[0]


def attribute(policy: EncoderPolicy, example: Example, encoded: Any, num_steps: int = 64) -> tuple[Attributed, Reading]:
    reading = policy.reading(example, encoded)
    hidden = baseline_id(policy, "mask")
    return integrated_gradients(policy, encoded, reading, hidden, num_steps, same), reading


class BagOfWords(nn.Module):
    """Logit -40 + sum of one number a token against 0: a log-softmax that is linear down to exp(-40)."""

    device = torch.device("cpu")

    def __init__(self, config: Any, worth: list[float], num_calls: int = 1):
        super().__init__()
        self.config, self.num_calls = config, num_calls
        self.words = nn.Embedding(len(worth), 1).double()
        self.words.weight.data[:, 0] = torch.tensor(worth)

    def get_input_embeddings(self) -> nn.Module:
        return self.words

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> SimpleNamespace:
        for _ in range(self.num_calls):
            worth = self.words(input_ids).squeeze(-1)
        score = -40 + (worth * attention_mask).sum(dim=1)
        return SimpleNamespace(logits=torch.stack([score, torch.zeros_like(score)], dim=1))


def bag_of_words(num_calls: int = 1) -> tuple[Any, Example, Any]:
    """good 2, bad -1, ball 0.5; whatever else 7, the mask 0.25."""
    policy, _, _ = classify(tokens="pieces", vocab_size=200)
    known = policy.tokenizer.get_vocab()
    worth = [7.0] * len(known)
    for word, value in {"good": 2.0, "bad": -1.0, "ball": 0.5, "[MASK]": 0.25}.items():
        worth[known[word]] = value
    policy.model = BagOfWords(policy.model.config, worth, num_calls)
    example = Example("good bad good ball", ("sport",))
    return policy, example, policy.encode([example])[0]


@pytest.mark.parametrize("num_steps", [1, 5])
def test_of_a_bag_of_words_by_hand(num_steps: int):
    """Weight times (token - mask): 2 - 0.25, -1 - 0.25, 2 - 0.25, 0.5 - 0.25; [CLS] and [SEP] stay where they are. With
    two of them (7 each) and the words (3.5) the text has -40 + 17.5, hidden -40 + 14 + 4 * 0.25."""
    found, _ = attribute(*bag_of_words(), num_steps)
    assert found.shares == pytest.approx((0, 1.75, -1.25, 1.75, 0.25, 0), abs=1e-5)
    assert (found.at_text, found.at_baseline) == pytest.approx((-22.5, -25.0)) and abs(found.gap) < 1e-5


def test_a_model_that_has_no_one_way_is_refused():
    with pytest.raises(UserError, match="BagOfWords asks its embeddings 2 times"):
        attribute(*bag_of_words(num_calls=2))


def test_arithmetic():
    one, two = Attributed((1.0, 3.0), -2.0, -5.5), Attributed((0.5, 0.0), -1.0, -1.5)
    assert one.gap == 0.5 and one.less(two) == Attributed((0.5, 3.0), -1.0, -4.0)
    assert one.times(2) == Attributed((2.0, 6.0), -4.0, -11.0)


@pytest.mark.parametrize("tokens", ["pieces", "characters", "ngrams"])
def test_shares_are_complete_and_lie_over_the_text(tokens: str, monkeypatch: pytest.MonkeyPatch):
    """They sum to f(text) - f(hidden), in whatever batches; pieces add up to them, and joined they are the text."""
    policy, example, encoded = classify(tokens=tokens, vocab_size=200)
    found, reading = attribute(policy, example, encoded)
    reference = policy.log_prob(policy.collate([encoded])).sum().item()
    assert found.at_text == pytest.approx(reference, abs=1e-6) and abs(found.at_text - found.at_baseline) > 0.01
    assert abs(found.gap) < 1e-3 and found.shares[0] == found.shares[-1] == 0
    monkeypatch.setattr(attributions, "MAX_TOKENS", 50)
    assert attribute(policy, example, encoded)[0].shares == pytest.approx(found.shares, abs=1e-5)
    ((name, pieces),) = lay_over(reading, found.shares)
    assert sum(piece.value for piece in pieces) == pytest.approx(sum(found.shares), abs=1e-6)
    assert name == "text" and "".join(piece.text for piece in pieces) == (
        "the good ball" if tokens == "ngrams" else "The good\tball"
    )


def test_too_few_steps_leave_a_gap_that_is_told():
    found, _ = attribute(*classify(tokens="characters", vocab_size=200), num_steps=1)
    assert abs(found.gap) > 0.05 * abs(found.at_text - found.at_baseline)
    shown = ShownAttribution("chosen", "sport", (), found.at_text, found.at_baseline, found.gap)
    assert shown.is_inexact and not replace(shown, gap=0.04 * abs(found.at_text - found.at_baseline)).is_inexact


def test_a_text_that_was_cut_is_shown_as_it_was_read():
    policy, example, encoded = classify("good ball bad bank", tokens="pieces", vocab_size=200)
    cut = replace(encoded, prompt=(*encoded.prompt[:3], encoded.prompt[-1]))
    found, reading = attribute(policy, example, cut)
    assert reading.texts == (("text", "good ball"),) and len(found.shares) == 4 and abs(found.gap) < 1e-3


def test_several_windows():
    """A token that two windows share has the sum over both; question and passage stand in one answer."""
    source = facts(num_passages=3, num_people=3)
    texts = [turn["content"] for example in source.train for turn in example.prompt if isinstance(turn, dict)]
    policy = small_extractive_qa(texts, 0, window=32, stride=8, **SIZES).eval()
    example = source.train[0]
    encoded = replace(policy.encode([example])[0])
    (span, *_) = encoded.responses
    found, reading = attribute(policy, example, replace(encoded, responses=(span,)))
    inputs = policy.collate([encoded])
    assert len(reading.rows) == len(inputs["input_ids"]) > 1
    for ids, row in zip(inputs["input_ids"].tolist(), reading.rows, strict=True):
        assert [encoded.prompt[token] for token in row] == ids[: len(row)]
    assert abs(found.gap) < 1e-3 < abs(found.at_text - found.at_baseline)
    asked, passage = lay_over(reading, found.shares, span)
    content = [turn["content"] for turn in example.prompt if isinstance(turn, dict)]
    assert [asked[0], passage[0]] == ["question", "passage"]
    assert ["".join(piece.text for piece in pieces) for _, pieces in (passage, asked)] == content
    marked = "".join(piece.text for piece in passage[1] if piece.is_marked)
    assert marked.strip() == reading.written(span[0], span[-1]) and not any(piece.is_marked for piece in asked[1])


def test_overlapping_tokens_by_hand():
    """Over "ab c": a 1, ab 4 and b -1 make 1 + 2 and -1 + 2; the space goes with c. [CLS] stands for nothing."""
    places = (
        TokenPlace(None, 0, 0),
        TokenPlace(0, 0, 1),
        TokenPlace(0, 0, 2),
        TokenPlace(0, 1, 2),
        TokenPlace(0, 3, 4),
        TokenPlace(0, 4, 4),
    )
    ((_, pieces),) = lay_over(Reading((("text", "ab c."),), places, ()), (0.0, 1.0, 4.0, -1.0, 5.0, 0.5), (4, 4))
    assert pieces == [
        Piece("a", (1.0, 2.0), tokens=("a", "ab")),
        Piece("b", (2.0, -1.0), tokens=("ab", "b")),
        Piece(" c.", (5.0,), is_marked=True),
        Piece("∅", (0.5,), is_special=True),
    ]


def test_without_captum_it_says_what_to_do(monkeypatch: pytest.MonkeyPatch):
    require_captum()
    monkeypatch.setattr(attributions, "find_spec", lambda name: None)
    with pytest.raises(UserError, match=r"pip install 'dpo-lab\[attributions\]'; --attributions none"):
        require_captum()
