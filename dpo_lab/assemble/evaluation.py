"""What is measured of a run besides its training: validation, samples, and once, at the end, the test."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import replace

import pytorch_lightning as pl

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.data.view import UNITS
from dpo_lab.errors import UserError
from dpo_lab.module import PreferenceModule
from dpo_lab.ranks import from_first_rank, num_ranks, rank
from dpo_lab.recorder import Recorder
from dpo_lab.samples import Sample, draw_samples, summarize
from dpo_lab.types import Window

ANSWERS = ("accuracy", "macro_f1", "exact_match", "token_f1")
"""Measures of answers that are said at the end of a run."""

RANKINGS = ("ndcg@10", "hit@10", "mrr")
"""Measures of next items that are said at the end of a run, beside what popularity alone gives."""


def check_best_metric(experiment: Experiment, recorded: dict[str, float] | None = None) -> None:
    """Whether `trainer.best_metric` will be known; `recorded` are the curves of a validation, once there was one.

    Raises:
        UserError: there is no validation, or it has no such curve.
    """
    settings = experiment.trainer
    if settings.save != "best":
        return
    if experiment.validation is None:
        raise UserError(
            "trainer.save=best: there is no validation data to compare checkpoints on; give data.validation_path or "
            "data.validation_fraction, or use trainer.save=last"
        )
    if recorded is not None and settings.best_metric not in recorded:
        raise UserError(
            f"trainer.best_metric={settings.best_metric} is never recorded; validation records: "
            f"{', '.join(sorted(recorded))}"
        )


def validation_of(experiment: Experiment) -> Iterable[Window] | None:
    """What this rank validates on."""
    whole = experiment.validation
    return whole if whole is None or num_ranks() == 1 else whole.whole_windows(rank(), num_ranks())


def evaluate(
    experiment: Experiment,
    trainer: pl.Trainer,
    module: PreferenceModule,
    recorder: Recorder | None,
    step: int,
    *,
    num_samples: int | None = None,
) -> list[Sample]:
    """Validation, on all ranks, and samples, of the first one, at the policy's present weights, into the row of `step`.

    Args:
        recorder: None on every rank but the first.
        num_samples: None is what the config says.
    """
    validation = validation_of(experiment)
    if validation is not None and from_first_rank(recorder is not None and recorder.validated_step != step):
        trainer.validate(module, validation, verbose=False)
    if recorder is None:
        return []
    settings = experiment.samples if num_samples is None else replace(experiment.samples, num=num_samples)
    if settings.num == 0:
        return []
    device = trainer.strategy.root_device
    experiment.policy.to(device)
    if experiment.reference is not None:
        experiment.reference.to(device)
    reference = experiment.reference
    encoded = experiment.validation.dataset.encoded if experiment.validation else experiment.train.dataset.encoded
    samples = draw_samples(
        experiment.policy,
        reference if reference is not None and reference.is_distribution else None,
        encoded[: settings.num],
        settings,
        seed=experiment.seeds["sampling"],
        true_reward=experiment.source.true_reward,
    )
    recorder.add(step, summarize(samples))
    return samples


def test_once(
    experiment: Experiment, trainer: pl.Trainer, module: PreferenceModule, recorder: Recorder, step: int
) -> None:
    """What the weights of `step`, which are those that the policy holds and keeps, say of the test split, if any."""
    if experiment.test is not None:
        recorder.tested_step = step
        trainer.test(module, experiment.test, verbose=False)


def summarize_run(
    experiment: Experiment,
    last: dict[str, float],
    before: list[Sample],
    after: list[Sample],
    say: Callable[[str], None],
) -> None:
    """Say, and give the logger, what the run came to; `last` is its last logged row."""
    old, new = summarize(before), summarize(after)
    shown = {name: value for name, value in last.items() if name.startswith(("val/", "test/", "samples/"))}
    experiment.logger.summary({**shown, "num_steps": experiment.num_steps, "data_report": experiment.report.as_dict()})
    unit = UNITS[experiment.train.view.kind]
    for side, name in (("val", "validation"), ("test", "test")):
        if f"{side}/rewards/accuracies" in last:
            at = f", weights of step {last['test/step']:.0f}" if side == "test" else ""
            accuracy, num_items = last[f"{side}/rewards/accuracies"], last[f"{side}/num_{unit}"]
            say(f"{name}: accuracy {accuracy:.3f} on {num_items:.0f} {unit}{at}")
        measured = [f"{measure} {last[f'{side}/{measure}']:.3f}" for measure in ANSWERS if f"{side}/{measure}" in last]
        if measured:
            say(f"{name}, answers: {', '.join(measured)}")
        ranked = [_beside_popularity(measure, side, last) for measure in RANKINGS if f"{side}/{measure}" in last]
        if ranked:
            say(f"{name}, next items: {', '.join(ranked)}")
    for name, unit in (("samples/true_reward", "true reward"), ("samples/kl", "KL to the reference, nats")):
        if name in new:
            values = (f"{round(row[name], 2) + 0.0:.2f} ± {row[name + '_ci95']:.2f}" for row in (old, new))
            say(f"{unit}: {' before, '.join(values)} after (mean of {len(after)} samples, 95 % interval)")


def _beside_popularity(measure: str, side: str, row: Mapping[str, float]) -> str:
    own, popular = row[f"{side}/{measure}"], row[f"{side}/popularity/{measure}"]
    return f"{measure} {own:.4f} ± {row[f'{side}/{measure}_ci95']:.4f} (popularity {popular:.4f})"
