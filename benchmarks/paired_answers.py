"""How much better one set of runs answers than another, question by question: what `dpo-lab evaluate` wrote, paired.

    python benchmarks/paired_answers.py FILE FIGURE RUN,RUN,... RUN,RUN,...    the second less the first

    python benchmarks/paired_answers.py test.jsonl ndcg@10 films_0,films_1 preferred_0,preferred_1
    python benchmarks/paired_answers.py test.jsonl popularity/ndcg@10:ndcg@10 films_0,films_1 films_0,films_1

Each RUN is a folder with `evaluation/FILE`; runs of one side are seeds, and stand in the same order on both sides. A
value of each row is averaged over the seeds; the interval is Student's t over rows (users, questions), which tells of
other rows and not of other seeds. FIGURE is a column (`exact_match`, `token_f1`), or `ndcg@K`, `hit@K`, `mrr` of the
column `rank`, behind `popularity/` of `popularity_rank`; `A:B` takes A of the first side and B of the second.
"""

import json
import sys
from collections import defaultdict
from pathlib import Path
from typing import Any

import torch

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dpo_lab.evaluation.figure import mean_figure  # noqa: E402 - found by the line above
from dpo_lab.evaluation.ranking import ranking_measures  # noqa: E402


def value_of(row: dict[str, Any], figure: str) -> float:
    name, is_popular = figure.removeprefix("popularity/"), figure.startswith("popularity/")
    if "rank" not in row:
        return float(row[name])
    rank = torch.tensor([row["popularity_rank" if is_popular else "rank"]])
    cutoff = int(name.partition("@")[2] or 10)
    return float(ranking_measures(rank, cutoff=cutoff)[name])


def means(file: str, figure: str, runs: str) -> dict[str, float]:
    """Mean over `runs` of the figure of each row, by where the row stands in the data."""
    found: dict[str, list[float]] = defaultdict(list)
    for run in runs.split(","):
        for line in (Path(run) / "evaluation" / file).read_text(encoding="utf-8").splitlines():
            row = json.loads(line)
            found[row["source"]].append(value_of(row, figure))
    return {source: sum(values) / len(values) for source, values in found.items()}


def main() -> None:
    file, figure, first, second = sys.argv[1:]
    of_first, _, of_second = figure.partition(":")
    before, after = means(file, of_first, first), means(file, of_second or of_first, second)
    if before.keys() != after.keys():
        raise SystemExit("the two sides were not asked the same")
    differences = [after[source] - before[source] for source in before]
    print(f"{figure}: {mean_figure(differences, list(before)).text()} over {len(before)} rows")


if __name__ == "__main__":
    main()
