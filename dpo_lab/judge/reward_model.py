"""A model with one output for a whole text, trained by others to say how good a response is."""

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal, final

import torch

from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.judge.judge import Judge, by_rewards
from dpo_lab.model.fingerprint import model_fingerprint
from dpo_lab.model.loading import ModelKind, load_model, read_config
from dpo_lab.model.positions import longest_text
from dpo_lab.ranges import PositiveInt
from dpo_lab.types import Message, Text

REWARD_MODEL = ModelKind("reward model", "AutoModelForSequenceClassification", None)
Device = Literal["auto", "cpu", "cuda"]
Dtype = Literal["float32", "bfloat16"]


def reward_model(
    *,
    path: str,
    revision: str | None = None,
    dtype: Dtype = "float32",
    device: Device = "auto",
    batch_size: PositiveInt = 16,
    max_length: PositiveInt | None = None,
) -> "RewardModel":
    """The response with the larger reward wins; the same reward is a tie.

    A chat is written by the chat template of the reward model's own tokenizer, and so is a prompt that is text, as the
    user's turn. Without a template the two are a pair of texts where the tokenizer has a separator; else the response
    follows its prompt as it stands.

    Args:
        path: folder or hub name.
        revision: branch, tag or commit of a hub name.
        dtype: of its weights.
        device: where it computes; ``auto`` takes a GPU where there is one.
        batch_size: texts at a time; one where its tokenizer has no padding token.
        max_length: tokens of prompt and response together; what is longer loses its beginning (of a pair, the longer
            one of the two), and that is counted. Null: as many as the model knows.
    """
    return RewardModel(path, revision, dtype, device, batch_size, max_length)


@final
class RewardModel(Judge):
    """Each distinct text is scored once, so that two equal responses are a tie to the bit."""

    def __init__(
        self, path: str, revision: str | None, dtype: Dtype, device: Device, batch_size: int, max_length: int | None
    ):
        self._path, self._revision, self._dtype = path, revision, dtype
        self._wanted_device, self._batch_size, self._max_length = device, batch_size, max_length
        self._loaded: tuple[Any, Any] | None = None
        self._fingerprint: str | None = None
        self._num_cut = 0

    @property
    def label(self) -> str:
        return f"reward_model-{Path(self._path).expanduser().name}"

    def check(self, say: Callable[[str], None]) -> None:
        """Reads its config alone.

        Raises:
            UserError: there is no such model; it has not one output; there is no GPU, and one is asked for.
        """
        if self._wanted_device == "cuda" and not torch.cuda.is_available():
            raise UserError("judge.device=cuda: there is no GPU here; use judge.device=cpu")
        config = read_config(self._path, REWARD_MODEL, self._revision)
        if config.num_labels != 1:
            raise UserError(
                f"judge.path={self._path}: has {config.num_labels} outputs, and a reward model has one (num_labels in "
                "its config.json); a classifier is no judge"
            )

    def compare(self, contests: Sequence[Contest], say: Callable[[str], None]) -> list[Judged]:
        model, tokenizer = self._model()
        texts = [[_parts(tokenizer, one.prompt, response) for response in (one.first, one.second)] for one in contests]
        distinct = list(dict.fromkeys(text for pair in texts for text in pair))
        say(f"judge: {len(distinct)} texts for the reward model {self._path}, on {model.device.type}")
        rewards = dict(zip(distinct, self._rewards(distinct), strict=True))
        if self._num_cut:
            say(f"judge: {self._num_cut} texts are longer than the reward model reads, and lost their beginning")
        return [by_rewards(rewards[first], rewards[second]) for first, second in texts]

    def describe(self) -> dict[str, Any]:
        return {
            "judge": "reward_model",
            "path": self._path,
            "revision": self._revision,
            "dtype": self._dtype,
            "weights": self._fingerprint,
            "num_texts_cut": self._num_cut,
        }

    def _model(self) -> tuple[Any, Any]:
        if self._loaded is None:
            model, tokenizer, _ = load_model(
                self._path, REWARD_MODEL, dtype=self._dtype, dropout=0.0, revision=self._revision
            )
            if model.config.pad_token_id is None:  # a decoder looks for the last token that is none
                model.config.pad_token_id = tokenizer.pad_token_id
            self._fingerprint = model_fingerprint(model)
            is_gpu = self._wanted_device == "cuda" or (self._wanted_device == "auto" and torch.cuda.is_available())
            self._loaded = model.eval().to("cuda" if is_gpu else "cpu"), tokenizer
        return self._loaded

    @torch.no_grad()
    def _rewards(self, texts: Sequence["Parts"]) -> list[float]:
        """What the model gives each of `texts`, longest first through the model."""
        model, tokenizer = self._model()
        limits = (longest_text(model.config.get_text_config(), tokenizer), self._max_length)
        limit = min((limit for limit in limits if limit is not None), default=None)
        # A template writes its own special tokens.
        ways: dict[str, Any] = {"add_special_tokens": not tokenizer.chat_template, "verbose": False}
        whole = [len(tokenizer(*parts, **ways)["input_ids"]) for parts in texts]
        self._num_cut = 0 if limit is None else sum(length > limit for length in whole)
        if limit is not None:
            ways |= {"truncation": True, "max_length": limit}
        tokenizer.truncation_side, tokenizer.padding_side = "left", "right"
        rewards = [0.0] * len(texts)
        order = sorted(range(len(texts)), key=lambda number: -whole[number])
        size = self._batch_size if tokenizer.pad_token_id is not None else 1
        for start in range(0, len(order), size):
            batch = order[start : start + size]
            rows = [tokenizer(*texts[number], **ways) for number in batch]
            inputs = tokenizer.pad(rows, return_tensors="pt") if size > 1 else tokenizer.pad(rows[:1], False, None)
            inputs = {name: torch.as_tensor(value, device=model.device) for name, value in inputs.items()}
            for number, reward in zip(batch, model(**inputs).logits[:, 0].tolist(), strict=True):
                rewards[number] = reward
        if not all(math.isfinite(reward) for reward in rewards):
            raise UserError(f"judge.path={self._path}: gives rewards that are not finite numbers")
        return rewards


Parts = tuple[str, ...]
"""What the tokenizer is given: a whole text, or prompt and response, which it puts its own separator between."""


def _parts(tokenizer: Any, prompt: Text, response: str) -> Parts:
    if tokenizer.chat_template:
        turns: list[Message] = [{"role": "user", "content": prompt}] if isinstance(prompt, str) else list(prompt)
        return (tokenizer.apply_chat_template([*turns, {"role": "assistant", "content": response}], tokenize=False),)
    if not isinstance(prompt, str):
        raise UserError(
            "judge=reward_model: the prompts are chats, and the tokenizer of the reward model has no chat template"
        )
    return (prompt, response) if tokenizer.sep_token_id is not None else (prompt + response,)
