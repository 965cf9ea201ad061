"""A small policy with its cached reference, and rows to ask of both."""

from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from dpo_lab.data.batch import response_key
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.report import DataReport
from dpo_lab.data.reviews import reviews
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.reference.cache_use import CacheUse, KeyedGroups
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import frozen
from dpo_lab.types import Encoded


def groups_of(policy: CausalLM, num_pairs: int = 6, max_length: int = 128) -> list[KeyedGroups]:
    source = reviews(num_pairs=num_pairs, num_validation_pairs=1, num_demonstrations=1)
    encoded = encode_source(source.train, policy.encode, max_length, "truncate", DataReport(), policy.end_id).encoded
    return [keyed(encoded[:2]), keyed(encoded[2:])]


def keyed(encoded: list[Encoded]) -> KeyedGroups:
    keys = [response_key(group.prompt, response) for group in encoded for response in group.responses]
    return encoded, np.array(keys)


def reference_of(policy: CausalLM, folder: Path, precision: str = "32-true", **settings: Any) -> CachedReference:
    made = frozen(policy, folder, precision, **settings)
    assert isinstance(made, CachedReference)
    return made


def prepared(policy: CausalLM, folder: Path, groups: list[KeyedGroups], **settings: Any) -> CacheUse:
    return reference_of(policy, folder, **settings).prepare(groups, say=lambda line: None)


def inputs_and_key(policy: CausalLM, groups: KeyedGroups) -> tuple[dict[str, Tensor], Tensor]:
    encoded, keys = groups
    return policy.collate(encoded), torch.from_numpy(keys)
