"""A class is one decision: the laws of a policy, and the plain model of transformers as the specification."""

import json
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch.testing import assert_close
from transformers import AutoModelForSequenceClassification, AutoTokenizer

from dpo_lab.errors import UserError
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.classifier import classifier
from dpo_lab.model.token_noise import hidden_spans
from dpo_lab.types import Encoded, Example
from tests.model.encoders import CLASSES, ENCODERS, TEXTS, write_encoder

Folder = Callable[[str], Path]
every_encoder = pytest.mark.parametrize("name", ENCODERS)
EXAMPLES = [
    Example(TEXTS[0], ("sport", "money", "games"), source="row 1"),
    Example("the share", ("games",), source="row 2"),
    Example(TEXTS[1], ("money", "sport"), source="row 3"),
]


@pytest.fixture(scope="session")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    @cache
    def write(name: str) -> Path:
        return write_encoder(tmp_path_factory.mktemp(name), name, "AutoModelForSequenceClassification")

    return write


def build(folder: Path, **knobs) -> Classifier:
    return classifier(CLASSES, path=str(folder), **knobs).eval()


@every_encoder
def test_log_prob_is_that_of_plain_transformers(name: str, folder_of: Folder):
    """Each text alone through the saved model, without padding; rows of one batch are the same to rounding."""
    policy = build(folder_of(name))
    plain = AutoModelForSequenceClassification.from_pretrained(folder_of(name)).eval()
    tokenizer = AutoTokenizer.from_pretrained(folder_of(name))
    found = policy.log_prob(policy.collate(policy.encode(EXAMPLES)))
    wanted = []
    for example in EXAMPLES:
        ids = tokenizer(example.prompt, return_tensors="pt")["input_ids"]
        every = plain(input_ids=ids).logits[0].log_softmax(-1)
        wanted += [every[plain.config.label2id[label]] for label in example.responses]
    assert_close(found.sum(), torch.stack(wanted), atol=1e-5, rtol=0)
    assert found.mask.shape == (6, 1) and found.mask.all()


@every_encoder
def test_classes_add_up_to_one_and_order_changes_nothing(name: str, folder_of: Folder):
    policy = build(folder_of(name))
    groups = policy.encode(EXAMPLES)
    inputs = policy.collate(groups)
    log_prob, distribution = policy.log_prob_and_distribution(inputs)
    assert_close(distribution.exp().sum(-1), torch.ones(6, 1), atol=1e-5, rtol=0)
    assert_close(log_prob.sum()[:3].exp().sum(), torch.tensor(1.0), atol=1e-5, rtol=0)  # all classes of the first text
    assert torch.equal(log_prob.token, policy.log_prob(inputs).token)
    assert torch.equal(policy.decision_mask(inputs), log_prob.mask)
    turned = policy.log_prob(policy.collate(groups[::-1])).sum()
    assert_close(turned[[3, 4, 5, 2, 0, 1]], log_prob.sum(), atol=1e-5, rtol=0)


def test_encoding_by_hand(folder_of: Folder):
    policy = build(folder_of("roberta"))
    (encoded,) = policy.encode([EXAMPLES[1]])
    cls, sep = policy.tokenizer.cls_token_id, policy.tokenizer.sep_token_id
    inside = tuple(policy.tokenizer("the share", add_special_tokens=False)["input_ids"])
    assert encoded == Encoded((cls, *inside, sep), ((2,),), num_head=1, num_tail=1, kind="class")
    assert policy.end_id is None
    assert policy.decode(encoded, (2,)) == "games"
    assert policy.decode_prompt(encoded) == "the share"
    assert policy.max_positions == 63  # of 64 the first stands behind that of the padding id, 0


