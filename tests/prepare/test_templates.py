from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.prepare.templates import templates
from tests.prepare.rows import on_training, pair

THREE = ["Q: {prompt}\nA:", "{prompt} Be brief.", "Please: {prompt}"]


def test_each_copy_has_a_template_of_its_own():
    rows: list[Any] = [pair(f"p{n} {{x}}") for n in range(200)]
    prepared, counts = on_training(templates(templates=THREE, num_copies=3), rows)
    for number, row in enumerate(rows):
        group = prepared[4 * number : 4 * number + 4]
        assert group[0] == row
        assert sorted(str(copy.prompt) for copy in group[1:]) == sorted(
            t.replace("{prompt}", row.prompt) for t in THREE
        )
    assert (counts["made"], counts["kept"]) == (600, 800)
    one, _ = on_training(templates(templates=THREE), rows)
    firsts = [str(row.prompt)[0] for row in one[1::2]]
    assert all(40 < firsts.count(letter) < 95 for letter in "QpP")


def test_a_file_has_one_a_line(workplace: Path):
    (workplace / "t.txt").write_text("Q: {prompt}\\nA:\n\n{prompt} Be brief.\r\n", encoding="utf-8")
    prepared, _ = on_training(templates(templates="t.txt", num_copies=2), [pair("p")])
    assert {row.prompt for row in prepared} == {"p", "Q: p\nA:", "p Be brief."}


def test_what_cannot_be_filled_in_is_refused_before_any_row_is_read():
    for wrong in (["no place"], ["{prompt} {prompt}"]):
        with pytest.raises(DataError, match=r"must hold {prompt} once"):
            templates(templates=wrong)
    with pytest.raises(DataError, match="4 copies of a row need as many templates, and there are 3"):
        templates(templates=THREE, num_copies=4)
    with pytest.raises(DataError, match="there is no file"):
        templates(templates="absent.txt")
    with pytest.raises(DataError, match="there are 0"):
        templates(templates=[])
