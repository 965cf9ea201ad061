"""A model that is asked over HTTP, against a real server in this process that answers as servers do, well and badly."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.chat import client
from dpo_lab.chat.answer_store import AnswerStore
from dpo_lab.contest import Contest
from dpo_lab.errors import UserError
from dpo_lab.judge.endpoint import Endpoint, endpoint
from dpo_lab.judge.question import ask, read_verdict
from tests.chat.server import Reply, Server, longer_is_better, says, serving

CONTESTS = [
    Contest("Say hello.", "Hello there, my friend", "Hi", ""),
    Contest([{"role": "user", "content": "And goodbye?"}], "Bye", "Goodbye to all of you", ""),
    Contest("Same?", "Yes", "Yes", ""),
]
ONE = CONTESTS[:1]
TOKEN = "key-of-a-test-0123456789"


@pytest.fixture(autouse=True)
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)


def judge_at(server: Server | str, **knobs: Any) -> Endpoint:
    url = server if isinstance(server, str) else server.url
    return endpoint(Path("cache"), url=url, model="judge-1", **{"num_parallel": 1, "timeout_seconds": 5.0, **knobs})


def silent(line: str) -> None:
    pass


def test_both_orders_are_asked_and_a_repeat_asks_nobody():
    """Two contests, two orders: four calls; two equal responses are a tie without any."""
    with serving(longer_is_better) as server:
        judge = judge_at(server)
        judge.check(silent)
        first = judge.compare(CONTESTS, silent)
        assert [one.score for one in first] == [1.0, 0.0, 0.5]
        assert len(server.calls) == 4 and {call.path for call in server.calls} == {"/v1/chat/completions"}
        assert server.calls[0].sides == server.calls[1].sides[::-1]
        assert "user: And goodbye?" in server.calls[2].body["messages"][1]["content"]
        assert judge_at(server).compare(CONTESTS, silent) == first and len(server.calls) == 4
        judge_at(server, criterion="shorter").compare(ONE, silent)
        assert len(server.calls) == 6, "another question is asked anew"
    lines: list[str] = []
    again = judge_at(server)
    again.check(lines.append)
    assert "nobody answers" in lines[0] and again.compare(CONTESTS, silent) == first


def test_a_liking_for_what_is_shown_first_cancels_out():
    with serving(lambda call, number: says("[[A]]")) as server:
        judged = judge_at(server).compare(CONTESTS, silent)
    assert [one.score for one in judged] == [0.5, 0.5, 0.5]
    assert judged[0].details == {"verdict": "A", "swapped_verdict": "A"}


def test_one_order_that_sees_a_tie_is_half_a_win():
    """A, and then neither: (1 + 1/2) / 2."""
    with serving(lambda call, number: says("[[A]]" if number == 0 else "[[C]]")) as server:
        assert judge_at(server).compare(ONE, silent)[0].score == 0.75


def test_with_the_sides_changed_the_same_is_asked():
    with serving(longer_is_better) as server:
        judge = judge_at(server)
        judged = judge.compare(CONTESTS, silent)
        swapped = judge.compare([one._replace(first=one.second, second=one.first) for one in CONTESTS], silent)
        assert [one.score for one in swapped] == [1 - (one.score or 0.0) for one in judged]
        assert len(server.calls) == 4


@pytest.mark.parametrize(
    ("trouble", "num"),
    [
        (Reply({"error": "slow down"}, 429, {"Retry-After": "0"}), 2),
        (Reply({"error": "slow down"}, 429, {"Retry-After": "Wed, 21 Oct 2015 07:28:00 GMT"}), 2),
        (Reply(b"<html>bad gateway</html>", 502), 3),
        (Reply({"error": "boom"}, 500, {"Retry-After": "soon"}), 1),
        (Reply(b"not { json"), 2),
        (Reply({"choices": []}), 2),
        (Reply([1, 2]), 1),
        (says("[[A]]")._replace(seconds=0.6), 1),
    ],
    ids=["429", "429 until a date", "502", "500", "no JSON", "no choice", "a list", "slow"],
)
def test_passing_trouble_is_tried_again(trouble: Reply, num: int):
    with serving(lambda call, number: trouble if number < num else longer_is_better(call, number)) as server:
        judge = judge_at(server, timeout_seconds=0.3, max_retries=3)
        assert judge.compare(ONE, silent)[0].score == 1.0
        assert len(server.calls) == num + 2


def test_retry_after_is_waited_for_up_to_a_bound(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []
    with serving(lambda call, number: Reply({}, 429, {"Retry-After": "7" if number else "3600"})) as server:
        judge = judge_at(server, max_retries=3, max_wait_seconds=20.0)
        monkeypatch.setattr(judge._model.client._stopped, "wait", waits.append)
        with pytest.raises(UserError, match=r"gave no answer in 4 tries; the last: HTTP 429"):
            judge.compare(ONE, silent)
        assert waits == [20.0, 7.0, 7.0] and len(server.calls) == 4


def test_what_was_answered_before_trouble_is_kept():
    """Three answers, then nothing but errors; later two calls are left of five."""
    with serving(lambda call, number: longer_is_better(call, number) if number < 3 else Reply({}, 503)) as server:
        with pytest.raises(UserError, match="the same command asks the rest"):
            judge_at(server, max_retries=0).compare(CONTESTS, silent)
        file = next(Path("cache/judge").iterdir())
        file.write_bytes(file.read_bytes()[:-30])  # as a process that was killed leaves it
    with serving(longer_is_better) as other:
        moved = judge_at(other)
        moved._model.store = AnswerStore(file)
        assert [one.score for one in moved.compare(CONTESTS, silent)] == [1.0, 0.0, 0.5]
        assert len(other.calls) == 2
    assert len(AnswerStore(file)) == 4


@pytest.mark.parametrize(
    ("reply", "problem"),
    [
        (says("I cannot help with that."), "no verdict that can be read"),
        (says("[[A]] or maybe [[B]]"), "no verdict that can be read"),
        (says(None, refusal="I must not."), "refused"),
        (says("", finish_reason="content_filter"), "refused"),
        (says("Let me think about", finish_reason="length"), "cut off at judge.max_tokens"),
        (says(None), "an empty answer"),
    ],
)
def test_an_answer_without_a_verdict_is_told_and_not_asked_again(reply: Reply, problem: str):
    with serving(lambda call, number: reply if number == 1 else says("[[A]]")) as server:
        (judged,) = judge_at(server).compare(ONE, silent)
        assert judged.score is None and judged.details["problem"] == problem
        assert judge_at(server).compare(ONE, silent) == [judged] and len(server.calls) == 2


@pytest.mark.parametrize(
    ("reply", "said"),
    [
        (Reply({"error": f"no such key {TOKEN}"}, 401), "HTTP 401: .*it wants another key"),
        (Reply({"error": "no model"}, 404), "judge.model is its name"),
        (Reply({"error": "bad"}, 400), "it takes no such request"),
        (Reply(b"", 307, {"Location": "http://127.0.0.1:9/v1"}), "leads to another address"),
    ],
)
def test_what_the_server_refuses_is_not_tried_again(reply: Reply, said: str, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("JUDGE_ACCESS", TOKEN)
    with serving(lambda call, number: reply) as server:
        with pytest.raises(UserError, match=said) as refusal:
            judge_at(server, key_variable="JUDGE_ACCESS").compare(ONE, silent)
        assert len(server.calls) == 1 and TOKEN not in str(refusal.value)


def test_the_key_is_sent_and_in_no_file(monkeypatch: pytest.MonkeyPatch):
    """Under a name that says nothing of a secret, echoed by the server."""
    monkeypatch.setenv("JUDGE_ACCESS", TOKEN)
    with serving(lambda call, number: says(f"your key is {TOKEN}. [[A]]")) as server:
        judge = judge_at(server, key_variable="JUDGE_ACCESS")
        judged = judge.compare(ONE, silent)
        assert server.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"
    kept = [file.read_text() for file in Path("cache").rglob("*") if file.is_file()]
    assert len(kept) == 1 and "your key is <redacted>" in kept[0]
    assert not any(TOKEN in text for text in (*kept, json.dumps(judge.describe()), repr(judged), judge.label))


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"url": "file:///etc/passwd"}, "must be http://HOST/v1"),
        ({"url": "localhost:8000"}, "must be http://HOST/v1"),
        ({"url": "https://me:hunter2hunter2@host/v1"}, "holds a login or a query"),
        ({"key_variable": "NO_SUCH_VARIABLE"}, "there is no such environment variable"),
        ({"criterion": " "}, "judge.criterion: is empty"),
        ({"extra": {"n": 2}}, "judge.extra: n is said already"),
        ({}, "nobody answers there"),
    ],
)
def test_what_can_be_known_before_is_told_before(knobs: dict[str, Any], said: str):
    with serving(longer_is_better) as server:
        closed = server.url
    with pytest.raises(UserError, match=said) as refusal:
        endpoint(Path("cache"), **{"url": closed, "model": "judge-1", **knobs}).check(silent)  # type: ignore[arg-type]
    assert "hunter2hunter2" not in str(refusal.value)


def test_calls_side_by_side_give_what_calls_in_turn_give():
    many = [Contest(f"prompt {number}", "x" * (number % 5), "x" * (number % 3), "") for number in range(20)]
    with serving(longer_is_better) as server:
        in_turn = judge_at(server).compare(many, silent)
        side_by_side = endpoint(Path("elsewhere"), url=server.url, model="judge-1", num_parallel=8)
        assert side_by_side.compare(many, silent) == in_turn


def test_a_model_that_takes_other_names():
    with serving(longer_is_better) as server:
        judge = judge_at(server, temperature=None, max_tokens=None, extra={"max_completion_tokens": 2000})
        judge.compare(ONE, silent)
        assert server.calls[0].body.keys() == {"model", "max_completion_tokens", "messages"}
    assert judge.describe()["max_completion_tokens"] == 2000


def test_a_response_that_looks_like_the_question_is_shown_as_it_is():
    shown = ask("{first}", "{second} [[B]]", "b", "better")[1]["content"]
    assert "<prompt>\n{first}\n</prompt>" in shown and "{second} [[B]]" in shown


@pytest.mark.parametrize(
    ("answer", "verdict"),
    [
        ("[[A]]", "A"),
        ("Both are fine, so [[C]].\nFinal: [[C]]", "C"),
        ("**B**", "B"),
        ("Answer: c", "C"),
        ("A or B?", None),
        ("Apples", None),
        ("[[D]]", None),
        ("", None),
    ],
)
def test_verdicts_are_read(answer: str, verdict: str | None):
    assert read_verdict(answer) == verdict
