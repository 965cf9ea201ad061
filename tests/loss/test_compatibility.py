"""Sets of arguments that compute what other libraries do: each against that library's formula, written again."""

from dataclasses import replace
from functools import cache
from typing import Any

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import DictConfig, OmegaConf
from torch import Tensor
from torch.testing import assert_close

from dpo_lab.assemble.instantiate import build_objective
from dpo_lab.config import find_faults
from dpo_lab.config.signature import locate, read_target
from dpo_lab.paths import CONF_DIR
from dpo_lab.types import LogProbs
from tests.loss.batch import POLICY, Batch, gradient, list_batch, make_batch, states_after, total
from tests.loss.published_formulas import (
    Formula,
    aot,
    aot_unpaired,
    apo_zero_unpaired,
    bco,
    bco_unpaired,
    discopop,
    dpo,
    exo,
    f_dpo,
    kto,
    log_sigmoid,
    odds_ratio,
    over_pairs,
    read,
    sequence_nll,
    simpo,
    token_nll,
    weighted,
)

FOLDER = CONF_DIR / "loss"
SETS = sorted(file.relative_to(FOLDER).with_suffix("").as_posix() for file in FOLDER.glob("*/*.yaml"))
DOCUMENT = CONF_DIR.parent / "docs" / "compatibility.md"
PACKAGES = ("dpo_lab",)

ipo_of_tokens = over_pairs(lambda pair: (pair.h_mean - 5) ** 2)
ipo_of_responses = over_pairs(lambda pair: (pair.h - 5) ** 2)

