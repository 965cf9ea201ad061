"""`dpo-lab explain`: what a run has learnt, token by token, and in which order its pairs were learnt."""

import sys
from argparse import ArgumentParser, Namespace, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.assemble import Experiment
    from dpo_lab.assemble.attributing import AttributionSettings
    from dpo_lab.assemble.trained import Trained
    from dpo_lab.commands.score import Asked
    from dpo_lab.explanation.shown import Teller
    from dpo_lab.logger.wandb_afterwards import Table
    from dpo_lab.module import PreferenceModule
    from dpo_lab.run import Run
    from dpo_lab.types import Example

OWN = ("out", "weights", "splits")
NUM_ROWS = 8
EXAMPLES = """\
dpo-lab explain RUN                              the first validation rows, each token with its implicit reward
dpo-lab explain RUN --rows 30 splits=train       more of them, of the training data
dpo-lab explain RUN --keys 3f2a,90bc             the rows with these responses; keys as in predictions.parquet
dpo-lab explain RUN --against OTHER_RUN          what two runs say of the same rows
dpo-lab explain RUN data=files data.path=new.jsonl    rows of other data
dpo-lab explain RUN --steps 200                  of a classifier or span reader: attributions to more exact numbers
dpo-lab explain RUN --learning                   which pairs were learnt first, never, or forgotten

One HTML page that needs no network, in RUN/explanations/ unless out=FILE says where.
"""


