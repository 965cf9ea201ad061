"""predictions.parquet: what the policy and the reference say of each example, evaluation by evaluation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

import pyarrow as pa
import pyarrow.parquet as pq

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_atomic

SCHEMA = pa.schema(
    [
        pa.field("step", pa.int64(), nullable=False),  # optimizer steps done before this evaluation
        pa.field("split", pa.string(), nullable=False),  # "val", "test", or "train"
        pa.field("key", pa.string(), nullable=False),  # 128-bit hash of prompt and response, 32 hex digits
        pa.field("group", pa.int64(), nullable=False),  # rows that answer one prompt share a group
        pa.field("role", pa.string(), nullable=False),  # "chosen" or "rejected"
        pa.field("policy_log_prob", pa.float64(), nullable=False),  # sum over the response, nats
        pa.field("reference_log_prob", pa.float64()),  # null where the loss asks for no reference
        pa.field("length", pa.int64(), nullable=False),  # decisions
        pa.field("reward", pa.float64()),  # as the loss defines it; null where it defines none
        pa.field("prompt", pa.string()),  # as key, of the prompt alone: rows of equal prompts have one
    ]
)


@final
class Predictions:
    """All evaluations of a run so far; the file is written anew, whole or not at all."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._tables: list[pa.Table] = []
        self._has_news = False

    @property
    def num_rows(self) -> int:
        """Of all evaluations so far."""
        return sum(table.num_rows for table in self._tables)

    def cut(self, num_rows: int) -> None:
        """Go on behind the first `num_rows` rows of the file; what follows them is dropped.

        Raises:
            UserError: the file has fewer, or is damaged.
        """
        if num_rows == 0:
            self.path.unlink(missing_ok=True)
            return
        try:
            table = pq.read_table(self.path, schema=SCHEMA)
        except (OSError, pa.ArrowException, ValueError) as error:
            raise UserError(f"{self.path} cannot be read: {error}") from error
        if table.num_rows < num_rows:
            raise UserError(f"{self.path} has {table.num_rows} rows, and the checkpoint was made after {num_rows}")
        self._tables, self._has_news = [table.slice(0, num_rows)], True
        self.write()

    def append(self, rows: Mapping[str, Sequence[Any]]) -> None:
        """`add` one evaluation and `write` the file."""
        self.add(rows)
        self.write()

    def write(self) -> None:
        """Have all rows so far in the file; where there are no new ones it stays as it is.

        Raises:
            WriteError: the disk refuses.
        """
        if not self._has_news:
            return
        everything = pa.concat_tables(self._tables).combine_chunks()
        write_atomic(self.path, lambda file: pq.write_table(everything, file))
        self._tables, self._has_news = [everything], False

    def add(self, rows: Mapping[str, Sequence[Any]]) -> None:
        """Add one evaluation, in memory: one sequence a column of `SCHEMA`, all of one length.

        Raises:
            ValueError: a column is missing, unknown, of another length or holds another type, naming it.
        """
        if rows.keys() != set(SCHEMA.names):
            odd = sorted(rows.keys() ^ set(SCHEMA.names))
            raise ValueError(f"predictions: columns missing or unknown: {', '.join(odd)}")
        lengths = {name: len(values) for name, values in rows.items()}
        if len(set(lengths.values())) > 1:
            raise ValueError(f"predictions: columns differ in length: {lengths}")
        table = pa.table([_column(field, rows[field.name]) for field in SCHEMA], schema=SCHEMA)
        self._tables.append(table)
        self._has_news = True


def _column(field: pa.Field, values: Sequence[Any]) -> pa.Array:
    try:
        column = pa.array(list(values), field.type)
    except (pa.ArrowInvalid, pa.ArrowTypeError) as error:
        raise ValueError(f"predictions: {field.name}: {error}") from error
    if column.null_count and not field.nullable:
        raise ValueError(f"predictions: {field.name} holds null")
    return column