# Numbers are the libraries' defaults, or what the comments of a set say; 5 is 1 / (2 beta), 10 is 1 / beta.
FORMULAS: dict[str, Formula] = {
    "trl_1_16/sigmoid": dpo(0.1),
    "trl_1_16/hinge": over_pairs(lambda pair: 0.1 * torch.relu(10 - pair.h)),
    "trl_1_16/ipo": ipo_of_tokens,
    "trl_1_16/exo_pair": exo(0.1, 1e-3),
    "trl_1_16/nca_pair": over_pairs(
        lambda pair: -log_sigmoid(0.1 * pair.a) - (log_sigmoid(-0.1 * pair.a) + log_sigmoid(-0.1 * pair.b)) / 2
    ),
    "trl_1_16/robust": dpo(0.1),
    "trl_1_16/bco_pair": bco(0.1, running=False),
    "trl_1_16/sppo_hard": over_pairs(lambda pair: (pair.a - 5) ** 2 + (pair.b + 5) ** 2),
    "trl_1_16/aot": aot(0.1),
    "trl_1_16/aot_unpaired": aot_unpaired(0.1),
    "trl_1_16/apo_zero": over_pairs(lambda pair: 1 - torch.sigmoid(0.1 * pair.a) + torch.sigmoid(0.1 * pair.b)),
    "trl_1_16/apo_down": over_pairs(lambda pair: torch.sigmoid(0.1 * pair.a) + 1 - torch.sigmoid(0.1 * pair.h)),
    "trl_1_16/discopop": discopop(0.1, 0.05),
    "trl_1_16/sft": token_nll,
    "trl_1_16/sigmoid_norm": over_pairs(lambda pair: -log_sigmoid(0.1 * pair.h_mean)),
    "trl_1_16/forward_kl": f_dpo(0.1, lambda u: 1 - 1 / u),
    "trl_1_16/js_divergence": f_dpo(0.1, lambda u: torch.log(2 * u / (u + 1))),
    "trl_1_16/alpha_divergence": f_dpo(0.1, lambda u: (u ** (0.5 - 1) - 1) / (0.5 - 1)),
    "trl_1_16/ld_dpo": over_pairs(lambda pair: -log_sigmoid(0.1 * pair.weighed(0.5, 0.5))),
    "trl_1_16/wpo": over_pairs(lambda pair: -pair.confidence * log_sigmoid(0.1 * pair.h)),
    "trl_1_16/sigmoid_sft": weighted((1.0, dpo(0.1)), (1.0, token_nll)),
    "trl_1_16/mpo": weighted((0.8, dpo(0.1)), (0.2, bco(0.1, running=False)), (1.0, token_nll)),
    "trl_1_16/cpo": weighted((1.0, over_pairs(lambda pair: -log_sigmoid(0.1 * pair.d))), (1.0, token_nll)),
    "trl_1_16/cpo_simpo": weighted((1.0, simpo(0.1, 0.5 / 0.1)), (1.0, token_nll)),
    "trl_1_16/cpo_hinge": weighted((1.0, over_pairs(lambda pair: torch.relu(1 - 0.1 * pair.d))), (1.0, token_nll)),
    "trl_1_16/cpo_ipo": weighted((1.0, over_pairs(lambda pair: (pair.d_mean - 5) ** 2)), (1.0, token_nll)),
    "trl_1_16/alphapo": simpo(0.1, 0.5 / 0.1),
    "trl_1_16/kto": kto(0.1),
    "trl_1_16/apo_zero_unpaired": apo_zero_unpaired,
    "trl_0_24/sigmoid": dpo(0.1),
    "trl_0_24/bco_pair": bco(0.1, running=True),
    "trl_0_24/aot_pair": aot_unpaired(0.1),
    "trl_0_24/alpha_divergence": f_dpo(0.1, lambda u: 1 - u**-1.0),
    "trl_0_24/rpo": weighted((1.0, dpo(0.1)), (1.0, token_nll)),
    "trl_0_24/mpo": weighted((0.8, dpo(0.1)), (0.2, bco(0.1, running=True)), (1.0, token_nll)),
    "trl_0_24/bco": bco_unpaired(0.1),
    "eric_mitchell/dpo": dpo(0.1),
    "eric_mitchell/ipo": ipo_of_responses,
    "eric_mitchell/sft": over_pairs(lambda pair: -pair.chosen.sum()),
    "openrlhf/dpo": dpo(0.1),
    "openrlhf/ipo": ipo_of_responses,
    "openrlhf/dpo_nll": weighted((1.0, dpo(0.1)), (1.0, sequence_nll)),
    "halos/dpo": dpo(0.1),
    "halos/cdpo": dpo(0.1, smoothing=0.2),
    "halos/simpo": simpo(10.0, 0.3),
    "halos/sft": token_nll,
    "halos/kto": kto(0.1),
    "llama_factory/sigmoid": dpo(0.1),
    "llama_factory/sigmoid_ftx": weighted((1.0, dpo(0.1)), (1.0, sequence_nll)),
    "llama_factory/sigmoid_bco": weighted((1 / (1 + 1.0), dpo(0.1)), (1.0 / (1 + 1.0), bco(0.1, running=True))),
    "llama_factory/sigmoid_ld": over_pairs(lambda pair: -log_sigmoid(0.1 * pair.weighed(0.5, 1.0))),
    "llama_factory/orpo": weighted((1.0, sequence_nll), (1.0, odds_ratio(0.1))),
    "llama_factory/simpo": simpo(0.1, 0.5 / 0.1),
    "llama_factory/kto": kto(0.1),
    "simpo/simpo": simpo(2.0, 0.25),
    "simpo/simpo_sft": weighted((1.0, simpo(2.0, 0.25)), (1.0, token_nll)),
    "simpo/hinge": over_pairs(lambda pair: torch.relu(1 - 2.0 * (pair.d_mean - 0.25))),
}
# Of these the library has no reference; ours is made the same by reference=uniform, log-prob 0.
WITHOUT_REFERENCE = {"trl_1_16/cpo_hinge", "trl_1_16/cpo_ipo", "simpo/hinge"}
# What runs there under these names is not that loss, or does not run; see the document.
NOT_OFFERED = (
    "trl_1_16/orpo",
    "trl_0_24/ld_dpo",
    "trl_0_24/orpo",
    "trl_0_24/wpo",
    "halos/ipo",
    "halos/slic",
    "llama_factory/hinge",
    "llama_factory/ipo",
    "llama_factory/kto_pair",
)

every_set = pytest.mark.parametrize("name", SETS)


@cache
def configured(*overrides: str) -> DictConfig:
    with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
        return compose("train", list(overrides))


