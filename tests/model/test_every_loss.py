"""Every loss with every kind of policy: it trains a step, or is refused by name, as the docs say."""

import copy
import re
from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch

from dpo_lab.assemble.instantiate import build_objective
from dpo_lab.assemble.suitability import PolicyKind, check_lengths, why_not
from dpo_lab.catalogue.entry import names, read_entry
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.view import view_of
from dpo_lab.data.windows import WindowLoader
from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.policy import Policy
from dpo_lab.model.recommender_policy import Recommender
from dpo_lab.model.seq2seq_policy import Seq2SeqLM
from dpo_lab.model.span_policy import SpanReader
from dpo_lab.model.vision_policy import VisionLanguageModel
from dpo_lab.needs import Objective
from dpo_lab.reference.frozen import frozen
from dpo_lab.reference.reference import Reference
from dpo_lab.scoring import Measured, Scorer
from dpo_lab.types import Encoded
from tests.model.policy_cases import CASES as ALL_CASES

KINDS: dict[str, type[Policy]] = {
    "causal_lm": CausalLM,
    "seq2seq": Seq2SeqLM,
    "classifier": Classifier,
    "extractive_qa": SpanReader,
    "vision_language": VisionLanguageModel,
    "recommender": Recommender,
}
CASES = {name: case for name, case in ALL_CASES.items() if name not in ("causal_lm", "bart", "idefics3")}
"""One architecture a kind is enough here; `tests.test_step_gradient` has every loss of a causal language model."""

read = cache(read_entry)


class Prepared(NamedTuple):
    policy: Policy
    weights: dict[str, torch.Tensor]
    reference: Reference
    dataset: EncodedDataset


def in_every_way(groups: list[Encoded]) -> EncodedDataset:
    """Two responses of the first two prompts that have as many, judged in every way that a loss may ask for."""
    judgement = Judgement(pairs=((0, 1),), win_probabilities=(0.8,), scores=(1.0, 0.0), ranking=(0, 1))
    pairs = [replace(group, responses=group.responses[:2]) for group in groups if len(group.responses) > 1][:2]
    return EncodedDataset(pairs, [judgement] * len(pairs))


@pytest.fixture(scope="module")
def prepare(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Prepared]:
    def make(name: str) -> Prepared:
        case = CASES[name](tmp_path_factory.mktemp)
        policy = case.load(case.folder)
        weights = copy.deepcopy(policy.state_dict())
        reference = frozen(policy, tmp_path_factory.mktemp("cache"), cache="off")
        return Prepared(policy.eval(), weights, reference, in_every_way(case.groups))

    return cache(make)


def test_every_kind_has_a_case(prepare: Callable[[str], Prepared]):
    assert {type(prepare(case).policy) for case in CASES} == {*KINDS.values()} - {CausalLM}


@pytest.mark.parametrize("loss", names())
@pytest.mark.parametrize("case", CASES)
def test_it_trains_or_is_refused_by_name(case: str, loss: str, prepare: Callable[[str], Prepared]):
    policy, weights, reference, dataset = prepare(case)
    objective = read(loss).objective
    refused = [why_not(term, f"model={case}", type(policy)) for term in objective.terms]
    if any(refused):
        (reason,) = filter(None, refused)
        assert reason.startswith(f"loss {loss} ") and f"model={case} " in reason
        return
    policy.load_state_dict(weights)
    scorer = Scorer(policy, reference, objective, seed=0)
    before, measured = evaluate(policy, scorer, objective, dataset)
    if measured.reference is not None:
        assert bool((log_ratio(measured.policy, measured.reference).abs() < 1e-4).all())
    gradients = gradients_of(policy, before)
    assert all(bool(gradient.isfinite().all()) for gradient in gradients)
    size = sum(float(gradient.square().sum()) for gradient in gradients) ** 0.5
    assert size > 0
    with torch.no_grad():
        for parameter in policy.parameters():
            if parameter.grad is not None:
                parameter.sub_(0.01 / size * parameter.grad)
        after, _ = evaluate(policy, scorer, objective, dataset)
    assert bool(before.isfinite() & after.isfinite() & (after != before))


def evaluate(
    policy: Policy, scorer: Scorer, objective: Objective, dataset: EncodedDataset
) -> tuple[torch.Tensor, Measured]:
    """The loss of the data as one window, and what it was made of."""
    view = view_of(objective.needs, objective.best_alone, None)
    loader = WindowLoader(dataset, view, policy.collate, seed=0, shuffle=False, global_batch_size=8)
    (window,) = loader
    (batch,) = window
    measured = scorer.measure(batch)
    outputs = objective(scorer.ingredients(batch, measured, 0))
    total = sum(
        term.weight * (outputs[term.name].loss * outputs[term.name].weight).sum() / outputs[term.name].weight.sum()
        for term in objective.terms
    )
    assert isinstance(total, torch.Tensor)
    return total, measured


