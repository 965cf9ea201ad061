"""What a command says when something is wrong: to stderr, which may be a log, so without secrets."""

import sys
import traceback
from collections.abc import Sequence

from dpo_lab.run.redaction import redact_override, redact_text


def complain(message: object) -> None:
    """Say what is wrong."""
    print(redact_text(str(message)), file=sys.stderr)


def complain_of_bug() -> None:
    """Print the exception that is being handled with its traceback: nothing is hidden but secrets."""
    print(redact_text(traceback.format_exc()), end="", file=sys.stderr)


def as_typed(program: str, overrides: Sequence[str]) -> str:
    """The command that went wrong."""
    return " ".join([program, *map(redact_override, overrides)])
