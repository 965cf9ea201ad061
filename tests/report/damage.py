"""Run folders with one file damaged, for the laws of those who read them and for `scripts/fuzz.py`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from dpo_lab.run.digests import FIELD, digests_of
from tests.report.folders import rows, write_run

FILES = ("run.json", "config.yaml", "overrides.yaml", "metrics.jsonl", "timing.jsonl", "predictions.parquet")
PAIRS = {"chosen": [1.0, 2.0], "rejected": [0.0, 3.0]}
VALUES = (b"null", b"[]", b"{}", b'"<script>"', b"1e999", b'{"step": null}', b"- ${oc.env:HOME}", b'{"step": true}\n')


class Damage(NamedTuple):
    """What is done to the first run: bytes over those of a file, the file replaced, or a field of run.json replaced."""

    file: str
    content: bytes


@dataclass(frozen=True)
class DamagedStudy:
    """Three finished runs in two cells. Of the first one file at a time is damaged, and put back."""

    runs_dir: Path
    runs: tuple[Path, Path, Path]
    sound: dict[str, bytes]

    @classmethod
    def make(cls, runs_dir: Path, *, with_digests: bool) -> "DamagedStudy":
        """`with_digests`: as runs are written now; else as they were before there were hashes of their files."""
        runs = (
            write_run(runs_dir, metrics=rows(0.6), pairs=PAIRS),
            write_run(runs_dir, seed=1, metrics=rows(0.7), pairs=PAIRS),
            write_run(runs_dir, loss="ipo", metrics=rows(0.8)),
        )
        for run in runs if with_digests else ():
            info = json.loads((run / "run.json").read_text())
            (run / "run.json").write_text(json.dumps({**info, FIELD: digests_of(run)}))
        return cls(runs_dir, runs, {name: (runs[0] / name).read_bytes() for name in FILES})

    @property
    def damaged(self) -> Path:
        return self.runs[0]

    def read(self, data: bytes) -> Damage:
        """The damage that `data` stands for: byte 0 says in which file and which way, byte 1 where, the rest what."""
        kind, place, rest = (data + b"\0\0")[0], (data + b"\0\0")[1], data[2:]
        if kind & 64:
            try:
                info = json.loads(self.sound["run.json"])
                info[sorted(info)[place % len(info)]] = json.loads(rest)
                return Damage("run.json", json.dumps(info).encode())
            except (ValueError, RecursionError):
                pass
        name = FILES[kind % len(FILES)]
        before = self.sound[name]
        at = place * len(before) // 256
        return Damage(name, rest if kind & 128 else before[:at] + rest + before[at + len(rest) :])

    @contextmanager
    def suffering(self, damage: Damage) -> Iterator[Path]:
        """The folder of the damaged run, while it is so."""
        file = self.damaged / damage.file
        file.write_bytes(damage.content)
        try:
            yield self.damaged
        finally:
            file.write_bytes(self.sound[damage.file])


def examples() -> list[bytes]:
    """Damage of every kind, as bytes that `DamagedStudy.read` reads."""
    ways = [bytes([kind + 128 * whole, 100]) for kind in range(len(FILES)) for whole in (0, 1)]
    records = [bytes([64, key]) + value for key in range(10) for value in VALUES[:5]]
    return [way + value for way in ways for value in VALUES] + records
