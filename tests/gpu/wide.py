"""Random models as those of `tests.model.architectures`, with heads as wide as the kernels of a GPU want them."""

from pathlib import Path
from typing import Any

import torch

from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from tests.model.architectures import ARCHITECTURES
from tests.model.tokenizers import gpt2_like, llama_like

WIDE = {
    "hidden_size": 64,
    "intermediate_size": 96,
    "head_dim": 32,
    "initializer_range": 0.2,
    "max_position_embeddings": 2048,
}


def write_wide_model(folder: Path, name: str) -> Path:
    """Save a random model of this kind, two heads of 32, with its tokenizer."""
    from transformers import AutoModelForCausalLM
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    config: Any = ARCHITECTURES[name]()
    for key, value in WIDE.items():
        if hasattr(config, key):
            setattr(config, key, value)
    if getattr(config, "sliding_window", None):
        config.sliding_window = 150  # more than a square of the kernel, less than the rows
    torch.manual_seed(0)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    (gpt2_like() if name == "gpt2" else llama_like("first")).save_pretrained(folder)
    return folder


def on_gpu(folder: Path, attention: Attention, **knobs: Any) -> CausalLM:
    """The saved model as a policy on the device."""
    policy = causal_lm(path=str(folder), attention=attention, **knobs)
    return policy.to("cuda")
