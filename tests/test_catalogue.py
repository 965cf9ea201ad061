"""The catalogue of losses: read from docstrings, signatures and the losses themselves, and the page written from it."""

import json
import math
import re
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from annotated_types import Le, Lt

from dpo_lab.catalogue.arguments import Argument, read_arguments
from dpo_lab.catalogue.curve import Curve
from dpo_lab.catalogue.curves import batch, compute_picture, evaluate
from dpo_lab.catalogue.docstring import Paper, read_docstring
from dpo_lab.catalogue.entry import KINDS, Entry, names, read_entries, read_entry, set_names
from dpo_lab.catalogue.page import write_page
from dpo_lab.config.signature import locate, read_target
from dpo_lab.config.values import explain
from dpo_lab.errors import UserError
from dpo_lab.loss import kto, modified
from dpo_lab.needs import INGREDIENTS
from dpo_lab.paths import CONF_DIR
from dpo_lab.ranges import BelowHalf, Fraction, NonNegativeInt, Positive, Probability

NAMES = sorted(file.stem for file in (CONF_DIR / "loss").glob("*.yaml"))
SMOOTH = ("sigmoid", "ipo", "f_dpo", "plackett_luce", "orpo", "sft", "simpo", "apo_zero_unpaired", "sppo_soft", "mix")


@pytest.fixture(scope="module")
def entries() -> list[Entry]:
    return read_entries()


def default_curve(name: str, num_points: int = 5) -> Curve:
    return next(curve for curve in compute_picture(read_entry(name), num_points).curves if curve.is_default)


def test_every_file_of_the_group_is_an_entry_and_nothing_else(entries: list[Entry]) -> None:
    assert sorted(entry.name for entry in entries) == NAMES == names()
    kinds = [KINDS.index(entry.kind) for entry in entries]
    assert kinds == sorted(kinds)


@pytest.mark.parametrize("name", NAMES)
def test_a_loss_says_what_it_is(name: str) -> None:
    """Formula, summary and a meaning for each argument; a default that its own range allows."""
    entry = read_entry(name)
    assert entry.docstring.formula and entry.summary.endswith(".")
    target = locate(f"dpo_lab.loss.{name}.{name}", ("dpo_lab",))
    knobs = read_target(target).knobs
    assert [argument.name for argument in entry.arguments] == list(knobs)
    assert [argument.name for argument in entry.arguments if not argument.meaning] == []
    for argument in entry.arguments:
        if argument.type not in ("loss", "losses"):
            assert explain(argument.default, knobs[argument.name].annotation) is None


def test_sigmoid_in_full() -> None:
    found = read_entry("sigmoid").to_json()
    beta, label_smoothing = found.pop("arguments")
    assert found.pop("notes")[0].startswith("Source: Rafailov et al. 2023, arXiv 2305.18290, equation 7.")
    assert found.pop("returns").startswith("loss in nats, one a pair")
    assert found == {
        "name": "sigmoid",
        "kind": "pairs with a reference",
        "summary": "Direct preference optimisation, the original loss.",
        "formula": "-(1 - e) log sigmoid(beta h) - e log sigmoid(-beta h), "
        "with h the chosen minus the rejected log-ratio.",
        "paper": "2305.18290",
        "equation": "7",
        "further_papers": [],
        "needs": ["policy", "reference", "pairs"],
        "whole_batch": False,
        "modifiers": ["label_smoothing", "confidence", "alpha"],
        "config": {"_target_": "dpo_lab.loss.sigmoid.sigmoid", "beta": 0.1, "label_smoothing": 0.0},
    }
    assert beta.pop("meaning").startswith("strength of the pull to the reference")
    nothing = {"nullable": False, "choices": None}
    assert beta == {"name": "beta", "type": "number", "default": 0.1, "range": "(0, inf)", **nothing}
    assert label_smoothing["range"] == "[0, 0.5)"


def test_kinds_follow_from_needs_and_composites_are_built() -> None:
    kinds = {name: read_entry(name).kind for name in ("rpo", "orpo", "simpo", "kto", "plackett_luce", "sft", "mix")}
    assert kinds == {
        "rpo": "pairs with a reference",
        "orpo": "pairs without a reference",
        "simpo": "pairs without a reference",
        "kto": "single labels",
        "plackett_luce": "lists",
        "sft": "likelihood and mixtures",
        "mix": "likelihood and mixtures",
    }
    assert read_entry("rpo").needs == ("policy", "reference", "pairs", "chosen")
    assert read_entry("kto").objective.whole_batch
    [terms] = read_entry("mix").arguments
    assert (terms.type, terms.shown_default) == ("losses", "1 sigmoid + 0.1 sft")


