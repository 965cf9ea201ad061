"""``prepare=[drop_leaks]``: no training row asks what is validated or tested on, in whatever spelling."""

from collections.abc import Callable, Sequence
from typing import cast
from unicodedata import normalize

from dpo_lab.data.near_duplicates import near_duplicates
from dpo_lab.data.preparation import OfTraining, Responses, Work
from dpo_lab.data.text_notes import SHOWN, bare, with_images
from dpo_lab.types import Example, Message

Ask = Callable[[Example], str]


def drop_leaks(*, near: bool = False) -> OfTraining:
    """Drop training rows whose prompt is held out, but for case, white space, Unicode form and signs without a width.

    Rows with equal prompts never part where a share is split off; what is left are prompts that stand in two files, and
    those that differ in spelling alone. Of a question what counts is its passage, as it does in the split; of a prompt
    that shows images these belong to it.

    Args:
        near: whether prompts that are almost the same count as the same: a Jaccard similarity of their runs of six
            characters of at least 0.8, as `dpo-lab audit` counts them. Linked one by one: a chain goes whole.
    """

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        ask = _asked(work.responses)
        spelled = {_spelled(ask(example)) for example in work.held_out}
        alike = _nearly(ask, rows, work.held_out) if near else frozenset()
        kept = []
        for example in rows:
            if _spelled(ask(example)) in spelled:
                work.drop("held_out_prompt", example.source)
            elif ask(example) in alike:
                work.drop("nearly_held_out_prompt", example.source)
            else:
                kept.append(example)
        return kept

    return OfTraining(apply)


def _asked(responses: Responses) -> Ask:
    if responses == "spans":
        return lambda example: cast(list[Message], example.prompt)[0]["content"]
    return lambda example: with_images(example.prompt)


def _spelled(text: str) -> str:
    """Equal for texts that differ in spelling alone; hashes of images stay what they are."""
    words, mark, shown = text.partition(SHOWN)
    return bare(normalize("NFKC", words)).casefold() + mark + shown


def _nearly(ask: Ask, rows: Sequence[Example], held_out: Sequence[Example]) -> frozenset[str]:
    """What is linked to anything that is held out."""
    texts = list(dict.fromkeys(map(ask, (*held_out, *rows))))
    num_held_out = len(set(map(ask, held_out)))
    groups = (group for group in near_duplicates(texts) if group[0] < num_held_out)
    return frozenset(texts[index] for group in groups for index in group)