def test_a_draw_follows_the_distribution(folder_of: Folder):
    policy = build(folder_of("bert"))
    (encoded,) = policy.encode(EXAMPLES[:1])
    probabilities = policy.class_log_probs([encoded])[0].exp()
    generator = torch.Generator().manual_seed(0)
    drawn = policy.sample([replace(encoded, responses=())] * 4000, generator=generator, max_new_tokens=1)
    shares = torch.bincount(torch.tensor([response[0] for response in drawn]), minlength=3) / 4000
    assert_close(shares, probabilities, atol=0.035, rtol=0)  # 4 standard errors at most


def test_head_is_kept_for_the_same_classes_in_another_order(folder_of: Folder):
    policy = classifier(CLASSES[::-1], path=str(folder_of("bert")))
    assert policy.classes == CLASSES
    assert not policy.has_fresh_head
    assert policy.encode(EXAMPLES[:1])[0].responses == ((0,), (1,), (2,))


@pytest.mark.parametrize("classes", [("red", "blue", "green"), ("red", "blue")])
def test_head_is_drawn_for_other_classes(classes: tuple[str, ...], folder_of: Folder):
    """As many as before, or fewer; the encoder stays, and the seed decides the head."""
    first, again, other = (classifier(classes, seed, path=str(folder_of("bert"))) for seed in (1, 1, 2))
    kept = load_file(folder_of("bert") / "model.safetensors")
    weights = first.model.state_dict()
    assert first.has_fresh_head
    assert all(torch.equal(weights[name], kept[name]) for name in kept if not name.startswith("classifier"))
    assert first.fingerprint() == again.fingerprint() != other.fingerprint()
    assert weights["classifier.weight"].shape == (len(classes), 16)
    with pytest.raises(UserError, match=r"the head of .* has the classes sport, money, games"):
        classifier(classes, path=str(folder_of("bert")), head="own")


def test_head_is_drawn_on_an_encoder_without_one(tmp_path: Path):
    folder = write_encoder(tmp_path, "bert", "AutoModelForMaskedLM", None)
    policy = classifier(CLASSES, path=str(folder))
    assert policy.has_fresh_head and policy.classes == CLASSES
    with pytest.raises(UserError, match=r"lacks weights of the model, .*classifier\.bias"):
        classifier(("red", "blue"), path=str(folder), head="own")


def test_missing_weights_of_the_encoder_are_refused(tmp_path: Path):
    folder = write_encoder(tmp_path, "bert", "AutoModelForSequenceClassification")
    file = folder / "model.safetensors"
    weights = {name: tensor for name, tensor in load_file(file).items() if "layer.0.output.dense.weight" not in name}
    save_file(weights, file, metadata={"format": "pt"})
    with pytest.raises(UserError, match=r"lacks weights of the model, .*layer\.0\.output\.dense\.weight"):
        classifier(("red", "blue"), path=str(folder))


def test_unnamed_classes_are_those_of_the_data_where_the_head_is_wanted(tmp_path: Path):
    folder = write_encoder(tmp_path, "bert", "AutoModelForSequenceClassification", ("LABEL_0", "LABEL_1", "LABEL_2"))
    assert classifier(CLASSES, path=str(folder), head="auto").has_fresh_head
    policy = classifier(CLASSES, path=str(folder), head="own")
    assert not policy.has_fresh_head and policy.classes == CLASSES


def test_bad_rows_are_told(folder_of: Folder):
    policy = build(folder_of("bert"))
    with pytest.raises(UserError, match="row 7: 'art' is no class of the model, which knows sport, money, games"):
        policy.encode([Example("a", ("art",), source="row 7")])
    with pytest.raises(UserError, match="row 8: the row holds chat messages"):
        policy.encode([Example([{"role": "user", "content": "a"}], ("sport",), source="row 8")])
    with pytest.raises(UserError, match="data=labelled"):
        classifier(None, path=str(folder_of("bert")))


