"""Tab completion of ``dpo-lab VERB overrides``: verbs from here, the rest from Hydra's own completion.

Hydra's shell function asks the first word of the line alone (``dpo-lab -sc query=bash``) and takes what follows it
for overrides. So a query is answered here: verbs while the verb is being typed, and after it Hydra's answer to the
line without the verb.
"""

import contextlib
import io
import os
from collections.abc import Callable, Iterable
from pathlib import Path


def split_line(line: str) -> tuple[list[str], bool]:
    """The words after the program's name, and whether the last of them is still being typed.

    >>> split_line("dpo-lab train loss=")
    (['train', 'loss='], True)
    >>> split_line("python scripts/train.py ")
    ([], False)
    """
    words = line.split()
    is_script = len(words) > 1 and Path(words[0]).name.startswith("python")
    return words[2 if is_script else 1 :], bool(words) and not line.endswith(" ")


def complete_verb(verbs: Iterable[str]) -> list[str] | None:
    """The verbs that the line asks for; None when the line is past its verb, so that the verb must answer."""
    words, is_typing = split_line(_line())
    if len(words) > 1 or (words and not is_typing):
        return None
    return [verb for verb in verbs if verb.startswith(words[0] if words else "")]


def verb_of_line() -> str | None:
    """The verb on the line, complete or not."""
    return next(iter(split_line(_line())[0]), None)


def query(ask_hydra: Callable[[], int], *, verb: str) -> int:
    """Answer a query with Hydra's suggestions for the line without `verb`; never an error in the user's prompt."""
    words, is_typing = split_line(_line())
    overrides = words[1:] if words and words[0] == verb else words
    os.environ["COMP_LINE"] = " ".join(["dpo-lab", *overrides]) + ("" if is_typing and overrides else " ")
    if os.environ.get("HYDRA_COMP_DEBUG") == "1":
        return ask_hydra()
    with contextlib.redirect_stderr(io.StringIO()):
        return ask_hydra()


def _line() -> str:
    """What stands left of the cursor; shells that give no cursor are taken to have it at the end."""
    line = os.environ.get("COMP_LINE", "")
    point = os.environ.get("COMP_POINT", "")
    return line[: int(point)] if point.isdigit() else line
