"""What differs between a run and its continuation is found, named, and refused unless it is allowed."""

from typing import Any

import pytest

from dpo_lab.errors import UserError
from dpo_lab.resume import Change
from dpo_lab.run.compare import changes, may_move_bits, refuse_changes

CONFIG: dict[str, Any] = {
    "loss": {"beta": 0.1},
    "data": {"path": "a.jsonl"},
    "logger": {"api_key": "<redacted>"},
    "trainer": {"num_threads": 1, "max_steps": 7},
    "optimizer": {"secret": "<redacted>"},
    "resume": {"run": None, "allow_change": []},
}
HASHES = {"data": "d" * 64, "tokenizer": "t" * 64, "initial_weights": "w" * 64, "reference": "r" * 64}
MADE: dict[str, Any] = {"python": "3.11.7", "packages": {"torch": "2.11"}, "code": {"hash": "c" * 64}}


def found(config: dict[str, Any] = CONFIG, hashes: dict[str, str] = HASHES, made: dict[str, Any] = MADE):
    return changes(CONFIG, {"hashes": HASHES, **MADE}, config, hashes, made)


def test_nothing_differs_from_itself():
    assert found() == {}


def test_what_is_no_part_of_the_identity_is_no_change():
    """Logger, threads, what is asked of a resume; a path, whose content is hashed; a secret that was struck out."""
    now = {
        **CONFIG,
        "logger": {"mode": "offline"},
        "trainer": {"num_threads": 4, "max_steps": 7},
        "resume": {"run": "abc", "allow_change": ["code"]},
        "data": {"path": "moved/a.jsonl"},
        "optimizer": {"secret": "a secret of today"},
    }
    assert found(now) == {}
    assert may_move_bits(CONFIG, now) == ["trainer.num_threads: 1 then, 4 now"]


def test_knobs_are_named_with_both_values():
    now = {**CONFIG, "loss": {"beta": 0.2, "gamma": 1}, "trainer": {"num_threads": 1}}
    assert found(now) == {
        "config": [
            "loss.beta: 0.1 then, 0.2 now",
            "loss.gamma: absent then, 1 now",
            "trainer.max_steps: 7 then, absent now",
        ]
    }


@pytest.mark.parametrize(
    ("content", "change"),
    [("data", "data"), ("tokenizer", "tokenizer"), ("initial_weights", "model"), ("reference", "reference")],
)
def test_each_content_has_its_name(content: str, change: Change):
    (line,) = found(hashes={**HASHES, content: "0" * 64})[change]
    assert line == f"{content.replace('_', ' ')}: {HASHES[content][:12]} then, 000000000000 now"
    gone = {name: value for name, value in HASHES.items() if name != content}
    assert found(hashes=gone)[change][0].endswith("then, none now")


def test_code_and_versions_are_apart():
    made = {"python": "3.12.1", "packages": {"torch": "2.12"}, "code": {"hash": "0" * 64}}
    assert set(found(made=made)) == {"code", "versions"}
    assert found(made=made)["versions"] == ["python: 3.11.7 then, 3.12.1 now", "torch: 2.11 then, 2.12 now"]


def test_only_what_is_allowed_passes():
    differing = found({**CONFIG, "loss": {"beta": 0.2}}, {**HASHES, "data": "0" * 64})
    refuse_changes(differing, ["data", "config", "code"], "RUN")
    with pytest.raises(UserError, match=r"(?s)RUN has a checkpoint.*config: loss.beta: 0.1 then") as refused:
        refuse_changes(differing, ["data"], "RUN")
    assert "resume.allow_change=[data,config]" in str(refused.value)
    assert "ddd" not in str(refused.value)