def gradients_of(policy: Policy, total: torch.Tensor) -> list[torch.Tensor]:
    policy.zero_grad()
    total.backward()
    return [parameter.grad for parameter in policy.parameters() if parameter.grad is not None]


def refusals(kind: type[Policy]) -> set[str]:
    """Losses that policies of `kind` refuse, by name."""
    return {
        name
        for name in names()
        if any(why_not(term, "model=x", kind) is not None for term in read(name).objective.terms)
    }


def test_the_docs_list_what_is_refused(root: Path):
    """Each line of the table: a model, the losses that it refuses, and why."""
    text = (root / "docs" / "other_policies.md").read_text(encoding="utf-8")
    told = {model: set[str]() for model in KINDS}
    for line in text.splitlines():
        cells = [cell.strip() for cell in line.split("|")]
        if line.startswith("| `model=") and len(cells) == 5:
            for model in re.findall(r"`model=(\w+)`", cells[1]):
                told[model] |= set(re.findall(r"`(\w+)`", cells[2])) & set(names())
    expected = {name: refusals(kind) for name, kind in KINDS.items()}
    expected["recommender"] = {"ld_dpo", "r_dpo", "sampo", "tdpo1"}  # `test_next_items_are_all_of_one_length`
    assert told == expected


def test_the_docs_list_the_knobs_of_each_model(root: Path):
    text = (root / "docs" / "other_policies.md").read_text(encoding="utf-8")
    rows = re.findall(r"^\| `(\w+)` \| ((?:`\w+` ?)+) \|", text, flags=re.MULTILINE)
    assert len(rows) == 6
    files = {name: (root / "conf" / "model" / f"{name}.yaml").read_text(encoding="utf-8") for name in KINDS}
    for knob, told in rows:
        taking = {name for name, file in files.items() if re.search(rf"^{knob}:", file, flags=re.MULTILINE)}
        assert set(re.findall(r"\w+", told)) == taking, knob


@pytest.mark.parametrize("loss", names())
def test_next_items_are_all_of_one_length(loss: str, prepare: Callable[[str], Prepared]):
    """A recommender whose responses are the next item alone refuses what a classifier refuses; with more it does not.

    A language model whose texts happen to be of one token is left alone.
    """
    objective = read(loss).objective
    recommender = PolicyKind("model=recommender", Recommender)
    several = in_every_way([Encoded((1, 2), ((3,), (4, 5)))])
    single = in_every_way([Encoded((1, 2), ((3,), (4,)))])
    check_lengths(recommender, objective, several)
    check_lengths(PolicyKind("model=causal_lm", CausalLM), objective, single)
    if loss in refusals(Classifier):
        with pytest.raises(UserError, match=f"^loss {loss} .*model=recommender and this data.* use that$"):
            check_lengths(recommender, objective, single)
    else:
        check_lengths(recommender, objective, single)


@pytest.mark.parametrize("case", ["classifier", "extractive_qa"])
@pytest.mark.parametrize("loss", ["ld_dpo", "r_dpo", "sampo", "tdpo1"])
def test_what_is_refused_would_be_sigmoid(case: str, loss: str, prepare: Callable[[str], Prepared]):
    """The reason that is given is true: away from the reference, value and gradient are those of `sigmoid`."""
    policy, weights, reference, dataset = prepare(case)
    policy.load_state_dict(weights)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.05)
    found = {}
    for name in (loss, "sigmoid"):
        objective = read(name).objective
        value, _ = evaluate(policy, Scorer(policy, reference, objective, seed=0), objective, dataset)
        gradients = gradients_of(policy, value)
        found[name] = (float(value.detach()), torch.cat([gradient.flatten() for gradient in gradients]))
    assert found["sigmoid"][0] != pytest.approx(np.log(2), abs=1e-4)
    assert found[loss][0] == pytest.approx(found["sigmoid"][0], abs=1e-6)
    assert torch.allclose(found[loss][1], found["sigmoid"][1], atol=1e-6)


@pytest.mark.parametrize(
    ("knobs", "said"),
    [
        ({"alpha": 0.5}, "loss ipo with alpha=0.5 acts on differences of length"),
        ({"alpha": 0.5, "confidence": True}, "so that alpha=1 says the same"),
        ({"label_smoothing": 0.1, "confidence": True}, None),
    ],
    ids=["tails", "tails and confidence", "others"],
)
def test_modifiers_that_would_do_nothing_are_refused(knobs: dict[str, Any], said: str | None):
    base = {"_target_": "dpo_lab.loss.ipo.ipo"}
    objective = build_objective({"_target_": "dpo_lab.loss.modified.modified", "base": base, **knobs}, ("dpo_lab",))
    reason = why_not(objective.terms[0], "model=classifier", Classifier)
    assert (said in reason) if said is not None and reason is not None else reason is said
