"""Another model, asked over HTTP which of two responses is the better one."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, final

from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.judge.answer_store import AnswerStore
from dpo_lab.judge.chat_client import ChatClient
from dpo_lab.judge.judge import Judge
from dpo_lab.judge.question import ask, read_verdict
from dpo_lab.ranges import NonNegative, NonNegativeInt, Positive, PositiveInt

OWN = frozenset({"messages", "model", "temperature", "max_tokens", "stream", "n"})
"""Keys of a request that are not for `extra` to say."""
SCORES = {"A": 1.0, "B": 0.0, "C": 0.5}
SHOWN = 300
"""Characters of an answer without a verdict that its row keeps."""


def endpoint(
    cache_dir: Path,
    *,
    url: str,
    model: str,
    key_variable: str | None = None,
    criterion: str = "more helpful, more accurate and better written",
    temperature: NonNegative | None = 0.0,
    max_tokens: PositiveInt | None = 512,
    extra: dict[str, Any] | None = None,
    timeout_seconds: Positive = 60.0,
    max_retries: NonNegativeInt = 5,
    max_wait_seconds: NonNegative = 30.0,
    num_parallel: PositiveInt = 4,
) -> "Endpoint":
    """Asks about every contest twice, with the sides changed, so that a liking for what stands first cancels out.

    Two equal responses are a tie, and nobody is asked. Every answer is kept under `cache_dir` by a hash of the whole
    question, the model and `url`: asking again costs nothing and gives the same.

    Args:
        cache_dir: where answers are kept; the framework gives it.
        url: of the server, up to and with the version; ``/chat/completions`` is asked.
        model: the model's name there.
        key_variable: name of the environment variable that holds the key; null where the server wants none. The key
            itself is written nowhere.
        criterion: what better means, in the words of the question.
        temperature: of the answers; 0 for the likeliest. Null says nothing of it.
        max_tokens: of an answer; one that is cut before its verdict has none. Null says nothing of it.
        extra: further keys of each request, by their names there. They are recorded, and are no place for a key.
        timeout_seconds: of one call.
        max_retries: of a call that failed with 429 or 5xx, in time, or without JSON; more bears longer trouble.
        max_wait_seconds: the longest pause between two tries; a server's Retry-After counts up to it.
        num_parallel: calls at a time.

    Raises:
        UserError: `extra` says what is said already.
    """
    if own := sorted(OWN & (extra or {}).keys()):
        raise UserError(f"judge.extra.{own[0]}: is said already, or would change what an answer is")
    client = ChatClient(url, key_variable, timeout=timeout_seconds, max_retries=max_retries, max_wait=max_wait_seconds)
    asked = {"model": model, "temperature": temperature, "max_tokens": max_tokens}
    asked = {name: value for name, value in asked.items() if value is not None} | (extra or {})
    return Endpoint(client, url.rstrip("/"), asked, criterion, cache_dir / "judge", num_parallel)


@final
class Endpoint(Judge):
    """The score of a contest is the mean over both orders: 1 or 0 where they agree, 1/2 where each takes one side."""

    def __init__(
        self,
        client: ChatClient,
        url: str,
        asked: dict[str, Any],
        criterion: str,
        folder: Path,
        num_parallel: int,
    ):
        self._client, self._url, self._asked, self._criterion = client, url, asked, criterion
        self._num_parallel = num_parallel
        identity = hashlib.sha256(f"{url}|{asked['model']}".encode()).hexdigest()[:16]
        self._store = AnswerStore(folder / f"{identity}.jsonl")

    @property
    def label(self) -> str:
        return f"endpoint-{self._asked['model']}"

    def check(self, say: Callable[[str], None]) -> None:
        self._client.check()
        if not self._criterion.strip():
            raise UserError("judge.criterion: is empty, and without it nothing says what better means")
        if self._client.is_there():
            return
        if not len(self._store):
            raise UserError(
                f"judge.url={self._url}: nobody answers there. Is the server running, is the port right, and does it "
                "need a proxy (https_proxy)?"
            )
        say(f"judge: nobody answers at {self._url}; going on with {len(self._store)} answers that were kept")

    def compare(self, contests: Sequence[Contest], say: Callable[[str], None]) -> list[Judged]:
        """
        Raises:
            UserError: the server refuses, or does not answer; what it has answered is kept.
        """
        asked = [one for one in contests if one.first != one.second]
        questions = [self._question(sides) for one in asked for sides in (one, _swapped(one))]
        distinct = {AnswerStore.key(question): question for question in questions}
        missing = {key: question for key, question in distinct.items() if self._store.find(key) is None}
        say(f"judge: {len(distinct)} questions, {len(missing)} of them for {self._asked['model']} at {self._url}")
        self._ask_all(missing, say)
        return [self._judged(one) for one in contests]

    def describe(self) -> dict[str, Any]:
        return {"judge": "endpoint", "url": self._url, **self._asked, "criterion": self._criterion, "orders": "both"}

    def _question(self, contest: Contest) -> dict[str, Any]:
        return {**self._asked, "messages": ask(contest.prompt, contest.first, contest.second, self._criterion)}

    def _ask_all(self, missing: dict[str, dict[str, Any]], say: Callable[[str], None]) -> None:
        """Ends at the first question that gets no answer, once those under way are done."""
        failed: list[UserError] = []

        def ask_one(key: str, question: dict[str, Any]) -> None:
            if failed:
                return
            try:
                self._store.add(key, self._answer(question))
            except UserError as error:
                failed.append(error)
                self._client.stop()

        with ThreadPoolExecutor(self._num_parallel) as pool:
            try:
                for future in [pool.submit(ask_one, key, question) for key, question in missing.items()]:
                    future.result()
            except BaseException:
                failed.append(UserError("interrupted"))  # no further question is asked
                self._client.stop()
                raise
        if failed:
            raise failed[0]

    def _answer(self, question: dict[str, Any]) -> dict[str, Any]:
        choice = self._client.complete(question)
        message = choice["message"]
        return {
            "content": self._client.hide(_text(message.get("content"))),
            "refusal": self._client.hide(_text(message.get("refusal"))),
            "finish_reason": _text(choice.get("finish_reason")),
        }

    def _judged(self, contest: Contest) -> Judged:
        if contest.first == contest.second:
            return Judged(0.5, {"equal": True})
        verdicts, problems = [], []
        for sides in (contest, _swapped(contest)):
            answer = self._store.find(AnswerStore.key(self._question(sides)))
            assert answer is not None
            verdicts.append(read_verdict(str(answer["content"])))
            problems.append(None if verdicts[-1] else _problem(answer))
        details = {"verdict": verdicts[0], "swapped_verdict": verdicts[1]}
        if problem := problems[0] or problems[1]:
            return Judged(None, {"problem": problem[0], "answer": problem[1]})
        return Judged((SCORES[str(verdicts[0])] + 1 - SCORES[str(verdicts[1])]) / 2, details)


def _swapped(contest: Contest) -> Contest:
    return contest._replace(first=contest.second, second=contest.first)


def _text(value: Any) -> str:
    """What a server gives as text; of parts, as some give a content, those that are text."""
    if isinstance(value, list):
        return "".join(_text(part.get("text")) for part in value if isinstance(part, dict))
    return value if isinstance(value, str) else ""


def _problem(answer: dict[str, Any]) -> tuple[str, str]:
    """Why an answer has no verdict, in words that can be counted, and what it says."""
    content = str(answer["content"] or answer["refusal"])[:SHOWN]
    if answer["refusal"] or answer["finish_reason"] == "content_filter":
        return "refused", content
    if answer["finish_reason"] == "length":
        return "cut off at judge.max_tokens", content
    return ("no verdict that can be read" if content else "an empty answer"), content
