"""From an `Example` to what an encoder reads and a decoder says; where both begin and end is decided here alone."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.model.rendering import Renderer
from dpo_lab.types import Encoded, Example


@final
class Seq2SeqEncoder:
    """Encodes prompts for the encoder and responses for the decoder, with a fast tokenizer of transformers.

    A prompt stands between the special tokens that the tokenizer itself puts around a text, once each (T5: EOS behind
    it; BART: BOS before, EOS behind). A response ends with one EOS. What the tokenizer puts *before* a text that the
    decoder is to say (BART's BOS, a language code) is no decision of the model: it is `decoder_head`, which follows
    the decoder's start token.
    """

    def __init__(self, tokenizer: Any):
        """
        Raises:
            UserError: the tokenizer has no end-of-sequence token: responses could never end.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token, so responses could never end; "
                "set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.head, self.tail = self._around(tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False))
        self.decoder_head, _ = self._around(
            tokenizer(text_target="a")["input_ids"], tokenizer(text_target="a", add_special_tokens=False)
        )
        self._renderer = Renderer(tokenizer, tokenizer.eos_token)

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        """Prompts as the encoder reads them; responses as the decoder says them, with their EOS."""
        texts = [self._renderer.texts(example) for example in examples]
        prompts = self._tokenize(text=[prompt for prompt, _ in texts])
        said = iter(self._tokenize(text_target=[response for _, responses in texts for response in responses]))
        return [
            Encoded(
                prompt=self._surrounded(prompt),
                responses=tuple(self._ended(next(said)) for _ in responses),
                num_head=len(self.head),
                num_tail=len(self.tail),
            )
            for (_, responses), prompt in zip(texts, prompts, strict=True)
        ]

    def _tokenize(self, **texts: list[str]) -> list[list[int]]:
        # Not verbose: it would warn of lengths, which the data room sees to.
        (given,) = texts.values()
        return self.tokenizer(**texts, add_special_tokens=False, verbose=False)["input_ids"] if given else []

    def _surrounded(self, prompt: list[int]) -> tuple[int, ...]:
        """`prompt` between what belongs around it, once, also where a template wrote that; nothing of nothing."""
        ids, head, tail = tuple(prompt), self.head, self.tail
        while head and ids[: len(head)] == head:
            ids = ids[len(head) :]
        while tail and ids[-len(tail) :] == tail:
            ids = ids[: -len(tail)]
        return (*head, *ids, *tail) if ids else ()

    def _ended(self, response: list[int]) -> tuple[int, ...]:
        while response and response[-1] == self.end_id:
            response = response[:-1]
        return (*response, self.end_id) if response else ()

    def _around(self, whole: list[int], bare: Any) -> tuple[tuple[int, ...], tuple[int, ...]]:
        """What stands before and behind the ids `bare` in `whole`."""
        inner = bare["input_ids"]
        for start in range(len(whole) - len(inner) + 1):
            if whole[start : start + len(inner)] == inner:
                return tuple(whole[:start]), tuple(whole[start + len(inner) :])
        raise UserError("the tokenizer writes special tokens inside of a text; it cannot be used for a seq2seq model")

    def fingerprint(self) -> str:
        """Hash of all that the ids depend on: vocabulary, merges, normaliser, special tokens, template, this code."""
        state = {
            "tokenizer": json.loads(self.tokenizer.backend_tokenizer.to_str()),
            "special": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template": self.tokenizer.chat_template,
            "around": [self.head, self.tail, self.decoder_head],
            "encoding": "seq2seq 1",  # raise whenever this file gives other ids for the same text
        }
        for transient in ("truncation", "padding"):  # calls switch these on and off; encode never uses them
            state["tokenizer"].pop(transient, None)
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
