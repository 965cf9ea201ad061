"""Two responses to one prompt, and what was said of them."""

from collections.abc import Mapping
from typing import Any, NamedTuple

from dpo_lab.types import Text


class Contest(NamedTuple):
    """Two responses to one prompt. `rendered` is the prompt as the policy reads it: of a chat, through its template."""

    prompt: Text
    first: str
    second: str
    rendered: str


class Judged(NamedTuple):
    """What a judge says of one contest.

    `score` is 1 where the first response is the better one, 0 where the second is, 1/2 where neither is, and between
    them where the judge was of two minds; None where there is no verdict. `details` go into the row of the contest:
    rewards, answers, or why there is no verdict (``problem``).
    """

    score: float | None
    details: Mapping[str, Any]
