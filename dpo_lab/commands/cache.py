"""`dpo-lab cache`: the log-probs of references that runs share on disk: seen, made, checked, deleted."""

import sys
import time
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lab.errors import UserError
from dpo_lab.reference.cache_store import StoreSummary, remove_store, size, summarize_stores

if TYPE_CHECKING:
    import pytorch_lightning as pl

    from dpo_lab.assemble import Experiment
    from dpo_lab.reference.cache_use import KeyedGroups
    from dpo_lab.reference.cached import CachedReference

CACHE_DIR = "cache"
"""As conf/train.yaml has it."""

DAY = 86400.0
VERIFIED_ROWS = 1000
SHOWN_IDENTITY, SHOWN_WEIGHTS = 12, 8
EXAMPLES = """\
dpo-lab cache list                              every folder, the one used last first
dpo-lab cache build data=files data.path=...    what `dpo-lab train` would take; computes, trains nothing
dpo-lab cache verify data=files data.path=...   computes responses again and compares
dpo-lab cache prune 3f2a91c0 --dry-run          by the beginning of its identity
dpo-lab cache prune --older-than 30             what no run has used for 30 days
"""


def main(argv: list[str]) -> int:
    """Do what `argv` asks for. 1 where a verified response differs; 2 where there is nothing to do it to."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        print("\n".join(ACTIONS))
        return 0
    args = _parser().parse_args(argv)
    ACTIONS[args.action](args)
    return 0


def _parser() -> ArgumentParser:
    parser = ArgumentParser(
        "dpo-lab cache",
        description="Log-probs of references, computed once and shared by all runs (reference.cache).",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    actions = parser.add_subparsers(dest="action", required=True, metavar="list | build | verify | prune")
    listing = actions.add_parser("list", help="every folder: model, rows, size, when it was last used")
    build = actions.add_parser("build", help="compute what a run would ask for, and train nothing")
    verify = actions.add_parser("verify", help="compute cached responses again and compare")
    verify.add_argument("--rows", type=int, default=VERIFIED_ROWS, metavar="N", help="at most so many, drawn at random")
    for action in (build, verify):
        action.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of dpo-lab train")
    prune = actions.add_parser("prune", help="delete folders")
    prune.add_argument("identity", nargs="*", help="the beginning of one, as `list` shows it")
    prune.add_argument("--older-than", type=float, metavar="DAYS", help="those that no run has used for so long")
    prune.add_argument("--dry-run", action="store_true", help="say what would be deleted")
    for action in (listing, prune):
        action.add_argument("--cache-dir", type=Path, default=Path(CACHE_DIR), metavar="DIR", help=f"else {CACHE_DIR}")
    return parser


def _list(args: Namespace) -> None:
    from rich.console import Console
    from rich.table import Table

    summaries = summarize_stores(args.cache_dir.expanduser())
    if not summaries:
        _say(f"no log-probs of a reference under {args.cache_dir}")
        return
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("identity", "model", "weights", "computed as", "responses", "size", "last used"):
        is_free = column in ("model", "computed as")
        table.add_column(column, style="cyan" if column == "identity" else "", overflow="fold", no_wrap=not is_free)
    for summary in summaries:
        table.add_row(summary.identity[:SHOWN_IDENTITY], *_cells(summary))
    Console().print(table)


def _cells(summary: StoreSummary) -> tuple[str, ...]:
    parts = summary.parts or {}
    how = [parts[name] for name in ("dtype", "precision", "attention", "device") if name in parts]
    days = (time.time() - summary.used_at) / DAY
    return (
        parts.get("model", "?").removesuffix("ForCausalLM"),
        parts.get("reference", "?")[:SHOWN_WEIGHTS],
        " ".join(how),
        str(summary.num_rows),
        size(summary.num_bytes),
        "today" if days < 1 else f"{days:.0f} days ago",
    )


def _build(args: Namespace) -> None:
    with _cached(args.overrides) as (reference, experiment, _):
        use = reference.prepare(_rows(experiment), seed=experiment.seeds["sampling"], say=_say)
    _say(use.line())
    print(use.folder)


def _verify(args: Namespace) -> None:
    with _cached(args.overrides) as (reference, experiment, overrides):
        num_rows, largest = reference.verify(_rows(experiment), args.rows, seed=experiment.seeds["sampling"])
    if not num_rows:
        raise UserError(f"no response of this run is in the cache; dpo-lab cache build {overrides} computes them")
    print(f"{num_rows} responses computed again; the largest difference is {largest:.2g} nats")


def _rows(experiment: "Experiment") -> "Iterator[KeyedGroups]":
    from dpo_lab.assemble.reference_rows import rows_of_run

    return rows_of_run(experiment.train, experiment.held_out, experiment.num_steps, is_whole=True)


def _prune(args: Namespace) -> None:
    if not args.identity and args.older_than is None:
        raise UserError("say what to delete: the beginning of an identity (dpo-lab cache list), or --older-than DAYS")
    summaries = summarize_stores(args.cache_dir.expanduser())
    chosen = [_by_prefix(summaries, prefix) for prefix in args.identity] if args.identity else summaries
    if args.older_than is not None:
        chosen = [summary for summary in chosen if time.time() - summary.used_at > args.older_than * DAY]
    for summary in {summary.folder: summary for summary in chosen}.values():
        if not args.dry_run:
            remove_store(summary)
        print(f"{'would delete' if args.dry_run else 'deleted'} {summary.folder}")
    if not chosen:
        _say("nothing to delete")


def _by_prefix(summaries: Sequence[StoreSummary], prefix: str) -> StoreSummary:
    found = [summary for summary in summaries if prefix and summary.identity.startswith(prefix)]
    if len(found) != 1:
        which = "no identity begins" if not found else f"{len(found)} identities begin"
        raise UserError(f"{which} with {prefix!r}; dpo-lab cache list shows them")
    return found[0]


@contextmanager
def _cached(overrides: list[str]) -> Iterator[tuple["CachedReference", "Experiment", str]]:
    """The reference of a run, where it would be asked, under the precision of the run; the run; what was typed.

    Raises:
        UserError: for whatever `dpo-lab train` would refuse, and where the reference keeps nothing.
    """
    from dpo_lab.assemble import assemble
    from dpo_lab.assemble.lightning import computing, make_trainer
    from dpo_lab.commands.compose import compose
    from dpo_lab.reference.cached import CachedReference

    config = compose(overrides)
    if config["reference"].get("cache") == "require":
        config["reference"]["cache"] = "auto"
    with computing(config["trainer"].get("num_threads")):
        experiment = assemble(config, _say)
        if not isinstance(experiment.reference, CachedReference):
            raise UserError("this run keeps no log-probs: its loss needs no reference, or its reference has no cache")
        trainer: pl.Trainer = make_trainer(experiment.trainer, num_steps=1, callbacks=[], validate_every=None)
        experiment.reference.to(trainer.strategy.root_device)
        with trainer.precision_plugin.val_step_context():
            yield experiment.reference, experiment, " ".join(overrides)


def _say(line: str) -> None:
    print(line, file=sys.stderr)


ACTIONS: dict[str, Callable[[Namespace], None]] = {
    "list": _list,
    "build": _build,
    "verify": _verify,
    "prune": _prune,
}
