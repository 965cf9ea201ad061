"""What becomes of examples in token space: lengths, what does not fit, merges, special tokens."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.fit_length import fit_length, num_tokens
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, Overflow
from dpo_lab.types import Encoded, Example

ROOMS = (0.9, 0.95, 0.99, 1.0)


@dataclass
class TokenView:
    """Examples that can be encoded with their ids before any cut, and what a run would count (`report`)."""

    examples: list[Example] = field(default_factory=list)
    encoded: list[Encoded] = field(default_factory=list)
    report: DataReport = field(default_factory=DataReport)
    datasets: dict[str, EncodedDataset] = field(default_factory=dict)


def look_at_tokens(
    source: DataSource,
    encode: Callable[[list[Example]], list[Encoded]],
    end_id: int | None,
    special_tokens: Sequence[str],
    unknown_id: int | None = None,
) -> TokenView:
    """Encode and fit all examples as a run would, but drop where the run would stop."""
    view = TokenView()
    on_overflow: Overflow = "drop" if source.on_overflow == "error" else source.on_overflow

    def remember(examples: list[Example]) -> list[Encoded]:
        encoded = encode(examples)
        view.examples += examples
        view.encoded += encoded
        return encoded

    for name, examples in source.sets.items():
        view.datasets[name] = (
            EncodedDataset([], [])
            if not examples
            else encode_source(
                examples,
                remember,
                source.max_length,
                on_overflow,
                view.report,
                end_id,
                on_problem="drop",
                special_tokens=special_tokens,
                unknown_id=unknown_id,
            )
        )
    return view


def fitting(view: TokenView, max_length: int) -> dict[str, Any]:
    """How many examples are longer than `max_length`, and with which length a share of `ROOMS` fits whole.

    `num_identical_if_cut`: pairs of different responses that `data.on_overflow=truncate` would make equal.
    """
    prompts = [len(tokens.prompt) for tokens in view.encoded]
    totals = sorted(map(num_tokens, view.encoded))
    return {
        "max_length": max_length,
        "num": len(totals),
        "num_overlong": sum(total > max_length for total in totals),
        "num_prompt_fills_length": sum(prompt >= max_length for prompt in prompts),
        "num_identical_if_cut": sum(
            _count_identical_if_cut(example, tokens, max_length)
            for example, tokens in zip(view.examples, view.encoded, strict=True)
        ),
        "length_for_share": {f"{room:g}": totals[math.ceil(len(totals) * room) - 1] for room in ROOMS if totals},
    }


def _count_identical_if_cut(example: Example, encoded: Encoded, max_length: int) -> int:
    if num_tokens(encoded) <= max_length or not encoded.prompt:
        return 0
    fitted = fit_length(encoded, max_length, "truncate").encoded
    if fitted is None:
        return 0
    whole, cut = encoded.responses, fitted.responses
    return sum(whole[a] != whole[b] and cut[a] == cut[b] for a, b in example.pairs)


def boundaries(view: TokenView, tokenizer: Any | None) -> dict[str, Any]:
    """Rows whose tokens depend on whether prompt and response are tokenised together.

    `num_merged`: tokenised together, a token lies across the boundary, so that the response is tokenised on its own.
    `num_apart_differs`: tokens of the prompt and tokens of the response, each tokenised alone, put one behind the other
    are not the tokens of both; of the `num_text` rows that are plain text, and None without a tokenizer, as where
    responses are no texts.
    """
    texts = [
        (example.prompt, [response for response in example.responses if isinstance(response, str)])
        for example in view.examples
        if isinstance(example.prompt, str)
    ]
    return {
        "num": len(view.encoded),
        "num_merged": sum(tokens.num_boundary_merges > 0 for tokens in view.encoded),
        "num_text": len(texts),
        "num_apart_differs": None if tokenizer is None else _count_apart(texts, tokenizer),
    }


def _count_apart(texts: Sequence[tuple[str, list[str]]], tokenizer: Any) -> int:
    def tokenize(parts: list[str]) -> list[list[int]]:
        return tokenizer(parts, add_special_tokens=False, verbose=False)["input_ids"] if parts else []

    prompts = tokenize([prompt for prompt, _ in texts])
    alone = iter(tokenize([response for _, responses in texts for response in responses]))
    joined = iter(tokenize([prompt + response for prompt, responses in texts for response in responses]))
    num = 0
    for prompt, (_, responses) in zip(prompts, texts, strict=True):
        apart = [prompt + next(alone) for _ in responses]
        together = [next(joined) for _ in responses]
        num += apart != together
    return num
