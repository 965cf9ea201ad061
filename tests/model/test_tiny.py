import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.errors import UserError
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.tiny import tiny, train_tokenizer
from dpo_lab.types import Example

CORPUS = ["the cat sat on the mat", "the dog did not", "hello world, hello there", "naïve café ☕"]
SIZES: dict[str, Any] = {"hidden_size": 16, "num_layers": 1, "num_heads": 2, "vocab_size": 300}
SCRIPT = f"""
from dpo_lab.model.tiny import tiny
policy = tiny({CORPUS!r}, 5, **{SIZES!r})
print(policy.fingerprint(), policy.encoding_fingerprint())
"""


def build(seed: int = 5, **changed: int) -> CausalLM:
    sizes: dict[str, Any] = SIZES | changed
    return tiny(CORPUS, seed, **sizes)


def test_another_process_builds_the_same(root: Path):
    environment = os.environ | {"PYTHONHASHSEED": "1", "PYTHONPATH": str(root)}
    done = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, check=True)
    policy = build()
    assert done.stdout.split() == [policy.fingerprint(), policy.encoding_fingerprint()]


def test_the_seed_draws_the_weights_and_the_corpus_the_tokens():
    one, other = build(), build(seed=6)
    assert one.fingerprint() != other.fingerprint()
    assert one.encoding_fingerprint() == other.encoding_fingerprint()
    assert tiny(["other words"], 5, **SIZES).encoding_fingerprint() != one.encoding_fingerprint()


def test_the_global_generator_is_left_alone():
    before = torch.get_rng_state()
    build()
    assert torch.equal(torch.get_rng_state(), before)


@pytest.mark.parametrize("text", ["the cat", "never seen", "é☕ 漢字 🙂", "\t\n  spaces  \n", "\x00\x7f"])
def test_any_text_can_be_encoded(text: str):
    policy = build()
    (encoded,) = policy.encode([Example(text, (text,))])
    assert encoded.num_head == 1
    assert policy.encoder.tokenizer.decode(encoded.prompt[1:] + encoded.responses[0][:-1]) == text * 2
    assert policy.decode(encoded, encoded.responses[0]) == text


def test_an_export_encodes_and_scores_the_same(tmp_path: Path):
    policy = build()
    policy.export(tmp_path)
    other = causal_lm(path=str(tmp_path))
    examples = [Example("the cat", (" sat", " did not"))]
    chat = [Example([{"role": "user", "content": "hello"}], ("world",))]
    assert other.encode(examples) == policy.encode(examples)
    assert other.encode(chat) == policy.encode(chat)
    assert other.fingerprint() == policy.fingerprint()
    assert json.loads((tmp_path / "config.json").read_text())["attention_dropout"] == 0.0
    with torch.no_grad():
        inputs = policy.collate(policy.encode(examples))
        assert torch.equal(policy.log_prob(inputs).token, other.log_prob(inputs).token)


def test_plain_tokenization_begins_with_bos():
    """So that who samples from the exported model begins as training did."""
    tokenizer = train_tokenizer(CORPUS, 300)
    assert tokenizer("the cat")["input_ids"][0] == tokenizer.bos_token_id


def test_small_and_as_configured():
    config = build(num_layers=3, max_positions=77).model.config
    assert (config.num_hidden_layers, config.hidden_size, config.num_attention_heads) == (3, 16, 2)
    assert build(max_positions=77).max_positions == 77
    default = tiny(CORPUS, 0)
    assert sum(parameter.numel() for parameter in default.parameters()) < 1_000_000


def test_dropout_and_dtype():
    policy = tiny(CORPUS, 5, **SIZES, dtype="bfloat16", dropout=0.2)
    assert {parameter.dtype for parameter in policy.parameters()} == {torch.bfloat16}
    assert policy.model.config.attention_dropout == 0.2
    assert build().model.config.attention_dropout == 0


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"hidden_size": 18}, r"model\.hidden_size: 18 is not a multiple of 2 \* model\.num_heads = 4"),
        ({"vocab_size": 258}, r"model\.vocab_size: 258 is too small; .* need 259"),
    ],
)
def test_sizes_that_do_not_fit(changed: dict[str, int], message: str):
    with pytest.raises(UserError, match=message):
        build(**changed)
