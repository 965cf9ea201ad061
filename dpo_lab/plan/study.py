"""The trials of a search: asked of Optuna, told to it, and kept in the folders of their jobs, which are the record.

Optuna's study is built anew from those folders whenever a search begins or goes on. Each trial is drawn by a sampler of
its own seed, from what was known when its batch was asked for: so a search that is killed goes on as it would have.
"""

import csv
import hashlib
import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, final

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState, create_trial

from dpo_lab.plan.search_shape import Prune, Search
from dpo_lab.plan.shape import LOSS
from dpo_lab.run.files import write_json, write_text
from dpo_lab.sweep.record import SweepFolder

optuna.logging.set_verbosity(optuna.logging.WARNING)

Ending = Literal["complete", "pruned", "failed"]
STATES = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED, "failed": TrialState.FAIL}
REDUCTION = 3
"""Of "halving": one trial in so many goes on."""


@dataclass(frozen=True, kw_only=True)
class TrialRecord:
    """``jobs/NUMBER/trial.json``. `params` by Optuna's names; `ending` None as long as the trial has not ended;
    `values` in the order of the objectives; `steps` what validation said on the way; `notes` Optuna's own.
    """

    number: int
    params: dict[str, Any]
    ending: Ending | None = None
    values: list[float] | None = None
    steps: dict[int, float] = field(default_factory=dict)
    notes: dict[str, Any] = field(default_factory=dict)


@final
class TrialStudy:
    """The trials of one search, in `folder`."""

    def __init__(self, search: Search, folder: SweepFolder) -> None:
        self._search = search
        self._folder = folder
        self._distributions = _distributions(search)
        self._records: dict[int, TrialRecord] = {}
        self._open: dict[int, optuna.Trial] = {}
        self._study = _new_study(search, folder)
        for record in self._kept():
            self._take_up(record)

    @property
    def records(self) -> list[TrialRecord]:
        return [self._records[number] for number in sorted(self._records)]

    def next_batch(self, size: int) -> list[TrialRecord]:
        """Trials to run: those open, with what has ended in between, else up to `size` new ones; none at the end."""
        if not self._open:
            for _ in range(min(size, self._search.num_trials - len(self._records))):
                self._ask()
        if not self._open:
            return []
        return [self._records[number] for number in range(min(self._open), max(self._open) + 1)]

    def report(self, number: int, steps: Mapping[int, float]) -> str | None:
        """Tell what validation has said of an open trial; why it is to be ended, if it is."""
        trial = self._open.get(number)
        if trial is None or len(self._search.objective) > 1:
            return None
        known = self._study.trials[number].intermediate_values
        for step, value in sorted(steps.items()):
            if step in known or not math.isfinite(value):
                continue
            trial.report(value, step)
            if self._search.prune is not None and step >= self._search.prune.warmup_step and trial.should_prune():
                return f"{next(iter(self._search.objective))} {value:.6g} at step {step}: {self._search.prune.rule}"
        return None

    def tell(self, number: int, ending: Ending, values: Sequence[float] | None, *, is_final: bool = True) -> None:
        """End an open trial. Where the end is not final, the next start of the search tries it again."""
        if self._open.pop(number, None) is None:
            return
        self._study.tell(number, list(values) if values is not None else None, state=STATES[ending])
        told = self._study.trials[number]
        record = replace(
            self._records[number],
            ending=ending,
            values=None if values is None else list(values),
            steps=dict(told.intermediate_values),
            notes=dict(told.system_attrs),
        )
        self._records[number] = record
        self._keep(record if is_final else replace(record, ending=None, values=None))

    def best(self) -> list[TrialRecord]:
        """The best trial, or with several objectives those that no other beats in all of them, by their first value."""
        complete = [record for record in self.records if record.ending == "complete"]
        if not complete:
            return []
        if len(self._search.objective) == 1:
            return [self._records[self._study.best_trial.number]]
        front = [self._records[trial.number] for trial in self._study.best_trials]
        return sorted(front, key=lambda record: record.values or [])

    def write_table(self) -> Path:
        """``trials.csv``: a row a trial."""
        names = list(dict.fromkeys(name for record in self.records for name in record.params))
        best = {record.number for record in self.best()}
        text = io.StringIO()
        rows = csv.writer(text, lineterminator="\n")
        rows.writerow(["trial", "ending", "best", *self._search.objective, *names])
        for record in self.records:
            values = record.values or [""] * len(self._search.objective)
            params = [record.params.get(name, "") for name in names]
            rows.writerow([record.number, record.ending or "", int(record.number in best), *values, *params])
        path = self._folder.path / "trials.csv"
        write_text(path, text.getvalue())
        return path

    def _ask(self) -> None:
        number = len(self._records)
        self._study.sampler = _sampler(self._search, number)
        trial = self._study.ask()
        record = TrialRecord(number=trial.number, params=_suggest(trial, self._search, self._distributions))
        self._keep(record)
        self._records[record.number], self._open[record.number] = record, trial

    def _take_up(self, record: TrialRecord) -> None:
        """Into the study what an earlier start has left: trials that ended as they were, others as they were asked."""
        self._records[record.number] = record
        if record.ending is None:
            self._study.enqueue_trial(record.params)
            trial = self._study.ask()
            _suggest(trial, self._search, self._distributions)
            self._open[record.number] = trial
            return
        self._study.add_trial(
            create_trial(
                state=STATES[record.ending],
                values=record.values,
                params=record.params,
                distributions={name: self._distributions[name] for name in record.params},
                intermediate_values=record.steps,
                system_attrs=record.notes,
            )
        )

    def _kept(self) -> Iterator[TrialRecord]:
        number = 0
        while (file := self._file(number)).exists():
            kept = json.loads(file.read_text())
            yield TrialRecord(**{**kept, "steps": {int(step): value for step, value in kept["steps"].items()}})
            number += 1

    def _keep(self, record: TrialRecord) -> None:
        file = self._file(record.number)
        file.parent.mkdir(parents=True, exist_ok=True)
        write_json(file, asdict(record))

    def _file(self, number: int) -> Path:
        return self._folder.job(number).path / "trial.json"


