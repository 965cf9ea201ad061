"""``prepare=[drop_duplicates]``: of rows that say the same, one stays."""

from collections.abc import Callable, Iterable, Sequence
from typing import Literal

from dpo_lab.data.judgement import Judgement
from dpo_lab.data.near_duplicates import near_duplicates
from dpo_lab.data.preparation import BeforeSplit, Work
from dpo_lab.data.split import Split, prompt_key
from dpo_lab.data.text_notes import with_images
from dpo_lab.types import Example, Text

Of = Literal["rows", "prompts"]
Name = Callable[[Text], object]
"""Gives equal things for texts that are taken for the same."""


def drop_duplicates(*, of: Of = "rows", near: bool = False) -> BeforeSplit:
    """Drop the rows that repeat another one, whatever file or side they stand in.

    The first row stays, where test rows come first, then validation rows, then training rows, each in the order of
    their files: so a training row that repeats a held-out one goes, and not the other way round.

    Args:
        of: "rows": the same prompt, the same responses, judged in the same way; a row that says the opposite is none.
            "prompts": the same prompt alone, so that each has one row.
        near: whether texts that are almost the same count as the same: a Jaccard similarity of their runs of six
            characters of at least 0.8, case and white space aside, as `dpo-lab audit` counts them. Rows are linked one
            by one, so the ends of a chain may be less alike. Responses of one row that are almost the same are told
            apart.
    """

    def apply(sides: Split, work: Work) -> Split:
        seen: set[object] = set()
        exact: set[object] = set()
        of_prompt, of_response = _names(sides) if near else (prompt_key, prompt_key)
        unit = of.removesuffix("s")
        kept: list[list[Example]] = []
        for rows in reversed(sides):
            left = []
            for example in rows:
                same = _key(example, of, prompt_key, prompt_key)
                key = _key(example, of, of_prompt, of_response)
                if key in seen:
                    work.drop(f"repeated_{unit}" if same in exact else f"nearly_repeated_{unit}", example.source)
                else:
                    left.append(example)
                    seen.add(key)
                    exact.add(same)
            kept.append(left)
        return Split(*reversed(kept))

    return BeforeSplit(apply)


def _key(example: Example, of: Of, of_prompt: Name, of_response: Name) -> object:
    if of == "prompts":
        return of_prompt(example.prompt)
    said = [of_response(response) for response in example.responses]
    if len(set(said)) < len(said):
        said = [prompt_key(response) for response in example.responses]
    return (of_prompt(example.prompt), tuple(said), Judgement.of(example))


def _names(sides: Iterable[Sequence[Example]]) -> tuple[Name, Name]:
    """Of prompts and of responses: near duplicates have one name."""
    examples = [example for rows in sides for example in rows]
    prompts = _linked([example.prompt for example in examples])
    responses = _linked([response for example in examples for response in example.responses])
    return prompts, responses


def _linked(texts: Sequence[Text]) -> Name:
    distinct = list(dict.fromkeys(map(with_images, texts)))
    number = {text: index for index, text in enumerate(distinct)}
    for group in near_duplicates(distinct):
        number.update(dict.fromkeys((distinct[index] for index in group), group[0]))
    return lambda text: number[with_images(text)]
