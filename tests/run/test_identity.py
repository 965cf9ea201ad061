"""The id of a run: what moves it, what does not."""

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.run.identity import COSMETIC_KEYS, WITHOUT_EFFECT, canonical_json, run_id

CONFIG = {
    "seed": 0,
    "name": "demo",
    "runs_dir": "runs",
    "loss": {"_target_": "dpo_lab.loss.sigmoid.sigmoid", "beta": 0.1},
    "data": {"path": "a.jsonl", "max_length": 128},
    "trainer": {"num_threads": 1, "micro_batch_size": None, "global_batch_size": 32},
    "reference": {"path": None, "cache": "auto"},
    "logger": {"mode": "auto", "every_n_steps": 1},
}
CONTENTS = {"data": "d", "tokenizer": "t", "initial_weights": "w", "reference": "r"}

scalars = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
plain = st.recursive(scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=12)


def changed(path: str, value: object) -> dict:
    """`CONFIG` with one dotted key set."""
    *groups, key = path.split(".")
    copy = {name: dict(node) if isinstance(node, dict) else node for name, node in CONFIG.items()}
    node = copy
    for group in groups:
        node = node[group]
    node[key] = value
    return copy


def test_id_by_hand():
    """SHA-256 over the text that this test spells out, less the cosmetic `name`; 1.0 is written 1."""
    text = '{"config":{"loss":{"beta":1},"seed":0},"contents":{"data":"d"}}'
    expected = hashlib.sha256(text.encode()).hexdigest()[:12]
    assert run_id({"seed": 0, "name": "x", "loss": {"beta": 1.0}}, {"data": "d"}) == expected


@pytest.mark.parametrize("key", COSMETIC_KEYS)
def test_cosmetic_keys_do_not_count(key: str):
    assert run_id(changed(key, "anything"), CONTENTS) == run_id(CONFIG, CONTENTS)


def test_everything_below_a_cosmetic_group_does_not_count():
    assert run_id(changed("logger.mode", "offline"), CONTENTS) == run_id(CONFIG, CONTENTS)


@pytest.mark.parametrize(
    ("key", "value"),
    [("seed", 1), ("loss.beta", 0.2), ("loss.beta", None), ("data.max_length", 64), ("trainer.global_batch_size", 16)],
)
def test_everything_else_counts(key: str, value: object):
    assert run_id(changed(key, value), CONTENTS) != run_id(CONFIG, CONTENTS)


@pytest.mark.parametrize("name", CONTENTS)
def test_contents_count(name: str):
    assert run_id(CONFIG, {**CONTENTS, name: "other"}) != run_id(CONFIG, CONTENTS)


def test_paths_count_only_where_their_content_is_unknown():
    moved = changed("data.path", "elsewhere/a.jsonl")
    assert run_id(moved, CONTENTS) == run_id(CONFIG, CONTENTS)
    assert run_id(moved, {}) != run_id(CONFIG, {})


def test_a_later_key_says_nothing_where_nothing_changed():
    """Runs from before there was a test split keep their ids; a test split makes another run."""
    for key, value in WITHOUT_EFFECT.items():
        assert run_id(changed(key, value), CONTENTS) == run_id(CONFIG, CONTENTS)
        assert run_id(changed(key, 0.5), {}) != run_id(CONFIG, {})


def test_names_with_a_common_beginning_are_not_cosmetic():
    assert run_id({"runs_dir_2": "a"}, {}) != run_id({"runs_dir_2": "b"}, {})


@given(st.dictionaries(st.text(), plain, max_size=5).flatmap(lambda d: st.tuples(st.just(d), st.permutations(list(d)))))
def test_order_of_keys_does_not_matter(value_and_order: tuple[dict, list[str]]):
    value, order = value_and_order
    assert canonical_json({key: value[key] for key in order}) == canonical_json(value)


@given(plain, plain)
def test_different_values_have_different_texts(one: object, other: object):
    """Equal texts mean equal values. Python's own == holds True for 1, which a config does not, so types are kept."""
    same_text = canonical_json(one) == canonical_json(other)
    assert same_text <= (one == other)


@given(st.integers(-(2**53), 2**53))
def test_a_whole_float_is_its_integer(number: int):
    assert canonical_json(float(number)) == canonical_json(number)


def test_true_is_not_one():
    assert canonical_json(True) != canonical_json(1)


def test_what_has_no_text_is_named():
    with pytest.raises(TypeError, match=r"value\.config\.loss\.beta is a object"):
        run_id({"loss": {"beta": object()}}, {})
