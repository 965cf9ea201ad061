"""What is not as it was when a run was made: from a fixed list of causes, each with what exactly differs."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple, final

from dpo_lab.data.row_fingerprint import changed_rows
from dpo_lab.reproduction.original import Original
from dpo_lab.run.compare import NOT_BITS
from dpo_lab.run.fingerprints import flat, of_config
from dpo_lab.run.identity import CONTENT_OF, COSMETIC_KEYS, run_id
from dpo_lab.run.provenance import DECISIVE, describe_differences
from dpo_lab.run.redaction import REDACTED, redact
from dpo_lab.types import Example

Cause = Literal[
    "config",
    "data",
    "tokenizer",
    "initial weights",
    "reference",
    "code",
    "versions",
    "threads",
    "device",
    "sums",
    "resumed",
    "order",
    "reference rows",
    "nondeterminism",
]

MEANING: dict[Cause, str] = {
    "config": "a key of the config differs",
    "data": "the contents of the data differ",
    "tokenizer": "the tokenizer differs",
    "initial weights": "the weights that training started from differ",
    "reference": "the weights of the reference differ",
    "code": "the code of dpo_lab differs",
    "versions": "Python, or a package that can move a number, has another version",
    "threads": "another number of threads adds up sums in another order",
    "device": "the device differs",
    "sums": "micro-batches of another size add up sums in another order",
    "resumed": "the run had gone on with something changed in its middle",
    "order": "a stream of random numbers gave something else",
    "reference rows": "log-probs of the reference on disk were computed in other batches",
    "nondeterminism": "nothing that is recorded differs: the computation does not repeat itself",
}
"""All causes, the likelier first."""

MOST_NAMED = 5
PARTS = {"train": "training row", "validation": "validation row", "test": "test row", "demonstrations": "demonstration"}


class Difference(NamedTuple):
    cause: Cause
    line: str


@final
@dataclass(frozen=True)
class Present:
    """The same run as it would be made now.

    `contents` are hashes of data, tokenizer, weights and reference; `weights` of each trained tensor; `code` of each
    source file; `rows` are the examples of each part of the data; `device` is what
    `dpo_lab.run.provenance.device_info` says.
    """

    config: Mapping[str, Any]
    contents: Mapping[str, str]
    provenance: Mapping[str, Any]
    device: Mapping[str, Any]
    rows: Mapping[str, Sequence[Example]]
    weights: Mapping[str, str]
    code: Mapping[str, str]


def find_differences(original: Original, now: Present) -> list[Difference]:
    """All that differs and could move a number, the likelier causes of a divergence first."""
    found = [
        *_of_config(original, now),
        *_of_contents(original, now),
        *_of_environment(original, now),
        *_of_its_middle(original),
    ]
    order = list(MEANING)
    return sorted(found, key=lambda difference: order.index(difference.cause))


def find_later_differences(original: Original, info: Mapping[str, Any]) -> list[Difference]:
    """What is known only once the run has been made again; `info` is its run.json."""
    then, now = original.info.get("streams") or {}, info.get("streams") or {}
    shared = zip(then.get("order") or [], now.get("order") or [], strict=False)
    found = [
        Difference("order", f"order: the items of step {step} came in another order")
        for step, (old, new) in enumerate(shared, start=1)
        if old != new
    ][:1]
    rows_then, rows_now = (_rows_hash(one) for one in (original.info, info))
    if rows_then and rows_now and rows_then != rows_now:
        found.append(Difference("reference rows", f"reference rows: {rows_then} then, {rows_now} now"))
    return found


def other_packages(original: Original, now: Present) -> list[str]:
    """Packages that are recorded and not known to move a number, where they differ."""
    then, here = original.info.get("packages") or {}, now.provenance.get("packages") or {}
    names = sorted(name for name in then.keys() | here.keys() if name not in DECISIVE)
    return [
        f"{name} {then.get(name, 'none')} then, {here.get(name, 'none')} now"
        for name in names
        if then.get(name) != here.get(name)
    ]


def _of_config(original: Original, now: Present) -> Iterator[Difference]:
    saved, here = flat(original.config), flat(redact(dict(now.config)))
    at_first = original.fingerprints["config"] or of_config(original.config)
    saved_digests, digests = of_config(original.config), of_config(now.config)
    for key in sorted(at_first.keys() | digests.keys()):
        was_added = key not in at_first and key not in saved  # a default of a later version
        is_left_out = key in NOT_BITS or _is_below(key, COSMETIC_KEYS) or CONTENT_OF.get(key) in now.contents
        if was_added or is_left_out or at_first.get(key) == digests.get(key):
            continue
        is_edited = at_first.get(key) != saved_digests.get(key)
        then = "another value" if is_edited else _shown(saved, key)
        edited = "; config.yaml was changed after the run" if is_edited else ""
        yield Difference("config", f"{key}: {then} then, {_shown(here, key)} now{edited}")
    if not original.fingerprints["config"] and _has_another_id(original, now):
        yield Difference("config", "config.yaml was changed after the run: it does not give the run's id")
    for key in NOT_BITS:
        if key not in ("trainer.num_threads", "reference.cache") and saved.get(key) != here.get(key):
            yield Difference("sums", f"{key}: {_shown(saved, key)} then, {_shown(here, key)} now")


def _of_contents(original: Original, now: Present) -> Iterator[Difference]:
    then = original.info.get("hashes") or {}

    def differs(name: str) -> bool:
        return then.get(name) != now.contents.get(name)

    if differs("data"):
        for line in _of_rows(original, now):
            yield Difference("data", line)
    if differs("tokenizer"):
        yield Difference("tokenizer", f"tokenizer: {_hashes('tokenizer', then, now.contents)}")
    if differs("initial_weights"):
        line = f"initial weights: {_hashes('initial_weights', then, now.contents)}{_of_tensors(original, now)}"
        yield Difference("initial weights", line)
    if differs("reference"):
        yield Difference("reference", f"reference: {_hashes('reference', then, now.contents)}")


def _of_rows(original: Original, now: Present) -> Iterator[str]:
    recorded, found = original.fingerprints["rows"], []
    for part, rows in now.rows.items():
        new, num_gone = changed_rows(recorded.get(part, ""), rows) if recorded else ([], 0)
        if new or num_gone:
            found.append(_told(part, new, num_gone))
    if found:
        yield from found
    elif recorded:
        yield "data: the same rows in another order"
    else:
        yield f"data: {_hashes('data', original.info.get('hashes') or {}, now.contents)}"


def _told(part: str, new: Sequence[tuple[int, Example]], num_gone: int) -> str:
    places = [f"{number + 1}" + (f" ({row.source})" if row.source else "") for number, row in new[:MOST_NAMED]]
    more = f" and {len(new) - MOST_NAMED} more" if len(new) > MOST_NAMED else ""
    noun = PARTS.get(part, f"{part} row") + ("s" if len(new) > 1 else "")
    which = f"{noun} {', '.join(places)}{more}"
    if len(new) == num_gone:
        return f"data: {which} {'says' if len(new) == 1 else 'say'} something else"
    gone = [f"of {part} then, {num_gone} {'is' if num_gone == 1 else 'are'} gone"] if num_gone else []
    return "data: " + "; ".join([f"{which} {'is' if len(new) == 1 else 'are'} new"] * bool(new) + gone)


def _of_tensors(original: Original, now: Present) -> str:
    then = original.fingerprints["weights"]
    elsewhere = " (in the config of the model, or in weights that are not trained)"
    return _differing(then, now.weights) or (elsewhere if then else "")


def _of_files(original: Original, now: Present) -> str:
    return _differing(original.fingerprints["code"], now.code)


def _differing(then: Mapping[str, str], now: Mapping[str, str]) -> str:
    """The first names with other hashes, in brackets; nothing where none were kept."""
    names = sorted(name for name in then.keys() | now.keys() if then.get(name) != now.get(name)) if then else []
    more = f" and {len(names) - MOST_NAMED} more" if len(names) > MOST_NAMED else ""
    return f" ({', '.join(names[:MOST_NAMED])}{more})" if names else ""


def _of_environment(original: Original, now: Present) -> Iterator[Difference]:
    for line in describe_differences(original.info, now.provenance):
        is_code = line.startswith("code ")
        yield Difference("code" if is_code else "versions", line + (_of_files(original, now) if is_code else ""))
    then = original.info
    if then.get("num_threads") != now.device.get("num_threads"):
        yield Difference("threads", f"threads: {then.get('num_threads')} then, {now.device.get('num_threads')} now")
    machines = [(one.get("platform") or {}).get("machine") for one in (then, now.provenance)]
    parts = {name: (then.get(name), now.device.get(name)) for name in ("device", "cuda", "cpu_capability")}
    for name, (old, new) in {**parts, "machine": (machines[0], machines[1])}.items():
        if old != new:
            yield Difference("device", f"{name.replace('_', ' ')}: {old or 'none'} then, {new or 'none'} now")


def _of_its_middle(original: Original) -> Iterator[Difference]:
    for resumed in original.info.get("resumed") or []:
        for line in resumed.get("changed") or []:
            yield Difference("resumed", f"the run went on after step {resumed.get('step')} with {line}")


def _has_another_id(original: Original, now: Present) -> bool:
    """Whether the saved config is not that of the run's id. Another version may make ids otherwise."""
    code = [(one.get("code") or {}).get("hash") for one in (original.info, now.provenance)]
    if code[0] != code[1] or REDACTED in str(original.config) or "id" not in original.info:
        return False
    return run_id(original.config, original.info.get("hashes") or {}) != original.info["id"]


def _is_below(key: str, names: Sequence[str]) -> bool:
    return any(key == name or key.startswith(f"{name}.") for name in names)


def _rows_hash(info: Mapping[str, Any]) -> str | None:
    return (info.get("reference_cache") or {}).get("rows_hash")


def _hashes(name: str, then: Mapping[str, str], now: Mapping[str, str]) -> str:
    return f"{(then.get(name) or 'none')[:12]} then, {(now.get(name) or 'none')[:12]} now"


def _shown(values: Mapping[str, Any], key: str) -> str:
    value = values.get(key)
    if key not in values:
        return "absent"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)
