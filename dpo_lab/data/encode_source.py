"""Examples to token ids: encode, check, fit to a length, count what is lost."""

import re
from collections.abc import Callable, Sequence
from dataclasses import replace

from dpo_lab.data.encoded import EncodedDataset, known_order
from dpo_lab.data.errors import DataError, Problem, problems_error
from dpo_lab.data.fit_length import fit_length, num_tokens
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import OnProblem, Overflow
from dpo_lab.data.text_notes import contents
from dpo_lab.errors import UserError
from dpo_lab.types import Encoded, Example


def encode_source(
    examples: Sequence[Example],
    encode: Callable[[list[Example]], list[Encoded]],
    max_length: int,
    on_overflow: Overflow,
    report: DataReport,
    eos_id: int | None,
    *,
    on_problem: OnProblem = "error",
    special_tokens: Sequence[str] = (),
    unknown_id: int | None = None,
    has_overflow_knob: bool = True,
) -> EncodedDataset:
    """Token ids of `examples`, each pair with two different, non-empty responses that fit into `max_length`.

    An example stays while anything judged of it does: a pair, a label, an order of two responses.

    Counted in `report`: `zero_token_prompt`, `zero_token_response`, `eos_inside_response`, `overflow_dropped`,
    `prompt_fills_length`, `prompt_cut`, `prompt_end_cut`, `response_cut`, `answer_cut`, `identical_after_encoding`,
    `identical_after_cut`, `boundary_merge`, `special_token_in_text`, `unknown_token`; and, where problems are dropped,
    `cannot_encode`.

    Args:
        encode: one `Encoded` an example, its responses in order.
        eos_id: the end-of-sequence token, which a response may have at its end only; None where there is none.
        on_problem: what happens to an example that `encode` refuses.
        special_tokens: texts that the tokenizer reads as one token of its own, to be noted where data holds them.
        unknown_id: the token of text that the vocabulary lacks, likewise; None where it lacks none.
        has_overflow_knob: whether ``data.on_overflow`` is to be named to who has examples that do not fit.

    Raises:
        DataError: for `on_overflow="error"`, with every example that does not fit; with every example that `encode`
            refuses, unless these are dropped and others are left.
    """
    examples, encoded = _encode(examples, encode, on_problem, report)
    find_special = _finder(special_tokens)
    kept: list[Encoded] = []
    judgements: list[Judgement] = []
    too_long: list[Problem] = []
    longest = 0
    for example, tokens in zip(examples, encoded, strict=True):
        if len(tokens.responses) != len(example.responses):
            raise DataError(
                f"{example.source}: encode gave {len(tokens.responses)} of {len(example.responses)} responses"
            )
        if find_special(example):
            report.count("special_token_in_text", source=example.source)
        if unknown_id is not None and any(unknown_id in ids for ids in (tokens.prompt, *tokens.responses)):
            report.count("unknown_token", source=example.source)
        report.count("boundary_merge", tokens.num_boundary_merges, example.source)
        sound = _drop_unsound(tokens, example, report, eos_id)
        if sound is None:
            continue
        if on_overflow == "error" and num_tokens(sound[0]) > max_length:
            too_long.append(_too_long(example, sound[0], max_length))
            longest = max(longest, num_tokens(sound[0]))
            continue
        fitted = fit_length(sound[0], max_length, on_overflow)
        for reason in fitted.reasons:
            report.count(reason, source=example.source)
        within = None if fitted.encoded is None else _drop_cut_spans(sound, fitted.encoded, example, report)
        distinct = None if within is None else _drop_identical(*within, example, report)
        if distinct is not None:
            kept.append(distinct[0])
            judgements.append(distinct[1])
    if too_long:
        others = ", or choose data.on_overflow=drop or truncate" if has_overflow_knob else ""
        raise problems_error(too_long, f"Raise data.max_length (the longest has {longest} tokens){others}.")
    return EncodedDataset(kept, judgements)


