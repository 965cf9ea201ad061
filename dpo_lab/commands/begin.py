"""Which folder a run writes into, and from which checkpoint it goes on, if any."""

import shutil
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from dpo_lab.checkpoints import check_content
from dpo_lab.errors import UserError
from dpo_lab.resume import Change
from dpo_lab.run import RunFolder, read_run, run_id
from dpo_lab.run.claim import find_run
from dpo_lab.run.compare import IN_PLACE, changes, is_same_config, may_move_bits, refuse_changes
from dpo_lab.run.digests import GROWING, check_digest
from dpo_lab.run.kept import Kept, manifest_path, newest_sound
from dpo_lab.run.links import refuse_links
from dpo_lab.run.read import Run, read_info

Say = Callable[[str], None]
UNFINISHED = ("interrupted", "failed", "running")


class Begun(NamedTuple):
    """`checkpoint` is what the run goes on from, made after `step` steps; None and 0 for one from its beginning."""

    folder: RunFolder
    checkpoint: dict[str, Any] | None = None
    step: int = 0


@dataclass(frozen=True)
class Now:
    """A run as its config, contents and code are now. `contents` are hashes of data, tokenizer, weights, reference."""

    config: Mapping[str, Any]
    contents: Mapping[str, str]
    provenance: Mapping[str, Any]

    def changes(self, run: Run) -> dict[Change, list[str]]:
        """What differs from `run`, one line a difference."""
        return changes(run.config, run.info, self.config, self.contents, self.provenance)

    def refuse(self, found: Mapping[Change, list[str]], path: Path) -> None:
        """
        Raises:
            UserError: something of `found` is not allowed by the config.
        """
        refuse_changes(found, self.config["resume"]["allow_change"], str(path))


def begin(now: Now, say: Say) -> Begun:
    """Claim the folder of the run, put back to its newest whole checkpoint where it was begun before.

    Raises:
        AlreadyFinished: there is nothing to do.
        FolderClaimed: another process is at it.
        UserError: something differs from when the checkpoint was made and `resume.allow_change` does not name it; or
            `resume.run` names no run, or one without a checkpoint.
    """
    config = now.config
    if config["resume"]["run"] is not None:
        return _go_on_with(find_run(config["runs_dir"], config["resume"]["run"]), now, say)
    identity = run_id(config, now.contents)
    return _go_on(RunFolder.claim(config["runs_dir"], config["name"], identity, fresh=config["fresh"]), now, say)


def _go_on(folder: RunFolder, now: Now, say: Say) -> Begun:
    """In a folder that is ours. Where going on is refused, it stays as it was."""
    if not folder.is_taken_over:
        for line in _left_behind(folder.path, now):
            say(line)
        return Begun(folder)
    with _letting_go(folder):
        kept = _newest(folder.path, say)
        if kept is None:
            say(f"an earlier attempt left no checkpoint: starting over in {folder.path}")
            folder.start_over(step=0)
            return Begun(folder)
        run = read_run(folder.path)
        found = now.changes(run)
        now.refuse(found, folder.path)
        for line in may_move_bits(run.config, now.config):
            say(f"not as before: {line}")
        return _rewound(folder, kept, found, say)


def _left_behind(path: Path, now: Now) -> Iterator[str]:
    """A line for each unfinished run of the same config beside `path`: what lies behind its paths has changed since."""
    for info_file in sorted(path.parent.glob("*/run.json")):
        try:
            if info_file.parent == path or read_info(info_file.parent).get("status") not in UNFINISHED:
                continue
            run = read_run(info_file.parent)
        except (OSError, UserError):  # damaged, or not there any more: nothing that could be gone on with
            continue
        found = sorted(now.changes(run).keys() - {"code", "versions"})
        if found and is_same_config(run.config, now.config):
            yield (
                f"{run.path} began with this config and has not finished; its {' and '.join(found)} have changed, so "
                f"this is another run. To go on with it: resume.run={run.path.name} "
                f"resume.allow_change=[{','.join(found)}]"
            )


def _go_on_with(source: Path, now: Now, say: Say) -> Begun:
    """With the run in `source`: in its own folder where it is the same run, else in a new one that begins as it did."""
    run = read_run(source)
    found = now.changes(run)
    if found.keys() <= IN_PLACE:
        return _go_on(RunFolder.take_over(source), now, say)
    now.refuse(found, source)
    refuse_links(source)
    kept = _newest(source, say)
    if kept is None:
        raise UserError(f"resume.run: {source} has no checkpoint to go on from")
    # Its beginning is part of what decides its numbers, so the id is not that of the same config from step 0.
    origin = {"run": str(source), "id": run.info["id"], "step": kept.step}
    identity = run_id(now.config, {**now.contents, "origin": f"{origin['id']} after {kept.step}"})
    folder = RunFolder.claim(now.config["runs_dir"], now.config["name"], identity)
    with _letting_go(folder):
        if folder.is_taken_over and _newest(folder.path, say) is not None:
            return _go_on(folder, now, say)
        _copy(kept, source, folder)
        if "reference" in found and kept.content["reference_state"] is None:
            kept.content["reference"] = now.contents.get("reference")
        folder.update(origin=origin)
        return _rewound(folder, kept, found, say)


def _rewound(folder: RunFolder, kept: Kept, found: Mapping[Change, list[str]], say: Say) -> Begun:
    lines = [f"{change}: {line}" for change, differing in found.items() for line in differing]
    for line in lines:
        say(f"not as before: {line}")
    folder.rewind(kept.content["recorder"]["position"], step=kept.step, changed=lines)
    say(f"going on after step {kept.step}, from {kept.path}")
    return Begun(folder, kept.content, kept.step)


def _newest(path: Path, say: Say) -> Kept | None:
    folder = path / "checkpoints"
    kept = newest_sound(folder, say) if folder.is_dir() else None
    if kept is not None:
        check_content(kept.content)
    return kept


def _copy(kept: Kept, source: Path, folder: RunFolder) -> None:
    """Begin `folder` with the record of `source` and, after it, its checkpoint: where that is, nothing is missing."""
    info = read_info(source)
    for name in GROWING:
        check_digest(source / name, info)
        if (source / name).exists():
            shutil.copyfile(source / name, folder.path / name)
    for file in (kept.path, manifest_path(kept.path)):
        shutil.copyfile(file, folder.checkpoints / file.name)


@contextmanager
def _letting_go(folder: RunFolder) -> Iterator[None]:
    try:
        yield
    except BaseException:
        folder.let_go()
        raise
