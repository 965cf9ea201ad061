"""A span is two decisions: the laws of a policy, and the plain model of transformers as the specification."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, cast

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch.testing import assert_close
from transformers import AutoModelForQuestionAnswering, AutoTokenizer

from dpo_lab.errors import UserError
from dpo_lab.model.extractive_qa import extractive_qa
from dpo_lab.model.reading_windows import reading_windows, window_bounds
from dpo_lab.model.small_extractive_qa import small_extractive_qa
from dpo_lab.model.span_policy import SpanReader
from dpo_lab.types import Encoded, Example, Message
from tests.model.encoders import TEXTS, write_encoder

Folder = Callable[[str], Path]
READERS = ("bert", "roberta", "distilbert", "modernbert")
every_reader = pytest.mark.parametrize("name", READERS)


def ask(question: str, passage: str, *spans: str, source: str = "row 1") -> Example:
    turns = [Message(role="assistant", content=span, start=passage.index(span)) for span in spans]
    prompt = [Message(role="system", content=passage), Message(role="user", content=question)]
    return Example(prompt, tuple([turn] for turn in turns), source=source)


EXAMPLES = [
    ask("who sold the share ?", TEXTS[1], "the bank", "stock", "bank"),
    ask("who left ?", TEXTS[3], "the old coach"),
]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    @cache
    def write(name: str) -> Path:
        return write_encoder(tmp_path_factory.mktemp(name), name, "AutoModelForQuestionAnswering", None)

    return write


def build(folder: Path, window: int = 40, stride: int = 4, **knobs) -> SpanReader:
    return extractive_qa(path=str(folder), window=window, stride=stride, **knobs).eval()


@every_reader
def test_log_prob_is_that_of_plain_transformers(name: str, folder_of: Folder):
    """Each question alone through the saved model, a softmax over its passage, ends by the tokenizer's own offsets."""
    policy = build(folder_of(name))
    plain = AutoModelForQuestionAnswering.from_pretrained(folder_of(name)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder_of(name))
    found = policy.log_prob(policy.collate(policy.encode(EXAMPLES)))
    wanted = []
    for example in EXAMPLES:
        passage, question = (message["content"] for message in cast(list[Message], example.prompt))
        read = tokenizer(question, passage, return_tensors="pt")
        output = plain(**read)
        outside = torch.tensor([part != 1 for part in read.sequence_ids(0)])
        first, last = (
            logits[0].masked_fill(outside, -torch.inf).log_softmax(-1)
            for logits in (output.start_logits, output.end_logits)
        )
        for (turn,) in cast(tuple[list[Any], ...], example.responses):
            start, stop = turn["start"], turn["start"] + len(turn["content"])
            ends = (read.char_to_token(0, start, 1), read.char_to_token(0, stop - 1, 1))
            wanted.append(torch.stack([first[ends[0]], last[ends[1]]]))
    assert_close(found.token, torch.stack(wanted), atol=1e-5, rtol=0)
    assert found.mask.shape == (4, 2) and found.mask.all()


@every_reader
def test_spans_add_up_to_one_and_order_changes_nothing(name: str, folder_of: Folder):
    """Over every pair of a first and a last token of the passage."""
    policy = build(folder_of(name))
    (encoded,) = policy.encode(EXAMPLES[1:])
    inside = range(encoded.num_head, len(encoded.prompt) - encoded.num_tail)
    every = replace(encoded, responses=tuple((first, last) for first in inside for last in inside))
    total = policy.log_prob(policy.collate([every])).sum().exp().sum()
    assert_close(total, torch.tensor(1.0), atol=1e-5, rtol=0)
    groups = policy.encode(EXAMPLES)
    inputs = policy.collate(groups)
    log_prob, distribution = policy.log_prob_and_distribution(inputs)
    assert_close(distribution.exp().sum(-1), torch.ones(4, 2), atol=1e-5, rtol=0)
    assert torch.equal(policy.decision_mask(inputs), log_prob.mask)
    turned = policy.log_prob(policy.collate(groups[::-1])).sum()
    assert_close(turned[[1, 2, 3, 0]], log_prob.sum(), atol=1e-5, rtol=0)


