"""One run, one folder: claimed by one process, written by it alone, never overwritten."""

import os
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, final

from omegaconf import OmegaConf

from dpo_lab.run.claim import Claim, claim, release
from dpo_lab.run.files import JsonLines, write_json, write_text
from dpo_lab.run.predictions import Predictions
from dpo_lab.run.provenance import code_diff
from dpo_lab.run.redaction import redact, redact_override, redact_text

Status = Literal["running", "finished", "failed", "interrupted"]


@final
class RunFolder:
    """The folder of a run while it runs. Make one with `claim`.

    A context manager: leaving it finishes the run with the status that the exception, if any, stands for.
    `earlier` are the attempts at the same run that ended before they were done; they stay as they are.
    """

    def __init__(self, claimed: Claim) -> None:
        self.path = claimed.path
        self.earlier = claimed.earlier
        self._lock = claimed.lock
        self._info = claimed.info

    @classmethod
    def claim(cls, runs_dir: Path | str, name: str, id: str, fresh: bool = False) -> "RunFolder":
        """Take ``runs_dir/name/id`` for this process, or the next free ``id-2``, ``id-3``, ...

        An attempt that failed or was interrupted is left as it is and the next one stands beside it. `fresh`
        makes another attempt whatever the earlier ones came to.

        Raises:
            AlreadyFinished: an attempt at this id is finished, and `fresh` is not asked for.
            FolderClaimed: another process holds an attempt at this id, and `fresh` is not asked for.
            UserError: `name` is not a plain folder name.
        """
        started = {"status": "running", "started": _now(), "pid": os.getpid()}
        return cls(claim(runs_dir, name, id, fresh, started))

    @property
    def info(self) -> dict[str, Any]:
        """What run.json says now, a copy."""
        return dict(self._info)

    @property
    def checkpoints(self) -> Path:
        return self._folder("checkpoints")

    @property
    def report(self) -> Path:
        return self._folder("report")

    @cached_property
    def metrics(self) -> JsonLines:
        """metrics.jsonl: only what a second run with the same seed repeats bit for bit."""
        return JsonLines(self.path / "metrics.jsonl")

    @cached_property
    def timing(self) -> JsonLines:
        """timing.jsonl: the clock, throughput and memory of the same steps."""
        return JsonLines(self.path / "timing.jsonl")

    @cached_property
    def predictions(self) -> Predictions:
        return Predictions(self.path / "predictions.parquet")

    def append_predictions(self, rows: Mapping[str, Sequence[Any]]) -> None:
        """Add one evaluation to predictions.parquet: columns as in `dpo_lab.run.predictions.SCHEMA`."""
        self.predictions.append(rows)

    def write_config(self, config: Mapping[str, Any], overrides: Sequence[str] = ()) -> None:
        """Write config.yaml and overrides.yaml, without secrets.

        Raises:
            ValueError: `config` still holds an interpolation.
        """
        text = OmegaConf.to_yaml(OmegaConf.create(redact(dict(config))), resolve=False)
        if "${" in text:
            raise ValueError("config.yaml would hold an interpolation: resolve the config first")
        write_text(self.path / "config.yaml", text)
        hidden = [redact_override(override) for override in overrides]
        write_text(self.path / "overrides.yaml", OmegaConf.to_yaml(OmegaConf.create(hidden)))

    def write_code_diff(self) -> None:
        """Write code.diff: how the checkout of dpo_lab differs from its commit; empty where there is none."""
        write_text(self.path / "code.diff", redact_text(code_diff()))

    def write_data_report(self, report: Mapping[str, Any]) -> None:
        """Write data_report.json (every row dropped or cut, by reason) and put it into run.json."""
        write_json(self.path / "data_report.json", redact(dict(report)))
        self.update(data_report=dict(report))

    def update(self, **fields: Any) -> None:
        """Put plain fields into run.json, over those of the same name, without secrets."""
        self._info = {**self._info, **redact(fields)}
        write_json(self.path / "run.json", self._info)

    def flush(self) -> None:
        """Have every row so far seen by whoever reads the folder."""
        self.metrics.flush()
        self.timing.flush()

    def finish(self, status: Status, reason: str | None = None) -> None:
        """Close the files, write the status and let the folder go. Only the first call counts.

        The rows are on disk before the status says so.
        """
        if self._lock.closed:
            return
        self.metrics.close()
        self.timing.close()
        non_finite = self.metrics.num_non_finite
        self.update(status=status, exit_reason=reason, finished=_now(), num_non_finite_metrics=non_finite)
        release(self._lock)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.finish(status_after(error), None if error is None else f"{type(error).__name__}: {error}".rstrip(": "))

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        folder.mkdir(exist_ok=True)
        return folder


def status_after(error: BaseException | None) -> Status:
    """The status of a run that ended with `error`.

    Ctrl-C counts also where Lightning has turned it into ``SystemExit``; so does SIGTERM, which Lightning
    raises as a ``SystemExit`` of its own.
    """
    if error is None:
        return "finished"
    seen: BaseException | None = error
    while seen is not None:
        if isinstance(seen, KeyboardInterrupt) or type(seen).__name__ == "SIGTERMException":
            return "interrupted"
        seen = seen.__context__ if isinstance(seen, SystemExit) else None
    return "interrupted" if isinstance(error, SystemExit) and error.code in (130, 143) else "failed"


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
