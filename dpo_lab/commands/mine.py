"""`dpo-lab mine`: what a finished run gets wrong, as a data file for a preference run."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError

EXAMPLES = """\
dpo-lab mine RUN --out confusion.json          of a classifier: what it takes for what, for
                                               data=labelled data.preference=confusion_weighted data.confusion=FILE
dpo-lab mine RUN --out mined.json --num 4      of a span reader: the best of its wrong spans, for
                                               data=questions data.path=FILE
dpo-lab mine RUN --out mined.json data.path=more.json

RUN is the folder of a run, or its id under --runs-dir. Rows of data.validation_path and data.test_path are not looked
at. The file says which run, which weights and which data it comes from.
"""


def main(argv: list[str]) -> int:
    """Write the file that `argv` asks for and print its name. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        return 0
    parser = ArgumentParser(
        "dpo-lab mine",
        description="What a finished run gets wrong, as a data file with its provenance.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("run", help="folder or id of a finished run of a classifier or a span reader")
    parser.add_argument("overrides", nargs="*", metavar="data.KEY=VALUE", help="what of its data is to be another")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write (.json)")
    parser.add_argument("--num", type=int, default=4, metavar="N", help="wrong spans of each question, at most; else 4")
    parser.add_argument(
        "--below", type=float, default=1.0, metavar="F1", help="token F1 against the right answers, less than; else 1"
    )
    parser.add_argument("--runs-dir", default="runs", metavar="DIR", help="where ids are looked for; else runs")
    args = parser.parse_intermixed_args(argv)
    if args.num < 1:
        raise UserError(f"--num: must be at least 1, got {args.num}")
    if not 0 < args.below <= 1:
        raise UserError(f"--below: must be in (0, 1], got {args.below:g}")
    if args.out.suffix != ".json":
        raise UserError(f"--out: {args.out} does not end in .json")
    data = _data_knobs(args.overrides)

    from dpo_lab.assemble.lightning import computing
    from dpo_lab.assemble.mining import mine
    from dpo_lab.run.claim import find_run
    from dpo_lab.run.read import read_run

    run = read_run(find_run(args.runs_dir, args.run))
    with computing(run.config["trainer"].get("num_threads")):
        mined = mine(run, args.out, data, num=args.num, below=args.below)
    print(f"{mined.kind} of {mined.num_rows} rows, by run {run.info['id']}", file=sys.stderr)
    print(args.out)
    return 0


def _data_knobs(overrides: list[str]) -> dict[str, Any]:
    import yaml

    knobs = {}
    for override in overrides:
        key, equals, value = override.partition("=")
        if not equals or not key.startswith("data."):
            raise UserError(f"{override}: only data.KEY=VALUE can be another; the model is that of the run")
        knobs[key.removeprefix("data.")] = yaml.safe_load(value)
    return knobs
