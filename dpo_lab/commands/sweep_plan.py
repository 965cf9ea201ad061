"""`dpo-lab sweep NAME`: the cells of a plan, shown or run."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from dpo_lab.commands.asked import Asked
from dpo_lab.commands.sweep_entry import folder_of, run_sweep
from dpo_lab.commands.sweep_show import show_runs
from dpo_lab.config import ConfigError
from dpo_lab.config.source import Source
from dpo_lab.plan.cells import plan_runs
from dpo_lab.plan.find import PlanError, PlanFile, find_plan, plan_paths
from dpo_lab.plan.shape import expand
from dpo_lab.run.redaction import redact_override
from dpo_lab.sweep.record import SweepFolder, SweepRecord


def run_plan(args: Namespace, flags: Sequence[str]) -> int:
    """Show or run the plan that the command line asks for; `flags` are those of it that say where configs are.

    Raises:
        UserError: the plan, or what was typed behind it, has faults; all of them are in one message.
    """
    asked = Asked.read(args, flags)
    plan = find_plan(args.name, plan_folders(asked.source))
    if "search" in plan.content:
        from dpo_lab.commands.search import run_search

        return run_search(plan, asked, shows=args.plan)
    return _run_cells(plan, asked, shows=args.plan)


def resume_plan(folder: SweepFolder, record: SweepRecord, args: Namespace) -> int:
    """Go on with what `record` keeps, whatever the plan says by now; `args` is the command line as it was."""
    asked = Asked.read(args, record.flags)
    if record.search is not None:
        from dpo_lab.commands.search import resume_search

        return resume_search(folder, record, asked)
    assert record.cells is not None
    return _launch(folder, record, record.cells, asked)


def plan_folders(source: Source) -> list[Path]:
    """Where plans are looked for: what the user adds first, then the configs that are shipped."""
    return [Path(folder) for folder in (source.extra_dir, source.conf_dir) if folder is not None]


def list_plans(source: Source) -> str:
    """A line a plan."""
    paths = plan_paths(plan_folders(source))
    width = max(map(len, paths), default=0)
    return "\n".join(f"  {name:<{width}}  {find_plan(name, plan_folders(source)).about}" for name in paths)


def _run_cells(plan: PlanFile, asked: Asked, *, shows: bool) -> int:
    cells, faults = expand(plan.content)
    if faults:
        raise PlanError(str(plan.path), *faults)
    planned = plan_runs(cells, asked.overrides, asked.source, is_here=asked.is_here)
    if planned.faults:
        raise ConfigError(*planned.faults)
    if shows:
        show_runs(plan, planned)
        return 0
    runs = planned.runs
    path = folder_of(asked.of_hydra, runs[0].config["runs_dir"], plan.name, [run.overrides for run in runs])
    kept = [[redact_override(text) for text in run.overrides] for run in runs]
    record = replace(asked.record(path, plan.name), num_jobs=len(runs), cells=kept)
    return _launch(SweepFolder(path), record, [run.overrides for run in runs], asked)


def _launch(folder: SweepFolder, record: SweepRecord, cells: Sequence[Sequence[str]], asked: Asked) -> int:
    def launch() -> int:
        asked.launcher(folder).launch(cells)
        return 0

    return run_sweep(folder, record, launch)
