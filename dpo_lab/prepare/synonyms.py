"""``prepare=[synonyms]``: prompts of training rows with some words replaced by others that mean the same."""

import json
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.data.errors import DataError
from dpo_lab.data.preparation import OfTraining, Work
from dpo_lab.prepare.copies import add_copies
from dpo_lab.prepare.words import UNSPACED
from dpo_lab.ranges import NonNegativeInt, OpenFraction
from dpo_lab.types import Example

Synonyms = Mapping[str, Sequence[str]]


def synonyms(
    *, path: str, rate: OpenFraction = 0.3, num_copies: NonNegativeInt = 1, seed: NonNegativeInt = 0
) -> OfTraining:
    """Replace each word that the file knows with probability `rate`, by one of its alternatives, each as likely.

    Case does not count when a word is looked up; an alternative is capitalised where the word was. Of words that begin
    alike the longest is taken. Responses, passages of questions and other turns of a chat stay.

    Args:
        path: a file with alternatives of words: .json (``{"film": ["movie", "picture"]}``), or .tsv and .txt (a word
            and its alternatives a line, with tabs between them).
        rate: of known words that are replaced, in (0, 1).
        num_copies: rows made of each row, beside it; 0: the rows themselves are rewritten.
        seed: draws words and alternatives; the run's seed does not.

    Raises:
        DataError: no such file, or one that holds anything else.
    """
    known = read_synonyms(path)
    pattern = _pattern(known)

    def variants(text: str, generator: random.Random) -> Iterator[str]:
        def replaced(match: re.Match[str]) -> str:
            word = match.group()
            if generator.random() >= rate:
                return word
            other = generator.choice(known[word.casefold()])
            return other[:1].upper() + other[1:] if word[:1].isupper() else other

        while True:
            yield pattern.sub(replaced, text)

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        return add_copies(rows, work, variants, num_copies=num_copies, seed=seed)

    return OfTraining(apply)


def read_synonyms(path: str) -> dict[str, list[str]]:
    """Alternatives of each word, by the word without regard to case.

    Raises:
        DataError: as `synonyms` says.
    """
    file = Path(path).expanduser()
    where = f"prepare.synonyms.path: {path}"
    if not file.is_file():
        raise DataError(
            f"{where} is no file. Give one with a word and its alternatives a line, with tabs between them."
        )
    try:
        text = file.read_text(encoding="utf-8-sig")
        entries = list(_of_json(json.loads(text)) if file.suffix == ".json" else _of_lines(text))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where}: {error}") from error
    found: dict[str, list[str]] = {}
    for word, others in entries:
        known = found.setdefault(word.casefold(), [])
        known += [other for other in others if other not in known and other != word]
    found = {word: others for word, others in found.items() if others}
    if not found:
        raise DataError(f"{where} holds no word with an alternative.")
    return found


def _of_json(content: Any) -> Iterator[tuple[str, list[str]]]:
    if not isinstance(content, dict):
        raise ValueError('is no object such as {"film": ["movie", "picture"]}')
    for word, others in content.items():
        if (
            not word.strip()
            or not isinstance(others, list)
            or not all(isinstance(o, str) and o.strip() for o in others)
        ):
            raise ValueError(f"the alternatives of {word!r} are no list of texts")
        yield word.strip(), others


def _of_lines(text: str) -> Iterator[tuple[str, list[str]]]:
    for number, line in enumerate(text.splitlines(), 1):
        word, *others = [cell.strip() for cell in line.split("\t")]
        if not line.strip():
            continue
        if not word or not all(others) or not others:
            raise ValueError(f"line {number} is no word with alternatives behind it, tabs between them")
        yield word, others


def _pattern(known: Synonyms) -> re.Pattern[str]:
    """Whole words where blanks stand between words; anywhere where a word begins or ends with a Chinese character."""

    def bounded(word: str) -> str:
        before = "" if re.match(f"[{UNSPACED}]", word[0]) else r"(?<!\w)"
        after = "" if re.match(f"[{UNSPACED}]", word[-1]) else r"(?!\w)"
        return f"{before}{re.escape(word)}{after}"

    return re.compile("|".join(map(bounded, sorted(known, key=lambda word: (-len(word), word)))), re.IGNORECASE)
