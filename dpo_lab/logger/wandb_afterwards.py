"""What is made of a run after it has ended, as a W&B run of its own in the run's folder."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.logger.wandb_account import has_key, quiet_environment, restore_environment
from dpo_lab.run.redaction import redact

Table = tuple[Sequence[str], Sequence[Sequence[Any]]]
"""Columns, and rows."""


@final
class HtmlCell(str):
    """A cell of a table that is a page of its own; whoever makes one has escaped its texts and struck out secrets."""


def send_tables(
    run: Path,
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    name: str,
    tables: Mapping[str, Table],
    pages: Mapping[str, str] | None = None,
) -> str:
    """Log `tables` and `pages` under their names in a W&B run called `name` with `job_type` explain.

    Pages are HTML, and like cells of HTML they hold no secrets: those were struck out where their texts were whole.

    Returns:
        A line that says where it is.

    Raises:
        UserError: the run's config lets no texts go to W&B; W&B does not take it.
    """
    if not lets_texts_go(config):
        raise UserError("--wandb: the run was trained with logger.samples=false, which lets no texts go to W&B")
    try:
        return send_afterwards(run, config, info, name, "explain", tables=tables, pages=pages)
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
    tables: Mapping[str, Table] | None = None,
    pages: Mapping[str, str] | None = None,
) -> str:
    """Send `summary`, `tables` and `pages` as W&B run `name`: online if there is a key and the run was, else as files.

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
        for table, (columns, rows) in (tables or {}).items():
            data: list[Any] = [
                [_cell(*cells, service) for cells in zip(row, clean, strict=True)]
                for row, clean in zip(rows, redact([list(row) for row in rows]), strict=True)
            ]
            mirror.log({table: service.Table(columns=list(columns), data=data)})
        for page, content in (pages or {}).items():
            mirror.log({page: service.Html(content, inject=False)})
        mirror.summary.update(redact(dict(summary or {})))
        folder, address = Path(mirror.dir).parent, mirror.url
        mirror.finish()
    except service.Error as error:
        raise UserError(f"W&B does not take {name}: {redact(str(error))}") from error
    finally:
        restore_environment(environment)
    return f"W&B: {address}" if is_online else f"W&B: kept on this machine; to send it: wandb sync {folder}"


def _cell(cell: Any, clean: Any, service: Any) -> Any:
    return service.Html(str(cell), inject=False) if isinstance(cell, HtmlCell) else clean
