"""``prepare=[word_dropout]``: prompts of training rows with some words missing."""

import random
from collections.abc import Iterator, Sequence

from dpo_lab.data.preparation import OfTraining, Work
from dpo_lab.prepare.copies import add_copies
from dpo_lab.prepare.words import WORD, without_words
from dpo_lab.ranges import NonNegativeInt, OpenFraction
from dpo_lab.types import Example


def word_dropout(*, rate: OpenFraction = 0.1, num_copies: NonNegativeInt = 1, seed: NonNegativeInt = 0) -> OfTraining:
    """Leave each word of a prompt out with probability `rate`, at least one word staying (Iyyer et al. 2015, eq. 6).

    A Chinese character or a kana counts as a word. Responses, passages of questions and other turns of a chat stay.

    This is done once, so every epoch sees the same rows; tokens that are hidden anew in every step are a knob of the
    model (``model.token_dropout``).

    Args:
        rate: of words that are left out, in (0, 1).
        num_copies: rows made of each row, beside it; 0: the rows themselves lose words.
        seed: draws the words; the run's seed does not.
    """

    def variants(text: str, generator: random.Random) -> Iterator[str]:
        num_words = sum(1 for _ in WORD.finditer(text))
        while True:
            is_dropped = [generator.random() < rate for _ in range(num_words)]
            if all(is_dropped):
                is_dropped[generator.randrange(num_words)] = False
            yield without_words(text, is_dropped)

    def apply(rows: Sequence[Example], work: Work) -> list[Example]:
        return add_copies(rows, work, variants, num_copies=num_copies, seed=seed)

    return OfTraining(apply)
