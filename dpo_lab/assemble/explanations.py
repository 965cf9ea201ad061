"""What a policy and its reference say of single examples, decision by decision."""

import inspect
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import pytorch_lightning as pl
import torch

from dpo_lab.assemble.attributing import AttributionSettings, attribute
from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.audit.token_rows import names
from dpo_lab.data.batch import response_keys
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.explanation.pieces import Piece, cut_into_pieces
from dpo_lab.explanation.shown import Measure, ShownClass, ShownResponse, Told
from dpo_lab.image_files import small_copy
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.module import PreferenceModule
from dpo_lab.run import hex_key
from dpo_lab.types import Encoded, Example

MAX_CLASSES = 20
"""Of more classes than that, those that were judged and those that moved most are shown."""

Restore = Callable[[PreferenceModule], None]


def examples_to_explain(experiment: Experiment, split: str, num: int, keys: Sequence[str]) -> list[Example]:
    """The first `num` examples of `split` that the loss can use; with `keys`, those with such a response instead.

    Args:
        keys: hex digits as in predictions.parquet, or the beginnings of some.

    Raises:
        UserError: a key is of no response of `split`.
    """
    found: list[Example] = []
    missing = set(keys)
    for example, fitted in fitted_examples(experiment, split):
        if len(found) == num and not keys:
            break
        own = [hex_key(*key) for key in response_keys(fitted.encoded[0])]
        hits = {key for key in keys if any(one.startswith(key.lower()) for one in own)}
        if hits or not keys:
            found.append(example)
        missing -= hits
        if keys and not missing:
            break
    if missing:
        raise UserError(
            f"--keys: no response of {split} has the key {sorted(missing)[0]}; keys stand in predictions.parquet, in "
            "what dpo-lab score writes and in learning.csv, and splits=train looks among the training rows"
        )
    return found


def pairs_of_data(experiment: Experiment, split: str) -> dict[tuple[str, str], Example]:
    """Each pair of `split` by its keys (chosen, rejected, in hex digits), and the first example that holds it."""
    found: dict[tuple[str, str], Example] = {}
    for example, fitted in fitted_examples(experiment, split):
        keys = [hex_key(*key) for key in response_keys(fitted.encoded[0])]
        for better, worse in fitted.judgements[0].pairs:
            found.setdefault((keys[better], keys[worse]), example)
    return found


def swapped_sources(config: Mapping[str, Any], source: DataSource) -> frozenset[str]:
    """Where the training rows stand that `data.label_noise` has swapped, found beside the same data without it."""
    if not config["data"].get("label_noise"):
        return frozenset()
    clean = build_source(config, label_noise=0.0)
    return frozenset(
        noisy.source for noisy, true in zip(source.train, clean.train, strict=True) if noisy.pairs != true.pairs
    )


def fitted_examples(experiment: Experiment, split: str) -> Iterator[tuple[Example, EncodedDataset]]:
    """Each example of `split` that the loss can use, alone, as it is scored."""
    for example in experiment.source.sets["validation" if split == "val" else split]:
        fitted = _fit(experiment, example)
        if fitted is not None and fitted.items(experiment.train.view):
            yield example, fitted


def _fit(experiment: Experiment, example: Example) -> EncodedDataset | None:
    """None where it was dropped."""
    source, policy = experiment.source, experiment.policy
    overflow = "truncate" if source.on_overflow == "truncate" else "drop"
    try:
        fitted = encode_source([example], policy.encode, source.max_length, overflow, DataReport(), policy.end_id)
    except DataError:  # one that cannot be encoded was dropped, and is in no batch
        return None
    return fitted if len(fitted) else None


def measure_of(experiment: Experiment) -> Measure:
    """What the numbers of `explain` are."""
    betas = (_beta(term.loss) for term in experiment.objective.terms if {"reference", "sequential_kl"} & {*term.needs})
    reference = experiment.reference
    return Measure(
        has_reference=reference is not None,
        beta=next((beta for beta in betas if beta is not None), None),
        is_uniform=reference is not None and not reference.is_distribution,
    )


def _beta(loss: Callable[..., Any]) -> float | None:
    """The knob of that name, of the loss or of one that it is made of."""
    parameter = inspect.signature(loss).parameters.get("beta")
    if parameter is not None and isinstance(parameter.default, int | float):
        return float(parameter.default)
    inner = [value for value in getattr(loss, "keywords", {}).values() if callable(value)]
    return next((beta for beta in map(_beta, inner) if beta is not None), None)


@torch.no_grad()
def explain(
    experiment: Experiment,
    module: PreferenceModule,
    examples: Sequence[Example],
    restore: Restore,
    attributions: AttributionSettings | None = None,
) -> list[Told | None]:
    """What the policy, once `restore` was called, and its reference say of `examples`, see `measure_of`.

    With `attributions`, which only an `EncoderPolicy` has, also from which tokens that comes. None for an example that
    the policy cannot read whole.
    """
    settings, measure = experiment.trainer, measure_of(experiment)
    with computing(settings.num_threads):
        trainer = make_trainer(settings, num_steps=1, callbacks=[], validate_every=None)
        restore(module)
        experiment.policy.to(trainer.strategy.root_device).eval()
        if experiment.reference is not None:
            experiment.reference.to(trainer.strategy.root_device)
        with trainer.precision_plugin.val_step_context():
            return [_tell(experiment, trainer, example, measure, attributions) for example in examples]


