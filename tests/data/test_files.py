import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.files import files

GOOD = [{"prompt": f"p{n}", "chosen": "yes", "rejected": "no"} for n in range(40)]


def write(path: Path, rows: list[Any]) -> str:
    path.write_text("\n".join(json.dumps(row) for row in rows))
    return str(path)


def test_defaults(tmp_path: Path):
    source = files(path=write(tmp_path / "a.jsonl", GOOD))
    report = source.report
    assert len(source.train) + len(source.validation) == report.num_read == 40
    assert (report.num_train, report.num_validation) == (len(source.train), len(source.validation))
    assert len(source.demonstrations) == len(source.train)
    assert source.train[0].source.startswith("a.jsonl row ")
    assert (source.max_length, source.on_overflow, source.shuffle, source.true_reward) == (512, "drop", True, None)


def test_content_has_one_fingerprint_wherever_it_stands(tmp_path: Path):
    (tmp_path / "folder").mkdir()
    one = files(path=write(tmp_path / "a.jsonl", GOOD))
    other = files(path=write(tmp_path / "folder" / "b.jsonl", GOOD), max_length=9)
    assert one.fingerprint == other.fingerprint
    assert one.fingerprint != files(path=write(tmp_path / "c.jsonl", GOOD[1:])).fingerprint
    assert one.fingerprint != files(path=str(tmp_path / "a.jsonl"), split_seed=1, validation_fraction=0.5).fingerprint


def test_several_files_of_one_name_are_told_apart(tmp_path: Path):
    (tmp_path / "x").mkdir()
    paths = [write(tmp_path / "a.jsonl", GOOD[:2]), write(tmp_path / "x" / "a.jsonl", GOOD[2:4])]
    source = files(path=paths, validation_fraction=0.0)
    assert [example.source for example in source.train] == [f"{path} row {n}" for path in paths for n in (1, 2)]


def test_all_bad_rows_are_in_one_error_that_says_the_way_on(tmp_path: Path):
    bad = [{**GOOD[0], "chosen": "no"}, {**GOOD[0], "rejected": ""}]
    validation = write(tmp_path / "v.jsonl", [GOOD[0], {**GOOD[0], "chosen": 1}])
    with pytest.raises(DataError) as caught:
        files(path=write(tmp_path / "a.jsonl", GOOD + bad), validation_path=validation)
    message = str(caught.value)
    assert "3 rows cannot be used" in message
    assert "data.on_problem=drop" in message
    assert "a.jsonl row 41: " in message
    assert "a.jsonl row 42, column 'rejected'" in message
    assert "v.jsonl row 2, column 'chosen': int where text belongs: 1" in message


def test_dropped_rows_are_counted(tmp_path: Path):
    bad = [{**GOOD[0], "chosen": "no"}, {**GOOD[0], "rejected": ""}, {"prompt": "x"}]
    source = files(path=write(tmp_path / "a.jsonl", GOOD + bad), on_problem="drop", validation_fraction=0.0)
    assert source.report.counts == {"chosen_equals_rejected": 1, "empty_response": 1, "missing_column": 1}
    assert source.report.num_read == 43
    assert len(source.train) == 40
    assert source.report.num("dropped") + len(source.train) == source.report.num_read


def test_columns_that_no_row_has_are_an_error_even_when_dropping(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"question": "p", "chosen": "a", "rejected": "b"}])
    with pytest.raises(DataError, match="Columns found: question, chosen, rejected") as caught:
        files(path=path, on_problem="drop")
    assert "data.columns={prompt: question}" in str(caught.value)
    assert files(path=path, columns={"prompt": "question"}, validation_fraction=0.0).train[0].prompt == "p"


def test_column_that_nothing_reads(tmp_path: Path):
    with pytest.raises(DataError, match="promt"):
        files(path=write(tmp_path / "a.jsonl", GOOD), columns={"promt": "question"})


def test_mapped_column_that_is_not_there(tmp_path: Path):
    with pytest.raises(DataError, match="no column 'question'"):
        files(path=write(tmp_path / "a.jsonl", GOOD), columns={"prompt": "question"})


def test_validation_file_takes_the_place_of_the_split(tmp_path: Path):
    validation = write(tmp_path / "v.jsonl", [GOOD[3], {"prompt": "new", "chosen": "a", "rejected": "b"}])
    source = files(path=write(tmp_path / "a.jsonl", GOOD), validation_path=validation)
    assert (len(source.train), len(source.validation)) == (40, 2)
    assert source.report.counts == {"prompt_in_validation": 1}
    assert source.report.places == {"prompt_in_validation": ["a.jsonl row 4"]}


def test_test_file_and_test_fraction(tmp_path: Path):
    """A test file is read beside the rest; a test fraction takes prompts from training; without one nothing moves."""
    path = write(tmp_path / "a.jsonl", GOOD)
    before = files(path=path, validation_fraction=0.2)
    test = write(tmp_path / "t.jsonl", [GOOD[3], {"prompt": "new", "chosen": "a", "rejected": "b"}])
    source = files(path=path, validation_fraction=0.2, test_path=test)
    assert (source.train, source.validation, len(source.test)) == (before.train, before.validation, 2)
    assert source.report.counts == {"prompt_in_test": 1} and source.report.num_test == 2
    assert source.fingerprint != before.fingerprint == files(path=path, validation_fraction=0.2).fingerprint
    split = files(path=path, validation_fraction=0.2, test_fraction=0.2)
    assert split.validation == before.validation and len(split.train) + len(split.test) == len(before.train)
    assert split.report.lines()[
        0
    ] == f"40 rows read: {len(split.train)} train, {len(split.validation)} validation, " + (f"{len(split.test)} test")
    assert {name: len(side) for name, side in split.sets.items()}["test"] == len(split.test)
    both: dict[str, Any] = {"test_path": test, "test_fraction": 0.1}
    everything: dict[str, Any] = {"validation_fraction": 0.5, "test_fraction": 0.5}
    for wrong in (both, everything):
        with pytest.raises(DataError, match=r"one of them|nothing to train on"):
            files(path=path, **wrong)


