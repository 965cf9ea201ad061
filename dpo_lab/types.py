"""The nouns: ``Example -> Encoded -> PreferenceBatch -> LogProbs -> LossOutput``.

Shapes are written with jaxtyping: ``n`` responses (rows) of a batch, ``t`` decisions of the longest
response, ``p`` pairs, ``c`` chosen rows, ``l`` lists of at most ``k`` responses. Log-probabilities are natural
logarithms (nats). A mask is True where a position counts.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, NotRequired, TypedDict

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor


class Message(TypedDict):
    """One turn of a chat: ``{"role": "user", "content": "Hello"}``.

    `start` is there where the turn is a span of a passage (the system's turn): the character at which it begins.
    `images` is there where the turn shows some: of each, the character of `content` in front of which it stands, and
    the sha256 (hex) of its bytes.
    """

    role: str
    content: str
    start: NotRequired[int]
    images: NotRequired[list[tuple[int, str]]]


Text = str | list[Message]


class ImageFile(NamedTuple):
    """An image that a prompt shows: where it lies, and the sha256 (hex) of its bytes when the data was read."""

    path: str
    sha256: str


ResponseKind = Literal["tokens", "class", "span"]
"""What the ids of a response are: tokens that follow the prompt; one class of several; the positions, inside of the
prompt, of a span's first and last token. A class and a span take no room of their own."""

Pairs = Int[Tensor, " p 2"]
"""Row indices of a batch, one line a pair: (chosen row, rejected row)."""

Chosen = Int[Tensor, " c"]
"""Row indices of the responses to imitate: the chosen side of each pair, or a demonstration."""

Ranking = Int[Tensor, " l k"]
"""Row indices of a batch, one line a list, best first; -1 behind the end of a list shorter than the longest."""

Labels = Int[Tensor, " n"]
"""What was judged of each row by itself: 1 desirable, 0 undesirable, -1 not judged."""

Scores = Float[Tensor, " n"]
"""Reward of each row as the data gives it, larger is better; not a number where the data has none."""

WinProbability = Float[Tensor, " p"]
"""Probability that the chosen response of each pair is the better one, in [0, 1], as the data gives it."""

Drift = Int[Tensor, " d"]
"""Row indices of borrowed responses: each answers another prompt than the one it stands behind."""

Generators = torch.Generator | Sequence[torch.Generator]
"""One generator a row, seeded by seed, optimizer step and the row's key; or one from which all rows draw in turn."""

State = dict[str, Tensor]
"""What a loss remembers from one optimizer step to the next, by its own names; empty before the first."""

SequentialKL = Float[Tensor, " n"]
"""Sum over the decisions of each row of KL(reference || policy) of the whole distribution, nats, with gradient."""


@dataclass(frozen=True, slots=True)
class Example:
    """What one row of a file becomes: a prompt, k responses to it, and what was judged of them.

    >>> Example(prompt="2 + 2 =", responses=(" 4", " 5"), pairs=((0, 1),)).responses[0]
    ' 4'

    `pairs` are (chosen, rejected) indices into `responses`; a demonstration has one response and no pair. Where the
    data has them: `scores` are rewards of each response; `win_probabilities`, one a pair, say how sure it is;
    `labels`, one a response, are 1 (desirable) or 0; `ranking` indexes `responses`, best first. Where
    `is_best_alone` is set, only the first of `ranking` is known to be better than the others. `source` says where
    the row stands (``"train.jsonl row 3"``), for messages. `images` are those that the prompt's messages show, in
    order: there by their contents, here by where they lie, which is no part of what the row says.
    """

    prompt: Text
    responses: tuple[Text, ...]
    pairs: tuple[tuple[int, int], ...] = ()
    scores: tuple[float, ...] | None = None
    source: str = ""
    win_probabilities: tuple[float, ...] | None = None
    labels: tuple[int, ...] | None = None
    ranking: tuple[int, ...] | None = None
    is_best_alone: bool = False
    images: tuple[ImageFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Encoded:
    """An `Example` in token space: the prompt once, each response without it.

    >>> Encoded(prompt=(1, 40, 41), responses=((50, 2), (51, 52, 2)), num_head=1).prompt[0]
    1

    The boundary between prompt and response is a boundary between two lists of ids, never a length to
    subtract. `num_head` leading ids of the prompt and `num_tail` last ones survive any truncation: a
    beginning-of-sequence token, the question in front of a passage, an encoder's separators. `num_boundary_merges`
    counts the responses whose first token would have merged with the end of the prompt. `images` are those that the
    prompt shows, in the order of their places in it.
    """

    prompt: tuple[int, ...]
    responses: tuple[tuple[int, ...], ...]
    num_head: int = 0
    num_boundary_merges: int = 0
    num_tail: int = 0
    kind: ResponseKind = "tokens"
    images: tuple[ImageFile, ...] = ()


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
    `key[n]` is a 128-bit hash (two int64) of the token ids of prompt and response as scored, and of the contents of
    images; `prompt_key[n]` is that of the prompt alone. `pairs` is empty where the objective does not ask for pairs.
    Indices are integers: they survive any precision. Every further view is None where the objective does not ask for
    it.
    """

    inputs: dict[str, Tensor]
    group: Int[Tensor, " n"]
    key: Int[Tensor, " n 2"]
    pairs: Pairs
    chosen: Chosen
    ranking: Ranking | None = None
    labels: Labels | None = None
    scores: Scores | None = None
    win_probability: WinProbability | None = None
    drift: Drift | None = None
    prompt_key: Int[Tensor, " n 2"] | None = None

    @property
    def num_items(self) -> int:
        """Units of a batch size: lists, else pairs, else judged rows, else responses to imitate."""
        if self.ranking is not None:
            return self.ranking.shape[0]
        if len(self.pairs):
            return self.pairs.shape[0]
        return self.chosen.shape[0] if self.labels is None else int((self.labels >= 0).sum())


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


class PolicyStats(NamedTuple):
    """Reductions of the policy's whole distribution at every decision.

    `log_collision` is log sum_v pi(v)^2, nats: the log-probability that two draws agree. 0 where `mask` of the
    policy's `LogProbs` is False.
    """

    log_collision: Float[Tensor, " n t"]


class LossOutput(NamedTuple):
    """What a loss says of each item, not reduced.

    The loss of an optimizer step is ``sum(loss * weight) / sum(weight)`` over the whole window and all
    ranks. `weight` counts (pairs, tokens): it depends on shapes and masks, and on a log-probability only in a loss
    that sees the whole batch. `reward[n]` is the implicit reward of each response as this loss defines it; None
    where it defines none. `extra` holds further curves, any number of values each, under the names their paper
    gives them. `state` is what the loss remembers for the next step.
    """

    loss: Float[Tensor, " items"]
    weight: Float[Tensor, " items"]
    reward: Float[Tensor, " n"] | None = None
    extra: dict[str, Tensor] = {}
    state: State | None = None
