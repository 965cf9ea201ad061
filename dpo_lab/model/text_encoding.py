"""From an `Example` to token ids: the boundary, the BOS and the EOS, each decided here and nowhere else."""

import hashlib
import json
from collections.abc import Sequence
from typing import Any

from dpo_lab.errors import UserError
from dpo_lab.types import Encoded, Example, Message, Text

ANCHOR = "\n"  # stands before a response that must be tokenised alone: tokenizers never merge across it


class TextEncoder:
    """Encodes prompts and responses with a transformers tokenizer.

    The prompt is tokenised once. A response is what its tokens add to the prompt's when both are tokenised
    together; where the tokenizer would merge across the boundary, the response is tokenised on its own, so that all
    responses of a prompt follow the same prompt ids. Decoded, prompt and response always give back the text.
    """

    def __init__(self, tokenizer: Any):
        """`tokenizer` is any fast transformers tokenizer.

        Raises:
            UserError: when it has no end-of-sequence token: responses could never end.
        """
        if tokenizer.eos_token_id is None:
            raise UserError(
                "the tokenizer has no end-of-sequence token, so responses could never end; "
                "set eos_token in its tokenizer_config.json"
            )
        self.tokenizer = tokenizer
        self.end_id: int = tokenizer.eos_token_id
        self.bos_id = self._find_bos()

    def _find_bos(self) -> int | None:
        """The id that starts every sequence, or None: a token that only ends (GPT-2) or is never added is none."""
        bos = self.tokenizer.bos_token_id
        if bos is None:
            return None
        added = self.tokenizer("a", add_special_tokens=True)["input_ids"]
        return bos if added[0] == bos or bos != self.end_id else None

    def encode(self, examples: Sequence[Example]) -> list[Encoded]:
        texts = [self._texts(example) for example in examples]
        prompts = self._tokenize([prompt for prompt, _ in texts])
        joined = self._tokenize([prompt + response for prompt, responses in texts for response in responses])
        encoded, position = [], 0
        for (_, responses), prompt_ids in zip(texts, prompts, strict=True):
            together = joined[position : position + len(responses)]
            position += len(responses)
            encoded.append(self._split(prompt_ids, responses, together))
        return encoded

    def _split(self, prompt: list[int], responses: list[str], together: list[list[int]]) -> Encoded:
        split, num_merges = [], 0
        for text, ids in zip(responses, together, strict=True):
            if ids[: len(prompt)] == prompt:
                response = ids[len(prompt) :]
            else:
                num_merges += 1
                response = self._tokenize_alone(text)
            split.append(tuple(self._end_once(response)))
        has_bos = self.bos_id is not None
        return Encoded(tuple(self._begin_once(prompt)), tuple(split), int(has_bos), num_merges)

    def _tokenize(self, texts: list[str]) -> list[list[int]]:
        return self.tokenizer(texts, add_special_tokens=False, verbose=False)["input_ids"] if texts else []

    def _tokenize_alone(self, text: str) -> list[int]:
        """Tokens of `text` as they are inside of a text: some tokenizers put a space before a text's first word."""
        anchor, anchored = self._tokenize([ANCHOR, ANCHOR + text])
        return anchored[len(anchor) :] if anchored[: len(anchor)] == anchor else self._tokenize([text])[0]

    def _begin_once(self, prompt: list[int]) -> list[int]:
        if self.bos_id is None:
            return prompt
        while prompt and prompt[0] == self.bos_id:  # a chat template may have written one, or two
            prompt = prompt[1:]
        return [self.bos_id, *prompt]

    def _end_once(self, response: list[int]) -> list[int]:
        while response and response[-1] == self.end_id:
            response = response[:-1]
        return [*response, self.end_id] if response else []

    def _texts(self, example: Example) -> tuple[str, list[str]]:
        if isinstance(example.prompt, str):
            return example.prompt, [self._plain(response, example) for response in example.responses]
        prompt = self._render(example.prompt, example, add_generation_prompt=True)
        return prompt, [self._chat_response(prompt, response, example) for response in example.responses]

    def _plain(self, response: Text, example: Example) -> str:
        if isinstance(response, str):
            return response
        raise UserError(f"{example.source}: the prompt is text but a response is a list of chat messages")

    def _chat_response(self, prompt: str, response: Text, example: Example) -> str:
        """What the template adds to the rendered prompt for this response, up to its last end-of-sequence token."""
        turns: list[Message] = (
            [{"role": "assistant", "content": response}] if isinstance(response, str) else list(response)
        )
        whole = self._render([*example.prompt, *turns], example, add_generation_prompt=False)  # type: ignore[list-item]
        if not whole.startswith(prompt):
            raise UserError(
                f"{example.source}: the chat template renders the prompt differently once a response follows it, so "
                "prompt and response cannot be told apart; use a template that only appends (model.chat_template)"
            )
        text, end = whole[len(prompt) :], self.tokenizer.eos_token
        # Templates such as ChatML write a line break after the end of turn; the model never has to say it.
        return text[: text.rindex(end) + len(end)] if end in text and not text[text.rindex(end) + len(end) :].strip() else text

    def _render(self, messages: Any, example: Example, *, add_generation_prompt: bool) -> str:
        if not self.tokenizer.chat_template:
            raise UserError(
                f"{example.source}: the row holds chat messages but the tokenizer has no chat template; give one "
                "with model.chat_template=FILE, or use plain-text prompts"
            )
        return self.tokenizer.apply_chat_template(
            messages, tokenize=False, add_generation_prompt=add_generation_prompt
        )

    def fingerprint(self) -> str:
        """Hash of all that the ids depend on: vocabulary, merges, normaliser, special tokens, template, this code."""
        state = {
            "tokenizer": json.loads(self.tokenizer.backend_tokenizer.to_str()),
            "special": {name: str(token) for name, token in self.tokenizer.special_tokens_map.items()},
            "template": self.tokenizer.chat_template,
            "bos": self.bos_id,
            "encoding": 1,  # raise whenever this file gives other ids for the same text
        }
        for transient in ("truncation", "padding"):  # calls switch these on and off; encode never uses them
            state["tokenizer"].pop(transient, None)
        return hashlib.sha256(json.dumps(state, sort_keys=True).encode()).hexdigest()
