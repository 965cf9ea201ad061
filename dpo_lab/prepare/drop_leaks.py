"""``prepare=[drop_leaks]``: no training row asks what is validated or tested on, in whatever spelling."""

from collections.abc import Callable, Sequence

from dpo_lab.data.near_duplicates import near_duplicates
from dpo_lab.data.preparation import OfTraining, Work
from dpo_lab.prepare.spelling import HeldOut, asked
from dpo_lab.types import Example, Text

Ask = Callable[[Text], str]


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
        ask, held_out = asked(work.responses), HeldOut(work.held_out, work.responses)
        alike = _nearly(ask, rows, work.held_out) if near else frozenset()
        kept = []
        for example in rows:
            if example.prompt in held_out:
                work.drop("held_out_prompt", example.source)
            elif ask(example.prompt) in alike:
                work.drop("nearly_held_out_prompt", example.source)
            else:
                kept.append(example)
        return kept

    return OfTraining(apply)


def _nearly(ask: Ask, rows: Sequence[Example], held_out: Sequence[Example]) -> frozenset[str]:
    """What is linked to anything that is held out."""
    texts = list(dict.fromkeys(ask(example.prompt) for example in (*held_out, *rows)))
    num_held_out = len({ask(example.prompt) for example in held_out})
    groups = (group for group in near_duplicates(texts) if group[0] < num_held_out)
    return frozenset(texts[index] for group in groups for index in group)
