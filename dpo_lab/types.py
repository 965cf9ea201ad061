"""The nouns: ``Example -> Encoded -> PreferenceBatch -> LogProbs -> LossOutput``.

Shapes are written with jaxtyping: ``n`` responses (rows) of a batch, ``t`` decisions of the longest
response, ``p`` pairs, ``c`` chosen rows. Log-probabilities are natural logarithms (nats). A mask is True
where a position counts.
"""

from dataclasses import dataclass
from typing import NamedTuple, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Message(TypedDict):
    """One turn of a chat: ``{"role": "user", "content": "Hello"}``."""

    role: str
    content: str


Text = str | list[Message]

Pairs = Int[Tensor, " p 2"]
"""Row indices of a batch, one line a pair: (chosen row, rejected row)."""

Chosen = Int[Tensor, " c"]
"""Row indices of the responses to imitate: the chosen side of each pair, or a demonstration."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one row of a file becomes: a prompt, k responses to it, and what was judged of them.

    >>> Example(prompt="2 + 2 =", responses=(" 4", " 5"), pairs=((0, 1),)).responses[0]
    ' 4'

    `pairs` are (chosen, rejected) indices into `responses`; a demonstration has one response and no pair.
    `scores` are rewards of each response where the data has them. `source` says where the row stands
    (``"train.jsonl row 3"``), for messages.
    """

    prompt: Text
    responses: tuple[Text, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    scores: tuple[float, ...] | None = None
    source: str = ""


@dataclass(frozen=True, slots=True)
class Encoded:
    """An `Example` in token space: the prompt once, each response without it.

    >>> Encoded(prompt=(1, 40, 41), responses=((50, 2), (51, 52, 2)), num_bos=1).prompt[0]
    1

    The boundary between prompt and response is a boundary between two lists of ids, never a length to
    subtract. `num_bos` (0 or 1) leading ids of the prompt survive any truncation. `num_boundary_merges`
    counts the responses whose first token would have merged with the end of the prompt.
    """

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    num_bos: int = 0
    num_boundary_merges: int = 0


class PreferenceBatch(NamedTuple):
    """Rows (responses) that a policy scores in one forward pass, and index views that say what was judged.

    Two prompts; the first with a pair of responses, the second with another pair:

    >>> batch = PreferenceBatch(
    ...     inputs={"input_ids": torch.tensor([[1, 5, 7], [1, 5, 8], [1, 6, 7], [1, 6, 9]])},
    ...     group=torch.tensor([0, 0, 1, 1]),
    ...     key=torch.arange(8).reshape(4, 2),
    ...     pairs=torch.tensor([[0, 1], [3, 2]]),
    ...     chosen=torch.tensor([0, 3]),
    ... )
    >>> batch.pairs[1].tolist()  # of the second prompt, row 3 is preferred to row 2
    [3, 2]

    `inputs` is whatever the policy's own `log_prob` eats. `group[n]` names the prompt a row answers.
    `key[n]` is a 128-bit hash (two int64) of the token ids of prompt and response as scored. `pairs` is
    empty where the objective does not ask for pairs. Indices are integers: they survive any precision.
    """

    inputs: dict[str, Tensor]
    group: Int[Tensor, " n"]
    key: Int[Tensor, " n 2"]
    pairs: Pairs
    chosen: Chosen

    @property
    def num_items(self) -> int:
        """Items that a loss reduces over: pairs where there are any, else chosen responses."""
        return self.pairs.shape[0] or self.chosen.shape[0]


Window = tuple[PreferenceBatch, ...]
"""Everything one optimizer step sees on this rank, as the micro-batches it is computed in."""


class LogProbs(NamedTuple):
    """Log-probability of every decision of every response, in nats.

    >>> LogProbs(torch.tensor([[-1.0, -2.0], [-3.0, 0.0]]), torch.tensor([[True, True], [True, False]])).sum()
    tensor([-3., -3.])

    A causal language model decides once a token, a classifier once in all. `token` is float32 or wider and
    exactly 0 where `mask` is False.
    """

    token: Float[Tensor, " n t"]
    mask: Bool[Tensor, " n t"]

    def sum(self) -> Float[Tensor, " n"]:
        """Log-probability of each whole response, nats."""
        return torch.where(self.mask, self.token, 0.0).sum(-1)

    def mean(self) -> Float[Tensor, " n"]:
        """Average log-probability of a decision of each response, nats per decision."""
        return self.sum() / self.length()

    def length(self) -> Float[Tensor, " n"]:
        """Number of decisions of each response, in the dtype of `token`."""
        return self.mask.sum(-1).to(self.token.dtype)


class LossOutput(NamedTuple):
    """What a loss says of each item, not reduced.

    The loss of an optimizer step is ``sum(loss * weight) / sum(weight)`` over the whole window and all
    ranks. `weight` counts (pairs, tokens): it depends on shapes and masks, never on a log-probability.
    `reward[n]` is the implicit reward of each response as this loss defines it; None where it defines none.
    `extra` holds further curves, one value an item, under the names their paper gives them.
    """

    loss: Float[Tensor, " items"]
    weight: Float[Tensor, " items"]
    reward: Float[Tensor, " n"] | None = None
    extra: dict[str, Tensor] = {}
