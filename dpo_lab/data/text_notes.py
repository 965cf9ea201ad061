"""What looks wrong with a text that can nevertheless be trained on. Nothing is changed."""

import json
import re
from collections.abc import Iterator, Sequence
from itertools import pairwise
from unicodedata import category, normalize

from dpo_lab.data.report import DataReport
from dpo_lab.types import Example, Text

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]")
# What the bytes of UTF-8 become when read as Latin-1 or Windows-1252: a lead byte and what may follow it.
_SECOND_BYTES = "".join(bytes([byte]).decode("cp1252", errors="ignore") for byte in range(0x80, 0xC0))
_MOJIBAKE = re.compile(f"[\xc2-\xf4][\x80-\xbf{re.escape(_SECOND_BYTES)}]+")
_WORDS_FOR_MISSING = frozenset(
    {"nan", "none", "null", "nil", "na", "n/a", "#n/a", "<na>", "undefined", "[deleted]", "[removed]", "[redacted]"}
)
# A line break that was escaped twice. A lower-case letter behind it is rather TeX (``\nabla``) or a path.
_ESCAPED_BREAK = re.compile(r"\\n(?![a-z])")
_MESSAGE_START = re.compile(r"\s*\[\s*\{\s*[\"'](role|from|content|value)[\"']\s*:")


_MARKUP = re.compile(
    r"<\|(im_start|im_end|start_header_id|eot_id|user|assistant|system|end)\|>|\[/?INST\]|<(start|end)_of_turn>"
)


SHOWN = "\0images "
"""Stands between a text and the hashes of what it shows, and in no text that is sound."""


def contents(text: Text) -> list[str]:
    """The text itself, or that of each message."""
    return [text] if isinstance(text, str) else [message["content"] for message in text]


def with_images(prompt: Text) -> str:
    """The texts of its messages, one below the other, and behind them the hashes of the images that are shown.

    So the same question of another image is another text.

    >>> with_images([{"role": "user", "content": "What is it?", "images": [(0, "5e1f")]}])
    'What is it?\\x00images 5e1f'
    """
    shown = [
        sha256 for message in ([] if isinstance(prompt, str) else prompt) for _, sha256 in message.get("images", ())
    ]
    return "\n".join(contents(prompt)) + (SHOWN + " ".join(shown) if shown else "")


def notes(example: Example) -> Iterator[str]:
    """Reasons of `dpo_lab.data.reasons.REASONS`, each at most once, of effect `noted`."""
    text = "\n".join(part for side in (example.prompt, *example.responses) for part in contents(side))
    if _CONTROL.search(text):
        yield "control_character"
    if _ESCAPED_BREAK.search(text):
        yield "escaped_line_break"
    if not text.isascii():
        if "\ufffd" in text:
            yield "replacement_character"
        if "\ufeff" in text:
            yield "byte_order_mark_inside"
        if has_mojibake(text):
            yield "mojibake"
    prompt = example.prompt
    if not isinstance(prompt, str) and _is_out_of_order([message["role"] for message in prompt]):
        yield "turns_out_of_order"
    if any(
        not isinstance(part, str) and _MARKUP.search("\n".join(contents(part))) for part in (prompt, *example.responses)
    ):
        yield "template_in_chat"
    begins = _begin_with_prompt(example)
    if any(begins):
        yield "prompt_repeated" if all(begins) else "prompt_in_some"
    if any(bare(response).lower() in _WORDS_FOR_MISSING for response in (prompt, *example.responses)):
        yield "word_for_missing"
    if any(bare(example.responses[a]) == bare(example.responses[b]) for a, b in example.pairs):
        yield "same_but_for_white_space"


def count_notes(examples: Sequence[Example], report: DataReport) -> None:
    """Count `notes` of each of `examples`, as it stands."""
    for example in examples:
        for reason in notes(example):
            report.count(reason, source=example.source)


def has_mojibake(text: str) -> bool:
    """Whether `text` holds UTF-8 that was read as Windows-1252 or Latin-1.

    >>> has_mojibake("cafÃ©"), has_mojibake("itâ€™s"), has_mojibake("café, ÂNGELO")
    (True, True, False)
    """
    return any(_was_utf8(match.group()) for match in _MOJIBAKE.finditer(text))


def is_serialised_chat(text: str) -> bool:
    """Whether `text` is a whole list of chat messages written as JSON, or as Python prints one."""
    if not _MESSAGE_START.match(text) or not text.rstrip().endswith("]"):
        return False
    if "'" in text[: text.index(":")]:
        return True
    try:
        messages = json.loads(text)
    except (ValueError, RecursionError):
        return False
    return all(isinstance(message, dict) and {"role", "from"} & message.keys() for message in messages)


def _begin_with_prompt(example: Example) -> list[bool]:
    """Of each response; none of chats, and of prompts of one or two words, which may well open an answer."""
    responses = [response for response in example.responses if isinstance(response, str)]
    if not isinstance(example.prompt, str) or len(responses) < len(example.responses):
        return []
    prompt = example.prompt.strip()
    return [response.strip().startswith(prompt) for response in responses] if len(prompt.split()) > 2 else []


def _is_out_of_order(roles: list[str]) -> bool:
    """Of the roles of a prompt. Tools may answer several times in a row."""
    again = any(role == other != "tool" for role, other in pairwise(roles))
    return again or "user" not in roles or any(role in ("system", "developer") for role in roles[1:])


def _was_utf8(text: str) -> bool:
    for encoding in ("cp1252", "latin-1"):
        try:
            text.encode(encoding).decode()
        except UnicodeError:
            continue
        return True
    return False


def bare(text: Text) -> str:
    """What is seen of `text`: one Unicode form, one kind of white space, no signs without a width."""
    joined = "\n".join(contents(text))
    if not joined.isascii():
        joined = "".join(sign for sign in normalize("NFC", joined) if category(sign) != "Cf")
    return " ".join(joined.split())
