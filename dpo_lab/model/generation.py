"""Responses drawn from a model of transformers: from the model itself, whatever its generation config says."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor


@torch.no_grad()
def draw_responses(
    model: Any,
    prompts: Sequence[Sequence[int]],
    *,
    end_id: int,
    generator: torch.Generator,
    max_new_tokens: int,
    decoder_start: Sequence[int] = (),
    extra: Mapping[str, Tensor] | None = None,
    stop_ids: Sequence[int] = (),
) -> list[list[int]]:
    """One response a prompt, token ids up to and with `end_id`; temperature 1, nothing cut from the distribution.

    Mode and generation config of the model, and the global generators, come out of this unchanged.

    Args:
        decoder_start: what the decoder of an encoder-decoder model begins with; empty for a causal model.
        extra: what else the model reads of the prompts, such as pixels.
        stop_ids: further tokens behind which nothing can be said; a response that says one is left there.
    """
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    attention_mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for index, prompt in enumerate(prompts):
        # An encoder may count positions from the left; a causal model goes on at the right.
        at = slice(0, len(prompt)) if decoder_start else slice(width - len(prompt), width)
        input_ids[index, at] = torch.tensor(prompt)
        attention_mask[index, at] = 1
    given = {"input_ids": input_ids, "attention_mask": attention_mask, **(extra or {})}
    if decoder_start:
        given["decoder_input_ids"] = torch.tensor([list(decoder_start)] * len(prompts))
    num_before = len(decoder_start) or width
    seed = int(torch.randint(2**62, (1,), generator=generator))
    # generate draws from the global generators.
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        _sampling(model, [end_id, *stop_ids], max_new_tokens, decoder_start[0] if decoder_start else None),
    ):
        _seed_global(device, seed)
        output = model.generate(**{name: tensor.to(device) for name, tensor in given.items()})
    return [_until({end_id, *stop_ids}, row) for row in output[:, num_before:].tolist()]


@contextmanager
def _sampling(model: Any, end_ids: list[int], max_new_tokens: int, decoder_start_id: int | None) -> Iterator[None]:
    """Evaluation mode, and draws from the model itself; mode and generation config are put back.

    `generate` fills whatever it is not told from the model's generation_config.json: a repetition penalty, a
    temperature, banned tokens. So that config is exchanged as a whole.
    """
    from transformers import GenerationConfig

    was_training, own = model.training, model.generation_config
    model.eval()
    model.generation_config = GenerationConfig(
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        max_new_tokens=max_new_tokens,
        eos_token_id=end_ids,
        pad_token_id=end_ids[0],
        decoder_start_token_id=decoder_start_id,
    )
    try:
        yield
    finally:
        model.generation_config = own
        model.train(was_training)


def _until(end_ids: set[int], response: list[int]) -> list[int]:
    ends = [place for place, token in enumerate(response) if token in end_ids]
    return response[: ends[0] + 1] if ends else response


def _seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generator of `device` and no other."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
