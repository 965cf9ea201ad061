"""A span reader as a policy: a response is two decisions, the first and the last token of a span of the passage."""

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, NamedTuple, final

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.model.encoder_policy import EncoderPolicy
from dpo_lab.model.heads import Head
from dpo_lab.model.loading import ModelKind
from dpo_lab.model.lora import Loaded, LoraSettings, load_with_adapter
from dpo_lab.model.ngrams import ngrams_of
from dpo_lab.model.policy import Inputs
from dpo_lab.model.reading import Reading, cut_reading, places_of
from dpo_lab.model.reading_windows import reading_windows
from dpo_lab.model.transformers_policy import Dtype
from dpo_lab.types import Encoded, Example, LogProbs, Message

SPAN_READER = ModelKind("span reader", "AutoModelForQuestionAnswering", None)


class SpanScore(NamedTuple):
    """Positions in the prompt of a span's first and last token, and its log-probability, nats."""

    first: int
    last: int
    log_prob: float


@final
class SpanReader(EncoderPolicy):
    """An extractive question-answering model of transformers and its tokenizer, as a policy.

    A prompt is a question and a passage, which is read once for all spans that are asked of it. First and last token
    each have a softmax over all tokens of the passage and over nothing else. They are drawn apart from each other, as
    these models are built, so a last token may be drawn that stands in front of the first: such a span is empty.

    A passage that does not fit into one window with its question is read in several that overlap, and the softmax goes
    over the tokens of all of them (shared normalisation, Clark and Gardner 2018, arXiv 1710.10723): each token counts
    once, in the window where it stands farthest from an edge.
    """

    kind: ClassVar[ModelKind] = SPAN_READER
    num_decisions: ClassVar[int | None] = 2
    decides_at_once: ClassVar[bool] = True
    cannot_give: ClassVar[Mapping[str, str]] = {"drift": "a span of one passage is no span of another"}

    def __init__(self, model: Any, tokenizer: Any, *, window: int, stride: int, **options: Any):
        """
        Args:
            window: tokens that the model reads at a time, question and special tokens included.
            stride: tokens of a passage that neighbouring windows share.
            options: as of `EncoderPolicy`.

        Raises:
            UserError: the model does not know so many positions; the windows would not move.
        """
        if ngrams_of(tokenizer) is not None:
            raise UserError("the tokenizer wants texts as n-grams that overlap, so that a span has no place in them")
        super().__init__(model, tokenizer, **options)
        limit = super().max_positions
        if limit is not None and window > limit:
            raise UserError(
                f"model.window: {window} is longer than the {limit} positions that the model knows; give window and "
                f"stride as it was trained with, or model.window={limit} and a model.stride below it"
            )
        if stride >= window:
            raise UserError(f"model.stride: must be less than model.window, which is {window}, got {stride}")
        self.window, self.stride = window, stride
        self.has_segments = "token_type_ids" in tokenizer.model_input_names
        if self.has_segments:
            self._check_segments()

    def _check_segments(self) -> None:
        read = self.tokenizer("a", "b")
        head = read.sequence_ids(0).index(1)
        if read["token_type_ids"] != [0] * head + [1] * (len(read["input_ids"]) - head):
            raise UserError("the tokenizer marks question and passage in another way than 0 and 1, which is not known")

    @property
    def max_positions(self) -> None:
        """Longer passages are read in windows."""
        return None

    @property
    def without_gradient(self) -> tuple[str, ...]:
        """The bias of the head: it moves all tokens of a passage alike, which a softmax over them does not see."""
        biases = [name for name, tensor in self.named_parameters() if name.endswith(".bias") and tensor.shape == (2,)]
        return tuple(biases)

    @property
    def longest_row(self) -> int:
        return self.window

    @property
    def scoring(self) -> str:
        head = ", with a head that was drawn and has learnt nothing" if self.has_fresh_head else ""
        return f"each passage once for all its spans, in windows of {self.window} tokens{head}"

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Question and passage as the tokenizer joins them, and each span by the positions of its ends.

        Raises:
            UserError: a row is no question with spans of its passage; the question leaves the passage no room in a
                window; a span has no token.
        """
        encoded = []
        for example in examples:
            passage, question = read_prompt(example)
            read = self.tokenizer(question, passage, return_offsets_mapping=True, verbose=False)
            inside = [position for position, part in enumerate(read.sequence_ids(0)) if part == 1]
            if not inside:
                raise UserError(f"{example.source}: the passage has no token")
            prompt, offsets = tuple(read["input_ids"]), read["offset_mapping"]
            num_head, num_tail = inside[0], len(prompt) - inside[-1] - 1
            if num_head + num_tail + self.stride >= self.window:
                raise UserError(
                    f"{example.source}: a question of {num_head + num_tail} tokens, special ones included, leaves its "
                    f"passage no room in model.window={self.window} beside model.stride={self.stride}"
                )
            places = [(position, *offsets[position]) for position in inside]
            spans = tuple(_span(response, places, example) for response in example.responses)
            encoded.append(Encoded(prompt, spans, num_head, num_tail=num_tail, kind="span"))
        return encoded

    def offsets(self, example: Example) -> list[tuple[int, int]]:
        """Of each token of the prompt of `example`: where it begins and ends in its own part, characters."""
        passage, question = read_prompt(example)
        return self.tokenizer(question, passage, return_offsets_mapping=True, verbose=False)["offset_mapping"]

    def reading(self, example: Example, encoded: Encoded) -> Reading:
        passage, question = read_prompt(example)
        places = places_of(self.tokenizer(question, passage, return_offsets_mapping=True, verbose=False))
        num_head, end = encoded.num_head, len(encoded.prompt) - encoded.num_tail
        rows = []
        for window in reading_windows([encoded], self.window, self.stride):
            first = num_head + window.first
            inside = range(first, first + len(window.ids) - num_head - encoded.num_tail)
            rows.append([*range(num_head), *inside, *range(end, len(encoded.prompt))])
        return cut_reading([("question", question), ("passage", passage)], places, encoded, rows)

    def collate(self, groups: Sequence[Encoded]) -> Inputs:
        """Each question's windows, where each token of its passage stands in them, and of each row its span.

        `place[q, c]` is the place of token c of passage q among all tokens of all windows, -1 behind its end; `span`
        counts from the first token of the passage.
        """
        windows = reading_windows(groups, self.window, self.stride)
        padded = self.pad([window.ids for window in windows])
        width, longest = padded["input_ids"].shape[1], max(_num_inside(group) for group in groups)
        place = torch.full((len(groups), longest), -1, dtype=torch.long)
        for number, window in enumerate(windows):
            for token in range(window.first_counted, window.last_counted + 1):
                place[window.group, token] = number * width + window.num_head + token - window.first
        if self.has_segments:
            padded["token_type_ids"] = torch.zeros_like(padded["input_ids"])
            for number, window in enumerate(windows):
                padded["token_type_ids"][number, window.num_head : len(window.ids)] = 1
        rows = [(index, group, span) for index, group in enumerate(groups) for span in group.responses]
        spans = [[position - group.num_head for position in span] for _, group, span in rows]
        return {
            **padded,
            "place": place,
            "text": torch.tensor([index for index, _, _ in rows], dtype=torch.long),
            "span": torch.tensor(spans, dtype=torch.long).reshape(-1, 2),
        }

    def decision_mask(self, inputs: Inputs) -> Bool[Tensor, " n t"]:
        return torch.ones_like(inputs["span"], dtype=torch.bool)

    def log_prob(self, inputs: Inputs) -> LogProbs:
        return self.log_prob_and_distribution(inputs)[0]

    def log_prob_and_distribution(self, inputs: Inputs) -> tuple[LogProbs, Float[Tensor, " n t v"]]:
        """A choice behind the end of a passage is impossible: its log-probability is -inf."""
        distribution = self._distribution(inputs)[inputs["text"]]
        token = distribution.gather(2, inputs["span"][..., None]).squeeze(2)
        return LogProbs(token, self.decision_mask(inputs)), distribution

    def _distribution(self, inputs: Inputs) -> Float[Tensor, " questions 2 tokens"]:
        """Log-probability of each token of each passage as the first of the span, and as the last, nats."""
        read = {name: inputs[name] for name in ("input_ids", "attention_mask", "token_type_ids") if name in inputs}
        output = self.model(**read)
        ends = torch.stack([output.start_logits.flatten(), output.end_logits.flatten()])
        with torch.autocast(device_type=ends.device.type, enabled=False):
            ends = ends.to(torch.promote_types(ends.dtype, torch.float32))
            of_passage = ends[:, inputs["place"].clamp(min=0)].transpose(0, 1)
            return torch.log_softmax(of_passage.masked_fill(inputs["place"][:, None] < 0, -torch.inf), dim=-1)

    @torch.no_grad()
    def _ends(self, prompts: Sequence[Encoded]) -> Float[Tensor, " questions 2 tokens"]:
        device = self.model.device
        inputs = {name: tensor.to(device) for name, tensor in self.collate(prompts).items()}
        return self._distribution(inputs).cpu()

    def sample(self, prompts: Sequence[Encoded], *, generator: torch.Generator, max_new_tokens: int) -> list[list[int]]:
        was_training = self.training
        self.eval()
        ends = self._ends(prompts).exp()
        self.train(was_training)
        drawn = torch.multinomial(ends.flatten(0, 1), 1, generator=generator).reshape(-1, 2).tolist()
        return [[prompt.num_head + position for position in span] for prompt, span in zip(prompts, drawn, strict=True)]

    def best_spans(self, prompts: Sequence[Encoded], num: int, max_tokens: int) -> list[list[SpanScore]]:
        """The `num` likeliest spans of at most `max_tokens` of each prompt, best first, in the mode that it is in."""
        best = []
        for prompt, (first, last) in zip(prompts, self._ends(prompts), strict=True):
            size = _num_inside(prompt)
            joint = first[:size, None] + last[None, :size]
            kept = torch.ones(size, size, dtype=torch.bool).triu().tril(max_tokens - 1)
            joint = joint.masked_fill(~kept, -torch.inf).flatten()
            values, places = joint.topk(min(num, int(kept.sum())))
            best.append(
                [
                    SpanScore(prompt.num_head + place // size, prompt.num_head + place % size, value)
                    for value, place in zip(values.tolist(), places.tolist(), strict=True)
                ]
            )
        return best

    def decode(self, prompt: Encoded, response: Sequence[int]) -> str:
        first, last = response
        return self.tokenizer.decode(list(prompt.prompt[first : last + 1]), skip_special_tokens=True)

    def _alike(self, loaded: Loaded) -> "SpanReader":
        return SpanReader(
            loaded.model,
            loaded.tokenizer,
            window=self.window,
            stride=self.stride,
            dtype=self.dtype_name,
            dropout=self.dropout,
            exported_dropout=loaded.dropout_rates,
            adapter=loaded.adapter,
        )

    def _ways(self) -> dict[str, str]:
        return {**super()._ways(), "window": str(self.window), "stride": str(self.stride)}

    def encoding_fingerprint(self) -> str:
        return self._fingerprint_of_tokens(window=self.window, stride=self.stride, encoding=1)


def load_span_reader(
    path: str,
    settings: LoraSettings,
    adapter_seed: int,
    head: Head,
    *,
    dtype: Dtype,
    dropout: float,
    window: int,
    stride: int,
    **options: Any,
) -> SpanReader:
    """The span reader at `path`, a folder or a hub name; `options` are those of `load_model`.

    Raises:
        UserError: when the model cannot be had.
    """
    model, tokenizer, rates, adapter = load_with_adapter(
        path, SPAN_READER, settings, adapter_seed, dtype=dtype, dropout=dropout, head=head, **options
    )
    return SpanReader(
        model,
        tokenizer,
        window=window,
        stride=stride,
        dtype=dtype,
        dropout=dropout,
        exported_dropout=rates,
        adapter=adapter,
        has_fresh_head=head.is_fresh,
    )


def read_prompt(example: Example) -> tuple[str, str]:
    """Passage and question: the system's turn and the user's.

    Raises:
        UserError: the prompt is not these two turns.
    """
    prompt = example.prompt
    if isinstance(prompt, str) or [message["role"] for message in prompt] != ["system", "user"]:
        raise UserError(
            f"{example.source}: a span reader takes a question about a passage (data=questions), and this row is none"
        )
    return prompt[0]["content"], prompt[1]["content"]


def _span(response: Any, places: Sequence[tuple[int, int, int]], example: Example) -> tuple[int, int]:
    """Positions of the first and the last token of `response`; `places` are (position, first character, end)."""
    turn: Message | None = response[0] if isinstance(response, list) and len(response) == 1 else None
    if turn is None or "start" not in turn:
        raise UserError(f"{example.source}: a response is no span of the passage (data=questions gives spans)")
    start, stop = turn["start"], turn["start"] + len(turn["content"])
    inside = [position for position, begin, end in places if begin < stop and end > start]
    if not inside:
        raise UserError(f"{example.source}: no token of the passage stands where {turn['content']!r} does")
    return inside[0], inside[-1]


def _num_inside(encoded: Encoded) -> int:
    """Tokens of the passage."""
    return len(encoded.prompt) - encoded.num_head - encoded.num_tail
