"""Likelihood of the chosen response: supervised fine-tuning, or the penalty of a composite objective."""

from typing import Literal

from dpo_lab.types import Chosen, LogProbs, LossOutput


def sft(
    policy: LogProbs, chosen: Chosen, *, normalization: Literal["token", "sequence_mean", "sequence_sum"] = "token"
) -> LossOutput:
    """-log pi(y|x) of each chosen response y; the prompt is never scored.

    Source: maximum likelihood; as the supervised stage before preference training, Rafailov et al. 2023,
    arXiv 2305.18290, section 3. As an added term, published code disagrees on the unit, hence the argument.

    Args:
        policy: n responses, nats.
        chosen: rows to imitate.
        normalization: "token" averages over all tokens of the optimizer step (TRL, SimPO); "sequence_mean" averages
            the per-token loss of each response (OpenRLHF, LLaMA-Factory); "sequence_sum" averages whole-response
            losses (NeMo-RL).

    Returns:
        loss in nats (a token, or a response under "sequence_sum"), one a chosen response; weight = its number of
        tokens under "token", else 1. No reward is defined.
    """
    log_prob, length = policy.sum()[chosen], policy.length()[chosen]
    if normalization == "sequence_sum":
        return LossOutput(loss=-log_prob, weight=length.new_ones(length.shape))
    weight = length if normalization == "token" else length.new_ones(length.shape)
    return LossOutput(loss=-log_prob / length, weight=weight)
