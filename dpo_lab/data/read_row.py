"""One row of a file becomes one `Example`, or a `RowError`."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, Literal

from dpo_lab.data.errors import RowError
from dpo_lab.data.messages import is_blank, read_text, split_conversation
from dpo_lab.data.transcript import split_transcripts
from dpo_lab.types import Example, Message, Text

PairsRule = Literal["all", "adjacent", "best_vs_rest"]

COLUMNS = {
    "prompt": "text or chat messages",
    "conversations": "ShareGPT's name for a prompt of chat messages",
    "chosen": "the better response; or a whole conversation or transcript, where there is no prompt",
    "rejected": "the worse response, likewise",
    "responses": "a list of responses, instead of chosen and rejected",
    "scores": "one number a response, larger is better",
}
"""Every column that is read."""


def read_row(row: Mapping[str, Any], columns: Mapping[str, str], pairs: PairsRule, source: str) -> Example:
    """The example that `row` holds.

    Args:
        row: name of a column -> value.
        columns: our name (a key of `COLUMNS`) -> the file's name, where they differ.
        pairs: which pairs a scored list of responses gives; a row with chosen and rejected has one pair.
        source: the place of the row, kept in the example.

    Raises:
        RowError: with a reason of `dpo_lab.data.report.REASONS`.
    """
    row = {**row, **{ours: row[theirs] for ours, theirs in columns.items() if theirs in row}}
    gone = [theirs for theirs in columns.values() if theirs not in row]
    if gone:
        raise RowError("missing_column", gone[0], f"no column {gone[0]!r}")
    prompt_column = "prompt" if "prompt" in row else "conversations"
    prompt = read_text(row[prompt_column], prompt_column) if prompt_column in row else None
    scores = None
    if "responses" in row and "chosen" not in row:
        responses, scores = _read_scored(row)
        pair_indices = rank(scores, pairs)
        columns_of = ["responses"] * len(responses)
    else:
        columns_of = ["chosen", "rejected"]
        responses = [read_text(_value(row, column), column) for column in columns_of]
        pair_indices = ((0, 1),)
    prompt, responses = _split(prompt, responses, columns_of)
    _check_content(prompt, responses, pair_indices, columns_of)
    return Example(prompt, tuple(responses), pair_indices, scores, source)


def rank(scores: Sequence[float], pairs: PairsRule) -> tuple[tuple[int, int], ...]:
    """(better, worse) index pairs; equal scores form levels, and give no pair within a level.

    `all`: every two levels. `adjacent`: each level with the next lower one. `best_vs_rest`: the top level with
    every other. Order of the responses in the file does not matter beyond the order of the pairs.

    >>> rank([1.0, 3.0, 2.0], "all"), rank([1.0, 3.0, 2.0], "adjacent"), rank([1.0, 3.0, 2.0], "best_vs_rest")
    (((1, 2), (1, 0), (2, 0)), ((1, 2), (2, 0)), ((1, 2), (1, 0)))
    """
    levels = sorted(set(scores), reverse=True)
    members = [[index for index, score in enumerate(scores) if score == level] for level in levels]
    level_pairs = [(high, low) for high in range(len(levels)) for low in range(high + 1, len(levels))]
    if pairs == "adjacent":
        level_pairs = [(high, low) for high, low in level_pairs if low == high + 1]
    elif pairs == "best_vs_rest":
        level_pairs = [(high, low) for high, low in level_pairs if high == 0]
    return tuple((better, worse) for high, low in level_pairs for better in members[high] for worse in members[low])


def _value(row: Mapping[str, Any], column: str) -> Any:
    if column not in row:
        raise RowError("missing_column", column, f"no column {column!r}")
    return row[column]


def _read_scored(row: Mapping[str, Any]) -> tuple[list[Text], tuple[float, ...]]:
    responses, scores = _value(row, "responses"), _value(row, "scores")
    if not isinstance(responses, list):
        raise RowError("not_text", "responses", f"{type(responses).__name__} where a list of responses belongs")
    numbers = isinstance(scores, list) and all(
        isinstance(score, int | float) and not isinstance(score, bool) and math.isfinite(score) for score in scores
    )
    if not numbers or len(scores) != len(responses):
        raise RowError("bad_scores", "scores", f"{str(scores)[:40]} is not {len(responses)} finite numbers")
    return [read_text(response, "responses") for response in responses], tuple(float(score) for score in scores)


def _split(prompt: Text | None, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    if prompt is not None:
        if isinstance(prompt, str) and all(isinstance(response, str) for response in responses):
            return prompt, responses
        return _split_chat(prompt, responses, columns)
    texts = [response for response in responses if isinstance(response, str)]
    if "responses" in columns:
        raise RowError("missing_column", "prompt", "no column 'prompt'; a list of responses needs one")
    if len(texts) == len(responses):
        text_prompt, *text_responses = split_transcripts(texts[0], texts[1])
        return text_prompt, list(text_responses)
    if texts:
        raise RowError("mixed_types", None, "one of chosen and rejected is text, the other is messages")
    sides = [split_conversation(r, c) for r, c in zip(responses, columns, strict=True) if not isinstance(r, str)]
    if any(side[0] != sides[0][0] for side in sides):
        raise RowError("prompts_differ", None, "the conversations differ before the assistant's last turn")
    return sides[0][0], [side[1] for side in sides]


def _split_chat(prompt: Text, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """A prompt and responses of which some are messages; a response may repeat the prompt before it answers."""
    messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    prompts, answers = [], []
    for response, column in zip(responses, columns, strict=True):
        if isinstance(response, str):
            response = [Message(role="assistant", content=response)]
        context, answer = split_conversation(response, column)
        last_user = [message["content"] for message in context if message["role"] == "user"][-1:]
        # A prompt given as text does not tell the system message that a conversation may start with.
        if context and context != messages and not (isinstance(prompt, str) and last_user == [prompt]):
            raise RowError("prompts_differ", column, "the conversation does not start with the prompt")
        prompts.append(context or messages)
        answers.append(answer)
    if any(other != prompts[0] for other in prompts):
        raise RowError("prompts_differ", None, "chosen and rejected start with different messages")
    return prompts[0], answers


def _check_content(prompt: Text, responses: list[Text], pairs: tuple[tuple[int, int], ...], columns: list[str]) -> None:
    if is_blank(prompt):
        raise RowError("empty_prompt", "prompt", "the prompt is empty")
    if not isinstance(prompt, str) and prompt[-1]["role"] == "assistant":
        raise RowError("prompt_ends_on_assistant", "prompt", "its last message is the assistant's")
    for response, column in zip(responses, columns, strict=True):
        if is_blank(response):
            raise RowError("empty_response", column, "the response is empty")
    if not pairs:
        raise RowError("no_pair", "scores", "all scores are equal")
    if any(responses[better] == responses[worse] for better, worse in pairs):
        raise RowError("chosen_equals_rejected", None, "both responses of a pair are the same")
