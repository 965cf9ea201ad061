"""Questions about a passage, with the spans that answer them: SQuAD's JSON, mined spans, rows of any file."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, final

from dpo_lab.data.errors import DataError, Problem, RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.data.messages import read_string
from dpo_lab.data.mined_spans import FORMAT, read_mined
from dpo_lab.data.read_files import read_rows
from dpo_lab.data.read_hub import is_hub_name, read_hub_rows
from dpo_lab.data.row import Row

COLUMNS = {
    "question": "what is asked",
    "context": "the passage in which the answer stands",
    "answers": 'right answers: a list of {"text", "answer_start"}, or {"text": [...], "answer_start": [...]}',
    "rejected": "wrong spans, in the same form",
}
"""Every column that is read."""


class Span(NamedTuple):
    """A piece of a passage, and the character at which it begins."""

    text: str
    start: int


class Question(NamedTuple):
    """One question; `answers` are right, the first of them is the one to give; `rejected` are wrong."""

    question: str
    context: str
    answers: tuple[Span, ...]
    rejected: tuple[Span, ...]
    source: str


@final
@dataclass
class QuestionReader:
    """Reads files one after the other; `problems` cannot be used, `unanswered` have no answer in their passage.

    `made_with` says where mined spans come from.
    """

    columns: Mapping[str, str]
    problems: list[Problem] = field(default_factory=list)
    unanswered: list[str] = field(default_factory=list)
    made_with: list[str] = field(default_factory=list)
    num_read: int = 0

    def read(self, name: str, label: str) -> list[Question]:
        """Questions of one file or hub name.

        Args:
            label: what places of its rows begin with.

        Raises:
            DataError: if the file cannot be read or has no row.
        """
        questions: list[Question] = []
        problems: list[Problem] = []
        num_rows = 0
        for place, values in self._rows(Path(name).expanduser(), name):
            source = f"{label} {place}"
            num_rows += 1
            try:
                if isinstance(values, RowError):
                    raise values
                question = _read_row(Row(values, self.columns), source)
            except RowError as problem:
                column = self.columns.get(problem.column or "", problem.column)
                problems.append(Problem(source, problem.reason, column, problem.what, problem.excerpt))
                continue
            if question.answers:
                questions.append(question)
            else:
                self.unanswered.append(source)
        if not num_rows:
            raise DataError(f"{name} has no question. Give a file that holds some.")
        if len(problems) == num_rows and all(problem.reason == "missing_column" for problem in problems):
            known = "\n".join(f"  {ours}: {meaning}" for ours, meaning in COLUMNS.items())
            raise DataError(f"{name}: in every row, {problems[0].what}. Map our names with data.columns:\n{known}")
        self.problems += problems
        self.num_read += num_rows
        return questions

    def _rows(self, local: Path, name: str) -> Iterator[tuple[str, dict[str, Any] | RowError]]:
        whole = _whole_object(local)
        if whole is not None and whole.get("format") == FORMAT:
            provenance, rows = read_mined(whole, name)
            self.made_with.append(f"{name}: {provenance}")
            yield from ((f"row {number}", row) for number, row in enumerate(rows, start=1))
        elif whole is not None and isinstance(whole.get("data"), list):
            yield from _squad_rows(whole["data"])
        else:
            found = read_hub_rows(name) if not local.exists() and is_hub_name(name) else read_rows(local)
            yield from ((f"row {number}", values) for number, values in found)


def _whole_object(path: Path) -> dict[str, Any] | None:
    """What a .json file holds, where that is one object."""
    if path.suffix.lower() != ".json" or not path.is_file():
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))
    except (ValueError, RecursionError):
        return None  # read_rows says what is wrong with it
    return content if isinstance(content, dict) else None


def _squad_rows(articles: list[Any]) -> Iterator[tuple[str, dict[str, Any] | RowError]]:
    """A row a question, under our names; a place that is not built as SQuAD is becomes a `RowError`."""
    for number, article in enumerate(articles, start=1):
        paragraphs = article.get("paragraphs") if isinstance(article, dict) else None
        if not isinstance(paragraphs, list):
            yield f"article {number}", RowError("missing_column", "paragraphs", "an article without 'paragraphs'")
            continue
        for at, paragraph in enumerate(paragraphs, start=1):
            place = f"article {number} paragraph {at}"
            asked = paragraph.get("qas") if isinstance(paragraph, dict) else None
            if not isinstance(asked, list):
                yield place, RowError("missing_column", "qas", "a paragraph without 'qas'")
                continue
            for index, one in enumerate(asked, start=1):
                if isinstance(one, dict):
                    yield f"{place} question {index}", {**one, "context": paragraph.get("context")}
                else:
                    yield place, RowError("not_an_object", "qas", "a question that is no object", excerpt(one))


def _read_row(row: Row, source: str) -> Question:
    question, context = (read_string(row[column], column) for column in ("question", "context"))
    for text, column in ((question, "question"), (context, "context")):
        if not text.strip():
            raise RowError("empty_prompt", column, f"the {column} is empty")
    answers = _read_spans(row["answers"], context, "answers")
    rejected = _read_spans(row["rejected"], context, "rejected") if row.has("rejected") else ()
    return Question(question, context, answers, rejected, source)


def _read_spans(value: Any, context: str, column: str) -> tuple[Span, ...]:
    """Distinct spans of `context`, in order.

    Raises:
        RowError: `bad_answer`, `answer_not_there`.
    """
    if isinstance(value, dict):  # one answer, or SQuAD as the hub has it: lists beside each other
        texts, starts = value.get("text"), value.get("answer_start")
        if isinstance(texts, list) and isinstance(starts, list) and len(texts) == len(starts):
            value = [{"text": text, "answer_start": start} for text, start in zip(texts, starts, strict=True)]
        else:
            value = [value]
    if not isinstance(value, list):
        raise RowError("bad_answer", column, f"{type(value).__name__} where a list of answers belongs", excerpt(value))
    return tuple(dict.fromkeys(_read_span(answer, context, column) for answer in value))


def _read_span(answer: Any, context: str, column: str) -> Span:
    if not isinstance(answer, dict):
        raise RowError("bad_answer", column, 'an answer is an object {"text", "answer_start"}', excerpt(answer))
    text, start = read_string(answer.get("text"), column), answer.get("answer_start")
    if not text.strip():
        raise RowError("bad_answer", column, "an answer without text")
    if start is None:
        start = context.find(text)
        if start < 0 or context.find(text, start + 1) >= 0:
            times = "nowhere" if start < 0 else "more than once"
            raise RowError("bad_answer", column, f"no answer_start, and {excerpt(text)} stands {times} in the passage")
    if not isinstance(start, int) or isinstance(start, bool) or start < 0:
        raise RowError("bad_answer", column, f"answer_start {excerpt(start)} is no number of characters")
    if context[start : start + len(text)] != text:
        found = excerpt(context[start : start + len(text)])
        raise RowError(
            "answer_not_there", column, f"{excerpt(text)} at character {start}, where the passage has {found}"
        )
    return Span(text, start)
