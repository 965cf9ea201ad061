"""`dpo-lab runs`: a list of runs, filtered by any config key, metric or field."""

import json
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError

EXAMPLES = """\
dpo-lab runs                                            all under runs/
dpo-lab runs status=failed                              with the reason
dpo-lab runs loss=ipo 'loss.beta>0.1' 'val/rewards/accuracies>=0.6'
dpo-lab runs 'name~sweep' --sort val/rewards/accuracies --show optimizer.lr
dpo-lab runs --json                                     everything, for programs
dpo-lab runs prune --help                               free what a rule does not keep

KEY is a config key, a curve (its last value), or id, name, status, sweep, seed, step, started, path.
Put quotes around > and <: the shell takes them for files.
"""
SHOWN = ("val/rewards/accuracies", "val/loss", "samples/kl")


def main(argv: list[str]) -> int:
    """List what `argv` asks for; a folder that cannot be read is listed with the reason."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        print("\n".join(("status=", "loss=", "--json", "--sort", "--show", "--runs-dir")))
        return 0
    if argv[:1] == ["prune"]:
        from dpo_lab.commands import prune

        return prune.main(argv[1:])
    args = _parser().parse_args(argv)
    from dpo_lab.report.rows import run_rows
    from dpo_lab.report.select import matches, parse_conditions, unknown_keys

    conditions = parse_conditions(args.filter)
    if not args.runs_dir.is_dir():
        raise UserError(f"{args.runs_dir}: no such folder; --runs-dir DIR says where runs are")
    found = run_rows([args.runs_dir])
    asked = [*conditions, *parse_conditions([f"{key}=" for key in (*args.show, *([args.sort] if args.sort else []))])]
    if unknown := unknown_keys(asked, {key for fields in found for key in fields}):
        raise UserError("; ".join(unknown))
    chosen = [fields for fields in found if matches(conditions, fields)]
    if args.sort:
        chosen.sort(key=lambda fields: _order(fields.get(args.sort)))
    if args.json:
        print(json.dumps(chosen, indent=2, ensure_ascii=False, default=str))
    else:
        _print(chosen, args.show)
        print(f"{len(chosen)} of {len(found)} runs", file=sys.stderr)
    return 0


def _print(chosen: list[dict[str, Any]], shown: list[str]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from dpo_lab.report.content import text

    keys = ["loss", "loss.beta", "seed", *shown]
    keys += [name for name in SHOWN if name not in keys and any(name in fields for fields in chosen)]
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "status", "step", *keys):
        table.add_column(column, no_wrap=column == "run", style="cyan" if column == "run" else "")
    has_reason = any(fields["reason"] for fields in chosen)
    if has_reason:
        table.add_column("why", overflow="fold")
    for fields in chosen:
        cells = [f"{fields['name']}/{fields['id']}", fields["status"], *(fields.get(key) for key in ("step", *keys))]
        cells += [fields["reason"]] if has_reason else []
        table.add_row(*(Text(text(cell)) for cell in cells))
    # Where no one looks at it (a pipe), lines are as long as they need to be.
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _order(value: Any) -> tuple[int, float, str]:
    if value is None:
        return 2, 0.0, ""
    if isinstance(value, int | float):
        return 0, float(value), ""
    return 1, 0.0, str(value)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dpo-lab runs",
        description="Runs that satisfy all filters.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("filter", nargs="*", metavar="FILTER", help="KEY=VALUE, KEY!=VALUE, KEY>NUMBER, KEY~TEXT, ...")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="else runs")
    parser.add_argument("--sort", metavar="KEY", help="lowest first")
    parser.add_argument("--show", action="append", default=[], metavar="KEY", help="one more column")
    parser.add_argument("--json", action="store_true", help="JSON on stdout and nothing else")
    return parser
