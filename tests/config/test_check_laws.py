"""Whatever stands in a config, its check finds the fault by its key, or the value is one that the key takes."""

import copy
import json
from collections.abc import Iterator
from contextlib import suppress
from functools import cache
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from omegaconf import OmegaConf

from dpo_lab.config import find_faults
from dpo_lab.config.check import ConfigError
from dpo_lab.config.overrides import review
from dpo_lab.config.saved import saved_config
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR

SOURCE = Source(str(CONF_DIR), "train")
FREE = ("data", "name", "runs_dir", "cache_dir", "plugins", "resume", "start", "logger")
"""Nodes whose texts may be anything, or whose faults are found by looking at the disk."""

texts = st.text(st.characters(codec="utf-8"), max_size=8)
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=2),
    max_leaves=3,
)


@cache
def shipped() -> dict[str, Any]:
    """The default config, which has no fault."""
    plain: Any = OmegaConf.to_container(SOURCE.compose([]), resolve=False)
    del plain["hydra"]
    return plain


def leaves(node: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in node.items():
        place = f"{path}.{key}" if path else key
        yield from leaves(value, place) if isinstance(value, dict) else [(place, value)]


LEAVES = dict(leaves(shipped()))
NUMBERS = [key for key, value in LEAVES.items() if isinstance(value, int | float) and not isinstance(value, bool)]


def changed(key: str, value: Any) -> dict[str, Any]:
    config = copy.deepcopy(shipped())
    *parents, name = key.split(".")
    node = config
    for parent in parents:
        node = node[parent]
    node[name] = value
    return config


def test_the_shipped_config_has_no_fault():
    assert find_faults(shipped()) == [] and len(NUMBERS) >= 20


@settings(max_examples=80)
@given(st.sampled_from(sorted(LEAVES)), values)
def test_any_value_is_judged_and_left_as_it_is(key: str, value: Any):
    """Nothing is raised; a fault is of the node that was changed, unless the value stands for another one."""
    config = changed(key, value)
    before = json.dumps(config, default=str)
    faults = find_faults(config)
    assert json.dumps(config, default=str) == before
    if key.partition(".")[0] not in FREE and not isinstance(value, str | dict | list):
        node = key.partition(".")[0]
        assert all(fault.startswith(node) or node in fault for fault in faults)


@settings(max_examples=60)
@given(
    st.sampled_from(NUMBERS),
    texts | st.lists(st.integers(), max_size=2) | st.sampled_from([True, float("nan"), float("inf")]),
)
def test_what_is_no_number_is_refused_where_a_number_belongs(key: str, value: Any):
    if isinstance(value, str) and ("$" in value or value == "???"):
        return
    assert any(fault.startswith(f"{key}: must be") for fault in find_faults(changed(key, value)))


@settings(max_examples=60)
@given(
    st.sampled_from(["loss", "trainer", "optimizer", "samples", "seeds", ""]),
    st.from_regex(r"[a-z_]{1,9}", fullmatch=True),
)
def test_a_key_that_nothing_reads_is_refused_by_name(node: str, name: str):
    place = f"{node}.{name}" if node else name
    if place in LEAVES or place in shipped() or name == "_target_":
        return
    assert any(fault.startswith(f"{place}: ") for fault in find_faults(changed(place, 1)))


@settings(max_examples=20)
@given(
    st.lists(
        st.builds(lambda key, value: f"{key}={value}", st.sampled_from(sorted(LEAVES)), texts)
        | texts
        | st.sampled_from(["loss=ipo", "~samples", "+loss.beta=1", "loss.beta=1,2", "seed=${name}", "a.b..c=1"]),
        max_size=2,
    )
)
def test_overrides_are_told_of_or_stand_in_the_config(overrides: list[str]):
    """No override is passed over in silence."""
    reviewed = review(overrides, SOURCE, multirun=False)
    if reviewed.faults:
        return
    (config,) = reviewed.configs
    composed: Any = OmegaConf.to_container(config, resolve=False)
    plain = dict(leaves({key: value for key, value in composed.items() if key != "hydra"}))
    for override in overrides:
        key, _, text = override.lstrip("+").partition("=")
        if (
            key in LEAVES
            and text.isalnum()
            and text.lower() not in ("true", "false", "null", "nan", "inf")
            and text.isalpha()
        ):
            assert plain[key] == text


@settings(max_examples=60)
@given(
    st.lists(st.builds(lambda key, value: f"{key}={value}", st.sampled_from(sorted(LEAVES)), texts) | texts, max_size=3)
)
def test_overrides_of_a_saved_config_are_told_of_or_make_a_sound_one(overrides: list[str]):
    saved: Any = OmegaConf.to_container(OmegaConf.create(shipped()), resolve=True)
    with suppress(ConfigError):
        assert find_faults(saved_config(saved, overrides)) == []


@pytest.mark.parametrize("config", [{}, {"loss": None}, {"loss": []}, {"seed": {"a": 1}}, {"hydra": 3}])
def test_a_config_of_anything_is_judged(config: Any):
    assert find_faults(config)
