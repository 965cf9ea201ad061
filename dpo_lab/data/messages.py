"""Chat messages: ``{"role", "content"}`` or ShareGPT's ``{"from", "value"}``, and where a conversation splits."""

from collections.abc import Callable
from typing import Any
from unicodedata import category

from dpo_lab.data.errors import RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.text_notes import contents, is_serialised_chat
from dpo_lab.types import Message, Text

ROLES = {
    "system": "system",
    "developer": "developer",
    "user": "user",
    "human": "user",
    "assistant": "assistant",
    "gpt": "assistant",
    "tool": "tool",
    "observation": "tool",
}
"""Every role that is understood, and the role it becomes."""

INVISIBLE = frozenset({"Cf", "Zs", "Zl", "Zp"})
"""Unicode's classes of signs that show nothing by themselves: zero-width spaces, joiners, marks of direction."""

ShowImage = Callable[[Any, str], str]
"""Gives the hash by which a message names a picture, of what the data has for it (or of None) and its column."""


def no_image(value: Any, column: str) -> str:
    """For texts that show nothing.

    Raises:
        RowError: `image_in_response`, always.
    """
    raise RowError("image_in_response", column, "an image, where only text can be said or read")


def read_string(value: Any, column: str) -> str:
    """`value`, if it is text.

    Raises:
        RowError: `null_value`, `not_text`, `broken_unicode`.
    """
    if value is None:
        raise RowError("null_value", column, "null where text belongs")
    if not isinstance(value, str):
        raise RowError("not_text", column, f"{type(value).__name__} where text belongs", excerpt(value))
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise RowError("broken_unicode", column, f"half a surrogate pair at character {error.start}") from None
    return value


def read_text(value: Any, column: str, show: ShowImage = no_image) -> Text:
    """Text, or a list of messages with known roles; a single message becomes a list of one.

    What a message says may be a list of parts: texts, and images, which `show` finds.

    Raises:
        RowError: `null_value`, `not_text`, `broken_unicode`, `serialised_messages`, `bad_message`, `unknown_role`, and
            what `show` raises.
    """
    if isinstance(value, dict):
        return [_read_message(value, column, show)]
    if isinstance(value, list):
        return [_read_message(item, column, show) for item in value]
    text = read_string(value, column)
    if is_serialised_chat(text):
        raise RowError("serialised_messages", column, "a list of chat messages that was written as text")
    return text


def is_blank(text: Text) -> bool:
    r"""Whether nothing of `text` can be seen: white space, and signs without a width of their own.

    >>> is_blank(" \n"), is_blank("\u200b\ufeff"), is_blank("a\u200b")
    (True, True, False)
    """
    visible = "".join(contents(text)).strip()
    return not visible or (not visible.isascii() and all(category(sign) in INVISIBLE for sign in visible))


def shows_images(text: Text) -> bool:
    """Whether any message of `text` shows an image."""
    return not isinstance(text, str) and any("images" in message for message in text)


def split_conversation(messages: list[Message], column: str) -> tuple[list[Message], list[Message]]:
    """(prompt, response) of one conversation: the response is the assistant's turns that end it.

    Each side of a pair is split by itself, so the split cannot depend on what the other side says.

    Raises:
        RowError: `ends_on_human_turn`, where the last message is not the assistant's.
    """
    cut = len(messages)
    while cut and messages[cut - 1]["role"] == "assistant":
        cut -= 1
    if cut == len(messages):
        raise RowError("ends_on_human_turn", column, "the last message is not the assistant's")
    return messages[:cut], messages[cut:]


def _read_message(value: Any, column: str, show: ShowImage) -> Message:
    if not isinstance(value, dict):
        raise RowError("bad_message", column, f"{type(value).__name__} where a message {{role, content}} belongs")
    # Parquet gives every message the union of all keys, with nulls: a key may be there without a value.
    role = value.get("role") or value.get("from")
    content = value["content"] if value.get("content") is not None else value.get("value")
    if not isinstance(role, str):
        raise RowError("bad_message", column, f"a message with keys {excerpt(sorted(value, key=str))} has no role")
    if role not in ROLES:
        raise RowError("unknown_role", column, f"role {excerpt(role)}; known are {', '.join(sorted(ROLES))}")
    if not isinstance(content, list) or not all(isinstance(part, dict) for part in content):
        return Message(role=ROLES[role], content=read_string(content, column))
    return _read_parts(ROLES[role], content, column, show)


def _read_parts(role: str, parts: list[dict[str, Any]], column: str, show: ShowImage) -> Message:
    """One turn whose texts and images are listed: ``{"type": "text", "text": ...}``, ``{"type": "image", ...}``."""
    text, images = "", []
    for part in parts:
        kind = part.get("type")
        if kind == "text":
            text += read_string(part.get("text"), column)
        elif kind in ("image", "image_url"):
            images.append((len(text), show(_image_of(part), column)))
        else:
            raise RowError(
                "bad_message", column, f"a part of type {excerpt(kind)}; known are text, image and image_url"
            )
    message = Message(role=role, content=text)
    if images:
        message["images"] = images
    return message


def _image_of(part: dict[str, Any]) -> Any:
    """What a part says of its image; None where the row's own column has it."""
    found = next((part[key] for key in ("image", "image_url", "path", "url") if part.get(key) is not None), None)
    if isinstance(found, dict) and "url" in found and "bytes" not in found:
        return found["url"]
    return found
