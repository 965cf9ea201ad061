"""What a judge's verdicts come to: win rates, ties, rewards, and how much of it may be length or position."""

from collections import Counter
from collections.abc import Hashable, Sequence
from typing import Any

from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.evaluation.figure import Figure, mean_figure, share_figure
from dpo_lab.evaluation.length_control import controlled_win_rate


def contest_figures(
    contests: Sequence[Contest], judged: Sequence[Judged], clusters: Sequence[Hashable]
) -> tuple[dict[str, Figure], dict[str, Any]]:
    """Of the first response of each contest against the second: figures, and counts for the record.

    `win_rate` is the mean score, where a tie counts one half; `win_rate_controlled` the same at equal length
    (`controlled_win_rate`, lengths in characters). Where the judge gives rewards, `reward`, `opponent_reward` and
    `reward_gain`, their difference. Contests without a verdict are counted and are in no figure.

    Raises:
        UserError: there is no verdict at all.
    """
    known = [number for number, one in enumerate(judged) if one.score is not None]
    problems = Counter(str(one.details.get("problem", "no verdict")) for one in judged if one.score is None)
    if not known:
        said = ", ".join(f"{reason} ({num})" for reason, num in problems.most_common())
        raise UserError(f"the judge has given no verdict on any of {len(judged)} contests: {said}")
    scores = [float(score) for number in known if (score := judged[number].score) is not None]
    prompts = [clusters[number] for number in known]
    differences = [float(_length(contests[number].first) - _length(contests[number].second)) for number in known]
    controlled, coefficient = controlled_win_rate(scores, differences, prompts)
    figures = {"win_rate": share_figure(scores, prompts), "win_rate_controlled": controlled}
    if all("reward" in judged[number].details for number in known):
        own, other = (
            [float(judged[number].details[name]) for number in known] for name in ("reward", "opponent_reward")
        )
        figures["reward"], figures["opponent_reward"] = mean_figure(own, prompts), mean_figure(other, prompts)
        figures["reward_gain"] = mean_figure([a - b for a, b in zip(own, other, strict=True)], prompts)
    details = {
        "num_contests": len(judged),
        "wins": sum(score > 0.5 for score in scores),
        "ties": sum(score == 0.5 for score in scores),
        "losses": sum(score < 0.5 for score in scores),
        "without_verdict": dict(sorted(problems.items())),
        "length_coefficient": coefficient,
        **_positions([judged[number] for number in known]),
    }
    return figures, details


def _length(text: str) -> int:
    """Characters, as AlpacaEval counts them."""
    return len(text.strip())


def _positions(judged: Sequence[Judged]) -> dict[str, Any]:
    """Of a judge that is asked in both orders: how often they agree, and how often what is shown first is taken."""
    verdicts = [(one.details["verdict"], one.details["swapped_verdict"]) for one in judged if "verdict" in one.details]
    if not verdicts:
        return {}
    mirrored = {"A": "B", "B": "A", "C": "C"}
    decided = [verdict for pair in verdicts for verdict in pair if verdict != "C"]
    return {
        "num_asked_in_both_orders": len(verdicts),
        "orders_agree": sum(first == mirrored[second] for first, second in verdicts) / len(verdicts),
        "first_shown_wins": decided.count("A") / len(decided) if decided else None,
    }
