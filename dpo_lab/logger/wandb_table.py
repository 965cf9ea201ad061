"""A table that is made of a run after it has ended, as a W&B run of its own in the run's folder."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.logger.wandb_account import has_key, quiet_environment, restore_environment
from dpo_lab.run.redaction import redact


def send_table(
    run: Path,
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    name: str,
    columns: Sequence[str],
    rows: Sequence[Sequence[Any]],
) -> str:
    """Log `rows` as table `name`, online where a key is configured and the run itself was, else into files.

    The files of the W&B run that mirrors training are closed, and are not written to again: the table has a run of
    its own, `job_type` explain, in the same project and in the group of the run's id.

    Returns:
        A line that says where it is.

    Raises:
        UserError: the run's config lets no texts go to W&B.
    """
    import wandb as service

    logger = config.get("logger") or {}
    if logger.get("samples") is False:
        raise UserError("--wandb: the run was trained with logger.samples=false, which lets no texts go to W&B")
    is_online = (info.get("wandb") or {}).get("mode") == "online" and has_key()
    environment = quiet_environment(run / "wandb")
    try:
        mirror = service.init(
            mode="online" if is_online else "offline",
            project=logger.get("project", "dpo-lab"),
            entity=logger.get("entity"),
            group=run.absolute().name,
            job_type="explain",
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
        data: list[Any] = [list(row) for row in redact([list(row) for row in rows])]
        mirror.log({name: service.Table(columns=list(columns), data=data)})
        folder, address = Path(mirror.dir).parent, mirror.url
        mirror.finish()
    except service.Error as error:
        raise UserError(f"--wandb: W&B does not take the table: {redact(str(error))}") from error
    finally:
        restore_environment(environment)
    return f"W&B: {address}" if is_online else f"W&B: kept on this machine; to send it: wandb sync {folder}"
