"""`dpo-lab sweep NAME` where the plan is a search: trials in batches, each a job as those of a grid."""

import json
import math
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, final

from dpo_lab.commands.asked import Asked
from dpo_lab.commands.launching import JobLauncher
from dpo_lab.commands.sweep_entry import folder_of, run_sweep
from dpo_lab.commands.sweep_show import show_search
from dpo_lab.config import ConfigError
from dpo_lab.errors import UserError
from dpo_lab.plan.cells import PlannedRun, plan_runs
from dpo_lab.plan.find import PlanError, PlanFile, find_content_faults
from dpo_lab.plan.search_cells import cell_of, corners, with_typed_search
from dpo_lab.plan.search_shape import Search, read_search
from dpo_lab.plan.shape import Cell, Setting
from dpo_lab.run.files import write_text
from dpo_lab.run.read import read_run
from dpo_lab.run.redaction import redact, redact_override
from dpo_lab.sweep.record import JobRecord, SweepFolder, SweepRecord
from dpo_lab.sweep.settings import SweepSettings
from dpo_lab.sweep.slots import share_of

if TYPE_CHECKING:
    from dpo_lab.plan.study import TrialRecord, TrialStudy

WATCH_SECONDS = 1.0


def run_search(plan: PlanFile, asked: Asked, *, shows: bool) -> int:
    """Show or run a plan that is a search. What is typed as ``search.KEY=VALUE`` changes the search itself.

    Raises:
        UserError: with every fault of the plan and of what its trials could be given; optuna is not installed.
    """
    content, overrides = with_typed_search(plan.content, asked.overrides)
    faults = find_content_faults(content)
    if faults:
        raise PlanError(str(plan.path), *faults)
    trials = Trials(content, overrides, asked)
    if shows:
        command = f"dpo-lab train -m {' '.join(map(redact_override, trials.first.overrides))}"
        show_search(plan, trials.search, trials.first.config, command)
        return 0
    # More trials of the same search are the same search.
    decisive = {**content, "search": {**content["search"], "num_trials": None}}
    path = folder_of(
        asked.of_hydra, trials.first.config["runs_dir"], plan.name, [json.dumps(decisive, sort_keys=True), *overrides]
    )
    record = replace(asked.record(path, plan.name), search=redact(content))
    return _run(SweepFolder(path), record, trials, asked)


def resume_search(folder: SweepFolder, record: SweepRecord, asked: Asked) -> int:
    """Go on with the search that `record` keeps."""
    assert record.search is not None
    _, overrides = with_typed_search(record.search, asked.overrides)
    return _run(folder, record, Trials(record.search, overrides, asked), asked)


def _run(folder: SweepFolder, record: SweepRecord, trials: "Trials", asked: Asked) -> int:
    try:
        from dpo_lab.plan.study import TrialStudy
    except ModuleNotFoundError as error:
        if error.name != "optuna":
            raise
        raise UserError("a search needs optuna, which is not installed: pip install 'dpo-lab[search]'") from error
    record = replace(record, num_jobs=trials.search.num_trials)

    def launch() -> int:
        return SearchRun(trials, TrialStudy(trials.search, folder), folder).run(asked.launcher(folder))

    return run_sweep(folder, record, launch)


@final
class Trials:
    """What the trials of a search are as runs. `first` is one that could be.

    Raises:
        ConfigError: with all faults of what trials could be given.
    """

    def __init__(self, content: Mapping[str, Any], overrides: Sequence[str], asked: Asked) -> None:
        self.search = read_search(content["search"])
        self._base: Cell = {key: Setting(value, "set") for key, value in content.get("set", {}).items()}
        self._overrides = list(overrides)
        self._source, self._is_here = asked.source, asked.is_here
        runs = self._plan(corners(self.search))
        if self.search.prune is not None and any(run.config["trainer"].get("validate_every") is None for run in runs):
            raise ConfigError(
                "search.prune: a trial is judged by validation on its way; say how often, as in "
                "set: {trainer.validate_every: 25}"
            )
        self.first = runs[0]

    def run_of(self, params: Mapping[str, Any]) -> PlannedRun:
        """The run of a trial with these parameters."""
        return self._plan([cell_of(params, self.search)])[0]

    def _plan(self, cells: Sequence[Cell]) -> list[PlannedRun]:
        whole = [{**self._base, **cell} for cell in cells]
        planned = plan_runs(whole, self._overrides, self._source, is_here=self._is_here)
        if planned.faults:
            raise ConfigError(*planned.faults)
        return planned.runs


