"""Encoder-decoder policies against transformers' own forward pass with labels, and how both ends are written."""

import copy
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.model.seq2seq import seq2seq
from dpo_lab.model.seq2seq_policy import Seq2SeqLM
from dpo_lab.types import Encoded, Example
from tests.model.policy_laws import assert_same, decisions
from tests.model.seq2seq_models import MODELS, write_seq2seq
from tests.model.t5_by_hand import t5_log_probs

Folder = Callable[[str], Path]
EXAMPLES = [
    Example("the cat sat", (" on the mat", " did not!")),
    Example("a short answer is helpful. what is 12 + 34?", ("helpful", "a helpful answer is short.", "so")),
]
every_model = pytest.mark.parametrize("name", MODELS)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    return cache(lambda name: write_seq2seq(tmp_path_factory.mktemp(name), name))


def load(folder: Path, **knobs: Any) -> Seq2SeqLM:
    return seq2seq(path=str(folder), **knobs)


def around(policy: Seq2SeqLM) -> Seq2SeqLM:
    """A new policy around the same model."""
    return Seq2SeqLM(policy.model, policy.tokenizer, dtype="float32", dropout=0.0, exported_dropout={})


@every_model
def test_log_prob_is_that_of_labels(name: str, folder: Folder):
    """Of plain transformers, response by response in float64: its own shift, its own start token.

    BART's labels begin with the BOS that its tokenizer writes; that one is said for it, so it is no decision.
    """
    policy = load(folder(name)).eval()
    tokenizer, model = policy.tokenizer, copy.deepcopy(policy.model).double()
    expected = []
    with torch.no_grad():
        for example in EXAMPLES:
            read = tokenizer(example.prompt, return_tensors="pt")
            for response in example.responses:
                labels = tokenizer(text_target=response, return_tensors="pt")["input_ids"]
                said = model(input_ids=read["input_ids"], labels=labels).logits.log_softmax(-1)
                row = said.gather(-1, labels[..., None])[0, :, 0].tolist()
                expected.append(row[1:] if name == "bart" else row)
    assert_same(decisions(policy, policy.encode(EXAMPLES)), expected)


def test_log_prob_is_what_the_weights_come_to(folder: Folder):
    """T5 written out (`tests.model.t5_by_hand`), prompts of unlike lengths in one batch."""
    policy = load(folder("t5")).eval()
    weights = {name: tensor.double() for name, tensor in policy.model.state_dict().items()}
    groups = [Encoded((20, 31, 1), ((40, 1), (40, 41, 42, 43, 1))), Encoded((21, 22, 23, 24, 25, 1), ((50, 51, 1),))]
    by_hand = [
        t5_log_probs(weights, list(group.prompt), list(response), num_heads=2, start=0)
        for group in groups
        for response in group.responses
    ]
    assert_same(decisions(policy, groups), by_hand)


def test_the_loss_of_transformers_is_minus_the_mean(folder: Folder):
    policy = load(folder("t5")).eval()
    (encoded,) = policy.encode(EXAMPLES[:1])
    labels = torch.tensor([list(encoded.responses[0])])
    loss = policy.model(input_ids=torch.tensor([list(encoded.prompt)]), labels=labels).loss
    log_probs = policy.log_prob(policy.collate([encoded]))
    assert_close(-log_probs.mean()[0], loss, atol=1e-5, rtol=0)


def test_both_ends_of_t5(folder: Folder):
    """EOS (1) behind the prompt and behind each response; the decoder begins with padding (0)."""
    policy = load(folder("t5"))
    (encoded,) = policy.encode(EXAMPLES[:1])
    assert policy.decoder_start == (0,)
    assert (encoded.prompt[-1], encoded.prompt.count(1), encoded.num_head, encoded.num_tail) == (1, 1, 0, 1)
    assert all(response[-1] == 1 and response.count(1) == 1 for response in encoded.responses)
    inputs = policy.collate([encoded])
    assert inputs["decoder_input_ids"][:, 0].tolist() == [0, 0]
    assert inputs["input_ids"].tolist() == [list(encoded.prompt)], "a prompt stands there once"


def test_both_ends_of_bart(folder: Folder):
    """BOS (0) and EOS (2) around the prompt; the decoder begins with EOS and the BOS that no model has to choose."""
    policy = load(folder("bart"))
    (encoded,) = policy.encode(EXAMPLES[:1])
    assert policy.decoder_start == (2, 0)
    assert (encoded.prompt[0], encoded.prompt[-1], encoded.num_head, encoded.num_tail) == (0, 2, 1, 1)
    assert all(response[-1] == 2 and 0 not in response for response in encoded.responses)
    assert policy.collate([encoded])["decoder_input_ids"][:, :2].tolist() == [[2, 0], [2, 0]]
    assert policy.decode(encoded, encoded.responses[0]) == " on the mat"
    assert policy.decode_prompt(encoded) == "the cat sat"


