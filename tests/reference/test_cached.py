"""A cached reference: the numbers of the live one, computed once, and never those of another question."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tokenizers import Tokenizer

from dpo_lab.data.batch import response_key
from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.reference import cached, rows
from dpo_lab.reference.cache_store import CacheStore
from dpo_lab.reference.cache_use import CacheMismatchError, KeyedGroups, MissingRowsError
from dpo_lab.reference.cached import CachedReference
from dpo_lab.reference.frozen import FrozenReference, frozen
from dpo_lab.types import Example, Message
from tests.model.tokenizers import CHATML, llama_like
from tests.reference.cached_policy import groups_of, inputs_and_key, keyed, prepared, reference_of
from tests.small import small_policy

SAME_NATS = 1e-4
"""A row in batches of two shapes: float32 rounding of a whole response."""


def test_the_numbers_of_the_live_reference(tmp_path: Path):
    """By two orders of rows, and by rows of other batches than they were computed in."""
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    reference, live = reference_of(policy, tmp_path), frozen(policy)
    backwards = keyed([group for part, _ in groups for group in part][::-1])
    for part in (*groups, backwards):
        inputs, key = inputs_and_key(policy, part)
        found, expected = reference.log_prob(inputs, key), live.log_prob(inputs)
        assert found.token.dtype == torch.float32 and not found.token.requires_grad
        assert torch.equal(found.mask, expected.mask)
        assert not found.token[~found.mask].any()
        assert (found.sum() - expected.sum()).abs().max() < SAME_NATS
    assert reference.num_forward_passes == 0
    assert reference.fingerprint() == live.fingerprint()


def test_a_row_is_computed_once(tmp_path: Path):
    """12 responses; what the first pass cost, the second has saved; a response twice counts once."""
    policy = small_policy()
    groups = groups_of(policy)
    said: list[str] = []
    first = reference_of(policy, tmp_path).prepare(groups + groups, say=said.append)
    assert (first.num_hits, first.num_computed, first.num_forward_passes) == (0, 12, 1)
    assert said == ["reference: 12 of 12 responses are not in the cache; computing them"]
    assert first.seconds_saved == 0 < first.seconds_computing
    second = prepared(policy, tmp_path, groups)
    assert (second.num_hits, second.num_computed, second.num_forward_passes) == (12, 0, 0)
    assert 0 < second.seconds_saved <= first.seconds_computing
    assert second.num_bytes == first.num_bytes > 0
    assert second.line().startswith("reference: 12 responses from the cache, 0 computed (0 forward passes), ")


def test_data_that_grows_adds_rows(tmp_path: Path):
    policy = small_policy()
    prepared(policy, tmp_path, groups_of(policy, 6))
    grown = groups_of(policy, 9)
    use = prepared(policy, tmp_path, grown)
    assert (use.num_hits, use.num_computed) == (12, 6)
    assert prepared(policy, tmp_path, grown).num_computed == 0


def other_weights(policy: CausalLM) -> CausalLM:
    with torch.no_grad():
        next(policy.model.parameters()).view(-1)[0] += 1
    return policy


def other_dtype(policy: CausalLM) -> CausalLM:
    policy.model.to(torch.bfloat16)
    policy.dtype_name = "bfloat16"
    return policy


def other_attention(policy: CausalLM) -> CausalLM:
    policy.attention = "padded"
    return policy


@pytest.mark.parametrize("change", [other_weights, other_dtype, other_attention])
def test_another_reference_finds_nothing(tmp_path: Path, change: Callable[[CausalLM], CausalLM]):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    use = prepared(change(small_policy()), tmp_path, groups)
    assert (use.num_hits, use.num_computed) == (0, 12)
    assert prepared(policy, tmp_path, groups).num_computed == 0


def test_precision_of_the_trainer_is_in_the_key_and_must_hold(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    mixed = reference_of(policy, tmp_path, "bf16-mixed")
    with pytest.raises(RuntimeError, match="kept for precision bf16-mixed, and asked for in another"):
        mixed.prepare(groups)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert mixed.prepare(groups, say=lambda line: None).num_computed == 12
        with pytest.raises(RuntimeError, match="kept for precision 32-true"):
            reference_of(policy, tmp_path).log_prob(*inputs_and_key(policy, groups[0]))


def test_versions_of_the_libraries_are_in_the_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    before = policy.computation()
    assert {"model", "dtype", "attention", "device", "torch", "transformers"} <= set(before)
    for name in before:
        monkeypatch.setattr(CausalLM, "computation", lambda self, name=name: {**before, name: "another"})
        assert prepared(policy, tmp_path, groups).num_hits == 0, name


def test_other_tokens_are_other_rows(tmp_path: Path):
    """max_length 24 cuts responses: the cut ones are computed, those that fit are found, and each has its length."""
    policy = small_policy()
    prepared(policy, tmp_path, groups_of(policy))
    cut = groups_of(policy, max_length=24)
    use = prepared(policy, tmp_path, cut)
    same = {tuple(key) for _, keys in groups_of(policy) for key in keys.tolist()}
    num_same = len({tuple(key) for _, keys in cut for key in keys.tolist()} & same)
    assert (use.num_hits, use.num_computed) == (num_same, 12 - num_same)
    assert use.num_computed > 0
    reference, live = reference_of(policy, tmp_path), frozen(policy)
    for part in cut:
        inputs, key = inputs_and_key(policy, part)
        difference = reference.log_prob(inputs, key).sum() - live.log_prob(inputs).sum()
        assert difference.abs().max() < SAME_NATS


QUESTION: list[Message] = [{"role": "user", "content": "what is 12 + 34?"}]


def with_template(template: str) -> Any:
    tokenizer = llama_like("first")
    tokenizer.chat_template = template
    return tokenizer


def without_merges() -> Any:
    """The same words for the same numbers, and every text in other pieces."""
    tokenizer = with_template(CHATML)
    state = json.loads(tokenizer.backend_tokenizer.to_str())
    state["model"]["merges"] = []
    tokenizer._tokenizer = Tokenizer.from_str(json.dumps(state))
    return tokenizer


@pytest.mark.parametrize(
    "other", [with_template(CHATML.replace("im_start", "begin")), without_merges()], ids=["template", "tokenizer"]
)
def test_a_template_or_tokenizer_makes_other_rows(tmp_path: Path, other: Any):
    """The text is the same, and so are the weights: the folder is, and no row of it is found."""
    policy = small_policy()
    policy.model.resize_token_embeddings(400, mean_resizing=False)
    examples = [Example(QUESTION, (" 46", " a cat", " hello there"), source=f"row {n}") for n in range(2)]
    first, second = (keyed(TextEncoder(one).encode(examples)) for one in (with_template(CHATML), other))
    for groups, expected in ((first, (0, 3)), (second, (0, 3)), (first, (3, 0))):
        use = prepared(policy, tmp_path, [groups])
        assert (use.num_hits, use.num_computed) == expected
    assert len(list((tmp_path / "reference").glob("[0-9a-f]*"))) == 1


def test_the_boundary_between_prompt_and_response_is_in_the_key():
    assert response_key((1, 2), (3,)) != response_key((1,), (2, 3)) != response_key((1, 2), (4,))


def test_what_has_no_key_is_never_looked_up(tmp_path: Path):
    """Samples: computed, not counted, not kept."""
    policy = small_policy()
    reference = reference_of(policy, tmp_path)
    inputs, _ = inputs_and_key(policy, groups_of(policy)[0])
    assert torch.equal(reference.log_prob(inputs).token, frozen(policy).log_prob(inputs).token)
    assert reference.num_forward_passes == 0
    assert not (tmp_path / "reference").exists()


def test_a_batch_with_a_missing_row_is_computed(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups[:1])
    reference = reference_of(policy, tmp_path)
    both = keyed([*groups[0][0], *groups[1][0]])
    inputs, key = inputs_and_key(policy, both)
    assert torch.equal(reference.log_prob(inputs, key).token, frozen(policy).log_prob(inputs).token)
    assert reference.num_forward_passes == 1


def test_require_says_how_many_are_missing_and_what_to_do(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups[:1])
    required = reference_of(policy, tmp_path, cache="require")
    with pytest.raises(MissingRowsError, match=r"8 of 12 responses are not in .*`dpo-lab cache build`"):
        required.prepare(groups)
    with pytest.raises(MissingRowsError, match="8 of 8 responses"):
        required.log_prob(*inputs_and_key(policy, groups[1]))
    assert required.prepare(groups[:1]).num_hits == 4


def test_off_reads_and_writes_nothing(tmp_path: Path):
    assert isinstance(frozen(small_policy(), tmp_path, cache="off"), FrozenReference)


def test_whole_distributions_are_computed(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    reference = reference_of(policy, tmp_path)
    inputs, _ = inputs_and_key(policy, groups[0])
    found, choices = reference.log_prob_and_choices(inputs)
    expected, others = frozen(policy).log_prob_and_choices(inputs)
    assert torch.equal(found.token, expected.token) and torch.equal(choices.dense(), others.dense())
    assert reference.num_forward_passes == 1


def poison(policy: CausalLM, folder: Path, groups: list[KeyedGroups], *, shift: float, cut: int = 0) -> None:
    """Rows that are whole files of the right folder and yet wrong: each `shift` nats off, or `cut` decisions short."""
    reference = reference_of(policy, folder)
    parts = {**policy.computation(), "reference": reference.fingerprint(), "precision": "32-true"}
    for encoded, keys in groups:
        inputs, _ = inputs_and_key(policy, (encoded, keys))
        right = frozen(policy).log_prob(inputs)
        lengths = right.mask.sum(1).numpy() - cut
        values = [row[:length].numpy() + shift / length for row, length in zip(right.token, lengths, strict=True)]
        CacheStore(folder, parts).add(keys, lengths, np.concatenate(values), seconds=1.0)


def test_wrong_rows_stop_the_run(tmp_path: Path):
    """0.01 nats a response is ten times the tolerance; the message names the folder and the way out."""
    policy = small_policy()
    groups = groups_of(policy)
    poison(policy, tmp_path, groups, shift=0.01)
    with pytest.raises(CacheMismatchError, match=r"differ, by up to 0\.01 nats: .*reference.*dpo-lab cache prune"):
        prepared(policy, tmp_path, groups)
    with pytest.raises(CacheMismatchError):
        reference_of(policy, tmp_path).verify(groups, 100)
    assert reference_of(policy, tmp_path).prepare(groups, is_checked_later=True).num_verified == 0
    assert prepared(policy, tmp_path, groups, verify_rows=0).num_verified == 0


def test_rounding_is_no_fault_and_verified_rows_are_counted_apart(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    poison(policy, tmp_path, groups, shift=1e-4)
    use = prepared(policy, tmp_path, groups, verify_rows=5)
    assert (use.num_verified, use.num_forward_passes, use.num_hits) == (5, 0, 12)
    assert "5 computed again and equal" in use.line()
    num_rows, largest = reference_of(policy, tmp_path).verify(groups, 100)
    assert num_rows == 12
    assert largest == pytest.approx(1e-4, abs=5e-5)


def test_rows_of_another_length_stop_the_run(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    poison(policy, tmp_path, groups, shift=0.0, cut=1)
    with pytest.raises(CacheMismatchError, match="other lengths"):
        reference_of(policy, tmp_path).log_prob(*inputs_and_key(policy, groups[0]))
    with pytest.raises(CacheMismatchError):
        prepared(policy, tmp_path, groups)


def test_other_seeds_verify_other_rows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    drawn: list[frozenset[tuple[int, int]]] = []
    compare = CachedReference._compare

    def spy(self: CachedReference, rows: list[rows.Row]) -> float:
        drawn.append(frozenset(row.key for row in rows))
        return compare(self, rows)

    monkeypatch.setattr(CachedReference, "_compare", spy)
    for seed in (0, 0, 1, 2):
        reference_of(policy, tmp_path).prepare(groups, seed=seed)
    assert drawn[0] == drawn[1] and len(set(drawn)) > 1
    assert all(len(one) == 2 for one in drawn)


def test_what_is_not_a_number_is_not_kept(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    with torch.no_grad():
        next(policy.model.parameters()).fill_(float("nan"))
    with pytest.raises(UserError, match="not a number"):
        prepared(policy, tmp_path, groups)
    assert not list(tmp_path.rglob("*.rows"))


def test_damaged_files_are_computed_anew_and_said(tmp_path: Path):
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    (path,) = tmp_path.rglob("*.rows")
    path.write_bytes(path.read_bytes()[:-1])
    use = prepared(policy, tmp_path, groups)
    assert (use.num_computed, use.num_ignored_files) == (12, 1)
    assert use.line().endswith("1 damaged files ignored")
    assert prepared(policy, tmp_path, groups).num_computed == 0


def test_progress_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Four batches of three rows, and a word after each but the last; each is written by itself."""
    monkeypatch.setattr(cached, "REPORT_SECONDS", 0.0)
    monkeypatch.setattr(cached, "KEEP_SECONDS", 0.0)
    monkeypatch.setattr(rows, "BATCH_TOKENS", 1)
    policy, said = small_policy(), []
    groups = groups_of(policy)
    use = reference_of(policy, tmp_path).prepare(groups, say=said.append)
    assert use.num_forward_passes == 12
    assert len(said) == 12 and all("computed," in line and "s left" in line for line in said[1:])
    assert len(list(tmp_path.rglob("*.rows"))) == 12
    assert prepared(policy, tmp_path, groups).num_hits == 12


def test_a_device_is_kept_for_when_something_is_computed(tmp_path: Path):
    """Weights move there when they are needed, and rest on the CPU otherwise."""
    policy = small_policy()
    groups = groups_of(policy)
    prepared(policy, tmp_path, groups)
    reference = reference_of(policy, tmp_path)
    reference.to(torch.device("meta"))
    weight = next(reference._policy.parameters())
    assert weight.device.type == "cpu"
    reference.rest()
    reference.to(torch.device("cpu"))
    assert reference.log_prob(*inputs_and_key(policy, groups[0])).token.device.type == "cpu"
