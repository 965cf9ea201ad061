"""One example as the model sees it: which tokens, where from, which of them the loss counts."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.reasons import REASONS
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import Overflow
from dpo_lab.data.view import View
from dpo_lab.types import Encoded, Example

State = Literal["context", "counted", "cut"]
"""`context` is not counted by the loss, `counted` is, `cut` was left out to fit the length."""


@dataclass(frozen=True)
class ShownToken:
    """A token as text; `is_special` for those that stand for no text."""

    text: str
    state: State
    is_special: bool


@dataclass(frozen=True)
class Side:
    """The prompt, or one response, under its name (prompt, chosen, rejected, rank 1, desirable, ...)."""

    name: str
    tokens: list[ShownToken]

    def num(self, state: State) -> int:
        return sum(token.state == state for token in self.tokens)


@dataclass(frozen=True)
class ShownRow:
    """An example in tokens; `notes` say what happened to it. Where it `is_left_out`, no loss sees it.

    `needs_end`: its responses are texts, which a token of its own should end.
    """

    source: str
    sides: list[Side]
    notes: list[str]
    is_left_out: bool = False
    needs_end: bool = True


def show_row(
    example: Example,
    encoded: Encoded,
    tokenizer: Any | None,
    *,
    max_length: int,
    on_overflow: Overflow,
    end_id: int | None,
    view: View,
) -> ShownRow:
    """`example`, which is `encoded` before any cut, as a run with this `view` would train on it."""
    report = DataReport()
    kind: Overflow = "drop" if on_overflow == "error" else on_overflow
    dataset = encode_source([example], lambda _: [encoded], max_length, kind, report, end_id)
    notes = [f"{REASONS[reason].effect}: {REASONS[reason].text} [{reason}]" for reason in report.counts]
    items = dataset.items(view)
    if not items:
        if dataset.judgements and dataset.judgements[0].is_demonstration:
            notes.append("a response to imitate and no judgement, which this loss asks for")
        return ShownRow(
            example.source, _whole(example, encoded, tokenizer), [*notes, "nothing of it is trained on"], True
        )
    fitted, judgement = dataset.encoded[0], dataset.judgements[0]
    counted = {index for item in items for index in item.responses}
    sides, left = [], list(encoded.responses)
    for index, (response, name) in enumerate(
        zip(fitted.responses, names(judgement, len(fitted.responses)), strict=True)
    ):
        whole = next(ids for ids in left if ids[: len(response)] == response)
        left.remove(whole)
        texts = _response_texts(example, encoded, whole, tokenizer)
        kept: State = "counted" if index in counted else "context"
        sides.append(Side(name, _states(texts, (kept, len(response)), ("cut", len(whole) - len(response)))))
    sides.sort(key=lambda side: (side.name in ("rejected", "undesirable"), len(side.name), side.name))
    prompt = Side("prompt", _prompt(encoded, fitted, tokenizer))
    return ShownRow(example.source, [prompt, *sides], notes, needs_end=end_id is not None)


def names(judgement: Judgement, num: int) -> list[str]:
    """What each of `num` responses is called.

    >>> names(Judgement(pairs=((1, 0),)), 2), names(Judgement(ranking=(2, 0, 1)), 3)
    (['rejected', 'chosen'], ['rank 2', 'rank 3', 'rank 1'])
    """
    if judgement.labels is not None:
        return ["desirable" if label else "undesirable" for label in judgement.labels]
    if judgement.ranking is not None and num > 2 and not judgement.is_best_alone:
        return [f"rank {judgement.ranking.index(index) + 1}" for index in range(num)]
    better, worse = {pair[0] for pair in judgement.pairs}, {pair[1] for pair in judgement.pairs}
    both = {(True, True): "chosen and rejected", (True, False): "chosen", (False, True): "rejected"}
    return [both.get((index in better, index in worse), "response") for index in range(num)]


def token_texts(ids: Sequence[int], tokenizer: Any | None, before: Sequence[int] = ()) -> list[tuple[str, bool]]:
    """Each token as (text, whether it is special), as it reads behind the one before it.

    A token that is no text by itself (some bytes of a character) is shown under the name that the vocabulary has.
    """
    if tokenizer is None:
        return [(str(token), False) for token in ids]
    special = set(tokenizer.all_special_ids) | {
        token for token, added in tokenizer.added_tokens_decoder.items() if added.special
    }
    texts, previous = [], before[-1] if before else None
    for token in ids:
        text = _piece(previous, token, tokenizer)
        name = str(tokenizer.convert_ids_to_tokens(token))
        texts.append((name if token in special or not text or "\ufffd" in text else text, token in special))
        previous = token
    return texts


def _piece(previous: int | None, token: int, tokenizer: Any) -> str:
    def decode(ids: list[int]) -> str:
        return tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    if previous is None:
        return decode([token])
    start, both = decode([previous]), decode([previous, token])
    return both[len(start) :] if both.startswith(start) else decode([token])


def _response_texts(
    example: Example, encoded: Encoded, response: tuple[int, ...], tokenizer: Any | None
) -> list[tuple[str, bool]]:
    """As many as the response has ids: its tokens; a class by its name; a span by its first and its last token."""
    if encoded.kind == "class":
        return [(str(example.responses[encoded.responses.index(response)]), False)]
    if encoded.kind == "span":
        return token_texts([encoded.prompt[position] for position in response], tokenizer)
    return token_texts(response, tokenizer, before=encoded.prompt)


def _prompt(encoded: Encoded, fitted: Encoded, tokenizer: Any | None) -> list[ShownToken]:
    num_cut = len(encoded.prompt) - len(fitted.prompt)
    if encoded.kind != "tokens":  # cut in front of its tail
        texts, num_kept = token_texts(encoded.prompt, tokenizer), len(fitted.prompt) - encoded.num_tail
        return _states(texts, ("context", num_kept), ("cut", num_cut), ("context", encoded.num_tail))
    num_tail = len(fitted.prompt) - encoded.num_head
    texts = token_texts(encoded.prompt, tokenizer)
    return _states(texts, ("context", encoded.num_head), ("cut", num_cut), ("context", num_tail))


def _whole(example: Example, encoded: Encoded, tokenizer: Any | None) -> list[Side]:
    texts = [token_texts(encoded.prompt, tokenizer)]
    texts += [_response_texts(example, encoded, response, tokenizer) for response in encoded.responses]
    titles = ["prompt", *["response"] * len(encoded.responses)]
    return [Side(title, _states(text, ("cut", len(text)))) for title, text in zip(titles, texts, strict=True)]


def _states(texts: list[tuple[str, bool]], *runs: tuple[State, int]) -> list[ShownToken]:
    states: list[State] = [state for state, num in runs for _ in range(num)]
    return [ShownToken(text, state, special) for (text, special), state in zip(texts, states, strict=True)]
