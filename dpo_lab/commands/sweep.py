"""`dpo-lab sweep NAME`: a sweep by a plan; `dpo-lab sweep resume DIR`: go on with a sweep where it ended."""

import os
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from pathlib import Path

from dpo_lab.errors import UserError
from dpo_lab.paths import CONF_DIR
from dpo_lab.run.redaction import REDACTED
from dpo_lab.sweep.record import SweepFolder, SweepRecord

RESUME = "resume"

EXAMPLES = """\
dpo-lab sweep beta_x_loss --plan                its table of runs, and what they will cost
dpo-lab sweep beta_x_loss                       runs them
dpo-lab sweep beta_x_loss loss=ipo seed=1,2     those of one loss, with two seeds
dpo-lab sweep my_plan.yaml                      a plan of your own (docs/sweeps.md)
dpo-lab sweep resume runs/.sweeps/67465f19b7    skips what is finished, goes on with what was interrupted, and tries
                                                again what failed; the command that made the sweep does the same
dpo-lab train -m loss=sigmoid,ipo seed=1,2      a sweep without a plan: every combination

plans:
"""


def main(argv: list[str]) -> int:
    """Do what `argv` asks for; the exit code is that of the sweep."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.plan.find import plan_paths

        print("\n".join([RESUME, *plan_paths([CONF_DIR])]))
        return 0
    args = _parse(argv)
    if args.name == RESUME:
        return _resume(Path(args.overrides[0]).absolute())
    from dpo_lab.commands.sweep_plan import run_plan

    return run_plan(args, _flags(args))


def _parse(argv: list[str]) -> Namespace:
    parser = ArgumentParser(
        "dpo-lab sweep",
        description="Runs that a plan asks for, each a process; or a sweep that goes on.",
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", metavar="PLAN", help="a name, or a YAML file; `resume` for a sweep that goes on")
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="set in every run; with `resume`: the folder")
    parser.add_argument("--plan", action="store_true", help="show the runs and what they will cost, start nothing")
    parser.add_argument(
        "--config-dir", "-cd", metavar="DIR", help="configs and plans of your own, beside those shipped"
    )
    parser.add_argument("--config-path", "-cp", metavar="DIR", help="configs and plans instead of those shipped")
    parser.add_argument("--config-name", "-cn", metavar="NAME", help="primary config, train unless said")
    if not argv or {"-h", "--help"} & {*argv}:
        from dpo_lab.commands.sweep_plan import list_plans
        from dpo_lab.config.source import Source

        parser.epilog = EXAMPLES + list_plans(Source(str(CONF_DIR), "train"))
    if not argv:
        parser.print_help()
        raise SystemExit(2)
    args = parser.parse_intermixed_args(argv)
    if args.name == RESUME and (len(args.overrides) != 1 or _flags(args) or args.plan):
        parser.error("resume takes the folder of a sweep, RUNS_DIR/.sweeps/ID, and nothing else")
    return args


def _flags(args: Namespace) -> list[str]:
    given = {"--config-dir": args.config_dir, "--config-path": args.config_path, "--config-name": args.config_name}
    return [word for flag, value in given.items() if value is not None for word in (flag, value)]


def _resume(path: Path) -> int:
    """Run the jobs of the sweep again, in the folder where they were asked for.

    Raises:
        UserError: there is no sweep, its command held a secret, or the folder where it was run is gone.
    """
    folder = SweepFolder(path)
    record = folder.read()
    typed = [*record.overrides, *(text for cell in record.cells or [] for text in cell)]
    hidden = [text for text in typed if REDACTED in text]
    if hidden:
        raise UserError(f"{path}: {hidden[0]} was not kept, since it is a secret; give the whole command again")
    if not Path(record.working_dir).is_dir():
        raise UserError(f"{path}: the sweep was run in {record.working_dir}, which is gone; give the command again")
    os.chdir(record.working_dir)
    return _again(folder, record)


def _again(folder: SweepFolder, record: SweepRecord) -> int:
    from dpo_lab.commands.sweep_entry import OWN_FOLDER, own_folder

    overrides = [text for text in record.overrides if not text.startswith(OWN_FOLDER)]
    if record.plan is None:
        from dpo_lab.commands import hydra_entry

        flags = record.flags if {"-m", "--multirun"} & {*record.flags} else ["-m", *record.flags]
        return hydra_entry.main([*flags, *overrides, own_folder(folder.path)])
    from dpo_lab.commands.sweep_plan import resume_plan

    return resume_plan(folder, record, _parse([record.plan, *record.flags, *overrides]))
