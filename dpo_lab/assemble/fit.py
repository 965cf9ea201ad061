"""One training run on what was assembled: evaluate, train, evaluate, keep."""

import shutil
import signal
from collections.abc import Callable
from functools import partial
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dpo_lab.assemble.evaluation import check_best_metric, evaluate, measure, summarize_run, test_once
from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.reference_rows import prepare_reference
from dpo_lab.checkpoints import Checkpoints
from dpo_lab.data.locate import locate
from dpo_lab.data.view import UNITS
from dpo_lab.interruption import Interruption, Stopped
from dpo_lab.module import NonFiniteError, PreferenceModule
from dpo_lab.progress import ProgressReport
from dpo_lab.recorder import Recorder
from dpo_lab.reference.rounding import is_exact
from dpo_lab.run import RunFolder, hex_key
from dpo_lab.run.read import read_rows
from dpo_lab.samples import Sample, read_samples, write_samples
from dpo_lab.start_checks import StartChecks
from dpo_lab.stillness import why_still

TABLE_ROWS = 16

MAX_ROWS = 20
"""Rows that are named when a gradient is not finite."""


class ReferenceMovedError(RuntimeError):
    """The frozen reference does not hold the weights that it held before training."""


def fit(
    experiment: Experiment,
    folder: RunFolder,
    say: Callable[[str], None],
    interruption: Interruption | None = None,
    resumed: dict[str, Any] | None = None,
) -> None:
    """Train, writing into `folder` and the logger: validation and samples before and after, checkpoints, the
    test of the weights that are kept, the model.

    Args:
        interruption: asked at the end of each optimizer step; None where nobody interrupts.
        resumed: the content of the checkpoint to go on from, with `folder` put back to it; None: from the beginning. It
            is emptied once it is restored.

    Raises:
        StartCheckError: a check on the first updates failed.
        NonFiniteError: a gradient is not finite.
        ReferenceMovedError: the reference was changed by training.
        CacheMismatchError: cached log-probs of the reference are not those that it gives.
        MissingRowsError: the cache is required and lacks a response.
        UserError: `trainer.best_metric` is never recorded.
        WriteError: the disk refuses.
        Stopped: the run was interrupted; the step that it was in is done and, where checkpoints are kept, in one.
    """
    interruption = interruption or Interruption()
    settings = experiment.trainer
    check_best_metric(experiment)
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
        measure=partial(measure, experiment),
    )
    checkpoints = Checkpoints(
        folder,
        settings,
        recorder,
        checks,
        experiment.train,
        num_steps=experiment.num_steps,
        interruption=interruption,
        resumed=resumed,
    )
    with computing(settings.num_threads):
        trainer = make_trainer(
            settings,
            num_steps=experiment.num_steps,
            # In the order in which they run: the record of a step holds what its checks found, and a checkpoint both.
            callbacks=[checks, recorder, _progress(experiment), checkpoints],
            validate_every=settings.validate_every if experiment.validation is not None else None,
        )
        use = prepare_reference(experiment, trainer, say)
        if use is not None:
            folder.update(reference_cache=use.as_dict())
            experiment.logger.summary({"reference_cache": use.as_dict()})
        torch.manual_seed(experiment.seeds["dropout"])
        before = _begin(experiment, folder, trainer, module, recorder, checkpoints, resumed)
        if resumed is None or resumed["step"] < experiment.num_steps:
            _train(experiment, trainer, module, interruption)
        after = evaluate(experiment, trainer, module, recorder, experiment.num_steps)
        kept = experiment.num_steps
        if settings.save == "best":
            kept = _take_best(trainer, module, checkpoints, folder, say) or kept
        test_once(experiment, trainer, module, recorder, kept)
        recorder.flush()
    _check_reference(experiment)
    _keep_samples(experiment, folder, before, after)
    if settings.save != "none":
        _export(experiment, folder)
    summarize_run(experiment, recorder.last_row, before, after, say)
    _say_if_still(experiment, folder, say)


def _say_if_still(experiment: Experiment, folder: RunFolder, say: Callable[[str], None]) -> None:
    folder.flush()
    rows = read_rows(folder.path / "metrics.jsonl")
    reason = why_still(rows, num_steps=experiment.num_steps, warmup_steps=experiment.warmup_steps)
    if reason is not None:
        say(reason)


