"""scores/*.parquet: what a policy and its reference say of data that was scored without training."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

from dpo_lab.run.files import write_atomic
from dpo_lab.run.predictions import SCHEMA as PREDICTIONS

SCHEMA = pa.schema(
    [
        *PREDICTIONS,
        pa.field("source", pa.string()),  # where the row stands; null of one that was borrowed
        pa.field(
            "margin", pa.float64()
        ),  # of its pair: reward chosen less rejected; null where it is in no single pair
        pa.field("policy_margin", pa.float64()),  # log-prob under the policy, chosen less rejected, nats
        pa.field("reference_margin", pa.float64()),  # the same under the reference
    ]
)
"""One row a response. A group with one chosen and one rejected response is a pair, and both rows have its margins."""

_MARGINS = {"margin": "reward", "policy_margin": "policy_log_prob", "reference_margin": "reference_log_prob"}


def score_table(columns: Mapping[str, Sequence[Any]], places: Mapping[str, str]) -> pa.Table:
    """`columns` as of predictions.parquet, with what `SCHEMA` adds; `places` are by key."""
    members: dict[int, dict[str, list[int]]] = {}
    for row, (group, role) in enumerate(zip(columns["group"], columns["role"], strict=True)):
        members.setdefault(group, {}).setdefault(role, []).append(row)
    margins: dict[str, list[float | None]] = {name: [None] * len(columns["group"]) for name in _MARGINS}
    for rows in members.values():
        chosen, rejected = rows.get("chosen", []), rows.get("rejected", [])
        if len(chosen) != 1 or len(rejected) != 1:
            continue
        for name, column in _MARGINS.items():
            better, worse = columns[column][chosen[0]], columns[column][rejected[0]]
            value = None if better is None or worse is None else better - worse
            for row in (*chosen, *rejected):
                margins[name][row] = value
    sources = [places.get(key) for key in columns["key"]]
    return pa.table({**columns, "source": sources, **margins}, schema=SCHEMA)


def write_scores(file: Path, tables: Sequence[pa.Table]) -> None:
    """Write all of `tables` as one file, whole or not at all."""
    whole = pa.concat_tables(tables)
    write_atomic(file, lambda opened: pq.write_table(whole, opened))
