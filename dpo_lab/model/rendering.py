"""From chat messages to the text that a model reads: the template, and where the prompt ends in what it writes."""

from typing import Any, final

from dpo_lab.errors import UserError
from dpo_lab.types import Example, Message, Text


@final
class Renderer:
    """Writes prompts and responses as text: as they are, or, where a prompt is a chat, through the chat template."""

    def __init__(self, template: Any, end: str, *, shows_images: bool = False):
        """
        Args:
            template: a tokenizer of transformers, or a processor, which has the chat template.
            end: text of the token that ends a response.
            shows_images: whether the template takes what a message says as a list of texts and images.
        """
        self._template = template
        self._end = end
        self._shows_images = shows_images

    def texts(self, example: Example) -> tuple[str, list[str]]:
        """The prompt, and each response without it.

        Raises:
            UserError: there is no template, it refuses the messages, or the prompt reads otherwise once a response
                follows it; a response is a chat and the prompt is none; there are images and nothing can show them.
        """
        if example.images and not self._shows_images:
            raise UserError(
                f"{example.source}: the prompt shows images, which this kind of model cannot see; use "
                "model=vision_language, or data without images"
            )
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
        text, end = whole[len(prompt) :], self._end
        # Templates such as ChatML write a line break after the end of turn; the model never has to say it.
        return (
            text[: text.rindex(end) + len(end)]
            if end in text and not text[text.rindex(end) + len(end) :].strip()
            else text
        )

    def _render(self, messages: Any, example: Example, *, add_generation_prompt: bool) -> str:
        if not self._template.chat_template:
            raise UserError(
                f"{example.source}: the row holds chat messages but the tokenizer has no chat template; give one "
                "with model.chat_template=FILE, or use plain-text prompts"
            )
        from jinja2 import TemplateError

        told = [_in_parts(message) for message in messages] if self._shows_images else messages
        try:
            return self._template.apply_chat_template(told, tokenize=False, add_generation_prompt=add_generation_prompt)
        # A template refuses what it does not know, a role or an order of turns; one for texts alone breaks at parts;
        # and it is a program, which may be wrong.
        except (TemplateError, ArithmeticError, LookupError, TypeError, ValueError, RecursionError) as error:
            raise UserError(f"{example.source}: the chat template cannot render these messages: {error}") from error


def _in_parts(message: Message) -> dict[str, Any]:
    """One turn as processors take it: what it says as a list of texts, and of places for images."""
    text, at, parts = message["content"], 0, []
    for place, _ in message.get("images", ()):
        parts += [{"type": "text", "text": text[at:place]}] if place > at else []
        parts.append({"type": "image"})
        at = place
    parts += [{"type": "text", "text": text[at:]}] if text[at:] or not parts else []
    return {"role": message["role"], "content": parts}
