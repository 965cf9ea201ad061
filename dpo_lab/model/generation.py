"""Responses drawn from a causal model of transformers: from the model itself, whatever its generation config says."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch


@torch.no_grad()
def draw_responses(
    model: Any, prompts: Sequence[Sequence[int]], *, end_id: int, generator: torch.Generator, max_new_tokens: int
) -> list[list[int]]:
    """One response a prompt, token ids up to and with `end_id`; temperature 1, nothing cut from the distribution.

    Mode and generation config of the model, and the global generators, come out of this unchanged.
    """
    device = model.device
    width = max(len(prompt) for prompt in prompts)
    input_ids = torch.zeros(len(prompts), width, dtype=torch.long)
    attention_mask = torch.zeros(len(prompts), width, dtype=torch.long)
    for index, prompt in enumerate(prompts):
        input_ids[index, width - len(prompt) :] = torch.tensor(prompt)
        attention_mask[index, width - len(prompt) :] = 1
    seed = int(torch.randint(2**62, (1,), generator=generator))
    # generate draws from the global generators.
    with (
        torch.random.fork_rng(devices=[device] if device.type == "cuda" else []),
        _sampling(model, end_id, max_new_tokens),
    ):
        _seed_global(device, seed)
        output = model.generate(input_ids=input_ids.to(device), attention_mask=attention_mask.to(device))
    return [_until(end_id, row) for row in output[:, width:].tolist()]


@contextmanager
def _sampling(model: Any, end_id: int, max_new_tokens: int) -> Iterator[None]:
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
        eos_token_id=end_id,
        pad_token_id=end_id,
    )
    try:
        yield
    finally:
        model.generation_config = own
        model.train(was_training)


def _until(end_id: int, response: list[int]) -> list[int]:
    return response[: response.index(end_id) + 1] if end_id in response else response


def _seed_global(device: torch.device, seed: int) -> None:
    """Seed the global generator of `device` and no other."""
    if device.type == "cuda":
        with torch.cuda.device(device):
            torch.cuda.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)
