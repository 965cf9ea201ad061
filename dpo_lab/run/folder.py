"""One run, one folder: claimed by one process, written by it alone, never overwritten."""

import os
import shutil
import sys
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Literal, final

from omegaconf import OmegaConf

from dpo_lab.interruption import STOP_CODES
from dpo_lab.run.claim import LOCK, Claim, claim, release, take_over
from dpo_lab.run.digests import FIELD, GROWING, check_digest, digests_of
from dpo_lab.run.files import JsonLines, WriteError, cut_lines, write_json, write_text
from dpo_lab.run.provenance import code_diff
from dpo_lab.run.redaction import redact, redact_override, redact_text

if TYPE_CHECKING:
    from dpo_lab.run.predictions import Predictions

Status = Literal["running", "finished", "failed", "interrupted"]


@final
class RunFolder:
    """The folder of a run while it runs. Make one with `claim`.

    A context manager: leaving it finishes the run with the status that the exception, if any, stands for.
    `is_taken_over`: an attempt before this process began it and did not finish. It stays as it is, run.json included,
    until `rewind` or `start_over`; `let_go` leaves it so.
    """

    def __init__(self, claimed: Claim) -> None:
        self.path = claimed.path
        self.is_taken_over = claimed.is_taken_over
        self._lock = claimed.lock
        self._info = claimed.info

    @classmethod
    def claim(cls, runs_dir: Path | str, name: str, id: str, fresh: bool = False) -> "RunFolder":
        """Take ``runs_dir/name/id`` for this process.

        An attempt that failed or was interrupted is taken over. `fresh` makes another attempt, ``id-2``, ``id-3``, ...,
        whatever the earlier ones came to.

        Raises:
            AlreadyFinished: an attempt at this id is finished, and `fresh` is not asked for.
            FolderClaimed: another process holds an attempt at this id, and `fresh` is not asked for.
            UserError: `name` is not a plain folder name.
        """
        return cls(claim(runs_dir, name, id, fresh, _begun()))

    @classmethod
    def take_over(cls, path: Path) -> "RunFolder":
        """Take the folder of an attempt that did not finish.

        Raises:
            AlreadyFinished, FolderClaimed: it is finished, or at work.
        """
        return cls(take_over(path))

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
    def predictions(self) -> "Predictions":
        from dpo_lab.run.predictions import Predictions

        return Predictions(self.path / "predictions.parquet")

    @cached_property
    def training_pairs(self) -> "Predictions":
        """What training rows scored as they were trained on; written with each checkpoint and at the end."""
        from dpo_lab.run.predictions import Predictions

        return Predictions(self.path / "training_pairs.parquet")

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

    def write_code_diff(self, step: int = 0) -> None:
        """Write code.diff: how the checkout of dpo_lab differs from its commit; empty where there is none.

        Where a run goes on with other code after `step`, its first code stays on record and this is code-STEP.diff.
        """
        name = f"code-{step:08d}.diff" if step else "code.diff"
        write_text(self.path / name, redact_text(code_diff()))

    def write_data_report(self, report: Mapping[str, Any]) -> None:
        """Write data_report.json (every row dropped or cut, by reason) and put it into run.json."""
        write_json(self.path / "data_report.json", redact(dict(report)))
        self.update(data_report=dict(report))

    def update(self, **fields: Any) -> None:
        """Put plain fields into run.json, over those of the same name, without secrets."""
        self._info = {**self._info, **redact(fields)}
        write_json(self.path / "run.json", self._info)

    def rewind(self, position: Mapping[str, int], **resumed: Any) -> None:
        """Cut off what was written after a checkpoint, and go on: to be called before anything is written.

        Args:
            position: `position` when the checkpoint was made.
            resumed: for the record, of this resume.

        Raises:
            UserError: a file is shorter than it was then, or not what the attempt before left.
        """
        for name in GROWING:
            check_digest(self.path / name, self._info)
        self.update(**{FIELD: None})  # first: from here on the files change
        cut_lines(self.path / "metrics.jsonl", position["metrics"])
        cut_lines(self.path / "timing.jsonl", position["timing"])
        self.predictions.cut(position["predictions"])
        self.training_pairs.cut(position.get("training_pairs", 0))  # 0: the checkpoint is of before there were any
        self._begin_again(resumed)

    def start_over(self, **resumed: Any) -> None:
        """Delete what an attempt without a usable checkpoint has left, but for the W&B id."""
        for path in self.path.iterdir():
            if path.name in (LOCK, "run.json", "wandb"):
                continue
            if path.is_dir():
                shutil.rmtree(path)
            else:
                path.unlink()
        self._begin_again(resumed)

    def position(self) -> dict[str, int]:
        """How far the growing files have come. All that is counted here survives a power cut."""
        self.metrics.sync()
        self.timing.sync()
        self.training_pairs.write()
        return {
            "metrics": self.metrics.num_rows,
            "timing": self.timing.num_rows,
            "predictions": self.predictions.num_rows,
            "training_pairs": self.training_pairs.num_rows,
        }

    def let_go(self) -> None:
        """Leave a folder that was taken over as it was found."""
        release(self._lock)

    def _begin_again(self, resumed: Mapping[str, Any]) -> None:
        history = [*self._info.get("resumed", []), {"at": _now(), **resumed}]
        ended = {"exit_reason": None, "finished": None, FIELD: None}
        self.update(**{**_begun(), **ended, "started": self._info["started"]}, resumed=history)

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
        try:
            self.metrics.close()
            self.timing.close()
            if "training_pairs" in self.__dict__:  # else nothing was recorded in this process
                self.training_pairs.write()
            self.update(
                status=status,
                exit_reason=reason,
                finished=_now(),
                num_non_finite_metrics=self.metrics.num_non_finite,
                **{FIELD: digests_of(self.path)},
            )
        finally:
            release(self._lock)

    def __enter__(self) -> "RunFolder":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        reason = None if error is None else f"{type(error).__name__}: {error}".rstrip(": ")
        try:
            self.finish(status_after(error), reason)
        except WriteError as refused:
            # On a full disk the status cannot be written either; the reason for it is what has to be told.
            if error is None:
                raise
            print(f"the status of the run is not in its folder: {refused}", file=sys.stderr)

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
    return "interrupted" if isinstance(error, SystemExit) and error.code in STOP_CODES else "failed"


def _begun() -> dict[str, Any]:
    return {"status": "running", "started": _now(), "pid": os.getpid()}


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
