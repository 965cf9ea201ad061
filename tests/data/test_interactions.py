"""Interactions: read, thinned, split by time, and paired with what did not come next."""

import math
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.histories import Histories
from dpo_lab.data.interactions import interactions
from dpo_lab.data.playlists import playlists
from dpo_lab.data.read_interactions import Interaction, thin
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError

HEADER = "userId,movieId,rating,timestamp"


def write(rows: list[str], name: str = "ratings.csv", header: str = HEADER) -> str:
    Path(name).write_text("\n".join([header, *rows]) + "\n")
    return name


def ratings() -> list[str]:
    """Users 0 to 3 meet six of items 1 to 8 in turn, each beginning at another; the rows are mixed."""
    rows = [f"{user},{(user + step) % 8 + 1},{step % 5 + 1},{100 + step}" for user in range(4) for step in range(6)]
    return rows[::2] + rows[1::2]


def read(**knobs: Any) -> DataSource:
    settings = {"min_user_items": 3, "min_item_users": 1, "max_history": 3}
    return interactions(path=write(ratings()), **{**settings, **knobs})


def test_the_last_two_are_held_out_by_time():
    """User 0 met 1 2 3 4 5 6: trained are 1 to 4, validated is 5 behind them, tested is 6 behind all; the test's
    history is whole, since what was seen is not to be recommended."""
    source = read(num_negatives=1)
    of_user = [example for example in source.train if example.source.startswith("user 0 ")]
    assert [(example.prompt, example.responses[0]) for example in of_user] == [("1", "2"), ("1 2", "3"), ("1 2 3", "4")]
    assert (source.validation[0].prompt, source.validation[0].responses[0]) == ("1 2 3 4", "5")
    assert (source.test[0].prompt, source.test[0].responses[0]) == ("1 2 3 4 5", "6")
    assert [len(side) for side in (source.train, source.validation, source.test)] == [12, 4, 4]
    assert source.classes == ("1", "2", "3", "4", "5", "6", "7", "8")
    assert source.report.lines()[0] == "24 rows read: 12 train, 4 validation, 4 test"


def test_what_came_at_the_same_time_is_counted():
    """User 1: test and validation in one second. User 2: the last two that are trained on, which holds nothing out."""
    rows = [f"1,{item},5,{min(item, 4)}" for item in range(1, 6)]
    rows += [f"2,{item},5,{max(item, 5)}" for item in range(4, 9)]
    source = interactions(path=write(rows), min_user_items=3, min_item_users=1)
    (said,) = [line for line in source.report.left_out if "same time" in line]
    assert said.startswith("1 users have a tested or validated item at the same time as another")
    assert not [line for line in read().report.left_out if "same time" in line]


def test_a_training_row_shows_the_latest_items():
    source = read(max_history=2, num_places=1)
    assert [example.prompt for example in source.train if example.source.startswith("user 0 ")] == ["2 3"]
    assert source.max_length == 3


def test_sequences_say_every_item_but_the_first_once():
    """User 0's 1 2 3 4 in stretches of two: 2 behind 1, then 3 4 behind 2."""
    source = read(rows="sequences", max_history=2)
    of_user = [(e.prompt, e.responses) for e in source.train if e.source.startswith("user 0 ")]
    assert sorted(of_user) == [("1", ("2",)), ("2", ("3 4",))]
    assert source.train == source.demonstrations
    assert [len(example.responses) for example in source.validation] == [2] * 4, "validated are preferences"


def test_what_was_met_is_no_negative():
    """User 0 has trained on four of eight items and is tested on a sixth: two others are left."""
    source = read(num_negatives=2)
    for example in [*source.train, *source.validation, *source.test]:
        user = int(example.source.split()[1])
        trained = {str((user + step) % 8 + 1) for step in range(4)}
        assert not {*str(example.prompt).split(), *trained, str(example.responses[0])} & set(
            map(str, example.responses[1:])
        )
    with pytest.raises(DataError, match=r"has met all but 2 of 8 items, and data\.num_negatives=3"):
        read(num_negatives=3)


