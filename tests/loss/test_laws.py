"""What holds for every loss: each file of ``conf/loss`` is a case, so a new loss is held to it without an edit here."""

import copy
from collections.abc import Iterator
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
from dpo_lab.needs import Objective
from dpo_lab.types import LogProbs
from tests.loss.batch import Batch, gradient, make_batch, margin_batch, total

FOLDER = Path(__file__).resolve().parents[2] / "conf"
NAMES = sorted(file.stem for file in (FOLDER / "loss").glob("*.yaml"))
PACKAGES = ("dpo_lab",)

# Further forms of a loss, each told apart from all others like a loss of its own.
VARIANTS: dict[str, tuple[str, dict[str, Any]]] = {
    "ipo mean": ("ipo", {"normalization": "mean"}),
    "cdpo": ("sigmoid", {"label_smoothing": 0.2}),
    "f_dpo forward_kl": ("f_dpo", {"divergence": "forward_kl"}),
    "f_dpo alpha": ("f_dpo", {"divergence": "alpha", "alpha": 0.5}),
    "ld_dpo policy": ("ld_dpo", {"scope": "policy"}),
}
# The only losses that are the same, and where: the first with these knobs is the second, with the same beta.
EQUALITIES: tuple[tuple[str, dict[str, Any], str], ...] = (
    ("spin", {}, "sigmoid"),
    ("robust", {"label_smoothing": 0.0}, "sigmoid"),
    ("dpop", {"weight": 0.0}, "sigmoid"),
    ("f_dpo", {"divergence": "reverse_kl"}, "sigmoid"),
    ("r_dpo", {"alpha": 0.0}, "sigmoid"),
    ("ld_dpo", {"alpha": 1.0}, "sigmoid"),
    ("ld_dpo", {"alpha": 1.0, "scope": "policy"}, "sigmoid"),
    ("rpo", {"weight": 0.0}, "sigmoid"),
    ("alphapo", {"alpha": 0.0}, "simpo"),
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
    batch = make_batch()
    policy, reference = torch.autograd.grad(
        total(objective, batch), (batch.policy.token, batch.reference.token), allow_unused=True
    )
    assert policy.abs()[batch.policy.mask].max() > 0
    assert policy[~batch.policy.mask].abs().max() == 0
    assert reference is None or not reference.any()


@every_loss
def test_row_order_does_not_matter(objective: Objective):
    batch, order = make_batch(), torch.tensor([2, 0, 3, 1])
    policy, reference = (LogProbs(part.token[order], part.mask[order]) for part in (batch.policy, batch.reference))
    shuffled = Batch(policy, reference, torch.argsort(order)[batch.pairs])
    for before, after in zip(items(objective, batch), items(objective, shuffled), strict=True):
        assert_close(after, before)


@every_loss
def test_padding_does_not_matter(objective: Objective):
    """Whatever stands in masked columns, in policy and reference."""
    batch = make_batch()
    padded = Batch(pad(batch.policy), pad(batch.reference), batch.pairs)
    for before, after in zip(items(objective, batch), items(objective, padded), strict=True):
        assert_close(after, before)


def pad(log_prob: LogProbs) -> LogProbs:
    num_rows = len(log_prob.token)
    token = torch.cat([torch.where(log_prob.mask, log_prob.token, 5.0), torch.full((num_rows, 3), -7.0)], dim=1)
    return LogProbs(token, torch.cat([log_prob.mask, torch.zeros(num_rows, 3, dtype=torch.bool)], dim=1))


@every_loss
def test_pair_order_does_not_matter(objective: Objective):
    batch = make_batch()
    swapped = batch.with_pairs(batch.pairs.flip(0))
    for before, after in zip(items(objective, batch), items(objective, swapped), strict=True):
        assert_close(after, before.flip(0))


@every_loss
def test_weights_count_and_depend_on_masks_alone(objective: Objective):
    batch = make_batch()
    zeros = LogProbs(torch.zeros_like(batch.policy.token), batch.policy.mask)
    blank = Batch(zeros, zeros, batch.pairs)
    outputs, blanks = objective(batch.ingredients()), objective(blank.ingredients())
    for term, output in outputs.items():
        assert not output.weight.requires_grad
        assert output.weight.min() > 0
        assert output.weight.tolist() == blanks[term].weight.tolist()


@every_loss
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_shapes_and_dtypes(objective: Objective, dtype: torch.dtype):
    batch = make_batch(dtype=dtype)
    for output in objective(batch.ingredients()).values():
        assert output.loss.shape == output.weight.shape == (2,)
        assert output.loss.dtype == output.weight.dtype == dtype
        assert output.reward is None or (output.reward.shape == (4,) and output.reward.dtype == dtype)
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


def test_no_two_losses_have_the_same_gradient(nodes: dict[str, dict[str, Any]]):
    """Nor the same up to a factor.

    Responses of unequal length part sums from means, and pairs the other way round have chosen responses that are less
    likely than under the reference.
    """
    forms = nodes | {name: nodes[loss] | knobs for name, (loss, knobs) in VARIANTS.items()}
    found = {name: direction(build_objective(node, PACKAGES)) for name, node in forms.items()}
    declared = {frozenset((one, other)) for one, knobs, other in EQUALITIES if not knobs}
    for (one, first), (other, second) in combinations(found.items(), 2):
        if frozenset((one, other)) not in declared:
            assert not torch.allclose(first, second, atol=1e-5, rtol=0), f"{one} has the gradient of {other}"


def direction(objective: Objective) -> Tensor:
    batch = make_batch()
    both = [step_gradient(objective, each) for each in (batch, batch.with_pairs(batch.pairs.flip(1)))]
    return torch.stack(both) / torch.stack(both).norm()


@pytest.mark.parametrize(("name", "knobs", "other"), EQUALITIES)
def test_declared_equalities(name: str, knobs: dict[str, Any], other: str, nodes: dict[str, dict[str, Any]]):
    batch = make_batch()
    for each in (batch, batch.with_pairs(batch.pairs.flip(1))):
        ours, theirs = (build_objective(node | {"beta": 0.7}, PACKAGES) for node in (nodes[name] | knobs, nodes[other]))
        assert_close(total(ours, each), total(theirs, each), atol=1e-14, rtol=1e-12)
        assert_close(step_gradient(ours, each), step_gradient(theirs, each), atol=1e-14, rtol=1e-12)


@every_loss
def test_every_knob_acts(name: str, nodes: dict[str, dict[str, Any]]):
    """Another value of any knob gives another loss or gradient on at least one batch."""
    for knob, changed in changes(nodes[name]):
        assert any(differs(nodes[name], changed, batch) for batch in (make_batch(), margin_batch([30.0, -3.0]))), knob


def differs(one: dict[str, Any], other: dict[str, Any], batch: Batch) -> bool:
    first, second = (build_objective(node, PACKAGES) for node in (one, other))
    same_loss = torch.allclose(total(first, batch), total(second, batch), atol=1e-6)
    return not (same_loss and torch.allclose(step_gradient(first, batch), step_gradient(second, batch), atol=1e-6))


def changes(node: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """`node` with one knob changed, for every other value of a choice and one other number for each number."""
    hints = get_type_hints(locate(node["_target_"], PACKAGES)) if "_target_" in node else {}
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
    return [1.5 * value if value else 0.25]
