"""Copies of training rows whose prompt says the same in another way."""

import hashlib
import random
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import islice
from typing import cast

from dpo_lab.data.preparation import Work
from dpo_lab.data.split import prompt_key
from dpo_lab.prepare.spelling import HeldOut
from dpo_lab.types import Example, Message, Text

Variants = Callable[[str, random.Random], Iterable[str]]
"""Other ways to say a text, endlessly many or not; drawn from the generator alone."""

SAME = "no copy, since it would say what is there already"
HELD_OUT = "no copy, since its prompt is held out of training"
NO_TURN = "no copy, without a turn of the user whose text is in one piece"


def add_copies(
    rows: Sequence[Example], work: Work, variants: Variants, *, num_copies: int | None, seed: int
) -> list[Example]:
    """`rows`, each followed by at most `num_copies` of it with other prompts; with 0 the rows themselves are rewritten.

    Of a chat the last turn of the user is rewritten, where its images all stand in front of its text or all behind it;
    all else stays. What is drawn depends on
    `seed` and the prompt alone: rows with one prompt get the same, other rows change nothing, and more copies leave the
    first ones what they were. No copy is made that would stand there twice, or whose prompt is held out of training in
    any spelling.

    Args:
        num_copies: None for as many as there are variants.
    """
    # A copy of a question keeps the passage: what is new about it is the question.
    held_out = HeldOut(work.held_out, "texts")
    return [
        copy for row in rows for copy in with_copies(row, work, held_out, variants, num_copies=num_copies, seed=seed)
    ]


def with_copies(
    example: Example, work: Work, held_out: HeldOut, variants: Variants, *, num_copies: int | None, seed: int
) -> list[Example]:
    """What `add_copies` makes of one row."""
    prompts = _other_prompts(example, work, held_out, variants, 1 if num_copies == 0 else num_copies, seed)
    if num_copies == 0:
        work.num_changed += len(prompts)
        return [replace(example, prompt=prompt) for _, prompt in prompts] or [example]
    work.num_made += len(prompts)
    return [example] + [replace(example, prompt=p, source=f"{example.source}, {work.name} {n}") for n, p in prompts]


def _other_prompts(
    example: Example, work: Work, held_out: HeldOut, variants: Variants, num: int | None, seed: int
) -> list[tuple[int, Text]]:
    """At most `num` prompts that differ from that of `example` and from each other, by their numbers from 1."""
    key = prompt_key(example.prompt)
    turn = rewritable_turn(example.prompt)
    if turn is None:
        work.details[NO_TURN] += 1
        return []
    seen, found = {key}, []
    for number, text in enumerate(islice(variants(turn, draw(seed, key)), num), 1):
        prompt = with_turn(example.prompt, text)
        key = prompt_key(prompt)
        if key in seen:
            work.details[SAME] += 1
        elif prompt in held_out:
            work.details[HELD_OUT] += 1
        else:
            seen.add(key)
            found.append((number, prompt))
    return found


def draw(seed: int, content: str) -> random.Random:
    """A generator that depends on `seed` and `content` alone."""
    return random.Random(hashlib.sha256(f"{seed}\n{content}".encode()).digest())


def rewritable_turn(prompt: Text) -> str | None:
    """The text of a prompt, or of a chat that of the user's last turn; None where there is none in one piece."""
    if isinstance(prompt, str):
        return prompt
    number = _last_turn(prompt)
    place = None if number is None else _place_of_text(prompt[number])
    return None if number is None or place is None else prompt[number]["content"][place]


def with_turn(prompt: Text, text: str) -> Text:
    """`prompt` with another text where `rewritable_turn` found one; images stay on their side of it."""
    number = None if isinstance(prompt, str) else _last_turn(prompt)
    if isinstance(prompt, str) or number is None:
        return text
    turn = prompt[number]
    place = _place_of_text(turn)
    assert place is not None
    content, images = turn["content"], turn.get("images", [])
    whole = content[: place.start] + text + content[place.stop :]
    changed = cast(Message, {**turn, "content": whole})
    if images:
        moved = len(whole) - len(content)
        changed["images"] = [(at + moved * (at >= place.stop), sha256) for at, sha256 in images]
    return [*prompt[:number], changed, *prompt[number + 1 :]]


def _place_of_text(turn: Message) -> slice | None:
    """Where the text of a turn is, without the white space beside its images; None where these part it."""
    content = turn["content"]
    places = [at for at, _ in turn.get("images", [])]
    if not places:
        return slice(0, len(content))
    start, stop = len(content) - len(content.lstrip()), len(content.rstrip())
    is_in_front, is_behind = max(places) <= start, min(places) >= stop
    return slice(start, stop) if start < stop and (is_in_front or is_behind) else None


def _last_turn(messages: Sequence[Message]) -> int | None:
    return next((number for number in reversed(range(len(messages))) if messages[number]["role"] == "user"), None)
