"""A file of texts that a model has put into other words, and where those are known from."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, final, get_args

from dpo_lab.data.errors import DataError
from dpo_lab.whole_files import write_whole

FORMAT = "dpo_lab paraphrases 1"

Of = Literal["prompts", "responses"]

ORIGIN = ("model", "url", "weights", "data")
"""What of a provenance is shown: an instruction may be long."""


@final
@dataclass(frozen=True)
class Paraphrases:
    """`rewrites` of each text, in the order in which they are taken; `provenance` says which model, which data."""

    of: Of
    rewrites: Mapping[str, Sequence[str]]
    provenance: Mapping[str, Any]

    def said(self) -> str:
        """In a line: whose words these are, and of how many texts."""
        origin = ", ".join(f"{name} {value}" for name, value in self.provenance.items() if name in ORIGIN)
        return f"paraphrases of {len(self.rewrites)} {self.of}; {origin}"

    def write(self, file: Path) -> None:
        content = {
            "format": FORMAT,
            "provenance": dict(self.provenance),
            "of": self.of,
            "rewrites": dict(self.rewrites),
        }
        write_whole(file, json.dumps(content, indent=1, ensure_ascii=False).encode())


def read_paraphrases(path: str) -> Paraphrases:
    """What `Paraphrases.write` wrote.

    Raises:
        DataError: no such file, or another content.
    """
    file = Path(path).expanduser()
    where = f"prepare.paraphrases.path: {path}"
    if not file.is_file():
        raise DataError(f"{where} is no file. Write one with `dpo-lab paraphrase --out {path}`.")
    try:
        content: Any = json.loads(file.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise DataError(f"{where} is no JSON: {error}. Write it anew with `dpo-lab paraphrase`.") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise DataError(f"{where} is no file that `dpo-lab paraphrase` wrote ({FORMAT!r}).")
    of: Any = content.get("of")
    rewrites, provenance = content.get("rewrites"), content.get("provenance")
    is_named = of in get_args(Of) and isinstance(provenance, dict)
    if not is_named or not isinstance(rewrites, dict) or not all(map(_is_list_of_texts, rewrites.values())):
        raise DataError(f"{where} is damaged. Write it anew with `dpo-lab paraphrase`.")
    return Paraphrases(of, rewrites, cast(dict[str, Any], provenance))


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)