def test_encoding_by_hand(folder_of: Folder):
    """``[CLS] who left ? [SEP] the old coach left ... [SEP]``: the span is the passage's first three words."""
    policy = build(folder_of("bert"))
    (encoded,) = policy.encode(EXAMPLES[1:])
    tokens = policy.tokenizer.convert_ids_to_tokens(encoded.prompt)
    head = tokens.index("[SEP]") + 1
    assert (encoded.num_head, encoded.num_tail, encoded.kind) == (head, 1, "span")
    assert encoded.responses[0][0] == head
    assert policy.decode(encoded, encoded.responses[0]).replace(" ", "") == "theoldcoach"
    assert policy.decode_prompt(encoded).replace(" ", "").startswith("wholeft?theoldcoach")
    inputs = policy.collate([encoded])
    assert inputs["token_type_ids"][0].tolist() == [0] * head + [1] * (len(encoded.prompt) - head)


def test_a_word_inside_of_a_token_gives_the_whole_token(folder_of: Folder):
    policy = build(folder_of("bert"))
    whole, part = policy.encode([ask("who ?", TEXTS[1], "bank"), ask("who ?", TEXTS[1], "ban")])
    assert policy.tokenizer.tokenize("bank") == ["bank"]
    assert whole.responses == part.responses


def windows(num_tokens: int, window: int, stride: int) -> list[tuple[int, ...]]:
    """A question of 3 ids, a passage of `num_tokens`, 1 id behind it: the tokens that each window counts."""
    group = Encoded((1, 2, 3, *range(10, 10 + num_tokens), 4), (), num_head=3, num_tail=1, kind="span")
    made = reading_windows([group], window, stride)
    for one in made:
        assert one.ids[:3] == (1, 2, 3) and one.ids[-1] == 4 and len(one.ids) <= window
        inside = one.ids[one.num_head : -1]
        assert inside == tuple(range(10 + one.first, 10 + one.first + len(inside)))
        assert one.first <= one.first_counted <= one.last_counted < one.first + len(inside)
    return [tuple(range(one.first_counted, one.last_counted + 1)) for one in made]


def test_windows_by_hand():
    """Room for 6 of 10 tokens, 2 shared: 0 to 5 and 4 to 9; each of the shared two where it is farther from an edge."""
    assert window_bounds(10, 6, 2) == [(0, 6), (4, 10)]
    assert windows(10, 10, 2) == [(0, 1, 2, 3, 4), (5, 6, 7, 8, 9)]
    assert windows(6, 10, 2) == [(0, 1, 2, 3, 4, 5)]


@given(st.integers(1, 60), st.integers(2, 20), st.integers(0, 19))
def test_every_token_counts_in_one_window(num_tokens: int, room: int, stride: int):
    if stride < room:
        counted = [token for window in windows(num_tokens, room + 4, stride) for token in window]
        assert counted == list(range(num_tokens))


def test_long_passage_is_one_distribution(folder_of: Folder):
    """Windows of 20 tokens over a longer passage: still one softmax, and a token is scored as its window alone is."""
    passage = " ".join(TEXTS)
    policy = build(folder_of("bert"), window=20, stride=6)
    (encoded,) = policy.encode([ask("who left ?", passage, "the goal", "the old coach", "the bank .")])
    made = reading_windows([encoded], 20, 6)
    assert len(made) > 3
    log_prob, distribution = policy.log_prob_and_distribution(policy.collate([encoded]))
    assert_close(distribution.exp().sum(-1), torch.ones(3, 2), atol=1e-5, rtol=0)
    logits = torch.full((len(encoded.prompt),), torch.nan)
    for one in made:
        types = [0] * one.num_head + [1] * (len(one.ids) - one.num_head)
        alone = policy.model(input_ids=torch.tensor([one.ids]), token_type_ids=torch.tensor([types])).start_logits[0]
        for token in range(one.first_counted, one.last_counted + 1):
            logits[encoded.num_head + token] = alone[one.num_head + token - one.first]
    wanted = logits[encoded.num_head : -1].log_softmax(-1)
    assert_close(distribution[0, 0], wanted, atol=1e-5, rtol=0)
    firsts = torch.tensor([span[0] for span in encoded.responses]) - encoded.num_head
    assert_close(log_prob.token[:, 0], wanted[firsts], atol=1e-5, rtol=0)