@final
class SearchRun:
    """A search as far as it has come, in `folder`."""

    def __init__(self, trials: Trials, study: "TrialStudy", folder: SweepFolder) -> None:
        self._trials = trials
        self._search = trials.search
        self._study = study
        self._folder = folder

    def run(self, launcher: JobLauncher) -> int:
        """All trials that are left; 0, or 1 where ``sweep.on_error=stop`` ended the search."""
        config = self._trials.first.config
        size = self._search.batch or share_of(config).num_at_once
        on_error = SweepSettings(**config.get("sweep", {})).on_error
        code = 0
        while not code and (batch := self._study.next_batch(size)):
            jobs = [self._trials.run_of(trial.params).overrides for trial in batch]
            with self._watching(batch):
                launcher.launch(jobs, first=batch[0].number)
            endings = [self._tell(trial.number) for trial in batch]
            code = int(on_error == "stop" and "failed" in endings)
        self._study.write_table()
        print(self._answer())
        return code

    def _tell(self, number: int) -> str:
        """Tell the study how the job of a trial has ended; how that was."""
        job = self._folder.job(number).read()
        if job is not None and job.run is not None:
            self._study.report(number, _validated(Path(job.run), self._search))
        if job is not None and job.status == "pruned":
            self._study.tell(number, "pruned", None)
            return "pruned"
        if job is not None and job.status == "finished":
            values = objective_values(job, self._search)
            if all(map(math.isfinite, values)):
                self._study.tell(number, "complete", values)
                return "complete"
        # A loss that ran away is an answer; a job that failed, or was killed, is tried again when the search goes on.
        self._study.tell(number, "failed", None, is_final=job is not None and job.status == "finished")
        return "failed"

    @contextmanager
    def _watching(self, batch: Sequence["TrialRecord"]) -> Iterator[None]:
        """Meanwhile tell the study what validation says, and end trials that are not worth their end."""
        if self._search.prune is None:
            yield
            return
        ended = threading.Event()

        def watch() -> None:
            while not ended.wait(WATCH_SECONDS):
                for trial in batch:
                    self._watch(trial.number)

        watcher = threading.Thread(target=watch, daemon=True)
        watcher.start()
        try:
            yield
        finally:
            ended.set()
            watcher.join()

    def _watch(self, number: int) -> None:
        folder = self._folder.job(number)
        job = folder.read()
        if job is None or job.status != "running" or job.run is None or folder.prune.exists():
            return
        reason = self._study.report(number, _validated(Path(job.run), self._search))
        if reason is not None:
            write_text(folder.prune, reason + "\n")

    def _answer(self) -> str:
        """What the search has found."""
        best, names = self._study.best(), list(self._search.objective)
        if not best:
            return "no trial is complete"
        lines = ["best trial:" if len(names) == 1 else f"{len(best)} trials that no other beats in everything:"]
        for trial in best:
            values = " ".join(f"{name}={value:.6g}" for name, value in zip(names, trial.values or [], strict=True))
            typed = " ".join(map(redact_override, self._trials.run_of(trial.params).overrides))
            lines.append(f"  job {trial.number}: {values}  {typed}")
        return "\n".join(lines)


def objective_values(job: JobRecord, search: Search) -> list[float]:
    """The last value of each objective in the run of a finished job.

    Raises:
        UserError: the run has no such curve.
    """
    assert job.run is not None
    run, values = read_run(job.run), []
    for name in search.objective:
        _, found = run.curve(name)
        if not found:
            known = sorted({key for row in run.metrics for key in row if key.startswith(("val/", "samples/"))})
            raise UserError(f"search.objective: no curve {name} in {job.run}; there are {', '.join(known)}")
        values.append(found[-1])
    return values


def _validated(run: Path, search: Search) -> dict[int, float]:
    """The first objective by optimizer step, of the rows that are whole by now, and not of step 0, the start."""
    name, found = next(iter(search.objective)), {}
    with suppress(OSError):  # not yet there
        for line in (run / "metrics.jsonl").read_text(encoding="utf-8").split("\n")[:-1]:
            if f'"{name}"' in line:
                row = json.loads(line)
                if row["step"] and row[name] is not None:
                    found[int(row["step"])] = float(row[name])
    return found