@pytest.mark.parametrize("name", NAMES)
def test_modifiers_are_said_of_the_losses_that_take_them_and_of_no_other(name: str) -> None:
    entry = read_entry(name)
    if entry.modifiers:
        assert len(modified(base=entry.function, label_smoothing=0.1).terms) == 1
    else:
        with pytest.raises(UserError, match=f"{name} takes no modifier"):
            modified(base=entry.function, label_smoothing=0.1)
    assert bool(entry.modifiers) == (name in re.split("[:,] ", not_modified())[1:])


def not_modified() -> str:
    with pytest.raises(UserError, match="Losses that take them: ") as raised:
        modified(base=kto)
    return str(raised.value).partition("Losses that take them")[2]


def test_a_set_of_another_library_is_the_loss_with_its_arguments() -> None:
    found = read_entry("trl_1_16/ipo")
    assert found.summary.startswith('TRL 1.16, DPOTrainer: loss_type="ipo". Log-ratios per token')
    assert [argument.default for argument in found.arguments] == [0.1, "mean"]
    assert found.docstring == read_entry("ipo").docstring
    config = read_entry("llama_factory/sigmoid_bco").to_json()["config"]
    assert {name: term["weight"] for name, term in config["terms"].items()} == {"preference": 0.5, "quality": 0.5}
    assert set(names()).isdisjoint(set_names())


def test_the_nearest_loss_is_suggested() -> None:
    with pytest.raises(UserError, match=r"^sigmod: no such loss; did you mean sigmoid\? known: .*, ipo, "):
        read_entry("sigmod")
    with pytest.raises(UserError, match=r"^trl_1_16/ip: no such loss; did you mean trl_1_16/ipo\? known: eric_"):
        read_entry("trl_1_16/ip")


def sample(
    policy: Any,
    *,
    beta: Positive = 0.1,
    fraction: Fraction = 0.0,
    share: Probability = 1.0,
    half: BelowHalf | None = None,
    steps: NonNegativeInt = 3,
    low: Annotated[float, Le(1), Lt(5)] = 0.0,
    free: float = -1e-6,
    form: Literal["sum", "mean"] = "sum",
    flag: bool = True,
    word: str = "x",
) -> None:
    """beta x.

    A first paragraph (arXiv 9999.99999, equation 1, is none of its sources).
    Source: A et al. 2020, arXiv 2001.00001, equations 4 (odds), 5 and 7 (odds ratio), and B 2021, arXiv 2101.00002,
    section 3, after C, equation 9.

    Published code differs: as in arXiv 9999.99998.

    Args:
        beta: larger: steeper,
            always.
        flag: whether.

    Returns:
        nothing: at all.

    Raises:
        ValueError: never.
    """


def test_arguments_by_hand() -> None:
    arguments = read_arguments(sample, dict(sample.__kwdefaults__ or {}), {"beta": "larger"})
    found = {argument.name: argument for argument in arguments}
    assert {name: (argument.type, argument.range) for name, argument in found.items()} == {
        "beta": ("number", "(0, inf)"),
        "fraction": ("number", "[0, 1)"),
        "share": ("number", "[0, 1]"),
        "half": ("number", "[0, 0.5)"),
        "steps": ("whole number", "[0, inf)"),
        "low": ("number", "(-inf, 5)"),
        "free": ("number", None),
        "form": ("choice", None),
        "flag": ("true or false", None),
        "word": ("text", None),
    }
    assert {name for name, argument in found.items() if argument.nullable} == {"half"}
    assert found["beta"].meaning == "larger" and found["half"].meaning == ""
    assert {name: f"{argument.shown_default} {argument.short}" for name, argument in found.items()} == {
        "beta": "0.1 (0, inf)",
        "fraction": "0 [0, 1)",
        "share": "1 [0, 1]",
        "half": "null or [0, 0.5)",
        "steps": "3 [0, inf)",
        "low": "0 (-inf, 5)",
        "free": "-1e-06 any number",
        "form": "sum (or mean)",
        "flag": "true (or false)",
        "word": "x ",
    }
    assert [found[name].allowed for name in ("half", "steps", "form", "flag", "free")] == [
        "[0, 0.5) | null",
        "whole number in [0, inf)",
        "sum | mean",
        "true or false",
        "any number",
    ]


def test_a_docstring_by_hand() -> None:
    found = read_docstring(sample)
    assert found.formula == "beta x."
    assert found.papers == (Paper("2001.00001", "4, 5 and 7"), Paper("2101.00002"))
    assert [note.split()[0] for note in found.notes] == ["A", "Published"]
    assert found.arguments == {"beta": "larger: steeper, always.", "flag": "whether."}
    assert found.returns == "nothing: at all."
    assert read_docstring(lambda: None).formula == ""


