"""The texts of a run's data, and its token ids, from disk where they were made before."""

import hashlib
from functools import partial
from pathlib import Path

from dpo_lab.assemble.encoding import special_tokens_of, unknown_id
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.data.token_cache import CachedTokens, load_or_encode
from dpo_lab.model.policy import Policy
from dpo_lab.types import Text


def corpus(source: DataSource) -> list[str]:
    """Texts that a tokenizer may be trained on: prompts and responses of training rows, never of those held out."""
    return [
        text
        for example in [*source.train, *source.demonstrations]
        for part in (example.prompt, *example.responses)
        for text in _texts(part)
    ]


def _texts(part: Text) -> list[str]:
    return [part] if isinstance(part, str) else [message["content"] for message in part]


def tokens_of(policy: Policy, source: DataSource, cache_dir: Path) -> CachedTokens:
    """The data as `policy` encodes it, from disk where it was encoded before."""
    return load_or_encode(cache_dir, _tokens_key(policy, source), partial(_encode, policy, source))


def _tokens_key(policy: Policy, source: DataSource) -> str:
    policies = (source.on_overflow, source.on_problem)
    # Where images lie is no part of what the data says, yet it is kept with the tokens.
    places = [image.path for examples in source.sets.values() for example in examples for image in example.images]
    parts = (source.fingerprint, policy.encoding_fingerprint(), str(source.max_length), *policies, *places)
    return hashlib.sha256("|".join(parts).encode()).hexdigest()[:32]


def _encode(policy: Policy, source: DataSource, report: DataReport) -> dict[str, EncodedDataset]:
    special_tokens = special_tokens_of(policy)
    return {
        name: encode_source(
            examples,
            policy.encode,
            source.max_length,
            source.on_overflow,
            report,
            policy.end_id,
            on_problem=source.on_problem,
            special_tokens=special_tokens,
            unknown_id=unknown_id(policy.tokenizer),
            has_overflow_knob=source.has_overflow_knob,
        )
        for name, examples in source.sets.items()
    }
