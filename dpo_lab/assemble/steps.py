"""What makes the optimizer steps of a run, in each of the processes that train together."""

import signal
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytorch_lightning as pl
import torch
from pytorch_lightning.utilities.exceptions import SIGTERMException

from dpo_lab.assemble.evaluation import check_best_metric, evaluate, validation_of
from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.lightning import make_trainer
from dpo_lab.checkpoints import Checkpoints, Record
from dpo_lab.data.view import UNITS
from dpo_lab.evaluation.measure import measure_of
from dpo_lab.interruption import Interruption, Stopped
from dpo_lab.module import PreferenceModule
from dpo_lab.progress import ProgressReport
from dpo_lab.ranks import num_ranks, rank
from dpo_lab.recorder import Recorder
from dpo_lab.reference.rounding import is_exact
from dpo_lab.run import RunFolder
from dpo_lab.samples import Sample
from dpo_lab.seeds import seed_of_rank
from dpo_lab.start_checks import StartChecks


@dataclass(frozen=True)
class Steps:
    """The step, the trainer that calls it, and what happens around it; `record` is None on every rank but the first.

    Every rank makes them in the same order: `begin`, `train`, `end`.
    """

    experiment: Experiment
    module: PreferenceModule
    trainer: pl.Trainer
    checkpoints: Checkpoints
    record: Record | None
    interruption: Interruption
    resumed: dict[str, Any] | None

    @property
    def recorder(self) -> Recorder | None:
        return None if self.record is None else self.record.recorder

    def begin(self) -> list[Sample]:
        """What is there before the first step of this process; the samples are those before the first of the run.

        Raises:
            UserError: `trainer.best_metric` is never recorded.
        """
        experiment = self.experiment
        if num_ranks() != experiment.trainer.num_devices:
            raise RuntimeError(f"{num_ranks()} processes train, and trainer.num_devices says otherwise")
        torch.manual_seed(seed_of_rank(experiment.seeds["dropout"], rank()))
        if self.resumed is None:
            before = evaluate(experiment, self.trainer, self.module, self.recorder, 0)
            if self.recorder is not None:
                check_best_metric(experiment, self.recorder.last_validation)
            return before
        self.checkpoints.restore(self.trainer, self.module)
        step, every = self.resumed["step"], experiment.trainer.validate_every
        if every is not None and step % every == 0 and step < experiment.num_steps:
            evaluate(experiment, self.trainer, self.module, self.recorder, step, num_samples=0)
        return []

    def train(self) -> None:
        """All steps that are left.

        Raises:
            Stopped: the run was interrupted.
        """
        experiment = self.experiment
        if self.resumed is not None and self.resumed["step"] == experiment.num_steps:
            return
        validation = None if experiment.trainer.validate_every is None else validation_of(experiment)
        try:
            with self.interruption.deferring():
                self.trainer.fit(self.module, experiment.train, validation)
        except SIGTERMException as stopped:  # where nobody listens but Lightning
            raise Stopped(signal.SIGTERM) from stopped

    def end(self) -> list[Sample]:
        """What is there after the last step; the samples are those after it."""
        return evaluate(self.experiment, self.trainer, self.module, self.recorder, self.experiment.num_steps)


def build_steps(
    experiment: Experiment,
    folder: RunFolder | None,
    interruption: Interruption | None = None,
    resumed: dict[str, Any] | None = None,
    watching: Sequence[pl.Callback] = (),
) -> Steps:
    """
    Args:
        folder: where the run is written; None on every rank but the first.
        interruption: asked at the end of each optimizer step; None where nobody interrupts.
        resumed: the content of the checkpoint to go on from, emptied once it is restored; None: from the beginning.
        watching: called after all others, around the optimizer steps.
    """
    interruption, settings = interruption or Interruption(), experiment.trainer
    module = PreferenceModule(
        experiment.policy,
        experiment.reference,
        experiment.objective,
        experiment.make_optimizer,
        clip_norm=settings.clip_norm,
        seed=experiment.seeds["dropout"],
    )
    module.keeps_rows = settings.record_pairs
    checks = make_start_checks(experiment)
    record = None if folder is None else Record(folder, _recorder(experiment, folder, checks))
    checkpoints = Checkpoints(
        record,
        settings,
        checks,
        experiment.train,
        num_steps=experiment.num_steps,
        interruption=interruption,
        resumed=resumed,
    )
    trainer = make_trainer(
        settings,
        num_steps=experiment.num_steps,
        # In the order in which they run: the record of a step holds what its checks found, and a checkpoint both.
        callbacks=[
            checks,
            *([] if record is None else [record.recorder, _progress(experiment)]),
            checkpoints,
            *watching,
        ],
        validate_every=settings.validate_every if experiment.validation is not None else None,
    )
    return Steps(experiment, module, trainer, checkpoints, record, interruption, resumed)


def make_start_checks(experiment: Experiment) -> StartChecks:
    policy = experiment.policy
    # A step whose prompts show nothing has no gradient for what sees, and the first steps may be such.
    shows_always = all(encoded.images for encoded in experiment.train.dataset.encoded)
    unseen = () if shows_always else policy.reached_by_images
    return StartChecks(
        reference_is_policy=experiment.reference_is_policy,
        dropout=experiment.dropout,
        is_exact=is_exact(precision=experiment.trainer.precision, dtype=policy.computation()["dtype"]),
        zero_gradient_ok=(*experiment.trainer.zero_gradient_ok, *policy.without_gradient, *unseen),
        num_steps=experiment.num_steps,
    )


def _recorder(experiment: Experiment, folder: RunFolder, checks: StartChecks) -> Recorder:
    return Recorder(
        folder,
        experiment.logger,
        checks,
        num_steps=experiment.num_steps,
        items_per_epoch=len(experiment.train.items),
        unit=UNITS[experiment.train.view.kind],
        measure=measure_of(experiment.policy, experiment.source),
    )


def _progress(experiment: Experiment) -> ProgressReport:
    return ProgressReport(experiment.num_steps, title="training", items=UNITS[experiment.train.view.kind])
