"""Transcripts in the manner of Anthropic-HH: ``"\\n\\nHuman: ...\\n\\nAssistant: ..."`` in one text."""

import re
from collections.abc import Sequence

from dpo_lab.data.errors import RowError
from dpo_lab.data.excerpt import around_difference

ASSISTANT = "\n\nAssistant:"

# A turn starts on a line of its own; in the published files it also stands behind the double space that ends a
# sentence there. "Human:" after a single space is a quotation.
_HUMAN_TURN = re.compile(r"(?:\A|\n|\s{2})\s*Human:")


def split_transcript(text: str, column: str) -> tuple[str, str]:
    """(prompt, response) of one transcript, cut behind its last ``"\\n\\nAssistant:"``; nothing is stripped.

    Each side of a pair is cut by itself, so the cut cannot depend on what the other side says (one response may
    be the beginning of the other).

    Raises:
        RowError: `no_prompt`, where there is no Assistant turn.
    """
    cut = text.rfind(ASSISTANT)
    if cut < 0:
        raise RowError("no_prompt", column, "there is no prompt column, and no '\\n\\nAssistant:' in this text")
    cut += len(ASSISTANT)
    return text[:cut], text[cut:]


def has_human_turn(response: str) -> bool:
    """Whether a turn of the human stands inside of `response`.

    >>> has_human_turn(" Human: Why not?"), has_human_turn(" Well.  Human: Why not?"), has_human_turn(" Why, Human: no")
    (True, True, False)
    """
    return _HUMAN_TURN.search(response) is not None


def split_transcripts(texts: Sequence[str], columns: Sequence[str]) -> tuple[str, list[str]]:
    """(prompt, the response of each) of transcripts that answer one prompt; `columns` name them in messages.

    Raises:
        RowError: `no_prompt`, `prompts_differ`, `ends_on_human_turn`.
    """
    sides = [split_transcript(text, column) for text, column in zip(texts, columns, strict=True)]
    if any(prompt != sides[0][0] for prompt, _ in sides):
        differing = next(prompt for prompt, _ in sides if prompt != sides[0][0])
        what = "chosen and rejected differ before their last Assistant turn"
        raise RowError("prompts_differ", None, what, around_difference(sides[0][0], differing))
    for (_, response), column in zip(sides, columns, strict=True):
        if has_human_turn(response):
            raise RowError("ends_on_human_turn", column, f"a Human turn in the response: {response[:40]!r}")
    return sides[0][0], [response for _, response in sides]
