"""Answers of a model that was asked, on disk, so that the same question is asked once."""

import fcntl
import hashlib
import json
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.run.files import refusing


@final
class AnswerStore:
    """One file of JSON lines: ``key`` (sha256 of the whole question) and ``answer`` (a plain mapping).

    Only ever added to, a line at a time, by any number of threads and processes. A line that a killed process has left
    half is not read, and what follows it is.
    """

    def __init__(self, file: Path):
        self._file = file
        self._lock = threading.Lock()
        self._answers: dict[str, dict[str, Any]] | None = None

    @staticmethod
    def key(question: Mapping[str, Any]) -> str:
        """sha256 (hex) of all that an answer depends on."""
        return hashlib.sha256(json.dumps(question, sort_keys=True, ensure_ascii=False).encode()).hexdigest()

    def __len__(self) -> int:
        return len(self._read())

    def find(self, key: str) -> dict[str, Any] | None:
        return self._read().get(key)

    def add(self, key: str, answer: Mapping[str, Any]) -> None:
        """Keep an answer; a later one to the same question is not kept.

        Raises:
            WriteError: the disk refuses.
        """
        line = json.dumps({"key": key, "answer": dict(answer)}, ensure_ascii=True) + "\n"
        with self._lock:
            answers = self._read()
            if key in answers:
                return
            answers[key] = dict(answer)
            with refusing(self._file):
                self._file.parent.mkdir(parents=True, exist_ok=True)
                with self._file.open("ab") as opened:
                    fcntl.flock(opened, fcntl.LOCK_EX)
                    # Behind a half line of a process that was killed.
                    opened.write(b"" if opened.tell() == 0 or self._ends_well() else b"\n")
                    opened.write(line.encode())

    def _ends_well(self) -> bool:
        with self._file.open("rb") as opened:
            opened.seek(-1, 2)
            return opened.read(1) == b"\n"

    def _read(self) -> dict[str, dict[str, Any]]:
        if self._answers is None:
            found: dict[str, dict[str, Any]] = {}
            try:
                lines = self._file.read_bytes().split(b"\n") if self._file.exists() else []
            except OSError as error:
                raise UserError(f"{self._file}: cannot be read: {error.strerror}") from error
            for line in lines:
                try:
                    row = json.loads(line)
                    found.setdefault(str(row["key"]), dict(row["answer"]))
                except (ValueError, TypeError, KeyError):  # half a line
                    continue
            self._answers = found
        return self._answers
