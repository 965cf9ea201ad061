"""Whatever is wrong with a file is said with its place, its column, its kind and what stands there."""

from pathlib import Path

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.files import files
from tests.data.bad_inputs import REFUSED, Bad
from tests.data.noted_inputs import NOTED


def write(bad: Bad, folder: Path) -> str:
    path = folder / bad.name
    path.write_bytes(bad.content)
    return str(path)


@pytest.mark.parametrize("case", REFUSED)
def test_what_is_refused_says_where_and_why(case: str, tmp_path: Path):
    bad = REFUSED[case]
    with pytest.raises(DataError) as caught:
        files(path=write(bad, tmp_path), columns=bad.columns, validation_fraction=0.0)
    message = str(caught.value)
    assert [word for word in bad.words if word not in message] == []
    assert max(map(len, message.splitlines())) < 400


@pytest.mark.parametrize("case", NOTED)
def test_what_is_noted_says_where_and_changes_nothing(case: str, tmp_path: Path):
    bad = NOTED[case]
    source = files(path=write(bad, tmp_path), columns=bad.columns, validation_fraction=0.0)
    said = "\n".join(source.report.lines())
    assert [word for word in bad.words if word not in said] == []
    assert source.train


def test_a_mapping_that_is_suggested_reads_the_file(tmp_path: Path):
    """Every mapping in the answers above, as typed."""
    num = 0
    for bad in REFUSED.values():
        with pytest.raises(DataError) as caught:
            files(path=write(bad, tmp_path), columns=bad.columns, validation_fraction=0.0)
        _, found, rest = str(caught.value).partition("Map our names to yours: 'data.columns={")
        if found:
            pairs = [pair.split(": ") for pair in rest.partition("}")[0].split(", ")]
            columns = {ours: theirs.strip('"') for ours, theirs in pairs}
            assert files(path=write(bad, tmp_path), columns=columns, validation_fraction=0.0).train
            num += 1
    assert num >= 8


def test_validation_file_that_repeats_training_rows(tmp_path: Path):
    """The same two rows on both sides: each training row is noted; they are no repeats among themselves."""
    path = write(NOTED["a column that nothing reads"], tmp_path)
    report = files(path=path, validation_path=path).report
    assert report.counts == {"prompt_in_validation": 2}
    assert report.places["prompt_in_validation"] == ["a.jsonl row 1", "a.jsonl row 2"]
