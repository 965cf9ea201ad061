"""Whatever bytes a file of a run folder holds, what is read is what the run wrote, or the reader says what is wrong."""

from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.commands import cli
from dpo_lab.errors import UserError
from dpo_lab.report.build import build_report
from dpo_lab.report.pairs import read_pairs
from dpo_lab.report.records import RunRecord, read_record
from dpo_lab.report.study import Study, read_study
from dpo_lab.report.write import markdown
from dpo_lab.reproduction.original import read_original
from dpo_lab.run.digests import DIGESTED
from dpo_lab.run.read import read_run
from tests.report.damage import VALUES, DamagedStudy, examples

damages = st.binary(max_size=24) | st.builds(
    lambda kind, place, value: bytes([kind, place]) + value,
    st.integers(0, 255),
    st.integers(0, 255),
    st.sampled_from(VALUES) | st.from_regex(rb"[0-9.,:{}\"\\-]{0,4}", fullmatch=True),
)


@pytest.fixture(scope="module", params=[True, False], ids=["with hashes", "of before there were any"])
def study(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> DamagedStudy:
    return DamagedStudy.make(tmp_path_factory.mktemp("damaged") / "runs", with_digests=request.param)


@pytest.fixture(scope="module")
def hashed(tmp_path_factory: pytest.TempPathFactory) -> DamagedStudy:
    return DamagedStudy.make(tmp_path_factory.mktemp("hashed") / "runs", with_digests=True)


def every(law: Callable[[bytes], None], num: int) -> None:
    """`law` holds of a third of the known kinds of damage, and of `num` that are drawn."""
    for data in examples()[::3]:
        law(data)
    settings(max_examples=num)(given(damages)(law))()


def test_readers_raise_nothing_but_their_own(study: DamagedStudy):
    def law(data: bytes) -> None:
        with study.suffering(study.read(data)) as run:
            for read in (read_run, read_original):
                with suppress(UserError):
                    read(run)
            read_record(run)

    every(law, 60)


def test_what_is_read_is_what_the_run_wrote(hashed: DamagedStudy):
    """Of a file that has a hash; what other files say is not touched by it."""
    sound = read_record(hashed.damaged)

    def law(data: bytes) -> None:
        damage = hashed.read(data)
        with hashed.suffering(damage) as run:
            record = read_record(run)
        if damage.file in DIGESTED and damage.content != hashed.sound[damage.file]:
            is_named = any(fault.startswith(damage.file) for fault in record.faults)
            assert is_named or damage.file == "predictions.parquet"  # which a record does not hold
        elif not record.faults:
            assert values_of(record) == values_of(sound)

    every(law, 100)


def test_figures_of_a_study_are_those_of_sound_runs(hashed: DamagedStudy):
    """The damaged run is as it was, or left out by name; where its pairs are damaged, they are."""
    whole = read_study([hashed.runs_dir])
    rest = read_study([run for run in hashed.runs if run != hashed.damaged])

    def law(data: bytes) -> None:
        damage = hashed.read(data)
        with hashed.suffering(damage):
            found = read_study([hashed.runs_dir])
        name = f"{hashed.damaged.parent.name}/{hashed.damaged.name}"
        left_out = [record.name for record, reason in found.unused if reason]
        assert left_out in ([], [name])
        assert figures_of(found) == figures_of(rest if left_out else whole)
        pairs = {run: pairs.correct.tolist() for run, pairs in whole.pairs_of.items()}
        for run in (*left_out, *found.pair_faults):
            pairs.pop(run, None)
        assert {run: pairs.correct.tolist() for run, pairs in found.pairs_of.items()} == pairs

    every(law, 40)


def test_a_report_is_built_or_refused(study: DamagedStudy):
    """The page's words; drawn pages are in the next test, and many more in `make fuzz`."""

    def law(data: bytes) -> None:
        with study.suffering(study.read(data)), suppress(UserError):
            said = markdown(build_report(read_study([study.runs_dir]), "damaged"))
            assert "<script" not in said

    for data in examples()[::11]:
        law(data)
    settings(max_examples=8)(given(damages)(law))()


@pytest.mark.parametrize("data", [b"\x83\x64{}\n", b"\x85\x64x", b"\x80\x64[]"])
def test_the_commands_end_with_an_answer(hashed: DamagedStudy, data: bytes, capsys: pytest.CaptureFixture[str]):
    with hashed.suffering(hashed.read(data)) as run:
        assert cli.main(["runs", "--runs-dir", str(hashed.runs_dir)]) == 0
        assert cli.main(["report", str(hashed.runs_dir), "--out=out"]) == 0
        assert cli.main(["report", str(run), "--out=one"]) in (0, 2)
    assert "Traceback" not in capsys.readouterr().err
    assert run.name in Path("out/report.md").read_text()


def values_of(record: RunRecord) -> dict[str, Any]:
    curves = {name: [values.tolist() for values in curve] for name, curve in record.curves.items()}
    return {"config": record.config, "curves": curves, "timing": record.timing}


def figures_of(study: Study) -> dict[str, dict[str, float]]:
    """The last value of the main curve, by cell and seed; of a study of one loss cells have other labels."""
    return {f"{cell.loss} {cell.beta}": cell.last("val/rewards/accuracies") for cell in study.cells}


def test_predictions_whose_columns_have_no_name(hashed: DamagedStudy):
    """pyarrow tells of it as a UnicodeDecodeError; found by `make fuzz`."""
    data = b"\x05[\xb0]"
    with hashed.suffering(hashed.read(data)) as run, pytest.raises(UserError, match=r"predictions\.parquet is damaged"):
        read_pairs(run)
