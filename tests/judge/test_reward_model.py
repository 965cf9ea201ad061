"""A reward model as a judge, against what transformers gives text by text."""

import json
from pathlib import Path

import pytest
import torch

from dpo_lab.contest import Contest
from dpo_lab.errors import UserError
from dpo_lab.judge.reward_model import reward_model
from dpo_lab.types import Message, Text
from tests.model.encoders import write_encoder

CONTESTS = [
    Contest("who sold the share ?", "the bank .", "the old coach of the team left in march", ""),
    Contest("a new level", "the goal", "the goal", ""),
    Contest("the stock", "of the bank", "is out", ""),
]
TEMPLATE = "{% for turn in messages %}{{ turn.role }} {{ turn.content }} {% endfor %}"


def write_reward_model(folder: Path, name: str = "bert", **tokenizer_knobs: object) -> Path:
    write_encoder(folder, name, "AutoModelForSequenceClassification", classes=("good",))
    if tokenizer_knobs:
        file = folder / "tokenizer_config.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), **tokenizer_knobs}))
    return folder


def alone(folder: Path, *texts: str, **ways: object) -> float:
    """The output of the model for one text or pair, by itself."""
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    model, tokenizer = (kind.from_pretrained(folder) for kind in (AutoModelForSequenceClassification, AutoTokenizer))
    with torch.no_grad():
        return float(model.eval()(**tokenizer(*texts, return_tensors="pt", **ways)).logits[0, 0])


@pytest.mark.parametrize("name", ["bert", "roberta", "gpt2"])
def test_rewards_are_those_of_each_text_alone(name: str, tmp_path: Path):
    """Pairs of texts with their segments, padded or one by one; two equal responses are a tie to the bit."""
    folder = write_reward_model(tmp_path / "model", name)
    judge = reward_model(path=str(folder))
    judge.check(print)
    judged = judge.compare(CONTESTS, lambda line: None)
    for contest, one in zip(CONTESTS, judged, strict=True):
        for response, role in ((contest.first, "reward"), (contest.second, "opponent_reward")):
            assert one.details[role] == pytest.approx(alone(folder, str(contest.prompt), response), abs=1e-5)
        own, other = one.details["reward"], one.details["opponent_reward"]
        assert one.score == (0.5 if own == other else float(own > other))
    assert judged[1].score == 0.5
    swapped = judge.compare([one._replace(first=one.second, second=one.first) for one in CONTESTS], lambda line: None)
    assert [one.score for one in swapped] == [1 - (one.score or 0.0) for one in judged]
    described = judge.describe()
    assert len(described["weights"]) == 64 and described["num_texts_cut"] == 0


def test_a_chat_goes_through_the_template_of_the_reward_model(tmp_path: Path):
    folder = write_reward_model(tmp_path / "model", chat_template=TEMPLATE)
    chat: Text = [Message(role="user", content="who sold ?")]
    judged = reward_model(path=str(folder)).compare([Contest(chat, "the bank", "a share", "")], lambda line: None)
    text = "user who sold ? assistant the bank "
    assert judged[0].details["reward"] == pytest.approx(alone(folder, text, add_special_tokens=False), abs=1e-5)
    plain = reward_model(path=str(folder)).compare([Contest("who sold ?", "the bank", "x", "")], lambda line: None)
    assert plain[0].details["reward"] == pytest.approx(judged[0].details["reward"], abs=1e-6)


def test_a_long_prompt_loses_its_beginning(tmp_path: Path):
    folder = write_reward_model(tmp_path / "model")
    judge = reward_model(path=str(folder), max_length=20)
    lines: list[str] = []
    long = Contest("the old coach left the team " * 20 + "in march", "the bank", "a share", "")
    judged = judge.compare([long, CONTESTS[2]], lines.append)
    assert judge.describe()["num_texts_cut"] == 2 and "2 texts are longer" in lines[-1]
    assert judged[1].details["reward"] == pytest.approx(alone(folder, "the stock", "of the bank"), abs=1e-5)


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"id2label": {"0": "bad", "1": "good"}}, "has 2 outputs, and a reward model has one"),
        ({"model_type": "nothing"}, "cannot be loaded as a reward model"),
    ],
)
def test_what_is_no_reward_model_is_told_before_it_is_loaded(change: dict, said: str, tmp_path: Path):
    folder = write_reward_model(tmp_path / "model")
    config = json.loads((folder / "config.json").read_text()) | change
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(UserError, match=said):
        reward_model(path=str(folder)).check(print)
    with pytest.raises(UserError, match="there is no such folder"):
        reward_model(path=str(tmp_path / "nowhere")).check(print)
    (folder / "model.safetensors").write_bytes(b"half")
    with pytest.raises(UserError, match="is no whole safetensors file"):
        reward_model(path=str(folder)).check(print)


def test_a_base_model_without_the_head_is_refused(tmp_path: Path):
    """Its reward would be drawn at random."""
    write_encoder(tmp_path / "base", "bert", "AutoModel", classes=("good",))
    with pytest.raises(UserError, match="lacks weights of the model, which would be random"):
        reward_model(path=str(tmp_path / "base")).compare(CONTESTS, lambda line: None)


def test_chats_without_a_template_are_refused(tmp_path: Path):
    folder = write_reward_model(tmp_path / "model")
    chat = Contest([Message(role="user", content="who ?")], "a", "b", "")
    with pytest.raises(UserError, match="has no chat template"):
        reward_model(path=str(folder)).compare([chat], lambda line: None)
