"""From an `Example` with pictures to token ids and pixels: which tokens stand for a picture, and what a model sees."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from inspect import signature
from typing import Any, final

import torch
from jaxtyping import Int
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.image_files import load_image
from dpo_lab.model.rendering import Renderer
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.types import Encoded, Example, ImageFile

OF_TEXT = frozenset({"input_ids", "attention_mask"})
TOKEN_TYPES = ("mm_token_type_ids", "token_type_ids")
"""Names under which models are told which of the tokens stand for a picture."""


@final
class VisionEncoder:
    """Encodes prompts with pictures, and responses, with a processor of transformers.

    The chat template leaves one mark for each picture; the processor puts in its place as many tokens as the model
    has features of it. Everything else is as in `TextEncoder`. A response shows no picture, so none of these tokens
    is ever a decision that the data asks about.

    Pixels are made anew for each batch, by the processor itself, so that they are what the model was trained on,
    whatever it calls them (`pixel_values`, `pixel_attention_mask`, `image_grid_thw`, `image_sizes`, ...).
    """

    def __init__(self, processor: Any, model: Any):
        """`model` says by the signature of its forward pass what it reads.

        Raises:
            UserError: the processor is of a kind that cannot be used, and why.
        """
        self.processor = processor
        if processor.chat_template is None:
            processor.chat_template = processor.tokenizer.chat_template
        tokenizer = processor.tokenizer
        tokenizer.chat_template = processor.chat_template  # as transformers itself reads them from disk
        self.text = TextEncoder(tokenizer, Renderer(processor, tokenizer.eos_token, shows_images=True))
        self._mark, self._mark_id = _mark_of(processor)
        self._reads = frozenset(signature(model.forward).parameters)
        self._type_name: str | None = None
        self._type_name = self._examine()

    @property
    def placeholders(self) -> tuple[int, ...]:
        """Tokens in whose places a model puts pictures, videos or sound, ascending."""
        kinds = ("image_token_ids", "video_token_ids", "audio_token_ids")
        named = {token for kind in kinds for token in getattr(self.processor, kind, None) or ()}
        named |= {getattr(self.processor.tokenizer, "image_token_id", None), self._mark_id}
        return tuple(sorted(token for token in named if token is not None))

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Token ids, with those of pictures, and where the pictures lie.

        What stands up to the last picture is the head of a prompt: a cut leaves it whole, or leaves nothing.

        Raises:
            UserError: a text holds the mark of a picture, the template leaves none, or the processor refuses one.
        """
        texts = [self.text.renderer.texts(example) for example in examples]
        for example, (prompt, responses) in zip(examples, texts, strict=True):
            self._check_marks(example, prompt, responses)
        encoded = self.text.encode_texts(texts)
        self._check_responses(examples, encoded)
        return [
            self._with_images(one, prompt, example) if example.images else one
            for one, (prompt, _), example in zip(encoded, texts, examples, strict=True)
        ]

    def pixels(self, shown: Sequence[Sequence[ImageFile]]) -> dict[str, Tensor]:
        """What the model reads of the pictures that each row shows, in order; nothing where none shows any."""
        rows = [row for row in shown if row]
        if not rows:
            return {}
        images = {image: load_image(image) for row in rows for image in row}
        texts = [" ".join([self._mark] * len(row)) for row in rows]
        with _able_to_pad(self.processor.tokenizer):
            outputs = self._process(
                texts, [[images[image] for image in row] for row in rows], padding=True, return_tensors="pt"
            )
        return {name: tensor for name, tensor in outputs.items() if name not in {*OF_TEXT, *TOKEN_TYPES}}

    def token_types(self, rows: Sequence[Sequence[int]]) -> tuple[str, list[list[int]]] | None:
        """Which tokens of each row stand for a picture, under the model's name for it; None where it does not ask."""
        if self._type_name is None:
            return None
        return self._type_name, self.processor.create_mm_token_type_ids([list(row) for row in rows])

    def fingerprint(self) -> str:
        """Hash of all that ids and pixels depend on, but of the versions of libraries."""
        processor = self.processor
        state = [self.text.fingerprint(), processor.chat_template, self.image_settings(), "vision 1"]
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()

    def image_settings(self) -> str:
        """Everything that says how pixels are made of a picture, as text; the backend of the image processor too."""
        processor = self.processor
        kinds = [type(processor).__name__, type(processor.image_processor).__name__]
        return json.dumps([*kinds, json.loads(processor.to_json_string())], sort_keys=True)

    def _with_images(self, plain: Encoded, prompt: str, example: Example) -> Encoded:
        try:
            outputs = self._process([prompt], [[load_image(image) for image in example.images]])
        except ValueError as error:  # such as a picture that is too long and narrow
            names = ", ".join(image.path for image in example.images)
            raise UserError(f"{example.source}: the processor cannot take {names}: {error}") from error
        ids, _ = self.text.begin_once(list(outputs["input_ids"][0]))
        last = max(place for place, token in enumerate(plain.prompt) if token == self._mark_id)
        num_behind = len(plain.prompt) - 1 - last
        return Encoded(
            prompt=tuple(ids),
            responses=plain.responses,
            num_head=len(ids) - num_behind,
            num_boundary_merges=plain.num_boundary_merges,
            images=example.images,
        )

    def _process(self, texts: list[str], images: list[list[Any]], **options: Any) -> Mapping[str, Any]:
        outputs = self.processor(text=texts, images=images, add_special_tokens=False, **options)
        return {name: value for name, value in outputs.items() if name in OF_TEXT or name in self._reads}

    def _check_marks(self, example: Example, prompt: str, responses: Sequence[str]) -> None:
        num = prompt.count(self._mark)
        if any(self._mark in response for response in responses):
            raise UserError(f"{example.source}: a response holds {self._mark!r}, in whose place the model sees images")
        if num > len(example.images):
            raise UserError(
                f"{example.source}: the prompt holds {self._mark!r}, in whose place the model sees images, {num} times "
                f"and shows {len(example.images)}; take it out of the text, or give the images (column images)"
            )
        if num < len(example.images):
            raise UserError(
                f"{example.source}: the chat template leaves {num} places for {len(example.images)} images; use one "
                "that writes a place for each (model.chat_template)"
            )

    def _check_responses(self, examples: Sequence[Example], encoded: Sequence[Encoded]) -> None:
        for example, one in zip(examples, encoded, strict=True):
            inside = {token for response in one.responses for token in response} & {*self.placeholders}
            if inside:
                name = self.processor.tokenizer.convert_ids_to_tokens(min(inside))
                raise UserError(f"{example.source}: a response holds {name!r}, in whose place the model sees something")

    def _examine(self) -> str | None:
        """Try the processor on one grey picture, beside a short and a longer text; the name for its token types.

        Raises:
            UserError: what it makes of a picture depends on the text, or it tells tokens apart in a way of its own.
        """
        from PIL import Image

        kind = type(self.processor).__name__
        grey = [[Image.new("RGB", (56, 56), (128, 128, 128))]]
        short, longer = (
            self._process([self._mark + text], grey, return_tensors="pt") for text in ("", " and a few more words")
        )
        images = short.keys() - {*OF_TEXT, *TOKEN_TYPES}
        moved = sorted(name for name in images if short[name].shape != longer[name].shape)
        if moved or not images:
            why = f"makes {moved[0]} of text and images together" if moved else "gives the model nothing of an image"
            raise UserError(f"model: {kind} {why}, which model=vision_language cannot batch")
        ids: Int[Tensor, " 1 t"] = short["input_ids"]
        for name in TOKEN_TYPES:
            if name in short and bool(short[name].any()):
                if short[name].tolist() != self.processor.create_mm_token_type_ids(ids.tolist()):
                    raise UserError(
                        f"model: {kind} has {name} of its own kind, which model=vision_language cannot make"
                    )
                return name
        return next((name for name in TOKEN_TYPES if name in short and name in self._reads), None)


