"""`dpo-lab evaluate`: what a finished run is worth, in figures with intervals, into its folder and W&B."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.assemble import Experiment
    from dpo_lab.assemble.trained import Trained
    from dpo_lab.commands.score import Asked
    from dpo_lab.evaluation.figure import Measured
    from dpo_lab.evaluation.settings import EvaluationSettings
    from dpo_lab.judge.judge import Judge
    from dpo_lab.module import PreferenceModule
    from dpo_lab.run import Run

OF_SCORE = ("weights", "splits", "out")
EXAMPLES = """\
dpo-lab evaluate RUN                                       what fits its policy, on what the run validates on
dpo-lab evaluate RUN splits=test                           on its test, which is looked at only where asked for
dpo-lab evaluate RUN data=files data.path=pairs.jsonl      on other data, every row of it
dpo-lab evaluate RUN judge=reward_model judge.path=MODEL   win rate against the reference, by a reward model
dpo-lab evaluate RUN judge=endpoint judge.url=http://localhost:8000/v1 judge.model=NAME against=chosen
                                                           against what the data prefers, by a model that is asked
dpo-lab evaluate RUN weights=best num_samples=2000         other weights, more samples
dpo-lab evaluate RUN num_samples=0                         no samples: what the data has judged or what is ranked
dpo-lab evaluate RUN num_candidates=100                    what names items: the right one among 100 others, not all

