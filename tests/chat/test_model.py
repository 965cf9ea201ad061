"""A model behind a server in this process; trouble on the way is in tests/judge/test_endpoint.py."""

import json
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.chat.knobs import Knobs
from dpo_lab.chat.model import Answer, ChatModel, asked_with
from dpo_lab.chat.model import Server as Address
from dpo_lab.errors import UserError
from tests.chat.server import Call, Reply, Server, says, serving

FLAGS = Knobs("flags", renamed={"max_tokens": "--max-new-tokens"})


def model_at(server: Server, knobs: Knobs = FLAGS, **server_knobs: Any) -> ChatModel:
    asked = asked_with("chat-1", 1.0, 9, {"top_p": 0.5}, knobs)
    address = Address(url=server.url, max_retries=0, **server_knobs)
    return ChatModel(address, asked, Path("cache"), knobs=knobs, who="test")


def ask(model: ChatModel, texts: list[str], **ways: Any) -> list[str]:
    questions = [[{"role": "user", "content": text}] for text in texts]
    return [answer.content for answer in model.answers(questions, lambda line: None, **ways)]


def echo(call: Call, number: int) -> Reply:
    """The first questions take longest."""
    return says(f"{call.body['messages'][0]['content']}{number}")._replace(seconds=0.02 * max(0, 4 - number))


def test_answers_stand_in_the_order_of_the_questions():
    """However many are asked at a time, and whoever answers first; the same question is asked once."""
    texts = [*"abcdef", "a"]
    with serving(echo) as server:
        answers = ask(model_at(server, num_parallel=6), texts)
        assert [answer[0] for answer in answers] == texts and answers[0] == answers[-1] and len(server.calls) == 6
        assert all(call.body["top_p"] == 0.5 and call.body["max_tokens"] == 9 for call in server.calls)


def test_another_draw_is_asked_anew_and_says_nothing_of_it():
    with serving(echo) as server:
        first, second, again = ask(model_at(server, num_parallel=1), ["q"] * 3, draws=[0, 1, 0])
        assert first == again != second and len(server.calls) == 2
        assert server.calls[0].body == server.calls[1].body
        assert ask(model_at(server), ["q"] * 2, draws=[1, 0]) == [second, first] and len(server.calls) == 2


def test_pieces_of_a_content_are_put_together_and_a_refusal_is_known():
    parts: Any = [{"type": "text", "text": "a"}, {"type": "image"}, {"type": "text", "text": "b"}]
    with serving(lambda call, number: says(parts) if number == 0 else says(None, refusal="no")) as server:
        assert ask(model_at(server, num_parallel=1), ["p", "q"]) == ["ab", ""]
    assert Answer("", "no", "stop").is_refused and Answer("x", "", "content_filter").is_refused
    assert not Answer("x", "", "length").is_refused and Answer("x", "", "length").is_cut


@pytest.mark.parametrize(
    ("knobs", "named"),
    [
        (FLAGS, ("--max-new-tokens", "--temperature")),
        (Knobs("config", "judge"), ("judge.max_tokens", "judge.temperature")),
    ],
)
def test_faults_are_told_in_the_words_of_who_asks(knobs: Knobs, named: tuple[str, ...]):
    with serving(lambda call, number: Reply({"error": "bad"}, 400)) as server, pytest.raises(UserError) as refusal:
        ask(model_at(server, knobs), ["p"])
    assert all(name in str(refusal.value) for name in named)


def test_a_redirect_is_not_followed(monkeypatch: pytest.MonkeyPatch):
    """The key and the texts go nowhere else."""
    monkeypatch.setenv("CHAT_ACCESS", "key-of-a-test-0123456789")
    with serving(echo) as other:
        moved = Reply(b"", 307, {"Location": f"{other.url}/chat/completions"})
        with serving(lambda call, number: moved) as server:
            asked = model_at(server, key_variable="CHAT_ACCESS")
            with pytest.raises(UserError, match="leads to another address"):
                ask(asked, ["p"])
        assert not other.calls
    kept = [file.read_text() for file in Path("cache").rglob("*") if file.is_file()]
    assert "key-of-a-test" not in json.dumps(kept)
