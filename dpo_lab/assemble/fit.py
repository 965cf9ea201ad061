"""One training run on what was assembled: evaluate, train, evaluate, keep."""

import shutil
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import pytorch_lightning as pl

from dpo_lab.assemble.evaluation import check_best_metric, summarize_run, test_once
from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.lightning import computing
from dpo_lab.assemble.reference_rows import prepare_reference
from dpo_lab.assemble.steps import Steps, build_steps
from dpo_lab.checkpoints import Checkpoints
from dpo_lab.data.locate import locate
from dpo_lab.interruption import Interruption
from dpo_lab.module import PreferenceModule
from dpo_lab.non_finite import NonFiniteError
from dpo_lab.run import RunFolder, hex_key
from dpo_lab.run.read import read_rows
from dpo_lab.samples import Sample, read_samples, write_samples
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
    watching: Sequence[pl.Callback] = (),
    together: AbstractContextManager[object] | None = None,
) -> None:
    """Train, writing into `folder` and the logger: validation and samples before and after, checkpoints, the
    test of the weights that are kept, the model.

    Args:
        interruption: asked at the end of each optimizer step; None where nobody interrupts.
        resumed: the content of the checkpoint to go on from, with `folder` put back to it; None: from the beginning. It
            is emptied once it is restored.
        watching: called after all others, around the optimizer steps.
        together: inside of it the other ranks train as well (`follow`); None where `trainer.num_devices` is 1.

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
    settings = experiment.trainer
    check_best_metric(experiment)
    with computing(settings.num_threads):
        steps = build_steps(experiment, folder, interruption, resumed, watching)
        assert steps.recorder is not None
        use = prepare_reference(experiment, steps.trainer, say)
        if use is not None:
            folder.update(reference_cache=use.as_dict())
            experiment.logger.summary({"reference_cache": use.as_dict()})
        with together or nullcontext():
            before = _first_samples(folder, steps.begin(), is_resumed=resumed is not None)
            _train(steps)
            after = steps.end()
        kept = experiment.num_steps
        if settings.save == "best":
            kept = _take_best(steps.trainer, steps.module, steps.checkpoints, folder, say) or kept
        test_once(experiment, steps.trainer, steps.module, steps.recorder, kept)
        steps.recorder.flush()
    _check_reference(experiment)
    _keep_samples(experiment, folder, before, after)
    if settings.save != "none":
        _export(experiment, folder)
    summarize_run(experiment, steps.recorder.last_row, before, after, say)
    _say_if_still(experiment, folder, say)


def follow(
    experiment: Experiment, join: Callable[[], object], interruption: Interruption, resumed: dict[str, Any] | None
) -> None:
    """Make the same steps as `fit`, on a rank that is not the first: it computes its share and writes nothing.

    Args:
        join: makes this process one of the ranks; called when all that it can do alone is done.
    """
    with computing(experiment.trainer.num_threads):
        steps = build_steps(experiment, None, interruption, resumed)
        prepare_reference(experiment, steps.trainer, lambda line: None)
        join()
        steps.begin()
        steps.train()
        steps.end()


def _say_if_still(experiment: Experiment, folder: RunFolder, say: Callable[[str], None]) -> None:
    folder.flush()
    rows = read_rows(folder.path / "metrics.jsonl")
    reason = why_still(rows, num_steps=experiment.num_steps, warmup_steps=experiment.warmup_steps)
    if reason is not None:
        say(reason)


def _first_samples(folder: RunFolder, drawn: list[Sample], *, is_resumed: bool) -> list[Sample]:
    """Those before the first step of the run, which may be long ago, kept on disk with nothing behind them."""
    file = folder.path / "samples.jsonl"
    before = read_samples(file, step=0) if is_resumed else drawn
    write_samples(file, {0: before})
    return before


def _train(steps: Steps) -> None:
    try:
        steps.train()
    except NonFiniteError as error:
        raise NonFiniteError(
            f"{error}\n{_in_question(error, steps.experiment)}", error.keys, is_known=error.is_known
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
