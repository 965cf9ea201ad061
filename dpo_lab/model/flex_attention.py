"""Attention over packed groups in one call a layer: FlexAttention (Dong et al. 2024, arXiv 2412.05496), for GPUs.

The loop of `grouped_attention` launches a kernel or more for each response of each layer; here the whole row is one
kernel, which skips blocks of the row in which nothing is seen. Why FlexAttention and not `varlen_attn`: it serves
float32 as well as half precision, windows and capped scores, and its logic runs without a GPU, so that it can be tested
there. The loop is the specification.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import cache
from typing import Any, Literal, NamedTuple, final, no_type_check

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from torch.nn.functional import pad

from dpo_lab.model.spans import Span

Kernel = Literal["loop", "flex"]

BLOCK = 128
"""Positions a side of the squares that the kernel computes or skips: FlexAttention's own size."""

SMALLEST_HEAD, LARGEST_HEAD = 16, 256
"""Widths of a head for which torch 2.13 has such kernels: Triton multiplies nothing narrower than 16, and the tables of
block sizes end at 256."""

MOST_COMPILATIONS = 64
"""Of the kernel in one process: for training, validation and samples of every kind of model that it meets. torch would
end the run at 9."""

DTYPES = (torch.float32, torch.bfloat16, torch.float16)


def choose_kernel(*, device_type: str, dtype: torch.dtype, dropout: float, head_width: int) -> Kernel:
    """Which kernel attends over packed groups. `dropout` is the model's, whether it trains or not.

    "flex" on a GPU ("cuda"), but with dropout, which FlexAttention has not, or with heads or a dtype that its kernels
    do not take; "loop" otherwise. A window or capped scores make no difference: both do both.

    >>> choose_kernel(device_type="cuda", dtype=torch.bfloat16, dropout=0.0, head_width=64)
    'flex'
    >>> choose_kernel(device_type="cpu", dtype=torch.bfloat16, dropout=0.0, head_width=64)
    'loop'
    """
    fits = SMALLEST_HEAD <= head_width <= LARGEST_HEAD and dtype in DTYPES
    return "flex" if device_type == "cuda" and dropout == 0 and fits else "loop"


def head_width(config: Any) -> int:
    """Numbers a head of the model with this text config; 0, which no kernel takes, where it does not say."""
    width = getattr(config, "head_dim", None)
    if width is None and getattr(config, "num_attention_heads", None):
        width = getattr(config, "hidden_size", 0) // config.num_attention_heads
    return width if isinstance(width, int) else 0


class Sight(NamedTuple):
    """What each position of a row sees: part of its prompt, `prompt_from` to before `prompt_to`, and from `own_from`
    to itself. The prompt's own positions see nothing of the first kind."""

    prompt_from: Int[Tensor, " l"]
    prompt_to: Int[Tensor, " l"]
    own_from: Int[Tensor, " l"]

    @no_type_check  # the kernel's compiler reads it, and would stumble over a check at run time
    def sees(self, query_at: Tensor, key_at: Tensor) -> Bool[Tensor, "..."]:
        """Whether position `query_at` of the row may see `key_at`."""
        in_prompt = (key_at >= self.prompt_from[query_at]) & (key_at < self.prompt_to[query_at])
        return in_prompt | ((key_at >= self.own_from[query_at]) & (key_at <= query_at))


def row_sight(spans: Sequence[Span], window: int | None) -> Sight:
    """The sight of every position of the row that `spans` describe; `window` is how many positions a layer sees, its
    own included, along the sequence of prompt and response: None is all of them."""
    length = max(span.end for span in spans)
    at = torch.arange(length)
    prompt_from, prompt_to, own_from = (torch.zeros(length, dtype=torch.long) for _ in range(3))
    for span in spans:
        prompt_end = span.prompt_at + span.prompt_length
        prompt = slice(span.prompt_at, prompt_end)
        response = slice(span.response_at, span.end)
        own_from[prompt], own_from[response] = span.prompt_at, span.response_at
        prompt_from[response], prompt_to[response] = span.prompt_at, prompt_end
        if window is not None:
            # A response stands where the prompt ends, however far away from it in the row.
            distance = span.response_at - prompt_end
            prompt_from[response] = (at[response] - distance - window + 1).clamp(span.prompt_at, prompt_end)
    if window is not None:
        own_from = own_from.maximum(at - window + 1)
    return Sight(prompt_from, prompt_to, own_from)


def count_seen(sight: Sight, block: int = BLOCK) -> Int[Tensor, " b b"]:
    """In each square of `block` positions a side, how many pairs of a query (rows) and a key (columns) see each other.

    Exact, and without the whole matrix of pairs: what a position sees are two intervals.
    """
    length, device = len(sight.own_from), sight.own_from.device
    # Two at least: a size of one would be compiled apart.
    starts = torch.arange(0, max(length, block + 1), block, device=device)
    ends = starts + block

    def overlap(first: Tensor, last: Tensor) -> Tensor:
        return (last[:, None].minimum(ends) - first[:, None].maximum(starts)).clamp(min=0)

    seen = overlap(sight.prompt_from, sight.prompt_to) + overlap(
        sight.own_from, torch.arange(length, device=device) + 1
    )
    return pad(seen, (0, 0, 0, len(starts) * block - length)).unflatten(0, (-1, block)).sum(1)


