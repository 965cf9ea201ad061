"""The files that ``data.path`` names, and what places of their rows begin with."""

from pathlib import Path

from dpo_lab.data.errors import DataError


def paths_of(path: str | list[str]) -> list[str]:
    """The names in `path`, at least one.

    Raises:
        DataError: there is none, or one file twice.
    """
    paths = [path] if isinstance(path, str) else list(path)
    if not paths:
        raise DataError("data.path names no file.")
    again = [name for number, name in enumerate(paths) if _same(name) in map(_same, paths[:number])]
    if again:
        raise DataError(f"data.path names {again[0]} twice, so each of its rows would count twice. Name it once.")
    return paths


def label_of(name: str, paths: list[str]) -> str:
    """The file's name; its whole path where two files bear the same name."""
    short = Path(name).name
    same = [other for other in paths if Path(other).name == short and other != name]
    return name if same or not Path(name).suffix else short


def _same(name: str) -> str:
    """Equal for two names of one local file."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
