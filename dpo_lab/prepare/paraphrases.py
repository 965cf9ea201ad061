"""``prepare=[paraphrases]``: copies of training rows in other words, which a model has found beforehand."""

import random
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from dpo_lab.data.preparation import OfTraining, Responses, Work
from dpo_lab.prepare.copies import with_copies
from dpo_lab.prepare.paraphrase_file import read_paraphrases
from dpo_lab.prepare.spelling import HeldOut
from dpo_lab.ranges import PositiveInt
from dpo_lab.types import Example, Message, Text

NOT_ALL = "no copy, without another paraphrase of every response"
LEAK = "no copy, since their own prompt is held out of training"
ALIKE = "no copy, since two responses would be the same"
REFUSED: dict[Responses, str] = {
    "classes": "responses are names of classes, and the file has paraphrases of responses",
    "spans": "responses are pieces of a passage, and the file has paraphrases of responses",
}


def paraphrases(*, path: str, num_copies: PositiveInt | None = None) -> OfTraining:
    """Add copies of rows whose prompt, or whose responses, say the same in words that ``dpo-lab paraphrase`` has found.

    Of prompts: of a chat the last turn of the user. Of responses: all of a row at once, chosen and rejected alike, each
    by its paraphrase of the same number. If only one of them were in the model's words, those words would give away
    which was chosen.

    A row whose own prompt is held out of training, in any spelling, gets no copy, and none is made whose prompt is.

    Args:
        path: what ``dpo-lab paraphrase`` wrote.
        num_copies: at most so many of each row; null: as many as there are paraphrases.

    Raises:
        DataError: no such file, or one that holds anything else.
    """
    found = read_paraphrases(path)

    def variants(text: str, generator: random.Random) -> Sequence[str]:
        return found.rewrites.get(text, ())

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        work.report.made_with.append(f"{path}: {found.said()}")
        own, whole = HeldOut(work.held_out, work.responses), HeldOut(work.held_out, "texts")
        prepared: list[Example] = []
        for example in rows:
            if example.prompt in own:
                work.details[LEAK] += 1
                prepared.append(example)
            elif found.of == "prompts":
                prepared += with_copies(example, work, whole, variants, num_copies=num_copies, seed=0)
            else:
                prepared += [example, *_with_other_responses(example, found.rewrites, num_copies, work)]
        return prepared

    return OfTraining(apply, REFUSED if found.of == "responses" else {})


def _with_other_responses(
    example: Example, rewrites: Mapping[str, Sequence[str]], num_copies: int | None, work: Work
) -> list[Example]:
    texts = [said(response) for response in example.responses]
    known = [() if text is None else rewrites.get(text, ()) for text in texts]
    num = min(map(len, known))
    if not num:
        work.details[NOT_ALL] += 1
    copies = []
    for number in range(num if num_copies is None else min(num, num_copies)):
        others = [one[number] for one in known]
        if len(set(others)) < len(others):
            work.details[ALIKE] += 1
            continue
        responses = tuple(map(in_words, example.responses, others))
        copies.append(replace(example, responses=responses, source=f"{example.source}, {work.name} {number + 1}"))
    work.num_made += len(copies)
    return copies


def said(response: Text) -> str | None:
    """The text of a response; None where it is more than one turn."""
    if isinstance(response, str):
        return response
    return response[0]["content"] if len(response) == 1 else None


def in_words(response: Text, text: str) -> Text:
    """`response` in other words; the white space in front of it stays, which keeps it apart from its prompt."""
    if isinstance(response, str):
        return response[: len(response) - len(response.lstrip())] + text.lstrip()
    return [cast(Message, {**response[0], "content": text})]
