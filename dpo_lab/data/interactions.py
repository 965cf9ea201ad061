"""``data=interactions``: who met which item when, as preferences of the next item over others."""

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Annotated, Literal

from dpo_lab.data.errors import DataError, problems_error
from dpo_lab.data.histories import HELD_OUT, Histories, Negatives, Rows, by_id, by_name, source_of
from dpo_lab.data.named_files import paths_of
from dpo_lab.data.read_interactions import Interaction, InteractionReader, thin
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import Ge, NonNegativeInt, PositiveInt

Text = Literal["ids", "names"]


def interactions(
    *,
    path: str | list[str],
    names_path: str | None = None,
    columns: dict[str, str] | None = None,
    text: Text = "ids",
    rows: Rows = "preferences",
    min_rating: float | None = None,
    min_user_items: Annotated[int, Ge(3)] = 5,
    min_item_users: PositiveInt = 5,
    max_history: PositiveInt = 50,
    num_places: PositiveInt | None = None,
    num_negatives: PositiveInt = 1,
    negatives: Negatives = "uniform",
    negative_seed: NonNegativeInt = 0,
    max_length: PositiveInt | None = None,
    on_overflow: Literal["drop", "truncate", "error"] = "truncate",
    on_problem: Literal["error", "drop"] = "error",
    shuffle: bool = True,
) -> DataSource:
    """Read interactions such as film ratings; of each user the last item is tested, the second last validated.

    A row has `user`, `item` and `time`, and maybe a `rating`; MovieLens' names are understood. The prompt of an
    example is what a user had met, oldest first; its responses are the item that came next and `num_negatives` others.
    Every meeting counts as a positive one unless `min_rating` is set.

    Args:
        path: one or more files (.csv, .tsv, .jsonl, .json, .parquet, each also .gz), or a hub name.
        names_path: a file with `item` and `name`, for ``text=names``.
        columns: our name -> the file's, where they differ.
        text: what prompts and responses are written in: "ids" for a recommender, whose answers are then the whole
            catalogue; "names" for a language model that names the next item.
        rows: what is trained on: "preferences", or "sequences", which have no wrong item: whole stretches of a history,
            of which every item but the first is to be predicted (for ``loss=sft``, with ids). Validated and tested are
            preferences in either case.
        min_rating: what is rated below is left out, as if it had not been met.
        min_user_items: users with fewer items are left out, at least 3.
        min_item_users: items with fewer users are left out.
        max_history: items that a training row shows, the latest; validated and tested are whole histories.
        num_places: last places of each training history that give an example; null: all but the first.
        num_negatives: wrong items of each example, all different.
        negatives: how they are drawn from what the user's training history does not hold: "uniform", or in proportion
            to "popularity" in training.
        negative_seed: draws them. The run's seed never moves the data.
        max_length: tokens of prompt and response together; null: max_history + 1 with ids, 512 with names.
        on_overflow: what happens to what is longer; "truncate" leaves the oldest out.
        on_problem: what happens to a row that cannot be used: all of them in one error, or dropped and counted.
        shuffle: whether each epoch has an order of its own.

    Raises:
        DataError: for files, rows or knobs that cannot be used, with their places and what to do.
    """
    _check_knobs(names_path, text, rows)
    reader = InteractionReader(columns or {}, needs_rating=min_rating is not None)
    found = reader.read(paths_of(path))
    names = reader.names(names_path) if names_path is not None else None
    if reader.problems and on_problem == "error":
        raise problems_error(reader.problems, "Correct them, map columns, or drop and count: data.on_problem=drop")
    report = DataReport(num_read=reader.num_read)
    for problem in reader.problems:
        report.count(problem.reason, source=problem.source)
    if names is not None:
        found = _named(found, names, report)
    histories = thin(found, report, min_rating=min_rating, min_user_items=min_user_items, min_item_users=min_item_users)
    if not histories:
        raise DataError(
            f"no user is left of {len(found)} rows. Lower data.min_user_items, data.min_item_users or data.min_rating."
        )
    items = {user: [one.item for one in history] for user, history in histories.items()}
    catalogue = sorted({item for history in items.values() for item in history}, key=_in_order)
    known = None if names is None else distinct_names(catalogue, names)
    met = Histories(
        items=items,
        catalogue=catalogue,
        num_negatives=num_negatives,
        negatives=negatives,
        negative_seed=negative_seed,
        max_history=max_history,
        num_places=num_places,
        show=by_id if known is None else lambda history: by_name([known[item] for item in history]),
        say=str if known is None else lambda item: f" {known[item]}",
    )
    _describe(items, catalogue, report)
    _count_ties(histories, report)
    return source_of(
        met.sides(),
        report,
        rows=rows,
        catalogue=catalogue if text == "ids" else None,
        named_items=met.named_items() if text == "names" else None,
        max_length=max_length or (max_history + 1 if text == "ids" else 512),
        on_overflow=on_overflow,
        on_problem=on_problem,
        shuffle=shuffle,
    )


def _check_knobs(names_path: str | None, text: Text, rows: Rows) -> None:
    if (names_path is not None) != (text == "names"):
        raise DataError(
            f"data.names_path: a file with the names of items is needed with data.text=names and read with nothing "
            f"else; here are data.text={text} and data.names_path={names_path}."
        )
    if rows == "sequences" and text == "names":
        raise DataError(
            "data.rows=sequences: stretches of a history are for data.text=ids; train on data.rows=preferences"
        )


def _named(found: Sequence[Interaction], names: Mapping[str, str], report: DataReport) -> list[Interaction]:
    nameless = [one for one in found if one.item not in names]
    for one in nameless:
        report.count("no_name", source=one.source)
    return [one for one in found if one.item in names]


def distinct_names(catalogue: Sequence[str], names: Mapping[str, str]) -> dict[str, str]:
    """Name by item; a name that several items bear is followed by the item's id, so that each means one of them."""
    times = Counter(names[item] for item in catalogue)
    return {item: names[item] if times[names[item]] == 1 else f"{names[item]} [{item}]" for item in catalogue}


def _in_order(item: str) -> tuple[int, str]:
    """Numbers by their size, then texts."""
    return (int(item), "") if item.isdecimal() else (10**18, item)


def _count_ties(histories: Mapping[str, Sequence[Interaction]], report: DataReport) -> None:
    """Users of whom the order of rows alone says which item is tested, or which is validated."""
    times = [[one.time for one in history[-HELD_OUT - 1 :]] for history in histories.values()]
    num_tied = sum(any(one == other for one, other in pairwise(last)) for last in times)
    if num_tied:
        report.left_out.append(
            f"{num_tied} users have a tested or validated item at the same time as another: the order of the file says "
            "which came later"
        )


def _describe(items: Mapping[str, Sequence[str]], catalogue: Sequence[str], report: DataReport) -> None:
    num_left = sum(map(len, items.values()))
    trained = {item for history in items.values() for item in history[:-HELD_OUT]}
    report.left_out.append(f"{len(items)} users and {len(catalogue)} items with {num_left} interactions are left")
    if len(trained) < len(catalogue):
        report.left_out.append(f"{len(catalogue) - len(trained)} items stand in held-out places only")
