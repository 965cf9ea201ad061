"""The section about what `dpo-lab evaluate` has measured of the runs."""

import re

from dpo_lab.report.content import Section, Table, Value, with_interval
from dpo_lab.report.statistics import estimate
from dpo_lab.report.study import Study
from dpo_lab.run.evaluations import FOLDER

_OF_TEST = re.compile(rf"{FOLDER}/test[-/]")


def evaluated(study: Study) -> list[str]:
    """Names of all figures of evaluations, but of tests: a table of the tests of all cells would choose by them."""
    names = {name for cell in study.cells for run in cell.runs.values() for name in run.curves}
    return sorted(name for name in names if name.startswith(f"{FOLDER}/") and not _OF_TEST.match(name))


def evaluation_section(study: Study) -> Section:
    """One table for each file that evaluations go to: a row a cell, its figures over seeds."""
    by_file: dict[str, list[str]] = {}
    for name in evaluated(study):
        by_file.setdefault(name.split("/")[1], []).append(name)
    if not by_file:
        return Section("evaluations", "Evaluations", ["No run was evaluated: dpo-lab evaluate RUN does."])
    note = (
        "Mean over the seeds that were evaluated, and its 95 % interval over them (Student's t). How sure the figure "
        "of one run is stands in its own file. What was measured on the test is in no table: "
        "metric=evaluation/test/NAME asks for it."
    )
    tables = [_table(study, file, names) for file, names in by_file.items()]
    return Section("evaluations", "Evaluations", [note], tables)


def _table(study: Study, file: str, names: list[str]) -> Table:
    rows: list[list[Value]] = []
    for cell in study.cells:
        found = [estimate(list(cell.last(name).values())) for name in names]
        rows.append([cell.label, max(one.count for one in found), *(with_interval(*one[:3]) for one in found)])
    columns = ("cell", "seeds evaluated", *(name.split("/", 2)[2] for name in names))
    return Table(f"evaluation-{file}", f"{FOLDER}/{file}", columns, rows)
