"""Another model, asked over HTTP which of two responses is the better one."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, final

from dpo_lab.chat.knobs import Knobs
from dpo_lab.chat.model import Answer, ChatModel, Server, asked_with
from dpo_lab.contest import Contest, Judged
from dpo_lab.errors import UserError
from dpo_lab.judge.judge import Judge
from dpo_lab.judge.question import ask, read_verdict
from dpo_lab.ranges import NonNegative, NonNegativeInt, Positive, PositiveInt

KNOBS = Knobs("config", "judge")
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
    server = Server(
        url=url,
        key_variable=key_variable,
        timeout_seconds=timeout_seconds,
        max_retries=max_retries,
        max_wait_seconds=max_wait_seconds,
        num_parallel=num_parallel,
    )
    asked = asked_with(model, temperature, max_tokens, extra or {}, KNOBS)
    return Endpoint(ChatModel(server, asked, cache_dir / "judge", knobs=KNOBS, who="judge"), criterion)


@final
class Endpoint(Judge):
    """The score of a contest is the mean over both orders: 1 or 0 where they agree, 1/2 where each takes one side."""

    def __init__(self, model: ChatModel, criterion: str):
        self._model, self._criterion = model, criterion

    @property
    def label(self) -> str:
        return f"endpoint-{self._model.asked['model']}"

    def check(self, say: Callable[[str], None]) -> None:
        if not self._criterion.strip():
            raise UserError("judge.criterion: is empty, and without it nothing says what better means")
        self._model.check(say)

    def compare(self, contests: Sequence[Contest], say: Callable[[str], None]) -> list[Judged]:
        """
        Raises:
            UserError: the server refuses, or does not answer; what it has answered is kept.
        """
        asked = [one for one in contests if one.first != one.second]
        sides = [side for one in asked for side in (one, _swapped(one))]
        answers = iter(self._model.answers([self._question(side) for side in sides], say))
        return [
            Judged(0.5, {"equal": True}) if one.first == one.second else _judged(next(answers), next(answers))
            for one in contests
        ]

    def describe(self) -> dict[str, Any]:
        return {
            "judge": "endpoint",
            "url": self._model.url,
            **self._model.asked,
            "criterion": self._criterion,
            "orders": "both",
        }

    def _question(self, contest: Contest) -> list[dict[str, str]]:
        return ask(contest.prompt, contest.first, contest.second, self._criterion)


def _judged(first: Answer, swapped: Answer) -> Judged:
    """Of both orders."""
    verdicts = [read_verdict(answer.content) for answer in (first, swapped)]
    for answer, verdict in zip((first, swapped), verdicts, strict=True):
        if verdict is None:
            return Judged(None, _problem(answer))
    score = (SCORES[str(verdicts[0])] + 1 - SCORES[str(verdicts[1])]) / 2
    return Judged(score, {"verdict": verdicts[0], "swapped_verdict": verdicts[1]})


def _swapped(contest: Contest) -> Contest:
    return contest._replace(first=contest.second, second=contest.first)


def _problem(answer: Answer) -> dict[str, Any]:
    """Why an answer has no verdict, in words that can be counted, and what it says."""
    content = (answer.content or answer.refusal)[:SHOWN]
    if answer.is_refused:
        problem = "refused"
    elif answer.is_cut:
        problem = "cut off at judge.max_tokens"
    else:
        problem = "no verdict that can be read" if content else "an empty answer"
    return {"problem": problem, "answer": content}
