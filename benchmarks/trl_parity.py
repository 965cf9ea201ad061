"""Trains the same weights on the same pairs with dpo_lab and with TRL, and prints how far apart they end.

    python benchmarks/trl_parity.py --data PAIRS.jsonl.gz --model FOLDER [--venv DIR] [--steps 20]

TRL is no dependency of dpo_lab: it is installed into a virtual environment of its own, made on the first call.
What the numbers mean: docs/parity.md. Exit code 0: every gap is within its goal. 1: one is not.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from safetensors.torch import load_file
from torch import Tensor
from trl_parity_gaps import LOSS_GOAL, NORM_GOAL, Gaps, Side, compare

from dpo_lab.assemble import Experiment, assemble
from dpo_lab.assemble.fit import fit
from dpo_lab.config import check
from dpo_lab.paths import CONF_DIR
from dpo_lab.run import RunFolder, read_run, run_id

REPOSITORY = Path(__file__).resolve().parent.parent
TRL_SIDE = Path(__file__).with_name("trl_parity_side.py")

# torch is installed by itself and first, so that a CPU build is taken where the index offers one.
TORCH = "torch==2.13.0"
TRL = ("trl==1.16.0", "transformers==5.23.0", "accelerate==1.15.0", "datasets==5.2.0")

COMMON = (
    "model=causal_lm",
    "data=files",
    "data.on_problem=drop",
    "data.on_overflow=drop",
    "data.validation_fraction=0",
    "data.shuffle=false",
    "reference=frozen",
    "optimizer=adamw",
    "optimizer.schedule=constant",
    "optimizer.warmup_steps=0",
    "trainer=cpu",
    "trainer.max_epochs=null",
    "trainer.save=none",
    "trainer.num_threads=1",
    "logger=local",
    "samples.num=0",
)


@dataclass(frozen=True)
class Setting:
    """One training recipe in both languages: overrides of ``dpo-lab train``, and arguments of TRL's DPOConfig."""

    name: str
    batch_size: int
    overrides: tuple[str, ...]
    trl: Mapping[str, Any]


SETTINGS = (
    Setting(
        "sigmoid, batch 8",
        8,
        ("loss=sigmoid", "trainer.clip_norm=null"),
        # 0 is what switches TRL's clipping off; None is an error in transformers' loop.
        {"loss_type": ["sigmoid"], "per_device_train_batch_size": 8, "max_grad_norm": 0.0},
    ),
    Setting(
        "sigmoid, 2 x 2, clip, decay",
        4,
        ("loss=sigmoid", "trainer.micro_batch_size=2", "trainer.clip_norm=1.0", "optimizer.weight_decay=0.01"),
        {
            "loss_type": ["sigmoid"],
            "per_device_train_batch_size": 2,
            "gradient_accumulation_steps": 2,
            "max_grad_norm": 1.0,
            "weight_decay": 0.01,
        },
    ),
    Setting(
        "ipo, per token, batch 8",
        8,
        ("loss=ipo", "loss.normalization=mean", "trainer.clip_norm=null"),
        {"loss_type": ["ipo"], "per_device_train_batch_size": 8, "max_grad_norm": 0.0},
    ),
)


class Ours(NamedTuple):
    """dpo_lab's side, and what TRL has to start from: token ids (prompt, chosen, rejected) of each pair, in order."""

    side: Side
    initial: dict[str, Tensor]
    pairs: list[tuple[Sequence[int], Sequence[int], Sequence[int]]]


def run_dpo_lab(setting: Setting, args: argparse.Namespace, folder: Path) -> Ours:
    """Train with the assembled objects of ``dpo-lab train``; the losses are those of metrics.jsonl.

    Raises:
        SystemExit: the data has too few pairs.
    """
    config = _compose(setting, args, folder)
    experiment = assemble(config, _say)
    pairs = _pairs(experiment, args.steps * setting.batch_size)
    initial = _weights(experiment)
    run = RunFolder.claim(config["runs_dir"], config["name"], run_id(config, experiment.contents))
    started = time.process_time()
    with run, experiment.logger.mirroring(run, config, run.info):
        fit(experiment, run, _say)
    seconds = time.process_time() - started
    rows = [row for row in read_run(run.path).metrics if "train/loss" in row]
    losses, norms = ([row[f"train/{name}"] for row in rows] for name in ("loss", "grad_norm"))
    return Ours(Side(losses, norms, _weights(experiment), seconds), initial, pairs)


def _compose(setting: Setting, args: argparse.Namespace, folder: Path) -> dict[str, Any]:
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        config = compose("train", [*COMMON, *setting.overrides])
    config.data.path, config.data.max_length = str(args.data), args.max_length
    config.model.path, config.optimizer.lr, config.loss.beta = str(args.model), args.lr, args.beta
    config.trainer.max_steps, config.trainer.global_batch_size = args.steps, setting.batch_size
    config.runs_dir, config.cache_dir = str(folder / "runs"), str(folder / "cache")
    check(config)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


def _pairs(experiment: Experiment, num_pairs: int) -> list[tuple[Sequence[int], Sequence[int], Sequence[int]]]:
    loader = experiment.train
    if len(loader.items) < num_pairs:
        raise SystemExit(f"the data has {len(loader.items)} pairs that fit, and {num_pairs} are needed")
    items = [(loader.dataset.encoded[item.example], item) for item in loader.items[:num_pairs]]
    sides = [(text, *item.responses) for text, item in items]
    return [(text.prompt, text.responses[chosen], text.responses[rejected]) for text, chosen, rejected in sides]


