"""Models with random weights and groups of random token ids, for benchmarks where only shapes matter."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor
from transformers import AutoModelForCausalLM, LlamaConfig, PretrainedConfig, Qwen2Config

from dpo_lab.loss.plackett_luce import plackett_luce
from dpo_lab.loss.sigmoid import sigmoid
from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.tiny import train_tokenizer
from dpo_lab.optimizer.adamw import adamw
from dpo_lab.types import Encoded, LogProbs

CLIP_NORM = 1.0
SMALLEST_TOKENIZER = 259


class Shape(NamedTuple):
    """Of a decoder with a tied vocabulary."""

    hidden_size: int
    num_layers: int
    num_heads: int
    intermediate_size: int
    vocab_size: int
    num_key_value_heads: int | None = None
    is_qwen2: bool = False

    def config(self, max_positions: int = 4096) -> PretrainedConfig:
        """As transformers wants it."""
        kind = Qwen2Config if self.is_qwen2 else LlamaConfig
        return kind(
            hidden_size=self.hidden_size,
            num_hidden_layers=self.num_layers,
            num_attention_heads=self.num_heads,
            num_key_value_heads=self.num_key_value_heads or self.num_heads,
            intermediate_size=self.intermediate_size,
            vocab_size=self.vocab_size,
            max_position_embeddings=max_positions,
            tie_word_embeddings=True,
        )


def make_policy(shape: Shape, attention: Attention, device: str = "cpu") -> CausalLM:
    """Random float32 weights, drawn from seed 0. Its tokenizer knows bytes alone: no text is ever read."""
    torch.manual_seed(0)
    with torch.device(device):
        model = AutoModelForCausalLM.from_config(shape.config())
    tokenizer = train_tokenizer(["a"], SMALLEST_TOKENIZER)
    return CausalLM(model, tokenizer, dtype="float32", dropout=0.0, exported_dropout={}, attention=attention)


def save_policy(shape: Shape, folder: Path, device: str = "cpu") -> None:
    """The same weights and tokenizer as a plain folder."""
    policy = make_policy(shape, "padded", device)
    policy.model.save_pretrained(folder)
    policy.encoder.tokenizer.save_pretrained(folder)


def make_groups(prompts: Sequence[int], responses: Sequence[Sequence[int]], vocab_size: int) -> list[Encoded]:
    """Groups of random ids: a prompt of each length, and behind it a response of each of its lengths."""
    generator = torch.Generator().manual_seed(0)

    def draw(length: int) -> tuple[int, ...]:
        return tuple(torch.randint(vocab_size, (length,), generator=generator).tolist())

    return [
        Encoded(draw(prompt), tuple(draw(length) for length in lengths))
        for prompt, lengths in zip(prompts, responses, strict=True)
    ]


def num_unique_tokens(groups: Sequence[Encoded]) -> int:
    """With each prompt counted once."""
    return sum(len(group.prompt) + sum(map(len, group.responses)) for group in groups)


class Step:
    """An optimizer step as a loop would take it: layout, log-probs, loss, backward, clip, update.

    The reference is a constant for each token, as if it came from a cache. The loss is `sigmoid` where each prompt has
    two responses, and `plackett_luce` where it has more. With `is_low` the forward pass is under bfloat16 autocast.
    """

    def __init__(self, policy: CausalLM, *, is_low: bool = False):
        self._policy = policy
        self._device = next(policy.parameters()).device
        self._is_low = is_low
        self._optimizer, _ = adamw(policy, num_steps=1, lr=1e-5)

    def __call__(self, groups: Sequence[Encoded]) -> Tensor:
        """Update on `groups`; the loss, as a tensor."""
        inputs = {name: tensor.to(self._device) for name, tensor in self._policy.collate(groups).items()}
        with torch.autocast(self._device.type, torch.bfloat16, enabled=self._is_low):
            policy = self._policy.log_prob(inputs)
        constant = -float(torch.tensor(float(self._policy.model.config.vocab_size)).log())
        reference = LogProbs(policy.mask * constant, policy.mask)
        loss = _loss(policy, reference, groups)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self._policy.parameters(), CLIP_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        return loss.detach()


def _loss(policy: LogProbs, reference: LogProbs, groups: Sequence[Encoded]) -> Tensor:
    num_responses = len(groups[0].responses)
    rows = torch.arange(len(groups) * num_responses, device=policy.mask.device).reshape(-1, num_responses)
    output: Any = (sigmoid if num_responses == 2 else plackett_luce)(policy, reference, rows, beta=0.1)
    return output.loss.mean()
