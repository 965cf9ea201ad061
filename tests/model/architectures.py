"""Random models of the kinds that differ in how they see positions, windows and noise; a few thousand weights each."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.model.tokenizers import SIZE, gpt2_like, llama_like

COMMON: dict[str, Any] = {
    "vocab_size": SIZE,
    "hidden_size": 16,
    "intermediate_size": 24,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "max_position_embeddings": 64,
    "initializer_range": 0.4,  # far from uniform, so that what is wrong shows
    "bos_token_id": 1,
    "eos_token_id": 2,
}


def llama() -> Any:
    from transformers import LlamaConfig

    return LlamaConfig(**COMMON, attention_dropout=0.1, tie_word_embeddings=True)


def qwen3() -> Any:
    from transformers import Qwen3Config

    return Qwen3Config(**COMMON, head_dim=8)


def gemma2() -> Any:
    """A window of 4 tokens in every other layer, capped logits."""
    from transformers import Gemma2Config

    return Gemma2Config(**COMMON, head_dim=8, sliding_window=4)


def qwen2() -> Any:
    from transformers import Qwen2Config

    return Qwen2Config(**COMMON)


def mistral() -> Any:
    """A window of 4 tokens in every layer."""
    from transformers import MistralConfig

    return MistralConfig(**COMMON, head_dim=8, sliding_window=4)


def gemma() -> Any:
    from transformers import GemmaConfig

    return GemmaConfig(**COMMON, head_dim=8)


def cohere() -> Any:
    """Logits times a number."""
    from transformers import CohereConfig

    return CohereConfig(**COMMON, logit_scale=2.0)


def granite() -> Any:
    """Logits by a number, and scores of attention times another."""
    from transformers import GraniteConfig

    return GraniteConfig(**COMMON, logits_scaling=0.5, attention_multiplier=0.2, residual_multiplier=0.5)


def gpt_oss() -> Any:
    """Sinks beside the scores of attention; a window of 4 tokens in every other layer; experts."""
    from transformers import GptOssConfig

    return GptOssConfig(**COMMON, head_dim=8, sliding_window=4, num_local_experts=2, num_experts_per_tok=1)


def gpt2() -> Any:
    """Absolute positions from 0; four rates of dropout, 0.1 each."""
    from transformers import GPT2Config

    sizes: dict[str, Any] = {"vocab_size": SIZE, "n_embd": 16, "n_layer": 2, "n_head": 2, "n_positions": 64}
    return GPT2Config(**sizes, initializer_range=0.4, bos_token_id=0, eos_token_id=0)


def xglm() -> Any:
    """Absolute positions from 2; leaves out every other layer while it trains."""
    from transformers import XGLMConfig

    sizes: dict[str, Any] = {"vocab_size": SIZE, "d_model": 16, "ffn_dim": 24, "num_layers": 2, "attention_heads": 2}
    return XGLMConfig(**sizes, max_position_embeddings=64, init_std=0.4, layerdrop=0.5, bos_token_id=1, eos_token_id=2)


def mixtral() -> Any:
    """Experts, stored one by one and held together; a router with noise while it trains."""
    from transformers import MixtralConfig

    return MixtralConfig(**COMMON, num_local_experts=2, router_jitter_noise=0.3)


ARCHITECTURES: dict[str, Callable[[], Any]] = {
    "llama": llama,
    "qwen3": qwen3,
    "gemma2": gemma2,
    "qwen2": qwen2,
    "mistral": mistral,
    "gemma": gemma,
    "cohere": cohere,
    "granite": granite,
    "gpt_oss": gpt_oss,
    "gpt2": gpt2,
    "xglm": xglm,
    "mixtral": mixtral,
}


def write_model(folder: Path, name: str, dtype: torch.dtype = torch.float32) -> Path:
    """Save a random model of this kind with its tokenizer, as transformers does."""
    from transformers.utils.logging import disable_progress_bar

    disable_progress_bar()
    model, tokenizer = random_model(name)
    model.to(dtype).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


def random_model(name: str, *, vocab_size: int = SIZE) -> tuple[Any, Any]:
    """A model of this kind in evaluation mode, and a tokenizer, which may know more tokens than the model."""
    from transformers import AutoModelForCausalLM

    config = ARCHITECTURES[name]()
    config.vocab_size = vocab_size
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = AutoModelForCausalLM.from_config(config, dtype=torch.float32)
    return model.eval(), gpt2_like() if name == "gpt2" else llama_like("first")
