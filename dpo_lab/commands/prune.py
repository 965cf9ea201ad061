"""`dpo-lab runs prune`: frees what a declared rule does not keep; says first what that would be."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.report.records import RunRecord
    from dpo_lab.run.pruning import Part

EXAMPLES = """\
dpo-lab runs prune status=failed --drop all                        what would go, and how much that is
dpo-lab runs prune status=failed --drop all --yes                  and it goes
dpo-lab runs prune --keep best 3 --by val/rewards/accuracies --drop checkpoints
dpo-lab runs prune --keep best 1 --by val/loss --per loss --per loss.beta --drop checkpoints --drop model
dpo-lab runs prune name=trial --keep newest 10 --drop all
dpo-lab runs prune --runs-dir runs/.reproductions status=finished --drop all

Without --yes nothing is deleted. A run that is at work is never touched, nor is anything that a link leads to; a run
without the curve of --by is left alone. What is dropped is noted in the run's run.json.
"""
PARTS = ("checkpoints", "model", "all")


def main(argv: list[str]) -> int:
    """Show, or with ``--yes`` delete, what `argv` asks for. 2 on a rule that says too little."""
    args = _parser().parse_intermixed_args(argv)
    keep = _keep(args)
    from dpo_lab.report.fields import fields_of
    from dpo_lab.report.records import find_runs, read_record
    from dpo_lab.report.select import parse_conditions, unknown_keys

    conditions = parse_conditions(args.filter)
    if not conditions and keep is None:
        raise UserError("which runs? say a filter (status=failed), or what is kept (--keep best 3 --by CURVE)")
    if not args.runs_dir.is_dir():
        raise UserError(f"{args.runs_dir}: no such folder; --runs-dir DIR says where runs are")
    records = [read_record(path) for path in find_runs([args.runs_dir])]
    fields = {record.path: fields_of(record) for record in records}
    asked = [*conditions, *parse_conditions([f"{key}=" for key in [*args.per, *([args.by] if args.by else [])]])]
    if unknown := unknown_keys(asked, {key for one in fields.values() for key in one}):
        raise UserError("; ".join(unknown))
    chosen = [record for record in records if all(one.holds(fields[record.path].get(one.key)) for one in conditions)]
    if keep is not None:
        chosen = _not_kept(chosen, fields, keep, args)
    return _drop(chosen, args)


def _keep(args: Namespace) -> tuple[str, int] | None:
    """How many of which are kept; None without ``--keep``."""
    if args.keep is None:
        if args.by or args.per or args.mode:
            raise UserError("--by, --mode and --per say what --keep keeps; give --keep best N or --keep newest N")
        return None
    which, number = args.keep
    if which not in ("best", "newest") or not number.isdecimal():
        raise UserError(f"--keep {which} {number}: must be best N or newest N")
    if which == "best" and not args.by:
        raise UserError("--keep best: by which curve? --by val/rewards/accuracies")
    if which == "newest" and (args.by or args.mode):
        raise UserError("--keep newest: goes by the start of the runs; --by and --mode go with --keep best")
    return which, int(number)


def _not_kept(
    records: "list[RunRecord]", fields: dict[Path, dict[str, Any]], keep: tuple[str, int], args: Namespace
) -> "list[RunRecord]":
    """Those of `records` that the rule does not keep, in each group of ``--per`` by itself."""
    which, number = keep
    key = args.by if which == "best" else "started"
    judged = [record for record in records if fields[record.path].get(key) is not None]
    if len(judged) < len(records):
        print(f"{len(records) - len(judged)} runs have no {key}, and are left alone", file=sys.stderr)
    groups: dict[tuple[str, ...], list[RunRecord]] = {}
    for record in judged:
        groups.setdefault(tuple(str(fields[record.path].get(name)) for name in args.per), []).append(record)
    kept: set[Path] = set()
    is_low_first = which == "best" and _is_low_better(args)
    for members in groups.values():
        ranked = sorted(members, key=lambda record: fields[record.path][key], reverse=not is_low_first)
        kept |= {record.path for record in ranked[:number]}
    return [record for record in judged if record.path not in kept]


def _is_low_better(args: Namespace) -> bool:
    from dpo_lab.report.compare import lower_is_better

    return lower_is_better(args.by) if args.mode is None else args.mode == "min"


def _drop(records: "list[RunRecord]", args: Namespace) -> int:
    from dpo_lab.run.pruning import drop, find_parts

    names = list(dict.fromkeys(args.drop))
    parts, refused = find_parts([record.path for record in records], names, args.runs_dir)
    for path, reason in refused.items():
        print(f"left alone: {path.parent.name}/{path.name}: {reason}", file=sys.stderr)
    _print(parts, {record.path: record for record in records})
    total = sum(part.num_bytes for part in parts)
    if not args.yes:
        print(f"{_size(total)} in {len(parts)} folders; nothing was deleted: --yes does", file=sys.stderr)
        return 0
    freed = 0
    for part in parts:
        if reason := drop(part):
            print(f"left alone: {part.run.parent.name}/{part.run.name}: {reason}", file=sys.stderr)
        else:
            freed += part.num_bytes
    print(f"deleted {_size(freed)}", file=sys.stderr)
    return 0


def _print(parts: "list[Part]", records: "dict[Path, RunRecord]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "status", "what", "size"):
        table.add_column(column, no_wrap=True, justify="right" if column == "size" else "left")
    for part in parts:
        name = f"{part.run.parent.name}/{part.run.name}"
        table.add_row(*map(Text, (name, records[part.run].status, part.name, _size(part.num_bytes))))
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _size(num_bytes: float) -> str:
    """>>> _size(1234567)
    '1.2 MB'
    """
    for unit in ("B", "kB", "MB"):
        if num_bytes < 1000:
            return f"{num_bytes:.0f} {unit}" if unit == "B" else f"{num_bytes:.1f} {unit}"
        num_bytes /= 1000
    return f"{num_bytes:.1f} GB"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dpo-lab runs prune",
        usage="dpo-lab runs prune [FILTER ...] [--keep best|newest N] [--by CURVE] --drop WHAT [--yes]",
        description="Delete what a rule does not keep; without --yes, say what that would be.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("filter", nargs="*", metavar="FILTER", help="as of dpo-lab runs: only these runs are looked at")
    parser.add_argument("--keep", nargs=2, metavar=("WHICH", "N"), help="best N by a curve, or newest N; the rest goes")
    parser.add_argument("--by", metavar="CURVE", help="its last value says which are the best")
    parser.add_argument("--mode", choices=("min", "max"), help="else min for losses and KL, max for the others")
    parser.add_argument("--per", action="append", default=[], metavar="KEY", help="N of each value of this config key")
    parser.add_argument(
        "--drop", action="append", choices=PARTS, required=True, help="what goes; all: the whole folder"
    )
    parser.add_argument("--yes", action="store_true", help="delete")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="else runs")
    return parser
