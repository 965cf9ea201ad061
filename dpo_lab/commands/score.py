"""`dpo-lab score`: log-probs, rewards and margins of data, response by response, without training."""

import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from dpo_lab.assemble import Experiment
    from dpo_lab.assemble.scores import Scores
    from dpo_lab.assemble.trained import Trained
    from dpo_lab.module import PreferenceModule
    from dpo_lab.run import Run

OWN = ("out", "weights", "splits")
EXAMPLES = """\
dpo-lab score RUN                                           the data that the run validates on
dpo-lab score RUN splits=train,val,test                     all of its data
dpo-lab score RUN data=files data.path=pairs.jsonl          other data, every row of it
dpo-lab score RUN weights=best out=best.parquet             of another checkpoint: best, last, or its step
dpo-lab score RUN data=files data.path=pairs.jsonl loss=ipo by the reward of another loss
dpo-lab score model=causal_lm model.path=TRAINED reference.path=BASE data=files data.path=pairs.jsonl    without a run

A row a response: split, source, key, group, role, policy_log_prob, reference_log_prob, length, reward, and of its pair
margin (of rewards), policy_margin and reference_margin (nats). It goes to RUN/scores/, without a run to
runs/.reports/, or to out=FILE; beside it a .json with the means, and what it was made from.
"""


