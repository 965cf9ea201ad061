"""``prepare=[match_lengths]``: as many training pairs whose longer response was chosen as whose shorter one was."""

import math
from collections.abc import Callable, Sequence
from typing import Literal, NamedTuple

from dpo_lab.data.errors import DataError
from dpo_lab.data.preparation import OfTraining, Responses, Work
from dpo_lab.data.split import prompt_key
from dpo_lab.data.text_notes import contents
from dpo_lab.prepare.copies import draw
from dpo_lab.prepare.words import WORD
from dpo_lab.ranges import NonNegativeInt, PositiveInt
from dpo_lab.types import Example, Text

Unit = Literal["characters", "words"]

REFUSED: dict[Responses, str] = {
    "classes": "responses are names of classes, whose lengths say nothing",
    "spans": "responses are pieces of a passage, and no policy of spans sees their lengths in the loss",
}


class _Pair(NamedTuple):
    """A row by its number; log(length of chosen / length of rejected); a number drawn for it."""

    number: int
    log_ratio: float
    rank: float


def match_lengths(*, unit: Unit = "characters", num_buckets: PositiveInt = 10, seed: NonNegativeInt = 0) -> OfTraining:
    """Leave training pairs out until length says nothing of which response was chosen.

    Pairs are put into buckets by how much longer the longer response is (the absolute log-ratio of the lengths), all
    of about the same number of pairs. In each bucket as many pairs stay in which the longer response was chosen as in
    which the shorter one was; of the commoner kind those stay that `seed` draws. Pairs of equal length all stay.

    Args:
        unit: of length. A Chinese character or a kana counts as a word.
        num_buckets: more match lengths more closely and leave more pairs out.
        seed: draws what stays; the run's seed does not.

    Raises:
        DataError: a training row is not one pair of two responses; nothing can be matched.
    """
    length = _LENGTHS[unit]

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        pairs = [_pair(number, example, length, seed) for number, example in enumerate(rows)]
        unequal = sorted((pair for pair in pairs if pair.log_ratio), key=lambda pair: abs(pair.log_ratio))
        kept = {pair.number for pair in pairs if not pair.log_ratio}
        for bucket in _buckets(unequal, num_buckets):
            sides = [
                sorted((p for p in bucket if (p.log_ratio > 0) == longer), key=_by_rank) for longer in (True, False)
            ]
            num = min(map(len, sides))
            kept.update(pair.number for side in sides for pair in side[:num])
        if pairs and not kept:
            raise DataError(_why_nothing(unequal, num_buckets))
        for pair in pairs:
            if pair.number not in kept:
                work.drop("unmatched_length", rows[pair.number].source)
        longer = sum(pair.log_ratio > 0 for pair in pairs)
        work.details["longer one chosen before"] = longer
        work.details["shorter one chosen before"] = len(unequal) - longer
        work.details["of each now"] = sum(pair.log_ratio > 0 for pair in pairs if pair.number in kept)
        work.details["equally long"] = len(pairs) - len(unequal)
        return [example for number, example in enumerate(rows) if number in kept]

    return OfTraining(apply, REFUSED)


def _pair(number: int, example: Example, length: Callable[[str], int], seed: int) -> _Pair:
    if len(example.responses) != 2 or len(example.pairs) != 1:
        raise DataError(
            f"prepare.match_lengths: {example.source or 'an example'} is no row of one pair "
            f"(responses: {len(example.responses)}, pairs: {len(example.pairs)}), and nothing else can be "
            "matched. Leave the step out: ~prepare.match_lengths"
        )
    chosen, rejected = (max(1, length(_plain(example.responses[index]))) for index in example.pairs[0])
    content = prompt_key(example.prompt) + "\n" + "\n".join(map(prompt_key, example.responses))
    return _Pair(number, math.log(chosen) - math.log(rejected), draw(seed, content).random())


def _why_nothing(unequal: Sequence[_Pair], num_buckets: int) -> str:
    longer = sum(pair.log_ratio > 0 for pair in unequal)
    shorter = len(unequal) - longer
    nothing = f"prepare.match_lengths has left none of the {len(unequal)} rows of training: "
    if fewer := min(longer, shorter):
        return nothing + (
            f"the longer response is chosen in {longer} and the shorter one in {shorter}, but no bucket has both; "
            f"num_buckets={num_buckets} puts about {max(1, round(len(unequal) / num_buckets))} into each. "
            f"prepare.match_lengths.num_buckets=1 leaves {2 * fewer}, matched by direction alone; numbers between "
            "match more closely and leave fewer."
        )
    return nothing + (
        f"in all of them the {'longer' if longer else 'shorter'} response is chosen, so no pair has one of the other "
        "direction to be matched with, and length alone tells what was chosen. Add pairs of the other direction, or "
        "leave the step out (~prepare.match_lengths) and take a loss that discounts length, such as loss=ln_dpo or "
        "loss=r_dpo."
    )


def _by_rank(pair: _Pair) -> tuple[float, int]:
    return pair.rank, pair.number


def _buckets(ordered: Sequence[_Pair], num: int) -> list[Sequence[_Pair]]:
    """`ordered` in at most `num` parts of about one size; equal ratios are not torn apart."""
    edges = [round(len(ordered) * part / num) for part in range(1, num)]
    buckets, start = [], 0
    for edge in [*edges, len(ordered)]:
        while start < edge < len(ordered) and abs(ordered[edge].log_ratio) == abs(ordered[edge - 1].log_ratio):
            edge += 1
        if edge > start:
            buckets.append(ordered[start:edge])
            start = edge
    return buckets


def _plain(text: Text) -> str:
    return "\n".join(contents(text))


_LENGTHS: dict[Unit, Callable[[str], int]] = {
    "characters": len,
    "words": lambda text: sum(1 for _ in WORD.finditer(text)),
}
