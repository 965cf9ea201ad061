"""A catalogue whose items are written as names: what each row of the data says, as numbers of its items."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import NamedTuple, final


class Place(NamedTuple):
    """The item that stands at `place` of a user's history, counted from 0, where the items from `first` on are shown
    before it."""

    user: str
    first: int
    place: int


class NextItem(NamedTuple):
    """Numbers of the items that a prompt shows, oldest first, and of the one that came next."""

    shown: Sequence[int]
    item: int


@final
@dataclass(frozen=True)
class NamedItems:
    """What a policy that names items can be asked to rank.

    Attributes:
        ids: of all items, in the order of the catalogue; the number of an item is its index here.
        responses: each item as the data writes it as a response.
        popularity: how many training histories hold each item behind their first, as items by their ids are counted.
        histories: numbers of the items of each user, oldest first, all different.
        places: what each row is about, by its `source`.
    """

    ids: Sequence[str]
    responses: Sequence[str]
    popularity: Sequence[int]
    histories: Mapping[str, Sequence[int]]
    places: Mapping[str, Place]

    def next_item(self, source: str) -> NextItem | None:
        """What the row of this `source` is about; None where it is none of these."""
        if source not in self.places:
            return None
        user, first, place = self.places[source]
        history = self.histories[user]
        return NextItem(history[first:place], history[place])
