"""What a finished run gets wrong, as data for another run: a confusion of classes, or the best of its wrong spans."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np

from dpo_lab.answers import token_f1
from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.preparing import of_every_row
from dpo_lab.data.confusion import Confusion
from dpo_lab.data.mined_spans import write_mined
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.evaluation.answers import best_answers, class_log_probs, gold_classes, readable, right_answers
from dpo_lab.evaluation.classes import confusion_counts
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.classifier import classifier
from dpo_lab.model.extractive_qa import extractive_qa
from dpo_lab.model.span_policy import SpanReader, read_prompt
from dpo_lab.run.read import Run
from dpo_lab.types import Example

ASKED_FOR = 12
"""Answers that are looked at for each wrong span that is wanted: the best ones mostly overlap the right one."""

NO_JUDGEMENTS: Mapping[str, Any] = {
    "preference": "uniform",
    "confusion": None,
    "class_weights": None,
    "num_rejected": None,
    "label_noise": 0.0,
    "rejected": "none",
    "validation_path": None,
    "test_path": None,
}
"""What of the data's knobs is of no account here: which answers are rejected; files that are only evaluated on."""


@dataclass(frozen=True)
class Mined:
    """What was written: `kind` in words, and of how many rows."""

    kind: str
    num_rows: int


def mine(run: Run, file: Path, data: Mapping[str, Any], *, num: int, below: float) -> Mined:
    """Write what the exported model of `run` gets wrong on training data to `file`, with its provenance.

    A classifier gives a confusion matrix of the rows that the run trained on; a span reader, for each question of
    data.path, its `num` likeliest spans whose token F1 against the right answers is less than `below`.

    Args:
        data: knobs of the run's data that are to be others, such as ``{"path": "more.json"}``.

    Raises:
        UserError: the run is of neither kind, or has kept no model; its data is generated, or has no such knob.
    """
    folder = run.path / "model"
    if not folder.is_dir():
        raise UserError(f"{run.path} has no model/: its status is {run.status}, or trainer.save was none")
    node = dict(run.config["data"])
    unknown = [knob for knob in data if knob not in node]
    if unknown:
        raise UserError(f"data.{unknown[0]}: the data of this run has no such knob; it has {', '.join(node)}")
    if node.get("validation_path") is not None:
        node["validation_fraction"] = 0.0  # the rows of data.path are all trained on
    config = of_every_row(run.config)
    changed = {**{knob: value for knob, value in NO_JUDGEMENTS.items() if knob in node}, **data}
    target = str(config["model"]["_target_"]).rpartition(".")[2]
    if target.endswith("classifier"):
        _check_rows(node, "preference", "data=labelled")
        source = build_source({**config, "data": {**node, **changed}})
        policy = classifier(source.classes, path=str(folder), head="own").eval()
        return _mine_classes(run, policy, source, file)
    if target.endswith("extractive_qa"):
        _check_rows(node, "rejected", "data=questions")
        whole = {**node, **changed, "validation_fraction": 0.0, "test_fraction": 0.0}
        source = build_source({**config, "data": whole})
        windows = {name: config["model"][name] for name in ("window", "stride")}
        reader = extractive_qa(path=str(folder), head="own", **windows).eval()
        return _mine_spans(run, reader, source, file, num=num, below=below)
    raise UserError(f"{run.path} is a run of model={target}, and only classifiers and span readers are mined")


def _check_rows(data: Mapping[str, Any], knob: str, wanted: str) -> None:
    """
    Raises:
        UserError: the data is none whose `knob` takes what is mined.
    """
    if knob not in data:
        name = str(data["_target_"]).rpartition(".")[2]
        raise UserError(
            f"the run's data={name} is generated here and takes nothing mined; mine a run of {wanted}, whose "
            f"data.{knob} does"
        )


def _mine_classes(run: Run, policy: Classifier, source: DataSource, file: Path) -> Mined:
    golds = gold_classes(policy, source.train)
    log_probs = class_log_probs(policy, readable(policy, source.train, source.max_length))
    counts = confusion_counts(golds, log_probs.argmax(1), len(policy.classes))
    absent = [name for name, line in zip(policy.classes, counts, strict=True) if not line.any()]
    if absent:
        raise UserError(f"no training row is of class {', '.join(absent)}, so nothing is known of what it is taken for")
    means = [np.exp(log_probs[golds == number]).mean(0) for number in range(len(policy.classes))]
    Confusion(
        policy.classes,
        tuple(tuple(line) for line in counts.tolist()),
        tuple(tuple((mean / mean.sum()).tolist()) for mean in means),
        _provenance(run, policy.fingerprint(), source),
    ).write(file)
    return Mined("a confusion matrix", len(golds))


def _mine_spans(run: Run, policy: SpanReader, source: DataSource, file: Path, *, num: int, below: float) -> Mined:
    examples = source.train
    prompts = readable(policy, examples, source.max_length)
    answers = best_answers(policy, examples, prompts, ASKED_FOR * num)
    rows = [_row(example, best, num, below) for example, best in zip(examples, answers, strict=True)]
    provenance = _provenance(run, policy.fingerprint(), source) | {"num_rejected": num, "below_f1": below}
    write_mined(file, rows, provenance)
    return Mined("wrong spans", len(rows))


def _row(example: Example, answers: Any, num: int, below: float) -> dict[str, Any]:
    passage, question = read_prompt(example)
    right = right_answers(example)
    wrong: dict[str, dict[str, Any]] = {}
    for turn, log_prob in answers:
        grade = token_f1(turn["content"], right)
        if grade < below and turn["content"].strip() and len(wrong) < num:
            span = {"text": turn["content"], "answer_start": turn["start"], "log_prob": log_prob, "token_f1": grade}
            wrong.setdefault(turn["content"], span)
    turns = [cast(Any, response)[0] for response in example.responses]
    return {
        "question": question,
        "context": passage,
        "answers": [{"text": turn["content"], "answer_start": turn["start"]} for turn in turns],
        "rejected": list(wrong.values()),
    }


def _provenance(run: Run, weights: str, source: DataSource) -> dict[str, Any]:
    return {
        "run": run.info["id"],
        "weights": weights[:16],
        "data": source.fingerprint[:16],
        "texts": len(source.train),
    }
