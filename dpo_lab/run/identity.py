"""Which run is this? A hash of what decides its numbers, and of nothing else."""

import hashlib
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

ID_LENGTH = 12

# THE list of what never enters an id. A name covers the key itself and everything below it.
COSMETIC_KEYS: tuple[str, ...] = (
    "logger",  # where curves are mirrored to
    "runs_dir",  # folders can be moved
    "cache_dir",
    "name",  # a label for people; it is the folder around the id
    "fresh",  # asks for another attempt at the same run
    "resume",  # a resumed run is the run that it continues
    "sweep",  # how jobs share a machine
    "trainer.num_threads",  # how fast, not what
    "trainer.checkpoint_every",  # how much is lost when the process dies
    "trainer.keep_last",
    "trainer.micro_batch_size",  # the gradient of a window does not depend on how it is split
    "trainer.micro_batch_tokens",
    "reference.cache",  # log-probs read from disk are the log-probs that would be computed
    "reference.verify_rows",
)

# A path is no identity: the same file may move, and another may take its place. Where `contents` has the
# hash under the name on the right, the path on the left is left out of the id.
CONTENT_OF: dict[str, str] = {
    "data.path": "data",
    "data.validation_path": "data",
    "data.test_path": "data",
    "data.classes": "data",
    "data.confusion": "data",
    "prepare.synonyms.path": "data",
    "prepare.templates.templates": "data",
    "prepare.paraphrases.path": "data",
    "model.path": "initial_weights",
    "reference.path": "reference",
}


# Keys that came later than runs that still count, at the value that stands for what was before them: there a key says
# nothing, so that neither the id of such a run nor its place among others moves.
WITHOUT_EFFECT: dict[str, Any] = {
    "data.test_path": None,
    "data.test_fraction": 0,
    "data.num_test_pairs": 0,
    "data.label_noise": 0,
    "data.label_noise_seed": 0,
    "trainer.record_pairs": False,
    "trainer.deterministic": True,
    "prepare": {},
}


def run_id(config: Mapping[str, Any], contents: Mapping[str, str]) -> str:
    """First 12 hex digits of a SHA-256 over the resolved config and the contents it points at.

    >>> run_id({"seed": 0, "runs_dir": "a"}, {"data": "5e"}) == run_id({"runs_dir": "b", "seed": 0}, {"data": "5e"})
    True
    >>> run_id({"seed": 0}, {}) == run_id({"seed": 1}, {})
    False

    `config` is plain and resolved; keys of `COSMETIC_KEYS` do not count. `contents` are hashes of what lies
    outside of the config: ``data`` (training and validation), ``tokenizer``, ``initial_weights``, ``reference``.

    Raises:
        TypeError: for a value that has no canonical form, naming its key.
    """
    left_out = {*COSMETIC_KEYS, *(path for path, content in CONTENT_OF.items() if content in contents)}
    text = canonical_json({"config": without(config, left_out), "contents": dict(contents)})
    return hashlib.sha256(text.encode()).hexdigest()[:ID_LENGTH]


def without(config: Mapping[str, Any], names: set[str], prefix: str = "") -> dict[str, Any]:
    """A copy of `config` less the dotted `names`, all that stands below them, and what says nothing."""
    kept: dict[str, Any] = {}
    for key, value in config.items():
        name = f"{prefix}{key}"
        if name not in names and not says_nothing(name, value):
            kept[key] = without(value, names, f"{name}.") if isinstance(value, Mapping) else value
    return kept


def says_nothing(key: str, value: Any) -> bool:
    """Whether the dotted `key` has the value that it would have where it did not exist."""
    if key not in WITHOUT_EFFECT:
        return False
    nothing = WITHOUT_EFFECT[key]
    return value == nothing and isinstance(value, bool) == isinstance(nothing, bool)


def canonical_json(value: Any) -> str:
    """The one text of a value: keys sorted, no spaces, whole floats written as integers.

    >>> canonical_json({"b": 1.0, "a": (0.1, None)})
    '{"a":[0.1,null],"b":1}'

    Raises:
        TypeError: for a value that is not a scalar, a mapping or a sequence, naming its key.
    """
    return json.dumps(_canonical(value, "value"), sort_keys=True, separators=(",", ":"))


def _canonical(value: Any, name: str) -> Any:
    if isinstance(value, Mapping):
        return {str(key): _canonical(item, f"{name}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_canonical(item, f"{name}[{index}]") for index, item in enumerate(value)]
    # On a command line `beta=1` and `beta=1.0` are one wish.
    if isinstance(value, float) and value.is_integer():
        return int(value)
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, Path):
        return str(value)
    raise TypeError(f"{name} is a {type(value).__name__}; an id is made of plain values")
