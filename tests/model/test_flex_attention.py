"""One call for a whole row sees what the loop over groups sees, and gives its numbers. No GPU is needed: torch runs
FlexAttention on a CPU too, unfused."""

import random
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.attention import flex_attention as torch_flex
from torch.testing import assert_close

from dpo_lab.model import flex_attention
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.flex_attention import (
    Kernel,
    block_mask,
    choose_kernel,
    compiled_flex,
    count_seen,
    flex_attend,
    head_width,
    row_sight,
)
from dpo_lab.model.grouped_attention import _attend
from dpo_lab.model.grouped_scoring import collate_groups, grouped_choices, grouped_log_prob
from dpo_lab.model.spans import PackedRow, Span, read_spans
from dpo_lab.types import Encoded, LogProbs
from tests.model.architectures import ARCHITECTURES

Folder = Callable[[str], Path]
CPU = torch.device("cpu")
GROUPS = [
    Encoded((1, 20, 31, 7, 9), ((40, 2), (41, 42, 43, 2), (5,))),
    Encoded((7,), ((2,), (9, 2), (8, 8, 2))),
    Encoded((1, 9, 30), ((33, 34, 35, 36, 37, 2),)),
]
LENGTHS = st.lists(st.tuples(st.integers(1, 9), st.lists(st.integers(1, 8), min_size=1, max_size=4)), min_size=1)
WINDOWS = st.one_of(st.none(), st.integers(1, 8))


def spans_of(lengths: Sequence[tuple[int, Sequence[int]]], *, is_shared: bool) -> tuple[Span, ...]:
    groups = [Encoded((1,) * prompt, tuple((2,) * length for length in responses)) for prompt, responses in lengths]
    return read_spans(collate_groups(groups, is_shared=is_shared)["spans"])


def seen_by_the_loop(spans: Sequence[Span], window: int | None) -> Tensor:
    """Queries of zero weigh all keys that they see alike; values that name their position say which those are."""
    length = max(span.end for span in spans)
    names = torch.eye(length)[None, None]
    nothing = torch.zeros(1, 1, length, length)
    weights, _ = _attend(
        torch.nn.Module(), nothing, nothing, names, None, packed=PackedRow(spans), sliding_window=window
    )
    return weights[0, :, 0] > 0


@pytest.mark.parametrize("is_shared", [True, False])
@given(lengths=LENGTHS, window=WINDOWS)
def test_every_position_sees_what_the_loop_shows_it(
    lengths: list[tuple[int, list[int]]], window: int | None, is_shared: bool
):
    spans = spans_of(lengths, is_shared=is_shared)
    sight = row_sight(spans, window)
    at = torch.arange(len(sight.own_from))
    assert torch.equal(sight.sees(at[:, None], at), seen_by_the_loop(spans, window))


@given(lengths=LENGTHS, window=WINDOWS, block=st.integers(2, 9))
def test_squares_are_counted_as_one_by_one(lengths: list[tuple[int, list[int]]], window: int | None, block: int):
    spans = spans_of(lengths, is_shared=True)
    seen = seen_by_the_loop(spans, window)
    counts = count_seen(row_sight(spans, window), block)
    padded = torch.zeros(2 * [len(counts) * block], dtype=torch.long)
    padded[: len(seen), : len(seen)] = seen
    assert torch.equal(counts, padded.unflatten(0, (-1, block)).unflatten(2, (-1, block)).sum((1, 3)))


def test_squares_by_hand():
    """A prompt of 300 and responses of 100 and 56 inputs: 4 squares a side. The second response begins at 400, so its
    square 3 sees all of squares 0 and 1, 44 positions of square 2 in 56 + 16 rows, and itself."""
    mask: Any = block_mask(row_sight([Span(0, 300, 300, 100), Span(0, 300, 400, 56)], None), CPU)
    assert mask.full_kv_num_blocks.tolist() == [[[0, 1, 2, 0]]]
    assert mask.full_kv_indices[0, 0, 1:3, :2].tolist() == [[0, 1], [0, 1]]
    assert mask.kv_num_blocks.tolist() == [[[1, 1, 1, 4]]]
    assert mask.kv_indices[0, 0, 3].tolist() == [0, 1, 2, 3]
    assert mask.shape == (1, 1, 456, 456)


