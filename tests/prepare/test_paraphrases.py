import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.preparation import Preparation
from dpo_lab.prepare.copies import HELD_OUT, SAME
from dpo_lab.prepare.paraphrase_file import Of, Paraphrases, read_paraphrases
from dpo_lab.prepare.paraphrases import ALIKE, LEAK, NOT_ALL, paraphrases
from tests.prepare.rows import on_training, pair

PROVENANCE = {"model": "M", "weights": "ab", "data": "cd", "instruction": "say\nit"}


def write(of: Of, rewrites: dict[str, list[str]]) -> str:
    Paraphrases(of, rewrites, PROVENANCE).write(Path("p.json"))
    return "p.json"


def test_prompts_by_hand(workplace: Path):
    """Of three paraphrases one is held out; the text of a chat is that of the user's last turn."""
    path = write("prompts", {"p": ["one", "held", "two"], "q": ["q"]})
    chat = [{"role": "system", "content": "p"}, {"role": "user", "content": "p"}]
    rows = [pair("p", source="a"), pair("q"), pair("unknown"), pair(chat)]
    prepared, counts = on_training(paraphrases(path=path), rows, [pair("held")])
    assert [row.prompt for row in prepared[:3]] == ["p", "one", "two"]
    assert [row.source for row in prepared[:3]] == ["a", "a, step 1", "a, step 3"]
    assert [row.prompt[-1]["content"] for row in prepared[5:]] == ["p", "one", "held", "two"]
    assert all(row.prompt[0] == chat[0] for row in prepared[5:])
    assert counts["details"] == {HELD_OUT: 1, SAME: 1} and counts["made"] == 5
    assert len(on_training(paraphrases(path=path, num_copies=1), rows)[0]) == 6


def test_what_is_held_out_in_another_spelling_gets_no_copy(workplace: Path):
    """The split is another than when the file was written: `p` and a paraphrase of `q` are held out by now."""
    rows = [pair("P  p"), pair("q"), pair("r")]
    path = write("prompts", {"P  p": ["one"], "q": ["HELD", "two"], "r": ["three"]})
    prepared, counts = on_training(paraphrases(path=path), rows, [pair("p P"), pair("p p"), pair(" held")])
    assert [row.prompt for row in prepared] == ["P  p", "q", "two", "r", "three"]
    assert counts["details"] == {LEAK: 1, HELD_OUT: 1} and counts["made"] == 2
    path = write("responses", {"good": ["fine"], "bad": ["poor"]})
    prepared, counts = on_training(paraphrases(path=path), rows[:2], [pair("p p")])
    assert [row.prompt for row in prepared] == ["P  p", "q", "q"] and counts["details"] == {LEAK: 1}


def test_responses_are_rewritten_all_or_none(workplace: Path):
    """The second paraphrase of both is the same, and of `worse` there is none; the blank in front stays."""
    path = write("responses", {" good": ["fine", "nice", "well"], "bad": ["poor", "nice"], "better": ["finer"]})
    turn = [{"role": "assistant", "content": "bad"}]
    rows = [pair("p", " good", turn, "a"), pair("q", "better", "worse")]
    prepared, counts = on_training(paraphrases(path=path), rows)
    assert prepared[0] == rows[0] and prepared[2] == rows[1] and len(prepared) == 3
    assert prepared[1].responses == (" fine", [{"role": "assistant", "content": "poor"}])
    assert (prepared[1].pairs, prepared[1].source) == (((0, 1),), "a, step 1")
    assert counts["details"] == {ALIKE: 1, NOT_ALL: 1}
    with pytest.raises(DataError, match="names of classes"):
        Preparation({"paraphrases": paraphrases(path=path)}).check("classes")
    Preparation({"paraphrases": paraphrases(path=write("prompts", {}))}).check("classes")


def test_where_they_come_from_is_said(workplace: Path):
    found = read_paraphrases(write("prompts", {"p": ["one"]}))
    assert (found.of, found.rewrites, found.provenance) == ("prompts", {"p": ["one"]}, PROVENANCE)
    assert found.said() == "paraphrases of 1 prompts; model M, weights ab, data cd"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ("{", "is no JSON"),
        ("[]", "is no file that `dpo-lab paraphrase` wrote"),
        (json.dumps({"format": "dpo_lab paraphrases 1"}), "is damaged"),
        (
            json.dumps({"format": "dpo_lab paraphrases 1", "of": "prompts", "provenance": {}, "rewrites": {"a": "b"}}),
            "is damaged",
        ),
    ],
)
def test_other_files_are_refused(workplace: Path, content: str, said: str):
    Path("p.json").write_text(content)
    with pytest.raises(DataError, match=said):
        paraphrases(path="p.json")
    with pytest.raises(DataError, match=r"Write one with `dpo-lab paraphrase --out absent.json`"):
        paraphrases(path="absent.json")


def test_report_says_it(workplace: Path):
    from dpo_lab.data.report import DataReport
    from dpo_lab.data.split import Split

    report = DataReport()
    steps: Any = {"paraphrases": paraphrases(path=write("prompts", {"p": ["one"]}))}
    Preparation(steps).of_training(Split([pair("p")], [], []), "texts", report)
    assert report.lines()[-1] == "made with p.json: paraphrases of 1 prompts; model M, weights ab, data cd"