def main(argv: list[str]) -> int:
    """Score what `argv` asks for, print a line about each split, and the file. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.commands import hydra_entry

        return hydra_entry.complete(argv, verb="score")
    parser = ArgumentParser(
        "dpo-lab score",
        usage="dpo-lab score [RUN] [KEY=VALUE ...] [weights=model|last|best|STEP] [splits=val,test] [out=FILE]",
        description="What a policy and its reference say of data, without training.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("words", nargs="+", metavar="RUN | KEY=VALUE", help="a run's folder or id, then overrides")
    parser.add_argument("--runs-dir", type=Path, default=Path("runs"), metavar="DIR", help="where ids are looked for")
    args = parser.parse_intermixed_args(argv)
    first, *rest = args.words
    is_run = "=" not in first or Path(first).is_dir()
    words = rest if is_run else args.words
    own = {word.partition("=")[0]: word.partition("=")[2] for word in words if word.partition("=")[0] in OWN}
    overrides = [word for word in words if word.partition("=")[0] not in OWN]
    if odd := [word for word in overrides if "=" not in word and not word.startswith("~")]:
        raise UserError(f"{odd[0]}: not an override; write KEY=VALUE, and the run first")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    asked = Asked(overrides, own.get("weights"), own.get("splits"), own.get("out"))
    _score(asked, first if is_run else None, args.runs_dir)
    return 0


@dataclass(frozen=True)
class Asked:
    """What the command line says; None where it says nothing."""

    overrides: Sequence[str]
    weights: str | None
    splits: str | None
    out: str | None


def _score(asked: Asked, word: str | None, runs_dir: Path) -> None:
    from dpo_lab.assemble.scores import parts_to_score, score
    from dpo_lab.commands.saved_run import heads_of

    run, trained, experiment = of_run(asked, word, runs_dir) if word is not None else _without_run(asked)
    heads = heads_of(asked.overrides)
    parts = chosen_parts(parts_to_score(experiment), asked.splits, is_own=run is not None and "data" not in heads)
    _say(f"policy: {trained.place}" if trained is not None else "policy: as the config builds it")
    module = module_of(experiment)

    def restore(_: Any) -> None:
        if trained is not None:
            trained.load_into(
                module, is_own_reference=not {"reference", "loss"} & heads, is_own_loss="loss" not in heads
            )

    step = 0 if trained is None or trained.step is None else trained.step
    found = score(experiment, module, parts, step, _say, restore)
    out = Path(asked.out).expanduser() if asked.out else _place(run, runs_dir, experiment, asked)
    _write(found, experiment, out, _record(found, experiment, run, trained, asked))
    for split, one in found.items():
        print(f"{split}: {describe(one, experiment)}")
    print(out)


def module_of(experiment: "Experiment") -> "PreferenceModule":
    """What scores, with the weights that the run began with."""
    from dpo_lab.module import PreferenceModule

    return PreferenceModule(
        experiment.policy,
        experiment.reference,
        experiment.objective,
        experiment.make_optimizer,
        clip_norm=None,
        seed=experiment.seeds["dropout"],
    )


def of_run(
    asked: Asked, word: str, runs_dir: Path, check: Callable[[Mapping[str, Any]], object] = lambda _: None
) -> "tuple[Run, Trained, Experiment]":
    """A run, its weights, and what they are put into; `check` sees the config before anything is built from it."""
    from dpo_lab.assemble.scores import assemble_scores
    from dpo_lab.assemble.trained import MODEL, find_trained
    from dpo_lab.commands.diff import find
    from dpo_lab.commands.saved_run import config_of_run, heads_of
    from dpo_lab.run import read_run

    run = read_run(find(word, runs_dir))
    if not run.config:
        raise UserError(f"{run.path} has no config.yaml: nothing says what its policy is")
    config = config_of_run(run.config, run.info, asked.overrides, runs_dir=runs_dir)
    check(config)
    trained = find_trained(run.path, run.info, asked.weights or MODEL, _say)
    heads = heads_of(asked.overrides)
    data = every_row(config["data"], asked.overrides) if "data" in heads else None
    own = config if data is None else {**config, "data": run.config["data"]}
    experiment = assemble_scores(own, data, _say)
    _check_same(run, experiment, heads)
    return run, trained, experiment


def _without_run(asked: Asked) -> "tuple[None, None, Experiment]":
    from dpo_lab.assemble import assemble
    from dpo_lab.assemble.preparing import of_every_row
    from dpo_lab.commands.compose import compose

    if asked.weights is not None:
        raise UserError("weights: names a checkpoint of a run; without a run, the policy is model.path")
    config = compose([*asked.overrides, "logger=local"])
    return None, None, assemble(of_every_row({**config, "data": every_row(config["data"], asked.overrides)}), _say)


def every_row(data: Mapping[str, Any], overrides: Sequence[str]) -> dict[str, Any]:
    """`data` without the splits that nobody has asked for: of a file to be scored no row stands apart."""
    given = {text.lstrip("+").partition("=")[0] for text in overrides}
    whole = {"validation_path": None, "validation_fraction": 0.0, "test_path": None, "test_fraction": 0.0}
    whole |= {"num_test_pairs": 0}
    return {**data, **{key: value for key, value in whole.items() if key in data and f"data.{key}" not in given}}


def _check_same(run: "Run", experiment: "Experiment", heads: set[str]) -> None:
    """
    Raises:
        UserError: policy or reference begin as something else than the run's, and nobody has asked for that.
    """
    hashes = run.info.get("hashes") or {}
    asked = {"tokenizer": {"model"}, "initial_weights": {"model", "start"}, "reference": {"reference", "loss", "model"}}
    for name, by in asked.items():
        now, then = experiment.contents.get(name), hashes.get(name)
        if then is not None and now is not None and now != then and not by & heads:
            raise UserError(
                f"{name.replace('_', ' ')}: {str(then)[:12]} in the run, {now[:12]} now: not what the run had, so its "
                "rewards cannot be computed; dpo-lab reproduce says what else differs"
            )


def chosen_parts(parts: Mapping[str, Any], splits: str | None, *, is_own: bool) -> dict[str, Any]:
    """Of the run's own data what it validates on (the test is nobody's to look at without being asked), of other data
    everything, unless `splits` says which."""
    if splits is None:
        return {"val": parts["val"]} if is_own and "val" in parts else dict(parts)
    names = splits.split(",")
    if unknown := [name for name in names if name not in parts]:
        raise UserError(f"splits={splits}: there is no {unknown[0]}; the data has {', '.join(parts)}")
    return {name: parts[name] for name in names}


def describe(scores: "Scores", experiment: "Experiment") -> str:
    """Accuracy, margin and loss in a line."""
    from dpo_lab.data.view import UNITS

    curves, unit = scores.curves, UNITS[experiment.train.view.kind]
    words = [f"{scores.num_items} {unit}"]
    if "rewards/accuracies" in curves:
        words = [
            f"accuracy {curves['rewards/accuracies']:.3f} on {words[0]}",
            f"margin {curves['rewards/margins']:.4g}",
        ]
    words.append(f"loss {curves['loss']:.4g}")
    shifts = [
        f"{name} {curves[f'log_ratios/{name}']:+.3g}"
        for name in ("chosen", "rejected")
        if f"log_ratios/{name}" in curves
    ]
    return ", ".join(words) + (f"; log-ratios, nats: {', '.join(shifts)}" if shifts else "")


def _place(run: "Run | None", runs_dir: Path, experiment: "Experiment", asked: Asked) -> Path:
    from dpo_lab.report.content import file_name
    from dpo_lab.run.links import own_folder

    path = next((text.partition("=")[2] for text in asked.overrides if text.startswith("data.path=")), None)
    label = "val" if path is None and run is not None else file_name(Path(path or "data").name.partition(".")[0])
    label = label if asked.splits is None or run is None else file_name(asked.splits)
    ending = "" if asked.weights in (None, "model") else f"-{file_name(asked.weights)}"
    name = f"{label or 'data'}-{experiment.contents['data'][:8]}{ending}.parquet"
    return runs_dir / ".reports" / f"scores-{name}" if run is None else own_folder(run.path, "scores") / name


def _record(
    found: "Mapping[str, Scores]",
    experiment: "Experiment",
    run: "Run | None",
    trained: "Trained | None",
    asked: Asked,
) -> dict[str, Any]:
    from dpo_lab.run import collect_provenance
    from dpo_lab.run.redaction import redact_override

    return {
        "run": None if run is None else str(run.path.absolute()),
        "weights": None if trained is None else str(trained.place),
        "step": None if trained is None else trained.step,
        "overrides": [redact_override(text) for text in asked.overrides],
        "loss": [term.name for term in experiment.objective.terms],
        "hashes": experiment.contents,
        "code": collect_provenance()["code"],
        "splits": {split: {"num_items": one.num_items, **one.curves} for split, one in found.items()},
    }


def _write(found: "Mapping[str, Scores]", experiment: "Experiment", out: Path, record: Mapping[str, Any]) -> None:
    from dpo_lab.run.files import write_json
    from dpo_lab.run.scores import score_table, write_scores

    tables = [score_table(one.columns, _places(split, one, experiment)) for split, one in found.items()]
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"{out.parent}: cannot be made: {error.strerror}; out=FILE says where else") from error
    write_scores(out, tables)
    write_json(out.with_suffix(".json"), record)


def _places(split: str, scores: "Scores", experiment: "Experiment") -> dict[str, str]:
    """Where each response stands, by its key."""
    from dpo_lab.data.locate import locate
    from dpo_lab.run.hex_key import hex_key, key_of_hex

    source, policy = experiment.source, experiment.policy
    rows = source.sets["validation" if split == "val" else split]
    keys = [key_of_hex(key) for key in scores.columns["key"]]
    places = locate(keys, rows, policy.encode, source.max_length, source.on_overflow, policy.end_id)
    return {hex_key(*key): place for key, place in places.items()}


def _say(line: str) -> None:
    print(line, file=sys.stderr)
