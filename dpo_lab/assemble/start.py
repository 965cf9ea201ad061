"""The stage that a policy may start from, supervised or on texts alone: built once, found again by its content."""

import fcntl
import hashlib
import os
import shutil
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch

from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.masked_tokens import (
    decisive_versions,
    masked_tokens_key,
    noise_of,
    train_masked_tokens,
    training_texts,
)
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.errors import DataError
from dpo_lab.data.source import DataSource
from dpo_lab.data.view import View
from dpo_lab.data.windows import WindowLoader
from dpo_lab.loss.sft import sft
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Policy
from dpo_lab.module import PreferenceModule
from dpo_lab.needs import Objective, Term
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.progress import ProgressReport
from dpo_lab.run.identity import canonical_json
from dpo_lab.start import MaskedTokensStart, Start, SupervisedStart
from dpo_lab.trainer import TrainerSettings

FORMAT = 2  # raise whenever this file trains other weights from the same inputs
CLIP_NORM = 1.0


def train_start(policy: Policy, source: DataSource, settings: Start, cache_dir: Path) -> bool:
    """Give `policy` the weights of its start, trained now or found in `cache_dir`.

    Of several processes one trains and the others wait for it. Returns whether the weights were found.

    Raises:
        DataError: when the data has no demonstrations for a supervised stage.
        UserError: when the policy cannot guess masked tokens.
    """
    if isinstance(settings, MaskedTokensStart):
        texts = training_texts(policy, source)
        return _train_once(
            policy,
            cache_dir / "starts" / masked_tokens_key(policy, texts, settings),
            lambda: train_masked_tokens(policy, texts, settings),
        )
    if not source.demonstrations:
        raise DataError("start=supervised: the data has no demonstrations to imitate; use start=none.")
    folder = cache_dir / "starts" / start_key(policy, source, settings)
    found = _train_once(policy, folder, lambda: _train(policy, source, settings))
    if isinstance(policy, EncoderPolicy):
        policy.has_fresh_head = False
    return found


def _train_once(policy: Policy, folder: Path, train: Callable[[], None]) -> bool:
    """The weights in `folder`, which is made by `train` and an export where it is not there yet."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / f".{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = folder.is_dir()
        if not found:
            train()
            partial_folder = folder.with_name(f".{folder.name}.{os.getpid()}.partial")
            policy.export(partial_folder)
            partial_folder.replace(folder)
            for leftover in folder.parent.glob(f".{folder.name}.*.partial"):
                shutil.rmtree(leftover)
    policy.load_weights(folder)
    return found


def start_key(policy: Policy, source: DataSource, settings: SupervisedStart) -> str:
    """Hash of all that the weights of the supervised stage depend on."""
    content = {
        "format": FORMAT,
        "settings": vars(settings),
        "initial_weights": policy.fingerprint(),
        "noise": noise_of(policy),
        "encoding": policy.encoding_fingerprint(),
        "data": source.fingerprint,
        "max_length": source.max_length,
        "on_overflow": source.on_overflow,
        "versions": decisive_versions(),
    }
    return hashlib.sha256(canonical_json(content).encode()).hexdigest()[:16]


def _train(policy: Policy, source: DataSource, settings: SupervisedStart) -> None:
    dataset = encode_source(
        source.demonstrations,
        policy.encode,
        source.max_length,
        source.on_overflow,
        source.report,
        policy.end_id,
        has_overflow_knob=source.has_overflow_knob,
    )
    loader = WindowLoader(
        dataset,
        View(frozenset({"chosen"})),
        policy.collate,
        seed=settings.seed,
        shuffle=True,
        global_batch_size=settings.global_batch_size,
    )
    make_optimizer = partial(
        adamw,
        num_steps=settings.max_steps,
        lr=settings.lr,
        schedule="cosine",
        warmup_steps=settings.warmup_steps,
    )
    module = PreferenceModule(policy, None, Objective((Term("sft", sft),)), make_optimizer, clip_norm=CLIP_NORM)
    print(f"supervised stage: {settings.max_steps} steps on {len(dataset)} demonstrations", file=sys.stderr)
    with computing(settings.num_threads), torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(settings.seed)  # dropout
        trainer = make_trainer(
            TrainerSettings(max_steps=settings.max_steps, max_epochs=None, zero_gradient_ok=[]),
            num_steps=settings.max_steps,
            callbacks=[ProgressReport(settings.max_steps, title="supervised", items="responses")],
            validate_every=None,
        )
        trainer.fit(module, loader)
