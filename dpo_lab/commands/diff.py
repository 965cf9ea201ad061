"""`dpo-lab diff A B`: in what two runs differ: config, contents, environment, results."""

import sys
from argparse import ArgumentParser
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.report.records import RunRecord

Difference = tuple[str, Any, Any]


def main(argv: list[str]) -> int:
    """Print in what the two runs of `argv` differ; 2 where one of them is not there."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        return 0
    parser = ArgumentParser("dpo-lab diff", description="In what two runs differ.")
    parser.add_argument("run", nargs=2, metavar="RUN", help="a run folder, or the beginning of an id")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where ids are looked for")
    args = parser.parse_args(argv)
    from dpo_lab.report.records import read_record

    left, right = (read_record(find(word, args.runs_dir)) for word in args.run)
    show(left, right)
    return 0


def find(word: str, runs_dir: Path) -> Path:
    """The run folder at the path `word`, or the one run under `runs_dir` whose id begins with it.

    Raises:
        UserError: there is none, or there are several.
    """
    if Path(word).is_dir():
        return Path(word)
    found = sorted(file.parent for file in runs_dir.glob("*/*/run.json") if word and file.parent.name.startswith(word))
    exact = [path for path in found if path.name == word]
    if len(exact or found) != 1:
        names = ", ".join(f"{path.parent.name}/{path.name}" for path in (exact or found)[:5])
        nothing = f"no such folder, and no run under {runs_dir} has such an id; dpo-lab runs lists them"
        raise UserError(f"{word}: " + (f"several runs: {names}" if found else nothing))
    return (exact or found)[0]


def show(left: "RunRecord", right: "RunRecord") -> None:
    """Print all differences, as tables; a damaged folder is compared as far as it can be read."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dpo_lab.report.content import text

    console = Console(width=None if sys.stdout.isatty() else 400)
    for record in (left, right):
        for fault in record.faults:
            console.print(Text(f"{record.name} cannot be read whole: {fault}", "yellow"))
    for title, lines in differences(left, right).items():
        if not lines:
            console.print(Text(f"{title}: the same", "dim"))
            continue
        table = Table(box=None, padding=(0, 2, 0, 0), title=title, title_justify="left", header_style="dim")
        for column in ("", left.name, right.name):
            table.add_column(column, overflow="fold", style="" if column else "cyan")
        for key, one, other in lines:
            table.add_row(*(Text(text(value)) for value in (key, one, other)))
        console.print(table)
    console.print(Text(divergence(left, right)))


def differences(left: "RunRecord", right: "RunRecord") -> dict[str, list[Difference]]:
    """Keys with different values on both sides, by subject."""
    from dpo_lab.report.environment import cost, environment

    results = [{name: run.last(name) for name in run.curves if name != "step"} for run in (left, right)]
    fields = [
        {"status": run.status, "exit reason": run.info.get("exit_reason"), "last step": run.last_step}
        for run in (left, right)
    ]
    return {
        "config": _differing(left.config, right.config),
        "contents": _differing(_hashes(left), _hashes(right)),
        "environment": _differing(environment(left), environment(right)),
        "result": _differing(fields[0] | results[0], fields[1] | results[1]),
        "cost": _differing(cost(left), cost(right)),
    }


def divergence(left: "RunRecord", right: "RunRecord") -> str:
    """From which step on the curves of two runs differ."""
    import numpy as np

    shared = [name for name in left.curves if name in right.curves]
    if not shared:
        return "no curve in common"
    first: tuple[float, str] | None = None
    common: set[float] = set()
    for name in shared:
        one, other = (dict(zip(*run.curves[name], strict=True)) for run in (left, right))
        common |= one.keys() & other.keys()
        steps = [step for step in one if step in other and one[step] != other[step]]
        if steps and (first is None or min(steps) < first[0]):
            first = float(np.min(steps)), name
    if not common:
        return "curves: no step in common"
    if first is None:
        return "curves: the same, bit for bit, at all shared steps"
    return f"curves: the same before step {first[0]:.0f}, where {first[1]} differs"


def _differing(left: Mapping[str, Any], right: Mapping[str, Any]) -> list[Difference]:
    names = dict.fromkeys([*left, *right])
    rows = ((name, _shown(left, name), _shown(right, name)) for name in names)
    return [row for row in rows if row[1] != row[2]]


def _shown(values: Mapping[str, Any], name: str) -> Any:
    """A value for a table: absent keys and unknown numbers are a dash."""
    value = values.get(name, "-")
    if isinstance(value, float):
        return "-" if value != value else value
    return str(value)


def _hashes(record: "RunRecord") -> Mapping[str, Any]:
    hashes = record.info.get("hashes")
    return hashes if isinstance(hashes, Mapping) else {}
