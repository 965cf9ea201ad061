"""`dpo-lab report`: tables, tests and charts of a set of run folders, from the folders alone."""

import re
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Sequence
from hashlib import sha256
from pathlib import Path

from dpo_lab.errors import UserError
from dpo_lab.run.links import own_folder

REPORTS, WANDB = ".reports", "wandb:"
EXAMPLES = """\
dpo-lab report runs/default                                    all runs of a name
dpo-lab report runs baseline='loss=sigmoid loss.beta=0.1'      every cell against this one
dpo-lab report runs metric=samples/true_reward                 by another curve
dpo-lab report runs claims=claims.yaml                         re-check what was claimed before
dpo-lab report runs/default/06eeb5ed2006                       one run: into its own report/
dpo-lab report wandb:ENTITY/PROJECT                            runs of a W&B project, fetched into cache_dir
dpo-lab report wandb:ENTITY/PROJECT/NAME                       of a sweep or group of it, or one run

exit code: 0 done, all claims hold; 2 nothing to report, or a selector that names nothing;
with claims: 3 none is refuted but some is not distinguishable; 4 some is refuted
"""
_OPTION = re.compile(r"(baseline|metric|claims|out|seed_key|cache_dir)=")


def main(argv: list[str]) -> int:
    """Write the report that `argv` asks for, print its path, and return the exit code of its claims."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        print("\n".join(("baseline=", "metric=", "claims=", "out=", "seed_key=", "cache_dir=", "wandb:")))
        return 0
    args = _parser().parse_args([f"--{word}" if _OPTION.match(word) else word for word in argv])
    # Here, so that --help answers at once.
    from dpo_lab.report.build import build_report
    from dpo_lab.report.cells import SEED_KEYS
    from dpo_lab.report.claims import check_claims, exit_code, read_claims
    from dpo_lab.report.study import read_study
    from dpo_lab.report.write import write_report

    claims = [] if args.claims is None else read_claims(args.claims)
    folders = local_folders(args.folder, args.cache_dir)
    study = read_study(folders, metric=args.metric, baseline=args.baseline, seed_keys=(*SEED_KEYS, *args.seed_key))
    checked = check_claims(claims, study.cells)
    runs = [record.path for record in study.records]
    out = args.out or place(runs, args.folder)
    report = build_report(study, f"Report on {_name(runs, args.folder)}", checked)
    try:
        write_report(report, out)
    except OSError as error:
        raise UserError(f"out={out}: cannot be written: {error.strerror}") from error
    for line in report.summary:
        print(line, file=sys.stderr)
    print(out / "report.html")
    return exit_code(checked)


def local_folders(words: Sequence[str], cache_dir: Path) -> list[Path]:
    """The folders that `words` name; what lies on W&B is fetched first.

    Raises:
        UserError: an address of W&B is none, or nothing can be fetched from it.
    """
    folders: list[Path] = []
    for word in words:
        if word.startswith(WANDB):
            from dpo_lab.logger.wandb_download import download, parse_address

            folders += download(parse_address(word), cache_dir, lambda line: print(line, file=sys.stderr))
        else:
            folders.append(Path(word))
    return folders


def place(runs: Sequence[Path], words: Sequence[str]) -> Path:
    """Where a report goes: RUN/report for one run, ``runs_dir/.reports/NAME`` for a set; ``runs`` for one of W&B."""
    if any(word.startswith(WANDB) for word in words):
        return Path("runs") / REPORTS / _name(runs, words)
    if len(runs) == 1:
        return own_folder(runs[0], "report")
    return runs[0].parents[1] / REPORTS / _name(runs, words)


def _name(runs: Sequence[Path], words: Sequence[str]) -> str:
    """The folders' names; long lists are cut and told apart by a hash."""
    if len(runs) == 1:
        return f"{runs[0].parent.name}-{runs[0].name}"
    names = [
        word.removeprefix(WANDB).replace("/", "-") if word.startswith(WANDB) else Path(word).absolute().name
        for word in words
    ]
    whole = "+".join(dict.fromkeys(names))
    if len(whole) <= 60:
        return whole
    return f"{whole[:50]}-{sha256(whole.encode()).hexdigest()[:8]}"


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dpo-lab report",
        usage="dpo-lab report DIR... [baseline=CELL] [metric=NAME] [claims=FILE] [out=DIR] [seed_key=KEY]",
        description="Cells, intervals over seeds, tests against a baseline, charts: report.html, report.md, table.csv.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("folder", nargs="+", metavar="DIR", help="a run, a folder of runs, or wandb:ENTITY/PROJECT")
    parser.add_argument("--baseline", metavar="CELL", help="conditions that name one cell: 'loss=ipo loss.beta=0.1'")
    parser.add_argument("--metric", metavar="NAME", help="the curve that cells are compared by")
    parser.add_argument("--claims", type=Path, metavar="FILE", help="YAML of claims to check (docs/report.md)")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write")
    parser.add_argument(
        "--seed_key", action="append", default=[], metavar="KEY", help="a config key that only repeats: data.split_seed"
    )
    parser.add_argument("--cache_dir", type=Path, default=Path("cache"), metavar="DIR", help="where W&B's runs go")
    return parser
