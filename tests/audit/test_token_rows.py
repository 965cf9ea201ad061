"""Rows as the model sees them."""

from itertools import pairwise
from typing import Any

import pytest

from dpo_lab.audit.token_rows import ShownRow, names, show_row, token_texts
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.source import Overflow
from dpo_lab.data.view import View
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.types import Encoded, Example, Message
from tests.model.tokenizers import TOKENIZERS

PAIRS = View(frozenset({"pairs"}))
CHOSEN = View(frozenset({"chosen"}))
PAIR = Example("the cat", (" sat on the mat.", " did not!"), ((1, 0),), source="a.jsonl row 7")
WORDS = ("cat", "dog", "mat", "sat", "the", "not", "did", "on", "hello", "there", "world")
BUILT = {name: build() for name, build in TOKENIZERS.items()}


def show(
    example: Example,
    *,
    tokenizer: Any = BUILT["tiny"],
    length: int = 99,
    how: Overflow = "truncate",
    view: View = PAIRS,
) -> ShownRow:
    encoder = TextEncoder(tokenizer)
    [encoded] = encoder.encode([example])
    return show_row(example, encoded, tokenizer, max_length=length, on_overflow=how, end_id=encoder.end_id, view=view)


def text(row: ShownRow, side: str, *states: str) -> str:
    [tokens] = [one.tokens for one in row.sides if one.name == side]
    return "".join(token.text for token in tokens if token.state in states)


def test_a_pair():
    """The prompt is context, both responses count to their end; chosen is shown first, wherever it stands."""
    row = show(PAIR)
    assert (row.source, row.notes, row.is_left_out) == ("a.jsonl row 7", [], False)
    assert [side.name for side in row.sides] == ["prompt", "chosen", "rejected"]
    assert text(row, "prompt", "context") == "<s>the cat"
    assert text(row, "chosen", "counted") == " did not!</s>"
    assert text(row, "rejected", "counted") == " sat on the mat.</s>"
    assert [token.is_special for token in row.sides[0].tokens] == [True, *[False] * (len(row.sides[0].tokens) - 1)]
    assert row.sides[1].tokens[-1].is_special


def test_a_loss_that_imitates_counts_chosen_alone():
    row = show(PAIR, view=CHOSEN)
    assert text(row, "chosen", "counted") == " did not!</s>"
    assert text(row, "rejected", "counted") == ""
    assert text(row, "rejected", "context") == " sat on the mat.</s>"


def test_a_demonstration_says_why_a_loss_on_pairs_leaves_it_out():
    example = Example("the cat", (" sat on the mat.",))
    assert text(show(example, view=CHOSEN), "response", "counted") == " sat on the mat.</s>"
    assert show(example).notes == [
        "a response to imitate and no judgement, which this loss asks for",
        "nothing of it is trained on",
    ]


@pytest.mark.parametrize("length", range(4, 20))
def test_what_is_cut_and_what_is_kept_are_the_whole(length: int):
    """BOS stays, the prompt loses its beginning, a response its end; kept tokens fit."""
    whole, row = show(PAIR), show(PAIR, length=length)
    for side in ("prompt", "chosen", "rejected"):
        assert text(row, side, "context", "counted", "cut") == text(whole, side, "context", "counted")
        states = [token.state for token in next(one for one in row.sides if one.name == side).tokens]
        if side == "prompt":
            assert states[0] == "context"
            assert sorted(states[1:], reverse=True) == states[1:]  # cut, then context
        else:
            assert sorted(states, key=["counted", "cut"].index) == states
    kept = [side.num("context") + side.num("counted") for side in row.sides]
    assert kept[0] + max(kept[1:]) <= length
    assert bool(row.notes) == (len(whole.sides[0].tokens) + max(len(s.tokens) for s in whole.sides[1:]) > length)


def test_a_row_that_is_dropped_is_shown_as_cut():
    row = show(PAIR, length=6, how="drop")
    assert row.is_left_out
    assert row.notes == ["dropped: longer than data.max_length [overflow_dropped]", "nothing of it is trained on"]
    assert {token.state for side in row.sides for token in side.tokens} == {"cut"}


def test_chats_show_the_template():
    prompt: list[Message] = [{"role": "user", "content": "what is 12 + 34?"}]
    row = show(Example(prompt, (" 46", " 47"), ((0, 1),)), tokenizer=BUILT["qwen"])
    assert text(row, "prompt", "context") == "<|im_start|>user\nwhat is 12 + 34?<|im_end|>\n<|im_start|>assistant\n"
    assert text(row, "chosen", "counted") == " 46<|im_end|>"


@pytest.mark.parametrize("name", TOKENIZERS)
def test_shown_texts_are_the_text(name: str):
    """Joined, and without special tokens, they are what the tokenizer decodes; a split character has a name."""
    tokenizer = BUILT[name]
    ids = tokenizer("the cat sat. what is 12 + 34?", add_special_tokens=False)["input_ids"]
    assert "".join(shown for shown, _ in token_texts(ids, tokenizer)).strip() == tokenizer.decode(ids).strip()
    parts = token_texts(tokenizer("é", add_special_tokens=False)["input_ids"], tokenizer)
    assert all(shown and "\ufffd" not in shown for shown, _ in parts)


def test_names():
    assert names(Judgement(labels=(1, 0)), 2) == ["desirable", "undesirable"]
    assert names(Judgement(pairs=((0, 1), (1, 2))), 3) == ["chosen", "chosen and rejected", "rejected"]
    assert names(Judgement(pairs=((0, 1), (0, 2)), ranking=(0, 1, 2), is_best_alone=True), 3)[0] == "chosen"
    assert names(Judgement(), 1) == ["response"]


def test_without_a_tokenizer_ids_are_shown():
    assert token_texts([3, 4], None) == [("3", False), ("4", False)]


def test_ranks_are_shown_in_order():
    responses = tuple(f" {word}" for word in WORDS)
    ranking = tuple(reversed(range(11)))
    ranked = Example("so", responses, tuple(pairwise(ranking)), ranking=ranking)
    assert [side.name for side in show(ranked).sides[1:]] == [f"rank {place}" for place in range(1, 12)]
    assert text(show(ranked), "rank 1", "counted") == " world</s>"


def test_a_class_is_shown_by_its_name_and_a_span_by_its_ends():
    """Cut in front of the tail: of ids 1 40 41 42 2 with room for 4, the 42 goes."""
    example = Example("a text", ("sport", "money"), ((0, 1),), source="row 1")
    encoded = Encoded((1, 40, 41, 42, 2), ((7,), (3,)), num_head=1, num_tail=1, kind="class")
    options: dict[str, Any] = {
        "max_length": 4,
        "on_overflow": "truncate",
        "end_id": None,
        "view": View(frozenset({"pairs"})),
    }
    row = show_row(example, encoded, None, **options)
    assert [(token.text, token.state) for token in row.sides[0].tokens] == [
        ("1", "context"),
        ("40", "context"),
        ("41", "context"),
        ("42", "cut"),
        ("2", "context"),
    ]
    assert [[token.text for token in side.tokens] for side in row.sides[1:]] == [["sport"], ["money"]]
    span = Encoded((1, 40, 41, 42, 2), ((2, 2), (3, 3)), num_head=1, num_tail=1, kind="span")
    gone = show_row(example, span, None, **options)
    assert gone.is_left_out
    assert [[token.text for token in side.tokens] for side in gone.sides[1:]] == [["41", "41"], ["42", "42"]]