def main(argv: list[str]) -> int:
    """Write the page that `argv` asks for and print where it is. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        return 0
    parser = ArgumentParser(
        "dpo-lab explain",
        usage="dpo-lab explain RUN [KEY=VALUE ...] [--rows N | --keys K,...] [--against RUN] [--learning] [out=FILE]",
        description="What a run has learnt, token by token, or in which order.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its id")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="overrides; weights=, splits=, out= as in score")
    parser.add_argument("--rows", type=int, metavar="N", help=f"how many rows of data, from its first; {NUM_ROWS}")
    parser.add_argument("--keys", default="", metavar="K,K", help="rows with these responses, or beginnings of keys")
    parser.add_argument("--against", metavar="RUN", help="another run, beside it")
    parser.add_argument("--learning", action="store_true", help="in which order pairs were learnt")
    parser.add_argument(
        "--attributions",
        choices=("none", "integrated_gradients"),
        help="of which tokens a class or a span comes from; integrated_gradients for a classifier or a span reader",
    )
    parser.add_argument(
        "--attribute",
        dest="explained",
        choices=("reward", "log_prob"),
        help="the number of the page, by default, or log π: what the policy says, whatever it was trained from",
    )
    parser.add_argument("--steps", dest="num_steps", type=int, metavar="N", help="of the integral; 50")
    parser.add_argument("--baseline", choices=("mask", "pad"), help="the token that stands for a hidden one; mask")
    parser.add_argument("--wandb", action="store_true", help="also a table of a W&B run of its own, beside the run's")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where ids are looked for")
    args = parser.parse_intermixed_args(argv)
    asked = _asked(args)
    print((_learning if args.learning else _tokens)(args, asked))
    return 0


def _asked(args: Namespace) -> "Asked":
    from dpo_lab.commands.score import Asked

    if odd := [word for word in args.words if "=" not in word and not word.startswith("~")]:
        raise UserError(f"{odd[0]}: not an override; write KEY=VALUE, and the run first")
    if args.rows is not None and (args.rows < 1 or args.keys):
        raise UserError("--rows: must be at least 1, and not together with --keys, which says which rows")
    if args.learning and (args.rows or args.keys or args.against):
        raise UserError("--learning tells of all pairs of one run: it goes with no --rows, --keys or --against")
    knobs = args.explained or args.num_steps is not None or args.baseline
    if args.learning and (args.attributions or knobs):
        raise UserError("--learning attributes nothing: it goes with no --attributions and none of its knobs")
    if args.attributions == "none" and knobs:
        raise UserError("--attributions none: goes with no --attribute, --steps or --baseline")
    own = {word.partition("=")[0]: word.partition("=")[2] for word in args.words if word.partition("=")[0] in OWN}
    overrides = [word for word in args.words if word.partition("=")[0] not in OWN]
    return Asked(overrides, own.get("weights"), own.get("splits"), own.get("out"))


def _tokens(args: Namespace, asked: "Asked") -> Path:
    from dpo_lab.assemble.explanations import examples_to_explain
    from dpo_lab.commands.saved_run import heads_of
    from dpo_lab.commands.score import Asked
    from dpo_lab.explanation.page import tokens_page, write_page
    from dpo_lab.explanation.tables import TOKEN_COLUMNS, side_by_side, token_rows, without_secrets

    run, trained, experiment, settings = _of_run(asked, args.run, args)
    heads = heads_of(asked.overrides)
    split = _split(experiment, asked.splits, is_own="data" not in heads)
    keys = [key.strip() for key in args.keys.split(",") if key.strip()]
    examples = examples_to_explain(experiment, split, args.rows or NUM_ROWS, keys)
    tellers = [_teller(run, trained, experiment, settings, heads, examples)]
    if args.against is not None:
        other = _of_run(Asked([], None, None, None), args.against, args)
        tellers.append(_teller(*other, set(), examples))
    sources = [example.source or f"row {number}" for number, example in enumerate(examples, start=1)]
    lines = [f"{len(examples)} of the {split} rows; weights of {_name(run)}/{trained.place.relative_to(run.path)}."]
    out = _out(run, asked.out, "tokens")
    title = f"Token by token: {_name(run)}"
    write_page(out, tokens_page(title, lines, sources, tellers))
    if args.wandb:
        sent = [without_secrets(teller) for teller in tellers]
        tokens = TOKEN_COLUMNS, token_rows(sources, sent)
        tables = {"explanation/side_by_side": side_by_side(sources, sent), "explanation/tokens": tokens}
        _send(run, "explanation/tokens", tables, {"explanation/page": tokens_page(title, lines, sources, sent)})
    return out


def _of_run(
    asked: "Asked", word: str, args: Namespace
) -> "tuple[Run, Trained, Experiment, AttributionSettings | None]":
    """A run as `score` takes it; what its attributions are, None for none. Settled before a weight is read."""
    from dpo_lab.assemble.attributing import AttributionSettings, check_attributions
    from dpo_lab.commands.score import of_run

    given = {key: getattr(args, key) for key in ("explained", "num_steps", "baseline")}
    given = {key: value for key, value in given.items() if value is not None}
    settings = AttributionSettings(**given)
    if args.attributions == "none":
        return *of_run(asked, word, args.runs_dir), None
    is_asked = args.attributions is not None or bool(given)
    found: list[bool] = []

    def check(config: Mapping[str, Any]) -> None:
        found.append(check_attributions(config, is_asked=is_asked))

    run, trained, experiment = of_run(asked, word, args.runs_dir, check)
    return run, trained, experiment, settings if found[0] else None


def _teller(
    run: "Run",
    trained: "Trained",
    experiment: "Experiment",
    settings: "AttributionSettings | None",
    heads: set[str],
    examples: "Sequence[Example]",
) -> "Teller":
    from dpo_lab.assemble.attributing import method_of
    from dpo_lab.assemble.explanations import explain, measure_of
    from dpo_lab.commands.score import module_of
    from dpo_lab.explanation.shown import Teller

    def restore(module: "PreferenceModule") -> None:
        trained.load_into(module, is_own_reference=not {"reference", "loss"} & heads, is_own_loss="loss" not in heads)

    told = explain(experiment, module_of(experiment), examples, restore, settings)
    method = None if settings is None else method_of(experiment.policy, settings)
    return Teller(_name(run), measure_of(experiment), tuple(told), method)


def _split(experiment: "Experiment", splits: str | None, *, is_own: bool) -> str:
    from dpo_lab.assemble.scores import parts_to_score
    from dpo_lab.commands.score import chosen_parts

    return next(iter(chosen_parts(parts_to_score(experiment), splits, is_own=is_own)))


def _learning(args: Namespace, asked: "Asked") -> Path:
    from dpo_lab.commands.learning import write_learning
    from dpo_lab.commands.saved_run import heads_of
    from dpo_lab.commands.score import of_run

    if other := heads_of(asked.overrides) & {"data", "model", "loss", "reference"}:
        raise UserError(f"{sorted(other)[0]}: --learning reads what the run has recorded, and takes nothing else")
    if asked.weights is not None:
        raise UserError("weights: --learning reads what the run has recorded, and runs no model")
    run, _, experiment = of_run(asked, args.run, args.runs_dir)
    out = _out(run, asked.out, "learning")
    columns, rows = write_learning(run, experiment, asked.splits, out, _name(run))
    if args.wandb:
        _send(run, "explanation/learning", {"explanation/learning": (columns, rows)})
    return out


def _out(run: "Run", out: str | None, name: str) -> Path:
    from dpo_lab.run.links import own_folder

    file = Path(out).expanduser() if out else own_folder(run.path, "explanations") / f"{name}.html"
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{file.parent}: cannot be made: {error.strerror}; out=FILE says where else") from error
    return file


def _send(run: "Run", name: str, tables: "Mapping[str, Table]", pages: Mapping[str, str] | None = None) -> None:
    from dpo_lab.logger.wandb_afterwards import send_tables

    print(send_tables(run.path, run.config, run.info, name, tables, pages), file=sys.stderr)


def _name(run: "Run") -> str:
    folder = run.path.absolute()
    return f"{folder.parent.name}/{folder.name}"
