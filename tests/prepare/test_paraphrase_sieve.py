"""Which texts a model is asked for, and which of its answers are kept, by hand."""

import re
from typing import Any

from dpo_lab.commands.paraphrase import PIECES
from dpo_lab.prepare.paraphrase_sieve import AGAIN, HELD_OUT, LEAK, LOST, SAME, TOO_LONG, Said, Sieve
from dpo_lab.types import Example
from tests.prepare.rows import pair


def chat(system: str, user: str) -> Any:
    return [{"role": "system", "content": system}, {"role": "user", "content": user}]


def test_a_prompt_that_is_held_out_in_another_spelling_is_not_asked_for():
    """Case, two blanks, a full-width letter, a sign without a width; what differs in a word is asked for."""
    rows = [
        pair(text) for text in ("WHAT is it?", "what  is it? ", "\uff37hat is it?", "what\u200b is it?", "What was it?")
    ]
    sieve = Sieve(rows, [pair("What is it?")], "texts", "prompts")
    assert sieve.texts == ["What was it?"] and sieve.counts == {HELD_OUT: 4}
    assert sieve.line() == "0 of 0 paraphrases of 1 texts kept (4 texts of held-out prompts, not asked for)"
    of_responses = Sieve(
        [pair("what is IT?", "a", "b"), pair("q", "b", "c")], [pair("What is it?")], "texts", "responses"
    )
    assert of_responses.texts == ["b", "c"] and of_responses.counts == {HELD_OUT: 1}


def test_a_paraphrase_that_makes_a_held_out_prompt_is_not_kept():
    """Of a chat it is the whole prompt that counts: behind another system's turn it is another one."""
    rows = [pair("Name it."), pair(chat("Be brief.", "Say it."))]
    held_out = [pair("what is it?"), pair(chat("be brief.", "tell me"))]
    sieve = Sieve(rows, held_out, "texts", "prompts")
    answers = [Said("Name it.", words) for words in ("What is  it?", "WHAT IS IT?", "What is this?", "Tell me")]
    sieve.take([*answers, Said("Say it.", "Tell me"), Said("Say it.", "what is it?")])
    assert sieve.rewrites == {"Name it.": ["What is this?", "Tell me"], "Say it.": ["what is it?"]}
    assert sieve.counts == {"drawn": 6, "kept": 3, LEAK: 3}


def test_of_a_question_its_passage_counts():
    rows = [Example(chat("A  passage.", "Who?"), ("a",)), Example(chat("Another.", "Who?"), ("a",))]
    held_out = [Example(chat("a passage.", "When?"), ("a",))]
    assert Sieve(rows[:1], held_out, "spans", "prompts").texts == []
    assert Sieve(rows, held_out, "spans", "prompts").texts == ["Who?"]


def test_pieces_that_must_stay():
    text = "Add 3.5 and 12 to `x` of {name}, see https://a.org/b."
    sieve = Sieve([pair(text)], [], "texts", "prompts", re.compile(PIECES))
    whole = "See (https://a.org/b): to `x` of {name} come 12, 3.5"
    lacking = [whole.replace(piece, "") for piece in ("3.5", "12", "`x`", "{name}", "https://a.org/b")]
    sieve.take([Said(text, words) for words in [*lacking, whole.replace("12", "123"), whole, whole.upper()]])
    assert sieve.rewrites == {text: [whole]}
    assert sieve.counts == {"drawn": 8, "kept": 1, LOST: 6, AGAIN: 1}
    sieve.take([Said(text, f" {text.upper()} "), Said(text, problem=TOO_LONG)])
    assert sieve.counts[SAME] == sieve.counts[TOO_LONG] == 1 and sieve.counts["drawn"] == 9
