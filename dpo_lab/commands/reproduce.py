"""`dpo-lab reproduce`: a run made again from its folder, and whether it comes to the same numbers."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.commands.repetition import Outcome, Wanted

EXAMPLES = """\
dpo-lab reproduce runs/default/06eeb5ed2006                  all of it, and is it the same?
dpo-lab reproduce 06eeb5ed2006 --steps 5                     its first 5 steps alone
dpo-lab reproduce COPY data.path=/here/pairs.jsonl           where its data lies now: the contents decide
dpo-lab reproduce RUN loss.beta=0.2                          a variation of it, compared with it
dpo-lab reproduce RUN/wandb/offline-run-20260101_120000-ab   from W&B's files
dpo-lab reproduce runs/.sweeps/67465f19b7 --sample 3         three runs of a sweep, drawn at random

exit code: 0 bit-identical; 3 within tolerance; 4 diverged; of a sweep the worst. Anything else: it was not made again.
"""


def main(argv: list[str]) -> int:
    """Make the run of `argv` again, print the verdict and the new folder; the verdict's exit code."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        print("\n".join(("--steps", "--sample", "--sample-seed", "--tolerance", "--runs-dir")))
        return 0
    parser = _parser()
    args = parser.parse_intermixed_args(argv)
    _check(parser, args)
    # Here, so that --help answers at once.
    from dpo_lab.commands.diff import find
    from dpo_lab.commands.repetition import Wanted, repeat_run

    folder = find(args.run, args.runs_dir)
    wanted = Wanted(args.overrides, args.steps, args.tolerance, args.runs_dir)
    if (folder / "sweep.json").is_file():
        return _repeat_sweep(folder, args, wanted)
    if args.sample is not None:
        raise UserError(f"--sample: {folder} is one run; a sweep is RUNS_DIR/.sweeps/ID")
    return repeat_run(folder, wanted).exit_code


def _check(parser: ArgumentParser, args: Namespace) -> None:
    odd = [word for word in args.overrides if "=" not in word and not word.startswith("~")]
    if odd:
        parser.error(f"{odd[0]}: not an override; write KEY=VALUE. One run, or one sweep, is made again at a time")
    for name, value in (("--steps", args.steps), ("--sample", args.sample)):
        if value is not None and value < 1:
            parser.error(f"{name}: must be at least 1, got {value}")
    if not args.tolerance >= 0:
        parser.error(f"--tolerance: must be at least 0, got {args.tolerance}")


def _repeat_sweep(sweep: Path, args: Namespace, wanted: "Wanted") -> int:
    """Make finished runs of a sweep again, all or a sample, and print a table of what became of each."""
    import random
    import traceback

    from dpo_lab.commands.repetition import Outcome, repeat_run
    from dpo_lab.report.records import find_runs
    from dpo_lab.run.read import read_info

    runs = [path for path in find_runs([sweep]) if read_info(path).get("status") == "finished"]
    if not runs:
        raise UserError(f"{sweep}: no run of this sweep is finished")
    if args.sample is not None and args.sample < len(runs):
        drawn = random.Random(args.sample_seed).sample(range(len(runs)), args.sample)
        runs = [runs[number] for number in sorted(drawn)]
    outcomes: list[Outcome] = []
    for number, path in enumerate(runs, start=1):
        print(f"-- {number} of {len(runs)}: {path.parent.name}/{path.name}", file=sys.stderr)
        try:
            outcomes.append(repeat_run(path, wanted))
        except UserError as error:
            print(f"{path}: {error}", file=sys.stderr)
            outcomes.append(Outcome.failed(path, str(error).splitlines()[0], error.exit_code))
        except Exception as error:  # the others are made again all the same; the table and the exit code tell
            traceback.print_exc()
            outcomes.append(Outcome.failed(path, f"{type(error).__name__}: {error}", 1))
    _print(outcomes)
    return max((outcome.exit_code for outcome in outcomes), key=_severity)


def _severity(code: int) -> int:
    """Not made again is worse than any verdict; the verdicts are ordered as their codes are."""
    return code if code in (0, 3, 4) else 100 + code


def _print(outcomes: "list[Outcome]") -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("run", "verdict", "where", "likeliest cause"):
        table.add_column(column, no_wrap=column == "run", overflow="fold")
    for one in outcomes:
        table.add_row(*(Text(word) for word in (one.run, one.verdict, one.where, one.cause)))
    Console(width=None if sys.stdout.isatty() else 400).print(table)


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dpo-lab reproduce",
        usage="dpo-lab reproduce RUN [KEY=VALUE ...] [--steps N] [--sample K] [--tolerance X]",
        description="Make a run again from its saved config, and compare it step by step.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="the folder or id of a run, W&B's files of one, or a sweep's folder")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="on the saved config")
    parser.add_argument("--steps", type=int, metavar="N", help="stop after N optimizer steps of the same schedule")
    parser.add_argument("--sample", type=int, metavar="K", help="of a sweep, K finished runs drawn at random")
    parser.add_argument("--sample-seed", type=int, default=0, metavar="S", help="of that draw (0)")
    parser.add_argument(
        "--tolerance", type=float, default=1e-3, metavar="X", help="share of the largest value of a curve (0.001)"
    )
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where ids are looked for")
    return parser