@pytest.mark.parametrize(
    ("kernel", "changed"),
    [
        ("flex", {}),
        ("flex", {"dtype": torch.float32}),
        ("flex", {"head_width": 256}),
        ("loop", {"device_type": "cpu"}),
        ("loop", {"device_type": "mps"}),
        ("loop", {"dtype": torch.float64}),
        ("loop", {"dropout": 0.1}),
        ("loop", {"head_width": 8}),
        ("loop", {"head_width": 512}),
    ],
)
def test_which_kernel(kernel: Kernel, changed: dict[str, Any]):
    usual = {"device_type": "cuda", "dtype": torch.bfloat16, "dropout": 0.0, "head_width": 64}
    assert choose_kernel(**(usual | changed)) == kernel


@pytest.mark.parametrize("name", sorted(ARCHITECTURES))
def test_the_width_of_a_head(name: str):
    """8 in all of them, whatever their configs call it: 16 numbers for 2 heads, or said so."""
    assert head_width(ARCHITECTURES[name]()) == 8
    assert head_width(object()) == 0


def test_the_kernel_is_part_of_what_a_log_prob_depends_on(model_folder: Folder, monkeypatch: pytest.MonkeyPatch):
    policy = causal_lm(path=str(model_folder("llama")))
    assert policy.kernel == policy.computation()["kernel"] == "loop"
    asked: list[dict[str, Any]] = []
    monkeypatch.setattr("dpo_lab.model.causal_policy.choose_kernel", lambda **facts: asked.append(facts) or "flex")
    assert policy.computation()["kernel"] == "flex"
    assert asked == [{"device_type": "cpu", "dtype": torch.float32, "dropout": 0.0, "head_width": 8}]


