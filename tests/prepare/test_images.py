"""Prompts that show images: these stay where they stand between the words, and tell rows apart."""

from typing import Any

from dpo_lab.prepare.clean import clean
from dpo_lab.prepare.copies import NO_TURN
from dpo_lab.prepare.drop_duplicates import drop_duplicates
from dpo_lab.prepare.templates import templates
from dpo_lab.prepare.word_dropout import word_dropout
from tests.prepare.rows import on_every_row, on_training, pair


def chat(text: str, *images: tuple[int, str]) -> list[Any]:
    return [{"role": "user", "content": text, "images": list(images)}]


def test_cleaning_moves_them_with_their_text():
    """In front of the first image two blanks, a mark and one more blank go, behind it the last one."""
    text = "  \ufefflook  here: and there "
    [row], counts = on_every_row(clean(whitespace="collapse"), [pair(chat(text, (14, "aa"), (len(text), "bb")))])
    assert row.prompt == chat("look here: and there", (10, "aa"), (20, "bb"))
    assert counts["changed"] == 1


def test_a_prompt_of_an_image_alone_is_not_empty():
    rows = [pair(chat("\ufeff", (0, "aa")))]
    kept, counts = on_every_row(clean(), rows)
    assert kept[0].prompt == chat("", (0, "aa")) and counts["dropped"] == 0


def test_rows_that_show_different_images_are_no_duplicates():
    text = "what is shown in this picture, and where was it taken"
    rows = [pair(chat(text, (0, "aa" * 32))), pair(chat(text, (0, "bb" * 32))), pair(chat(text, (0, "aa" * 32)))]
    for step in (
        drop_duplicates(),
        drop_duplicates(near=True),
        drop_duplicates(of="prompts"),
        drop_duplicates(of="prompts", near=True),
    ):
        assert on_every_row(step, rows)[0] == rows[:2]


def test_copies_leave_images_on_their_side_of_the_text():
    """Of `<image>`, a line break and the question the words go; images behind move with the end of the text."""
    [_, front], _ = on_training(templates(templates=["Say: {prompt}"]), [pair(chat("\nwhich colour", (0, "aa")))])
    assert front.prompt == chat("\nSay: which colour", (0, "aa"))
    [_, behind], _ = on_training(templates(templates=["Say: {prompt}"]), [pair(chat("which ", (6, "aa"), (6, "bb")))])
    assert behind.prompt == chat("Say: which ", (11, "aa"), (11, "bb"))


def test_no_copy_is_made_of_a_text_that_images_part():
    rows = [pair(chat("one two three", (3, "aa"))), pair(chat(" ", (0, "aa"))), pair(chat("a b", (0, "aa"), (3, "bb")))]
    prepared, counts = on_training(word_dropout(rate=0.5), rows)
    assert prepared == rows and counts["details"] == {NO_TURN: 3}
