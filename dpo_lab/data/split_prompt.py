"""Where the prompt of a row ends and its responses begin."""

from dpo_lab.data.errors import RowError
from dpo_lab.data.messages import split_conversation
from dpo_lab.data.transcript import split_transcripts
from dpo_lab.types import Message, Text


def split_prompt(prompt: Text | None, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """The prompt, and each response without it.

    Args:
        prompt: None where it is the shared beginning of whole conversations or transcripts.
        columns: the column of each response, for messages.

    Raises:
        RowError: `prompts_differ`, `no_prompt`, `ends_on_human_turn`, `mixed_types`.
    """
    if prompt is not None:
        if isinstance(prompt, str) and all(isinstance(response, str) for response in responses):
            return prompt, responses
        return _split_chat(prompt, responses, columns)
    texts = [response for response in responses if isinstance(response, str)]
    if len(texts) == len(responses):
        text_prompt, answers = split_transcripts(texts, columns)
        return text_prompt, list(answers)
    if texts:
        raise RowError("mixed_types", None, "one response is text, another is messages")
    sides = [split_conversation(r, c) for r, c in zip(responses, columns, strict=True) if not isinstance(r, str)]
    if any(side[0] != sides[0][0] for side in sides):
        raise RowError("prompts_differ", None, "the conversations differ before the assistant's last turn")
    return sides[0][0], [side[1] for side in sides]


def _split_chat(prompt: Text, responses: list[Text], columns: list[str]) -> tuple[Text, list[Text]]:
    """A prompt and responses of which some are messages; a response may repeat the prompt before it answers."""
    messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
    prompts, answers = [], []
    for response, column in zip(responses, columns, strict=True):
        if isinstance(response, str):
            response = [Message(role="assistant", content=response)]
        context, answer = split_conversation(response, column)
        last_user = [message["content"] for message in context if message["role"] == "user"][-1:]
        # A prompt given as text does not tell the system message that a conversation may start with.
        if context and context != messages and not (isinstance(prompt, str) and last_user == [prompt]):
            raise RowError("prompts_differ", column, "the conversation does not start with the prompt")
        prompts.append(context or messages)
        answers.append(answer)
    if any(other != prompts[0] for other in prompts):
        raise RowError("prompts_differ", None, "chosen and rejected start with different messages")
    return prompts[0], answers