def _encode(
    examples: Sequence[Example],
    encode: Callable[[list[Example]], list[Encoded]],
    on_problem: OnProblem,
    report: DataReport,
) -> tuple[list[Example], list[Encoded]]:
    """All at once; where one is refused, each by itself, so that every refusal is told."""
    try:
        return list(examples), encode(list(examples))
    except UserError:
        pass
    accepted: list[Example] = []
    encoded: list[Encoded] = []
    problems: list[Problem] = []
    for example in examples:
        try:
            encoded += encode([example])
        except UserError as error:
            what = str(error).removeprefix(f"{example.source}: ")
            problems.append(Problem(example.source, "cannot_encode", None, what))
        else:
            accepted.append(example)
    if on_problem == "error" or not accepted:
        fix = "Correct them, choose a model for what the data has or another model.chat_template, or drop them."
        raise problems_error(problems, fix)
    for problem in problems:
        report.count(problem.reason, source=problem.source)
    return accepted, encoded


def _finder(special_tokens: Sequence[str]) -> Callable[[Example], bool]:
    """Whether any text of an example holds one of `special_tokens`."""
    if not special_tokens:
        return lambda example: False
    pattern = re.compile("|".join(re.escape(token) for token in sorted(special_tokens, key=len, reverse=True)))
    return lambda example: any(
        pattern.search(text) for side in (example.prompt, *example.responses) for text in contents(side)
    )


def _too_long(example: Example, encoded: Encoded, max_length: int) -> Problem:
    alone = f"the prompt alone has {len(encoded.prompt)}"
    what = f"{num_tokens(encoded)} tokens do not fit into data.max_length={max_length} ({alone})"
    return Problem(example.source, "overflow", None, what)


def _drop_unsound(
    encoded: Encoded, example: Example, report: DataReport, eos_id: int | None
) -> tuple[Encoded, Judgement] | None:
    """Without the responses that have no token, or end in their middle."""
    if not encoded.prompt:
        report.count("zero_token_prompt", source=example.source)
        return None
    sound = []
    for index, response in enumerate(encoded.responses):
        if not response:
            report.count("zero_token_response", source=example.source)
        elif eos_id is not None and eos_id in response[:-1]:
            report.count("eos_inside_response", source=example.source)
        else:
            sound.append(index)
    judgement = Judgement.of(example)
    if len(sound) == len(encoded.responses):
        return encoded, judgement
    left = replace(encoded, responses=tuple(encoded.responses[index] for index in sound)), judgement.keep(sound)
    return left if _is_of_use(*left, judgement.is_demonstration) else None


def _drop_cut_spans(
    sound: tuple[Encoded, Judgement], fitted: Encoded, example: Example, report: DataReport
) -> tuple[tuple[Encoded, Judgement], Encoded] | None:
    """What is whole and what is fitted of it, without the spans that point behind the cut."""
    whole, judgement = sound
    if fitted.kind != "span" or len(fitted.prompt) == len(whole.prompt):
        return sound, fitted
    end = len(fitted.prompt) - fitted.num_tail
    kept = [index for index, span in enumerate(fitted.responses) if max(span) < end]
    report.count("answer_cut", len(whole.responses) - len(kept), example.source)
    responses = tuple(whole.responses[index] for index in kept)
    left = judgement.keep(kept)
    fitted = replace(fitted, responses=responses)
    is_of_use = _is_of_use(fitted, left, judgement.is_demonstration)
    return ((replace(whole, responses=responses), left), fitted) if is_of_use else None


def _drop_identical(
    sound: tuple[Encoded, Judgement], fitted: Encoded, example: Example, report: DataReport
) -> tuple[Encoded, Judgement] | None:
    """What was fitted without the pairs of which nothing can be learned."""
    whole, judgement = sound
    pairs, distinct = judgement.pairs, []
    for number, (a, b) in enumerate(pairs):
        if fitted.responses[a] != fitted.responses[b]:
            distinct.append(number)
        else:
            by_cut = whole.responses[a] != whole.responses[b]
            report.count("identical_after_cut" if by_cut else "identical_after_encoding", source=example.source)
    left = fitted, judgement.keep_pairs(distinct)
    return left if _is_of_use(*left, Judgement.of(example).is_demonstration) else None


def _is_of_use(encoded: Encoded, judgement: Judgement, is_demonstration: bool) -> bool:
    if judgement.pairs or judgement.labels or is_demonstration:
        return bool(encoded.responses)
    return known_order(encoded, judgement, best_alone=True) is not None
