"""``data=questions``: questions about a passage, answered by a span of it, against spans that do not answer them."""

import hashlib
import json
import random
import re
from collections.abc import Sequence
from typing import Any, Literal, cast

from dpo_lab.answers import token_f1
from dpo_lab.data.columns import check_columns
from dpo_lab.data.errors import DataError, problems_error
from dpo_lab.data.held_out import check_held_out, hold_out
from dpo_lab.data.named_files import label_of, paths_of
from dpo_lab.data.preparation import UNPREPARED, Preparation
from dpo_lab.data.read_questions import COLUMNS, Question, QuestionReader, Span
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.text_notes import notes
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt
from dpo_lab.types import Example, Message

Rejected = Literal["given", "random", "none"]


def questions(
    prepare: Preparation = UNPREPARED,
    *,
    path: str | list[str],
    validation_path: str | None = None,
    validation_fraction: Fraction = 0.1,
    test_path: str | None = None,
    test_fraction: Fraction = 0.0,
    split_seed: NonNegativeInt = 0,
    columns: dict[str, str] | None = None,
    rejected: Rejected = "given",
    num_rejected: PositiveInt | None = None,
    rejected_seed: NonNegativeInt = 0,
    max_length: PositiveInt = 512,
    on_overflow: Literal["drop", "truncate", "error"] = "truncate",
    on_problem: Literal["error", "drop"] = "error",
    shuffle: bool = True,
) -> DataSource:
    """Read questions with the spans that answer them. Of each, the first right answer is chosen.

    Every response has its token F1 against the right answers as its score, so that a wrong span that overlaps a right
    one is less wrong. A rejected span that says what a right answer says is dropped and counted.

    Args:
        prepare: steps on the questions that were read, before wrong spans are drawn for them, and on training rows once
            the split is made.
        path: one or more files: SQuAD's .json, what ``dpo-lab mine`` wrote, or rows with `question`, `context`,
            `answers` and perhaps `rejected` (.jsonl, .json, .parquet, each also .gz); or a hub name.
        validation_path: a file to validate on; then nothing is split off.
        validation_fraction: expected share of distinct passages that is split off for validation, with all their
            questions, in [0, 1).
        test_path: a file to test on, once, after training.
        test_fraction: expected share of distinct passages that is split off `path` for the test, in [0, 1).
        split_seed: draws those splits; the seed of the run does not.
        columns: our name -> the file's, where they differ: ``{context: passage}``.
        rejected: "given": the rejected spans that rows have; those without any are imitated and give no pair.
            "random": spans of one to as many words as the right answer has, twice over, drawn from the passage. "none":
            all rows are to be imitated.
        num_rejected: rejected spans of each question, at most; null: all that are given, one where they are random.
        rejected_seed: draws random ones. The run's seed never moves the data.
        max_length: tokens of question and passage together.
        on_overflow: what happens to longer ones; "truncate" cuts the end of the passage, and drops what is answered
            there.
        on_problem: what happens to a row that cannot be used: all of them in one error, or dropped and counted.
        shuffle: whether each epoch has an order of its own.

    Raises:
        DataError: for files or rows that cannot be used, with their places and what to do.
    """
    prepare.check("spans")
    check_columns(columns or {}, COLUMNS)
    check_held_out(validation_path, validation_fraction, test_path, test_fraction)
    paths = paths_of(path)
    reader = QuestionReader(columns or {})
    files = (paths, [validation_path], [test_path])
    asked = [[one for name in names if name for one in reader.read(name, label_of(name, paths))] for names in files]
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, "Correct them, or drop and count them: data.on_problem=drop")
    report = DataReport(num_read=reader.num_read, made_with=reader.made_with)
    for problem in reader.problems:
        report.count(problem.reason, source=problem.source)
    for source in reader.unanswered:
        report.count("no_answer", source=source)
    for key, wanted, side in zip(("path", "validation_path", "test_path"), files, asked, strict=True):
        if any(wanted) and not side:
            raise DataError(f"no question of data.{key} is left: {'; '.join(report.lines()[1:])}")
    asked = _prepared(asked, prepare, report)
    sides = [
        [span_example(one, _wrong(one, rejected, num_rejected, rejected_seed), report) for one in side]
        for side in asked
    ]
    split = hold_out(
        sides,
        report,
        fraction=0.0 if validation_path else validation_fraction,
        test_fraction=test_fraction,
        split_seed=split_seed,
        key_of=passage_of,
    )
    train = prepare.of_training(split, "spans", report)
    return DataSource(
        train=train,
        validation=split.validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow=on_overflow,
        shuffle=shuffle,
        report=report,
        on_problem=on_problem,
        test=split.test,
        responses="spans",
    )


