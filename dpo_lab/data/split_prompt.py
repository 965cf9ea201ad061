"""Where the prompt of a row ends and its responses begin."""

from dpo_lab.data.errors import RowError
from dpo_lab.data.excerpt import around_difference, excerpt
from dpo_lab.data.messages import split_conversation
from dpo_lab.data.transcript import split_transcripts
from dpo_lab.types import Message, Text


def split_prompt(prompt: Text | None, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """The prompt, and each response without it.

    Args:
        prompt: None where it is the shared beginning of whole conversations or transcripts.
        columns: the column of each response, for messages.

    Raises:
        RowError: `prompts_differ`, `no_prompt`, `ends_on_human_turn`, `mixed_types`, `empty_response`.
    """
    if [] in responses:
        raise RowError("empty_response", columns[responses.index([])], "a list without any message")
    texts = [response for response in responses if isinstance(response, str)]
    if texts and len(texts) < len(responses):
        kinds = ", ".join(
            f"{column} is {'text' if isinstance(response, str) else 'messages'}"
            for column, response in zip(columns, responses, strict=True)
        )
        raise RowError("mixed_types", None, f"one response is text, another is messages ({kinds})")
    if prompt is not None:
        if isinstance(prompt, str) and len(texts) == len(responses):
            return prompt, responses
        return _split_chat(prompt, responses, columns)
    if len(texts) == len(responses):
        text_prompt, answers = split_transcripts(texts, columns)
        return text_prompt, list(answers)
    sides = [split_conversation(r, c) for r, c in zip(responses, columns, strict=True) if not isinstance(r, str)]
    if any(side[0] != sides[0][0] for side in sides):
        differing = next(side[0] for side in sides if side[0] != sides[0][0])
        raise RowError(
            "prompts_differ",
            None,
            "the conversations differ before the assistant's last turn",
            around_difference(_as_text(sides[0][0]), _as_text(differing)),
        )
    return sides[0][0], [side[1] for side in sides]


def _split_chat(prompt: Text, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """A prompt and responses of which some are messages; a response may repeat the prompt before it answers."""
    messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    prompts: list[list[Message]] = []
    answers: list[Text] = []
    for response, column in zip(responses, columns, strict=True):
        if isinstance(response, str):
            response = [Message(role="assistant", content=response)]
        context, answer = split_conversation(response, column)
        last_user = [message["content"] for message in context if message["role"] == "user"][-1:]
        # A prompt given as text does not tell the system message that a conversation may start with.
        if context and context != messages and not (isinstance(prompt, str) and last_user == [prompt]):
            found = f"it starts with {excerpt(context[0]['content'])}"
            raise RowError("prompts_differ", column, "the conversation does not start with the prompt", found)
        prompts.append(context or messages)
        answers.append(answer)
    if any(other != prompts[0] for other in prompts):
        raise RowError("prompts_differ", None, "chosen and rejected start with different messages")
    return (prompts[0] if prompts else messages), answers


def _as_text(messages: list[Message]) -> str:
    return "\n".join(f"{message['role']}: {message['content']}" for message in messages)
