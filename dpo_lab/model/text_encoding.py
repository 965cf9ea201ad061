"""From an `Example` to token ids: the boundary, the BOS and the EOS, each decided here and nowhere else."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.model.rendering import Renderer
from dpo_lab.types import Encoded, Example

# What may stand before a response that is tokenised on its own. Which of them stay apart from it depends on the
# tokenizer and on the response's first character.
ANCHORS = ("\n", "a", ".", "0")


class TextEncoder:
    """Encodes prompts and responses with a transformers tokenizer.

    The prompt is tokenised once. A response is what its tokens add to the prompt's when both are tokenised
    together; where the tokenizer would merge across the boundary, the response is tokenised on its own, so that all
    responses of a prompt follow the same prompt ids. Decoded, prompt and response give back what the tokens of both
    together decode to.

    A prompt begins with BOS where the tokenizer itself begins texts with it, or where the chat template wrote it:
    once in either case. A tokenizer that never adds its BOS (GPT-2, Qwen, Yi) gets none.
    """

    def __init__(self, tokenizer: Any, renderer: Renderer | None = None):
        """`tokenizer` is any fast transformers tokenizer; `renderer` writes what it reads, else by its own template.

        Raises:
            UserError: when it has no end-of-sequence token: responses could never end.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token, so responses could never end; "
                "set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.renderer = renderer or Renderer(tokenizer, tokenizer.eos_token)
        self.end_id: int = tokenizer.eos_token_id
        self.bos_id: int | None = tokenizer.bos_token_id
        self.adds_bos = self.bos_id is not None and tokenizer("a")["input_ids"][:1] == [self.bos_id]

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        return self.encode_texts([self.renderer.texts(example) for example in examples])

    def encode_texts(self, texts: Sequence[tuple[str, list[str]]]) -> list[Encoded]:
        """What `encode` gives, of prompts and their responses as they are written."""
        prompts = self._tokenize([prompt for prompt, _ in texts])
        joined = self._tokenize([prompt + response for prompt, responses in texts for response in responses])
        encoded, position = [], 0
        for (_, responses), prompt_ids in zip(texts, prompts, strict=True):
            together = joined[position : position + len(responses)]
            position += len(responses)
            encoded.append(self._split(prompt_ids, responses, together))
        return encoded

    def _split(self, prompt: list[int], responses: list[str], together: list[list[int]]) -> Encoded:
        """The prompt once and each response without it; `together` holds the ids of prompt and response."""
        split, num_merges = [], 0
        for text, ids in zip(responses, together, strict=True):
            if ids[: len(prompt)] == prompt:
                response = ids[len(prompt) :]
            else:
                num_merges += 1
                response = self._tokenize_alone(text, prompt, ids)
            split.append(tuple(self._end_once(response)))
        begun, num_head = self.begin_once(prompt)
        return Encoded(tuple(begun), tuple(split), num_head, num_merges)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        # Not verbose: it would warn of lengths, which the data room sees to.
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _tokenize_alone(self, text: str, prompt: list[int], together: list[int]) -> list[int]:
        """Tokens of `text` as they are inside of a text: some tokenizers put a space before a text's first word.

        Of several ways the first that decodes, behind `prompt`, to what `together` decodes to. There may be none
        where characters of prompt and response become one (a letter and its accent).
        """
        wanted = self._decode(together)
        anchors = self._tokenize(list(ANCHORS))
        *anchored, bare = self._tokenize([*(anchor + text for anchor in ANCHORS), text])
        ways = [
            ids[len(anchor) :] for anchor, ids in zip(anchors, anchored, strict=True) if ids[: len(anchor)] == anchor
        ]
        ways.append(bare)
        return next((ids for ids in ways if self._decode(prompt + ids) == wanted), ways[0])

    def _decode(self, ids: list[int]) -> str:
        return self.tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)

    def begin_once(self, prompt: list[int]) -> tuple[list[int], int]:
        """`prompt` with the one BOS that it should begin with, and the number of BOS: 0 or 1."""
        bos, rest = self.bos_id, prompt
        if bos is None:
            return prompt, 0
        while rest[:1] == [bos]:  # a chat template may have written one, or two
            rest = rest[1:]
        return ([bos, *rest], 1) if self.adds_bos or len(rest) < len(prompt) else (prompt, 0)

    def _end_once(self, response: list[int]) -> list[int]:
        while response and response[-1] == self.end_id:
            response = response[:-1]
        return [*response, self.end_id] if response else []

    def fingerprint(self) -> str:
        """Hash of all that the ids depend on: vocabulary, merges, normaliser, special tokens, template, this code."""
        state = {
            "tokenizer": json.loads(self.tokenizer.backend_tokenizer.to_str()),
            "special": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template": self.tokenizer.chat_template,
            "bos": [self.bos_id, self.adds_bos],
            "encoding": 2,  # raise whenever this file gives other ids for the same text
        }
        for transient in ("truncation", "padding"):  # calls switch these on and off; encode never uses them
            state["tokenizer"].pop(transient, None)
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
