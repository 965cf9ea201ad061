"""What of a text the numbers of a classifier or a span reader come from, under the policy and its reference."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal, final, get_type_hints

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.config.signature import locate
from dpo_lab.errors import UserError
from dpo_lab.explanation.attributions import Attributed, Baseline, baseline_id, integrated_gradients, require_captum
from dpo_lab.explanation.shown import AttributionMethod, Measure, ShownAttribution
from dpo_lab.explanation.written import lay_over
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Inputs, Policy
from dpo_lab.model.reading import Reading
from dpo_lab.types import Encoded, Example

MAX_RESPONSES = 4
"""Of more responses to one text the first are attributed: each takes `num_steps` passes there and back."""

Explained = Literal["reward", "log_prob"]


@final
@dataclass(frozen=True)
class AttributionSettings:
    """What is attributed, over how many steps from which baseline.

    Raises:
        UserError: `num_steps` is below 1.
    """

    explained: Explained = "reward"
    num_steps: int = 50
    baseline: Baseline = "mask"

    def __post_init__(self) -> None:
        if self.num_steps < 1:
            raise UserError(f"--steps: must be at least 1, got {self.num_steps}")


def check_attributions(config: Mapping[str, Any], *, is_asked: bool) -> bool:
    """Whether the policy of `config` reads a text as a whole, and so can be attributed.

    Raises:
        UserError: it does, and captum is not installed; it does not, and attributions were asked for.
    """
    target = str(config["model"]["_target_"])
    made = get_type_hints(locate(target, (target.partition(".")[0],))).get("return")
    if isinstance(made, type) and issubclass(made, EncoderPolicy):
        require_captum()
        return True
    if is_asked:
        raise UserError(
            f"--attributions: {target.rpartition('.')[2]} is no classifier and no span reader; what the page shows of "
            "every other policy are the numbers of its own decisions, token by token"
        )
    return False


def method_of(policy: Policy, settings: AttributionSettings) -> AttributionMethod:
    """How the attributions of `policy` are told of."""
    assert isinstance(policy, EncoderPolicy)
    token = policy.tokenizer.convert_ids_to_tokens(baseline_id(policy, settings.baseline))
    return AttributionMethod(settings.explained == "reward", str(token), settings.num_steps)


def attribute(
    experiment: Experiment,
    example: Example,
    encoded: Encoded,
    called: Sequence[str],
    measure: Measure,
    settings: AttributionSettings,
    to_device: Callable[[Inputs], Inputs],
) -> tuple[ShownAttribution, ...]:
    """Of the responses of `encoded` under the names `called`, the preferred ones first, and of the margin of a pair."""
    policy = experiment.policy
    assert isinstance(policy, EncoderPolicy)
    reading = policy.reading(example, encoded)
    hidden = baseline_id(policy, settings.baseline)

    def under(scorer: Policy, response: tuple[int, ...]) -> Attributed:
        assert isinstance(scorer, EncoderPolicy)
        alone = replace(encoded, responses=(response,))
        return integrated_gradients(scorer, alone, reading, hidden, settings.num_steps, to_device)

    order = sorted(range(len(called)), key=lambda index: called[index] in ("rejected", "undesirable"))
    shown, found = [], {}
    for index in order[:MAX_RESPONSES]:
        response = encoded.responses[index]
        found[called[index]] = of = _explained(experiment, measure, settings.explained, response, under)
        span = response if encoded.kind == "span" else None
        text = policy.decode(encoded, response) if span is None else reading.written(span[0], span[-1])
        shown.append(_show(called[index], text, of, reading, span))
    if len(called) == 2 and found.keys() == {"chosen", "rejected"}:
        shown.append(_show("chosen less rejected", "", found["chosen"].less(found["rejected"]), reading, None))
    return tuple(shown)


def _explained(
    experiment: Experiment,
    measure: Measure,
    explained: Explained,
    response: tuple[int, ...],
    under: Callable[[Policy, tuple[int, ...]], Attributed],
) -> Attributed:
    """Integrated gradients are linear: those of a log-ratio are the policy's less the reference's, each in its own
    embeddings."""
    policy, reference = under(experiment.policy, response), experiment.reference
    if explained == "log_prob" or reference is None:
        return policy
    if not measure.is_uniform:
        with reference.as_policy() as compared:
            policy = policy.less(under(compared, response))
    return policy if measure.beta is None else policy.times(measure.beta)


def _show(
    name: str, response: str, found: Attributed, reading: Reading, span: tuple[int, ...] | None
) -> ShownAttribution:
    parts = tuple((part, tuple(pieces)) for part, pieces in lay_over(reading, found.shares, span))
    return ShownAttribution(name, response, parts, found.at_text, found.at_baseline, found.gap)