def _tell(
    experiment: Experiment,
    trainer: pl.Trainer,
    example: Example,
    measure: Measure,
    settings: AttributionSettings | None,
) -> Told | None:
    fitted = _fit(experiment, example)
    if fitted is None:
        return None
    encoded = fitted.encoded[0]
    called = _called(fitted.judgements[0], len(encoded.responses))
    told = _tell_encoded(experiment, trainer, example, encoded, called, measure)
    told = replace(told, images=tuple(small_copy(image) for image in example.images))
    if isinstance(experiment.policy, EncoderPolicy):  # what its tokenizer takes for spaces, cases and signs is no text
        texts = experiment.policy.reading(example, encoded).texts
        told = replace(told, prompt="\n".join(text for _, text in texts))
    if settings is None:
        return told
    to_device = trainer.strategy.batch_to_device
    return replace(told, attributions=attribute(experiment, example, encoded, called, measure, settings, to_device))


def _tell_encoded(
    experiment: Experiment,
    trainer: pl.Trainer,
    example: Example,
    encoded: Encoded,
    called: list[str],
    measure: Measure,
) -> Told:
    if encoded.kind == "class":
        return _tell_classes(experiment, trainer, encoded, called, measure)
    policy = experiment.policy
    values = _values(_log_probs(experiment, trainer, encoded), measure)
    keys = [hex_key(*key) for key in response_keys(encoded)]
    shown = [
        ShownResponse(name, key, tuple(_pieces(policy, example, encoded, response, row)))
        for name, key, response, row in zip(called, keys, encoded.responses, values, strict=True)
    ]
    shown.sort(key=lambda one: _rank(one.name))
    return Told(policy.decode_prompt(encoded), tuple(shown))


def _called(judgement: Judgement, num: int) -> list[str]:
    """What each response is called; of a list with scores, where most are better and worse than another, by these."""
    if judgement.scores is not None and judgement.ranking is None and num > 2:
        return [f"score {score:g}" for score in judgement.scores]
    return names(judgement, num)


def _rank(name: str) -> tuple[bool, float, int, str]:
    """Orders names: the better first."""
    score = float(name.removeprefix("score ")) if name.startswith("score ") else 0.0
    return name in ("rejected", "undesirable"), -score, len(name), name


def _pieces(
    policy: Any, example: Example, encoded: Encoded, response: tuple[int, ...], values: list[float]
) -> list[Piece]:
    if encoded.kind == "span":
        reading = policy.reading(example, encoded)
        ends = [reading.written(position, position) for position in response]
        return [
            Piece(f"{side} at “{text}”  ", (value,))
            for side, text, value in zip(("begins", "ends"), ends, values, strict=True)
        ]
    return cut_into_pieces(response, values, policy.tokenizer, encoded.prompt)


def _tell_classes(
    experiment: Experiment, trainer: pl.Trainer, encoded: Encoded, called: list[str], measure: Measure
) -> Told:
    policy: Any = experiment.policy
    every = replace(encoded, responses=tuple((number,) for number in range(len(policy.classes))))
    found = _log_probs(experiment, trainer, every)
    roles = {response[0]: name for response, name in zip(encoded.responses, called, strict=True)}
    shown = [
        ShownClass(
            text,
            roles.get(number, ""),
            value,
            math.exp(found[0][number][0]),
            None if found[1] is None or measure.is_uniform else math.exp(found[1][number][0]),
        )
        for number, (text, (value,)) in enumerate(zip(policy.classes, _values(found, measure), strict=True))
    ]
    most = sorted(shown, key=lambda one: (one.role == "", -abs(one.value)))[:MAX_CLASSES]
    kept = tuple(one for one in shown if one in most)
    return Told(policy.decode_prompt(encoded), (), kept, len(shown) - len(kept))


Found = tuple[list[list[float]], list[list[float]] | None]


def _log_probs(experiment: Experiment, trainer: pl.Trainer, encoded: Encoded) -> Found:
    """Of each decision of each response, under the policy and the reference, nats."""
    inputs = trainer.strategy.batch_to_device(experiment.policy.collate([encoded]))
    scorers = (experiment.policy, experiment.reference)
    found = [None if one is None else one.log_prob(inputs) for one in scorers]
    rows = [
        None if one is None else [row[mask].tolist() for row, mask in zip(one.token, one.mask, strict=True)]
        for one in found
    ]
    assert rows[0] is not None
    return rows[0], rows[1]


def _values(found: Found, measure: Measure) -> list[list[float]]:
    policy, reference = found
    if reference is None:
        return policy
    factor = 1.0 if measure.beta is None else measure.beta
    return [
        [factor * (ours - theirs) for ours, theirs in zip(*rows, strict=True)]
        for rows in zip(policy, reference, strict=True)
    ]
