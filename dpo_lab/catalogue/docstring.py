"""The docstring of a loss in its parts."""

import inspect
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

SECTIONS = ("Args", "Returns", "Raises")
SECTION = re.compile(rf"^({'|'.join(SECTIONS)}):$", flags=re.MULTILINE)
ARGUMENT = re.compile(r"^    (\w+): ", flags=re.MULTILINE)
NUMBER = r"\d+(?:\.\d+)*(?: \([^)]*\))?"
PAPER = re.compile(rf"arXiv (\d{{4}}\.\d{{4,5}})(?:,? equations? ({NUMBER}(?:(?:, | and ){NUMBER})*))?")


@dataclass(frozen=True)
class Paper:
    """An arXiv number and, where the docstring has it, the number of the equation there (``"4 and 7"``)."""

    arxiv: str
    equation: str | None = None


@dataclass(frozen=True)
class Docstring:
    """What a docstring says; paragraphs on one line each. `papers` are those of the paragraph with the source."""

    formula: str
    notes: tuple[str, ...]
    papers: tuple[Paper, ...]
    arguments: dict[str, str]
    returns: str


def read_docstring(function: Callable[..., Any]) -> Docstring:
    """The parts of the docstring of `function`; what it does not have is empty.

    >>> def squared():
    ...     '''h^2, with h a margin.
    ...
    ...     Source: nobody, arXiv 1234.56789, equations 4 (odds) and 7.
    ...
    ...     Args:
    ...         beta: larger is
    ...             steeper.
    ...     '''
    >>> read_docstring(squared).papers
    (Paper(arxiv='1234.56789', equation='4 and 7'),)
    >>> read_docstring(squared).arguments
    {'beta': 'larger is steeper.'}
    """
    body, *rest = SECTION.split(inspect.getdoc(function) or "")
    sections = dict(zip(rest[::2], rest[1::2], strict=True))
    formula, *notes = _paragraphs(body) or [""]
    _, *arguments = ARGUMENT.split(sections.get("Args", ""))
    return Docstring(
        formula=formula,
        notes=tuple(notes),
        papers=_papers(notes),
        arguments={name: _line(text) for name, text in zip(arguments[::2], arguments[1::2], strict=True)},
        returns=_line(sections.get("Returns", "")),
    )


def _paragraphs(text: str) -> list[str]:
    return [line for paragraph in text.split("\n\n") if (line := _line(paragraph))]


def _papers(notes: list[str]) -> tuple[Paper, ...]:
    sources = [note[note.index("Source:") :] for note in notes if "Source:" in note]
    found: dict[str, str | None] = {}
    for arxiv, equation in PAPER.findall(" ".join(sources)):
        found[arxiv] = found.get(arxiv) or re.sub(r" \([^)]*\)", "", equation) or None
    return tuple(Paper(arxiv, equation) for arxiv, equation in found.items())


def _line(text: str) -> str:
    return " ".join(text.split())
