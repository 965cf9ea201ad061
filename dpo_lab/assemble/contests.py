"""What a policy that writes text says to held-out prompts now, beside what it is compared with."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, final

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.explanations import fitted_examples
from dpo_lab.contest import Contest, Judged
from dpo_lab.data.judgement import Judgement
from dpo_lab.errors import UserError
from dpo_lab.evaluation.contest_figures import contest_figures
from dpo_lab.evaluation.figure import Measured, mean_figure
from dpo_lab.evaluation.settings import Against, EvaluationSettings
from dpo_lab.judge.judge import Judge
from dpo_lab.judge.known_reward import KnownReward
from dpo_lab.samples import Sample, draw_samples
from dpo_lab.sampling import SampleSettings
from dpo_lab.seeds import seed_beside
from dpo_lab.types import Encoded, Example, Text

KL_ESTIMATOR = (
    "plain Monte Carlo: mean of log pi(y|x) - log rho(y|x), nats a response, over y drawn from the policy pi; rho is "
    "the reference"
)

Say = Callable[[str], None]


@final
@dataclass(frozen=True)
class Asked:
    """A prompt that the policy is asked: as the policy reads it, where it stands, and what the data prefers."""

    prompt: Text
    encoded: Encoded
    source: str
    chosen: tuple[str, ...]


def opponent_of(experiment: Experiment, against: Against | None) -> Against | None:
    """What responses are compared with; None where there is nothing, and nobody has asked for it.

    Raises:
        UserError: the run has no reference to draw from.
    """
    reference = experiment.reference
    can_draw = reference is not None and reference.is_distribution
    if against == "reference" and not can_draw:
        why = "its loss takes none" if reference is None else "a uniform one is no distribution over responses"
        raise UserError(
            f"against=reference: this run has no reference to draw from, since {why}; against=chosen compares with "
            "what the data prefers"
        )
    return against or ("reference" if can_draw else "chosen")


def measure_samples(
    experiment: Experiment, name: str, judge: Judge | None, settings: EvaluationSettings, say: Say
) -> Measured:
    """Responses drawn from the policy to the prompts of one split: `length` (tokens), `kl`, and what `judge` says.

    Raises:
        UserError: there is no prompt, or nothing to compare with, or the judge has no verdict.
    """
    asked = _prompts(experiment, name, settings.num_samples)
    against = opponent_of(experiment, settings.against) if judge is not None else None
    if against == "chosen":
        asked = [one for one in asked if one.chosen]
    if not asked:
        what = "no prompt with a chosen response" if against == "chosen" else "no prompt"
        raise UserError(f"{name} has {what}, so there is nothing to evaluate")
    if judge is not None and not isinstance(judge, KnownReward) and any(one.encoded.images for one in asked):
        raise UserError(
            f"judge={judge.label}: these prompts show images, which a judge of texts would not see; without a judge "
            "there are samples, length and KL"
        )
    samples = _draw(experiment, asked, settings)
    prompts = [asked[number % len(asked)] for number in range(len(samples))]
    clusters = [number % len(asked) for number in range(len(samples))]
    figures = {"length": mean_figure([float(sample.length) for sample in samples], clusters)}
    shifts = [_shift(sample) for sample in samples]
    if shifts and all(shift is not None for shift in shifts):
        figures["kl"] = mean_figure([shift for shift in shifts if shift is not None], clusters)
    details: dict[str, Any] = {"num_prompts": len(asked)} | ({"kl_estimator": KL_ESTIMATOR} if "kl" in figures else {})
    opponents: list[str | None] = [None] * len(samples)
    judged: list[Judged | None] = [None] * len(samples)
    if judge is not None:
        given = _drawn_by_reference(experiment, asked, settings) if against == "reference" else _chosen(prompts, asked)
        contests = [
            Contest(one.prompt, sample.response, other, sample.prompt)
            for one, sample, other in zip(prompts, samples, given, strict=True)
        ]
        verdicts = judge.compare(contests, say)
        of_contests, counts = contest_figures(contests, verdicts, clusters)
        figures |= of_contests
        details |= {"judge": judge.describe(), "against": against, "verdicts": counts}
        opponents, judged = list(given), list(verdicts)
    rows = [
        _row(one, sample, opponent, verdict)
        for one, sample, opponent, verdict in zip(prompts, samples, opponents, judged, strict=True)
    ]
    return Measured(figures, rows, details)


def _prompts(experiment: Experiment, name: str, num: int) -> list[Asked]:
    """The first `num` distinct prompts of a split, as the policy reads them, each with all that the data prefers."""
    found: dict[Any, Asked] = {}
    for example, fitted in fitted_examples(experiment, name):
        encoded = replace(fitted.encoded[0], responses=())
        key = (encoded.prompt, encoded.images)
        if key not in found and len(found) == num:
            continue
        one = found.setdefault(key, Asked(example.prompt, encoded, example.source, ()))
        found[key] = replace(one, chosen=tuple(dict.fromkeys([*one.chosen, *_chosen_texts(example)])))
    return list(found.values())


def _chosen_texts(example: Example) -> list[str]:
    responses = [example.responses[index] for index in Judgement.of(example).chosen()]
    return [one if isinstance(one, str) else "\n".join(turn["content"] for turn in one) for one in responses]


def _draw(experiment: Experiment, asked: Sequence[Asked], settings: EvaluationSettings) -> list[Sample]:
    reference = experiment.reference
    return draw_samples(
        experiment.policy,
        reference if reference is not None and reference.is_distribution else None,
        [one.encoded for one in asked],
        _sample_settings(experiment, settings),
        seed=experiment.seeds["sampling"],
        true_reward=None,
    )


def _drawn_by_reference(experiment: Experiment, asked: Sequence[Asked], settings: EvaluationSettings) -> list[str]:
    """By a seed of its own: by that of the policy equal models would say the same, and all contests would be ties."""
    assert experiment.reference is not None
    with experiment.reference.as_policy() as opponent:
        drawn = draw_samples(
            opponent,
            None,
            [one.encoded for one in asked],
            _sample_settings(experiment, settings),
            seed=seed_beside(experiment.seeds["sampling"], "opponent"),
            true_reward=None,
        )
    return [sample.response for sample in drawn]


def _chosen(prompts: Sequence[Asked], asked: Sequence[Asked]) -> list[str]:
    """For each sample what the data prefers; where that is several responses to one prompt, one after the other."""
    return [one.chosen[number // len(asked) % len(one.chosen)] for number, one in enumerate(prompts)]


def _sample_settings(experiment: Experiment, settings: EvaluationSettings) -> SampleSettings:
    return SampleSettings(
        num=settings.num_samples, max_new_tokens=settings.max_new_tokens or experiment.samples.max_new_tokens
    )


def _shift(sample: Sample) -> float | None:
    return None if sample.reference_log_prob is None else sample.policy_log_prob - sample.reference_log_prob


def _row(asked: Asked, sample: Sample, opponent: str | None, judged: Judged | None) -> dict[str, Any]:
    row: dict[str, Any] = {
        "source": asked.source,
        "prompt": sample.prompt,
        "response": sample.response,
        "length": sample.length,
        "policy_log_prob": sample.policy_log_prob,
        "reference_log_prob": sample.reference_log_prob,
    }
    return row if judged is None else {**row, "opponent": opponent, "score": judged.score, **judged.details}
