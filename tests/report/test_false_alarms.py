"""The whole decision of a report, on sweeps in which nothing is better than anything."""

import numpy as np

from tests.report.null_sweeps import Shape, false_alarms

COUNT = 300
MOST = 0.05 + 3 * (0.05 * 0.95 / COUNT) ** 0.5
"""5 % and three standard errors: 8.8 %."""


def test_no_table_tells_a_difference_more_often_than_it_says():
    """Comparisons, equal KL and claims, each a family; plain tests of the same sweeps do, so the test can fail.

    Few seeds and nine cells; other shapes, and 2000 sweeps of each, are in benchmarks/report_false_alarms.py.
    """
    found = np.asarray(list(false_alarms(Shape(3, 3, 3), COUNT, seed=1)))
    *tables, uncorrected = found.mean(axis=0)
    assert max(tables) <= MOST < 0.15 < uncorrected
