"""What `dpo-lab train` adds to a step beside the arithmetic, against a loop written by hand.

    python benchmarks/trainer_overhead.py --steps 200 --rounds 3 [--out FILE.json]

Three ways of doing the same steps of a tiny model (2 layers, 32 wide, 2 short pairs), in turns, in one process and
one thread:

raw         a loop as one would write it: log-probs, loss, backward, clip, update; it logs nothing and checks nothing
lightning   the same lines as the step of a bare LightningModule, under the trainer that dpo_lab makes
dpo_lab     what `dpo-lab train` does: its module, trainer, recorder, every metric of every step, and the bar drawn
            as on a terminal

All take the same windows from the same loader and the same reference rows from the cache, which is warm. Figures are
CPU milliseconds, user and system, of the steps after the warm-up. What they mean: docs/speed.md.
"""

import argparse
import json
import os
import shlex
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from contextlib import redirect_stderr
from dataclasses import replace
from importlib.metadata import version
from io import StringIO
from pathlib import Path
from statistics import mean, median
from typing import Any

os.environ.update(OMP_NUM_THREADS="1", MKL_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false", TERM="xterm", COLUMNS="120")

import pytorch_lightning as pl
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from step_cost import machine, shown
from step_cost_side import Clock, with_clock
from torch import Tensor

from dpo_lab.assemble import Experiment, assemble
from dpo_lab.assemble.fit import fit
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.reference_rows import prepare_reference
from dpo_lab.config import check
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.paths import CONF_DIR
from dpo_lab.run import RunFolder, read_run, run_id
from dpo_lab.types import PreferenceBatch

PAIRS_A_STEP, BETA, CLIP_NORM = 2, 0.1, 1.0
RECIPE = (
    "model=tiny model.hidden_size=32 model.num_layers=2 model.num_heads=2 start=none data=reviews "
    "data.num_validation_pairs=8 data.num_demonstrations=8 loss=sigmoid reference=frozen optimizer=adamw "
    "optimizer.lr=1e-3 trainer=cpu trainer.num_threads=1 trainer.save=none logger=local samples.num=0"
)
LOSS_GOAL = 1e-5
Losses = list[float]


def make_experiment(steps: int, folder: Path) -> tuple[dict[str, Any], Experiment]:
    """The objects of a run of one epoch; every call gives the same weights, windows and order."""
    sizes = [f"data.num_pairs={steps * PAIRS_A_STEP}", f"trainer.global_batch_size={PAIRS_A_STEP}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        config = compose("train", [*RECIPE.split(), *sizes, f"loss.beta={BETA}", f"trainer.clip_norm={CLIP_NORM}"])
    config.cache_dir, config.runs_dir = str(folder / "cache"), tempfile.mkdtemp(dir=folder)
    check(config)
    resolved: Any = OmegaConf.to_container(config, resolve=True)
    return resolved, assemble(resolved, _ignore)


def step_by_hand(
    experiment: Experiment, batch: PreferenceBatch, optimizer: Any, scheduler: Any, backward: Callable[[Tensor], None]
) -> Tensor:
    """One optimizer step, and its loss."""
    assert experiment.reference is not None
    policy = experiment.policy.log_prob(batch.inputs)
    reference = experiment.reference.log_prob(batch.inputs, batch.key)
    loss = sigmoid(policy, reference, batch.pairs, beta=BETA).loss.mean()
    backward(loss)
    torch.nn.utils.clip_grad_norm_(experiment.policy.parameters(), CLIP_NORM)
    optimizer.step()
    optimizer.zero_grad(set_to_none=True)
    scheduler.step()
    return loss.detach()


def run_raw(steps: int, folder: Path, clock: Clock) -> Losses:
    """The loop written by hand."""
    _, experiment = make_experiment(steps, folder)
    optimizer, scheduler = with_clock(experiment.make_optimizer, clock)(experiment.policy)
    losses = []
    with computing(1):
        _warm(experiment, _bare_trainer(experiment))
        torch.use_deterministic_algorithms(True)  # as the trainer has it
        for (batch,) in experiment.train:
            losses.append(step_by_hand(experiment, batch, optimizer, scheduler, torch.Tensor.backward))
    return [float(loss) for loss in losses]


class BareModule(pl.LightningModule):
    """The step written by hand, and nothing else."""

    def __init__(self, experiment: Experiment, clock: Clock):
        super().__init__()
        self.automatic_optimization = False
        self.policy = experiment.policy
        self.losses: list[Tensor] = []
        self._experiment, self._clock = experiment, clock

    def configure_optimizers(self) -> Any:
        optimizer, scheduler = with_clock(self._experiment.make_optimizer, self._clock)(self.policy)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}

    def training_step(self, window: Any, index: int) -> None:
        optimizer, scheduler = self.optimizers(), self.lr_schedulers()
        self.losses.append(step_by_hand(self._experiment, window[0], optimizer, scheduler, self.manual_backward))


def run_lightning(steps: int, folder: Path, clock: Clock) -> Losses:
    """The same step under Lightning's trainer, without anything of ours around it."""
    _, experiment = make_experiment(steps, folder)
    module = BareModule(experiment, clock)
    with computing(1):
        trainer = _bare_trainer(experiment)
        _warm(experiment, trainer)
        trainer.fit(module, experiment.train)
    return [float(loss) for loss in module.losses]


def run_dpo_lab(steps: int, folder: Path, clock: Clock) -> Losses:
    """What `dpo-lab train` does; the losses are those of metrics.jsonl."""
    config, experiment = make_experiment(steps, folder)
    timed = replace(experiment, make_optimizer=with_clock(experiment.make_optimizer, clock))
    run = RunFolder.claim(config["runs_dir"], config["name"], run_id(config, experiment.contents))
    terminal = Terminal()
    with run, experiment.logger.mirroring(run, config, run.info), redirect_stderr(terminal):
        fit(timed, run, _ignore)
    assert "accuracy" in terminal.getvalue() and "\x1b[" in terminal.getvalue(), "no bar was drawn"
    return [row["train/loss"] for row in read_run(run.path).metrics if "train/loss" in row]


class Terminal(StringIO):
    """Takes what is drawn, and says that it is a terminal."""

    def isatty(self) -> bool:
        return True


def _bare_trainer(experiment: Experiment) -> pl.Trainer:
    return make_trainer(experiment.trainer, num_steps=experiment.num_steps, callbacks=[], validate_every=None)


def _warm(experiment: Experiment, trainer: pl.Trainer) -> None:
    prepare_reference(experiment, trainer, _ignore)


def _ignore(line: str) -> None:
    pass


SIDES: dict[str, Callable[[int, Path, Clock], Losses]] = {
    "raw": run_raw,
    "lightning": run_lightning,
    "dpo_lab": run_dpo_lab,
}


def measure(args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """All rounds: milliseconds of each step of each side, and their losses of the last round."""
    taken: dict[str, list[list[float]]] = {name: [] for name in SIDES}
    losses: dict[str, Losses] = {}
    run_raw(args.warm_up + 1, folder, Clock())  # the first steps of a process load code
    for number in range(args.rounds):
        for name, run in SIDES.items():
            clock = Clock()
            losses[name] = run(args.steps, folder, clock)
            seconds = clock.measured([])["step_cpu_seconds"][args.warm_up :]
            taken[name].append([1000 * second for second in seconds])
            print(f"round {number + 1}: {name}: {median(taken[name][-1]):.2f} ms a step", flush=True)
    return {
        "command": shlex.join(["python", "benchmarks/trainer_overhead.py", *shown(sys.argv[1:])]),
        "machine": machine(),
        "versions": {name: version(name) for name in ("torch", "pytorch-lightning")},
        "recipe": RECIPE,
        "pairs_a_step": PAIRS_A_STEP,
        "steps": args.steps,
        "warm_up": args.warm_up,
        "median_ms_of_each_round": {name: [median(steps) for steps in rounds] for name, rounds in taken.items()},
        "summary": summarize(taken),
        "largest_loss_gap": max(abs(a - b) for name in SIDES for a, b in zip(losses[name], losses["raw"], strict=True)),
    }


def summarize(taken: Mapping[str, Sequence[Sequence[float]]]) -> dict[str, dict[str, float]]:
    """Of each side the median step, and the median of what its steps take more than the same steps of `raw`.

    All sides take the same windows, so each step is compared with itself; of a step its least milliseconds of any round
    count, since what else the machine does only adds to them. That leaves out what few steps do, such as drawing the
    bar and writing the file; `over_raw_ms_of_means` has it: the mean step of the round in which that is least, of both.
    """
    least = {name: [min(same) for same in zip(*rounds, strict=True)] for name, rounds in taken.items()}
    return {
        name: {
            "cpu_ms_a_step": median(steps),
            "over_raw_ms": median(mine - raw for mine, raw in zip(steps, least["raw"], strict=True)),
            "over_raw_ms_of_means": min(map(mean, taken[name])) - min(map(mean, taken["raw"])),
        }
        for name, steps in least.items()
    }


def table(record: dict[str, Any]) -> str:
    """Markdown."""
    lines = ["| | CPU ms a step | more than raw | the same of all steps together |", "|---|---|---|---|"]
    for name, found in record["summary"].items():
        more = f"{found['over_raw_ms']:+.2f} | {found['over_raw_ms_of_means']:+.2f}"
        lines.append(f"| {name} | {found['cpu_ms_a_step']:.2f} | {more} |")
    return "\n".join(lines)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=int, default=200, help="optimizer steps of a side in a round")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--warm-up", type=int, default=20, help="first steps, which are not counted")
    parser.add_argument("--out", type=Path, help="write the record there")
    args = parser.parse_args()
    if not 0 < args.warm_up < args.steps - 1 or args.rounds < 1:
        parser.error("needs one step or more to warm up, two or more to count, and one round or more")
    return args


def main() -> int:
    """Measure, print, and fail where the sides did not do the same work."""
    args = _arguments()
    with tempfile.TemporaryDirectory() as name:
        record = measure(args, Path(name))
    print(f"\n{table(record)}\n\nlargest difference of a step's loss: {record['largest_loss_gap']:.1e}")
    if args.out is not None:
        args.out.write_text(json.dumps(record, indent=1) + "\n")
    return 0 if record["largest_loss_gap"] <= LOSS_GOAL else 1


if __name__ == "__main__":
    sys.exit(main())
