"""What holds for every loss: each file of ``conf/loss`` is a case, so a new loss is held to it without an edit here."""

import copy
from collections.abc import Callable, Iterator
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

import pytest
import torch
from hydra import compose, initialize_config_dir
from omegaconf import OmegaConf
from torch import Tensor
from torch.testing import assert_close

from dpo_lab import loss as losses
from dpo_lab.assemble.instantiate import build_objective
from dpo_lab.config.signature import locate
from dpo_lab.config.values import explain
from dpo_lab.needs import Objective, Term
from dpo_lab.types import LogProbs, State
from tests.loss.batch import POLICY, Batch, gradient, list_batch, make_batch, margin_batch, states_after, total

FOLDER = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(file.stem for file in (FOLDER / "loss").glob("*.yaml"))
PACKAGES = ("dpo_lab",)

# Further forms of a loss, each told apart from all others like a loss of its own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ipo mean": ("ipo", {"normalization": "mean"}),
    "hinge mean": ("hinge", {"normalization": "mean"}),
    "cdpo": ("sigmoid", {"label_smoothing": 0.2}),
    "f_dpo forward_kl": ("f_dpo", {"divergence": "forward_kl"}),
    "f_dpo alpha": ("f_dpo", {"divergence": "alpha", "alpha": 0.5}),
    "ld_dpo policy": ("ld_dpo", {"scope": "policy"}),
}
# Batches on which losses are the same: any; of two responses a list; of one pair alone.
BATCHES: dict[str, Callable[[], list[Batch]]] = {
    "lists": lambda: [list_batch(), list_batch().swapped()],
    "two": lambda: [make_batch(), make_batch().swapped()],
    "one": lambda: [part for batch in (make_batch(), make_batch().swapped()) for part in batch.one_by_one()],
}
# The only losses that are the same, and where: the first with these knobs is the second, with the same beta.
EQUALITIES: tuple[tuple[str, dict[str, Any], str, str], ...] = (
    ("spin", {}, "sigmoid", "lists"),
    ("robust", {"label_smoothing": 0.0}, "sigmoid", "lists"),
    ("dpop", {"weight": 0.0}, "sigmoid", "lists"),
    ("f_dpo", {"divergence": "reverse_kl"}, "sigmoid", "lists"),
    ("r_dpo", {"alpha": 0.0}, "sigmoid", "lists"),
    ("ld_dpo", {"alpha": 1.0}, "sigmoid", "lists"),
    ("ld_dpo", {"alpha": 1.0, "scope": "policy"}, "sigmoid", "lists"),
    ("rpo", {"weight": 0.0}, "sigmoid", "lists"),
    ("alphapo", {"alpha": 0.0}, "simpo", "lists"),
    ("modified", {}, "sigmoid", "lists"),
    ("odpo", {"alpha": 0.0}, "sigmoid", "lists"),
    ("tdpo2", {"alpha": 0.0}, "sigmoid", "lists"),
    ("beta_dpo", {"alpha": 0.0, "keep_fraction": 1.0}, "sigmoid", "lists"),
    ("plackett_luce", {}, "sigmoid", "two"),
    ("s_dpo", {}, "sigmoid", "two"),
    ("aot", {}, "sigmoid", "one"),
    ("aot_unpaired", {}, "sigmoid", "one"),
)
# `modified` on `sigmoid`, with its knobs as first, is the other loss with its own.
MODIFIED_EQUALITIES: tuple[tuple[dict[str, Any], str, dict[str, Any]], ...] = (
    ({"label_smoothing": 0.2}, "sigmoid", {"label_smoothing": 0.2}),
    ({"confidence": True}, "wpo", {}),
    ({"alpha": 0.5}, "ld_dpo", {"alpha": 0.5}),
)
# Knobs that a choice cannot do without.
COMPANIONS: dict[tuple[str, Any], dict[str, Any]] = {("divergence", "alpha"): {"alpha": 0.5}}

every_loss = pytest.mark.parametrize("name", NAMES)


def read(name: str) -> dict[str, Any]:
    with initialize_config_dir(str(FOLDER), version_base="1.3"):
        node = OmegaConf.to_container(compose("train", [f"loss={name}"]).loss, resolve=True)
    assert isinstance(node, dict)
    return {str(key): value for key, value in node.items()}


@pytest.fixture(scope="module")
def nodes() -> dict[str, dict[str, Any]]:
    return {name: read(name) for name in NAMES}


@pytest.fixture
def objective(name: str, nodes: dict[str, dict[str, Any]]) -> Objective:
    return build_objective(nodes[name], PACKAGES)


def step_gradient(objective: Objective, batch: Batch) -> Tensor:
    return gradient(total(objective, batch), batch.policy)


def items(objective: Objective, batch: Batch) -> list[Tensor]:
    """Loss and weight of each item, term by term."""
    return [part for output in objective(batch.ingredients()).values() for part in (output.loss, output.weight)]


def test_one_word_names_config_file_and_function():
    files = {file.stem for file in Path(losses.__path__[0]).glob("[!_]*.py")}
    assert files == set(NAMES)
    assert all(getattr(losses, name).__name__ == name for name in NAMES)


