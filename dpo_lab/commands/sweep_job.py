"""What Hydra's launchers call for each job of a sweep: wait for a share of the machine, start it, tell its result."""

import signal
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any, cast

from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from omegaconf import DictConfig, OmegaConf

from dpo_lab.errors import UserError
from dpo_lab.run.read import read_run
from dpo_lab.sweep.job import Job, find_ended, skip_job
from dpo_lab.sweep.process import is_orphaned, is_worker, run_job
from dpo_lab.sweep.record import JobRecord, SweepFolder
from dpo_lab.sweep.settings import SweepSettings
from dpo_lab.sweep.slots import claim_slot, share_of, slots_folder


class JobFailedError(CompactHydraException):
    """Tells a searching sweeper that a job has no value."""


def run_sweep_job(cfg: DictConfig) -> Any:
    """Run one job of a sweep in a process of its own; what a search is told of it: a number, or several, or None.

    Raises:
        JobFailedError: a search waits for a value, and the job has none. Of a grid no job raises: the others go on.
    """
    if is_worker():
        # Ctrl-C reaches every process of a terminal at once, and a launcher kills whoever is still busy when the first
        # worker gives up. The command itself is told too, and tells every job (`JobFolder.stop`).
        with suppress(ValueError):  # not the main thread: then it is not told anyway
            signal.signal(signal.SIGINT, signal.SIG_IGN)
    hydra_config = HydraConfig.get()
    config = cast(dict[str, Any], OmegaConf.to_container(cfg, resolve=True))
    settings = SweepSettings(**config.get("sweep", {}))
    folder = SweepFolder(Path(hydra_config.sweep.dir).absolute())
    number = int(hydra_config.job.num)
    overrides = list(hydra_config.overrides.task)
    if folder.stop.exists():
        raise SystemExit(128 + signal.SIGTERM)
    sweep = folder.read()
    job = Job(
        number=number,
        config=config,
        overrides=overrides,
        sweep_id=folder.path.name,
        start=sweep.start,
        working_dir=sweep.working_dir,
    )
    record = _outcome(job, folder, settings)
    return None if settings.objective is None else _value(record, settings.objective)


def _outcome(job: Job, folder: SweepFolder, settings: SweepSettings) -> JobRecord:
    """What the job has come to, or comes to now."""
    path, share = folder.job(job.number), share_of(job.config)
    ended = find_ended(job, path, share.num_threads)
    if ended is not None:
        return ended
    if settings.on_error == "stop" and any(each.status == "failed" for each in folder.jobs(start=job.start)):
        return skip_job(job, path)
    check = partial(_end_if_told, folder)
    with claim_slot(share, slots_folder(), check=check) as slot:
        check()
        return run_job(job, path, slot)


def _end_if_told(folder: SweepFolder) -> None:
    if is_orphaned() or folder.stop.exists():
        raise SystemExit(128 + signal.SIGTERM)


def _value(record: JobRecord, objective: str | list[str]) -> float | tuple[float, ...]:
    if record.status != "finished" or record.run is None:
        raise JobFailedError(f"job {record.number} has no value: it is {record.status}")
    run = read_run(record.run)
    values = []
    for name in [objective] if isinstance(objective, str) else objective:
        _, found = run.curve(name)
        if not found:
            known = sorted({key for row in run.metrics for key in row if key.startswith("val/")})
            raise UserError(f"sweep.objective: no curve {name} in {record.run}; there are {', '.join(known)}")
        values.append(found[-1])
    return values[0] if isinstance(objective, str) else tuple(values)
