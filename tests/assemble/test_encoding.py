"""What is known of data and tokens without a run."""

from pathlib import Path
from typing import Any

import pytest

from dpo_lab.assemble.encoding import build_encoding, build_source, build_view, encoding_of, special_tokens_of
from dpo_lab.assemble.instantiate import instantiate
from dpo_lab.assemble.tokens import corpus
from dpo_lab.commands.compose import compose
from dpo_lab.errors import UserError
from tests.small import SMALL, small_policy


def config(*overrides: str) -> dict[str, Any]:
    return compose([*SMALL, *overrides])


def test_tokens_are_those_of_the_policy_that_a_run_builds():
    """The tiny model: the same fingerprint and ids as the policy, which is built beside it."""
    composed = config()
    source = build_source(composed)
    encoding = build_encoding(composed, corpus(source))
    policy = instantiate(composed["model"], ("dpo_lab",), corpus=corpus(source), seed=0, adapter_seed=0)
    assert encoding.fingerprint == policy.encoding_fingerprint() == encoding_of(policy).fingerprint
    assert encoding.encode(source.train[:5]) == policy.encode(source.train[:5])
    assert encoding.end_id == policy.end_id
    assert encoding.special_tokens == special_tokens_of(policy) == ("</s>", "<pad>", "<s>")


def test_tokenizer_of_a_folder_needs_no_weights(monkeypatch: pytest.MonkeyPatch):
    policy = small_policy()
    policy.export(Path("MODEL"))
    Path("MODEL/model.safetensors").unlink()
    composed = compose(["model=causal_lm", "model.path=MODEL"])
    assert build_encoding(composed, []).fingerprint == policy.encoding_fingerprint()
    Path("chat.jinja").write_text("{{ messages[0]['content'] }}")
    composed["model"]["chat_template"] = "chat.jinja"
    assert build_encoding(composed, []).fingerprint != policy.encoding_fingerprint()
    composed["model"]["chat_template"] = "no.jinja"
    with pytest.raises(UserError, match=r"model\.chat_template: no file no\.jinja"):
        build_encoding(composed, [])


def test_folder_without_a_tokenizer():
    Path("MODEL").mkdir()
    with pytest.raises(UserError, match="the tokenizer of 'MODEL' cannot be loaded"):
        build_encoding(compose(["model=causal_lm", "model.path=MODEL"]), [])


def test_knobs_that_the_data_does_not_have_are_left_alone():
    assert len(build_source(config(), on_problem="drop").train) == 40
    Path("a.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n{"prompt": "p"}\n')
    composed = compose(["data=files", "data.path=a.jsonl", "data.validation_fraction=0"])
    assert len(build_source(composed, on_problem="drop").train) == 1
    with pytest.raises(UserError, match=r"a\.jsonl row 2"):
        build_source(composed)


def test_view_is_that_of_the_loss():
    composed = config("loss=sft")
    assert build_view(composed, build_source(composed)).kind == "chosen"
