import copy
import math
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.model.attention_choice import Attention
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.tiny import tiny
from dpo_lab.types import Encoded, Example, LogProbs
from tests.model.architectures import ARCHITECTURES

Folder = Callable[[str], Path]
every_architecture = pytest.mark.parametrize("name", ARCHITECTURES)

# Prompts of 3 and 9 tokens; responses of 2, 8, 1 and 4.
GROUPS = [
    Encoded((1, 20, 31), ((40, 2), (40, 41, 42, 43, 44, 45, 46, 2))),
    Encoded((1, 21, 22, 23, 24, 25, 26, 27, 28), ((2,), (50, 51, 0, 2))),
]
ROWS = [(list(group.prompt), list(response)) for group in GROUPS for response in group.responses]


@pytest.fixture
def policy(name: str, model_folder: Folder) -> CausalLM:
    return causal_lm(path=str(model_folder(name)))


@pytest.fixture
def padded(name: str, model_folder: Folder) -> CausalLM:
    """Row by row, whatever the model could do."""
    return causal_lm(path=str(model_folder(name)), attention="padded")


FLOAT32_ONLY = ("xglm", "mixtral", "gpt_oss")  # their attention mask and their product of experts know no float64


def token_by_token(policy: CausalLM) -> list[list[float]]:
    """One forward pass for every token of every response, on nothing but what stands before it; float64."""
    model = copy.deepcopy(policy.model).eval()
    if model.config.model_type not in FLOAT32_ONLY:
        model.double()
    found = []
    with torch.no_grad():
        for prompt, response in ROWS:
            before = [torch.tensor([prompt + response[:index]]) for index in range(len(response))]
            logits = [model(input_ids=ids, use_cache=False).logits[0, -1].double() for ids in before]
            found.append([(row[token] - row.logsumexp(-1)).item() for row, token in zip(logits, response, strict=True)])
    return found


def rows(log_prob: LogProbs) -> list[list[float]]:
    return [token[mask].tolist() for token, mask in zip(log_prob.token, log_prob.mask, strict=True)]


WAYS = [(name, way) for name in ARCHITECTURES for way in ("auto", "packed", "padded")]


# xglm has no attention interface: that "packed" is refused there is tested in test_grouped.py.
@pytest.mark.parametrize(("name", "attention"), [way for way in WAYS if way != ("xglm", "packed")])
def test_log_prob_is_that_of_a_naive_loop(name: str, attention: Attention, model_folder: Folder):
    """Of every response token, EOS included, and of no prompt token; however it is computed."""
    policy = causal_lm(path=str(model_folder(name)), attention=attention)
    log_prob = policy.log_prob(policy.collate(GROUPS))
    assert log_prob.token.dtype == torch.float32
    assert log_prob.mask.sum(1).tolist() == [2, 8, 1, 4]
    assert not log_prob.token[~log_prob.mask].any()
    expected = token_by_token(policy)
    assert min(map(min, expected)) < -7, "a model this flat would hide a wrong shift"
    for found, row in zip(rows(log_prob), expected, strict=True):
        assert found == pytest.approx(row, abs=2e-5)


@every_architecture
def test_neither_padding_nor_batch_mates_matter(policy: CausalLM):
    together = rows(policy.log_prob(policy.collate(GROUPS)))
    alone = [
        rows(policy.log_prob(policy.collate([Encoded(tuple(prompt), (tuple(response),))])))[0]
        for prompt, response in ROWS
    ]
    for first, second in zip(together, alone, strict=True):
        assert first == pytest.approx(second, abs=1e-5)


@every_architecture
def test_padding_does_not_matter(padded: CausalLM):
    narrow = rows(padded.log_prob(padded.collate(GROUPS)))
    wide = rows(padded.log_prob(pad(padded.collate(GROUPS), 7)))
    for first, second in zip(narrow, wide, strict=True):
        assert first == pytest.approx(second, abs=1e-5)


def pad(inputs: dict[str, Tensor], num_columns: int) -> dict[str, Tensor]:
    """More columns on the right, of another token than collate takes."""
    wider = dict(inputs)
    for name, value in (("input_ids", 9), ("attention_mask", 0)):
        wider[name] = torch.nn.functional.pad(inputs[name], (0, num_columns), value=value)
    return wider


def test_rows_begin_at_the_left():
    """There is no padding before a prompt that could move positions: also with a tokenizer that pads on the left."""
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260, attention="padded")
    policy.encoder.tokenizer.padding_side = "left"
    inputs = policy.collate(GROUPS)
    for row, (prompt, response) in enumerate(ROWS):
        num = len(prompt) + len(response)
        assert inputs["input_ids"][row, :num].tolist() == prompt + response
        assert inputs["attention_mask"][row].tolist() == [1] * num + [0] * (13 - num)


