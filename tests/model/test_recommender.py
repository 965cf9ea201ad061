"""Recommenders: one decision over the catalogue, a history once for all items, and what is no recommender."""

from pathlib import Path

import pytest
import torch
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.errors import UserError
from dpo_lab.model.recommender import recommender
from dpo_lab.model.small_recommender import small_recommender
from dpo_lab.types import Encoded, Example
from tests.model.policy_cases import CATALOGUE, random_recommender
from tests.model.policy_laws import assert_same, decisions
from tests.small import small_policy


def test_log_prob_is_the_softmax_of_plain_transformers():
    """Of the model as transformers loads it: at the history's last item, then behind each item of the response."""
    policy = random_recommender()
    group = Encoded((3, 20, 11), ((4,), (6, 7)))
    with torch.no_grad():
        first = policy.model(input_ids=torch.tensor([[3, 20, 11]])).logits[0, -1].log_softmax(-1)
        second = policy.model(input_ids=torch.tensor([[3, 20, 11, 6]])).logits[0, -1].log_softmax(-1)
    expected = [[first[4].item()], [first[6].item(), second[7].item()]]
    assert_same(decisions(policy, [group]), expected)
    assert first.shape == (len(CATALOGUE),), "nothing but items can be said"


def test_a_history_is_read_once_and_a_place_scored_once():
    """Five items of one history are one line and one softmax; a stretch is one line and as many softmaxes as items."""
    policy = random_recommender()
    inputs = policy.collate([Encoded((1, 2, 3), tuple((item,) for item in range(5))), Encoded((7,), ((8, 9, 10),))])
    assert inputs["input_ids"].tolist() == [[1, 2, 3], [7, 8, 9]]
    assert inputs["places"].tolist() == [[0, 2], [1, 0], [1, 1], [1, 2]]
    assert inputs["place_of"].tolist() == [0] * 5 + [1, 2, 3]
    assert inputs["target"].tolist() == [0, 1, 2, 3, 4, 8, 9, 10]


def test_a_stretch_is_the_sum_of_its_next_items():
    """log p(b c | a) = log p(b | a) + log p(c | a b): what a supervised stage goes through in one pass."""
    policy = random_recommender()
    whole = decisions(policy, [Encoded((1,), ((2, 3, 4),))])[0]
    each = [decisions(policy, [Encoded(tuple(range(1, end)), ((end,),))])[0][0] for end in (2, 3, 4)]
    assert whole == pytest.approx(each, abs=1e-5)


def test_encode():
    policy = random_recommender()
    (encoded,) = policy.encode([Example("film-3 film-0  film-7", ("film-2", "film-1 film-9"))])
    assert encoded == Encoded((3, 0, 7), ((2,), (1, 9)))
    assert policy.decode_prompt(encoded) == "film-3 film-0 film-7"
    assert policy.decode(encoded, (1, 9)) == "film-1 film-9"
    assert policy.end_id is None and policy.max_positions == 16


def test_what_is_not_in_the_catalogue_is_refused():
    policy = random_recommender()
    with pytest.raises(UserError, match=r"user 7 item 2: 'film-99' is not in the model's catalogue of 30 items"):
        policy.encode([Example("film-1 film-99", ("film-2",), source="user 7 item 2")])
    with pytest.raises(UserError, match="ids of items"):
        policy.encode([Example([{"role": "user", "content": "film-1"}], ("film-2",), source="row 1")])


def test_next_item_log_probs_are_a_distribution():
    policy = random_recommender()
    histories = [Encoded((1, 2), ()), Encoded((3,), ()), Encoded((1, 2), ())]
    scores = policy.next_item_log_probs(histories)
    assert_close(scores.exp().sum(1), torch.ones(3))
    assert_close(scores[0], scores[2])
    assert scores[1, 9].item() == pytest.approx(decisions(policy, [Encoded((3,), ((9,),))])[0][0], abs=1e-5)


def test_items_are_hidden_while_training_alone():
    """A hidden item reads as zeros, so what stood there does not matter; its place does, and so do the others."""
    plain, noisy = random_recommender(), random_recommender()
    noisy.item_dropout = 0.5
    inputs = plain.collate([Encoded((1, 2, 3, 4, 5, 6), ((7,),))])
    assert torch.equal(noisy.log_prob(inputs).token, plain.log_prob(inputs).token)
    noisy.train()
    torch.manual_seed(0)
    is_hidden = (noisy._read_items(inputs)["inputs_embeds"][0] == 0).all(1)
    assert 0 < is_hidden.sum() < 6

    def with_other(place: int) -> Tensor:
        other = {**inputs, "input_ids": inputs["input_ids"].clone()}
        other["input_ids"][0, place] = 9
        torch.manual_seed(0)
        return noisy.log_prob(other).token

    torch.manual_seed(0)
    found = noisy.log_prob(inputs).token
    assert [torch.equal(with_other(place), found) for place in range(6)] == is_hidden.tolist()


def test_transformers_loads_what_is_exported(tmp_path: Path):
    from transformers import AutoModelForCausalLM, AutoTokenizer

    policy = random_recommender()
    policy.export(tmp_path / "model")
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "model").eval()
    ids = AutoTokenizer.from_pretrained(tmp_path / "model")("film-3 film-20", return_tensors="pt")["input_ids"]
    assert ids.tolist() == [[3, 20]]
    assert_close(
        model(input_ids=ids).logits[0, -1].log_softmax(-1), policy.next_item_log_probs([Encoded((3, 20), ())])[0]
    )


def test_another_catalogue_is_no_reference(tmp_path: Path):
    small_recommender(CATALOGUE[:-1], 0, hidden_size=16).export(tmp_path / "model")
    with pytest.raises(UserError, match="another tokenizer"):
        random_recommender().load_other(str(tmp_path / "model"))


def test_a_language_model_is_no_recommender(tmp_path: Path):
    small_policy().export(tmp_path / "model")
    with pytest.raises(UserError, match="each of its 300 outputs must be an item"):
        recommender(path=str(tmp_path / "model"))


def test_data_without_a_catalogue_is_refused():
    with pytest.raises(UserError, match="data with a catalogue"):
        small_recommender(None, 0)
    with pytest.raises(UserError, match=r"not a multiple of model\.num_heads"):
        small_recommender(CATALOGUE, 0, hidden_size=15)


@pytest.mark.parametrize("group", [Encoded((), ((1,),)), Encoded((1,), ((),))])
def test_nothing_to_score_is_refused(group: Encoded):
    with pytest.raises(ValueError, match="at least one item"):
        random_recommender().collate([group])
