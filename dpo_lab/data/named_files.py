"""The files that ``data.path`` names, and what places of their rows begin with."""

from itertools import chain
from pathlib import Path

from dpo_lab.data.errors import DataError
from dpo_lab.data.read_files import read_rows
from dpo_lab.data.read_hub import is_hub_name, read_hub_rows
from dpo_lab.data.read_json import Rows


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


def rows_of(name: str) -> Rows:
    """Rows of a file, or of a name on the hub.

    Raises:
        DataError: it cannot be read, or has no row.
    """
    local = Path(name).expanduser()
    rows = read_hub_rows(name) if not local.exists() and is_hub_name(name) else read_rows(local)
    first = next(rows, None)
    if first is None:
        raise DataError(f"{name} has no row. Give a file that holds some.")
    return chain([first], rows)


def _same(name: str) -> str:
    """Equal for two names of one local file."""
    path = Path(name).expanduser()
    return str(path.resolve()) if path.exists() else name
