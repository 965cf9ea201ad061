"""What every policy gives, whatever kind of model it is."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, ClassVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from dpo_lab.model.adapter import Adapter
from dpo_lab.reductions import Choices
from dpo_lab.types import Encoded, Example, LogProbs

Inputs = dict[str, Tensor]


class Policy(ABC, nn.Module):
    """A model with a log-probability of responses.

    Encode, collate and log_prob of one kind of model live in one file: they share the shift and the mask.

    `num_decisions` of every response; None where responses may differ in length. `decides_at_once`: whether what a
    decision is drawn from depends on the prompt alone, not on the response so far; of a single decision it is true
    anyway. `cannot_give`: ingredients of a loss that responses of this kind have not, and why. `adapter`: what alone is
    trained in a model that stays as it is; None where the whole model is. `tokenizer`: transformers' own; None where
    there is none. `writes_text`: whether a response is text that the policy makes up, and so something to be judged
    against another.
    """

    num_decisions: ClassVar[int | None] = None
    decides_at_once: ClassVar[bool] = False
    writes_text: ClassVar[bool] = False
    cannot_give: ClassVar[Mapping[str, str]] = {}
    adapter: Adapter | None = None
    tokenizer: Any | None = None

    @contextmanager
    def below_adapter(self) -> Iterator[None]:
        """The policy as if it had no adapter, for what comes before it is trained: a start, whose weights go below."""
        adapter = self.adapter
        if adapter is None:
            yield
            return
        self.adapter = None
        try:
            with adapter.taken_out():
                yield
        finally:
            self.adapter = adapter

    @abstractmethod
    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Token ids of each example: the prompt once, each response without it, in the order given."""

    @abstractmethod
    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """Tensors of all responses of all groups, one row each, in order. Nothing is cut."""

    @abstractmethod
    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        """The mask that `log_prob` of the same inputs gives, known without running the model."""

    @abstractmethod
    def log_prob(self, inputs: Inputs) -> LogProbs:
        """Log-probability of every decision of every row, float32 or wider, nats."""

    @abstractmethod
    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        """What `log_prob` gives, and the log-probability of every choice v at every decision, nats.

        Where the mask is False the distribution holds some finite number. It takes one number for each choice, all at
        once: what reduces it takes `log_prob_and_choices`.
        """

    def log_prob_and_choices(self, inputs: Inputs) -> tuple[LogProbs, Choices]:
        """The same for losses that reduce whole distributions; a policy with many choices never holds them all."""
        log_probs, distribution = self.log_prob_and_distribution(inputs)
        return log_probs, Choices.held(distribution, log_probs.mask)

    @abstractmethod
    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        """One response a prompt, drawn from the policy itself (temperature 1, nothing cut from the distribution).

        `max_new_tokens` bounds responses that are tokens; the responses of `prompts` themselves are not looked at.
        """

    @abstractmethod
    def decode_prompt(self, prompt: Encoded) -> str:
        """Text of a prompt, without special tokens."""

    @abstractmethod
    def decode(self, prompt: Encoded, response: Sequence[int]) -> str:
        """Text of a response to `prompt`, without special tokens."""

    @abstractmethod
    def load_other(self, path: str) -> "Policy":
        """Another policy of the same kind, from a folder or a hub name, that must share this one's tokens.

        Raises:
            UserError: when its tokenizer differs.
        """

    @abstractmethod
    def load_weights(self, folder: Path) -> None:
        """Replace the weights by those that `export` wrote to `folder`.

        Raises:
            UserError: when a tensor is missing, unknown or of another shape.
        """

    @abstractmethod
    def export(self, folder: Path) -> None:
        """Write model and tokenizer so that plain transformers loads them from `folder`."""

    @abstractmethod
    def fingerprint(self) -> str:
        """Hash of every weight: name, dtype, shape and bytes."""

    @abstractmethod
    def computation(self) -> dict[str, str]:
        """What besides weights and tokens the bits of a log-prob depend on, by name: `dtype`, versions, ..."""

    @abstractmethod
    def encoding_fingerprint(self) -> str:
        """Hash of everything that `encode` depends on: tokenizer, special tokens, chat template."""

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """Tensors that change no log-probability, so that their gradient is zero in any loss; by their names."""
        return ()

    @property
    def reached_by_images(self) -> tuple[str, ...]:
        """Tensors that prompts without an image leave alone, as if they were not there; by their names."""
        return ()

    @property
    @abstractmethod
    def scoring(self) -> str:
        """How log-probs are computed, in a few words, and why not in a cheaper way."""

    @property
    @abstractmethod
    def end_id(self) -> int | None:
        """Id of the token that ends a response; None where a response needs none, as a class does."""

    @property
    @abstractmethod
    def max_positions(self) -> int | None:
        """Longest prompt and response together that the model can score; None where there is no limit."""
