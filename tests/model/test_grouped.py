"""Packed groups give the numbers of the plain pass: values and gradients, for every family, length and number of
responses."""

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor
from torch.nn.functional import logsigmoid
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.model import grouped_scoring
from dpo_lab.model.attention_choice import Attention, choose_attention, find_obstacle
from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.grouped_scoring import collate_groups, ungroup
from dpo_lab.model.tiny import tiny
from dpo_lab.reductions import log_collision, sequential_kl
from dpo_lab.types import Encoded
from tests.model.architectures import ARCHITECTURES
from tests.model.test_causal_lm import GROUPS

Folder = Callable[[str], Path]
GROUPED = [name for name in ARCHITECTURES if name != "xglm"]
# Three responses behind one prompt, a prompt of one token, responses of one token, a group of one.
LISTS = [*GROUPS, Encoded((7,), ((2,), (9, 2), (8, 8, 2))), Encoded((1, 9, 30, 31, 32), ((33, 2),))]


def gradients(policy: CausalLM, groups: Sequence[Encoded]) -> tuple[Tensor, dict[str, Tensor]]:
    """Log-probs of responses, and the gradient of a sum in which each has a weight of its own."""
    policy.zero_grad()
    sums = policy.log_prob(policy.collate(groups)).sum()
    (sums * torch.linspace(-1, 2, len(sums))).sum().backward()
    return sums.detach(), {name: p.grad for name, p in policy.named_parameters() if p.grad is not None}


def assert_same(policy: CausalLM, plain: CausalLM, groups: Sequence[Encoded]) -> None:
    """Log-probs to 1e-4 nats a response, a loss of them to 1e-5, gradients to 1e-5 of their norm."""
    (found, slopes), (expected, plain_slopes) = gradients(policy, groups), gradients(plain, groups)
    assert_close(found, expected, atol=1e-4, rtol=0)
    loss, plain_loss = (-logsigmoid(0.1 * (sums - sums.roll(1))).mean() for sums in (found, expected))
    assert_close(loss, plain_loss, atol=1e-5, rtol=0)
    assert slopes.keys() == plain_slopes.keys()
    size = torch.stack([slope.norm() for slope in plain_slopes.values()]).norm()
    gap = torch.stack([(slopes[name] - slope).norm() for name, slope in plain_slopes.items()]).norm()
    assert gap <= 1e-5 * size


@pytest.mark.parametrize("attention", ["shared", "packed"])
@pytest.mark.parametrize("name", GROUPED)
def test_values_and_gradients_are_those_of_the_plain_pass(name: str, attention: Attention, model_folder: Folder):
    path = str(model_folder(name))
    assert_same(causal_lm(path=path, attention=attention), causal_lm(path=path, attention="padded"), LISTS)


TOKENS = st.lists(st.integers(3, 59), min_size=1, max_size=9).map(tuple)
# Plain tuples: an `Encoded` checks its types by drawing, which a strategy may not.
GROUP = st.tuples(TOKENS, st.lists(TOKENS, min_size=1, max_size=4).map(tuple))
Lengths = list[tuple[tuple[int, ...], tuple[tuple[int, ...], ...]]]


def encoded(groups: Lengths) -> list[Encoded]:
    return [Encoded(*group) for group in groups]


@pytest.fixture(scope="module")
def both() -> tuple[CausalLM, CausalLM]:
    build = partial(tiny, ["a text"], 0, hidden_size=16, num_layers=2, num_heads=2, vocab_size=260)
    shared, padded = build(attention="shared"), build(attention="padded")
    for policy in (shared, padded):
        with torch.no_grad():  # far from uniform, so that what is wrong shows
            for parameter in policy.parameters():
                parameter.mul_(10 if parameter.ndim > 1 else 1)
    return shared, padded


@settings(max_examples=40)
@given(groups=st.lists(GROUP, min_size=1, max_size=4))
def test_any_lengths_and_numbers(groups: Lengths, both: tuple[CausalLM, CausalLM]):
    assert_same(*both, encoded(groups))


@pytest.mark.parametrize("is_shared", [True, False])
@given(groups=st.lists(GROUP, min_size=1, max_size=4))
def test_what_is_packed_is_read_back(groups: Lengths, is_shared: bool):
    alone = [Encoded(prompt, (response,)) for prompt, responses in groups for response in responses]
    assert ungroup(collate_groups(encoded(groups), is_shared=is_shared)) == alone


def test_the_row_by_hand():
    """Prompt 5 6, responses 7 8 9 and 7: one row 5 6 7 8, of which 6, 7, 8 decide 7, 8, 9, and 6 decides 7 again."""
    inputs = collate_groups([Encoded((5, 6), ((7, 8, 9), (7,)))], is_shared=True)
    assert inputs["input_ids"].tolist() == [[5, 6, 7, 8]]
    assert inputs["position_ids"].tolist() == [[0, 1, 2, 3]]
    assert inputs["spans"].tolist() == [[0, 2, 2, 2], [0, 2, 4, 0]]
    assert inputs["decided_at"].tolist() == [1, 2, 3, 1]
    assert inputs["target"].tolist() == [7, 8, 9, 7]
    apart = collate_groups([Encoded((5, 6), ((7, 8, 9), (7,)))], is_shared=False)
    assert apart["input_ids"].tolist() == [[5, 6, 7, 8, 5, 6]]
    assert apart["position_ids"].tolist() == [[0, 1, 2, 3, 0, 1]]


