"""Whether a run can go on as the run that it was: its config, its contents, its code and versions, then and now."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.resume import Change
from dpo_lab.run.identity import CONTENT_OF, COSMETIC_KEYS, canonical_json, without
from dpo_lab.run.provenance import describe_differences
from dpo_lab.run.redaction import redact

_CONTENTS: dict[str, Change] = {
    "data": "data",
    "tokenizer": "tokenizer",
    "initial_weights": "model",
    "reference": "reference",
}

IN_PLACE: frozenset[Change] = frozenset({"code", "versions"})
"""Changes that leave a run its id. Any other makes another run, which only begins where the first had come to."""

NOT_BITS = ("trainer.num_threads", "trainer.micro_batch_size", "trainer.micro_batch_tokens", "reference.cache")
"""Keys that are no part of a run's identity and yet change the order of its sums."""


def changes(
    config: Mapping[str, Any],
    info: Mapping[str, Any],
    new_config: Mapping[str, Any],
    contents: Mapping[str, str],
    provenance: Mapping[str, Any],
) -> dict[Change, list[str]]:
    """What differs between a run as it is recorded and as it would go on now, one line a difference.

    Args:
        config: of its config.yaml.
        info: of its run.json.
        new_config: resolved, with its secrets.
        contents: hashes of data, tokenizer, initial weights and reference, as they are now.
        provenance: `dpo_lab.run.collect_provenance()`.
    """
    found: dict[Change, list[str]] = {}
    left_out = {*COSMETIC_KEYS, *CONTENT_OF}
    then, now = (dict(_flat(without(node, left_out))) for node in (config, redact(dict(new_config))))
    for key in sorted(then.keys() | now.keys()):
        if _text(then.get(key)) != _text(now.get(key)):
            found.setdefault("config", []).append(f"{key}: {_shown(then, key)} then, {_shown(now, key)} now")
    hashes = info.get("hashes", {})
    for name, change in _CONTENTS.items():
        if hashes.get(name) != contents.get(name):
            line = f"{name.replace('_', ' ')}: {_short(hashes.get(name))} then, {_short(contents.get(name))} now"
            found.setdefault(change, []).append(line)
    for line in describe_differences(info, provenance):
        found.setdefault("code" if line.startswith("code ") else "versions", []).append(line)
    return found


def is_same_config(config: Mapping[str, Any], new_config: Mapping[str, Any]) -> bool:
    """Whether both ask for the same run by name, paths included; what lies at the paths may be another thing."""
    then, now = (dict(_flat(without(node, {*COSMETIC_KEYS}))) for node in (config, redact(dict(new_config))))
    return then.keys() == now.keys() and all(_text(then[key]) == _text(now[key]) for key in then)


def refuse_changes(found: Mapping[Change, Sequence[str]], allowed: Sequence[str], run: str) -> None:
    """
    Raises:
        UserError: something differs that is not `allowed`; all of it is named.
    """
    refused = {change: lines for change, lines in found.items() if change not in allowed}
    if not refused:
        return
    lines = "".join(f"\n  {change}: {line}" for change, lines in refused.items() for line in lines)
    wanted = ",".join(dict.fromkeys([*allowed, *refused]))
    raise UserError(
        f"{run} has a checkpoint, and cannot go on from it as the run that it was:{lines}\n"
        f"Restore that, or go on nevertheless with resume.allow_change=[{wanted}], or begin another attempt with "
        "fresh=true"
    )


def may_move_bits(config: Mapping[str, Any], new_config: Mapping[str, Any]) -> list[str]:
    """Changes that no identity knows of and that may still move the last bits of a number, one line each."""
    then, now = dict(_flat(config)), dict(_flat(new_config))
    return [
        f"{key}: {_shown(then, key)} then, {_shown(now, key)} now"
        for key in NOT_BITS
        if _text(then.get(key)) != _text(now.get(key))
    ]


def _flat(node: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _text(value: Any) -> str:
    return canonical_json(value)


def _shown(values: Mapping[str, Any], key: str) -> str:
    return _text(values[key]) if key in values else "absent"


def _short(digest: str | None) -> str:
    return "none" if digest is None else digest[:12]
