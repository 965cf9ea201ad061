from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.errors import DataError
from dpo_lab.data.fit_length import fit_length, num_tokens
from dpo_lab.types import Encoded

tokens = st.lists(st.integers(3, 99), max_size=12).map(tuple)


# Parts of an `Encoded`: the runtime type checker draws random numbers, which a strategy must not.
parts = st.tuples(st.integers(0, 1), tokens, st.lists(tokens, min_size=1, max_size=4))
Parts = tuple[int, tuple[int, ...], list[tuple[int, ...]]]


def make(parts: Parts) -> Encoded:
    num_head, prompt, responses = parts
    return Encoded(((1,) * num_head + prompt) or (5,), tuple((*ids, 2) for ids in responses), num_head)


def test_by_hand():
    """12 ids, longest response 4, max_length 10: budget max(10 - 4, min(8, 5)) = 6, so BOS and the last 5 ids stay."""
    encoded = Encoded((1, 11, 12, 13, 14, 15, 16, 17), ((20, 21, 22, 2), (30, 2)), num_head=1)
    fitted = fit_length(encoded, 10, "truncate")
    assert fitted.encoded == Encoded((1, 13, 14, 15, 16, 17), ((20, 21, 22, 2), (30, 2)), num_head=1)
    assert fitted.reasons == ("prompt_cut",)


def test_long_response_loses_its_end():
    """Longest 7, max_length 6: budget max(-1, min(4, 3)) = 3; each response keeps 3."""
    encoded = Encoded((1, 11, 12, 13), ((20, 21, 22, 23, 24, 25, 2), (30, 2)), num_head=1)
    fitted = fit_length(encoded, 6, "truncate")
    assert fitted.encoded == Encoded((1, 12, 13), ((20, 21, 22), (30, 2)), num_head=1)
    assert fitted.reasons == ("prompt_cut", "response_cut")


def test_short_prompt_is_left_alone():
    """Prompt of 2 <= 6 // 2: only the response is cut, to 4."""
    fitted = fit_length(Encoded((1, 11), ((20, 21, 22, 23, 24, 2),), num_head=1), 6, "truncate")
    assert fitted.encoded == Encoded((1, 11), ((20, 21, 22, 23),), num_head=1)
    assert fitted.reasons == ("response_cut",)


@given(parts, st.integers(2, 20))
def test_truncate_laws(parts: Parts, max_length: int):
    encoded = make(parts)
    fitted, reasons = fit_length(encoded, max_length, "truncate")
    assert fitted is not None
    assert num_tokens(fitted) <= max_length
    assert fitted.prompt[: encoded.num_head] == encoded.prompt[: encoded.num_head]
    assert fitted.prompt
    tail = fitted.prompt[encoded.num_head :]
    assert tail == encoded.prompt[len(encoded.prompt) - len(tail) :]
    for short, whole in zip(fitted.responses, encoded.responses, strict=True):
        assert short
        assert short == whole[: len(short)]
    assert (fitted == encoded) == (num_tokens(encoded) <= max_length) == (reasons == ())
    assert fit_length(fitted, max_length, "truncate") == (fitted, ())


@given(parts, st.integers(2, 20))
def test_drop_and_error_keep_what_fits_unchanged(parts: Parts, max_length: int):
    encoded = make(parts)
    if num_tokens(encoded) <= max_length:
        assert fit_length(encoded, max_length, "drop") == fit_length(encoded, max_length, "error") == (encoded, ())
    else:
        reason = "overflow_dropped" if len(encoded.prompt) < max_length else "prompt_fills_length"
        assert fit_length(encoded, max_length, "drop") == (None, (reason,))
        with pytest.raises(DataError, match=r"data\.max_length"):
            fit_length(encoded, max_length, "error")


def test_no_room_for_a_prompt_and_a_response():
    with pytest.raises(DataError, match="2 or more"):
        fit_length(Encoded((1,), ((2,),)), 1, "truncate")


@pytest.mark.parametrize(
    ("max_length", "left"), [(6, (1, 9, 11, 12, 13, 2)), (5, (1, 9, 11, 12, 2)), (4, (1, 9, 11, 2))]
)
def test_a_response_that_takes_no_room_is_never_cut(max_length: int, left: tuple[int, ...]):
    """Head (1, 9), tail (2): the end of what stands between them goes, and the class 40 stays."""
    encoded = Encoded((1, 9, 11, 12, 13, 2), ((40,),), num_head=2, num_tail=1, kind="class")
    fitted, reasons = fit_length(encoded, max_length, "truncate")
    assert fitted == replace(encoded, prompt=left)
    assert reasons == (() if max_length == 6 else ("prompt_end_cut",))


def test_a_question_that_leaves_no_room_for_its_passage():
    encoded = Encoded((1, 9, 9, 2, 11, 12, 2), ((4, 5),), num_head=4, num_tail=1, kind="span")
    assert fit_length(encoded, 5, "truncate") == (None, ("prompt_fills_length",))
    assert fit_length(encoded, 6, "drop") == (None, ("overflow_dropped",))
    with pytest.raises(DataError, match="7 tokens do not fit"):
        fit_length(encoded, 6, "error")