def test_curves_by_hand() -> None:
    """Margins -30, -15, 0, 15, 30 at beta 0.1.

    sigmoid: log(1 + exp(-m / 10)), and 1 / (10 (1 + exp(m / 10))). ipo: (m - 5)^2 and 10 - 2 m. sft, which has no beta,
    so that m ends at 4 and B = -5/2: 5/2 - m/2, and 1/2. apo_zero_unpaired, the mean of two rows' sigmoid(-m / 20):
    1/2 at 0, and slope 1/80.
    """
    sigmoid = default_curve("sigmoid")
    margins = [-30, -15, 0, 15, 30]
    assert sigmoid.margin == pytest.approx(margins)
    assert sigmoid.loss == pytest.approx([math.log1p(math.exp(-m / 10)) for m in margins])
    assert sigmoid.weight == pytest.approx([0.1 / (1 + math.exp(m / 10)) for m in margins])
    ipo = default_curve("ipo")
    assert ipo.loss == pytest.approx([(m - 5) ** 2 for m in margins])
    assert ipo.weight == pytest.approx([10 - 2 * m for m in margins])
    sft = default_curve("sft")
    assert sft.margin == pytest.approx([-4, -2, 0, 2, 4])
    assert sft.loss == pytest.approx([4.5, 3.5, 2.5, 1.5, 0.5])
    assert sft.weight == pytest.approx([0.5] * 5)
    apo = default_curve("apo_zero_unpaired", 3)
    assert (apo.loss[1], apo.weight[1]) == pytest.approx((0.5, 1 / 80))


def test_what_is_varied() -> None:
    def labels(name: str) -> list[str]:
        return [curve.label for curve in compute_picture(read_entry(name), 3).curves]

    assert labels("sigmoid") == ["beta 0.05", "beta 0.1", "beta 0.2"]
    assert labels("slic") == ["gamma 0.5", "gamma 1", "gamma 2"]
    assert labels("orpo") == ["weight 0.05", "weight 0.1", "weight 0.2"]
    assert labels("sft") == labels("mix") == [""]


def test_how_far_margins_reach() -> None:
    """3 / beta: of the loss itself (5 for ln_dpo), or of the first loss inside it (0.1); 4 where there is no beta."""
    reach = {name: default_curve(name, 3).margin for name in ("ln_dpo", "mix", "slic")}
    assert reach == {name: pytest.approx((-end, 0, end)) for name, end in (("ln_dpo", 0.6), ("mix", 30), ("slic", 4))}


def test_a_batch_has_every_ingredient() -> None:
    import torch

    assert set(batch(torch.tensor(1.0), -2.0)) == set(INGREDIENTS)


@pytest.mark.parametrize("name", NAMES)
def test_every_loss_has_a_picture(name: str) -> None:
    picture = compute_picture(read_entry(name), 5)
    assert [curve.is_default for curve in picture.curves].count(True) == 1
    for curve in picture.curves:
        assert None not in (*curve.loss, *curve.weight)
        assert any(weight for weight in curve.weight if weight is not None)


@pytest.mark.parametrize("name", SMOOTH)
def test_a_gradient_weight_is_minus_the_slope_of_its_loss(name: str) -> None:
    objective, step = read_entry(name).objective, 1e-4
    (below, _), (_, weight), (above, _) = (evaluate(objective, 0.7 + side * step, -4.0) for side in (-1, 0, 1))
    assert below is not None and above is not None
    assert weight == pytest.approx((below - above) / (2 * step), rel=1e-5)


def test_json_is_finite_and_the_same_each_time(entries: list[Entry]) -> None:
    first = json.dumps([entry.to_json() for entry in entries], allow_nan=False)
    assert first == json.dumps([entry.to_json() for entry in read_entries()], allow_nan=False)
    keys = {frozenset(loss) for loss in json.loads(first)}
    assert len(keys) == 1
    page = write_page(entries)
    documented = page[page.index("## JSON") :]
    assert all(f"| `{key}` |" in documented for key in next(iter(keys)))
    assert all(f"`{key}`" in documented for key in Argument.__dataclass_fields__)


def test_the_page_is_what_the_losses_say(entries: list[Entry], root: Path) -> None:
    page = (root / "docs" / "losses.md").read_text(encoding="utf-8")
    assert page == write_page(entries), "docs/losses.md is old; run: python scripts/make_gallery.py"
