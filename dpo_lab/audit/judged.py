"""What examples say, as texts: each pair, and each judged response."""

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from dpo_lab.data.judgement import Judgement
from dpo_lab.data.split import prompt_key
from dpo_lab.data.text_notes import contents
from dpo_lab.types import Example, Text


class JudgedPair(NamedTuple):
    """One pair of one example. `prompt_id` names the prompt (equal prompts, equal ids); `example` counts from 0."""

    example: int
    prompt_id: int
    prompt: str
    chosen: str
    rejected: str
    indices: tuple[int, int]


class Labelled(NamedTuple):
    """One response that was judged by itself: 1 desirable, 0 not."""

    example: int
    prompt_id: int
    prompt: str
    response: str
    label: int


def as_text(text: Text) -> str:
    """The text itself, or the contents of its messages one below the other."""
    return "\n".join(contents(text))


def prompt_ids(examples: Sequence[Example]) -> list[int]:
    """A number for each example's prompt: equal prompts have one number, in order of first appearance."""
    known: dict[str, int] = {}
    return [known.setdefault(prompt_key(example.prompt), len(known)) for example in examples]


def judged_pairs(examples: Sequence[Example]) -> Iterator[JudgedPair]:
    """Every pair of every example, in order."""
    for number, (example, prompt_id) in enumerate(zip(examples, prompt_ids(examples), strict=True)):
        prompt = as_text(example.prompt)
        texts = [as_text(response) for response in example.responses]
        for better, worse in example.pairs:
            yield JudgedPair(number, prompt_id, prompt, texts[better], texts[worse], (better, worse))


def labelled(examples: Sequence[Example]) -> Iterator[Labelled]:
    """Every response with a label of its own, in order."""
    for number, (example, prompt_id) in enumerate(zip(examples, prompt_ids(examples), strict=True)):
        if example.labels is not None:
            for index, label in Judgement.of(example).judged():
                yield Labelled(number, prompt_id, as_text(example.prompt), as_text(example.responses[index]), label)