def block_mask(sight: Sight, device: torch.device) -> Any:
    """The same for the kernel, on `device`: which squares it skips, which it need not look into, and `Sight.sees`."""
    from torch.nn.attention.flex_attention import BlockMask

    there = Sight(*torch.stack(sight).to(device))
    counts = count_seen(there)
    is_whole = counts == BLOCK * BLOCK

    @no_type_check
    def mask(batch: Tensor, head: Tensor, query_at: Tensor, key_at: Tensor) -> Tensor:
        return there.sees(query_at, key_at)

    length = len(sight.own_from)
    return BlockMask.from_kv_blocks(
        *_listed((counts > 0) & ~is_whole),
        *_listed(is_whole),
        BLOCK_SIZE=BLOCK,
        mask_mod=mask,
        seq_lengths=(length, length),
    )


def _listed(squares: Bool[Tensor, " b b"]) -> tuple[Tensor, Tensor]:
    """Of each row of squares how many are True, and their columns, those first."""
    order = squares.to(torch.int8).argsort(dim=1, descending=True, stable=True)
    return squares.sum(1)[None, None].to(torch.int32), order[None, None].to(torch.int32)


@final
class RowMasks:
    """The masks of one row, by the window of the layer that asks; made once for all layers.

    Those of `windows` are there from the beginning: making one while layers are compiled would be compiled with them.
    """

    def __init__(self, spans: Sequence[Span], windows: Iterable[int | None], device: torch.device):
        self._spans = spans
        self._device = device
        self._masks = {window: block_mask(row_sight(spans, window), device) for window in windows}

    def of(self, window: int | None) -> Any:
        if window not in self._masks:
            self._masks[window] = block_mask(row_sight(self._spans, window), self._device)
        return self._masks[window]


def flex_attend(
    query: Float[Tensor, "1 h l d"],
    key: Float[Tensor, "1 g l d"],
    value: Float[Tensor, "1 g l e"],
    mask: Any,
    *,
    scale: float | None,
    softcap: float | None,
    sinks: Float[Tensor, " h"] | None = None,
) -> Float[Tensor, "1 h l e"]:
    """Attention of the whole row under `mask`, in the dtype of autocast where that is on."""
    device_type = query.device.type
    if torch.is_autocast_enabled(device_type):
        # Autocast leaves this call alone, and rotated queries and keys are wider than the values then.
        query, key, value = (part.to(torch.get_autocast_dtype(device_type)) for part in (query, key, value))
    num_sharing = query.shape[1] // key.shape[1]
    if num_sharing & (num_sharing - 1):  # not every version of the kernel takes other than powers of two
        key, value = (part.repeat_interleave(num_sharing, dim=1) for part in (key, value))
    score = None if softcap is None else _capped(_bound(softcap, query.device))
    options: dict[str, Any] = {"score_mod": score, "block_mask": mask, "scale": scale}
    options["enable_gqa"] = query.shape[1] != key.shape[1]
    # For rows below 128 torch has another kernel, which it cannot always build.
    options["kernel_options"] = {"FORCE_USE_FLEX_ATTENTION": True}
    if sinks is None:
        return _called(_flex(device_type), query, key, value, **options)
    both: Any = _called(_flex(device_type), query, key, value, **options, return_aux=_with_lse())
    attended, scores = both
    # Beside scores of e^lse in all, a sink of e^s leaves e^lse / (e^lse + e^s) of them.
    left = torch.sigmoid(scores.lse.float() - sinks.float()[None, :, None])
    return (attended * left[..., None]).to(attended.dtype)


def _called(kernel: Callable[..., Any], *given: Tensor, **options: Any) -> Any:
    """What `kernel` gives. torch 2.11 was seen to change the number of threads while it compiled in a process with 16,
    and to refuse that; the number that it has come to is there at the second call."""
    try:
        return kernel(*given, **options)
    except AssertionError as error:
        if "num_threads state changed" not in str(error):
            raise
        return kernel(*given, **options)


def _with_lse() -> Any:
    from torch.nn.attention.flex_attention import AuxRequest

    return AuxRequest(lse=True)


def _capped(bound: Tensor) -> Callable[..., Tensor]:
    """Scores bounded by tanh, as Gemma 2 has them."""

    @no_type_check
    def score(score: Tensor, batch: Tensor, head: Tensor, query_at: Tensor, key_at: Tensor) -> Tensor:
        return bound * torch.tanh(score / bound)

    return score


@cache
def _bound(softcap: float, device: torch.device) -> Tensor:
    """A tensor, since a number that differs between calls is one that torch 2.13 cannot compile here."""
    return torch.tensor(softcap, device=device)


def _flex(device_type: str) -> Callable[..., Tensor]:
    """FlexAttention compiled; as it is where a compiler is at work already, and on a CPU, for tests of its logic."""
    from torch.nn.attention.flex_attention import flex_attention

    return flex_attention if device_type == "cpu" or torch.compiler.is_compiling() else compiled_flex()


@cache
def compiled_flex(backend: str | Callable[..., Any] = "inductor") -> Callable[..., Tensor]:
    """FlexAttention as kernels: one set for capped scores, one for others, whatever the lengths of rows and windows.

    Where a length equals another number of the first call by chance, torch makes one set more.
    """
    from torch import _dynamo
    from torch.nn.attention.flex_attention import flex_attention

    limits: Any = _dynamo.config
    limits.recompile_limit = max(limits.recompile_limit, MOST_COMPILATIONS)
    # `fullgraph`: without it, what cannot be compiled would run unfused and hold every score, and say nothing.
    return torch.compile(flex_attention, dynamic=True, fullgraph=True, backend=backend)
