"""A classifier as a policy: a response is one decision, a class."""

from collections.abc import Sequence
from functools import cached_property
from typing import Any, ClassVar, cast, final

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.heads import Head, classes_of
from dpo_lab.model.loading import ModelKind
from dpo_lab.model.lora import Loaded, LoraSettings, load_with_adapter
from dpo_lab.model.ngrams import SPACE, ngram_places, ngrams_of, one_form, plain_text, spaced_ngrams
from dpo_lab.model.policy import Inputs
from dpo_lab.model.reading import Reading, TokenPlace, cut_reading, places_of
from dpo_lab.model.token_noise import hidden_spans
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.types import Encoded, Example, LogProbs

SEQUENCE_CLASSIFIER = ModelKind("classifier", "AutoModelForSequenceClassification", None)


@final
class Classifier(EncoderPolicy):
    """A text classifier of transformers and its tokenizer, as a policy.

    Every text is read once for all classes that are asked of it, which under dropout share its noise. `classes` are
    their names, in the order of the model's outputs.
    """

    kind: ClassVar[ModelKind] = SEQUENCE_CLASSIFIER
    num_decisions: ClassVar[int | None] = 1
    decides_at_once: ClassVar[bool] = True

    def __init__(self, model: Any, tokenizer: Any, *, token_dropout: float = 0.0, **options: Any):
        """
        Args:
            token_dropout: share of the tokens of a text that are hidden while training, in [0, 1).
            options: as of `EncoderPolicy`.
        """
        super().__init__(model, tokenizer, **options)
        self.token_dropout = token_dropout

    @property
    def ngrams(self) -> int | None:
        """Length of the longest n-gram of characters that texts are written in; None: as they are."""
        return ngrams_of(self.tokenizer)

    @cached_property
    def _known(self) -> frozenset[str]:
        return frozenset(self.tokenizer.get_vocab())

    @property
    def classes(self) -> tuple[str, ...]:
        return classes_of(self.model.config)

    @property
    def scoring(self) -> str:
        head = ", with a head that was drawn and has learnt nothing" if self.has_fresh_head else ""
        return f"each text once for all its classes{head}"

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """The text between the tokenizer's special tokens, and each class by its number.

        Raises:
            UserError: a response is no class of the model; a prompt is a chat.
        """
        texts = [_text(example) for example in examples]
        if self.ngrams is not None:
            texts = [spaced_ngrams(text, self.ngrams, self._known) for text in texts]
        ids = self.tokenizer(texts, verbose=False)["input_ids"] if texts else []
        numbers = {name: number for number, name in enumerate(self.classes)}
        return [
            Encoded(
                tuple(text),
                tuple((self._number(response, numbers, example),) for response in example.responses),
                num_head=self.num_begin,
                num_tail=self.num_end,
                kind="class",
            )
            for example, text in zip(examples, ids, strict=True)
        ]

    def reading(self, example: Example, encoded: Encoded) -> Reading:
        text = _text(example)
        if self.ngrams is None:
            places = places_of(self.tokenizer(text, return_offsets_mapping=True, verbose=False))
        else:
            plain = one_form(text)
            found = [TokenPlace(0, *place) for place in ngram_places(plain, self.ngrams, self._known)]
            begun, ended = ([TokenPlace(None, 0, 0)] * num for num in (self.num_begin, self.num_end))
            text, places = plain.replace(SPACE, " "), [*begun, *found, *ended]
        return cut_reading([("text", text)], places, encoded, [range(len(encoded.prompt))])

    def _number(self, response: Any, numbers: dict[str, int], example: Example) -> int:
        if response not in numbers:
            known = ", ".join(self.classes[:8])
            raise UserError(f"{example.source}: {response!r} is no class of the model, which knows {known}")
        return numbers[response]

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """Each text once, padded; and of each row its text and its class."""
        rows = [(index, response[0]) for index, group in enumerate(groups) for response in group.responses]
        return {
            **self.pad([group.prompt for group in groups]),
            "text": torch.tensor([index for index, _ in rows], dtype=torch.long),
            "class": torch.tensor([number for _, number in rows], dtype=torch.long),
        }

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return torch.ones(len(inputs["class"]), 1, dtype=torch.bool, device=inputs["class"].device)

    def log_prob(self, inputs: Inputs) -> LogProbs:
        token = self._distribution(inputs)[inputs["text"], inputs["class"]]
        return LogProbs(token[:, None], self.decision_mask(inputs))

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        distribution = self._distribution(inputs)[inputs["text"]]
        token = distribution.gather(1, inputs["class"][:, None])
        return LogProbs(token, self.decision_mask(inputs)), distribution[:, None]

    def _distribution(self, inputs: Inputs) -> Float[Tensor, " texts classes"]:
        """Log-probability of every class of every text, float32 or wider, nats."""
        logits = self.model(input_ids=self._with_noise(inputs), attention_mask=inputs["attention_mask"]).logits
        with torch.autocast(device_type=logits.device.type, enabled=False):
            return torch.log_softmax(logits.to(torch.promote_types(logits.dtype, torch.float32)), dim=-1)

    def _with_noise(self, inputs: Inputs) -> Int[Tensor, " texts l"]:
        """`input_ids`; while training with a share of them hidden, n-grams together with those that overlap them."""
        input_ids = inputs["input_ids"]
        if not self.training or self.token_dropout == 0:
            return input_ids
        special = torch.tensor(self.tokenizer.all_special_ids, device=input_ids.device)
        may_be_hidden = (inputs["attention_mask"] > 0) & ~torch.isin(input_ids, special)
        length = 2 * self.ngrams - 1 if self.ngrams is not None else 1
        return input_ids.masked_fill(hidden_spans(may_be_hidden, self.token_dropout, length), self.hiding_id)

    @torch.no_grad()
    def class_log_probs(self, texts: Sequence[Encoded]) -> Float[Tensor, " texts classes"]:
        """Log-probability of every class of every text, nats, in the mode (training, evaluation) that it is in."""
        device = self.model.device
        inputs = {name: tensor.to(device) for name, tensor in self.pad([text.prompt for text in texts]).items()}
        return self._distribution(inputs)

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        was_training = self.training
        self.eval()
        probabilities = self.class_log_probs(prompts).exp().cpu()
        self.train(was_training)
        return torch.multinomial(probabilities, 1, generator=generator).tolist()

    def decode_prompt(self, prompt: Encoded) -> str:
        text = self.tokenizer.decode(list(prompt.prompt), skip_special_tokens=True)
        return text if self.ngrams is None else plain_text(text)

    def decode(self, prompt: Encoded, response: Sequence[int]) -> str:
        return self.classes[response[0]]

    def load_other(self, path: str) -> "Classifier":
        """
        Raises:
            UserError: also when its classes are others, or in another order.
        """
        other = cast(Classifier, super().load_other(path))
        if other.classes != self.classes:
            raise UserError(
                f"{path} has the classes {', '.join(other.classes[:8])}, and the policy {', '.join(self.classes[:8])}: "
                "others, or in another order, so they cannot be compared"
            )
        return other

    def _alike(self, loaded: Loaded) -> "Classifier":
        return Classifier(
            loaded.model,
            loaded.tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            adapter=loaded.adapter,
            token_dropout=self.token_dropout,
        )

    def encoding_fingerprint(self) -> str:
        return self._fingerprint_of_tokens(classes=list(self.classes), ngrams=self.ngrams, encoding=1)


def load_classifier(
    path: str,
    settings: LoraSettings,
    adapter_seed: int,
    head: Head,
    *,
    dtype: Dtype,
    dropout: float,
    token_dropout: float = 0.0,
    **options: Any,
) -> Classifier:
    """The classifier at `path`, a folder or a hub name; `options` are those of `load_model`.

    Raises:
        UserError: when the model cannot be had, or its head is not the one that is wanted.
    """
    model, tokenizer, rates, adapter = load_with_adapter(
        path, SEQUENCE_CLASSIFIER, settings, adapter_seed, dtype=dtype, dropout=dropout, head=head, **options
    )
    return Classifier(
        model,
        tokenizer,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=rates,
        adapter=adapter,
        has_fresh_head=head.is_fresh,
        token_dropout=token_dropout,
    )


def _text(example: Example) -> str:
    if isinstance(example.prompt, str):
        return example.prompt
    raise UserError(f"{example.source}: the row holds chat messages, and a classifier reads one text")