def test_negatives_depend_on_user_and_place_alone():
    """Neither on how many are drawn nor on the order of users."""
    items = {str(user): [str(item) for item in range(user, user + 6)] for user in range(5)}
    catalogue = [str(item) for item in range(30)]
    two = Histories(items=items, catalogue=catalogue, num_negatives=2).sides().train
    four = Histories(items=dict(reversed(items.items())), catalogue=catalogue, num_negatives=4).sides().train
    first_two = {example.source: example.responses[:3] for example in four}
    assert {example.source: example.responses for example in two} == first_two
    other = Histories(items=items, catalogue=catalogue, num_negatives=2, negative_seed=1).sides().train
    assert [example.responses[1:] for example in other] != [example.responses[1:] for example in two]


@pytest.mark.parametrize(("rule", "expected"), [("uniform", 1 / 4), ("popularity", 3 / 6.5)])
def test_negatives_follow_their_rule(rule: Any, expected: float):
    """Item p stands in three training histories, q, r and s in one, two and none of them (none counts as half)."""
    others = {"1": ["p", "q", "r", "x", "y"], "2": ["p", "r", "u", "x", "y"], "3": ["p", "u", "v", "x", "y"]}
    items = {**others, **{f"asked {number}": ["a", "b", "c", "x"] for number in range(400)}}
    drawn = Histories(items=items, catalogue=["a", "b", "p", "q", "r", "s"], negatives=rule).sides().train
    counts = Counter(example.responses[1] for example in drawn if example.source.startswith("asked"))
    asked = Counter(e.responses[1] for e in drawn if e.source.startswith("user asked"))
    num = sum(asked.values())
    assert not counts and set(asked) == {"p", "q", "r", "s"}
    assert abs(asked["p"] / num - expected) < 4 * math.sqrt(expected * (1 - expected) / num)


def interaction(user: str, item: str, time: float = 0, rating: float = 5) -> Interaction:
    return Interaction(user, item, time, rating, "")


def test_thinning_by_hand():
    """Item z has one user, so it goes, and with it user 3's third item, so 3 goes, and with 3 item w's second user."""
    rows = [interaction(user, item, time) for user in "12" for time, item in enumerate("abc")]
    rows += [interaction("1", "w", 9), interaction("1", "a", 10), interaction("2", "a", -1, rating=1)]
    rows += [interaction("3", item) for item in "azw"]
    report = DataReport()
    left = thin(rows, report, min_rating=2, min_user_items=3, min_item_users=2)
    assert {user: [one.item for one in history] for user, history in left.items()} == {
        "1": list("abc"),
        "2": list("abc"),
    }
    assert report.counts == {"low_rating": 1, "repeated_interaction": 1, "rare_item": 2, "short_history": 2}


def test_items_with_names():
    """For a language model; two films of one name are told apart by their ids, and what has no name is counted."""
    names = write(["1,Alien", "2,Emma", "3,Emma", "4,Heat", "5,Up", "6,Ran", "7,Big"], "movies.csv", "movieId,title")
    source = read(text="names", names_path=names)
    example = next(example for example in source.train if example.source.startswith("user 0 item 3"))
    assert example.prompt == "Seen so far, oldest first:\nAlien\nEmma [2]\nNext:"
    assert example.responses[0] == " Emma [3]"
    assert source.classes is None and source.max_length == 512
    assert source.report.counts["no_name"] == 2
    assert [len(demonstration.responses) for demonstration in source.demonstrations] == [1] * len(source.train)


