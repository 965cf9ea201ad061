"""What every kind of data gives: examples, and how the run is to treat them."""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from functools import cached_property
from typing import Literal

from dpo_lab.data.judgement import Judgement
from dpo_lab.data.named_items import NamedItems
from dpo_lab.data.preparation import Responses
from dpo_lab.data.report import DataReport
from dpo_lab.types import Example

Overflow = Literal["drop", "truncate", "error"]
OnProblem = Literal["error", "drop"]
TrueReward = Callable[[str, str], float]
"""Reward of a prompt with a response."""


@dataclass(frozen=True)
class DataSource:
    """Examples of one data set, read and judged, not yet tokens.

    `test` is looked at once, after training, and never to choose anything; it is empty where the run has none.
    `demonstrations` have one response and no pair: what the supervised stage imitates. `max_length`
    counts the tokens of prompt and response together; `has_overflow_knob` says whether the data lets the user choose
    `on_overflow`, as ``data.on_overflow``. `on_problem` says what was done with rows that could not
    be used. `true_reward` gives the reward of a prompt with a response, both as text, where the data knows it;
    of a chat the prompt is what its template has made of it. `classes` are all that a response can be, in order, where
    it is one of a few. `responses` says what kind they are. `named_items` is the catalogue where
    responses are free text that names items of one.
    """

    train: list[Example]
    validation: list[Example]
    demonstrations: list[Example]
    max_length: int
    on_overflow: Overflow
    shuffle: bool
    report: DataReport
    on_problem: OnProblem = "error"
    true_reward: TrueReward | None = None
    test: list[Example] = field(default_factory=list)
    classes: tuple[str, ...] | None = None
    responses: Responses = "texts"
    named_items: NamedItems | None = None
    has_overflow_knob: bool = True

    @property
    def sets(self) -> dict[str, list[Example]]:
        """What a run scores, by name; no `test` where there is none."""
        return {"train": self.train, "validation": self.validation} | ({"test": self.test} if self.test else {})

    @cached_property
    def fingerprint(self) -> str:
        """sha256 (hex) of the contents of all examples, and of the classes in their order where there are any."""
        held_out = [self.test] if self.test else []
        found = fingerprint_examples(self.train, self.validation, self.demonstrations, *held_out)
        if self.classes is None:
            return found
        return hashlib.sha256(json.dumps([found, self.classes]).encode()).hexdigest()


def fingerprint_examples(*groups: Sequence[Example]) -> str:
    """sha256 (hex) of the contents of `groups` in order; where a row came from does not enter."""
    digest = hashlib.sha256()
    for group in groups:
        digest.update(f"{len(group)}\n".encode())
        for example in group:
            judgement = astuple(Judgement.of(example))
            content = [example.prompt, example.responses, *judgement]
            digest.update(json.dumps(content, sort_keys=True).encode() + b"\n")
    return digest.hexdigest()


def chosen_demonstrations(examples: Sequence[Example]) -> list[Example]:
    """What each example gives to imitate (`Judgement.chosen`), each distinct (prompt, response) once, in order."""
    seen: set[str] = set()
    demonstrations = []
    for example in examples:
        for index in Judgement.of(example).chosen():
            response = example.responses[index]
            content = json.dumps([example.prompt, response], sort_keys=True)
            if content not in seen:
                seen.add(content)
                demonstrations.append(
                    Example(example.prompt, (response,), source=example.source, images=example.images)
                )
    return demonstrations
