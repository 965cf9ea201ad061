"""Steps in the readers of files: where they act, what they count, what they never touch."""

import json
from pathlib import Path
from typing import Any, cast

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.files import files
from dpo_lab.data.labelled import labelled
from dpo_lab.data.preparation import BeforeSplit, OfTraining, Preparation, Work
from dpo_lab.data.questions import questions
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import Split, prompt_key
from dpo_lab.prepare.clean import clean
from dpo_lab.prepare.drop_duplicates import drop_duplicates
from dpo_lab.prepare.match_lengths import match_lengths
from dpo_lab.prepare.templates import templates
from dpo_lab.prepare.word_dropout import word_dropout

ROWS = [
    {"prompt": f"prompt number {n % 50} of fifty", "chosen": f"good {n}" + "!" * (n % 3), "rejected": f"bad\x00 {n}"}
    for n in range(200)
]
STEPS = {
    "clean": clean(),
    "drop_duplicates": drop_duplicates(),
    "word_dropout": word_dropout(rate=0.3),
    "templates": templates(templates=["Q: {prompt}"], num_copies=0),
}


def write(name: str, rows: list[Any]) -> str:
    Path(name).write_text("\n".join(json.dumps(row) for row in rows))
    return name


def test_every_row_is_accounted_for_and_held_out_rows_are_only_cleaned(workplace: Path):
    path = write("a.jsonl", [*ROWS, *ROWS[:20]])
    knobs: dict[str, Any] = {"path": path, "validation_fraction": 0.2, "test_fraction": 0.2}
    cleaned = files(Preparation({name: STEPS[name] for name in ("clean", "drop_duplicates")}), **knobs)
    source = files(Preparation(STEPS), **knobs)
    assert source.validation == cleaned.validation and source.test == cleaned.test
    report = source.report
    assert [step["step"] for step in report.prepared] == list(STEPS)
    steps = {step["step"]: step for step in report.prepared}
    assert all(step["kept"] == step["read"] - step["dropped"] + step["made"] for step in report.prepared)
    assert steps["clean"]["read"] == report.num_read == 220 and steps["clean"]["changed"] == 220
    assert steps["drop_duplicates"]["dropped"] == report.counts["repeated_row"] == 20
    assert steps["word_dropout"]["read"] == len(cleaned.train) == 200 - report.num_validation - report.num_test
    assert steps["templates"]["kept"] == report.num_train == len(source.train)
    assert len(source.train) == len(cleaned.train) + steps["word_dropout"]["made"]
    assert not {"control_character", "duplicate_judgement"} & report.counts.keys()
    assert "prepared by drop_duplicates: 220 rows, 20 dropped, 200 left" in report.lines()
    assert DataReport.from_dict(report.as_dict()).lines() == report.lines()


def test_copies_stand_on_the_side_of_their_row(workplace: Path):
    source = files(Preparation({"drop": word_dropout(rate=0.3, num_copies=3)}), path=write("a.jsonl", ROWS))
    plain = files(path="a.jsonl")
    places = {example.source for example in plain.train}
    assert len(source.train) > 3 * len(plain.train)
    assert {example.source.partition(",")[0] for example in source.train} == places
    held_out = {prompt_key(example.prompt) for example in source.validation}
    assert not held_out & {prompt_key(example.prompt) for example in source.train}
    demonstrated = {prompt_key(example.prompt) for example in source.demonstrations}
    assert demonstrated == {prompt_key(example.prompt) for example in source.train}


def test_the_same_steps_give_the_same_data_and_others_give_another(workplace: Path):
    path = write("a.jsonl", ROWS)
    plain = files(path=path).fingerprint
    prints = [files(Preparation({name: STEPS[name]}), path=path).fingerprint for name in ("clean", "word_dropout")]
    prints.append(files(Preparation({"w": word_dropout(rate=0.3, seed=1)}), path=path).fingerprint)
    assert len({plain, *prints}) == 4
    assert files(Preparation({"clean": clean()}), path=path).fingerprint == prints[0]
    assert files(Preparation({"w": word_dropout(rate=0.3)}), path=path).fingerprint == prints[1]


