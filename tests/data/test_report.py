import json

import pytest

from dpo_lab.data.reasons import REASONS
from dpo_lab.data.report import NUM_PLACES, DataReport


def make_report() -> DataReport:
    report = DataReport(num_read=10, num_train=6, num_validation=1)
    report.count("empty_response", source="a row 2")
    report.count("empty_response", 2, source="a row 3")
    report.count("prompt_cut", source="a row 4")
    report.columns_not_read = ["id", "history"]
    return report


def test_counts_by_effect():
    report = make_report()
    assert (report.num("dropped"), report.num("cut"), report.num("noted")) == (3, 1, 0)
    assert report.as_dict()["dropped"] == {"empty_response": 3}


def test_as_dict_is_json_and_comes_back():
    record = json.loads(json.dumps(make_report().as_dict()))
    assert DataReport.from_dict(record) == make_report()


def test_merge_adds_and_changes_neither():
    one, other = make_report(), make_report()
    merged = one.merge(other)
    assert merged.counts == {"empty_response": 6, "prompt_cut": 2}
    assert merged.num_read == 20
    assert len(merged.places["empty_response"]) == NUM_PLACES
    other.columns_not_read = ["history", "input"]
    assert one.merge(other).columns_not_read == ["id", "history", "input"]
    assert one == make_report()


def test_lines_name_reason_number_and_place():
    lines = make_report().lines()
    assert lines[0] == "10 rows read: 6 train, 1 validation"
    assert lines[1] == "dropped 3 rows: a response is empty [empty_response], at a row 2, a row 3, ..."
    assert lines[2].startswith("cut 1 row: ")
    assert lines[3] == "columns not read: id, history"


def test_nothing_counted_leaves_no_line():
    report = DataReport()
    report.count("boundary_merge", 0)
    assert report.counts == {}
    assert len(report.lines()) == 1


def test_unknown_reason_is_refused():
    with pytest.raises(KeyError, match="no_such"):
        DataReport().count("no_such")


@pytest.mark.parametrize("reason", REASONS)
def test_every_reason_survives_the_record(reason: str):
    report = DataReport()
    report.count(reason, source="here")
    assert DataReport.from_dict(report.as_dict()) == report
