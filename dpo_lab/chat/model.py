"""A model behind a server of chat completions: what it is asked with, and what it has answered."""

import hashlib
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple, final

from dpo_lab.chat.answer_store import AnswerStore
from dpo_lab.chat.client import ChatClient
from dpo_lab.chat.knobs import Knobs
from dpo_lab.errors import UserError

OWN = frozenset({"messages", "model", "temperature", "max_tokens", "stream", "n"})
"""Keys of a request that are not for `extra` to say."""
SAY_EVERY = 100
"""Answers between two lines that tell how far it is."""


class Answer(NamedTuple):
    """What a model has said: `content`, or a `refusal`; `finish_reason` in the words of the server."""

    content: str
    refusal: str
    finish_reason: str

    @property
    def is_refused(self) -> bool:
        """By the server's own field; a refusal in the words of an answer is an answer."""
        return bool(self.refusal) or self.finish_reason == "content_filter"

    @property
    def is_cut(self) -> bool:
        return self.finish_reason == "length"


@final
@dataclass(frozen=True, kw_only=True)
class Server:
    """Where a model is, and how patiently it is asked.

    Attributes:
        url: up to and with the version; ``/chat/completions`` is asked.
        key_variable: name of the environment variable that holds the key; None where the server wants none.
        timeout_seconds: of one call.
        max_retries: of a call that failed with 429 or 5xx, in time, or without JSON.
        max_wait_seconds: the longest pause between two tries; a server's Retry-After counts up to it.
        num_parallel: calls at a time.
    """

    url: str
    key_variable: str | None = None
    timeout_seconds: float = 60.0
    max_retries: int = 5
    max_wait_seconds: float = 30.0
    num_parallel: int = 4


def asked_with(
    model: str, temperature: float | None, max_tokens: int | None, extra: Mapping[str, Any], knobs: Knobs
) -> dict[str, Any]:
    """What every request says beside its messages. None says nothing of it.

    Raises:
        UserError: `extra` says what is said already.
    """
    if own := sorted(OWN & extra.keys()):
        raise UserError(f"{knobs.name('extra')}: {own[0]} is said already, or would change what an answer is")
    asked = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
    return {name: value for name, value in asked.items() if value is not None} | dict(extra)


@final
class ChatModel:
    """Every answer is kept in `folder` by a hash of the whole question, in a file for each address and model.

    Asking again costs nothing and gives the same.

    Args:
        asked: what every request says beside its messages; ``model`` is among it.
        who: begins each line that is said.
    """

    def __init__(self, server: Server, asked: dict[str, Any], folder: Path, *, knobs: Knobs, who: str):
        self.url, self.asked = server.url.rstrip("/"), asked
        self.client = ChatClient(
            server.url,
            server.key_variable,
            timeout=server.timeout_seconds,
            max_retries=server.max_retries,
            max_wait=server.max_wait_seconds,
            knobs=knobs,
        )
        self._num_parallel, self._knobs, self._who = server.num_parallel, knobs, who
        identity = hashlib.sha256(f"{self.url}|{asked['model']}".encode()).hexdigest()[:16]
        self.store = AnswerStore(folder / f"{identity}.jsonl")

    def check(self, say: Callable[[str], None]) -> None:
        """
        Raises:
            UserError: the address is none, or holds a password; there is no key where one is named; nobody listens,
                and no answer was kept.
        """
        self.client.check()
        if self.client.is_there():
            return
        if not len(self.store):
            raise UserError(
                f"{self._knobs.name('url')}={self.url}: nobody answers there. Is the server running, is the port "
                "right, and does it need a proxy (https_proxy)?"
            )
        say(f"{self._who}: nobody answers at {self.url}; going on with {len(self.store)} answers that were kept")

    def answers(
        self, questions: Sequence[Sequence[dict[str, str]]], say: Callable[[str], None], *, draws: Sequence[Any] = ()
    ) -> list[Answer]:
        """One answer to each of `questions` (messages), in order, however many are asked at a time.

        Args:
            draws: one for each question: the same question under another draw is asked anew.

        Raises:
            UserError: the server refuses, or does not answer; what it has answered is kept.
        """
        requests = [{**self.asked, "messages": list(messages)} for messages in questions]
        drawn = [{"draw": draw} for draw in draws] if draws else [{}] * len(requests)
        keys = [AnswerStore.key({**one, **draw}) for one, draw in zip(requests, drawn, strict=True)]
        distinct = dict(zip(keys, requests, strict=True))
        missing = {key: request for key, request in distinct.items() if self.store.find(key) is None}
        say(f"{self._who}: {len(distinct)} questions, {len(missing)} of them for {self.asked['model']} at {self.url}")
        self._ask_all(missing, say)
        return [Answer(**(self.store.find(key) or {})) for key in keys]

    def _ask_all(self, missing: dict[str, dict[str, Any]], say: Callable[[str], None]) -> None:
        """Ends at the first question that gets no answer, once those under way are done."""
        failed: list[UserError] = []

        def ask_one(key: str, request: dict[str, Any]) -> None:
            if failed:
                return
            try:
                self.store.add(key, self._answer(request)._asdict())
            except UserError as error:
                failed.append(error)
                self.client.stop()

        with ThreadPoolExecutor(self._num_parallel) as pool:
            try:
                futures = [pool.submit(ask_one, key, request) for key, request in missing.items()]
                for number, future in enumerate(futures, 1):
                    future.result()
                    if number % SAY_EVERY == 0 and not failed:
                        say(f"{self._who}: {number} of {len(missing)} answered")
            except BaseException:
                failed.append(UserError("interrupted"))  # no further question is asked
                self.client.stop()
                raise
        if failed:
            raise failed[0]

    def _answer(self, request: dict[str, Any]) -> Answer:
        choice = self.client.complete(request)
        message = choice["message"]
        return Answer(
            self.client.hide(_text(message.get("content"))),
            self.client.hide(_text(message.get("refusal"))),
            _text(choice.get("finish_reason")),
        )


def _text(value: Any) -> str:
    """What a server gives as text; of parts, as some give a content, those that are text."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""
