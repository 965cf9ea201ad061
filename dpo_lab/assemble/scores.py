"""What a policy and its reference say of data, response by response, without training."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, final

import pytorch_lightning as pl
from torch import Tensor

from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.experiment import Experiment, assemble
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.preparing import of_every_row
from dpo_lab.assemble.reference_rows import rows_of_loaders
from dpo_lab.assemble.suitability import check_length
from dpo_lab.assemble.tokens import tokens_of
from dpo_lab.config.signature import locate
from dpo_lab.data.check_view import check_view
from dpo_lab.data.windows import WindowLoader
from dpo_lab.metrics import Tally, curves
from dpo_lab.module import PreferenceModule
from dpo_lab.recorder import prediction_columns
from dpo_lab.reference.cached import CachedReference

OF_DATA = frozenset({"corpus", "classes"})
"""What a model may be built from besides its config; such a model needs the data of its run."""

Say = Callable[[str], None]


@dataclass(frozen=True)
class Scores:
    """Of one part of the data: `columns` as of predictions.parquet, and `curves` (``loss``, ``rewards/...``)."""

    columns: dict[str, list[Any]]
    curves: dict[str, float]
    num_items: int


def assemble_scores(config: Mapping[str, Any], data: Mapping[str, Any] | None, say: Say) -> Experiment:
    """The policy and the reference as the run of `config` begins, and `data` to be scored; None is the run's own.

    The run's own data is read only where the policy depends on it: its tokenizer, its classes, a supervised start.

    Raises:
        UserError: for whatever the user can mend.
    """
    if data is None:
        return assemble(config, say)
    builder = locate(config["model"]["_target_"], ("dpo_lab", *config["plugins"]))
    is_of_data = bool(OF_DATA & inspect.signature(builder).parameters.keys())
    start = config.get("start") or {}
    if not is_of_data and start.get("_target_", "dpo_lab.start.none") == "dpo_lab.start.none":
        return assemble(of_every_row({**config, "data": data}), say)
    return _with_data(assemble(config, lambda line: None), config, data, say)


def _with_data(experiment: Experiment, config: Mapping[str, Any], data: Mapping[str, Any], say: Say) -> Experiment:
    source = build_source(of_every_row({**config, "data": data}))
    view = replace(experiment.train.view, max_length=source.max_length)
    source.report.left_out += check_view(
        view, source.train, source.validation, source.test, columns_not_read=source.report.columns_not_read
    )
    check_length(source, experiment.policy)
    tokens = tokens_of(experiment.policy, source, Path(config["cache_dir"]).expanduser())
    report = source.report.merge(tokens.report)
    for line in report.lines():
        say(line)
    loaders = {
        name: _loader(tokens.datasets[name], experiment.train, view=view)
        for name in source.sets
        if tokens.datasets[name].items(view)
    }
    return replace(
        experiment,
        source=source,
        report=report,
        train=loaders["train"],
        validation=loaders.get("validation"),
        test=loaders.get("test"),
        contents={**experiment.contents, "data": source.fingerprint},
    )


def parts_to_score(experiment: Experiment) -> dict[str, WindowLoader]:
    """The data of `experiment` by split, in the order of its rows, in the windows in which it would be validated."""
    loaders = {"train": experiment.train, "val": experiment.validation, "test": experiment.test}
    return {name: _loader(one.dataset, one, view=one.view) for name, one in loaders.items() if one is not None}


def score(
    experiment: Experiment,
    module: PreferenceModule,
    parts: Mapping[str, WindowLoader],
    step: int,
    say: Say,
    restore: Callable[[pl.Trainer], None] = lambda trainer: None,
) -> dict[str, Scores]:
    """Score each of `parts` with the weights that `module` holds once `restore` was called.

    Args:
        step: how many updates these weights have seen, for the record.
        restore: puts trained weights into `module`; the reference is made ready before, beside the initial ones.

    Raises:
        CacheMismatchError, MissingRowsError: as in training.
    """
    settings = experiment.trainer
    gathered = _Gathered()
    found = {}
    with computing(settings.num_threads):
        trainer = make_trainer(settings, num_steps=1, callbacks=[gathered], validate_every=None)
        prepare_reference(experiment, trainer, list(parts.values()), say)
        restore(trainer)
        for split, loader in parts.items():
            trainer.validate(module, loader, verbose=False)
            columns = prediction_columns(step, gathered.rows, split=split)
            values = curves(experiment.objective.at(max(0, step - 1)), gathered.tally, prefix="score")
            named = {name.removeprefix("score/"): value for name, value in values.items()}
            found[split] = Scores(columns, named, gathered.num_items)
    return found


def prepare_reference(experiment: Experiment, trainer: pl.Trainer, loaders: Sequence[WindowLoader], say: Say) -> None:
    """Compute what a cached reference will be asked of `loaders`, beside the weights that the policy begins with."""
    reference = experiment.reference
    if not isinstance(reference, CachedReference) or "sequential_kl" in experiment.objective.needs:
        return
    reference.to(trainer.strategy.root_device)
    with trainer.precision_plugin.val_step_context():
        use = reference.prepare(rows_of_loaders(loaders), seed=experiment.seeds["sampling"], say=say)
    say(use.line())


def _loader(dataset: Any, like: WindowLoader, *, view: Any) -> WindowLoader:
    """Over `dataset` in order, in windows and micro-batches as large as those of `like`."""
    return WindowLoader(
        dataset,
        view,
        like.collate,
        seed=0,
        shuffle=False,
        global_batch_size=like.global_batch_size,
        micro_batch_size=like.micro_batch_size,
        micro_batch_tokens=like.micro_batch_tokens,
        is_continued=False,
    )


@final
class _Gathered(pl.Callback):
    """What the last validation found."""

    def __init__(self) -> None:
        self.tally, self.num_items = Tally(), 0
        self.rows: list[dict[str, Tensor]] = []

    def on_validation_start(self, trainer: pl.Trainer, pl_module: Any) -> None:
        self.tally, self.rows, self.num_items = Tally(), [], 0

    def on_validation_batch_end(
        self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int, dataloader_idx: int = 0
    ) -> None:
        self.tally.merge(pl_module.last_tally)
        self.rows.extend(outputs)
        self.num_items += sum(micro_batch.num_items for micro_batch in batch)
