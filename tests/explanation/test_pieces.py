"""Pieces of a response: joined they are its text, and nothing of a value is lost."""

import pytest

from dpo_lab.explanation.pieces import cut_into_pieces
from tests.small import small_policy

TEXTS = (" plain words", " naïve café, 日本語 and 👩‍🚀!", "\nline\n\nline  two ", "\ufffd odd", "é")


@pytest.mark.parametrize("text", TEXTS)
def test_joined_they_are_the_text(text: str):
    """A byte-level tokenizer that has met neither accents nor emoji gives several tokens a character."""
    tokenizer = small_policy().tokenizer
    before = tokenizer("Review of a film:", add_special_tokens=False)["input_ids"]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    pieces = cut_into_pieces(ids, [float(2**place) for place in range(len(ids))], tokenizer, before)
    assert "".join(piece.text for piece in pieces) == text
    assert [value for piece in pieces for value in piece.values] == [float(2**place) for place in range(len(ids))]
    if "\ufffd" not in text:
        assert not any("\ufffd" in piece.text for piece in pieces)


def test_a_token_without_text_stands_alone():
    """The end of a response has a value of its own, under its own name."""
    tokenizer = small_policy().tokenizer
    ids = [*tokenizer("good", add_special_tokens=False)["input_ids"], tokenizer.eos_token_id]
    pieces = cut_into_pieces(ids, [1.0] * len(ids), tokenizer)
    assert (pieces[-1].text, pieces[-1].is_special) == (tokenizer.eos_token, True)
    assert "".join(piece.text for piece in pieces[:-1]) == "good" and not any(one.is_special for one in pieces[:-1])
