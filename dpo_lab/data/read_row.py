"""One row of a file becomes one `Example`, or a `RowError`."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from dpo_lab.data.errors import RowError
from dpo_lab.data.messages import is_blank, no_image, read_text, shows_images
from dpo_lab.data.rank import PairsRule, rank, rank_positions
from dpo_lab.data.row import JUDGEMENTS, Row, read_label, read_numbers, read_probabilities
from dpo_lab.data.split_prompt import split_prompt
from dpo_lab.types import Example, Text

Count = Callable[[str], None]
"""Is told each reason of `dpo_lab.data.reasons.REASONS` that does not end the reading of the row."""


def read_row(row: Row, pairs: PairsRule, source: str, count: Count = lambda reason: None) -> Example:
    """The example that `row` holds.

    What it is, is said by the first of these columns that has a value: `ranked`, `chosen`, `responses`, `label`; where
    nothing is judged, a response or a whole chat is a demonstration.

    Args:
        pairs: which pairs a list of responses gives; chosen and rejected are a pair, whatever the rule.
        source: the place of the row, kept in the example.

    Raises:
        RowError: with a reason of `dpo_lab.data.reasons.REASONS`.
    """
    readers = {"ranked": _read_ranked, "chosen": _read_pair, "responses": _read_scored, "label": _read_labelled}
    schema = next((name for name in readers if row.has(name)), None)
    if schema is None and _is_demonstration(row):
        example = _read_demonstration(row, source)
    else:
        schema = schema or next((name for name in readers if name in row), "chosen")
        example = readers[schema](row, pairs, source, count)
    for note in row.images.notes:
        count(note)
    return replace(example, images=row.images.files(example.prompt))


def _read_pair(row: Row, pairs: PairsRule, source: str, count: Count) -> Example:
    """Chosen against one rejected response, or against several, whose order is not known."""
    chosen, rejected = _read_text(row, row["chosen"], "chosen"), row["rejected"]
    is_list = isinstance(rejected, list) and rejected and not all(isinstance(item, dict) for item in rejected)
    others = [_read_text(row, item, "rejected") for item in (rejected if is_list else [rejected])]
    scores, probabilities = _read_pair_numbers(row, len(others))
    kept = [0, *(1 + index for index in _distinct(others, count))]
    columns = ["chosen", *["rejected"] * (len(kept) - 1)]
    prompt, responses = _split(row, _read_prompt(row), [[chosen, *others][index] for index in kept], columns)
    judged = tuple((0, number) for number in range(1, len(kept)))
    _check_content(prompt, responses, judged, columns)
    has_order = scores is not None or len(kept) > 2
    return Example(
        prompt,
        tuple(responses),
        judged,
        scores and tuple(scores[index] for index in kept),
        source,
        win_probabilities=probabilities and tuple(probabilities[index - 1] for index in kept[1:]),
        # Where scores contradict the pair, the pair is the judgement.
        ranking=tuple(range(len(kept))) if has_order else None,
        is_best_alone=len(kept) > 2,
    )


def _read_pair_numbers(row: Row, num_rejected: int) -> tuple[tuple[float, ...] | None, tuple[float, ...] | None]:
    """Scores of chosen and rejected, and the probabilities of their pairs, where the row has them."""
    scores = probabilities = None
    if row.has("chosen_score") or row.has("rejected_score"):
        of_chosen = read_numbers(row["chosen_score"], "chosen_score", 1)
        scores = of_chosen + read_numbers(row["rejected_score"], "rejected_score", num_rejected)
    if row.has("probability"):
        probabilities = read_probabilities(row["probability"], "probability", num_rejected)
    return scores, probabilities


def _read_scored(row: Row, pairs: PairsRule, source: str, count: Count) -> Example:
    responses = _read_list(row, "responses")
    scores = read_numbers(row["scores"], "scores", len(responses))
    judged = rank(scores, pairs)
    columns = ["responses"] * len(responses)
    prompt, responses = _split(row, _require_prompt(row), responses, columns)
    _check_content(prompt, responses, judged, columns)
    if not judged:
        raise RowError("no_pair", "scores", "all scores are equal")
    return Example(prompt, tuple(responses), judged, scores, source)


def _read_ranked(row: Row, pairs: PairsRule, source: str, count: Count) -> Example:
    """A complete order; a response that stands in it again keeps its better place."""
    responses = _read_list(row, "ranked")
    responses = [responses[index] for index in _distinct(responses, count)]
    columns = ["ranked"] * len(responses)
    prompt, responses = _split(row, _require_prompt(row), responses, columns)
    ranking = tuple(range(len(responses)))
    judged = rank_positions(ranking, pairs)
    _check_content(prompt, responses, judged, columns)
    if not judged:
        raise RowError("one_response", "ranked", "there are no two different responses to compare")
    return Example(prompt, tuple(responses), judged, source=source, ranking=ranking)


def _read_labelled(row: Row, pairs: PairsRule, source: str, count: Count) -> Example:
    label = read_label(row["label"], "label")
    prompt, response = _read_single(row)
    return Example(prompt, (response,), source=source, labels=(label,))


def _is_demonstration(row: Row) -> bool:
    """Whether there is a response and no judgement, nor a place for a label.

    A label that was left empty is a judgement that is missing: what it might have called undesirable is not imitated.
    """
    has_response = row.has("response") or _whole_chat(row) is not None
    return has_response and "label" not in row and not any(map(row.has, JUDGEMENTS))


def _read_demonstration(row: Row, source: str) -> Example:
    judged = row.judgement_elsewhere()
    if judged is not None:
        ours, theirs = judged
        raise RowError(
            "missing_column",
            ours,
            f"no column {ours!r}; the nearest is {theirs!r}. To imitate the response whatever {theirs!r} says, take "
            "that column out",
        )
    if _whole_chat(row) == "conversations" and not row.has("response"):
        chat = _read_text(row, row["conversations"], "conversations")
        if not isinstance(chat, str) and chat and chat[-1]["role"] != "assistant":
            what = "no column 'chosen', and 'conversations' does not end on the assistant, to be imitated"
            raise RowError("missing_column", "chosen", what)
    prompt, response = _read_single(row)
    return Example(prompt, (response,), source=source)


def _read_single(row: Row) -> tuple[Text, Text]:
    """(prompt, response): a single response; or a whole chat or transcript, which ends with it."""
    whole = _whole_chat(row)
    if row.has("response") or whole is None:
        column, prompt = "response", _require_prompt(row)
    else:
        column, prompt = whole, None
    prompt, responses = _split(row, prompt, [_read_text(row, row[column], column)], [column])
    _check_content(prompt, responses, (), [column])
    return prompt, responses[0]


def _whole_chat(row: Row) -> str | None:
    return next((name for name in ("messages", "conversations") if row.has(name)), None)


def _read_prompt(row: Row) -> Text | None:
    column = "prompt" if "prompt" in row else "conversations"
    return _read_text(row, row[column], column) if column in row else None


def _require_prompt(row: Row) -> Text:
    prompt = _read_prompt(row)
    if prompt is None:
        raise RowError("missing_column", "prompt", "no column 'prompt', which these responses need")
    return prompt


def _read_list(row: Row, column: str) -> list[Text]:
    responses = row[column]
    if not isinstance(responses, list):
        raise RowError("not_text", column, f"{type(responses).__name__} where a list of responses belongs")
    return [_read_text(row, response, column) for response in responses]


def _read_text(row: Row, value: Any, column: str) -> Text:
    return read_text(value, column, row.images.show)


def _split(row: Row, prompt: Text | None, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """`split_prompt`, and the images of the row in the prompt, where alone they may be."""
    prompt, responses = split_prompt(prompt, responses, columns)
    for response, column in zip(responses, columns, strict=True):
        if shows_images(response):
            no_image(response, column)
    return row.images.place(prompt, _read_images(row)), responses


def _read_images(row: Row) -> list[str]:
    """Hashes of the images that stand in the row's own column."""
    column = next((name for name in ("images", "image") if row.has(name)), None)
    if column is None:
        return []
    value = row[column]
    return [row.images.show(each, column) for each in (value if isinstance(value, list) else [value])]


def _distinct(responses: list[Text], count: Count) -> list[int]:
    """Indices of `responses` that stand there for the first time."""
    first: dict[str, int] = {}
    for index, response in enumerate(responses):
        if first.setdefault(json.dumps(response, sort_keys=True), index) != index:
            count("repeated_response")
    return list(first.values())


def _check_content(prompt: Text, responses: list[Text], pairs: tuple[tuple[int, int], ...], columns: list[str]) -> None:
    if is_blank(prompt) and not shows_images(prompt):
        raise RowError("empty_prompt", "prompt", "the prompt is empty")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise RowError("prompt_ends_on_assistant", "prompt", "its last message is the assistant's")
    for response, column in zip(responses, columns, strict=True):
        if is_blank(response):
            raise RowError("empty_response", column, "the response is empty")
    if any(responses[better] == responses[worse] for better, worse in pairs):
        raise RowError("chosen_equals_rejected", None, "both responses of a pair are the same")