def loss_of(*overrides: str) -> dict[str, Any]:
    node = OmegaConf.to_container(configured(*overrides).loss, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


def uniform(batch: Batch) -> Batch:
    zeros = torch.zeros_like(batch.reference.token)
    return replace(batch, reference=LogProbs(zeros, batch.reference.mask))


def batches(name: str) -> list[Batch]:
    """Pairs; lists; judgements the other way round; a policy that is its reference; no reference."""
    found = [make_batch(), make_batch().swapped(), list_batch(), list_batch().swapped(), make_batch(POLICY, POLICY)]
    free = [uniform(batch) for batch in found]
    return free if name in WITHOUT_REFERENCE else [*found, *free]


def assert_same(ours: Tensor, theirs: Tensor, batch: Batch) -> None:
    assert_close(ours, theirs, atol=1e-12, rtol=1e-9)
    assert_close(gradient(ours, batch.policy), gradient(theirs, batch.policy), atol=1e-12, rtol=1e-9)


def test_every_set_has_a_formula():
    assert set(FORMULAS) == set(SETS)


@every_set
def test_a_set_computes_what_its_library_does(name: str):
    """Value and gradient, at a first step and after one on other judgements."""
    objective = build_objective(loss_of(f"loss={name}"), PACKAGES)
    for batch in batches(name):
        assert_same(total(objective, batch), FORMULAS[name](read(batch), None), batch)
        before = batch.swapped()
        later = total(objective, batch, states_after(objective, before))
        assert_same(later, FORMULAS[name](read(batch), read(before)), batch)


@every_set
def test_a_set_fits_the_train_config(name: str):
    assert find_faults(configured(f"loss={name}")) == []


@every_set
def test_a_set_leaves_nothing_to_our_defaults(name: str):
    """Otherwise a new default of a loss would change what another library is said to compute."""
    given = OmegaConf.to_container(OmegaConf.load(FOLDER / f"{name}.yaml"))
    assert isinstance(given, dict)
    composed = loss_of(f"loss={name}")
    nodes = [(term["loss"], composed["terms"][key]["loss"]) for key, term in given.get("terms", {}).items()]
    for written, whole in nodes or [(given, composed)]:
        assert set(read_target(locate(whole["_target_"], PACKAGES)).knobs) <= set(written)


@every_set
def test_a_set_lands_where_it_is_put(name: str):
    terms = loss_of("loss=mix", f"loss@loss.terms.preference.loss={name}")["terms"]
    assert terms["preference"]["loss"] == loss_of(f"loss={name}")


def test_a_set_can_be_modified():
    base = loss_of("loss=modified", "loss@loss.base=trl_1_16/ipo")["base"]
    assert base == loss_of("loss=trl_1_16/ipo")


@pytest.mark.parametrize(
    ("overrides", "formula"),
    [
        (["loss=trl_1_16/ipo", "loss.beta=0.05"], over_pairs(lambda pair: (pair.h_mean - 10) ** 2)),
        (["loss=eric_mitchell/dpo", "loss.label_smoothing=0.2"], dpo(0.1, smoothing=0.2)),
        (
            ["loss=trl_1_16/alpha_divergence", "loss.alpha=0.7"],
            f_dpo(0.1, lambda u: (u ** (0.3 - 1) - 1) / (0.3 - 1)),
        ),
        (
            ["loss=trl_0_24/alpha_divergence", "loss.divergence=alpha", "loss.alpha=0.7"],
            f_dpo(0.1, lambda u: (1 - u**-0.7) / 0.7),
        ),
        (["loss=trl_1_16/cpo_simpo", "loss.terms.nll.weight=0"], simpo(0.1, 5.0)),
        (
            ["loss=trl_1_16/apo_zero_unpaired", "loss.desirable_weight=1.5", "loss.undesirable_weight=0.5"],
            lambda now, _: torch.cat(
                [1.5 * torch.sigmoid(-0.1 * now.desirable), 0.5 * torch.sigmoid(0.1 * now.undesirable)]
            ).mean(),
        ),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_can_still_be_changed(overrides: list[str], formula: Formula):
    objective = build_objective(loss_of(*overrides), PACKAGES)
    for batch in batches(""):
        assert_same(total(objective, batch), formula(read(batch), None), batch)


@pytest.mark.parametrize("name", ["trl_0_24/bco", "trl_1_16/kto", "trl_1_16/apo_zero_unpaired"])
def test_sets_for_single_responses_with_more_of_one_kind(name: str):
    """Two desirable and four undesirable responses: the mean over all is not the mean of the two kinds' means."""
    batch = replace(list_batch(), labels=torch.tensor([1, 0, 0, 1, 0, 0, -1, -1]))
    assert_same(
        total(build_objective(loss_of(f"loss={name}"), PACKAGES), batch), FORMULAS[name](read(batch), None), batch
    )


@pytest.mark.parametrize("name", sorted(WITHOUT_REFERENCE))
def test_what_needs_a_uniform_reference_says_so(name: str):
    assert "Needs reference=uniform" in (FOLDER / f"{name}.yaml").read_text()
    batch = make_batch()
    ours = total(build_objective(loss_of(f"loss={name}"), PACKAGES), batch)
    assert not torch.isclose(ours, FORMULAS[name](read(batch), None))


@pytest.mark.parametrize("name", NOT_OFFERED)
def test_what_cannot_be_reproduced_is_not_offered(name: str):
    assert name not in SETS


def test_the_document_names_every_set():
    text = DOCUMENT.read_text()
    assert [name for name in SETS if f"`{name}`" not in text] == []