def _mark_of(processor: Any) -> tuple[str, int]:
    """What stands in a text for one picture, and its id.

    Raises:
        UserError: the processor has none, or the tokenizer does not know it as one token.
    """
    mark = getattr(processor, "image_token", None)
    if not isinstance(mark, str):
        raise UserError(
            f"model: {type(processor).__name__} names no token for an image (image_token), so that its place among the "
            "texts is not known; model=vision_language cannot use it"
        )
    ids = processor.tokenizer(mark, add_special_tokens=False)["input_ids"]
    if len(ids) != 1:
        raise UserError(f"model: the tokenizer does not know {mark!r}, the mark of an image, as one token")
    return mark, ids[0]


@contextmanager
def _able_to_pad(tokenizer: Any) -> Iterator[None]:
    """Whatever the padding token, it is looked at by nobody; but some tokenizers have none, and refuse."""
    has_none = tokenizer.pad_token is None
    if has_none:
        tokenizer.pad_token = tokenizer.eos_token
    try:
        yield
    finally:
        if has_none:
            tokenizer.pad_token = None


def left_padded(rows: Sequence[Sequence[int]]) -> Int[Tensor, " n l"]:
    """Rows of ids, zeros in front of the beginning of the shorter ones."""
    width = max(len(row) for row in rows)
    return torch.tensor([[*[0] * (width - len(row)), *row] for row in rows])
