"""What a policy answers to every row of a data set, cut to the length that the run reads, and how good that is."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import cast

import numpy as np
from jaxtyping import Float, Int

from dpo_lab.answers import exact_match, token_f1
from dpo_lab.data.fit_length import fit_length
from dpo_lab.data.judgement import Judgement
from dpo_lab.evaluation.classes import class_measures
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Policy
from dpo_lab.model.span_policy import SpanReader, read_prompt
from dpo_lab.types import Encoded, Example, Message

Measure = Callable[[str], dict[str, float]]
"""Measures of the policy's present answers to one of the data sets, by name."""

BATCH_TOKENS = 8192
MAX_SPAN_TOKENS = 30
"""Longest answer that a span reader gives, as is usual for these models."""


def answer_measure(policy: Policy, sets: Mapping[str, Sequence[Example]], max_length: int) -> Measure | None:
    """What is measured of the answers of `policy` to `sets`, by name; None for a policy whose answers have no measure.

    Every row is answered, also one that training would leave out; the texts are encoded once.
    """
    if not isinstance(policy, Classifier | SpanReader):
        return None
    prompts: dict[str, list[Encoded]] = {}

    def measure(name: str) -> dict[str, float]:
        examples = sets[name]
        if name not in prompts:
            prompts[name] = readable(policy, examples, max_length)
        was_training = policy.training
        policy.eval()
        try:
            if isinstance(policy, Classifier):
                return class_measures(gold_classes(policy, examples), class_log_probs(policy, prompts[name]))
            return span_measures(examples, best_answers(policy, examples, prompts[name], 1))
        finally:
            policy.train(was_training)

    return measure


def readable(policy: EncoderPolicy, examples: Sequence[Example], max_length: int) -> list[Encoded]:
    """Prompts as the policy reads them: cut to `max_length`, without responses.

    Of a question that leaves its passage no room the whole is read.
    """
    whole = [replace(encoded, responses=()) for encoded in policy.encode([_unanswered(one) for one in examples])]
    return [fit_length(encoded, max_length, "truncate").encoded or encoded for encoded in whole]


def _unanswered(example: Example) -> Example:
    return Example(example.prompt, (), source=example.source)


def gold_classes(policy: Classifier, examples: Sequence[Example]) -> Int[np.ndarray, " n"]:
    numbers = {name: number for number, name in enumerate(policy.classes)}
    golds = (example.responses[Judgement.of(example).chosen()[0]] for example in examples)
    return np.array([numbers[cast(str, gold)] for gold in golds], dtype=np.int64)


def class_log_probs(policy: Classifier, prompts: Sequence[Encoded]) -> Float[np.ndarray, " n classes"]:
    """Log-probability of every class of every text, float64, in the mode that the policy is in."""
    found = np.empty((len(prompts), len(policy.classes)))
    for batch in _batches(prompts):
        found[batch] = policy.class_log_probs([prompts[index] for index in batch]).double().cpu().numpy()
    return found


def best_answers(
    policy: SpanReader, examples: Sequence[Example], prompts: Sequence[Encoded], num: int
) -> list[list[tuple[Message, float]]]:
    """The `num` likeliest answers to each question as messages with their `start`, best first, and log-probs, nats.

    Their text is that of the passage itself, in the mode that the policy is in.
    """
    answers: list[list[tuple[Message, float]]] = [[] for _ in examples]
    for batch in _batches(prompts):
        spans = policy.best_spans([prompts[index] for index in batch], num, MAX_SPAN_TOKENS)
        for index, best in zip(batch, spans, strict=True):
            passage, offsets = read_prompt(examples[index])[0], policy.offsets(examples[index])
            for span in best:
                start, stop = offsets[span.first][0], offsets[span.last][1]
                answers[index].append(
                    (Message(role="assistant", content=passage[start:stop], start=start), span.log_prob)
                )
    return answers


def right_answers(example: Example) -> list[str]:
    """Texts of all right answers to a question: those that score 1."""
    scores = example.scores or (1.0,) * len(example.responses)
    turns = (cast(list[Message], response)[0] for response in example.responses)
    return [turn["content"] for turn, score in zip(turns, scores, strict=True) if score == 1]


def span_measures(examples: Sequence[Example], answers: Sequence[Sequence[tuple[Message, float]]]) -> dict[str, float]:
    """`exact_match` and `token_f1` of the first answer to each question, means in [0, 1]."""
    pairs = [(best[0][0]["content"], right_answers(one)) for one, best in zip(examples, answers, strict=True)]
    return {
        "exact_match": float(np.mean([exact_match(answer, right) for answer, right in pairs])),
        "token_f1": float(np.mean([token_f1(answer, right) for answer, right in pairs])),
    }


def _batches(prompts: Sequence[Encoded]) -> Iterator[list[int]]:
    """Indices of prompts of like length, about `BATCH_TOKENS` at a time, padding included; longest first."""
    order = sorted(range(len(prompts)), key=lambda index: -len(prompts[index].prompt))
    batch: list[int] = []
    for index in order:
        if batch and len(prompts[batch[0]].prompt) * (len(batch) + 1) > BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(index)
    if batch:
        yield batch
