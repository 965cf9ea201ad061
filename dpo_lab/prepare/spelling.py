"""When two prompts ask the same, in whatever spelling."""

from collections.abc import Callable, Sequence
from typing import cast, final
from unicodedata import normalize

from dpo_lab.data.preparation import Responses
from dpo_lab.data.text_notes import SHOWN, bare, with_images
from dpo_lab.types import Example, Message, Text


def asked(responses: Responses) -> Callable[[Text], str]:
    """What of a prompt must not stand on two sides: of a question its passage; images count."""
    if responses == "spans":
        return lambda prompt: cast(list[Message], prompt)[0]["content"]
    return with_images


def spelled(text: str) -> str:
    """Equal for texts that differ in spelling alone: case, white space, Unicode form, signs without a width.

    Hashes of images stay what they are.

    >>> spelled("\\uff37hat is\\u200b  it?") == spelled("what is it?")
    True
    """
    words, mark, shown = text.partition(SHOWN)
    return bare(normalize("NFKC", words)).casefold() + mark + shown


@final
class HeldOut:
    """The prompts that are validated or tested on; `in` says whether a prompt is one of them, in any spelling."""

    def __init__(self, rows: Sequence[Example], responses: Responses):
        self._ask = asked(responses)
        self._spelled = {spelled(self._ask(example.prompt)) for example in rows}

    def __contains__(self, prompt: object) -> bool:
        return bool(self._spelled) and spelled(self._ask(cast(Text, prompt))) in self._spelled
