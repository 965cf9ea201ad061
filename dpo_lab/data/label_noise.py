"""Judgements that say the opposite, by design: how an objective stands noise whose rate is known."""

import math
import random
from collections.abc import Sequence
from dataclasses import replace

from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.types import Example


def swap_labels(examples: Sequence[Example], share: float, seed: int, report: DataReport) -> list[Example]:
    """`examples` with the judgements of a share of them swapped, counted in `report` as `label_swapped`.

    Of a pair chosen and rejected change places; a single label becomes the other one. Responses, scores and the
    probability that the side called chosen wins stay: what is noisy is the judge, not the world. Of n examples that
    are judged, the first floor(share n + 1/2) in an order drawn from `seed` are swapped, so that what is swapped at
    one share is swapped at every larger one.

    Args:
        share: in [0, 0.5]; with 0.5 the judgements say nothing.

    Raises:
        DataError: an example has more than two responses, of which no label can be swapped; or none is judged.
    """
    if not share:
        return list(examples)
    judged = [number for number, example in enumerate(examples) if not Judgement.of(example).is_demonstration]
    if examples and not judged:
        raise DataError(
            f"data.label_noise={share}: no training row is judged (the first at {examples[0].source or 'row 1'}), so "
            "that no judgement can be swapped. Use data.label_noise=0."
        )
    for number in judged:
        if len(examples[number].responses) > 2:
            raise DataError(
                f"data.label_noise={share}: {examples[number].source or 'an example'} has "
                f"{len(examples[number].responses)} responses, and only a pair or a single label can be swapped. "
                "Use data.label_noise=0."
            )
    random.Random(seed).shuffle(judged)
    noisy = list(examples)
    for number in sorted(judged[: math.floor(share * len(judged) + 0.5)]):
        noisy[number] = _swapped(examples[number])
        report.count("label_swapped", source=examples[number].source)
    return noisy


def _swapped(example: Example) -> Example:
    if example.labels is not None:
        return replace(example, labels=tuple(1 - label for label in example.labels))
    order = example.pairs[0] if example.ranking is None else example.ranking
    # The order is always said: where it is not, a loss of lists takes it from the scores.
    return replace(example, pairs=tuple((worse, better) for better, worse in example.pairs), ranking=order[::-1])
