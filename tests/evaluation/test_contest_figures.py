"""Win rates by hand, and by the laws of a contest."""

import pytest

from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.evaluation.contest_figures import contest_figures
from dpo_lab.judge.known_reward import KnownReward, known_reward


def reward(prompt: str, response: str) -> float:
    assert prompt in "abcd"
    return float(response.count("good") - response.count("bad"))


CONTESTS = [
    Contest("a", "good", "bad", "a"),
    Contest("b", "good good", "good", "b"),
    Contest("c", "fine", "fine", "c"),
    Contest("d", "bad", "a good one", "d"),
]
JUDGE = KnownReward(reward)


def test_by_hand():
    """Two wins, one tie, one loss: (1 + 1 + 1/2 + 0) / 4. Rewards 1, 2, 0, -1 against -1, 1, 0, 1."""
    figures, details = contest_figures(CONTESTS, JUDGE.compare(CONTESTS, print), "abcd")
    assert figures["win_rate"].value == 0.625
    assert (figures["reward"].value, figures["opponent_reward"].value) == (0.5, 0.25)
    assert figures["reward_gain"].value == 0.25
    assert {name: details[name] for name in ("num_contests", "wins", "ties", "losses")} == {
        "num_contests": 4,
        "wins": 2,
        "ties": 1,
        "losses": 1,
    }
    assert figures["win_rate"].num_clusters == 4 and 0 < figures["win_rate"].low < 0.625 < figures["win_rate"].high < 1


def test_against_itself_it_is_one_half():
    itself = [one._replace(second=one.first) for one in CONTESTS]
    figures, details = contest_figures(itself, JUDGE.compare(itself, print), "abcd")
    assert figures["win_rate"].value == figures["win_rate_controlled"].value == 0.5
    assert details["ties"] == 4


def test_with_the_sides_changed_it_is_one_less():
    swapped = [one._replace(first=one.second, second=one.first) for one in CONTESTS]
    one, _ = contest_figures(CONTESTS, JUDGE.compare(CONTESTS, print), "abcd")
    other, _ = contest_figures(swapped, JUDGE.compare(swapped, print), "abcd")
    for name in ("win_rate", "win_rate_controlled"):
        assert other[name].value == pytest.approx(1 - one[name].value)
        assert other[name].low == pytest.approx(1 - one[name].high)
    assert other["reward_gain"].value == -one["reward_gain"].value


def test_contests_of_one_prompt_say_less_than_as_many_prompts():
    """Forty contests that agree within their prompt are as sure as four."""
    many = CONTESTS * 10
    figures, _ = contest_figures(many, JUDGE.compare(many, print), "abcd" * 10)
    few, _ = contest_figures(CONTESTS, JUDGE.compare(CONTESTS, print), "abcd")
    wide = (few["win_rate"].low, few["win_rate"].high)
    assert (figures["win_rate"].low, figures["win_rate"].high) == pytest.approx(wide, abs=0.005)
    figures, _ = contest_figures(many, JUDGE.compare(many, print), range(40))
    assert figures["win_rate"].high - figures["win_rate"].low < (wide[1] - wide[0]) / 2


def test_what_has_no_verdict_is_counted_and_in_no_figure():
    judged = [*JUDGE.compare(CONTESTS, print)[:3], Judged(None, {"problem": "refused"})]
    figures, details = contest_figures(CONTESTS, judged, "abcd")
    assert figures["win_rate"].value == pytest.approx(2.5 / 3) and figures["win_rate"].num == 3
    assert details["without_verdict"] == {"refused": 1} and details["num_contests"] == 4
    with pytest.raises(UserError, match=r"no verdict on any of 4 contests: refused \(4\)"):
        contest_figures(CONTESTS, [judged[3]] * 4, "abcd")


def test_both_orders():
    """A then B is one mind; A then A is for what stands first: of four answers three take it."""
    one_mind = Judged(1.0, {"verdict": "A", "swapped_verdict": "B"})
    for_the_first = Judged(0.5, {"verdict": "A", "swapped_verdict": "A"})
    _, details = contest_figures(CONTESTS[:2], [one_mind, for_the_first], "ab")
    assert (details["orders_agree"], details["first_shown_wins"]) == (0.5, 0.75)


def test_a_known_reward_has_to_be_known():
    with pytest.raises(UserError, match="does not know the reward"):
        known_reward(None)
    assert known_reward(reward).describe() == {"judge": "known_reward"}
