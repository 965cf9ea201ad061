"""How many samples are drawn, and how long they may get."""

from dataclasses import dataclass

from dpo_lab.ranges import NonNegativeInt, PositiveInt


@dataclass(frozen=True, kw_only=True)
class SampleSettings:
    """Samples drawn before the first update and after the last.

    Attributes:
        num: how many; prompts are those of the validation data, over and over. 0 is none.
        max_new_tokens: where a response that does not end is left.
    """

    num: NonNegativeInt = 16
    max_new_tokens: PositiveInt = 96
