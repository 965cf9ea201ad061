"""Keeps secrets out of everything that a run writes or sends."""

import netrc
import os
import re
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

REDACTED = "<redacted>"

# Words that end in "token" or "key" in this field without being anybody's secret.
_HARMLESS = re.compile(
    r"(^|[_.-])(pad|bos|eos|unk|sep|cls|mask|image|video|audio|special|start|end|stop|per|cache|sort)_?(token|key)s?$"
)
_SECRET_NAME = re.compile(
    r"(password|passwd|passphrase|credential|secret)|(^|[^a-z]|api|access|auth|private)(key|token)s?$"
)
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_KNOWN_FORMS = re.compile(
    r"\b(hf_[A-Za-z0-9]{16,}|wandb_v\d_[A-Za-z0-9_]{16,}|sk-[A-Za-z0-9_-]{16,}|gh[pousr]_[A-Za-z0-9]{16,}"
    r"|github_pat_[A-Za-z0-9_]{16,}|glpat-[A-Za-z0-9_-]{16,}|AKIA[0-9A-Z]{16}"
    r"|eyJ[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]{8,}\.[A-Za-z0-9_-]*)"
)
_URL_LOGIN = re.compile(r"(?<=://)(?!git@)[^/\s@'\"]+(?=@)")
_BEARER = re.compile(r"(?i)(\b(?:bearer|basic)\s+)(?=[A-Za-z_+/=.~-]*\d)[A-Za-z0-9._~+/=-]{12,}")
_QUOTED = re.compile(r"""([\w.-]+)(["']?\s*[:=]\s*)(["'])([^"'\n]{4,})\3""")
# Without quotes only what looks drawn at random, else every `key=lambda` of a diff would be struck out.
_UNQUOTED = re.compile(r"([\w.-]+)(\s*[:=]\s*)((?=[A-Za-z_+/=-]*\d)(?=[\d_+/=-]*[A-Za-z])[A-Za-z0-9_+/=-]{12,})")
_SHORTEST_SECRET = 8

Plain = TypeVar("Plain")


def is_secret_name(name: str) -> bool:
    """Whether a key of this name holds a secret.

    >>> [is_secret_name(name) for name in ("api_key", "HF_TOKEN", "clientSecret")]
    [True, True, True]
    >>> [is_secret_name(name) for name in ("tokenizer", "pad_token", "num_tokens")]
    [False, False, False]
    """
    lowered = _CAMEL.sub("_", name).lower()
    # model.tokens is of small_classifier: what its tokens are.
    if re.search(r"(^|[_.])(num|max|min)_|^(model\.)?tokens$", lowered) or _HARMLESS.search(lowered):
        return False
    return _SECRET_NAME.search(lowered) is not None


def redact(value: Plain) -> Plain:
    """A copy of a plain value without secrets: texts under secret names, and secret texts anywhere.

    >>> redact({"api_key": "abc", "beta": 0.1, "tokenizer": "bpe"})
    {'api_key': '<redacted>', 'beta': 0.1, 'tokenizer': 'bpe'}
    """
    return _redact(value, secret_values(), under_secret=False)


def redact_text(text: str) -> str:
    """A text without the values of secret environment variables, known forms of keys and assigned secrets."""
    return _redact_text(text, secret_values())


def redact_override(override: str) -> str:
    """A command-line override without its value where its key is a secret's.

    >>> redact_override("logger.api_key=abc"), redact_override("loss.beta=0.1")
    ('logger.api_key=<redacted>', 'loss.beta=0.1')
    """
    name, equals, _ = override.partition("=")
    return f"{name}={REDACTED}" if equals and is_secret_name(name) else redact_text(override)


def secret_values() -> tuple[str, ...]:
    """What secret variables and the files of keys in one's home hold now, longest first: one may contain another."""
    values = {value for name, value in os.environ.items() if is_secret_name(name)} | _kept_in_files()
    return tuple(sorted((value for value in values if len(value) >= _SHORTEST_SECRET), key=len, reverse=True))


def _kept_in_files() -> set[str]:
    """Passwords of netrc, where W&B keeps its key, and the token of the hub."""
    found: set[str] = set()
    hub = os.environ.get("HF_TOKEN_PATH") or f"{os.environ.get('HF_HOME') or '~/.cache/huggingface'}/token"
    with suppress(OSError, RuntimeError, UnicodeDecodeError):  # no such file, no home, no text
        found.add(Path(hub).expanduser().read_text(encoding="utf-8").strip())
    with suppress(OSError, RuntimeError, UnicodeDecodeError, netrc.NetrcParseError):
        logins = netrc.netrc(Path(os.environ.get("NETRC") or "~/.netrc").expanduser()).hosts.values()
        found |= {password for _, _, password in logins if password}
    return found


def _redact(value: Any, secrets: tuple[str, ...], under_secret: bool) -> Any:
    if isinstance(value, Mapping):
        return {
            _redact(key, secrets, False): _redact(item, secrets, under_secret or is_secret_name(str(key)))
            for key, item in value.items()
        }
    if isinstance(value, list | tuple):
        return [_redact(item, secrets, under_secret) for item in value]
    if isinstance(value, str):
        return REDACTED if under_secret and value else _redact_text(value, secrets)
    return value


def _redact_text(text: str, secrets: tuple[str, ...]) -> str:
    for secret in secrets:
        text = text.replace(secret, REDACTED)
    text = _URL_LOGIN.sub(REDACTED, _KNOWN_FORMS.sub(REDACTED, text))
    text = _BEARER.sub(lambda m: f"{m[1]}{REDACTED}", text)
    text = _QUOTED.sub(lambda m: f"{m[1]}{m[2]}{m[3]}{REDACTED}{m[3]}" if is_secret_name(m[1]) else m[0], text)
    return _UNQUOTED.sub(lambda m: f"{m[1]}{m[2]}{REDACTED}" if is_secret_name(m[1]) else m[0], text)
