"""What was dropped or cut, by reason, with the places of the first of them."""

from dataclasses import dataclass, field
from typing import Any, get_args

from dpo_lab.data.reasons import REASONS, Effect

NUM_PLACES = 3
_SIZES = ("num_read", "num_train", "num_validation", "num_test")


@dataclass
class DataReport:
    """Counts by reason, and how many rows were read and kept.

    >>> report = DataReport(num_read=3, num_train=2)
    >>> report.count("empty_response", source="train.jsonl row 2")
    >>> print("\\n".join(report.lines()))
    3 rows read: 2 train, 0 validation
    dropped 1 row: a response is empty [empty_response], at train.jsonl row 2

    `num_train`, `num_validation` and `num_test` count examples as read, before any is dropped in token space.
    `columns_not_read` are columns of the files that no row's schema uses; `left_out` says which rows are sound and
    give the loss of this run nothing; `made_with` says what beside the rows the judgements were made with, and whence
    that comes. `prepared` has of each step of `dpo_lab.data.preparation`, in order, its name, numbers of rows (`read`,
    `changed`, `dropped`, `made`, `kept`) and `details` in words.
    """

    num_read: int = 0
    num_train: int = 0
    num_validation: int = 0
    counts: dict[str, int] = field(default_factory=dict)
    places: dict[str, list[str]] = field(default_factory=dict)
    columns_not_read: list[str] = field(default_factory=list)
    left_out: list[str] = field(default_factory=list)
    num_test: int = 0
    made_with: list[str] = field(default_factory=list)
    prepared: list[dict[str, Any]] = field(default_factory=list)

    def count(self, reason: str, n: int = 1, source: str = "") -> None:
        """Add `n` to `reason`.

        Raises:
            KeyError: for a reason that `REASONS` does not list.
        """
        if reason not in REASONS:
            raise KeyError(f"reason {reason!r} is not listed in dpo_lab.data.reasons.REASONS")
        if not n:
            return
        self.counts[reason] = self.counts.get(reason, 0) + n
        places = self.places.setdefault(reason, [])
        if source and len(places) < NUM_PLACES:
            places.append(source)

    def merge(self, other: "DataReport") -> "DataReport":
        """A new report with the counts of both; neither is changed."""
        merged = DataReport(
            self.num_read + other.num_read,
            self.num_train + other.num_train,
            self.num_validation + other.num_validation,
            dict(self.counts),
            {reason: list(places) for reason, places in self.places.items()},
            list(dict.fromkeys(self.columns_not_read + other.columns_not_read)),
            list(dict.fromkeys(self.left_out + other.left_out)),
            self.num_test + other.num_test,
            list(dict.fromkeys(self.made_with + other.made_with)),
            self.prepared + other.prepared,
        )
        for reason, num in other.counts.items():
            merged.count(reason, num)
            merged.places[reason] = (merged.places[reason] + other.places.get(reason, []))[:NUM_PLACES]
        return merged

    def num(self, effect: Effect) -> int:
        """How many rows, responses and pairs together met `effect`."""
        return sum(num for reason, num in self.counts.items() if REASONS[reason].effect == effect)

    def as_dict(self) -> dict[str, Any]:
        """Plain containers, for JSON: sizes, ``{reason: num}`` by effect, and the other fields by their names."""
        by_effect = {
            effect: {reason: self.counts[reason] for reason in REASONS if self._has(reason, effect)}
            for effect in get_args(Effect)
        }
        sizes = {name: getattr(self, name) for name in _SIZES}
        places = {reason: list(places) for reason, places in self.places.items()}
        return {**sizes, **by_effect, "places": places, **self._lists()}

    def _lists(self) -> dict[str, list[Any]]:
        lists = {name: list(getattr(self, name)) for name in ("columns_not_read", "left_out", "made_with")}
        return lists | ({"prepared": [dict(step) for step in self.prepared]} if self.prepared else {})

    @classmethod
    def from_dict(cls, record: dict[str, Any]) -> "DataReport":
        """The report that `as_dict` wrote."""
        counts = {reason: num for effect in get_args(Effect) for reason, num in record[effect].items()}
        plain = ("places", "columns_not_read", "left_out", "made_with")
        sizes = {name: record.get(name, 0) for name in _SIZES}
        prepared = record.get("prepared", [])
        return cls(counts=counts, **sizes, **{name: record[name] for name in plain}, prepared=prepared)

    def lines(self) -> list[str]:
        """For people: the sizes, then one line a reason with the first places, then the columns not read."""
        test = f", {self.num_test} test" if self.num_test else ""
        read = _plural(self.num_read, "row")
        lines = [f"{read} read: {self.num_train} train, {self.num_validation} validation{test}"]
        lines += map(_prepared, self.prepared)
        for reason, (effect, unit, text, _) in REASONS.items():
            if reason in self.counts:
                places = ", ".join(self.places[reason])
                at = f", at {places}" if places else ""
                more = ", ..." if at and self.counts[reason] > len(self.places[reason]) else ""
                lines.append(f"{effect} {_plural(self.counts[reason], unit)}: {text} [{reason}]{at}{more}")
        if self.columns_not_read:
            lines.append(f"columns not read: {', '.join(name or repr(name) for name in self.columns_not_read)}")
        lines += self.left_out
        lines += [f"made with {line}" for line in self.made_with]
        return lines

    def _has(self, reason: str, effect: str) -> bool:
        return reason in self.counts and REASONS[reason].effect == effect


def _plural(num: int, unit: str) -> str:
    return f"{num} {unit}" if num == 1 else f"{num} {unit}s"


def _prepared(step: dict[str, Any]) -> str:
    """What one step did, in a line."""
    done = [f"{step[name]} {name}" for name in ("changed", "dropped", "made") if step[name]]
    details = ", ".join(f"{what}: {num}" for what, num in step["details"].items())
    shown = f" ({details})" if details else ""
    return (
        f"prepared by {step['step']}: {_plural(step['read'], 'row')}, {', '.join(done) or 'nothing to do'}{shown}, "
        f"{step['kept']} left"
    )
