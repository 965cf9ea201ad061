"""One training run on what was assembled: evaluate, train, evaluate, keep."""

import json
import shutil
from collections.abc import Callable

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.reference_rows import prepare_reference
from dpo_lab.checkpoints import Checkpoints
from dpo_lab.module import PreferenceModule
from dpo_lab.progress import ProgressReport
from dpo_lab.recorder import Recorder
from dpo_lab.run import RunFolder
from dpo_lab.run.files import write_text
from dpo_lab.samples import Sample, draw_samples, summarize
from dpo_lab.start_checks import StartChecks

UNITS = {"pairs": "pairs", "lists": "lists", "labels": "responses", "chosen": "responses"}
TABLE_ROWS = 16
SIGTERM_EXIT_CODE = 143


class ReferenceMovedError(RuntimeError):
    """The frozen reference does not hold the weights that it held before training."""


def fit(experiment: Experiment, folder: RunFolder, say: Callable[[str], None]) -> None:
    """Train, writing into `folder` and the logger: validation and samples before and after, checkpoints, the model.

    Raises:
        StartCheckError: a check on the first updates failed.
        NonFiniteError: a gradient is not finite.
        ReferenceMovedError: the reference was changed by training.
        CacheMismatchError: cached log-probs of the reference are not those that it gives.
        MissingRowsError: the cache is required and lacks a response.
        KeyboardInterrupt: Ctrl-C, which Lightning turns into an exit of its own.
        SystemExit: with code 143, on SIGTERM.
    """
    settings = experiment.trainer
    module = PreferenceModule(
        experiment.policy,
        experiment.reference,
        experiment.objective,
        experiment.make_optimizer,
        clip_norm=settings.clip_norm,
        seed=experiment.seeds["dropout"],
    )
    checks = make_start_checks(experiment)
    recorder = Recorder(
        folder,
        experiment.logger,
        checks,
        num_steps=experiment.num_steps,
        items_per_epoch=len(experiment.train.items),
        unit=UNITS[experiment.train.view.kind],
    )
    with computing(settings.num_threads):
        trainer = make_trainer(
            settings,
            num_steps=experiment.num_steps,
            callbacks=_callbacks(experiment, folder, checks, recorder),
            validate_every=settings.validate_every if experiment.validation is not None else None,
        )
        use = prepare_reference(experiment, trainer, say)
        if use is not None:
            folder.update(reference_cache=use.as_dict())
            experiment.logger.summary({"reference_cache": use.as_dict()})
        before = _evaluate(experiment, trainer, module, recorder)
        torch.manual_seed(experiment.seeds["dropout"])
        _train(experiment, trainer, module)
        after = _evaluate(experiment, trainer, module, recorder)
        recorder.flush()
    _check_reference(experiment)
    _keep_samples(experiment, folder, before, after)
    if settings.save != "none":
        _export(experiment, folder)
    _summarize(experiment, recorder.last_row, before, after, say)


def make_start_checks(experiment: Experiment) -> StartChecks:
    return StartChecks(
        reference_is_policy=experiment.reference_is_policy,
        dropout=experiment.dropout,
        precision=experiment.trainer.precision,
        zero_gradient_ok=tuple(experiment.trainer.zero_gradient_ok),
        num_steps=experiment.num_steps,
    )


def _callbacks(experiment: Experiment, folder: RunFolder, checks: StartChecks, recorder: Recorder) -> list[pl.Callback]:
    """In the order in which they run: the record of a step holds what its checks found."""
    settings, num_steps = experiment.trainer, experiment.num_steps
    items = UNITS[experiment.train.view.kind]
    callbacks: list[pl.Callback] = [checks, recorder, ProgressReport(num_steps, title="training", items=items)]
    if settings.save != "none":
        callbacks.append(
            Checkpoints(folder, every=settings.checkpoint_every, keep_last=settings.keep_last, num_steps=num_steps)
        )
    return callbacks


def _train(experiment: Experiment, trainer: pl.Trainer, module: PreferenceModule) -> None:
    validation = None if experiment.trainer.validate_every is None else experiment.validation
    try:
        trainer.fit(module, experiment.train, validation)
    except SystemExit as stopped:
        if isinstance(stopped.__context__, KeyboardInterrupt):
            raise stopped.__context__ from None
        if isinstance(stopped, SIGTERMException):  # whose exit code would be that of success
            raise SystemExit(SIGTERM_EXIT_CODE) from stopped
        raise


def _evaluate(
    experiment: Experiment, trainer: pl.Trainer, module: PreferenceModule, recorder: Recorder
) -> list[Sample]:
    """Validation and samples at the policy's present weights, into the row of the present step."""
    if experiment.validation is not None and recorder.validated_step != trainer.global_step:
        trainer.validate(module, experiment.validation, verbose=False)
    device = trainer.strategy.root_device
    experiment.policy.to(device)
    if experiment.reference is not None:
        experiment.reference.to(device)
    reference = experiment.reference
    encoded = experiment.validation.dataset.encoded if experiment.validation else experiment.train.dataset.encoded
    samples = draw_samples(
        experiment.policy,
        reference if reference is not None and reference.is_distribution else None,
        [example.prompt for example in encoded[: experiment.samples.num]],
        experiment.samples,
        seed=experiment.seeds["sampling"],
        true_reward=experiment.source.true_reward,
    )
    recorder.add(trainer.global_step, summarize(samples))
    return samples


def _check_reference(experiment: Experiment) -> None:
    reference = experiment.reference
    if reference is None or reference.moves:
        return
    if reference.fingerprint() != experiment.contents["reference"]:
        raise ReferenceMovedError("the reference does not hold the weights that it held before training")


def _keep_samples(experiment: Experiment, folder: RunFolder, before: list[Sample], after: list[Sample]) -> None:
    if not after:
        return
    steps = ((0, before), (experiment.num_steps, after))
    rows = [sample.as_row(step) for step, samples in steps for sample in samples]
    write_text(folder.path / "samples.jsonl", "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))
    side_by_side = [[old.prompt, old.response, new.response] for old, new in zip(before, after, strict=True)]
    experiment.logger.table("samples", ["prompt", "before", "after"], side_by_side[:TABLE_ROWS])


def _export(experiment: Experiment, folder: RunFolder) -> None:
    """model/ appears whole or not at all."""
    partial = folder.path / ".model.partial"
    shutil.rmtree(partial, ignore_errors=True)
    experiment.policy.export(partial)
    partial.replace(folder.path / "model")


def _summarize(
    experiment: Experiment,
    last: dict[str, float],
    before: list[Sample],
    after: list[Sample],
    say: Callable[[str], None],
) -> None:
    old, new = summarize(before), summarize(after)
    shown = {name: value for name, value in last.items() if name.startswith(("val/", "samples/"))}
    experiment.logger.summary({**shown, "num_steps": experiment.num_steps, "data_report": experiment.report.as_dict()})
    if "val/rewards/accuracies" in last:
        unit = UNITS[experiment.train.view.kind]
        say(f"validation: accuracy {last['val/rewards/accuracies']:.3f} on {last[f'val/num_{unit}']:.0f} {unit}")
    for name, unit in (("samples/true_reward", "true reward"), ("samples/kl", "KL to the reference, nats")):
        if name in new:
            values = (f"{round(row[name], 2) + 0.0:.2f} ± {row[name + '_ci95']:.2f}" for row in (old, new))
            say(f"{unit}: {' before, '.join(values)} after (mean of {len(after)} samples, 95 % interval)")
