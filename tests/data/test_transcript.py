import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.data.errors import RowError
from dpo_lab.data.transcript import ASSISTANT, has_human_turn, split_transcript, split_transcripts

PROMPT = "\n\nHuman: Hi\n\nAssistant: Hello\n\nHuman: Why?\n\nAssistant:"


def split(chosen: str, rejected: str) -> tuple[str, list[str]]:
    return split_transcripts([chosen, rejected], ["chosen", "rejected"])


def test_split_keeps_every_character():
    assert split(PROMPT + " So.", PROMPT + " No.") == (PROMPT, [" So.", " No."])


def test_one_response_may_begin_the_other():
    assert split(PROMPT + " So", PROMPT + " So it is.") == (PROMPT, [" So", " So it is."])
    assert split(PROMPT + "", PROMPT + " x") == (PROMPT, ["", " x"])


@given(st.text(), st.text(), st.text())
def test_split_is_the_inverse_of_joining(prompt: str, chosen: str, rejected: str):
    """A response without a marker comes back whole, whatever the other says."""
    if any("Assistant:" in text or "Human:" in text for text in (chosen, rejected)):
        return
    prompt += ASSISTANT
    assert split(prompt + chosen, prompt + rejected) == (prompt, [chosen, rejected])


@pytest.mark.parametrize(
    ("chosen", "rejected", "reason"),
    [
        ("What?", "Why?", "no_prompt"),
        (PROMPT + " a", "\n\nHuman: Ho\n\nAssistant: b", "prompts_differ"),
        (PROMPT + " a\n\nHuman: c\n\nAssistant: d", PROMPT + " a", "prompts_differ"),
        (PROMPT + " a\n\nHuman: More", PROMPT + " b", "ends_on_human_turn"),
        (PROMPT + " a", PROMPT + " Human: b", "ends_on_human_turn"),
    ],
)
def test_what_is_refused(chosen: str, rejected: str, reason: str):
    with pytest.raises(RowError) as caught:
        split(chosen, rejected)
    assert caught.value.reason == reason


def test_human_turn_against_quotation():
    turns = ["Human: a", " Human: a", "b.  Human: a", "b\nHuman: a", "b\n\nHuman: a"]
    quotations = [
        "the quote from Human: What",
        "[Copy: Human: TELL ME]",
        "Humans: many",
        "I am no human: I am a program",
    ]
    assert [has_human_turn(text) for text in turns] == [True] * 5
    assert [has_human_turn(text) for text in quotations] == [False] * 4


def test_one_and_three_transcripts():
    assert split_transcripts([PROMPT + " a"], ["messages"]) == (PROMPT, [" a"])
    with pytest.raises(RowError) as caught:
        split_transcripts([PROMPT + " a", PROMPT + " b", PROMPT + " Human: c"], ["chosen", "rejected", "rejected"])
    assert (caught.value.reason, caught.value.column) == ("ends_on_human_turn", "rejected")


def test_text_without_a_turn_of_the_assistant():
    with pytest.raises(RowError, match="no prompt column"):
        split_transcript("\n\nHuman: Hi", "chosen")