@every_loss
def test_the_gradient_reaches_the_policy_and_never_the_reference(objective: Objective):
    batch = list_batch()
    policy, reference = torch.autograd.grad(
        total(objective, batch), (batch.policy.token, batch.reference.token), allow_unused=True
    )
    assert policy.abs()[batch.policy.mask].max() > 0
    assert policy[~batch.policy.mask].abs().max() == 0
    assert reference is None or not reference.any()


@every_loss
def test_row_order_does_not_matter(objective: Objective):
    batch, order = list_batch(), torch.tensor([2, 6, 0, 3, 1, 7, 5, 4])
    # The items of a loss on single labels stand in the order of the rows.
    for before, after in zip(items(objective, batch), items(objective, batch.permuted(order)), strict=True):
        assert_close(after.sort().values, before.sort().values)
    there = step_gradient(objective, batch.permuted(order))
    assert_close(there, step_gradient(objective, batch)[order])


@every_loss
def test_padding_does_not_matter(objective: Objective):
    """Whatever stands in masked columns, in policy and reference."""
    batch = list_batch()
    collision = batch.log_collision
    assert collision is not None
    padded = replace(
        batch,
        policy=pad(batch.policy),
        reference=pad(batch.reference),
        log_collision=torch.cat([collision, torch.full((8, 3), 9.0)], dim=1),
    )
    for before, after in zip(items(objective, batch), items(objective, padded), strict=True):
        assert_close(after, before)


def pad(log_prob: LogProbs) -> LogProbs:
    num_rows = len(log_prob.token)
    token = torch.cat([torch.where(log_prob.mask, log_prob.token, 5.0), torch.full((num_rows, 3), -7.0)], dim=1)
    return LogProbs(token, torch.cat([log_prob.mask, torch.zeros(num_rows, 3, dtype=torch.bool)], dim=1))


@every_loss
def test_order_of_items_does_not_matter(objective: Objective):
    batch = list_batch()
    assert batch.ranking is not None and batch.win_probability is not None
    turned = replace(
        batch,
        pairs=batch.pairs.flip(0),
        ranking=batch.ranking.flip(0),
        win_probability=batch.win_probability.flip(0),
    )
    assert_close(total(objective, turned), total(objective, batch))
    assert_close(step_gradient(objective, turned), step_gradient(objective, batch))


# A loss that compares across items is held to micro-batches and ranks in tests/test_step_gradient.py.
@pytest.mark.parametrize("name", [name for name in NAMES if not Term(name, getattr(losses, name)).whole_batch])
def test_grouping_does_not_matter(objective: Objective):
    """The items of two prompts together are those of each prompt by itself."""
    together = items(objective, list_batch())
    apart = [items(objective, part) for part in list_batch().by_prompt()]
    for index, values in enumerate(together):
        assert_close(torch.cat([part[index] for part in apart]), values)


@every_loss
def test_weights_count_and_depend_on_masks_alone(objective: Objective):
    batch = list_batch()
    zeros = LogProbs(torch.zeros_like(batch.policy.token), batch.policy.mask)
    blank = replace(batch, policy=zeros, reference=zeros)
    outputs, blanks = objective(batch.ingredients()), objective(blank.ingredients())
    for term in objective.terms:
        output = outputs[term.name]
        assert not output.weight.requires_grad
        if not term.whole_batch:
            assert output.weight.min() > 0
            assert output.weight.tolist() == blanks[term.name].weight.tolist()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(objective: Objective, dtype: torch.dtype):
    batch = list_batch(dtype)
    for output in objective(batch.ingredients()).values():
        assert output.loss.shape == output.weight.shape
        assert len(output.loss) in (2, 3, 6)  # lists; desirable against undesirable rows; pairs or judged rows
        assert output.loss.dtype == output.weight.dtype == dtype
        assert output.reward is None or (output.reward.shape == (8,) and output.reward.dtype == dtype)
        assert output.reward is None or not output.reward.requires_grad


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_extremes_are_finite(objective: Objective, dtype: torch.dtype):
    """Margins of 1e4 nats either way, log-probs of -1e4, responses of one token, a batch of one pair."""
    margins = [margin_batch([margin], dtype) for margin in (-1e4, 1e4, 0.0)]
    low = make_batch([[-1e4] * 3, [-1e4], [-1e4] * 2, [-1e4] * 4], dtype=dtype)
    for batch in (*margins, margin_batch([-1e4, 1e4], dtype), low):
        loss = total(objective, batch)
        assert loss.isfinite()
        assert gradient(loss, batch.policy).isfinite().all()
        again = total(objective, batch, states_after(objective, batch))
        assert again.isfinite()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_policy_equal_to_the_reference_is_finite(objective: Objective, dtype: torch.dtype):
    """As at the first step, also where every log-prob is the same."""
    for rows in (POLICY, [[-0.5] * len(row) for row in POLICY]):
        batch = make_batch(rows, rows, dtype)
        loss = total(objective, batch)
        assert loss.isfinite()
        assert gradient(loss, batch.policy).isfinite().all()


