"""`dpo-lab sweep resume DIR`: go on with a sweep where it ended."""

import os
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from dpo_lab.errors import UserError
from dpo_lab.run.redaction import REDACTED
from dpo_lab.sweep.record import SweepFolder

EXAMPLES = """\
dpo-lab train -m loss=sigmoid,ipo seed=1,2,3    makes a sweep, and says where it is
dpo-lab sweep resume runs/.sweeps/67465f19b7    skips what is finished, goes on with what was interrupted, and tries
                                                again what failed; the command that made the sweep does the same
"""


def main(argv: list[str]) -> int:
    """Do what `argv` asks for; the exit code is that of the sweep."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        print("resume")
        return 0
    parser = ArgumentParser(
        "dpo-lab sweep",
        description="Sweeps that were begun with dpo-lab train -m.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="resume")
    resume = actions.add_parser("resume", help="go on with a sweep")
    resume.add_argument("folder", type=Path, metavar="DIR", help="RUNS_DIR/.sweeps/ID")
    return _resume(parser.parse_args(argv).folder)


def _resume(folder: Path) -> int:
    """Run the command of the sweep again, in the folder where it was run.

    Raises:
        UserError: there is no sweep, its command held a secret, or the folder where it was run is gone.
    """
    from dpo_lab.commands import hydra_entry

    record = SweepFolder(folder.absolute()).read()
    hidden = [text for text in record.overrides if REDACTED in text]
    if hidden:
        raise UserError(f"{folder}: {hidden[0]} was not kept, since it is a secret; give the whole command again")
    if not Path(record.working_dir).is_dir():
        raise UserError(f"{folder}: the sweep was run in {record.working_dir}, which is gone; give the command again")
    os.chdir(record.working_dir)
    own = f"hydra.sweep.dir='{folder.absolute()}'"
    return hydra_entry.main(
        ["-m", *(text for text in record.overrides if not text.startswith("hydra.sweep.dir=")), own]
    )
