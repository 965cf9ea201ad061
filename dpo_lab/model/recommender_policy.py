"""A recommender as a policy: a response is one decision, the item that comes next of a whole catalogue."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, ClassVar, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.decisions import decision_mask
from dpo_lab.model.loading import ModelKind
from dpo_lab.model.lora import Loaded
from dpo_lab.model.policy import Inputs
from dpo_lab.model.token_noise import hidden_spans
from dpo_lab.model.transformers_policy import TransformersPolicy
from dpo_lab.types import Encoded, Example, LogProbs

NEXT_ITEM_MODEL = ModelKind("next-item model", "AutoModelForCausalLM", None)


@final
class Recommender(TransformersPolicy):
    """A causal model over items, whose vocabulary is the catalogue and nothing else, as a policy.

    The prompt is a history of items between spaces, oldest first; a response is the next item. It may be several, each
    a decision behind those before it: so a supervised stage goes through a history in one pass. A history is computed
    once for all items that are asked of it, and the catalogue's distribution once for each place; under dropout they
    share its noise, as the items of one softmax do.
    """

    kind: ClassVar[ModelKind] = NEXT_ITEM_MODEL
    writes_text: ClassVar[bool] = False

    def __init__(self, model: Any, tokenizer: Any, *, item_dropout: float = 0.0, **options: Any):
        """
        Args:
            item_dropout: share of the items of a history that are hidden while training, in [0, 1).
            options: as of `TransformersPolicy`.
        """
        super().__init__(model, tokenizer, **options)
        self.item_dropout = item_dropout

    @property
    def catalogue(self) -> tuple[str, ...]:
        """Every item, in the order of the model's outputs."""
        vocabulary: dict[str, int] = self.tokenizer.get_vocab()
        return tuple(sorted(vocabulary, key=vocabulary.__getitem__))

    @property
    def scoring(self) -> str:
        return f"each history once for all its items, of a catalogue of {self.model.config.vocab_size}"

    @property
    def end_id(self) -> None:
        return None

    @property
    def max_positions(self) -> int | None:
        return self.model.config.max_position_embeddings

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Numbers of the items of the history, and of the response.

        Raises:
            UserError: an item is not in the catalogue; a prompt is a chat.
        """
        numbers: dict[str, int] = self.tokenizer.get_vocab()
        return [
            Encoded(
                _numbers(example.prompt, numbers, example),
                tuple(_numbers(response, numbers, example) for response in example.responses),
            )
            for example in examples
        ]

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """Lines of items, padded on the right; which places of them decide; and what was taken there.

        Returns `input_ids[l, w]` and `attention_mask[l, w]`: a history once for all responses of one item, and each
        longer response behind it, without its last item; `places[s, 2]`, line and column of every place that decides;
        `place_of[d]` and `target[d]` of each decision, row by row; `response_length[n]`.

        Raises:
            ValueError: for a history or a response without items.
        """
        lines: dict[tuple[int, ...], int] = {}
        places: dict[tuple[int, int], int] = {}
        place_of: list[int] = []
        target: list[int] = []
        lengths: list[int] = []
        for group in groups:
            for response in group.responses:
                if not group.prompt or not response:
                    raise ValueError("a history and each of its responses need at least one item")
                line = lines.setdefault((*group.prompt, *response[:-1]), len(lines))
                for number, item in enumerate(response):
                    place = (line, len(group.prompt) - 1 + number)
                    place_of.append(places.setdefault(place, len(places)))
                    target.append(item)
                lengths.append(len(response))
        width = max(map(len, lines))
        return {
            # Whatever stands behind the end, a causal model does not look at it.
            "input_ids": torch.tensor([[*line, *[0] * (width - len(line))] for line in lines]),
            "attention_mask": torch.tensor([[1] * len(line) + [0] * (width - len(line)) for line in lines]),
            "places": torch.tensor(list(places)),
            "place_of": torch.tensor(place_of),
            "target": torch.tensor(target),
            "response_length": torch.tensor(lengths),
        }

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return decision_mask(inputs["response_length"])

    def log_prob(self, inputs: Inputs) -> LogProbs:
        flat = self._distributions(inputs)[inputs["place_of"], inputs["target"]]
        mask = self.decision_mask(inputs)
        return LogProbs(flat.new_zeros(mask.shape).masked_scatter(mask, flat), mask)

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        flat = self._distributions(inputs)[inputs["place_of"]]
        token = flat.gather(-1, inputs["target"][:, None])[:, 0]
        mask = self.decision_mask(inputs)
        scattered = flat.new_zeros(*mask.shape, flat.shape[-1]).masked_scatter(mask[..., None], flat)
        return LogProbs(token.new_zeros(mask.shape).masked_scatter(mask, token), mask), scattered

    def _distributions(self, inputs: Inputs) -> Float[Tensor, " s v"]:
        """Log-probability of every item at each of `places`, float32 or wider, nats."""
        hidden = self.model.base_model(
            **self._read_items(inputs), attention_mask=inputs["attention_mask"], use_cache=False
        ).last_hidden_state
        logits = self.model.get_output_embeddings()(hidden[inputs["places"][:, 0], inputs["places"][:, 1]])
        with torch.autocast(device_type=logits.device.type, enabled=False):
            return logits.to(torch.promote_types(logits.dtype, torch.float32)).log_softmax(-1)

    def _read_items(self, inputs: Inputs) -> dict[str, Tensor]:
        """What the model reads; while training with a share of the items hidden: that something stood there, not what
        (the item mask of Xie et al. 2022, arXiv 2010.14395, with zeros for the mask, since the vocabulary has none).
        """
        if not self.training or self.item_dropout == 0:
            return {"input_ids": inputs["input_ids"]}
        hidden = hidden_spans(inputs["attention_mask"] > 0, self.item_dropout, 1)
        embedded = self.model.get_input_embeddings()(inputs["input_ids"])
        return {"inputs_embeds": embedded.masked_fill(hidden[..., None], 0.0)}

    @torch.no_grad()
    def next_item_log_probs(self, histories: Sequence[Encoded]) -> Float[Tensor, " n v"]:
        """Log-probability of every item of the catalogue behind each history, nats, in the mode that it is in."""
        asked = [Encoded(history.prompt, ((0,),)) for history in histories]
        device = self.model.device
        inputs = {name: tensor.to(device) for name, tensor in self.collate(asked).items()}
        return self._distributions(inputs)[inputs["place_of"]]

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        """One item a history."""
        was_training = self.training
        self.eval()
        probabilities = self.next_item_log_probs(prompts).exp().cpu()
        self.train(was_training)
        return torch.multinomial(probabilities, 1, generator=generator).tolist()

    def encoding_fingerprint(self) -> str:
        content = json.dumps({"catalogue": self.catalogue, "encoding": "items 1"})
        return hashlib.sha256(content.encode()).hexdigest()

    def _alike(self, loaded: Loaded) -> "Recommender":
        return Recommender(
            loaded.model,
            loaded.tokenizer,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            item_dropout=self.item_dropout,
        )


def _numbers(text: Any, numbers: dict[str, int], example: Example) -> tuple[int, ...]:
    if not isinstance(text, str):
        raise UserError(f"{example.source}: the row holds chat messages, and a recommender reads ids of items")
    items = text.split()
    unknown = [item for item in items if item not in numbers]
    if unknown:
        raise UserError(
            f"{example.source}: {unknown[0]!r} is not in the model's catalogue of {len(numbers)} items; a recommender "
            "reads ids (data=interactions data.text=ids) of the items that it was built for"
        )
    return tuple(numbers[item] for item in items)


def catalogue_tokenizer(catalogue: Sequence[str]) -> Any:
    """A tokenizer of transformers of which each item is one token, between spaces, and nothing else is any."""
    from tokenizers import Tokenizer, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    numbers = {item: number for number, item in enumerate(catalogue)}
    tokenizer = Tokenizer(models.WordLevel(numbers))
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()  # type: ignore[assignment]
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer)