def passage_of(example: Example) -> str:
    """The passage that a question is about, which is the system's turn of its prompt."""
    assert isinstance(example.prompt, list)
    return example.prompt[0]["content"]


def as_example(question: Question, wrong: Sequence[Span]) -> Example:
    """The chat in which the passage is the system's turn, the question the user's, and a span the assistant's.

    Scores are token F1 against the right answers. Right answers beside the first are in no pair.
    """
    right = [answer.text for answer in question.answers]
    grades = [token_f1(span.text, right) for span in wrong]
    first, worse = len(question.answers), sorted(range(len(wrong)), key=lambda number: -grades[number])
    has_list = len(wrong) > 1
    return Example(
        [Message(role="system", content=question.context), Message(role="user", content=question.question)],
        tuple(_response(span) for span in (*question.answers, *wrong)),
        tuple((0, first + number) for number in range(len(wrong))),
        (1.0,) * first + tuple(grades),
        question.source,
        ranking=(0, *(first + number for number in worse)) if has_list else None,
        is_best_alone=has_list and len(set(grades)) < len(grades),
    )


def _prepared(sides: Sequence[Sequence[Question]], prepare: Preparation, report: DataReport) -> list[list[Question]]:
    if not prepare.steps:
        return list(map(list, sides))
    rows = [[as_example(one, one.rejected) for one in side] for side in sides]
    return [[_as_question(row) for row in side] for side in prepare.before_split(rows, "spans", report)]


def _as_question(example: Example) -> Question:
    """What `as_example` was made of."""
    passage, question = cast(list[Message], example.prompt)
    turns = [cast(Any, response)[0] for response in example.responses]
    spans = tuple(Span(turn["content"], turn["start"]) for turn in turns)
    first = example.pairs[0][1] if example.pairs else len(spans)
    return Question(question["content"], passage["content"], spans[:first], spans[first:], example.source)


def _response(span: Span) -> list[Message]:
    return [Message(role="assistant", content=span.text, start=span.start)]


def span_example(question: Question, wrong: Sequence[Span], report: DataReport) -> Example:
    """`as_example` without the spans of `wrong` that say what a right answer says; these, and notes, are counted."""
    right = [answer.text for answer in question.answers]
    kept = [span for span in dict.fromkeys(wrong) if token_f1(span.text, right) < 1]
    report.count("rejected_is_right", len(wrong) - len(kept), question.source)
    example = as_example(question, kept)
    for reason in notes(example):
        report.count(reason, source=question.source)
    return example


def _wrong(question: Question, rejected: Rejected, num: int | None, seed: int) -> Sequence[Span]:
    if rejected == "none":
        return ()
    if rejected == "given":
        return question.rejected[:num]
    return random_spans(question, num or 1, seed)


def random_spans(question: Question, num: int, seed: int) -> list[Span]:
    """`num` different spans of whole words; their number of words is uniform up to twice that of the right answer."""
    content = json.dumps([seed, question.question, question.context]).encode()
    generator = random.Random(hashlib.sha256(content).digest())
    words = list(re.finditer(r"\S+", question.context))
    longest = min(len(words), 2 * len(question.answers[0].text.split()))
    right, drawn = [answer.text for answer in question.answers], dict[Span, None]()
    for _ in range(20 * num):  # a passage of a few words may hold fewer
        length = generator.randint(1, longest)
        first = generator.randrange(len(words) - length + 1)
        start, end = words[first].start(), words[first + length - 1].end()
        span = Span(question.context[start:end], start)
        if token_f1(span.text, right) < 1:
            drawn[span] = None
        if len(drawn) == num:
            break
    return list(drawn)
