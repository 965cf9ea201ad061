"""`logger=wandb`: mirrors a run to Weights & Biases, online or into files to send later."""

import glob
import os
import shutil
import sys
import uuid
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, final

from pydantic import AfterValidator

from dpo_lab.errors import UserError
from dpo_lab.logger.logger import Logger
from dpo_lab.logger.wandb_account import has_key, quiet_environment, restore_environment
from dpo_lab.ranges import PositiveInt
from dpo_lab.run.folder import RunFolder, Status
from dpo_lab.run.mirror import MIRRORED, copy_record
from dpo_lab.run.read import read_rows
from dpo_lab.run.redaction import redact

Mode = Literal["auto", "online", "offline", "disabled"]

INIT_SECONDS = 15.0
FINISH_SECONDS = 300.0
_EXIT_CODES: dict[Status, int] = {"finished": 0, "failed": 1, "interrupted": 130}


def _project(name: str) -> str:
    if not 0 < len(name) <= 128 or set(name) & set("/\\#?%:"):
        raise ValueError("must be 1 to 128 characters, none of them / \\ # ? % :")
    return name


def _tag(text: str) -> str:
    if not 0 < len(text) <= 64:
        raise ValueError("must be 1 to 64 characters")
    return text


def wandb(
    *,
    mode: Mode = "auto",
    project: Annotated[str, AfterValidator(_project)] = "dpo-lab",
    entity: str | None = None,
    group: str | None = None,
    job_type: str = "train",
    tags: list[Annotated[str, AfterValidator(_tag)]] | None = None,
    samples: bool = True,
    record: bool = True,
    every_n_steps: PositiveInt = 1,
) -> Logger:
    """Mirror a run to W&B.

    Args:
        mode: ``auto`` is online where a key is configured, else offline; ``offline`` writes files under the run
            folder and says at the end how to send them; ``disabled`` does nothing.
        project, entity, job_type, tags: as in W&B.
        group: null takes the id of the sweep, where there is one.
        samples: whether texts (the table of samples) may go to W&B.
        record: whether config.yaml, run.json (versions, machine, hashes), fingerprints.json and metrics.jsonl go along,
            from which ``dpo-lab reproduce`` makes the run again.
        every_n_steps: log every n-th training step.
    """
    settings = {"project": project, "entity": entity, "group": group, "job_type": job_type, "tags": tags or []}
    return WandbLogger(mode, settings, samples, record, every_n_steps)


