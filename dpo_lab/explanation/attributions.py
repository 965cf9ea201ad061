"""Which tokens of a text a log-probability comes from: integrated gradients over the embeddings, by captum.

Sundararajan, Taly and Yan 2017 (arXiv 1703.01365), equation 1: the gradient with respect to a token's vector, averaged
over the straight way from a baseline in which every token of the text is hidden to the text itself, times the way that
the vector goes. Over all tokens it sums to f(text) - f(baseline) (proposition 1, completeness), but for what the
average over finitely many steps misses.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Literal, cast, final

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.policy import Inputs
from dpo_lab.model.reading import Reading
from dpo_lab.types import Encoded

Baseline = Literal["mask", "pad"]

MAX_TOKENS = 4096
"""Tokens that go through the model at a time. A number of its own, so that no machine decides how sums are grouped."""


@final
@dataclass(frozen=True)
class Attributed:
    """Of each token of a prompt its share in a number, which is `at_text` of the text and `at_baseline` without it."""

    shares: tuple[float, ...]
    at_text: float
    at_baseline: float

    @property
    def gap(self) -> float:
        """What the shares sum to more than they should: how far the average over the steps is from the integral."""
        return sum(self.shares) - (self.at_text - self.at_baseline)

    def times(self, factor: float) -> "Attributed":
        return Attributed(
            tuple(factor * share for share in self.shares), factor * self.at_text, factor * self.at_baseline
        )

    def less(self, other: "Attributed") -> "Attributed":
        """Of the difference of two numbers: integrated gradients are linear in what they explain."""
        shares = tuple(one - two for one, two in zip(self.shares, other.shares, strict=True))
        return Attributed(shares, self.at_text - other.at_text, self.at_baseline - other.at_baseline)


def require_captum() -> None:
    """
    Raises:
        UserError: it is not installed.
    """
    if find_spec("captum") is None:
        raise UserError(
            "attributions need captum, which is not installed: pip install 'dpo-lab[attributions]'; "
            "--attributions none makes the page without them"
        )


def baseline_id(policy: EncoderPolicy, baseline: Baseline) -> int:
    """The token that stands for every token of a hidden text."""
    return policy.hiding_id if baseline == "mask" else policy.model.config.pad_token_id


def integrated_gradients(
    policy: EncoderPolicy,
    encoded: Encoded,
    reading: Reading,
    hidden: int,
    num_steps: int,
    to_device: Callable[[Inputs], Inputs],
) -> Attributed:
    """Shares of the tokens of the prompt in the log-probability of the one response of `encoded`, nats.

    Special tokens, padding, positions and segments stay as they are, and so have no share. A token that stands in
    several windows has the sum over them.

    Args:
        hidden: id of the token that stands for each token of the text in the baseline.
        num_steps: points of the Gauss-Legendre quadrature.

    Raises:
        UserError: the model asks its embeddings more than once, so that there is no one way from the baseline.
    """
    from captum.attr import LayerIntegratedGradients

    (_,) = encoded.responses
    inputs = to_device(policy.collate([encoded]))
    ids = inputs["input_ids"]
    num_rows = len(ids)
    hidden_ids = _hide(ids, reading, hidden)

    def log_prob(rows: Int[Tensor, " r l"]) -> Float[Tensor, " copies"]:
        # Captum asks for several points of the way at once, as copies of all rows; what stands at a point it puts in
        # behind the embeddings. Only to have the baseline embedded does it give other rows.
        copies = to_device(policy.collate([encoded] * (len(rows) // num_rows)))
        return policy.log_prob({**copies, "input_ids": rows}).sum()

    at_text = _asked_once(policy, lambda: log_prob(ids))
    explainer = LayerIntegratedGradients(cast(Callable[..., Tensor], log_prob), policy.embedding)
    batch = num_rows * max(1, MAX_TOKENS // ids.numel())
    vectors = cast(Tensor, explainer.attribute(ids, hidden_ids, n_steps=num_steps, internal_batch_size=batch))
    shares = [0.0] * len(encoded.prompt)
    for row, tokens in zip(vectors.double().sum(dim=-1).tolist(), reading.rows, strict=True):
        for share, token in zip(row, tokens, strict=False):  # behind the tokens of a row stands padding
            shares[token] += share
    with torch.no_grad(), _answering(policy.embedding, policy.embedding(hidden_ids)):
        at_baseline = log_prob(ids).item()
    return Attributed(tuple(shares), at_text, at_baseline)


def _hide(ids: Int[Tensor, " r l"], reading: Reading, hidden: int) -> Int[Tensor, " r l"]:
    is_text = torch.zeros_like(ids, dtype=torch.bool)
    for number, tokens in enumerate(reading.rows):
        is_text[number, : len(tokens)] = torch.tensor([reading.tokens[token].text is not None for token in tokens])
    return ids.masked_fill(is_text, hidden)


@contextmanager
def _answering(layer: nn.Module, answer: Tensor) -> Iterator[None]:
    """`layer` gives `answer`, whatever it is asked."""
    handle = layer.register_forward_hook(lambda *_: answer)
    try:
        yield
    finally:
        handle.remove()


def _asked_once(policy: EncoderPolicy, run: Callable[[], Tensor]) -> float:
    """What `run` gives, which must ask the embeddings once."""
    calls: list[nn.Module] = []
    handle = policy.embedding.register_forward_hook(lambda layer, *_: calls.append(layer))
    try:
        with torch.no_grad():
            value = run().item()
    finally:
        handle.remove()
    if len(calls) != 1:
        raise UserError(
            f"attributions: {type(policy.model).__name__} asks its embeddings {len(calls)} times for a text, not once, "
            "so there is no one way from a hidden text to it; --attributions none makes the page without them"
        )
    return value
