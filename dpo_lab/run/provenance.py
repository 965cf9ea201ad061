"""Where a run comes from: code, versions, machine."""

import hashlib
import importlib.metadata
import os
import platform
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).resolve().parents[1]

# Packages whose version can move a number; a difference in any other is recorded, not reported.
DECISIVE = ("torch", "pytorch-lightning", "transformers", "tokenizers", "datasets", "numpy", "safetensors", "peft")

MAX_DIFF_BYTES = 1_000_000
_SOURCES = (".py", ".yaml", ".yml", ".toml", ".txt", ".md")
_GIT_SECONDS = 20


def collect_provenance() -> dict[str, Any]:
    """Python, packages, platform and code, for run.json. Device and threads: `device_info`."""
    return {
        "python": platform.python_version(),
        "packages": _packages(),
        "platform": {"system": platform.platform(), "machine": platform.machine(), "num_cpus": os.cpu_count()},
        "code": code_info(),
    }


def device_info() -> dict[str, Any]:
    """The accelerator, if any, and how many threads torch computes with, for run.json."""
    import torch

    cuda = torch.cuda.is_available()
    return {
        "device": torch.cuda.get_device_name() if cuda else "cpu",
        "num_visible_devices": torch.cuda.device_count() if cuda else 0,
        "cuda": torch.version.cuda if cuda else None,
        "cpu_capability": torch.backends.cpu.get_cpu_capability(),
        "num_threads": torch.get_num_threads(),
    }


def code_info() -> dict[str, Any]:
    """Hash of the sources of dpo_lab and, where they are a git checkout, its commit and whether it is dirty."""
    root = _checkout()
    commit = None if root is None else _git(root, "rev-parse", "--verify", "--quiet", "HEAD").strip() or None
    dirty = None if root is None else bool(_git(root, "status", "--porcelain"))
    return {"hash": _hash_sources(), "commit": commit, "dirty": dirty}


def code_diff() -> str:
    """How the checkout of dpo_lab differs from its commit, as a patch that ``git apply`` takes.

    Sources that git does not know yet (a new loss) are in it whole. Empty where dpo_lab is no checkout. What
    would make it longer than `MAX_DIFF_BYTES` is left out, and lines on top say so.
    """
    root = _checkout()
    if root is None:
        return ""
    plain = ("--no-color", "--no-ext-diff", "--no-textconv")
    parts = [_git(root, "diff", *plain, "HEAD", "--")]
    untracked = _git(root, "ls-files", "-z", "--others", "--exclude-standard").split("\0")
    left_out = [] if len(parts[0]) <= MAX_DIFF_BYTES else ["changes of tracked files"]
    parts = parts if not left_out else []
    for name in (name for name in untracked if name.endswith(_SOURCES) and (root / name).is_file()):
        size = sum(map(len, parts))
        if size + (root / name).stat().st_size > MAX_DIFF_BYTES:
            left_out.append(name)
        else:
            parts.append(_git(root, "diff", *plain, "--no-index", "--", os.devnull, name))
    return "".join(f"# left out, too long: {name}\n" for name in left_out) + "".join(parts)


def source_fingerprints() -> dict[str, str]:
    """A short hash of each source file of dpo_lab, by which one that has changed is found."""
    return {
        path.relative_to(PACKAGE).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()[:8]
        for path in sorted(PACKAGE.rglob("*.py"))
    }


def describe_differences(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """What differs between two runs' `collect_provenance` that can move a number, one line each.

    >>> describe_differences({"python": "3.11.7"}, {"python": "3.12.1"})
    ['python: 3.11.7 then, 3.12.1 now']
    """
    pairs = [("python", before.get("python"), now.get("python"))]
    pairs += [(name, before.get("packages", {}).get(name), now.get("packages", {}).get(name)) for name in DECISIVE]
    lines = [f"{name}: {old or 'none'} then, {new or 'none'} now" for name, old, new in pairs if old != new]
    old_code, new_code = before.get("code", {}), now.get("code", {})
    if old_code.get("hash") != new_code.get("hash"):
        lines.append(f"code of dpo_lab: {_code_name(old_code)} then, {_code_name(new_code)} now")
    return lines


def _code_name(code: Mapping[str, Any]) -> str:
    commit = code.get("commit")
    name = f"commit {commit[:10]}" if commit else f"sources {str(code.get('hash'))[:10]}"
    return f"{name} with changes" if commit and code.get("dirty") else name


def _packages() -> dict[str, str]:
    # The first of a name on the path is the one that is imported.
    found: dict[str, str] = {}
    for distribution in importlib.metadata.distributions():
        found.setdefault(str(distribution.metadata["Name"]).lower(), distribution.version)
    return dict(sorted(found.items()))


def _hash_sources() -> str:
    digest = hashlib.sha256()
    for path in sorted(PACKAGE.rglob("*.py")):
        source = path.read_bytes()
        digest.update(f"{path.relative_to(PACKAGE).as_posix()} {len(source)}\n".encode() + source)
    return digest.hexdigest()


def _checkout() -> Path | None:
    # Installed in an environment that lies inside somebody's repository, dpo_lab is not that repository.
    root = PACKAGE.parent
    return root if (root / ".git").exists() and (root / "pyproject.toml").exists() else None


def _git(root: Path, *arguments: str) -> str:
    """What git prints; nothing where git is missing, refuses, or takes too long."""
    environment = {**os.environ, "GIT_OPTIONAL_LOCKS": "0", "GIT_TERMINAL_PROMPT": "0"}
    try:
        done = subprocess.run(
            ["git", "-C", str(root), "-c", "core.quotepath=off", *arguments],
            capture_output=True,
            env=environment,
            timeout=_GIT_SECONDS,
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"code of this run is not recorded: {error}", file=sys.stderr)
        return ""
    return done.stdout.decode(errors="replace")
