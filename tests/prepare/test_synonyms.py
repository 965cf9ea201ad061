import json
from pathlib import Path

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.prepare.synonyms import read_synonyms, synonyms
from tests.prepare.rows import on_training, pair

KNOWN = {"film": ["movie", "picture"], "old film": ["classic"], "电影": ["影片"]}


def write(folder: Path, name: str = "s.json", text: str = json.dumps(KNOWN)) -> str:
    (folder / name).write_text(text, encoding="utf-8")
    return name


def test_whole_words_are_replaced_the_longest_first_and_case_is_kept(workplace: Path):
    step = synonyms(path=write(workplace), rate=0.999, num_copies=0)
    rows = [pair("Old film or filming? Film."), pair("看电影吧"), pair("nothing known")]
    prepared, counts = on_training(step, rows)
    assert prepared[0].prompt in ("Classic or filming? Movie.", "Classic or filming? Picture.")
    assert [row.prompt for row in prepared[1:]] == ["看影片吧", "nothing known"]
    assert counts["changed"] == 2


def test_the_rate_is_of_known_words(workplace: Path):
    """3000 known words, rate 0.3: 900, standard deviation 25; both alternatives about as often."""
    step = synonyms(path=write(workplace), rate=0.3, num_copies=0)
    prepared, _ = on_training(step, [pair(f"{n} film film film") for n in range(1000)])
    words = " ".join(str(row.prompt) for row in prepared).split()
    assert abs(words.count("movie") + words.count("picture") - 900) < 100
    assert abs(words.count("movie") - words.count("picture")) < 120


def test_both_forms_of_the_file_say_the_same(workplace: Path):
    lines = "film\tmovie\tpicture\n\nold film\tclassic\n电影\t影片\nFILM\tmovie\n"
    assert read_synonyms(write(workplace, "s.tsv", lines)) == read_synonyms(write(workplace)) == KNOWN


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("s.json", "[1]", r"is no object"),
        ("s.json", '{"a": "b"}', r"alternatives of 'a' are no list"),
        ("s.json", '{"a": []}', "no word with an alternative"),
        ("s.json", "{", "s.json: "),
        ("s.tsv", "film movie\n", "line 1 is no word with alternatives"),
        ("s.tsv", "film\tmovie\n\tb\n", "line 2"),
        ("s.tsv", "film\tfilm\n", "no word with an alternative"),
    ],
)
def test_files_that_hold_anything_else_are_refused_before_any_row_is_read(workplace: Path, name, text, said):
    with pytest.raises(DataError, match=said):
        synonyms(path=write(workplace, name, text))
    with pytest.raises(DataError, match="is no file"):
        synonyms(path="absent.tsv")
