from pathlib import Path

from dpo_lab.chat.answer_store import AnswerStore


def test_who_is_asked_is_what_is_answered() -> None:
    """Half a line of another process is passed over, and the answers behind it are found."""
    store = AnswerStore(Path("a/b.jsonl"))
    store.add("k1", {"content": "one"})
    with Path("a/b.jsonl").open("ab") as file:
        file.write(b'{"key": "k2", "answ')
    AnswerStore(Path("a/b.jsonl")).add("k3", {"content": "three"})
    found = AnswerStore(Path("a/b.jsonl"))
    assert [found.find(key) for key in ("k1", "k2", "k3")] == [{"content": "one"}, None, {"content": "three"}]
    found.add("k1", {"content": "other"})
    assert found.find("k1") == {"content": "one"}
