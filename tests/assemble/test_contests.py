"""What is measured of samples, by law: of a policy that is its reference, and with the seeds of both the same."""

from typing import Any, cast

import pytest
from omegaconf import OmegaConf

from dpo_lab.assemble import Experiment, assemble, contests
from dpo_lab.assemble.contests import measure_samples, opponent_of
from dpo_lab.errors import UserError
from dpo_lab.evaluation.settings import EvaluationSettings
from dpo_lab.judge.known_reward import KnownReward
from tests.torture.processes import config

SETTINGS = EvaluationSettings(num_samples=12, max_new_tokens=5)


def experiment(*overrides: str) -> Experiment:
    plain = cast(dict[str, Any], OmegaConf.to_container(config(*overrides), resolve=True))
    return assemble(plain, lambda line: None)


def num_vowels(prompt: str, response: str) -> float:
    return float(sum(letter in "aeiou" for letter in response))


def test_a_policy_that_is_its_reference(monkeypatch: pytest.MonkeyPatch):
    """KL 0 to rounding; by the same seed both say the same, every contest is a tie, and the win rate one half."""
    built = experiment()
    judge = KnownReward(num_vowels)
    measured = measure_samples(built, "val", judge, SETTINGS, print)
    assert measured.figures["kl"].value == pytest.approx(0, abs=1e-5)
    assert 0 < measured.details["verdicts"]["wins"] < 12, "drawn by a seed of its own"
    monkeypatch.setattr(contests, "seed_beside", lambda seed, name: seed)
    itself = measure_samples(built, "val", judge, SETTINGS, print)
    assert [row["opponent"] for row in itself.rows] == [row["response"] for row in itself.rows]
    assert itself.figures["win_rate"].value == itself.figures["win_rate_controlled"].value == 0.5
    assert itself.details["verdicts"]["ties"] == 12


def test_prompts_go_round_and_so_do_the_responses_that_the_data_prefers():
    built = experiment("reference=uniform")
    measured = measure_samples(built, "val", KnownReward(num_vowels), SETTINGS, print)
    assert measured.details["against"] == "chosen" and "kl" not in measured.figures
    assert measured.figures["win_rate"].num_clusters == measured.details["num_prompts"] <= 5
    chosen = {str(example.responses[example.pairs[0][0]]) for example in built.source.validation}
    opponents = [str(row["opponent"]) for row in measured.rows]
    assert set(opponents) <= chosen and len(set(opponents)) > measured.details["num_prompts"]
    with pytest.raises(UserError, match="a uniform one is no distribution over responses"):
        opponent_of(built, "reference")
