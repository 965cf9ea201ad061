"""Secrets stay out; what only looks like one stays in."""

from pathlib import Path

import pytest

from dpo_lab.run.redaction import is_secret_name, redact, redact_override, redact_text

SECRET = """
    key api_key apikey apiKey WANDB_API_KEY HF_TOKEN token authtoken access_token password db_password client_secret
    secretValue AWS_SECRET_ACCESS_KEY logger.api_key credentials
"""
HARMLESS = """
    tokenizer tokenizer_path pad_token eos_token max_tokens num_tokens keyword monkey beta keep_last key_column
    token_level path tokens model.tokens
"""


@pytest.mark.parametrize("name", SECRET.split())
def test_names_of_secrets(name: str):
    assert is_secret_name(name)


@pytest.mark.parametrize("name", HARMLESS.split())
def test_names_of_nothing_secret(name: str):
    assert not is_secret_name(name)


def test_nested_values_below_a_secret_name():
    value = {"logger": {"api_key": "abc", "tags": ["a"]}, "secrets": {"one": ["x", 1]}, "key": None}
    assert redact(value) == {
        "logger": {"api_key": "<redacted>", "tags": ["a"]},
        "secrets": {"one": ["<redacted>", 1]},
        "key": None,
    }


def test_values_of_secret_variables_anywhere(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "0123456789abcdef")
    monkeypatch.setenv("HF_TOKEN", "0123456789abcdef-longer")
    text = "see 0123456789abcdef-longer and x0123456789abcdefx"
    assert redact_text(text) == "see <redacted> and x<redacted>x"
    assert redact({"note": text})["note"] == redact_text(text)


@pytest.mark.parametrize(
    ("text", "hidden"),
    [
        ("hf_abcdefghijklmnopqrstuv", "hf_abcdefghijklmnopqrstuv"),
        ('+api_key = "hunter2!"', "hunter2!"),
        ("+  password: 'correct-horse'", "correct-horse"),
        ("+api_token: a1b2c3d4e5f6g7", "a1b2c3d4e5f6g7"),
        ("https://me:pw@host/repo.git", "me:pw"),
        ("https://abcdef123456@host/repo.git", "abcdef123456"),
        ("url = https://host/file?token=a1b2c3d4e5f6g7&x=1", "a1b2c3d4e5f6g7"),
        ("Authorization: Bearer abc.def-123456789", "abc.def-123456789"),
        ("github_pat_11ABCDEFG0123456789_abc", "11ABCDEFG0123456789"),
        ("eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxIn0.c2lnbmF0dXJl", "eyJzdWIiOiIxIn0"),
    ],
)
def test_secrets_in_a_diff(text: str, hidden: str):
    redacted = redact_text(text)
    assert hidden not in redacted
    assert "<redacted>" in redacted


@pytest.mark.parametrize(
    "text",
    [
        "git+ssh://git@host/repo.git",
        "basic understanding of it",
        "rows.sort(key=lambda row: row.step)",
        'pad_token = "<|endoftext|>"',
        "token = policy_token[:, 1:]",
        "beta: 0.1",
    ],
)
def test_code_is_left_alone(text: str):
    assert redact_text(text) == text


def test_overrides():
    assert redact_override("+logger.api_key=abc") == "+logger.api_key=<redacted>"
    assert redact_override("model.tokenizer=abc") == "model.tokenizer=abc"


def test_keys_that_are_kept_in_files(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    (tmp_path / "netrc").write_text("machine api.wandb.ai login user password 0123456789abcdef\n")
    (tmp_path / "token").write_text("fedcba9876543210\n")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("HF_TOKEN_PATH", str(tmp_path / "token"))
    assert redact_text("0123456789abcdef fedcba9876543210") == "<redacted> <redacted>"
    (tmp_path / "netrc").write_text("nonsense")
    assert redact_text("0123456789abcdef") == "0123456789abcdef"