@every_architecture
def test_logits_of_the_prompt_are_never_read(padded: CausalLM):
    """Those at its last token decide the response's first; none before them counts, nor any behind the response."""
    policy, inputs = padded, padded.collate(GROUPS)
    before = policy.log_prob(inputs)
    column = torch.arange(inputs["input_ids"].shape[1])[None]
    start, length = inputs["response_start"][:, None], inputs["response_length"][:, None]
    is_read = (column >= start - 1) & (column < start + length - 1)

    def disturb(module: object, args: object, output: Tensor) -> Tensor:
        return torch.where(is_read[..., None], output, torch.randn_like(output) * 100)

    policy.model.get_output_embeddings().register_forward_hook(disturb)
    if "final_logit_softcapping" in policy.model.config.to_dict():
        assert policy.model.config.final_logit_softcapping  # acts behind the hook, on each logit by itself
    assert_close(policy.log_prob(inputs).token, before.token, atol=0, rtol=0)


@every_architecture
def test_decision_mask_is_known_without_the_model(policy: CausalLM):
    inputs = policy.collate(GROUPS)
    assert policy.decision_mask(inputs).tolist() == policy.log_prob(inputs).mask.tolist()


@pytest.mark.parametrize("group", [Encoded((), ((5, 2),)), Encoded((1, 5), ((5, 2), ()))])
def test_nothing_to_score_or_nothing_to_score_it_with_is_refused(group: Encoded):
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260)
    with pytest.raises(ValueError, match="need at least one token"):
        policy.collate([group])


def test_softmax_and_sums_are_float32_under_bfloat16(model_folder: Folder):
    """From the same bfloat16 logits as float64 makes of them; bfloat16 itself would be off by up to 2^-8 of a value."""
    policy = causal_lm(path=str(model_folder("llama")), attention="padded")
    seen = []
    policy.model.get_output_embeddings().register_forward_hook(lambda module, args, output: seen.append(output))
    inputs = policy.collate(GROUPS)
    with torch.autocast("cpu", torch.bfloat16):
        log_prob = policy.log_prob(inputs)
        sums = log_prob.sum()
    (logits,) = seen
    assert logits.dtype == torch.bfloat16
    assert log_prob.token.dtype == sums.dtype == torch.float32
    exact = logits.double().log_softmax(-1)
    for row, (prompt, response) in enumerate(ROWS):
        at = range(len(prompt) - 1, len(prompt) + len(response) - 1)
        expected = [exact[row, i, token].item() for i, token in zip(at, response, strict=True)]
        assert rows(log_prob)[row] == pytest.approx(expected, abs=2e-6)
        assert sums[row].item() == pytest.approx(math.fsum(expected), abs=1e-5)


def test_float64_weights_give_float64():
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260).double()
    assert policy.log_prob(policy.collate(GROUPS)).token.dtype == torch.float64


@every_architecture
def test_the_gradient_reaches_every_weight_that_is_used(policy: CausalLM):
    """Also in training mode, where two passes agree to the last bit: no noise is left on."""
    policy.train()
    inputs = policy.collate(GROUPS)
    first, second = policy.log_prob(inputs), policy.log_prob(inputs)
    assert_close(first.token, second.token, atol=0, rtol=0)
    first.sum().sum().backward()
    assert all(parameter.grad is not None for parameter in policy.parameters())


def test_encode_gives_what_collate_scores(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    (encoded,) = policy.encode([Example("the cat", (" sat", " did not"))])
    assert policy.log_prob(policy.collate([encoded])).mask.sum(1).tolist() == [len(r) for r in encoded.responses]
    assert policy.decode(encoded, encoded.responses[0]).strip() == "sat"
    assert encoded.responses[0][-1] == policy.end_id == 2


def test_chat_template_from_a_file(model_folder: Folder, tmp_path: Path):
    file = tmp_path / "template.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    path = str(model_folder("llama"))
    plain, given = causal_lm(path=path), causal_lm(path=path, chat_template=str(file))
    (encoded,) = given.encode([Example([{"role": "user", "content": "the cat"}], (" sat",))])
    assert encoded == plain.encode([Example("the cat", (" sat",))])[0]
    assert plain.encoding_fingerprint() != given.encoding_fingerprint()
    with pytest.raises(UserError, match=r"model\.chat_template: no file"):
        causal_lm(path=path, chat_template=str(tmp_path / "none.jinja"))


@pytest.mark.parametrize(("name", "expected"), [("llama", 64), ("gpt2", 64)])
def test_max_positions(policy: CausalLM, expected: int):
    assert policy.max_positions == expected
