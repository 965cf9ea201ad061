"""Where in the data a response stands that is known by its key alone."""

from collections.abc import Callable, Collection, Sequence

from dpo_lab.data.batch import response_keys
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.errors import DataError
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import Overflow
from dpo_lab.types import Encoded, Example

Key = tuple[int, int]


def locate(
    keys: Collection[Key],
    examples: Sequence[Example],
    encode: Callable[[list[Example]], list[Encoded]],
    max_length: int,
    on_overflow: Overflow,
    end_id: int | None,
) -> dict[Key, str]:
    """The `Example.source` of each key that one of `examples` has, as it was encoded; the first where several have it.

    A response that was borrowed from another prompt stands nowhere. Examples are encoded anew, until all are found.
    """
    wanted, found = set(keys), dict[Key, str]()
    overflow = "truncate" if on_overflow == "truncate" else "drop"
    for example in examples:
        if len(found) == len(wanted):
            break
        try:
            encoded = encode_source([example], encode, max_length, overflow, DataReport(), end_id).encoded
        except DataError:  # one that cannot be encoded was dropped, and is in no batch
            continue
        for group in encoded:
            for key in response_keys(group):
                if key in wanted:
                    found.setdefault(key, example.source)
    return found
