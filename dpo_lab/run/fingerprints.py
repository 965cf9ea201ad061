"""fingerprints.json: hashes of the parts of what a run was made from, so that whatever differs later can be named."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.run.files import write_json
from dpo_lab.run.identity import canonical_json
from dpo_lab.run.redaction import redact

FILE = "fingerprints.json"
PARTS = ("config", "rows", "weights", "code")
DIGITS = 8


def write_fingerprints(
    folder: Path,
    config: Mapping[str, Any],
    *,
    rows: Mapping[str, str],
    weights: Mapping[str, str],
    code: Mapping[str, str],
) -> None:
    """
    Args:
        config: resolved.
        rows: as `dpo_lab.data.row_fingerprint.row_fingerprints` gives them.
        weights: a hash of each tensor that is trained, before the first update.
        code: a hash of each source file.
    """
    parts = {"config": of_config(config), "rows": dict(rows), "weights": dict(weights), "code": dict(code)}
    write_json(folder / FILE, parts)


def read_fingerprints(folder: Path) -> dict[str, dict[str, str]]:
    """What `write_fingerprints` wrote; empty parts where there is no file.

    Raises:
        UserError: the file is damaged.
    """
    file = folder / FILE
    try:
        found = json.loads(file.read_text(encoding="utf-8")) if file.exists() else {}
        return {name: dict(found.get(name, {})) for name in PARTS}
    except (ValueError, AttributeError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error}") from error


def of_config(config: Mapping[str, Any]) -> dict[str, str]:
    """A hash of the value of each dotted key, as config.yaml shows it: without secrets.

    >>> of_config({"loss": {"beta": 0.1}})
    {'loss.beta': '14be4b45'}
    """
    return {key: _digest(value) for key, value in flat(redact(dict(config))).items()}


def flat(node: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Dotted names of all values; a list, and a mapping with nothing in it, is a value.

    >>> flat({"loss": {"beta": 0.1, "terms": {}}, "seed": 1})
    {'loss.beta': 0.1, 'loss.terms': {}, 'seed': 1}
    """
    found: dict[str, Any] = {}
    for key, value in node.items():
        is_inner = isinstance(value, Mapping) and value
        found |= flat(value, f"{prefix}{key}.") if is_inner else {f"{prefix}{key}": value}
    return found


def _digest(value: Any) -> str:
    return hashlib.sha256(canonical_json(value).encode()).hexdigest()[:DIGITS]
