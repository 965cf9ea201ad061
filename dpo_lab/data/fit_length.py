"""Make one encoded example fit into `max_length` tokens."""

from dataclasses import replace
from typing import NamedTuple

from dpo_lab.data.errors import DataError
from dpo_lab.data.source import Overflow
from dpo_lab.types import Encoded


class Fitted(NamedTuple):
    """What is left of an example (None: nothing) and why, in reasons of `dpo_lab.data.reasons.REASONS`."""

    encoded: Encoded | None
    reasons: tuple[str, ...] = ()


def num_tokens(encoded: Encoded) -> int:
    """Tokens of the prompt and of the longest response together; of the prompt alone where a response takes no room."""
    if encoded.kind != "tokens":
        return len(encoded.prompt)
    return len(encoded.prompt) + max((len(response) for response in encoded.responses), default=0)


def fit_length(encoded: Encoded, max_length: int, on_overflow: Overflow) -> Fitted:
    """`encoded` with at most `max_length` tokens in prompt and response together.

    What fits is returned unchanged. `drop` gives nothing for an example of which any response does not fit.
    `truncate` cuts once for all responses, so that they keep the same prompt:

    1. the prompt may keep ``max(max_length - longest response, min(len(prompt), max_length // 2))`` tokens; it
       is cut from the left, behind its leading `num_head` ids; where these alone are more, nothing is left;
    2. each response is cut from the right to what is left. A cut response has lost its end-of-sequence token, as
       it should: it does not end there. Every response keeps a token.

    Where a response takes no room (a class, a span), the prompt alone is cut, on the right in front of its `num_tail`
    ids, and no response is.

    >>> fit_length(Encoded((1, 40, 41, 42), ((50, 51, 2), (60, 2)), num_head=1), 5, "truncate").encoded.prompt
    (1, 42)
    >>> fit_length(Encoded((1, 40, 41, 42, 2), ((7,),), 1, 0, 1, "class"), 4, "truncate").encoded.prompt
    (1, 40, 41, 2)

    Args:
        max_length: at least 2 (one token of the prompt, one of the response).

    Raises:
        DataError: for `max_length` < 2; for an example that does not fit, where `on_overflow` is "error".
    """
    if max_length < 2:
        raise DataError(f"data.max_length={max_length} leaves no room for a prompt and a response; give 2 or more.")
    if num_tokens(encoded) <= max_length:
        return Fitted(encoded)
    if on_overflow == "error":
        raise DataError(f"{num_tokens(encoded)} tokens do not fit into data.max_length={max_length}. Raise it.")
    if encoded.kind != "tokens":
        return _fit_alone(encoded, max_length, on_overflow)
    if on_overflow == "drop":
        return Fitted(None, ("overflow_dropped" if len(encoded.prompt) < max_length else "prompt_fills_length",))
    budget = _prompt_budget(encoded, max_length)
    if encoded.num_head > budget:
        return Fitted(None, ("prompt_fills_length",))
    prompt = _cut_prompt(encoded, budget)
    room = max_length - len(prompt)
    responses = tuple(response[:room] for response in encoded.responses)
    cut = {"prompt_cut": prompt != encoded.prompt, "response_cut": responses != encoded.responses}
    fitted = replace(encoded, prompt=prompt, responses=responses)
    return Fitted(fitted, tuple(reason for reason, happened in cut.items() if happened))


def _fit_alone(encoded: Encoded, max_length: int, on_overflow: Overflow) -> Fitted:
    """The prompt without the end of what stands between its head and its tail; responses take no room."""
    prompt, num_tail = encoded.prompt, encoded.num_tail
    if encoded.num_head + num_tail >= max_length:
        return Fitted(None, ("prompt_fills_length",))
    if on_overflow == "drop":
        return Fitted(None, ("overflow_dropped",))
    cut = prompt[: max_length - num_tail] + prompt[len(prompt) - num_tail :]
    return Fitted(replace(encoded, prompt=cut), ("prompt_end_cut",))


def _prompt_budget(encoded: Encoded, max_length: int) -> int:
    """Tokens that the prompt may keep."""
    longest = max(len(response) for response in encoded.responses)
    return max(max_length - longest, min(len(encoded.prompt), max_length // 2))


def _cut_prompt(encoded: Encoded, budget: int) -> tuple[int, ...]:
    prompt = encoded.prompt
    if len(prompt) <= budget:
        return prompt
    num_tail = budget - encoded.num_head
    return prompt[: encoded.num_head] + prompt[len(prompt) - num_tail :]
