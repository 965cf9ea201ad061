"""`dpo-lab train`: one run, from composed config to run folder."""

import os
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from dpo_lab.assemble import Experiment, assemble
from dpo_lab.assemble.fit import fit
from dpo_lab.assemble.lightning import computing
from dpo_lab.commands.begin import Now, begin
from dpo_lab.data.windows import WindowLoader
from dpo_lab.interruption import Interruption, Stopped
from dpo_lab.report.curves import draw_run
from dpo_lab.run import AlreadyFinished, RunFolder, collect_provenance, describe_differences, read_run
from dpo_lab.run.provenance import device_info

Found = Callable[[Path, bool], object]
"""Is told the folder of a run as soon as that is known, and whether the run was finished before."""


def train(
    cfg: DictConfig, overrides: Sequence[str], *, sweep: str | None = None, found: Found = lambda path, done: None
) -> int:
    """Train on a composed, checked config; return the exit code. What it says on the way goes to stderr.

    Args:
        overrides: what was typed, for the record.
        sweep: id of the sweep that this run is a job of.
        found: see `Found`.

    Raises:
        UserError: for whatever the user can mend.
    """
    # Set before transformers starts threads of its own, which would complain about a later fork.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    interruption = Interruption()
    with interruption.listening(), computing(config["trainer"].get("num_threads")):
        try:
            return _train(config, overrides, sweep, found, interruption)
        except Stopped as stopped:
            say(f"interrupted by {stopped.number.name}: the same command goes on from the newest checkpoint, if any")
            raise


def _train(
    config: dict[str, Any], overrides: Sequence[str], sweep: str | None, found: Found, interruption: Interruption
) -> int:
    experiment = assemble(config, say)
    provenance = collect_provenance()
    try:
        begun = begin(Now(config, experiment.contents, provenance), say)
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
        with experiment.logger.mirroring(folder, config, folder.info):
            fit(experiment, folder, say, interruption, begun.checkpoint)
        folder.flush()
        draw_run(read_run(folder.path), folder.report / "curves.png")
    print(folder.path)
    return 0


def say(line: str) -> None:
    """Tell the user something that is not a result."""
    print(line, file=sys.stderr)


def describe(experiment: Experiment, folder: RunFolder) -> None:
    """Say what is about to run, in a few lines."""
    num_weights = sum(tensor.numel() for tensor in experiment.policy.parameters())
    terms = " + ".join(
        f"{term.weight:g} {term.name}" if len(experiment.objective.terms) > 1 else term.name
        for term in experiment.objective.terms
    )
    if experiment.start_found is not None:
        say("start: " + ("found in the cache" if experiment.start_found else "trained"))
    say("tokens: " + ("found in the cache" if experiment.tokens_found else "made and kept in the cache"))
    say(f"policy: {num_weights:,} weights; loss: {terms}; {experiment.num_steps} optimizer steps")
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


def _num_items(loader: WindowLoader | None) -> int:
    return 0 if loader is None else len(loader.items)
