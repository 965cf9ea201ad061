"""The reward by which generated data was judged: no opinion, the truth."""

from collections.abc import Callable, Sequence
from typing import Any, final

from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.judge.judge import Judge, by_rewards


def known_reward(true_reward: Callable[[str, str], float] | None) -> "KnownReward":
    """The response with the larger true reward wins.

    Args:
        true_reward: of a prompt with a response, as the data knows it; the framework gives it. None where it does not.

    Raises:
        UserError: the data knows no reward.
    """
    if true_reward is None:
        raise UserError(
            "judge=known_reward: this data does not know the reward of a response, only generated data does "
            "(such as data=reviews); take judge=reward_model or judge=endpoint"
        )
    return KnownReward(true_reward)


@final
class KnownReward(Judge):
    """Reads prompt and response as the policy's tokenizer gives them back."""

    def __init__(self, true_reward: Callable[[str, str], float]):
        self._true_reward = true_reward

    @property
    def label(self) -> str:
        return "known_reward"

    def check(self, say: Callable[[str], None]) -> None:
        pass

    def compare(self, contests: Sequence[Contest], say: Callable[[str], None]) -> list[Judged]:
        return [
            by_rewards(self._true_reward(one.rendered, one.first), self._true_reward(one.rendered, one.second))
            for one in contests
        ]

    def describe(self) -> dict[str, Any]:
        return {"judge": "known_reward"}
