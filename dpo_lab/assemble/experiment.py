"""Everything of one run, built from its config in the order in which one thing needs another."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.instantiate import bind, build_objective, instantiate
from dpo_lab.assemble.start import train_start
from dpo_lab.assemble.suitability import (
    check_head,
    check_length,
    check_lengths,
    check_reference,
    check_responses,
    kind_of_policy,
)
from dpo_lab.assemble.tokens import corpus, tokens_of
from dpo_lab.data.check_view import check_left, check_view
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.data.token_cache import CachedTokens
from dpo_lab.data.view import View, view_of
from dpo_lab.data.windows import WindowLoader
from dpo_lab.logger.logger import Logger
from dpo_lab.model.policy import Policy
from dpo_lab.module import OptimizerFactory
from dpo_lab.needs import Objective
from dpo_lab.reference.reference import Reference
from dpo_lab.sampling import SampleSettings
from dpo_lab.seeds import derive_seeds
from dpo_lab.trainer import TrainerSettings

NOISE = ("dropout", "lora_dropout", "token_dropout", "item_dropout")
"""Knobs of models that hide something at random while training."""


@dataclass(frozen=True)
class Experiment:
    """Objects of one run. `contents` are hashes of all that the config only points at."""

    policy: Policy
    reference: Reference | None
    objective: Objective
    source: DataSource
    report: DataReport
    train: WindowLoader
    validation: WindowLoader | None
    test: WindowLoader | None
    make_optimizer: OptimizerFactory
    trainer: TrainerSettings
    logger: Logger
    samples: SampleSettings
    seeds: dict[str, int]
    num_steps: int
    warmup_steps: int
    contents: dict[str, str]
    dropout: float
    start_found: bool | None
    tokens_found: bool
    reference_is_policy: bool
    """Whether before the first update the reference gives exactly what the policy gives."""

    @property
    def held_out(self) -> list[WindowLoader]:
        """What is scored and never trained on."""
        return [loader for loader in (self.validation, self.test) if loader is not None]


def assemble(config: Mapping[str, Any], say: Callable[[str], None] = print, *, rank: int = 0) -> Experiment:
    """Build a run from its resolved, checked config: data, model, its start, tokens, reference, the rest.

    Args:
        say: gets a line about each thing that takes time or was dropped.
        rank: of `trainer.num_devices` processes, the one whose share of each step is to be computed.

    Raises:
        UserError: for whatever the user can mend, before training begins.
    """
    packages = ("dpo_lab", *config["plugins"])
    build = partial(_build, config, packages)
    seeds = derive_seeds(config["seed"], config["seeds"])
    objective = build_objective(config["loss"], packages)
    check_reference(config, packages, objective)
    check_responses(config, packages, objective)
    settings: TrainerSettings = build("trainer")
    logger: Logger = build("logger")
    logger.check()
    source = build_source(config)
    view = view_of(objective.needs, objective.best_alone, source.max_length)
    source.report.left_out += check_view(
        view,
        source.train,
        source.validation,
        source.test,
        who_needs=objective.who_needs,
        columns_not_read=source.report.columns_not_read,
    )
    start = build("start")
    init_seed = seeds["init"] if start is None else start.seed
    policy: Policy = build(
        "model", corpus=corpus(source), classes=source.classes, seed=init_seed, adapter_seed=seeds["init"]
    )
    check_length(source, policy)
    cache_dir = Path(config["cache_dir"]).expanduser()
    tokens = tokens_of(policy, source, cache_dir)
    check_left(len(tokens.datasets["train"].items(view)), source.report.merge(tokens.report))
    check_lengths(kind_of_policy(config, packages), objective, tokens.datasets["train"])
    start_found = None
    if start is not None:
        with policy.below_adapter():  # an adapter begins where the supervised stage ends
            start_found = train_start(policy, source, start, cache_dir)
    check_head(policy)
    report = source.report.merge(tokens.report)
    for line in report.lines():
        say(line)
    if policy.reached_by_images and not any(encoded.images for encoded in tokens.datasets["train"].encoded):
        say("no training row shows an image, so that only what reads is trained, and what sees stays as it is")
    reference: Reference | None = None
    if objective.needs_reference:
        reference = build("reference", policy=policy, cache_dir=cache_dir, precision=settings.precision)
    else:
        say("reference: none, since the loss asks for none")
    train, validation, test = _loaders(tokens, view, policy, source, settings, seeds["order"], rank)
    num_steps = settings.num_steps(train.num_windows)
    warmup_steps = config["optimizer"].get("warmup_steps", 0)
    for line in _odd_sizes(settings, warmup_steps, num_steps, len(train.items)):
        say(line)
    contents = _contents(source, policy, reference)
    return Experiment(
        policy=policy,
        reference=reference,
        objective=objective,
        source=source,
        report=report,
        train=train,
        validation=validation,
        test=test,
        make_optimizer=_bind_optimizer(config, packages, num_steps),
        trainer=settings,
        logger=logger,
        samples=SampleSettings(**config["samples"]),
        seeds=seeds,
        num_steps=num_steps,
        warmup_steps=warmup_steps,
        contents=contents,
        dropout=max(float(config["model"].get(rate) or 0.0) for rate in NOISE),
        start_found=start_found,
        tokens_found=tokens.hit,
        reference_is_policy=_reference_is_policy(policy, contents),
    )


def _odd_sizes(settings: TrainerSettings, warmup_steps: int, num_steps: int, num_items: int) -> Iterator[str]:
    if warmup_steps >= num_steps:
        yield f"optimizer.warmup_steps={warmup_steps} is not over before the last of {num_steps} steps"
    if settings.global_batch_size > num_items:
        yield (
            f"trainer.global_batch_size={settings.global_batch_size} is more than the {num_items} items that there "
            "are: each step takes them all"
        )


def _loaders(
    tokens: CachedTokens,
    view: View,
    policy: Policy,
    source: DataSource,
    settings: TrainerSettings,
    seed: int,
    rank: int,
) -> tuple[WindowLoader, WindowLoader | None, WindowLoader | None]:
    """Windows to train on, of each the share of `rank`; and to validate and test on, where that data has any item."""
    make_loader = partial(
        WindowLoader,
        view=view,
        collate=policy.collate,
        seed=seed,
        global_batch_size=settings.global_batch_size,
        micro_batch_size=settings.micro_batch_size,
        micro_batch_tokens=settings.micro_batch_tokens,
    )
    held_out = [tokens.datasets.get(name) for name in ("validation", "test")]
    validation, test = (
        make_loader(dataset, shuffle=False, is_continued=False) if dataset and dataset.items(view) else None
        for dataset in held_out
    )
    train = make_loader(
        tokens.datasets["train"],
        shuffle=source.shuffle,
        global_batch_tokens=settings.global_batch_tokens,
        initial_batch_size=settings.initial_batch_size,
        batch_warmup_steps=settings.batch_warmup_steps,
        rank=rank,
        num_ranks=settings.num_devices,
    )
    return train, validation, test


def _contents(source: DataSource, policy: Policy, reference: Reference | None) -> dict[str, str]:
    contents = {
        "data": source.fingerprint,
        "tokenizer": policy.encoding_fingerprint(),
        "initial_weights": policy.fingerprint(),
    }
    if reference is not None:
        contents["reference"] = reference.fingerprint()
    return contents


def _reference_is_policy(policy: Policy, contents: dict[str, str]) -> bool:
    """By the hashes of their weights; a fresh adapter has weights of its own and changes no number."""
    reference, adapter = contents.get("reference"), policy.adapter
    if reference == contents["initial_weights"]:
        return True
    return adapter is not None and adapter.is_zero() and reference == adapter.base_fingerprint()


def _build(config: Mapping[str, Any], packages: tuple[str, ...], group: str, **given: Any) -> Any:
    return instantiate(config[group], packages, **given)


def _bind_optimizer(config: Mapping[str, Any], packages: tuple[str, ...], num_steps: int) -> OptimizerFactory:
    return partial(bind(config["optimizer"], packages), num_steps=num_steps)