@final
class WandbLogger(Logger):
    """One run, one W&B run, of its own id. Trouble after `start` is said once and never ends the run."""

    def __init__(
        self, mode: Mode, settings: Mapping[str, Any], samples: bool, record: bool, every_n_steps: int
    ) -> None:
        self.every_n_steps = every_n_steps
        self._record = record
        self._mode = mode
        self._settings = dict(settings)
        self._samples = samples
        self._wandb_run: Any = None
        self._folder: RunFolder | None = None
        self._to_sync = Path()
        self._environment: dict[str, str | None] = {}
        self._mode_used = "disabled"
        self._in_trouble = False

    def check(self) -> None:
        if self._wanted_mode() == "online" and not has_key():
            raise UserError(
                "logger.mode=online needs a W&B key: run `wandb login`, or set WANDB_API_KEY, or use "
                "logger.mode=offline and send the run later."
            )

    def _wanted_mode(self) -> str:
        environment = os.environ.get("WANDB_MODE")
        return environment if self._mode == "auto" and environment in ("online", "offline", "disabled") else self._mode

    def start(self, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        """Open the W&B run and write its id into run.json; a run that goes on keeps its W&B id.

        Files of W&B cannot be written on, and the server forgets nothing: where rows before this were kept in files,
        the files are written anew, whole; where they were sent, only what follows is sent, some of it once more.

        Raises:
            UserError: a W&B run is open in this process; or ``mode=online`` without a key, or without an answer
                from the server within `INIT_SECONDS`.
        """
        mode = self._wanted_mode()
        if mode == "disabled":
            return
        self._environment = quiet_environment(run.path / "wandb")
        earlier = info.get("wandb", {})
        # Before W&B writes anything: who is killed in between goes on under the same id, over the same files.
        known = {**earlier, "id": earlier.get("id") or _new_id()}
        run.update(wandb=known)
        try:
            self._open(mode, run, config, {**info, "wandb": known})
        except BaseException:
            restore_environment(self._environment)
            raise
        self._folder = run
        self._to_sync = Path(self._wandb_run.dir).parent
        self._attempt("axis", lambda: self._wandb_run.define_metric("*", step_metric="step"))
        if not (earlier.get("mode") == self._mode_used == "online"):
            for row in read_rows(run.path / "metrics.jsonl"):
                self.metrics(int(row["step"]), row)
        run.update(wandb={"id": self._wandb_run.id, "mode": self._mode_used, **self._address()})
        self._keep_record("running")  # a process that is killed cannot do it at its end

    def metrics(self, step: int, row: Mapping[str, float]) -> None:
        self._attempt("metrics", lambda: self._wandb_run.log({**row, "step": step}))

    def table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        if self._samples:
            self._attempt("table", lambda: self._log_table(name, columns, rows))

    def summary(self, values: Mapping[str, Any]) -> None:
        self._attempt("summary", lambda: self._wandb_run.summary.update(redact(dict(values))))

    def finish(self, status: Status) -> None:
        if self._wandb_run is None:
            return
        self._keep_record(status)
        self._attempt("finish", lambda: self._wandb_run.finish(exit_code=_EXIT_CODES.get(status, 1)))
        restore_environment(self._environment)
        self._wandb_run = None
        if self._mode_used == "offline" or self._in_trouble:
            print(f"W&B: kept on this machine; to send it: wandb sync {self._to_sync}", file=sys.stderr)

    def _keep_record(self, status: Status) -> None:
        """Put what `dpo-lab reproduce` needs among the files of the W&B run."""
        run = self._folder
        if not self._record or run is None:
            return

        def keep() -> None:
            run.flush()
            copy_record(run.path, {**run.info, "status": status}, Path(self._wandb_run.dir) / MIRRORED)
            self._wandb_run.save(f"{glob.escape(self._wandb_run.dir)}/{MIRRORED}/*", self._wandb_run.dir, "now")

        self._attempt("record", keep)

    def _open(self, mode: str, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> None:
        import wandb as service

        if service.run is not None:
            raise UserError(
                f"a W&B run is open in this process ({service.run.id}): rows of two runs would mix. "
                "Call wandb.finish() first, or use logger=local."
            )
        self.check()
        keyed = mode != "offline" and has_key()
        self._mode_used = "online" if keyed else "offline"
        arguments = self._arguments(run, config, info)
        for old in (run.path / "wandb").glob(f"offline-run-*-{arguments['id']}"):
            shutil.rmtree(old)
        try:
            self._wandb_run = service.init(mode=self._mode_used, **arguments)
        # CommError: no answer; AuthenticationError, UsageError: the key is refused.
        except service.Error as error:
            reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
            if mode == "online":
                raise UserError(
                    f"logger.mode=online, but W&B does not take the run: {reason}. Check network and key, or use "
                    "logger.mode=offline and send the run later with `wandb sync`."
                ) from error
            print(f"W&B does not take the run ({redact(reason)}): going on offline", file=sys.stderr)
            self._mode_used = "offline"
            shutil.rmtree(next((run.path / "wandb").glob(f"run-*-{arguments['id']}"), ""), ignore_errors=True)
            # A new id: W&B counts the one that failed as in use.
            arguments["id"] = _new_id()
            run.update(wandb={"id": arguments["id"]})
            self._wandb_run = service.init(mode="offline", **arguments)

    def _arguments(self, run: RunFolder, config: Mapping[str, Any], info: Mapping[str, Any]) -> dict[str, Any]:
        import wandb as service

        quiet = service.Settings(
            silent=True,
            console="off",
            init_timeout=INIT_SECONDS,
            finish_timeout=FINISH_SECONDS,
            finish_timeout_raises=True,
            # The run folder has all of it, without secrets; a command line or a host name is nobody's metric.
            disable_git=True,
            save_code=False,
            disable_job_creation=True,
            x_disable_meta=True,
            x_disable_machine_info=True,
            x_save_requirements=False,
        )
        words = {**self._settings, "group": self._settings["group"] or info.get("sweep")}
        place = {
            key: words.pop(key) for key in ("project", "entity")
        }  # where it goes: struck out, it would go elsewhere
        return {
            **place,
            **redact(words),
            "id": info["wandb"]["id"],
            "resume": "allow" if self._mode_used == "online" else None,
            "name": f"{run.path.parent.name}/{run.path.name}",
            "dir": str(run.path),
            "config": redact({**config, **headlines(config)}),
            "settings": quiet,
        }

    def _log_table(self, name: str, columns: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
        import wandb as service

        data: list[Any] = [list(row) for row in redact(list(rows))]
        self._wandb_run.log({name: service.Table(columns=list(columns), data=data)})

    def _attempt(self, what: str, call: Callable[[], object]) -> None:
        if self._wandb_run is None:
            return
        try:
            call()
        # Whatever happens inside W&B, hours of training are worth more than its mirror.
        except Exception as error:
            if not self._in_trouble:
                self._in_trouble = True
                trouble = redact(f"{what}: {type(error).__name__}: {error}")
                print(f"W&B failed ({trouble}); the run goes on, the run folder has everything", file=sys.stderr)
                if self._folder is not None:
                    self._folder.update(wandb={**self._folder.info.get("wandb", {}), "trouble": trouble})

    def _address(self) -> dict[str, str]:
        url = self._wandb_run.url
        return {"url": url} if url else {}


def _new_id() -> str:
    # Not from a generator of the run: its numbers must not depend on who watches.
    return uuid.uuid4().hex[:8]


def headlines(config: Mapping[str, Any]) -> dict[str, Any]:
    """The few values that runs are grouped by, flat and always there: null where a run has no such knob.

    >>> headlines({"loss": {"_target_": "dpo_lab.loss.ipo.ipo", "beta": 0.1}, "seed": 0})["loss_name"]
    'ipo'

    The nested config keeps the words of the command line (``loss.beta``), so that ``loss`` itself is taken.
    """

    def node(group: str) -> Mapping[str, Any]:
        value = config.get(group)
        return value if isinstance(value, Mapping) else {}

    names = {f"{g}_name": str(node(g).get("_target_", "")).rpartition(".")[2] or None for g in _NAMED}
    return {**names, "beta": node("loss").get("beta"), "lr": node("optimizer").get("lr"), "seed": config.get("seed")}


_NAMED = ("loss", "model", "data", "reference", "optimizer")
