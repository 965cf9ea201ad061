"""What is made of a run after it has ended, as a W&B run of its own in the run's folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.logger.wandb_account import has_key, quiet_environment, restore_environment
from dpo_lab.run.redaction import redact

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Columns, and rows."""


def send_table(
    run: Path,
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> str:
    """Log `rows` as table `name` of a W&B run with `job_type` explain; where it is, in a line.

    Raises:
        UserError: the run's config lets no texts go to W&B; W&B does not take it.
    """
    if not lets_texts_go(config):
        raise UserError("--wandb: the run was trained with logger.samples=false, which lets no texts go to W&B")
    try:
        return send_afterwards(run, config, info, name, "explain", table=(columns, rows))
    except UserError as error:
        raise UserError(f"--wandb: {error}") from error


def lets_texts_go(config: Mapping[str, Any]) -> bool:
    """Whether a run's config lets texts go to W&B."""
    return (config.get("logger") or {}).get("samples") is not False


def send_afterwards(
    run: Path,
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    name: str,
    job_type: str,
    *,
    summary: Mapping[str, Any] | None = None,
    table: Table | None = None,
) -> str:
    """Send `summary` and `table`, called `name`: online where there is a key and the run itself was, else into files.

    The files of the W&B run that mirrors training are closed, and are not written to again: what comes after it has a
    run of its own, of `job_type`, in the same project and in the group of the run's id.

    Returns:
        A line that says where it is.

    Raises:
        UserError: W&B does not take it.
    """
    import wandb as service

    logger = config.get("logger") or {}
    was_online = (info.get("wandb") or {}).get("mode") == "online"
    is_online = was_online and os.environ.get("WANDB_MODE") != "offline" and has_key()
    environment = quiet_environment(run / "wandb")
    try:
        mirror = service.init(
            mode="online" if is_online else "offline",
            project=logger.get("project", "dpo-lab"),
            entity=logger.get("entity"),
            group=run.absolute().name,
            job_type=job_type,
            name=f"{run.absolute().parent.name}/{run.absolute().name} {name}",
            dir=str(run),
            config={"run": run.absolute().name, "wandb_run": (info.get("wandb") or {}).get("id")},
            settings=service.Settings(
                silent=True,
                console="off",
                disable_git=True,
                save_code=False,
                x_disable_meta=True,
                x_disable_machine_info=True,
                x_save_requirements=False,
            ),
        )
        if table is not None:
            columns, rows = table
            data: list[Any] = [list(row) for row in redact([list(row) for row in rows])]
            mirror.log({name: service.Table(columns=list(columns), data=data)})
        mirror.summary.update(redact(dict(summary or {})))
        folder, address = Path(mirror.dir).parent, mirror.url
        mirror.finish()
    except service.Error as error:
        raise UserError(f"W&B does not take {name}: {redact(str(error))}") from error
    finally:
        restore_environment(environment)
    return f"W&B: {address}" if is_online else f"W&B: kept on this machine; to send it: wandb sync {folder}"
