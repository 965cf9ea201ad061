"""What does not go together: policy, loss, reference and data."""

import inspect
from collections.abc import Mapping
from typing import Any, get_type_hints

from dpo_lab.config.signature import locate
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Policy
from dpo_lab.needs import Objective
from dpo_lab.reference.reference import Reference


def kind_of_policy(config: Mapping[str, Any], packages: tuple[str, ...]) -> tuple[str, type[Policy]]:
    """``model=NAME``, and the class of the policy, as what builds it is annotated; nothing is built."""
    builder = locate(config["model"]["_target_"], packages)
    return f"model={builder.__name__}", get_type_hints(inspect.unwrap(builder)).get("return", Policy)


def check_responses(config: Mapping[str, Any], packages: tuple[str, ...], objective: Objective) -> None:
    """Whether responses of the policy's kind give what the objective asks for; known from what builds the policy."""
    name, kind = kind_of_policy(config, packages)
    for term in objective.terms:
        lacking = [need for need in term.needs if need in kind.cannot_give]
        if lacking:
            raise UserError(
                f"loss {term.name} needs {lacking[0]}, which {name} cannot give: {kind.cannot_give[lacking[0]]}. "
                "Choose a loss without it; `dpo-lab losses` shows what each needs"
            )
        if term.compares_lengths and kind.num_decisions is not None:
            raise UserError(
                f"loss {term.name} acts on differences of length, and with {name} every response has as many decisions "
                f"as any other, {kind.num_decisions}, so that its knobs would do nothing; use loss=sigmoid"
            )


def check_reference(config: Mapping[str, Any], packages: tuple[str, ...], objective: Objective) -> None:
    """Known from the config and the annotation of what builds the reference, so before any weight is loaded."""
    if "sequential_kl" not in objective.needs:
        return
    if config["reference"].get("cache") == "require":
        raise UserError(
            "reference.cache=require: this loss needs the whole distributions of the reference, which are not kept; "
            "use reference.cache=off"
        )
    builder = locate(config["reference"]["_target_"], packages)
    kind = get_type_hints(inspect.unwrap(builder)).get("return", Reference)
    if not kind.is_distribution:
        needy = ", ".join(term.name for term in objective.terms if "sequential_kl" in term.needs)
        raise UserError(
            f"loss {needy} needs the divergence from a reference that is a distribution, and reference="
            f"{builder.__name__} is none; use reference=frozen"
        )


def check_head(policy: Policy) -> None:
    """Once its start is over, if it has one.

    Raises:
        UserError: an adapter is to be trained below a head that has learnt nothing and would never learn.
    """
    if isinstance(policy, EncoderPolicy) and policy.has_fresh_head and policy.adapter is not None:
        raise UserError(
            "model.lora_rank: the head of this model was drawn and has learnt nothing, and an adapter would leave it "
            "so; take start=supervised, or train the whole model with loss=sft first and give model.path=RUN/model"
        )


def check_length(source: DataSource, policy: Policy) -> None:
    """
    Raises:
        UserError: the data may hold more tokens than the model can score.
    """
    limit = policy.max_positions
    if limit is not None and source.max_length > limit:
        raise UserError(
            f"data.max_length: {source.max_length} is longer than the {limit} positions that the model knows "
            "(with a rotary embedding that changes with the longest row: up to which it does not); use at most that"
        )