def _new_study(search: Search, folder: SweepFolder) -> optuna.Study:
    """Empty; mirrored into a file that tools for Optuna can read."""
    path = folder.path / "study.journal"
    folder.path.mkdir(parents=True, exist_ok=True)
    for file in (path, path.with_name(f"{path.name}.lock")):
        file.unlink(missing_ok=True)  # the record is elsewhere; of a lock that a killed search has left nothing is lost
    return optuna.create_study(
        storage=JournalStorage(JournalFileBackend(str(path))),
        study_name=folder.path.name,
        directions=list(search.objective.values()),
        pruner=_pruner(search.prune),
        sampler=_sampler(search, 0),
    )


def _sampler(search: Search, number: int) -> optuna.samplers.BaseSampler:
    digest = hashlib.blake2b(f"{search.seed} {number}".encode(), digest_size=4).digest()
    seed = int.from_bytes(digest, "big")
    if search.sampler == "random":
        return optuna.samplers.RandomSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, n_startup_trials=search.warmup_trials, constant_liar=True)


def _pruner(prune: Prune | None) -> optuna.pruners.BasePruner:
    if prune is None:
        return optuna.pruners.NopPruner()
    if prune.rule == "median":
        return optuna.pruners.MedianPruner(prune.warmup_trials, prune.warmup_step)
    return optuna.pruners.SuccessiveHalvingPruner(prune.warmup_step, REDUCTION)


def _distributions(search: Search) -> dict[str, BaseDistribution]:
    """By Optuna's names: the dotted key, behind ``LOSS:`` where it belongs to one loss."""
    found: dict[str, BaseDistribution] = {LOSS: CategoricalDistribution(list(search.losses))} if search.losses else {}
    found |= {key: _distribution(values) for key, values in search.space.items()}
    for loss, space in search.losses.items():
        found |= {f"{loss}:{key}": _distribution(values) for key, values in space.items()}
    return found


def _distribution(values: Any) -> BaseDistribution:
    if isinstance(values, list):
        return CategoricalDistribution(values)
    low, high, step = values["low"], values["high"], values.get("step")
    is_log = bool(values.get("log"))
    if all(isinstance(number, int) for number in (low, high, 1 if step is None else step)) and not values.get("times"):
        return IntDistribution(low, high, log=is_log, step=step or 1)
    return FloatDistribution(float(low), float(high), log=is_log, step=step)


def _suggest(trial: optuna.Trial, search: Search, distributions: Mapping[str, BaseDistribution]) -> dict[str, Any]:
    drawn, names = {}, list(search.space)
    if search.losses:
        drawn[LOSS] = _draw(trial, LOSS, distributions[LOSS])
        names += [f"{drawn[LOSS]}:{key}" for key in search.losses[drawn[LOSS]]]
    return drawn | {name: _draw(trial, name, distributions[name]) for name in names}


def _draw(trial: optuna.Trial, name: str, values: BaseDistribution) -> Any:
    if isinstance(values, CategoricalDistribution):
        return trial.suggest_categorical(name, values.choices)
    if isinstance(values, IntDistribution):
        return trial.suggest_int(name, values.low, values.high, step=values.step, log=values.log)
    assert isinstance(values, FloatDistribution)
    return trial.suggest_float(name, values.low, values.high, step=values.step, log=values.log)
