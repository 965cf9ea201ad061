"""What does not go together: policy, loss, reference and data."""

import inspect
from collections.abc import Mapping
from typing import Any, NamedTuple, get_type_hints

from dpo_lab.config.signature import locate
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Policy
from dpo_lab.needs import Objective, Term
from dpo_lab.reference.reference import Reference


class PolicyKind(NamedTuple):
    """``model=NAME``, and the class of the policy."""

    name: str
    kind: type[Policy]


def kind_of_policy(config: Mapping[str, Any], packages: tuple[str, ...]) -> PolicyKind:
    """As what builds the policy is annotated; nothing is built."""
    builder = locate(config["model"]["_target_"], packages)
    return PolicyKind(f"model={builder.__name__}", get_type_hints(inspect.unwrap(builder)).get("return", Policy))


def check_responses(config: Mapping[str, Any], packages: tuple[str, ...], objective: Objective) -> None:
    """
    Raises:
        UserError: responses of the policy's kind do not give what the objective asks for, or leave nothing of it.
    """
    name, kind = kind_of_policy(config, packages)
    for term in objective.terms:
        reason = why_not(term, name, kind)
        if reason is not None:
            raise UserError(reason)


def check_lengths(policy: PolicyKind, objective: Objective, train: EncodedDataset) -> None:
    """The same of what only the data tells: responses that are no text, and may be several decisions, are all of one.

    Texts are left alone: that those of a small file are of one length is no property of their kind.

    Raises:
        UserError: what the objective acts on is the same in all responses.
    """
    name, kind = policy
    if kind.writes_text or kind.num_decisions is not None or all(term.comes_to is None for term in objective.terms):
        return
    if train.longest_response() == 1:
        for term in objective.terms:
            reason = _nothing_left(term, f"{name} and this data", 1, True)
            if reason is not None:
                raise UserError(reason)


def why_not(term: Term, name: str, kind: type[Policy]) -> str | None:
    """Why policies of `kind`, which the user calls `name`, cannot be trained with a loss; None where they can."""
    lacking = [need for need in term.needs if need in kind.cannot_give]
    if lacking:
        return (
            f"loss {term.title} needs {lacking[0]}, which {name} cannot give: {kind.cannot_give[lacking[0]]}. "
            "Choose a loss without it; `dpo-lab losses` shows what each needs"
        )
    return None if kind.num_decisions is None else _nothing_left(term, name, kind.num_decisions, kind.decides_at_once)


def _nothing_left(term: Term, name: str, num_decisions: int, decides_at_once: bool) -> str | None:
    if term.comes_to is None:
        return None
    instead, of_same = term.comes_to
    if of_same == "length":
        return (
            f"loss {term.title} acts on differences of length, and with {name} every response has as many decisions "
            f"as any other, {num_decisions}, so that {instead} says the same; use that"
        )
    if num_decisions == 1 or decides_at_once:
        return (
            f"loss {term.title} compares the divergences from the reference along two responses, and with {name} these "
            f"are the same, since no decision follows another, so that {instead} says the same; use that"
        )
    return None


def check_reference(config: Mapping[str, Any], packages: tuple[str, ...], objective: Objective) -> None:
    """Known from the config and the annotation of what builds the reference, so before any weight is loaded.

    Raises:
        UserError: the objective asks for whole distributions, which this reference has not or does not keep.
    """
    needy = ", ".join(term.title for term in objective.terms if "sequential_kl" in term.needs)
    if not needy:
        return
    if config["reference"].get("cache") == "require":
        raise UserError(
            f"reference.cache=require: loss {needy} needs the whole distributions of the reference, which are not "
            "kept; use reference.cache=off"
        )
    builder = locate(config["reference"]["_target_"], packages)
    kind = get_type_hints(inspect.unwrap(builder)).get("return", Reference)
    if not kind.is_distribution:
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