classifiers: accuracy, macro-F1, log-loss, Brier score, calibration error, confusion; span readers: exact match, token
F1; recommenders, and what names the items of a catalogue: NDCG, hit rate, MRR; what writes text: accuracy of judged
pairs and lists or area under the curve of single judgements, beside length and reference; samples, length, KL, win rate
as it is and at equal length.
Each with a 95 % interval. It goes to RUN/evaluation/NAME.json, a row an example to NAME.jsonl; or to out=FILE.json.
"""


def main(argv: list[str]) -> int:
    """Evaluate what `argv` asks for; print a line a figure, and the file. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.commands import hydra_entry

        return hydra_entry.complete(argv, verb="evaluate")
    parser = ArgumentParser(
        "dpo-lab evaluate",
        usage="dpo-lab evaluate RUN [KEY=VALUE ...] [judge=NAME] [weights=...] [splits=val,test] [out=FILE]",
        description="What a finished run is worth: figures with 95 % intervals, by what its policy gives.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("run", metavar="RUN", help="a run's folder, or the beginning of its id")
    parser.add_argument("words", nargs="*", metavar="KEY=VALUE", help="knobs of conf/evaluate.yaml, then overrides")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where ids are looked for")
    args = parser.parse_intermixed_args(argv)
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    _evaluate(args.run, args.words, args.runs_dir)
    return 0


def _evaluate(word: str, words: Sequence[str], runs_dir: Path) -> None:
    from dpo_lab.assemble.evaluate_run import build_judge, check_knobs, check_opponent, check_ranking, evaluate_run
    from dpo_lab.assemble.scores import parts_to_score
    from dpo_lab.commands.diff import find
    from dpo_lab.commands.saved_run import config_of_run, heads_of, name_of
    from dpo_lab.commands.score import Asked, chosen_parts, every_row, module_of, of_run
    from dpo_lab.config.evaluation import compose_evaluation, is_own
    from dpo_lab.evaluation.settings import EvaluationSettings
    from dpo_lab.run import read_run

    if odd := [text for text in words if "=" not in text and not text.startswith("~")]:
        raise UserError(f"{odd[0]}: not an override; write KEY=VALUE, and the run first")
    plain = {text.partition("=")[0]: text.partition("=")[2] for text in words if text.partition("=")[0] in OF_SCORE}
    rest = [text for text in words if text.partition("=")[0] not in OF_SCORE]
    own, overrides = [text for text in rest if is_own(text)], [text for text in rest if not is_own(text)]
    settings = EvaluationSettings(**compose_evaluation(own))
    asked = Asked(overrides, plain.get("weights"), plain.get("splits"), plain.get("out"))
    run = read_run(find(word, runs_dir))
    _check_finished(run, asked.weights)
    if asked.out is not None and Path(asked.out).suffix != ".json":
        raise UserError(f"out={asked.out}: must end in .json; the rows go beside it, into .jsonl")
    heads = heads_of(overrides)
    config = config_of_run(run.config, run.info, overrides, runs_dir=runs_dir)
    if "data" in heads:
        config["data"] = every_row(config["data"], overrides)
    named = [name_of(text).partition(".")[0] for text in own]
    check_knobs(named, config)
    node: Any = settings.judge
    judge = build_judge(node, config, _say)
    run, trained, experiment = of_run(asked, word, runs_dir)
    check_ranking(experiment, named)
    check_opponent(experiment, judge, settings)
    names = list(chosen_parts(parts_to_score(experiment), asked.splits, is_own="data" not in heads))
    files = _files(run, experiment, asked, names, judge, settings)

    def restore(module: "PreferenceModule") -> None:
        trained.load_into(module, is_own_reference=not {"reference", "loss"} & heads, is_own_loss="loss" not in heads)

    found = evaluate_run(experiment, module_of(experiment), names, judge, settings, _say, restore)
    _report(run, trained, experiment, asked, own, found, files)
    _mirror(run, found, files, settings.wandb)


def _check_finished(run: "Run", weights: str | None) -> None:
    """
    Raises:
        UserError: the run is under way or has failed, and no checkpoint of it is asked for.
    """
    if run.status != "finished" and weights is None:
        raise UserError(
            f"{run.path} has not finished: its status is {run.status}; give the same command to dpo-lab train again to "
            "go on with it, or take a checkpoint: weights=last"
        )


def _files(
    run: "Run",
    experiment: "Experiment",
    asked: "Asked",
    names: Sequence[str],
    judge: "Judge | None",
    settings: "EvaluationSettings",
) -> dict[str, Path]:
    """Where the evaluation of each split goes; of its own data the same name for all runs, so that they compare."""
    from dpo_lab.report.content import file_name
    from dpo_lab.run.evaluations import FOLDER
    from dpo_lab.run.links import own_folder

    data = ""
    if any(text.lstrip("+").startswith(("data=", "data.")) for text in asked.overrides):
        path = next((text.partition("=")[2] for text in asked.overrides if text.startswith("data.path=")), "data")
        data = f"{file_name(Path(path).name.partition('.')[0]) or 'data'}-{experiment.contents['data'][:8]}-"
    parts = [
        None if asked.weights in (None, "model") else asked.weights,
        None if judge is None else judge.label,
        settings.against,
        f"candidates-{settings.num_candidates}" if settings.num_candidates else None,
    ]
    ending = "".join(f"-{file_name(part)}" for part in parts if part)
    if asked.out is None:
        folder = own_folder(run.path, FOLDER)
        files = {name: folder / f"{data}{name}{ending}.json" for name in names}
    else:
        out = Path(asked.out).expanduser()
        files = {name: out if len(names) == 1 else out.with_stem(f"{out.stem}-{name}") for name in names}
    try:
        next(iter(files.values())).parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be made: {error.strerror}; out=FILE says where else") from error
    return files


def _report(
    run: "Run",
    trained: "Trained",
    experiment: "Experiment",
    asked: "Asked",
    own: Sequence[str],
    found: "Mapping[str, Measured]",
    files: Mapping[str, Path],
) -> None:
    from dpo_lab.run import collect_provenance
    from dpo_lab.run.evaluations import write_evaluation
    from dpo_lab.run.redaction import redact_override

    code = collect_provenance()["code"]
    for name, measured in found.items():
        record = {
            "run": run.info["id"],
            "weights": str(trained.place.relative_to(run.path)),
            "step": trained.step,
            "split": name,
            "figures": {figure: value.as_dict() for figure, value in measured.figures.items()},
            "details": measured.details,
            "overrides": [redact_override(text) for text in [*asked.overrides, *own]],
            "seed": experiment.seeds["sampling"],
            "hashes": experiment.contents,
            "code": code,
        }
        write_evaluation(files[name], record, measured.rows)
        for figure, value in measured.figures.items():
            print(f"{name}: {figure} {value.text()}")
        print(files[name])


def _mirror(run: "Run", found: "Mapping[str, Measured]", files: Mapping[str, Path], wanted: bool | None) -> None:
    """Send the figures to W&B, and the rows where texts may go; trouble is said and costs nothing.

    Args:
        wanted: None is where the run itself was mirrored.
    """
    from dpo_lab.logger.wandb_afterwards import lets_texts_go, send_afterwards

    is_mirrored = bool((run.info.get("wandb") or {}).get("id")) and os.environ.get("WANDB_MODE") != "disabled"
    if not (is_mirrored if wanted is None else wanted):
        return
    for split, measured in found.items():
        name = f"evaluation/{files[split].stem}"
        summary: dict[str, Any] = {}
        for figure, value in measured.figures.items():
            summary |= {f"{name}/{figure}{part}": getattr(value, key) for part, key in _PARTS.items()}
        columns = list(dict.fromkeys(column for row in measured.rows for column in row))
        rows = [[row.get(column) for column in columns] for row in measured.rows]
        tables = {name: (columns, rows)} if lets_texts_go(run.config) else None
        try:
            _say(send_afterwards(run.path, run.config, run.info, name, "evaluate", summary=summary, tables=tables))
        except UserError as error:
            _say(f"{error}; the run folder has everything")


_PARTS = {"": "value", "_low": "low", "_high": "high"}


def _say(line: str) -> None:
    print(line, file=sys.stderr)