def make_start_checks(experiment: Experiment) -> StartChecks:
    return StartChecks(
        reference_is_policy=experiment.reference_is_policy,
        dropout=experiment.dropout,
        is_exact=is_exact(precision=experiment.trainer.precision, dtype=experiment.policy.computation()["dtype"]),
        zero_gradient_ok=tuple(experiment.trainer.zero_gradient_ok),
        num_steps=experiment.num_steps,
    )


def _progress(experiment: Experiment) -> ProgressReport:
    return ProgressReport(experiment.num_steps, title="training", items=UNITS[experiment.train.view.kind])


def _begin(
    experiment: Experiment,
    folder: RunFolder,
    trainer: pl.Trainer,
    module: PreferenceModule,
    recorder: Recorder,
    checkpoints: Checkpoints,
    resumed: dict[str, Any] | None,
) -> list[Sample]:
    """What is there before the first step of this process; the samples are those before the first of the run."""
    file = folder.path / "samples.jsonl"
    if resumed is None:
        before = evaluate(experiment, trainer, module, recorder, 0)
        check_best_metric(experiment, recorder.last_validation)
        write_samples(file, {0: before})
        return before
    checkpoints.restore(trainer, module)
    before = read_samples(file, step=0)
    write_samples(file, {0: before})
    step, every = resumed["step"], experiment.trainer.validate_every
    if every is not None and step % every == 0 and step < experiment.num_steps:
        evaluate(experiment, trainer, module, recorder, step, num_samples=0)
    return before


def _train(experiment: Experiment, trainer: pl.Trainer, module: PreferenceModule, interruption: Interruption) -> None:
    validation = None if experiment.trainer.validate_every is None else experiment.validation
    try:
        with interruption.deferring():
            trainer.fit(module, experiment.train, validation)
    except SIGTERMException as stopped:  # where nobody listens but Lightning
        raise Stopped(signal.SIGTERM) from stopped
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error}\n{_in_question(error, experiment)}", error.keys, is_known=error.is_known
        ) from None


def _in_question(error: NonFiniteError, experiment: Experiment) -> str:
    """The responses that may have made a gradient that is not finite, by key and, where it is known, by row."""
    source, policy = experiment.source, experiment.policy
    places = locate(error.keys, source.train, policy.encode, source.max_length, source.on_overflow, policy.end_id)
    shown = [f"  {places.get(key, 'borrowed from another row')} (key {hex_key(*key)})" for key in error.keys]
    title = "rows that are not finite" if error.is_known else "each row by itself is finite; rows of the step"
    more = [f"  ... and {len(shown) - MAX_ROWS} more"] if len(shown) > MAX_ROWS else []
    return "\n".join([f"{title}:", *shown[:MAX_ROWS], *more])


def _check_reference(experiment: Experiment) -> None:
    reference = experiment.reference
    if reference is None or reference.moves:
        return
    if reference.fingerprint() != experiment.contents["reference"]:
        raise ReferenceMovedError("the reference does not hold the weights that it held before training")


def _keep_samples(experiment: Experiment, folder: RunFolder, before: list[Sample], after: list[Sample]) -> None:
    if not after:
        return
    write_samples(folder.path / "samples.jsonl", {0: before, experiment.num_steps: after})
    side_by_side = [[old.prompt, old.response, new.response] for old, new in zip(before, after, strict=False)]
    experiment.logger.table("samples", ["prompt", "before", "after"], side_by_side[:TABLE_ROWS])


def _take_best(
    trainer: pl.Trainer,
    module: PreferenceModule,
    checkpoints: Checkpoints,
    folder: RunFolder,
    say: Callable[[str], None],
) -> int | None:
    """Its step; None where there is none, and the policy stays as it is."""
    best = checkpoints.load_best(trainer, module)
    if best is None:
        say("trainer.save=best: no validation gave a number; model/ holds the weights after the last step")
        return None
    folder.update(best={"step": best[0], "value": best[1]})
    say(f"best checkpoint: step {best[0]}, {best[1]:g}; model/ holds its weights")
    return best[0]


def _export(experiment: Experiment, folder: RunFolder) -> None:
    """model/ appears whole or not at all."""
    partial, target = folder.path / ".model.partial", folder.path / "model"
    shutil.rmtree(partial, ignore_errors=True)
    experiment.policy.export(partial)
    shutil.rmtree(target, ignore_errors=True)  # of a process that was killed after it
    partial.replace(target)
