"""The kernel of a GPU gives the numbers of a call for each response, repeats itself, and serves rows of all lengths."""

import random
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.flex_attention import Kernel
from dpo_lab.model.grouped_scoring import grouped_log_prob
from dpo_lab.types import Encoded, LogProbs
from tests.gpu.wide import on_gpu, write_wide_model

Folder = Callable[[str], Path]
PRECISIONS = {"float32": False, "bfloat16": True}
NATS = {"float32": 1e-4, "bfloat16": 0.3}
"""Largest difference of a token's log-prob: rounding of sums in float32, of 8 bits of logits near 10 else."""
SLOPES = {"float32": 1e-4, "bfloat16": 3e-2}
"""Of the norm of the gradient."""


@pytest.fixture(scope="session")
def wide_folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    @cache
    def write(name: str) -> Path:
        return write_wide_model(tmp_path_factory.mktemp(name), name)

    return write


@pytest.fixture(autouse=True)
def deterministic() -> Iterator[None]:
    """As while training: what cannot repeat itself raises."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def groups(seed: int, num: int = 3, longest: int = 400) -> list[Encoded]:
    draw = random.Random(seed)

    def text(most: int) -> tuple[int, ...]:
        return tuple(draw.choices(range(5, 60), k=draw.randint(1, most)))

    return [Encoded(text(longest), tuple(text(longest // 2) for _ in range(draw.randint(1, 3)))) for _ in range(num)]


def step(
    policy: CausalLM, some: list[Encoded], *, is_low: bool, kernel: Kernel | None = None
) -> tuple[LogProbs, list[Tensor]]:
    """Log-probs, and the gradient of a weighted sum of them."""
    inputs = {name: tensor.cuda() for name, tensor in policy.collate(some).items()}
    with torch.autocast("cuda", torch.bfloat16, enabled=is_low):
        found = policy.log_prob(inputs) if kernel is None else grouped_log_prob(policy.model, inputs, kernel=kernel)
    weighed = found.sum() * torch.linspace(-1, 2, len(found.token), device="cuda")
    trained = [tensor for tensor in policy.parameters() if tensor.requires_grad]
    slope = torch.autograd.grad(weighed.sum(), trained, allow_unused=True)
    return found, [part for part in slope if part is not None]


def step_without_gradient(policy: CausalLM, some: list[Encoded]) -> Tensor:
    return policy.log_prob({name: tensor.cuda() for name, tensor in policy.collate(some).items()}).token


@pytest.mark.parametrize(
    ("name", "precision"),
    [(name, precision) for name in ("llama", "qwen2", "mistral", "gemma2", "gpt2") for precision in PRECISIONS]
    + [("gpt_oss", "float32")],  # by rounding of bfloat16 a token falls to another expert
)
def test_one_call_gives_what_a_call_for_each_response_gives(name: str, precision: str, wide_folder: Folder):
    """Windows, capped scores, sinks, shared heads, on rows of many squares."""
    policy = on_gpu(wide_folder(name), "shared")
    assert policy.kernel == policy.computation()["kernel"] == "flex"
    some = groups(0)
    (found, slope), (expected, plain) = (
        step(policy, some, is_low=PRECISIONS[precision], kernel=kernel) for kernel in ("flex", "loop")
    )
    assert found.token.dtype == torch.float32
    assert_close(found.token, expected.token, atol=NATS[precision], rtol=0)
    size = torch.stack([part.norm() for part in plain]).norm()
    gap = torch.stack([(one - other).norm() for one, other in zip(slope, plain, strict=True)]).norm()
    assert gap <= SLOPES[precision] * size


@pytest.mark.parametrize("precision", PRECISIONS)
def test_all_ways_give_the_same(precision: str, wide_folder: Folder):
    found = [
        step(on_gpu(wide_folder("llama"), attention), groups(1), is_low=PRECISIONS[precision])[0].token
        for attention in ("shared", "packed", "padded")
    ]
    for other in found[1:]:
        assert_close(other, found[0], atol=NATS[precision], rtol=0)


@pytest.mark.parametrize("precision", PRECISIONS)
@pytest.mark.parametrize("attention", ["shared", "packed", "padded", "loop"])
def test_a_step_repeats_its_bits(attention: str, precision: str, wide_folder: Folder):
    """Of rows so long that a device whose sums are not ordered would show it."""
    way: Attention = "shared" if attention == "loop" else attention  # type: ignore[assignment]
    policy, some = on_gpu(wide_folder("qwen2"), way), groups(2, num=8, longest=1000)
    kernel: Kernel | None = "loop" if attention == "loop" else None
    found, slope = step(policy, some, is_low=PRECISIONS[precision], kernel=kernel)
    for _ in range(3):
        again, other = step(policy, some, is_low=PRECISIONS[precision], kernel=kernel)
        assert torch.equal(again.token, found.token)
        assert all(torch.equal(one, two) for one, two in zip(slope, other, strict=True))


def test_rows_of_any_length_take_the_same_kernels(wide_folder: Folder):
    """Rows of a few tokens take another set than others, since torch asks whether they are below 128."""
    policy = on_gpu(wide_folder("mistral"), "shared")
    for seed in (3, 4):
        step(policy, groups(seed), is_low=True)
        step(policy, groups(seed, longest=9), is_low=True)
    with torch.compiler.set_stance("fail_on_recompile"):
        for seed in range(5, 15):
            step(policy, groups(seed, num=1 + seed % 4), is_low=True)
            step(policy, groups(seed, num=1 + seed % 4, longest=9), is_low=True)


@pytest.mark.parametrize("name", ["llama", "qwen2"])
def test_rows_of_a_few_tokens(name: str, wide_folder: Folder):
    policy, some = on_gpu(wide_folder(name), "shared"), groups(0, num=2, longest=9)
    (found, slope), (expected, plain) = (step(policy, some, is_low=False, kernel=kernel) for kernel in ("flex", "loop"))
    assert_close(found.token, expected.token, atol=1e-4, rtol=0)
    for one, other in zip(slope, plain, strict=True):
        assert_close(one, other, atol=1e-4 * float(other.norm()) + 1e-6, rtol=0)
    with torch.no_grad():
        assert_close(step_without_gradient(policy, some), expected.token, atol=1e-4, rtol=0)