def test_what_generation_forces_is_no_decision(folder: Folder):
    """A language code, say: the forced first token takes the place of what the tokenizer writes."""
    policy = load(folder("bart"))
    policy.model.generation_config.forced_bos_token_id = 9
    assert around(policy).decoder_start == (2, 9)


def test_a_model_that_does_not_say_how_to_begin_is_refused(folder: Folder):
    policy = load(folder("t5"))
    policy.model.config.decoder_start_token_id = policy.model.generation_config.decoder_start_token_id = None
    with pytest.raises(UserError, match="decoder_start_token_id"):
        around(policy)


def test_special_tokens_in_a_text_stand_once(folder: Folder):
    """A template, or a text, that wrote them already."""
    policy = load(folder("bart"))
    plain, written = policy.encode([Example("the cat", ("sat",)), Example("<s>the cat</s>", ("sat</s>",))])
    assert plain == written


def test_a_chat_needs_a_template(folder: Folder, tmp_path: Path):
    chat = Example([{"role": "user", "content": "the cat"}], (" sat",), source="pairs.jsonl row 1")
    with pytest.raises(UserError, match=r"pairs.jsonl row 1: .* model.chat_template=FILE"):
        load(folder("t5")).encode([chat])
    file = tmp_path / "template.jinja"
    file.write_text("{% for m in messages %}{{ m['content'] }}{% endfor %}")
    policy = load(folder("t5"), chat_template=str(file))
    assert policy.encode([chat]) == policy.encode([Example("the cat", (" sat",))])


def test_dropout_is_not_shared_by_the_responses_of_a_prompt(folder: Folder):
    """Each has its prompt encoded for itself; at rest the numbers are those without dropout."""
    policy, still = load(folder("bart"), dropout=0.3), load(folder("bart"))
    encoded = policy.encode([Example("the cat sat", (" on the mat", " on the mat"))])
    inputs = policy.collate(encoded)
    assert inputs["input_ids"].shape[0] == 2
    first, second = policy.train().log_prob(inputs).sum().tolist()
    assert abs(first - second) > 1e-3
    assert_same(decisions(policy.eval(), encoded), decisions(still.eval(), encoded))


def test_max_positions(folder: Folder):
    assert load(folder("t5")).max_positions is None
    assert load(folder("bart")).max_positions == 64


def test_gradient_checkpointing_gives_the_same_gradient(folder: Folder):
    gradients = []
    for recompute in (False, True):
        policy = load(folder("t5"), gradient_checkpointing=recompute).train()
        policy.log_prob(policy.collate(policy.encode(EXAMPLES))).sum().sum().backward()
        gradients.append({name: tensor.grad for name, tensor in policy.named_parameters()})
    for name, gradient in gradients[0].items():
        assert_close(gradients[1][name], gradient, atol=1e-4, rtol=1e-3)


def test_a_reference_with_another_tokenizer_is_refused(folder: Folder):
    with pytest.raises(UserError, match="another tokenizer"):
        load(folder("t5")).load_other(str(folder("bart")))


def test_a_causal_model_is_no_seq2seq(model_folder: Folder):
    with pytest.raises(UserError, match="cannot be loaded as a sequence-to-sequence model"):
        load(model_folder("llama"))


def test_softmax_is_float32_under_bfloat16(folder: Folder):
    policy = load(folder("t5")).eval()
    inputs = policy.collate(policy.encode(EXAMPLES))
    with torch.autocast("cpu", torch.bfloat16):
        log_probs = policy.log_prob(inputs)
    assert log_probs.token.dtype == torch.float32
    assert_close(log_probs.sum(), policy.log_prob(inputs).sum(), atol=1, rtol=0.05)


def test_every_prompt_is_encoded_once(folder: Folder):
    policy = load(folder("t5")).eval()
    seen: list[int] = []
    policy.model.get_encoder().register_forward_hook(lambda module, args, output: seen.append(len(output[0])))
    policy.log_prob(policy.collate(policy.encode(EXAMPLES)))
    assert seen == [2]


def test_nothing_to_score_is_refused(folder: Folder):
    with pytest.raises(ValueError, match="at least one token"):
        load(folder("t5")).collate([Encoded((5, 1), ((),))])