def test_scored_lists(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "responses": ["a", "b", "c"], "scores": [1, 2, 3]}])
    assert files(path=path, validation_fraction=0.0, pairs="best_vs_rest").train[0].pairs == ((2, 1), (2, 0))


def test_ranked_lists_and_columns_that_nothing_reads(tmp_path: Path):
    rows = [
        {"instruction": "p", "input": "", "output": ["a", "b"], "history": []},
        {"instruction": "q", "input": "", "output": ["a", "b", "a"], "history": [["x", "y"]]},
        {"instruction": "r", "input": "", "output": ["a", "a"]},
    ]
    path = write(tmp_path / "a.json", rows)
    source = files(path=path, columns={"prompt": "instruction", "ranked": "output"}, validation_fraction=0.0)
    assert [example.ranking for example in source.train] == [(0, 1), (0, 1)]
    assert source.report.columns_not_read == ["input", "history"]
    assert source.report.lines()[-1] == "columns not read: input, history"
    # A list that says nothing is dropped, not refused: a model that answers twice may answer the same.
    assert source.report.counts == {"repeated_response": 1, "one_response": 1}
    assert source.report.num_read == 3


def test_nothing_but_lists_that_say_nothing(tmp_path: Path):
    path = write(tmp_path / "a.jsonl", [{"prompt": "p", "ranked": ["a"]}])
    with pytest.raises(DataError, match=r"1 row cannot be used \(1 one_response\)(.|\n)*No row of data\.path is left"):
        files(path=path)


def test_single_labels(tmp_path: Path):
    chat = [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Ho"}]
    path = write(tmp_path / "a.json", [{"messages": chat, "label": True}, {"messages": chat[:1] * 3, "label": False}])
    columns = {"conversations": "messages"}
    for mapped in (None, columns):
        source = files(path=path, columns=mapped, validation_fraction=0.0, on_problem="drop")
        assert [(e.prompt, e.responses, e.labels) for e in source.train] == [(chat[:1], (chat[1:],), (1,))]
        assert source.report.columns_not_read == []
        assert source.report.counts == {"ends_on_human_turn": 1}


def test_demonstrations_of_single_labels_are_the_desirable_ones(tmp_path: Path):
    rows = [{"prompt": "p", "response": text, "label": text == "good"} for text in ("good", "bad", "good")]
    source = files(path=write(tmp_path / "a.jsonl", rows), validation_fraction=0.0)
    assert [(e.responses, e.labels, e.pairs) for e in source.demonstrations] == [(("good",), None, ())]


def test_score_that_contradicts_its_pair_is_noted(tmp_path: Path):
    rows = [{**GOOD[score], "chosen_score": 1, "rejected_score": score} for score in (0, 1, 2)]
    source = files(path=write(tmp_path / "a.jsonl", rows), validation_fraction=0.0)
    assert source.report.counts == {"scores_of_a_tie": 1, "score_against_pair": 1}
    assert source.report.places == {"scores_of_a_tie": ["a.jsonl row 2"], "score_against_pair": ["a.jsonl row 3"]}


def test_rows_of_several_schemas_in_one_file(tmp_path: Path):
    rows = [GOOD[0], {"prompt": "q", "response": "r", "label": 0}, {"prompt": "s", "ranked": ["a", "b"], "note": 1}]
    source = files(path=write(tmp_path / "a.jsonl", rows), validation_fraction=0.0)
    assert [(e.pairs, e.labels, e.ranking) for e in source.train] == [
        (((0, 1),), None, None),
        ((), (0,), None),
        (((0, 1),), None, (0, 1)),
    ]
    assert source.report.columns_not_read == ["note"]


@pytest.mark.parametrize("name", ["a.jsonl", "a.csv", "a.json"])
def test_empty_file(tmp_path: Path, name: str):
    (tmp_path / name).write_text("")
    with pytest.raises(DataError, match="has no row"):
        files(path=str(tmp_path / name))


def test_nothing_left_after_dropping(tmp_path: Path):
    with pytest.raises(DataError, match=r"No row of data\.path is left"):
        files(path=write(tmp_path / "a.jsonl", [{**GOOD[0], "chosen": ""}]), on_problem="drop")


def test_one_file_named_twice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    path = write(tmp_path / "a.jsonl", GOOD)
    monkeypatch.chdir(tmp_path)
    for other in (path, "a.jsonl", "./a.jsonl"):
        with pytest.raises(DataError, match=r"data\.path names .*a\.jsonl twice"):
            files(path=[path, other])


def test_no_path_and_missing_path(tmp_path: Path):
    with pytest.raises(DataError, match="names no file"):
        files(path=[])
    with pytest.raises(DataError, match="does not exist"):
        files(path=str(tmp_path / "no.jsonl"))