def test_a_policy_takes_the_kernel_that_was_chosen(model_folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """Masks are made once for both layers: one for the layer with a window, one for that without."""
    policy = causal_lm(path=str(model_folder("gemma2"))).eval()
    inputs = policy.collate(GROUPS)
    with torch.no_grad():
        expected = policy.log_prob(inputs)
        made: list[Tensor] = []
        whole = flex_attention.block_mask
        monkeypatch.setattr(flex_attention, "block_mask", lambda *args: made.append(args[0]) or whole(*args))
        monkeypatch.setattr(CausalLM, "kernel", "flex")
        found = policy.log_prob(inputs)
    assert len(made) == 2
    assert_close(found.token, expected.token, atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["llama", "mistral", "gemma2", "gpt2", "gpt_oss"])
def test_values_and_gradients_are_those_of_the_loop(name: str, model_folder: Folder, monkeypatch: pytest.MonkeyPatch):
    """Windows, capped scores, sinks, shared heads. torch has no gradient kernel for a CPU and refuses one, but for its
    formula, which is what is compared here."""
    monkeypatch.setattr(torch_flex, "_validate_device", lambda *tensors: None)
    policy = causal_lm(path=str(model_folder(name)))
    inputs = policy.collate(GROUPS)

    def slopes(kernel: Kernel) -> tuple[LogProbs, list[Tensor]]:
        log_probs = grouped_log_prob(policy.model, inputs, kernel=kernel)
        weighed = log_probs.sum() * torch.linspace(-1, 2, len(log_probs.token))
        trained = [tensor for tensor in policy.parameters() if tensor.requires_grad]
        return log_probs, [g for g in torch.autograd.grad(weighed.sum(), trained, allow_unused=True) if g is not None]

    (found, slope), (expected, plain_slope) = slopes("flex"), slopes("loop")
    assert_close(found.token, expected.token, atol=2e-5, rtol=0)
    size = torch.stack([part.norm() for part in plain_slope]).norm()
    gap = torch.stack([(part - plain).norm() for part, plain in zip(slope, plain_slope, strict=True)]).norm()
    assert gap <= 1e-5 * size


@torch.no_grad()
def test_distributions_and_half_precision(model_folder: Folder):
    """Under autocast queries and keys come wider than values, which no kernel takes."""
    policy = causal_lm(path=str(model_folder("llama"))).eval()
    inputs = policy.collate(GROUPS)
    (_, found), (_, expected) = (grouped_choices(policy.model, inputs, kernel=k) for k in ("flex", "loop"))
    assert_close(found.dense(), expected.dense(), atol=2e-5, rtol=0)
    with torch.autocast("cpu", torch.bfloat16):
        half, plain = (grouped_log_prob(policy.model, inputs, kernel=kernel).token for kernel in ("flex", "loop"))
    assert_close(half, plain, atol=0.1, rtol=0)
    assert not torch.equal(half, grouped_log_prob(policy.model, inputs, kernel="flex").token)


@pytest.mark.parametrize(("seed", "num_sharing", "window"), [(0, 1, None), (1, 2, 20), (2, 3, 150), (3, 3, None)])
def test_rows_of_many_squares(seed: int, num_sharing: int, window: int | None):
    """Rows of some hundred positions, in which squares are whole, in part, and empty."""
    draw, generator = random.Random(seed), torch.Generator().manual_seed(seed)
    lengths = [(draw.randint(1, 200), [draw.randint(1, 90) for _ in range(3)]) for _ in range(2)]
    spans = spans_of(lengths, is_shared=True)
    length = max(span.end for span in spans)
    query, key, value = (torch.randn(1, heads, length, 4, generator=generator) for heads in (2 * num_sharing, 2, 2))
    mask = block_mask(row_sight(spans, window), CPU)
    for softcap in (None, 2.0):
        found = flex_attend(query, key, value, mask, scale=0.7, softcap=softcap).transpose(1, 2)
        expected, _ = _attend(
            torch.nn.Module(),
            query,
            key,
            value,
            None,
            packed=PackedRow(spans),
            scaling=0.7,
            sliding_window=window,
            softcap=softcap,
        )
        assert_close(found, expected, atol=1e-5, rtol=0)


def test_one_set_of_kernels_serves_all_rows(monkeypatch: pytest.MonkeyPatch):
    """Rows of one square, a full one too, and of more; windows; bounded scores (two bounds) and others."""
    from torch._dynamo.testing import CompileCounter

    counter = CompileCounter()
    monkeypatch.setattr(flex_attention, "_flex", lambda device_type: compiled_flex(counter))
    for response in (700, 3, 26, 120, 300):
        spans = [Span(0, 100, 100, response), Span(0, 100, 100 + response, 2)]
        query, key, value = (torch.randn(1, heads, 102 + response, 16) for heads in (4, 2, 2))
        for window, softcap in ((None, None), (30, None), (None, 2.0), (30, 5.0)):
            mask = block_mask(row_sight(spans, window), CPU)
            flex_attend(query, key, value, mask, scale=0.25, softcap=softcap)
    assert counter.frame_count == 2


def test_dropout_is_refused_rather_than_left_out(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")), dropout=0.1)
    inputs = policy.collate(GROUPS)
    assert policy.kernel == "loop"
    with pytest.raises(AssertionError, match="no dropout"):
        grouped_log_prob(policy.model, inputs, kernel="flex")


def test_a_compiler_that_meets_other_threads_is_asked_again(monkeypatch: pytest.MonkeyPatch):
    """Once, and for no other reason."""
    refusals = ["Global num_threads state changed while dynamo tracing, please report a bug"]

    def kernel(query: Tensor, key: Tensor, value: Tensor, **options: Any) -> Tensor:
        if refusals:
            raise AssertionError(refusals.pop())
        return value

    monkeypatch.setattr(flex_attention, "_flex", lambda device_type: kernel)
    one = torch.ones(1, 1, 3, 16)
    assert flex_attend(one, one, one, None, scale=None, softcap=None) is one
    for told in (["another assertion"], ["num_threads state changed", "num_threads state changed"]):
        refusals += told
        with pytest.raises(AssertionError, match=told[0]):
            flex_attend(one, one, one, None, scale=None, softcap=None)
    assert refusals == []
