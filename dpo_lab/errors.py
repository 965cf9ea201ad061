"""Errors that are the user's to mend: the command line answers them with a message and no traceback."""

from typing import ClassVar


class UserError(ValueError):
    """Something in the config, the data or the folders that the user can change.

    The message says what was found, what is allowed and what to do. `exit_code` is what a command ends with.
    """

    exit_code: ClassVar[int] = 2
