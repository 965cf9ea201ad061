"""Playlists drawn by a rule that is known: histories of items on which a recommender can be proved to work.

A listener loves two genres. The songs of a genre form a ring; after a song comes its successor in the ring with
probability `faithfulness`, else any song of the listener's genres. So the best that any recommender can do is known.
"""

import random
from typing import Literal

from dpo_lab.data.histories import Histories, Negatives, Rows, source_of
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.ranges import NonNegativeInt, PositiveInt, Probability


def playlists(
    *,
    num_listeners: PositiveInt = 1500,
    num_genres: PositiveInt = 6,
    songs_per_genre: PositiveInt = 20,
    length: PositiveInt = 16,
    faithfulness: Probability = 0.7,
    seed: NonNegativeInt = 0,
    rows: Rows = "preferences",
    max_history: PositiveInt = 15,
    num_places: PositiveInt | None = 4,
    num_negatives: PositiveInt = 4,
    negatives: Negatives = "uniform",
    negative_seed: NonNegativeInt = 0,
    on_overflow: Literal["drop", "truncate", "error"] = "truncate",
    shuffle: bool = True,
) -> DataSource:
    """Histories drawn from `seed` alone, each song at most once in each; split and judged as `interactions` are.

    Args:
        num_listeners: users, one playlist each.
        num_genres: at least 2.
        songs_per_genre: with `num_genres` the size of the catalogue.
        length: songs of a playlist, of which the last two are held out; at most what two genres hold.
        faithfulness: how likely the successor in the ring comes next, in [0, 1], where it was not heard yet.
        seed: of the draw. The run's seed never moves the data.
        rows: as in `interactions`.
        max_history: as in `interactions`.
        num_places: as in `interactions`.
        num_negatives: as in `interactions`.
        negatives: as in `interactions`.
        negative_seed: as in `interactions`.
        on_overflow: as in `interactions`.
        shuffle: as in `interactions`.

    Raises:
        UserError: when the sizes do not fit each other.
    """
    if num_genres < 2 or not 4 <= length <= 2 * songs_per_genre:
        raise UserError(
            f"data.length: a playlist of {length} songs must have at least 4 and at most 2 * data.songs_per_genre = "
            f"{2 * songs_per_genre}, and data.num_genres={num_genres} at least 2"
        )
    generator = random.Random(seed)
    genres = [[f"{genre}-{song}" for song in range(songs_per_genre)] for genre in range(num_genres)]
    items = {
        str(listener): _playlist(generator, generator.sample(genres, 2), length, faithfulness)
        for listener in range(num_listeners)
    }
    catalogue = [song for genre in genres for song in genre]
    sides = Histories(
        items=items,
        catalogue=catalogue,
        num_negatives=num_negatives,
        negatives=negatives,
        negative_seed=negative_seed,
        max_history=max_history,
        num_places=num_places,
    ).sides()
    report = DataReport(num_read=num_listeners)
    return source_of(
        sides,
        report,
        rows=rows,
        catalogue=catalogue,
        max_length=max_history + 1,
        on_overflow=on_overflow,
        shuffle=shuffle,
    )


def _playlist(generator: random.Random, loved: list[list[str]], length: int, faithfulness: float) -> list[str]:
    successor = {song: genre[(at + 1) % len(genre)] for genre in loved for at, song in enumerate(genre)}
    heard = [generator.choice(generator.choice(loved))]
    while len(heard) < length:
        following = successor[heard[-1]]
        if generator.random() >= faithfulness or following in heard:
            following = generator.choice([song for song in successor if song not in heard])
        heard.append(following)
    return heard
