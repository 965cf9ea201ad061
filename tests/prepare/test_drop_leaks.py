"""No training row asks what is held out; what is held out stays."""

from typing import Any

from dpo_lab.prepare.drop_leaks import drop_leaks
from tests.prepare.rows import on_training, pair

ASKED = "Who painted the large window in the old town hall?"


def test_in_whatever_spelling():
    """Case, blanks and line breaks, full width, an accent in two signs, a sign without a width; not another word."""
    spellings = [
        ASKED,
        ASKED.upper(),
        ASKED.replace(" ", " \n ") + " ",
        ASKED.replace("W", "\uff37"),
        ASKED.replace("h", "h\u200b"),
        "Cafe\u0301?",
        "a wholly different question",
        ASKED.replace("large", "small"),
    ]
    rows = [pair(prompt, source=f"row {number}") for number, prompt in enumerate(spellings)]
    held_out = [pair(ASKED, "other", "answers"), pair("Caf\u00e9?")]
    kept, counts = on_training(drop_leaks(), rows, held_out)
    assert kept == rows[6:]
    assert (counts["read"], counts["dropped"], counts["kept"]) == (8, 6, 2)
    assert counts["reasons"] == {"held_out_prompt": 6}


def test_what_is_almost_the_same_goes_where_it_is_asked_for():
    rows = [pair(f"{ASKED} Please."), pair("a wholly different question"), pair(ASKED.lower())]
    held_out = [pair(ASKED)]
    assert on_training(drop_leaks(), rows, held_out)[0] == rows[:2]
    kept, counts = on_training(drop_leaks(near=True), rows, held_out)
    assert kept == [rows[1]]
    assert counts["reasons"] == {"held_out_prompt": 1, "nearly_held_out_prompt": 1}


def test_rows_that_are_like_each_other_alone_stay():
    rows = [pair(f"{ASKED} Please."), pair(f"{ASKED} Please!")]
    assert on_training(drop_leaks(near=True), rows, [pair("a wholly different question")])[0] == rows
    assert on_training(drop_leaks(near=True), rows)[0] == rows


def test_of_questions_the_passage_counts():
    def asks(passage: str, question: str) -> list[Any]:
        return [{"role": "system", "content": passage}, {"role": "user", "content": question}]

    def row(passage: str, question: str) -> Any:
        spans = [[{"role": "assistant", "content": "x", "start": start}] for start in (0, 1)]
        return pair(asks(passage, question), spans[0], spans[1])

    rows = [row("A  passage", "What?"), row("another one", "What?")]
    assert on_training(drop_leaks(), rows, [row("a passage", "Who?")], "spans")[0] == rows[1:]


def test_of_images_the_image_counts():
    def shows(sha256: str, text: str) -> list[Any]:
        return [{"role": "user", "content": text, "images": [(0, sha256)]}]

    rows = [pair(shows("aa" * 32, "What is it?")), pair(shows("bb" * 32, "What is it?"))]
    assert on_training(drop_leaks(), rows, [pair(shows("aa" * 32, "WHAT is it?"))])[0] == rows[1:]
