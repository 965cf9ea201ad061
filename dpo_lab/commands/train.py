"""`dpo-lab train`: one run, from composed config to run folder."""

import os
import sys
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, final

import pytorch_lightning as pl
from omegaconf import DictConfig, OmegaConf

from dpo_lab.assemble import Experiment, assemble
from dpo_lab.assemble.fit import fit
from dpo_lab.assemble.lightning import computing
from dpo_lab.assemble.other_ranks import Together, other_ranks
from dpo_lab.commands.begin import Begun, Now, begin
from dpo_lab.data.row_fingerprint import row_fingerprints
from dpo_lab.data.windows import WindowLoader
from dpo_lab.interruption import Interruption, Stopped
from dpo_lab.model.fingerprint import fingerprint_of_each
from dpo_lab.needs import Term
from dpo_lab.report.curves import draw_run
from dpo_lab.run import AlreadyFinished, RunFolder, collect_provenance, describe_differences, read_run
from dpo_lab.run.checkpoint import checkpoint_path
from dpo_lab.run.fingerprints import write_fingerprints
from dpo_lab.run.provenance import device_info, source_fingerprints
from dpo_lab.streams import StreamRecord, keep_samples, keep_weights

Found = Callable[[Path, bool], object]
"""Is told the folder of a run as soon as that is known, and whether the run was finished before."""


@final
class EnoughError(Exception):
    """Raised in the middle of training by whoever has seen enough of it: the run ends there, as it was meant to."""


@dataclass(frozen=True, kw_only=True)
class Manner:
    """What a run is begun by, watched by and followed by; by default those of a run that stands for itself.

    Attributes:
        begin: gives the folder, and the checkpoint to go on from.
        watching: callbacks around the optimizer steps, one of which may raise `EnoughError`.
        ended: is given the folder when training is done, before that is closed.
    """

    begin: Callable[[Now, Experiment], Begun] = lambda now, experiment: begin(now, say)
    watching: Sequence[pl.Callback] = ()
    ended: Callable[[RunFolder], object] = lambda folder: None


def train(
    cfg: DictConfig,
    overrides: Sequence[str],
    *,
    sweep: str | None = None,
    found: Found = lambda path, done: None,
    manner: Manner | None = None,
) -> int:
    """Train on a composed, checked config; return the exit code. What it says on the way goes to stderr.

    Args:
        overrides: what was typed, for the record.
        sweep: id of the sweep that this run is a job of.
        found: see `Found`.
        manner: None is that of a run that stands for itself.

    Raises:
        UserError: for whatever the user can mend.
    """
    # Set before transformers starts threads of its own, which would complain about a later fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    interruption = Interruption()
    trainer = config["trainer"]
    with interruption.listening(), computing(trainer.get("num_threads"), trainer.get("num_devices", 1)):
        try:
            return _train(config, overrides, sweep, found, interruption, manner or Manner())
        except Stopped as stopped:
            say(f"interrupted by {stopped.number.name}: the same command goes on from the newest checkpoint, if any")
            raise


def _train(
    config: dict[str, Any],
    overrides: Sequence[str],
    sweep: str | None,
    found: Found,
    interruption: Interruption,
    manner: Manner,
) -> int:
    experiment = assemble(config, say)
    provenance = collect_provenance()
    try:
        begun = manner.begin(Now(config, experiment.contents, provenance), experiment)
    except AlreadyFinished as finished:
        found(finished.path, True)
        print(f"already finished: {finished.path}")
        for difference in describe_differences(read_run(finished.path).info, provenance):
            say(f"made with another {difference}")
        return 0
    folder = begun.folder
    found(folder.path, False)
    with folder:
        folder.update(sweep=sweep)
        _write_identity(folder, config, overrides, experiment, provenance, begun.step)
        describe(experiment, folder)
        streams = StreamRecord(
            folder, seed=experiment.seeds["dropout"], draws_subsets="generator" in experiment.objective.needs
        )
        together = _others(config, experiment, begun)
        with experiment.logger.mirroring(folder, config, folder.info), suppress(EnoughError):
            fit(experiment, folder, say, interruption, begun.checkpoint, [streams, *manner.watching], together)
        folder.flush()
        keep_samples(folder)
        draw_run(read_run(folder.path), folder.report / "curves.png")
        manner.ended(folder)
    print(folder.path)
    return 0


def _others(config: dict[str, Any], experiment: Experiment, begun: Begun) -> AbstractContextManager[None] | None:
    """The other processes that train along; None where this is the only one."""
    if experiment.trainer.num_devices == 1:
        return None
    folder, checkpoint = begun.folder, begun.checkpoint
    start = Together(
        config=config,
        contents=experiment.contents,
        checkpoint=None if checkpoint is None else checkpoint_path(folder.checkpoints, begun.step),
        reference=None if checkpoint is None else checkpoint["reference"],
    )

    def give_up(reason: str) -> None:
        say(reason)
        folder.finish("failed", reason)

    return other_ranks(start, give_up)


def say(line: str) -> None:
    """Tell the user something that is not a result."""
    print(line, file=sys.stderr)


def _weight(term: Term) -> str:
    if term.ramp is None:
        return f"{term.weight:g}"
    return f"{term.weight:g} to {term.ramp.final:g} in {term.ramp.num_steps} steps"


def describe(experiment: Experiment, folder: RunFolder) -> None:
    """Say what is about to run, in a few lines."""
    num_weights = sum(tensor.numel() for tensor in experiment.policy.parameters())
    terms = " + ".join(
        f"{_weight(term)} {term.name}" if len(experiment.objective.terms) > 1 else term.name
        for term in experiment.objective.terms
    )
    if experiment.start_found is not None:
        say("start: " + ("found in the cache" if experiment.start_found else "trained"))
    say("tokens: " + ("found in the cache" if experiment.tokens_found else "made and kept in the cache"))
    num_devices = experiment.trainer.num_devices
    together = f" of {num_devices} processes together" if num_devices > 1 else ""
    say(f"policy: {num_weights:,} weights; loss: {terms}; {experiment.num_steps} optimizer steps{together}")
    say(f"log-probs: {experiment.policy.scoring}")
    sizes = {"train": experiment.train, "validation": experiment.validation, "test": experiment.test}
    shown = [f"{_num_items(loader)} {name}" for name, loader in sizes.items() if loader or name != "test"]
    say(f"items that fit: {', '.join(shown)}")
    say(f"run folder: {folder.path}")


def _write_identity(
    folder: RunFolder,
    config: dict[str, Any],
    overrides: Sequence[str],
    experiment: Experiment,
    provenance: dict[str, Any],
    step: int,
) -> None:
    folder.write_config(config, overrides)
    first_code = folder.info.get("code", provenance["code"])
    folder.write_code_diff(step if first_code["hash"] != provenance["code"]["hash"] else 0)
    folder.update(
        **provenance,
        **device_info(),
        seeds=experiment.seeds,
        hashes=experiment.contents,
        num_steps=experiment.num_steps,
        num_train_items=len(experiment.train.items),
        num_validation_items=_num_items(experiment.validation),
        num_test_items=_num_items(experiment.test),
    )
    folder.write_data_report(experiment.report.as_dict())
    trained = {name: tensor for name, tensor in experiment.policy.named_parameters() if tensor.requires_grad}
    weights = fingerprint_of_each(trained)
    write_fingerprints(
        folder.path, config, rows=row_fingerprints(experiment.source), weights=weights, code=source_fingerprints()
    )
    keep_weights(folder, weights)


def _num_items(loader: WindowLoader | None) -> int:
    return 0 if loader is None else len(loader.items)
