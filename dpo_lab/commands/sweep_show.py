"""`dpo-lab sweep NAME --plan`: which runs there would be, which are there already, and what the rest will cost."""

from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.plan.cells import Planned, PlannedRun
from dpo_lab.plan.cost import Cost, content_of, expected_cost, finished_runs
from dpo_lab.plan.find import PlanFile
from dpo_lab.plan.search_shape import Search
from dpo_lab.run.redaction import redact_override
from dpo_lab.sweep.slots import share_of


def show_runs(plan: PlanFile, planned: Planned) -> None:
    """The table of cells, then what they are expected to cost."""
    runs = planned.runs
    runs_dir = Path(runs[0].config["runs_dir"]).expanduser()
    done = finished_runs(runs_dir)
    found = [done.get(content_of(run.config)) for run in runs]
    typed = [list(map(redact_override, run.overrides)) for run in runs]
    common = set(typed[0]).intersection(*typed) if len(runs) > 1 else set()
    print(_title(plan))
    for row in _table([[text for text in texts if text not in common] for texts in typed], found):
        print(row)
    if common:
        print(f"\nall: {' '.join(text for text in typed[0] if text in common)}")
    repeated = f"; {planned.num_repeated} more say the same as one of them" if planned.num_repeated else ""
    print(f"\n{len(runs)} runs, {sum(path is not None for path in found)} of them finished{repeated}")
    for line in _notes(runs):
        print(line)
    left = [run for run, path in zip(runs, found, strict=True) if path is None]
    command = f"dpo-lab train -m {' '.join(map(redact_override, left[0].overrides))}" if left else ""
    print(_cost([run.config for run in left], runs_dir, command))


def show_search(plan: PlanFile, search: Search, config: dict[str, Any], command: str) -> None:
    """What is searched and sought, then what it is expected to cost where no trial is pruned."""
    print(_title(plan))
    for loss, space in {"": search.space, **search.losses}.items():
        for key, values in space.items():
            print(f"  {f'{loss}: ' if loss else ''}{key}: {_space_words(values)}")
    if search.losses:
        print(f"  loss: {', '.join(search.losses)}")
    sought = ", ".join(f"{name} ({direction})" for name, direction in search.objective.items())
    pruned = "none is ended early" if search.prune is None else f"ended early by {search.prune.rule}"
    print(f"\n{search.num_trials} trials by {search.sampler}, for {sought}; {pruned}")
    print(_cost([config] * search.num_trials, Path(config["runs_dir"]).expanduser(), command))


def _title(plan: PlanFile) -> str:
    return f"{plan.name}: {plan.about}\n" if plan.about else f"{plan.name}\n"


def _space_words(values: Any) -> str:
    if isinstance(values, list):
        return ", ".join(map(str, values))
    words = f"{values['low']:g} to {values['high']:g}"
    words += " (log)" if values.get("log") else ""
    words += f" in steps of {values['step']:g}" if values.get("step") else ""
    return words + (" times what a run has without it" if values.get("times") else "")


def _table(told: Sequence[Sequence[str]], found: Sequence[Path | None]) -> list[str]:
    cells = [dict(text.split("=", 1) for text in texts) for texts in told]
    keys = list(dict.fromkeys(key for cell in cells for key in cell))
    rows = [["job", *keys, "finished run"]]
    for number, (cell, path) in enumerate(zip(cells, found, strict=True)):
        rows.append([str(number), *(cell.get(key, "") for key in keys), str(path or "")])
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    return ["  ".join(text.ljust(width) for text, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _notes(runs: Sequence[PlannedRun]) -> list[str]:
    """What the numbers of such a sweep could not say."""
    rates: dict[str, set[float]] = {}
    for run in runs:
        target = str(run.config["loss"]["_target_"]).rpartition(".")[2]
        rates.setdefault(target, set()).add(run.config["optimizer"].get("lr"))
    single = [loss for loss, found in rates.items() if len(found) == 1]
    if len(rates) < 2 or not single:
        return []
    return [
        f"note: {len(rates)} losses are compared, {', '.join(single)} at one optimizer.lr alone: which loss is better "
        "may then be which was tuned better"
    ]


def _cost(left: Sequence[dict[str, Any]], runs_dir: Path, command: str) -> str:
    """Of the runs with the configs `left`; `command` runs one of them."""
    if not left:
        return "cost: nothing is left to run"
    cost = expected_cost(left, runs_dir)
    at_once = _num_at_once(left[0])
    side_by_side = f"{at_once} side by side" if at_once > 1 else "one after the other"
    if cost.num_unknown == len(left):
        return (
            f"cost: not known, since no run of this kind has finished under {runs_dir} ({side_by_side} here). One "
            f"tells: {command}"
        )
    times = [seconds for seconds in cost.seconds if seconds is not None]
    shortest, longest = _clock(min(times)), _clock(max(times))
    each = shortest if shortest == longest else f"{shortest} to {longest}"
    others = ", some of other losses" if cost.by_other_losses else ""
    unknown = f", and {cost.num_unknown} runs of unknown kind" if cost.num_unknown else ""
    return (
        f"cost: {_clock(cost.total / at_once)} for the {len(left)} runs that are left{unknown}, {side_by_side}: "
        f"{each} a run, as measured in {_measured(cost)}{others}"
    )


def _measured(cost: Cost) -> str:
    jobs = [f"{cost.num_jobs} finished job{'s' * (cost.num_jobs != 1)}"] if cost.num_jobs else []
    runs = [f"{cost.num_runs} finished run{'s' * (cost.num_runs != 1)} (without their start)"] if cost.num_runs else []
    return " and ".join(jobs + runs)


def _num_at_once(config: dict[str, Any]) -> int:
    """Jobs side by side on this machine; 1 where only another one could run them."""
    try:
        return max(1, share_of(config).num_at_once)
    except UserError:
        return 1


def _clock(seconds: float) -> str:
    return str(timedelta(seconds=round(seconds)))
