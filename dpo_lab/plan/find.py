"""Plan files: which there are, and what one of them says."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from dpo_lab.config.check import find_shape_faults
from dpo_lab.config.spelling import did_you_mean, nearest
from dpo_lab.errors import UserError
from dpo_lab.plan.search_shape import find_search_faults
from dpo_lab.plan.shape import PARTS, Plan, find_part_faults

FOLDER = "sweep"


class PlanError(UserError):
    """A plan that cannot be run: the file, then one fault an argument, each behind its place in the file."""

    def __str__(self) -> str:
        name, *faults = self.args
        number = f"{len(faults)} faults" if len(faults) > 1 else "1 fault"
        return "\n".join([f"{name}: {number} in the plan; nothing was started", *(f"  {fault}" for fault in faults)])


@dataclass(frozen=True)
class PlanFile:
    """A plan by its name, and its plain content, which is well-formed."""

    name: str
    path: Path
    content: dict[str, Any]

    @property
    def about(self) -> str:
        return self.content.get("about", "")


def plan_paths(folders: Sequence[Path]) -> dict[str, Path]:
    """Plans in ``FOLDER/sweep/`` of `folders`, by name; the first folder that has a name counts."""
    found: dict[str, Path] = {}
    for folder in folders:
        for path in sorted((folder / FOLDER).glob("*.yaml")):
            found.setdefault(path.stem, path)
    return dict(sorted(found.items()))


def find_plan(name: str, folders: Sequence[Path]) -> PlanFile:
    """The plan called `name`, or the one in the file `name`.

    Raises:
        PlanError: with every fault of the file, as far as it can be seen without composing.
        UserError: there is no such plan.
    """
    known = plan_paths(folders)
    path = Path(name) if name.endswith((".yaml", ".yml")) else known.get(name)
    if path is None or not path.is_file():
        places = ", ".join(str(folder / FOLDER) for folder in folders)
        suggestion = did_you_mean(nearest(name, known), known, "plans")
        raise UserError(f"no plan {name} (looked in {places}){suggestion}")
    return PlanFile(path.stem, path, _read(path))


def find_content_faults(plain: dict[str, Any]) -> list[str]:
    """What is wrong with the content of a plan, as far as it can be seen without composing."""
    faults = find_shape_faults(plain, Plan)
    if faults:
        return faults
    faults = list(find_part_faults(plain))
    parts = [part for part in PARTS if part in plain]
    if "search" in plain:
        faults += find_search_faults(plain["search"])
        faults += [f"{part}: a search has its own space; use search.space, or leave search out" for part in parts]
    elif not parts:
        faults.append(f"nothing to vary; a plan has one of {', '.join(PARTS)}, or a search")
    return faults


def _read(path: Path) -> dict[str, Any]:
    try:
        content = OmegaConf.to_container(OmegaConf.load(path), resolve=False)
    except (YAMLError, OmegaConfBaseException, OSError, UnicodeDecodeError) as error:
        raise PlanError(str(path), f"is no YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict) or not content:
        raise PlanError(str(path), f"a plan is a mapping of {', '.join(PARTS)}, set, search, about")
    plain: dict[str, Any] = {str(key): value for key, value in content.items()}
    faults = find_content_faults(plain)
    if faults:
        raise PlanError(str(path), *faults)
    return plain