@every_encoder
def test_exported_model_is_plain_and_comes_back(name: str, folder_of: Folder, tmp_path: Path):
    policy = build(folder_of(name), dropout=0.1)
    inputs = policy.collate(policy.encode(EXAMPLES))
    before, fingerprint = policy.log_prob(inputs).sum(), policy.fingerprint()
    policy.export(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text())["id2label"] == {"0": "sport", "1": "money", "2": "games"}
    assert_close(build(tmp_path).log_prob(inputs).sum(), before, atol=1e-6, rtol=0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(1.0)
    policy.load_weights(tmp_path)
    assert policy.fingerprint() == fingerprint


def test_another_model_has_the_same_tokens_and_classes(folder_of: Folder, tmp_path: Path):
    policy = build(folder_of("bert"))
    assert policy.load_other(str(folder_of("bert"))).fingerprint() == policy.fingerprint()
    turned = write_encoder(tmp_path, "bert", "AutoModelForSequenceClassification", CLASSES[::-1])
    with pytest.raises(UserError, match="the classes games, money, sport, and the policy sport, money, games"):
        policy.load_other(str(turned))


def test_adapter_off_is_the_model_below(folder_of: Folder, tmp_path: Path):
    """A fresh adapter changes no number; one that was moved does, until it is off; merged, it is a plain model."""
    plain = build(folder_of("bert"))
    policy = build(folder_of("bert"), lora_rank=2)
    inputs = plain.collate(plain.encode(EXAMPLES))
    assert_close(policy.log_prob(inputs).sum(), plain.log_prob(inputs).sum(), atol=1e-6, rtol=0)
    assert policy.adapter is not None
    with torch.no_grad():
        for tensor in policy.adapter.tensors().values():
            tensor.add_(0.3)
    moved = policy.log_prob(inputs).sum()
    assert not torch.allclose(moved, plain.log_prob(inputs).sum(), atol=1e-3)
    with policy.adapter.off():
        assert_close(policy.log_prob(inputs).sum(), plain.log_prob(inputs).sum(), atol=1e-6, rtol=0)
    policy.export(tmp_path)
    assert_close(build(tmp_path).log_prob(inputs).sum(), moved, atol=1e-5, rtol=0)
    trained = {name.removeprefix("model.") for name, tensor in policy.named_parameters() if tensor.requires_grad}
    assert trained == set(policy.adapter.tensors())


@pytest.mark.parametrize(("length", "first"), [(1, 0.3), (3, 0.112)])
def test_share_of_hidden_tokens(length: int, first: float):
    """In spans of 3 the first token is hidden by one place alone: 1 - 0.7^(1/3) = 0.112. 10,000 rows: 4 errors."""
    hidden = hidden_spans(torch.ones(10_000, 12, dtype=torch.bool), 0.3, length, torch.Generator().manual_seed(0))
    shares = hidden.double().mean(0)
    assert_close(shares[2:], torch.full((10,), 0.3, dtype=torch.double), atol=0.019, rtol=0)
    assert abs(shares[0] - first) < 0.019
    assert not hidden_spans(torch.zeros(5, 4, dtype=torch.bool), 0.9, length).any()


def test_tokens_are_hidden_while_training_alone(folder_of: Folder):
    """And with them special ones never: of a text all of whose tokens are hidden, [CLS] and [SEP] are left."""
    plain, noisy = build(folder_of("bert")), build(folder_of("bert"), token_dropout=0.5)
    inputs = plain.collate(plain.encode(EXAMPLES))
    assert torch.equal(noisy.log_prob(inputs).token, plain.log_prob(inputs).token)
    noisy.train()
    torch.manual_seed(0)
    seen = noisy._with_noise(inputs)
    mask, changed = noisy.tokenizer.mask_token_id, seen != inputs["input_ids"]
    assert 0.2 < changed.double().sum() / inputs["attention_mask"].sum() < 0.6
    assert (seen[changed] == mask).all()
    assert not changed[:, 0].any() and not changed[inputs["attention_mask"] == 0].any()