def test_logits_in_chunks_are_the_same(both: tuple[CausalLM, CausalLM], monkeypatch: pytest.MonkeyPatch):
    """Of five decisions at a time, and of one: values, gradients, and how many logits are ever held."""
    shared, padded = both
    for num in (5, 1):
        monkeypatch.setattr(grouped_scoring, "HEAD_BYTES", num * 4 * 260)
        shapes: list[int] = []
        hook = shared.model.get_output_embeddings().register_forward_hook(
            lambda module, args, output, shapes=shapes: shapes.append(output.shape[0])
        )
        assert_same(shared, padded, LISTS)
        hook.remove()
        assert max(shapes) == num
        assert sum(shapes) == 2 * 23  # each decision once, and once more in the backward pass


def test_distributions_in_chunks_reduce_to_the_same(both: tuple[CausalLM, CausalLM], monkeypatch: pytest.MonkeyPatch):
    """Collisions and divergence from another model: values, gradients, and how many logits are ever held."""
    shared, padded = both
    other = tiny(["a text"], 1, hidden_size=16, num_layers=2, num_heads=2, vocab_size=260)

    def reduced(policy: CausalLM) -> tuple[Tensor, Tensor, list[Tensor]]:
        policy.zero_grad()
        inputs = policy.collate(LISTS)
        _, choices = policy.log_prob_and_choices(inputs)
        collision, divergence = log_collision(choices), sequential_kl(other.log_prob_and_choices(inputs)[1], choices)
        (collision.sum() + divergence @ torch.linspace(-1, 2, len(divergence))).backward()
        return collision.detach(), divergence.detach(), [p.grad for p in policy.parameters() if p.grad is not None]

    whole = reduced(padded)
    monkeypatch.setattr(grouped_scoring, "HEAD_BYTES", 5 * 4 * 260)
    shapes: list[int] = []
    hook = shared.model.get_output_embeddings().register_forward_hook(
        lambda module, args, output: shapes.append(output.shape[0])
    )
    chunked = reduced(shared)
    hook.remove()
    assert max(shapes) == 5
    # Of 23 decisions: their own log-probs, which nothing here asks a gradient of, and two reductions there and back.
    assert sum(shapes) == 5 * 23
    assert_close(chunked[0], whole[0], atol=1e-5, rtol=0)
    assert_close(chunked[1], whole[1], atol=1e-4, rtol=0)
    size = torch.stack([slope.norm() for slope in whole[2]]).norm()
    gap = torch.stack([(slope - plain).norm() for slope, plain in zip(chunked[2], whole[2], strict=True)]).norm()
    assert gap <= 1e-5 * size


@pytest.mark.parametrize("name", ["llama", "gemma2"])
def test_whole_distributions_are_those_of_the_plain_pass(name: str, model_folder: Folder):
    path = str(model_folder(name))
    shared, padded = causal_lm(path=path), causal_lm(path=path, attention="padded")
    (first, found), (second, expected) = (
        policy.log_prob_and_distribution(policy.collate(LISTS)) for policy in (shared, padded)
    )
    assert_close(first.token, second.token, atol=2e-5, rtol=0)
    assert_close(found[first.mask], expected[first.mask], atol=2e-5, rtol=0)


def test_a_model_that_cannot_attend_by_group_takes_rows(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("xglm")))
    assert policy.attention == "padded"
    assert policy.attention_reason is not None and "XGLMForCausalLM" in policy.attention_reason
    with pytest.raises(UserError, match=r"model\.attention=shared: XGLMForCausalLM does not attend"):
        causal_lm(path=str(model_folder("xglm")), attention="shared")


def test_it_scores_what_another_policy_packed(model_folder: Folder):
    """As a reference of another kind beside a policy that packs."""
    other = causal_lm(path=str(model_folder("xglm")))
    packed = collate_groups(LISTS, is_shared=True)
    assert_close(other.log_prob(packed).sum(), other.log_prob(other.collate(LISTS)).sum(), atol=1e-5, rtol=0)


def test_with_dropout_each_response_has_its_own_prompt(model_folder: Folder):
    path = str(model_folder("llama"))
    policy = causal_lm(path=path, dropout=0.1)
    assert policy.attention == "packed"
    with pytest.raises(UserError, match=r"model\.attention=shared: dropout is on"):
        causal_lm(path=path, dropout=0.1, attention="shared")


def test_layers_of_another_kind_are_refused():
    """Whose state runs over the whole row, so that one response would hear the one before it."""
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260)
    policy.model.config.layer_types = ["linear_attention"]
    assert find_obstacle(policy.model) == "LlamaForCausalLM has layers of linear_attention"
    assert choose_attention(policy.model, "auto", dropout=0.0).attention == "padded"


def test_a_window_that_attention_does_not_name_is_refused():
    policy = tiny(["a text"], 0, hidden_size=8, num_layers=1, num_heads=2, vocab_size=260)
    policy.model.config.sliding_window = 4
    assert "sliding window" in str(find_obstacle(policy.model))


def test_a_model_that_mixes_responses_up_is_found_out(monkeypatch: pytest.MonkeyPatch):
    """Also with new weights of a standard deviation of 0.02, whose log-probs hardly listen to the prompt."""
    policy = tiny(["a text"], 0, hidden_size=32, num_layers=2, num_heads=2, vocab_size=260)
    whole = grouped_scoring.read_spans

    def mixed(spans: Tensor) -> object:
        (first, *_), last = whole(spans), whole(spans)[-1]
        return (type(first)(0, 1, 1, last.end - 1),)

    monkeypatch.setattr(grouped_scoring, "read_spans", mixed)
    assert "gives other log-probs by group" in str(find_obstacle(policy.model))


def test_generation_and_mode_are_left_as_they_were(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    before = policy.model.config._attn_implementation
    policy.train()
    policy.log_prob(policy.collate(GROUPS))
    assert find_obstacle(policy.model) is None
    assert policy.model.config._attn_implementation == before
    assert policy.model.training
    assert policy.sample([Encoded((1, 5), ())], generator=torch.Generator().manual_seed(0), max_new_tokens=3)
