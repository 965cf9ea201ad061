"""Rows of JSON lines and of JSON lists."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, final

from dpo_lab.data.errors import DataError, RowError
from dpo_lab.data.excerpt import WIDTH, excerpt

Rows = Iterator[tuple[int, dict[str, Any] | RowError]]
"""(number of the row as an editor or a spreadsheet counts it, its values or what is wrong with it)."""

BYTE_ORDER_MARK = b"\xef\xbb\xbf"


@final
class _Repeating(dict[str, Any]):
    """An object of which a key stood there twice, so that one value would silently be lost."""

    key: str = ""


def read_jsonl(content: bytes, path: Path) -> Rows:
    """One object a line.

    Raises:
        DataError: where the file is one JSON list.
    """
    if content.lstrip()[:1] == b"[" and _is_list(content):
        raise DataError(f"{path} is one JSON list, not an object a line. Name it with the ending .json.")
    # Split on bytes: str.splitlines would cut a text at U+2028, which JSON allows inside of a string.
    for number, line in enumerate(content.split(b"\n"), start=1):
        if line.strip():
            yield number, _parse_line(line)


def read_json(content: bytes, path: Path) -> Rows:
    """A list of objects, one object over several lines, or an object a line.

    Raises:
        DataError: where a list is broken.
    """
    if not content.lstrip().startswith(b"["):
        yield from _read_objects(content, path)
        return
    text = decode(content, path)
    try:
        values = _loads(text)
    except json.JSONDecodeError as error:
        raise _broken_list(error, text, path) from error
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path} is no JSON: {error}. Correct it, or write one object a line (.jsonl).") from error
    for number, value in enumerate(values, start=1):
        yield number, _check_object(value)


def decode(content: bytes, path: Path) -> str:
    """`content` as text.

    Raises:
        DataError: with the line of the first byte that is not UTF-8.
    """
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        around = excerpt(content[max(0, error.start - 12) : error.start + 12].decode(errors="replace"))
        raise DataError(
            f"{path} line {line} is not UTF-8 (byte {content[error.start]:#04x} in {around}). Save it as UTF-8."
        ) from error


def _read_objects(content: bytes, path: Path) -> Rows:
    try:
        whole = _loads(content.decode())
    except (ValueError, RecursionError):
        yield from read_jsonl(content, path)
    else:
        yield 1, _check_object(whole)


def _parse_line(line: bytes) -> dict[str, Any] | RowError:
    if line.startswith(BYTE_ORDER_MARK):
        what = "a byte order mark at the start of this line (files put one behind the other?); remove it"
        return RowError("broken_json", None, what)
    try:
        text = line.decode()
    except UnicodeDecodeError as error:
        what = f"byte {line[error.start]:#04x} at {error.start} is not UTF-8"
        return RowError("wrong_encoding", None, what, excerpt(line.decode(errors="replace")))
    try:
        value = _loads(text)
    except json.JSONDecodeError as error:
        start = max(0, error.pos - WIDTH // 2)
        return RowError("broken_json", None, f"no JSON: {error}", f"near {excerpt(text[start : error.pos + WIDTH])}")
    except (ValueError, RecursionError) as error:  # thousands of digits, thousands of brackets
        return RowError("broken_json", None, f"no JSON that can be read: {error}", excerpt(text))
    return _check_object(value)


def _check_object(value: Any) -> dict[str, Any] | RowError:
    if not isinstance(value, dict):
        kind = type(value).__name__
        return RowError("not_an_object", None, f"a {kind} where an object {{...}} belongs", excerpt(value))
    repeating = _find_repeating(value)
    if repeating is not None:
        return RowError("duplicate_key", None, f"the key {repeating.key!r} stands twice in one object")
    return value


def _loads(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_object)


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) == len(pairs):
        return values
    seen: set[str] = set()
    repeating = _Repeating(values)
    repeating.key = next(key for key, _ in pairs if key in seen or seen.add(key))
    return repeating


def _find_repeating(value: Any) -> _Repeating | None:
    left = [value]
    while left:
        value = left.pop()
        if isinstance(value, _Repeating):
            return value
        if isinstance(value, dict):
            left.extend(value.values())
        elif isinstance(value, list):
            left.extend(value)
    return None


def _is_list(content: bytes) -> bool:
    try:
        return isinstance(json.loads(content), list) and content.count(b"\n", 0, len(content.rstrip())) > 0
    except (ValueError, RecursionError):
        return False


def _broken_list(error: json.JSONDecodeError, text: str, path: Path) -> DataError:
    ends = not text[error.pos :].strip() or error.msg.startswith("Unterminated string")
    why = "; the file seems to end in the middle: fetch or write it again" if ends else ""
    near = excerpt(text[max(0, error.pos - WIDTH // 2) : error.pos + WIDTH // 2])
    return DataError(
        f"{path} line {error.lineno} is no JSON: {error.msg} near {near}{why}. Correct it, or write one object a line "
        "(.jsonl), of which each is checked by itself."
    )
