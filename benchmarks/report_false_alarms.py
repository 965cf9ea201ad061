"""How often a report tells a difference where there is none: made-up sweeps, judged by the report's own functions.

    python benchmarks/report_false_alarms.py            2000 sweeps of each shape (4 CPU minutes)
    python benchmarks/report_false_alarms.py 200        fewer

A table of a report (comparisons with the baseline, equal KL, claims) is a family of tests with Holm's correction; for
each the share of sweeps in which it names any cell better or worse, any claim held or refuted. Beside it that of plain
tests at 5 %, and that of pages with any false word at all. `bent`: accuracy rises with KL by one bent curve for all
losses; then betas do differ, and the table at equal KL alone has nothing to find.
"""

import sys
from pathlib import Path

import numpy as np

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from tests.report.null_sweeps import Shape, false_alarms  # noqa: E402 - found by the line above

SHAPES = (Shape(3, 3, 3), Shape(3, 3, 5), Shape(3, 3, 10), Shape(5, 9, 3), Shape(5, 9, 5))


def main() -> None:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else 2000
    error = (0.05 * 0.95 / count) ** 0.5
    print(f"{count} sweeps of each shape; 5 % and three standard errors: {0.05 + 3 * error:.2%}")
    heads = ("comparisons", "equal KL", "claims", "any of them", "plain 5 %")
    print(f"{'losses x betas x seeds':24}" + "".join(f"{head:>13}" for head in heads))
    for shape in SHAPES:
        found = np.asarray(list(false_alarms(shape, count)))
        any_word = found[:, :3].any(axis=1).mean()
        name = f"{shape.num_losses} x {shape.num_betas} x {shape.num_seeds}"
        *tables, plain = found.mean(axis=0).tolist()
        print(f"{name:24}" + "".join(f"{share:13.2%}" for share in (*tables, any_word, plain)), flush=True)
    for bend in (0.02, 0.1):
        shape = Shape(3, 3, 5)
        found = np.asarray(list(false_alarms(shape, count, bend=bend)))
        print(f"{f'3 x 3 x 5, bent by {bend:g}':24}{'':13}{found[:, 1].mean():13.2%}", flush=True)


if __name__ == "__main__":
    main()