def test_no_two_losses_have_the_same_gradient(nodes: dict[str, dict[str, Any]]):
    """Nor the same up to a factor, on lists of three with unequal lengths and scores that are not zero.

    Responses of unequal length part sums from means, and the same judgements the other way round have chosen responses
    that are less likely than under the reference.
    """
    forms = nodes | {name: nodes[loss] | knobs for name, (loss, knobs) in VARIANTS.items()}
    found = {name: direction(build_objective(node, PACKAGES)) for name, node in forms.items()}
    same = {one: other for one, knobs, other, where in EQUALITIES if not knobs and where == "lists"}
    for (one, first), (other, second) in combinations(found.items(), 2):
        if same.get(one, one) != same.get(other, other):
            assert not torch.allclose(first, second, atol=1e-5, rtol=0), f"{one} has the gradient of {other}"


def direction(objective: Objective) -> Tensor:
    drifted = replace(list_batch(), drift=torch.tensor([0, 3]))  # by 0.35 nats: below 0 a drift is taken for none
    both = [step_gradient(objective, each) for each in (drifted, drifted.swapped())]
    return torch.stack(both) / torch.stack(both).norm()


@pytest.mark.parametrize(("name", "knobs", "other", "where"), EQUALITIES)
def test_declared_equalities(
    name: str, knobs: dict[str, Any], other: str, where: str, nodes: dict[str, dict[str, Any]]
):
    given = {"beta": 0.7} if "beta" in nodes[name] else {}
    for each in BATCHES[where]():
        ours, theirs = (build_objective(node | given, PACKAGES) for node in (nodes[name] | knobs, nodes[other]))
        assert_close(total(ours, each), total(theirs, each), atol=1e-14, rtol=1e-12)
        assert_close(step_gradient(ours, each), step_gradient(theirs, each), atol=1e-14, rtol=1e-12)


@pytest.mark.parametrize(("modifiers", "other", "knobs"), MODIFIED_EQUALITIES)
def test_modified_sigmoid_is_the_loss_of_that_name(
    modifiers: dict[str, Any], other: str, knobs: dict[str, Any], nodes: dict[str, dict[str, Any]]
):
    ours = build_objective(nodes["modified"] | modifiers, PACKAGES)
    theirs = build_objective(nodes[other] | knobs, PACKAGES)
    for each in (list_batch(), list_batch().swapped()):
        assert_close(total(ours, each), total(theirs, each), atol=1e-14, rtol=1e-12)
        assert_close(step_gradient(ours, each), step_gradient(theirs, each), atol=1e-14, rtol=1e-12)
        rewards = [output.reward for both in (ours, theirs) for output in both(each.ingredients()).values()]
        assert_close(rewards[0], rewards[1])


@every_loss
def test_every_knob_acts(name: str, nodes: dict[str, dict[str, Any]]):
    """Another value of any knob gives another loss or gradient on at least one batch, at the first step or after it."""
    for knob, changed in changes(nodes[name]):
        lopsided = replace(list_batch(), labels=torch.tensor([1, 0, 0, -1, 1, 0, -1, -1]))
        batches = (make_batch(), list_batch(), lopsided, margin_batch([30.0, -3.0]))
        assert any(differs(nodes[name], changed, batch) for batch in batches), knob


def differs(one: dict[str, Any], other: dict[str, Any], batch: Batch) -> bool:
    first, second = (two_steps(build_objective(node, PACKAGES), batch) for node in (one, other))
    return not all(torch.allclose(ours, theirs, atol=1e-6) for ours, theirs in zip(first, second, strict=True))


def two_steps(objective: Objective, batch: Batch) -> list[Tensor]:
    """Loss and gradient at a first step, and at one after two steps on other judgements."""
    states: dict[str, State] = {}
    for other in (batch.swapped(), batch):
        outputs = objective(other.ingredients(), states)
        states = {name: output.state for name, output in outputs.items() if output.state is not None}
    now, later = total(objective, batch), total(objective, batch, states)
    return [now, gradient(now, batch.policy), later, gradient(later, batch.policy)]


def changes(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`node` with one knob changed, for every other value of a choice and one other number for each number."""
    hints = get_type_hints(locate(node["_target_"], PACKAGES), include_extras=True) if "_target_" in node else {}
    for key, value in node.items():
        if key == "_target_":
            continue
        if isinstance(value, dict):
            inner = ((f"{key}.{knob}", changed) for knob, changed in changes(value))
        else:
            inner = ((f"{key}={other}", other) for other in others(value, hints.get(key)))
        for knob, changed in inner:
            companions = COMPANIONS.get((key, changed), {}) if isinstance(changed, str) else {}
            yield knob, copy.deepcopy(node) | {key: changed} | companions


def others(value: Any, hint: Any) -> list[Any]:
    if get_origin(hint) is Literal:
        return [choice for choice in get_args(hint) if choice != value]
    if isinstance(value, bool):
        return [not value]
    if value is None:  # refused but for the choice that it is a companion of
        return []
    assert isinstance(value, float), f"a knob of a kind that this law does not know yet: {value!r}"
    larger = 1.5 * value if value else 0.25
    return [larger if explain(larger, hint) is None else value / 2]