def test_best_spans_are_the_likeliest(folder_of: Folder):
    """Against all spans of up to 3 tokens, one by one."""
    policy = build(folder_of("roberta"))
    (encoded,) = policy.encode(EXAMPLES[:1])
    inside = range(encoded.num_head, len(encoded.prompt) - encoded.num_tail)
    every = [(first, last) for first in inside for last in inside if first <= last < first + 3]
    scores = policy.log_prob(policy.collate([replace(encoded, responses=tuple(every))])).sum().tolist()
    wanted = sorted(zip(scores, every, strict=True), reverse=True)[:5]
    (found,) = policy.best_spans([encoded], 5, max_tokens=3)
    assert [(span.first, span.last) for span in found] == [span for _, span in wanted]
    assert_close(torch.tensor([span.log_prob for span in found]), torch.tensor([s for s, _ in wanted]))


def test_a_draw_follows_the_distribution(folder_of: Folder):
    policy = build(folder_of("bert"))
    (encoded,) = policy.encode(EXAMPLES[:1])
    ends = policy.log_prob_and_distribution(policy.collate([encoded]))[1][0].exp()
    generator = torch.Generator().manual_seed(0)
    drawn = torch.tensor(policy.sample([encoded] * 4000, generator=generator, max_new_tokens=1)) - encoded.num_head
    for end in (0, 1):
        shares = torch.bincount(drawn[:, end], minlength=ends.shape[1]) / 4000
        assert_close(shares, ends[end].detach(), atol=0.035, rtol=0)  # 4 standard errors at most


def test_rows_that_are_no_questions_are_told(folder_of: Folder):
    policy = build(folder_of("bert"), window=20, stride=6)
    with pytest.raises(UserError, match=r"row 3: a span reader takes a question about a passage \(data=questions\)"):
        policy.encode([Example("a text", ("b",), source="row 3")])
    with pytest.raises(UserError, match="row 4: a response is no span"):
        policy.encode([replace(EXAMPLES[0], responses=("b",), source="row 4")])
    with pytest.raises(UserError, match=r"row 1: a question of \d+ tokens.* no room in model.window=20"):
        policy.encode([ask("who sold the share ? " * 4, TEXTS[1], "bank")])
    with pytest.raises(UserError, match="window: 80 is longer than the 64 positions"):
        build(folder_of("bert"), window=80)
    with pytest.raises(UserError, match=r"stride: must be less than model\.window"):
        build(folder_of("bert"), window=20, stride=20)


@every_reader
def test_exported_model_is_plain_and_comes_back(name: str, folder_of: Folder, tmp_path: Path):
    policy = build(folder_of(name), dropout=0.1)
    inputs = policy.collate(policy.encode(EXAMPLES))
    before, fingerprint = policy.log_prob(inputs).sum(), policy.fingerprint()
    policy.export(tmp_path)
    assert_close(build(tmp_path).log_prob(inputs).sum(), before, atol=1e-6, rtol=0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    policy.load_weights(tmp_path)
    assert policy.fingerprint() == fingerprint
    assert policy.load_other(str(tmp_path)).fingerprint() == fingerprint


def test_adapter_off_is_the_model_below(folder_of: Folder):
    plain = build(folder_of("bert"))
    policy = build(folder_of("bert"), lora_rank=2)
    inputs = plain.collate(plain.encode(EXAMPLES))
    assert policy.adapter is not None
    with torch.no_grad():
        for tensor in policy.adapter.tensors().values():
            tensor.add_(0.3)
    assert not torch.allclose(policy.log_prob(inputs).sum(), plain.log_prob(inputs).sum(), atol=1e-3)
    with policy.adapter.off():
        assert_close(policy.log_prob(inputs).sum(), plain.log_prob(inputs).sum(), atol=1e-6, rtol=0)


def test_small_reader_is_drawn_from_its_seed():
    knobs: dict[str, Any] = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "window": 32, "stride": 4}
    first, again, other = (small_extractive_qa(TEXTS, seed, **knobs) for seed in (1, 1, 2))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    inputs = first.collate(first.encode(EXAMPLES))
    assert torch.isfinite(first.log_prob(inputs).token).all()