def _weights(experiment: Experiment) -> dict[str, Tensor]:
    """By the names that transformers gives them."""
    named = experiment.policy.named_parameters()
    return {name.removeprefix("model."): tensor.detach().clone() for name, tensor in named}


def run_trl(ours: Sequence[Ours], args: argparse.Namespace, python: Path, folder: Path, **changed: Any) -> list[Side]:
    """Have TRL train each setting on the ids that dpo_lab trained on, in another process, with arguments `changed`."""
    work = Path(tempfile.mkdtemp(dir=folder))  # of its own: weights that were read are still mapped to their file
    recipes = [
        {"trl": {**setting.trl, **changed}, "pairs": mine.pairs} for setting, mine in zip(SETTINGS, ours, strict=True)
    ]
    job = {"model": str(args.model), "steps": args.steps, "lr": args.lr, "beta": args.beta, "recipes": recipes}
    (work / "job.json").write_text(json.dumps(job))
    subprocess.run([python, TRL_SIDE, work], check=True, stdout=sys.stderr)
    results = json.loads((work / "results.json").read_text())
    versions = {package: version(package) for package in ("torch", "transformers")}
    _say(f"dpo_lab on {versions}; TRL on {results['versions']}")
    return [
        Side(**side, weights=load_file(work / f"{index}.safetensors")) for index, side in enumerate(results["sides"])
    ]


def trl_python(venv: Path) -> Path:
    """The interpreter of a virtual environment that holds TRL, made where there is none yet."""
    python, done = venv / "bin" / "python", venv / ".trl-parity"
    requirements = "\n".join((TORCH, *TRL))
    if not done.is_file() or done.read_text() != requirements:
        _say(f"installing {TRL[0]} into {venv}")
        subprocess.run([sys.executable, "-m", "venv", venv], check=True)
        for packages in ((TORCH,), (TORCH, *TRL)):
            subprocess.run([python, "-m", "pip", "install", "--quiet", *packages], check=True, stdout=sys.stderr)
        done.write_text(requirements)
    return python


HEADER = f"""\
{"":36}{"loss":>9}{"norm":>9}{"norm of":>9}{"gradient":>9}{"weights":>9}{"CPU seconds":>16}
{"":36}{"":9}{"of all":>9}{"a tensor":>9}{"norm":>9}{"":9}{"dpo_lab":>9}{"TRL":>7}   loss
{"goal":36}{LOSS_GOAL:9.1e}{NORM_GOAL:9.1e}{NORM_GOAL:9.1e}"""


def columns(name: str, gaps: Gaps) -> str:
    """Begin a line of the table."""
    return f"{name:36}" + "".join(f"{gap:9.1e}" for gap in gaps)


def rest(ours: Side, theirs: Side, gaps: Gaps) -> str:
    """End it: what both sides cost, how the loss went, the verdict."""
    verdict = "ok" if gaps.are_within_goals else "OVER THE GOAL"
    losses = f"{ours.losses[0]:.4f} -> {ours.losses[-1]:.4f}"
    return f"{ours.cpu_seconds:9.1f}{theirs.cpu_seconds:7.1f}   {losses}   {verdict}"


def _say(line: str) -> None:
    print(line, file=sys.stderr)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True, help="pairs, in any form that data=files reads")
    parser.add_argument("--model", type=Path, required=True, help="folder of a causal language model")
    parser.add_argument(
        "--venv", type=Path, default=REPOSITORY / ".venv-trl", help="where TRL is, or will be, installed"
    )
    parser.add_argument("--steps", type=int, default=20, help="optimizer steps")
    parser.add_argument("--lr", type=float, default=5e-4)
    parser.add_argument("--beta", type=float, default=0.1)
    parser.add_argument("--max-length", type=int, default=512, help="tokens; longer pairs are left out")
    parser.add_argument("--floor", action="store_true", help="also how far TRL is from itself with other padding")
    args = parser.parse_args()
    for path in (args.data, args.model):
        if not path.exists():
            parser.error(f"no such file or folder: {path}")
    return args


def main() -> int:
    """Run both sides and compare."""
    args = _arguments()
    python = trl_python(args.venv.absolute())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        ours = [run_dpo_lab(setting, args, folder) for setting in SETTINGS]
        theirs = run_trl(ours, args, python, folder)
        # Longer padding changes no formula, only the order in which float32 sums are taken.
        again = run_trl(ours, args, python, folder, pad_to_multiple_of=64) if args.floor else []
    gaps = [compare(mine.side, other, mine.initial) for mine, other in zip(ours, theirs, strict=True)]
    print(HEADER)
    for setting, mine, other, gap in zip(SETTINGS, ours, theirs, gaps, strict=True):
        print(columns(setting.name, gap) + rest(mine.side, other, gap))
    for setting, mine, other, padded in zip(SETTINGS, ours, theirs, again, strict=False):
        print(columns(f"floor: {setting.name}", compare(padded, other, mine.initial)))
    return 0 if all(gap.are_within_goals for gap in gaps) else 1


if __name__ == "__main__":
    sys.exit(main())
