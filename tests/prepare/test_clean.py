from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.errors import DataError
from dpo_lab.prepare.clean import DEFAULT, MOVED, clean
from dpo_lab.prepare.cleaning import CHARACTERS, Cleaner
from dpo_lab.types import Example
from tests.prepare.rows import on_every_row, pair

TEXTS = st.text(
    st.sampled_from(
        "ab \t\n\r\x00\x0b\x85\xa0\u200b\u200d\u2028\ufeff\ufffd\ufdd0\uffff\u0301\u0344e\u0338=ﬁＡ\u00ad한ᄒ"
    )
    | st.characters(exclude_categories=["Cs"]),
    max_size=12,
)
WHITE = ["strip", "collapse", None]
FORMS = ["NFC", "NFKC", None]


def test_by_hand():
    """Windows' line break; a zero byte, a lost character, a mark; e with an accent of its own; blanks at the ends."""
    [row], counts = on_every_row(clean(), [pair(" two\r\nlines\x00", "cafe\u0301 \ufffd!\ufeff", " \u200bno ")])
    assert (row.prompt, row.responses) == ("two\nlines", ("café !", " no"))
    assert counts["changed"] == 1 and counts["dropped"] == 0
    acted = ("NFC", "byte_order_mark", "control", "line_breaks", "replacement", "white_space", "zero_width")
    assert counts["details"] == dict.fromkeys(acted, 1)


def test_what_stands_between_a_prompt_and_its_responses_stays():
    """Without it their words would run together; of a chat each turn stands alone."""
    [row], _ = on_every_row(clean(), [pair("2 + 2 = ", " 4", "\n5 ")])
    assert (row.prompt, row.responses) == ("2 + 2 = ", (" 4", "\n5"))
    chat = [{"role": "user", "content": " Hi  there "}]
    [row], _ = on_every_row(clean(whitespace="collapse"), [pair(chat, [{"role": "assistant", "content": " Yes \n"}])])
    assert row.prompt == [{"role": "user", "content": "Hi there"}]
    assert row.responses == ([{"role": "assistant", "content": "Yes"}], "bad")


def test_what_can_carry_meaning_goes_only_where_it_is_named():
    family, persian = "👨\u200d👩\u200d👧", "می\u200cرسد"
    rows = [pair(f"{family} {persian} x² ﬁ so\u00adft \ue000")]
    assert on_every_row(clean(), rows)[0] == rows
    named = clean(characters=["joiner", "soft_hyphen", "private_use"], unicode="NFKC")
    [row], counts = on_every_row(named, rows)
    assert row.prompt == "👨👩👧 میرسد x2 fi soft "
    assert counts["details"] == {"NFKC": 1, "joiner": 1, "private_use": 1, "soft_hyphen": 1}


def test_rows_that_say_nothing_any_more_are_dropped_and_counted():
    rows = [pair("\ufeff"), pair("q", "\x00"), pair("q", "a\u200b", "a"), pair("q")]
    kept, counts = on_every_row(clean(), rows)
    assert kept == rows[3:]
    assert counts["reasons"] == {"empty_after_cleaning": 2, "equal_after_cleaning": 1}
    assert (counts["read"], counts["dropped"], counts["kept"], counts["changed"]) == (4, 3, 1, 0)
    with pytest.raises(DataError, match=r"prepare.step has left none of the 2 rows of data.path"):
        on_every_row(clean(), rows[:2])


def test_names_of_classes_stay():
    [row], _ = on_every_row(clean(), [Example("  a title ", ("sport ",))], "classes")
    assert (row.prompt, row.responses) == ("a title", ("sport ",))


def spans(passage: str, *found: str) -> Example:
    def turn(text: str) -> list[Any]:
        return [{"role": "assistant", "content": text, "start": passage.index(text)}]

    prompt: list[Any] = [{"role": "system", "content": passage}, {"role": "user", "content": " who? "}]
    return Example(prompt, tuple(map(turn, found)), ((0, 1),) if len(found) > 1 else ())


def test_spans_move_with_their_passage():
    """Of the two blanks, the mark and the zero byte in front of Bob four characters go."""
    [row], counts = on_every_row(
        clean(), [spans("  \ufeffMr\x00 Bob Cafe\u0301 met Ann ", "Bob Cafe\u0301", "Ann")], "spans"
    )
    [passage, question], answers = row.prompt, row.responses
    assert (passage["content"], question["content"]) == ("Mr Bob Café met Ann", "who?")
    assert [(turn[0]["content"], turn[0]["start"]) for turn in answers] == [("Bob Café", 3), ("Ann", 16)]
    assert counts["changed"] == 1


def test_a_span_whose_place_would_be_lost_leaves_its_row_as_it_was():
    """The accent is of the answer and the letter is not, so they cannot become one character."""
    rows = [spans("cafe\u0301s", "\u0301s")]
    kept, counts = on_every_row(clean(), rows, "spans")
    assert kept == rows and counts["details"] == {MOVED: 1} and counts["changed"] == 0


@given(TEXTS, st.sampled_from(WHITE), st.sampled_from(FORMS), st.booleans(), st.booleans())
def test_cleaning_twice_is_cleaning_once(text: str, white: Any, form: Any, breaks: bool, seam: bool):
    for names in (DEFAULT, tuple(CHARACTERS), ()):
        cleaner = Cleaner(names, breaks, form, white)
        once = cleaner.clean(text, left=seam)
        assert cleaner.clean(once, left=seam) == once
        assert not any(character in "\x00\ufffd\ufeff\u200b\uffff" for character in once) or not names


@given(st.lists(TEXTS, min_size=3, max_size=3), st.sampled_from(WHITE))
def test_pieces_of_a_passage_stay_what_they_are(pieces: list[str], white: Any):
    """The span between two places is what cleaning makes of it, in whatever it stands, or the places are not said."""
    cleaner = Cleaner(DEFAULT, True, "NFC", white)
    text, start = "".join(pieces), len(pieces[0])
    found = cleaner.clean_between(text, [start, start + len(pieces[1])], done=set())
    if found is not None:
        whole, moved = found
        span = whole[moved[start] : moved[start + len(pieces[1])]]
        assert whole == cleaner.clean(text)
        assert span.strip() == cleaner.clean(pieces[1]).strip()
