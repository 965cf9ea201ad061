"""A chat template of the user's own, from a file."""

from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError


def set_chat_template(template_owner: Any, file: str | None) -> None:
    """Let the Jinja template in `file` replace that of a tokenizer, or of a processor; None leaves it.

    Raises:
        UserError: there is no such file, or it is no text.
    """
    if file is None:
        return
    path = Path(file).expanduser()
    if not path.is_file():
        raise UserError(f"model.chat_template: no file {file}")
    try:
        template_owner.chat_template = path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise UserError(f"model.chat_template: {file} is not UTF-8 text ({error.reason}); save it as UTF-8") from error