def test_a_catalogue_of_names_says_what_each_row_is_about():
    """The same history and next item as the ids say, shown as far as the prompt shows them; Emma is two films. Users 0
    to 3 trained on four items from their own on: of 1 to 8, hold behind their first 0 1 2 3 3 2 1 0."""
    write([f"{item},{name}" for item, name in enumerate(FILMS, 1)], "movies.csv", "movieId,title")
    named, by_id = read(text="names", names_path="movies.csv"), read()
    items = named.named_items
    assert items is not None and by_id.named_items is None
    assert items.ids == by_id.classes and items.responses[1:3] == (" Emma [2]", " Emma [3]")
    assert items.popularity == (0, 1, 2, 3, 3, 2, 1, 0)
    for name, examples in named.sets.items():
        for example, other in zip(examples, by_id.sets[name], strict=True):
            found = items.next_item(example.source)
            assert found is not None and example.source == other.source
            assert [items.ids[number] for number in found.shown] == str(other.prompt).split()
            assert items.ids[found.item] == other.responses[0]
            assert items.responses[found.item] == example.responses[0]
    assert items.next_item("elsewhere") is None


FILMS = ("Alien", "Emma", "Emma", "Heat", "Up", "Ran", "Big", "Cat")


@pytest.mark.parametrize(
    ("knobs", "message"),
    [
        ({"text": "names"}, "data.names_path: a file with the names"),
        ({"names_path": "movies.csv"}, "data.names_path: a file with the names"),
        ({"columns": {"film": "movieId"}}, "data.columns maps film, which nothing reads"),
        ({"min_rating": 9}, "no user is left of 24 rows"),
        ({"columns": {"item": "film"}}, "no column 'film'"),
    ],
)
def test_knobs_that_cannot_be_are_refused(knobs: dict[str, Any], message: str):
    with pytest.raises(DataError, match=message):
        read(**knobs)


def test_names_and_sequences_exclude_each_other():
    write(["1,Alien"], "movies.csv", "movieId,title")
    with pytest.raises(DataError, match=r"data\.rows=sequences"):
        read(text="names", names_path="movies.csv", rows="sequences")


BAD = ["0,,3,1", "0,7 8,3,1", "0,9,3,soon", ",9,3,1", "0,9,x,1"]


def test_bad_rows_are_told_with_their_place():
    with pytest.raises(DataError) as raised:
        interactions(path=write([*ratings(), *BAD]))
    for shown in (
        "ratings.csv row 26, column 'movieId': nothing where an id or a name belongs",
        "row 27, column 'movieId': an item whose id holds white space: '7 8'",
        "row 28, column 'timestamp': no finite number: 'soon'",
        "row 29, column 'userId'",
        "row 30, column 'rating'",
    ):
        assert shown in str(raised.value)


def test_bad_rows_can_be_dropped_and_counted():
    source = interactions(path=write([*ratings(), *BAD]), on_problem="drop", min_user_items=3, min_item_users=1)
    assert source.report.counts == {"null_value": 2, "bad_item": 1, "bad_number": 2}
    assert source.report.num_read == 29 and len(source.test) == 4


def test_without_ratings():
    rows = [",".join((*row.split(",")[:2], row.split(",")[3])) for row in ratings()]
    path = write(rows, "clicks.csv", "user,item,time")
    assert len(interactions(path=path, min_user_items=3, min_item_users=1).test) == 4
    with pytest.raises(DataError, match="no column 'rating'"):
        interactions(path=path, min_rating=3)


def test_playlists_follow_their_rule():
    """Successors in the ring of a genre come next as often as `faithfulness` says, and a little more by chance."""
    source = playlists(num_listeners=300, faithfulness=0.7)
    follows, num = 0, 0
    for example in source.test:
        songs = f"{example.prompt} {example.responses[0]}".split()
        assert len(set(songs)) == len(songs) == 16
        assert len({song.split("-")[0] for song in songs}) <= 2
        for before, after in pairwise(songs):
            (genre, number), (other, following) = (song.split("-") for song in (before, after))
            follows += genre == other and (int(number) + 1) % 20 == int(following)
            num += 1
    assert 0.62 < follows / num < 0.76
    assert source.classes is not None and len(source.classes) == 120
    assert playlists(num_listeners=3).train == playlists(num_listeners=3).train
    assert playlists(num_listeners=3, seed=1).train != playlists(num_listeners=3).train


def test_playlists_that_cannot_be_are_refused():
    with pytest.raises(UserError, match=r"data.length: a playlist of 41 songs .* 2 \* data.songs_per_genre = 40"):
        playlists(length=41)