def test_a_copy_in_training_of_what_is_held_out_goes(workplace: Path):
    path, validation = write("a.jsonl", ROWS), write("v.jsonl", ROWS[:10])
    source = files(Preparation({"d": drop_duplicates(of="prompts")}), path=path, validation_path=validation)
    assert (len(source.train), len(source.validation)) == (40, 10)
    assert "prompt_in_validation" not in source.report.counts


def test_equal_texts_of_one_class_are_one_whatever_is_drawn_for_them(workplace: Path):
    rows = [{"text": text, "label": "abcde"[n % 5]} for n in range(40) for text in (f"title {n}", f" title {n}\u200b")]
    steps = Preparation({"clean": clean(), "drop_duplicates": drop_duplicates()})
    source = labelled(steps, path=write("a.jsonl", rows), num_rejected=2)
    assert source.report.counts == {"repeated_row": 40}
    assert len(source.train) + len(source.validation) == 40
    assert all(example.prompt == str(example.prompt).strip() for example in source.train)
    copies = labelled(
        Preparation({"word_dropout": word_dropout(rate=0.5)}), path=write("c.jsonl", rows[::2]), num_rejected=2
    )
    made = [example for example in copies.train if "word_dropout" in example.source]
    gold = {example.source: example.responses for example in copies.train}
    assert made and all(example.responses == gold[example.source.partition(",")[0]] for example in made)


def test_spans_of_questions_are_still_spans(workplace: Path):
    passage = "\ufeffOn  Monday\x00 Ann met Bob\r\nin Caf\u0065\u0301 Nero."
    asked = [("who met Bob?", "Ann", "Bob"), ("where did they meet?", "Caf\u0065\u0301 Nero", "Monday")]
    rows = [
        {
            "question": question,
            "context": passage + f" It was day {n}.",
            "answers": [{"text": right, "answer_start": passage.index(right)}],
            "rejected": [{"text": wrong, "answer_start": passage.index(wrong)}],
        }
        for n in range(10)
        for question, right, wrong in asked
    ]
    steps = Preparation({"clean": clean(whitespace="collapse"), "word_dropout": word_dropout(rate=0.4)})
    source = questions(steps, path=write("q.jsonl", rows))
    assert source.report.prepared[0]["changed"] == 20 and source.report.prepared[1]["made"] > 5
    for example in source.train:
        prompt, responses = cast(Any, example.prompt), cast(Any, example.responses)
        text = prompt[0]["content"]
        assert text.startswith("On Monday Ann met Bob\nin Café Nero.")
        for [turn] in responses:
            assert text[turn["start"] : turn["start"] + len(turn["content"])] == turn["content"]
    assert len(questions(Preparation({"d": drop_duplicates()}), path=write("r.jsonl", rows * 2)).train) > 10


def test_what_a_step_is_not_for_is_refused_before_any_file_is_looked_for():
    steps = Preparation({"match_lengths": match_lengths()})
    with pytest.raises(DataError, match=r"prepare.match_lengths: responses are names of classes"):
        labelled(steps, path="absent.jsonl")
    with pytest.raises(DataError, match=r"prepare.match_lengths: responses are pieces of a passage"):
        questions(steps, path="absent.jsonl")


def test_a_step_that_empties_a_file_is_named(workplace: Path):
    def drop_all(sides: Split, work: Work) -> Split:
        for example in sides.train:
            work.drop("empty_after_cleaning", example.source)
        return Split([], [], [])

    nothing = BeforeSplit(drop_all)
    with pytest.raises(DataError, match=r"prepare.nothing has left none of the 200 rows of data.path"):
        files(Preparation({"nothing": nothing}), path=write("a.jsonl", ROWS))
    same = [{"prompt": f"p{n}", "chosen": "longer", "rejected": "short"} for n in range(40)]
    with pytest.raises(DataError, match=r"prepare.match_lengths has left none of the \d+ rows of training"):
        files(Preparation({"match_lengths": match_lengths()}), path=write("b.jsonl", same))


def test_a_step_that_counts_wrongly_is_refused(workplace: Path):
    with pytest.raises(ValueError, match="silent was given"):
        files(Preparation({"silent": OfTraining(lambda rows, work: list(rows)[1:])}), path=write("a.jsonl", ROWS))
