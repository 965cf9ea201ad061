"""Small things that tests of training share: a policy of a few thousand weights, data, windows, whole runs."""

from functools import partial
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.commands import cli
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.report import DataReport
from dpo_lab.data.reviews import reviews
from dpo_lab.data.view import View
from dpo_lab.data.windows import WindowLoader
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.tiny import tiny
from dpo_lab.module import OptimizerFactory, PreferenceModule
from dpo_lab.needs import Objective
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.reference.reference import Reference
from dpo_lab.run import Run, read_run
from dpo_lab.trainer import TrainerSettings

SMALL = (
    "model.hidden_size=16",
    "model.num_layers=1",
    "model.num_heads=2",
    "model.vocab_size=300",
    "data.num_pairs=40",
    "data.num_validation_pairs=12",
    "data.num_demonstrations=40",
    "start.max_steps=3",
    "start.global_batch_size=8",
    "trainer.global_batch_size=8",
    "samples.num=4",
    "samples.max_new_tokens=8",
    "logger=local",
)
"""Overrides that make the default run one of seconds."""

PAIRS = View(frozenset({"pairs", "chosen"}))


def small_policy(seed: int = 0, dropout: float = 0.0, **knobs: Any) -> CausalLM:
    source = reviews(num_pairs=20, num_validation_pairs=1, num_demonstrations=1)
    texts = [text for example in source.train for text in (example.prompt, *example.responses)]
    return tiny(
        [text for text in texts if isinstance(text, str)],
        seed,
        hidden_size=16,
        num_layers=1,
        num_heads=2,
        vocab_size=300,
        dropout=dropout,
        **knobs,
    )


def small_dataset(policy: CausalLM, num_pairs: int = 8) -> EncodedDataset:
    source = reviews(num_pairs=num_pairs, num_validation_pairs=1, num_demonstrations=1)
    return encode_source(source.train, policy.encode, 128, "error", DataReport(), policy.end_id)


def small_loader(
    policy: CausalLM,
    num_pairs: int = 8,
    *,
    view: View = PAIRS,
    global_batch_size: int = 8,
    micro_batch_size: Any = None,
) -> WindowLoader:
    return WindowLoader(
        small_dataset(policy, num_pairs),
        view,
        policy.collate,
        seed=0,
        shuffle=False,
        global_batch_size=global_batch_size,
        micro_batch_size=micro_batch_size,
    )


def train_module(
    policy: CausalLM,
    reference: Reference | None,
    objective: Objective,
    loader: WindowLoader,
    *,
    num_steps: int = 1,
    lr: float = 1e-3,
    clip_norm: float | None = None,
    callbacks: list[pl.Callback] | None = None,
    make_optimizer: OptimizerFactory | None = None,
    checkpoint: Path | None = None,
    **settings: Any,
) -> PreferenceModule:
    """Train until step `num_steps`, from `checkpoint` on where one is given, and return the module."""
    make_optimizer = make_optimizer or partial(adamw, num_steps=num_steps, lr=lr)
    module = PreferenceModule(policy, reference, objective, make_optimizer, clip_norm=clip_norm)
    with computing(1):
        trainer = make_trainer(
            TrainerSettings(zero_gradient_ok=[], **settings),
            num_steps=num_steps,
            callbacks=callbacks or [],
            validate_every=None,
        )
        trainer.fit(module, loader, ckpt_path=checkpoint)
    return module


def run_train(*overrides: str) -> Run:
    """The run that ``dpo-lab train`` makes of `overrides` in the present folder, through the command itself."""
    before = set(Path("runs").glob("*/*/run.json"))
    assert cli.main(["train", *overrides]) == 0
    (made,) = set(Path("runs").glob("*/*/run.json")) - before
    return read_run(made.parent)


def weights_of(run: Run) -> dict[str, torch.Tensor]:
    """The exported weights of a run."""
    from safetensors.torch import load_file

    return load_file(str(run.path / "model" / "model.safetensors"))
