"""Overrides are judged one by one, by the config that the others make."""

import warnings
from pathlib import Path

import pytest

from dpo_lab.config import find_faults
from dpo_lab.config.overrides import Review, review
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR


def look(conf_dir: Path, *overrides: str, multirun: bool = False) -> Review:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        return review(list(overrides), Source(str(conf_dir), "train"), multirun=multirun)


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("loss=sigmod", "loss=sigmod: no such loss; did you mean sigmoid? known: ipo, sigmoid"),
        ("loss=xyzzy", "loss=xyzzy: no such loss; known: ipo, sigmoid"),
        ("loss=null", "loss=null: no such loss; known: ipo, sigmoid"),
        ("loss=dpo", "loss=dpo: no such loss; did you mean sigmoid?"),
        ("loss=IPO.yaml", "loss=IPO.yaml: no such loss; did you mean ipo?"),
        ("=1", "=1: no key before the value; write key=value, for example loss=sigmoid"),
        ("", "'': an empty argument; write key=value"),
        ("~", "~: no key before the value"),
        ("loss.beta = 0.1", "loss.beta = 0.1: no blanks around the equals sign: loss.beta=0.1"),
        ("loss.=1", "loss.=1: a part of the key is empty; write group.knob=value"),
        ("los=ipo", "los=ipo: no such key; did you mean loss?"),
        ("loss.bata=1", "loss.bata=1: no such key; did you mean loss.beta? keys of loss (sigmoid): beta, label_smooth"),
        ("max_steps=1", "max_steps=1: no such key; did you mean trainer.max_steps?"),
        ("path=x", "path=x: no such key; did you mean data.path or model.path?"),
        ("model.max_steps=1", "model.max_steps=1: no such key; did you mean trainer.max_steps? keys of model (small)"),
        ("zzzz=1", "zzzz=1: no such key; top-level keys: cache_dir"),
        ("seeds.order.deep=1", "seeds.order.deep=1: "),
        ("+loss.beta=1", "+loss.beta=1: loss.beta is there already; write loss.beta=1"),
        ("~nothing", "~nothing: no such key"),
        ("~loss.bata", "~loss.bata: no such key; did you mean loss.beta?"),
        ("name=a=b", "name=a=b: this value needs quotes, for Hydra and for the shell: 'name=\"a=b\"'"),
        ("sigmoid", "sigmoid: not an override; write key=value"),
        ("--loss.beta=1", "--loss.beta=1: no such flag; a knob is written without dashes: key=value"),
        (
            "loss=sigmoid,ipo",
            "loss=sigmoid,ipo: several values are a sweep, which needs -m; a list is loss=[sigmoid,ipo]",
        ),
        ("loss@other=ipo", "loss@other=ipo: Could not override 'loss@other'."),
        ("experiment=nope", "experiment=nope: no such experiment; known: short"),
    ],
)
def test_each_kind_of_fault_names_the_remedy(conf_dir: Path, override: str, fault: str) -> None:
    faults = look(conf_dir, override).faults
    assert len(faults) == 1, faults
    assert faults[0].startswith(fault)


def test_all_faults_at_once(conf_dir: Path) -> None:
    reviewed = look(conf_dir, "loss.bata=1", "seed=-1", "los=ipo", "name=a=b", "data=fils")
    assert len(reviewed.faults) == 4
    assert find_faults(reviewed.configs[0]) == ["seed: must be at least 0, got -1"]


@pytest.mark.parametrize(
    "overrides",
    [
        [],
        ["loss=ipo", "loss.normalization=mean"],
        ["loss.normalization=mean", "loss=ipo"],
        ["experiment=short", "loss.normalization=mean"],
        ["start=none"],
        ["++loss.label_smoothing=0.1", "+seeds.init=3"],
        ["+trainer.note=x", "~trainer.note"],
        ["hydra.verbose=true", "hydra.nonsense=1"],
        ["data.columns={prompt:question}"],
        ["name='a,b'"],
        ["seed=${trainer.max_steps}"],
    ],
)
def test_good_overrides_pass(conf_dir: Path, overrides: list[str]) -> None:
    assert look(conf_dir, *overrides).faults == []


def test_keys_follow_the_group_choices_of_other_overrides(conf_dir: Path) -> None:
    [fault] = look(conf_dir, "loss.label_smoothing=0.1", "loss=ipo").faults
    assert fault == (
        "loss.label_smoothing=0.1: ipo does not take label_smoothing; choices of loss that do: sigmoid; "
        "keys of loss (ipo): beta, normalization"
    )


def test_a_misspelt_option_is_judged_on_as_its_nearest(conf_dir: Path) -> None:
    """``loss=ipoo`` is one fault: a key that only `ipo` has is no second one, but its value is still checked."""
    reviewed = look(conf_dir, "loss=ipoo", "loss.normalization=avg")
    assert len(reviewed.faults) == 1
    assert find_faults(reviewed.configs[0]) == ["loss.normalization: must be 'sum' or 'mean', got 'avg'"]
    assert len(look(conf_dir, "loss=xyzzy", "loss.tau=1").faults) == 1


def test_added_keys_are_judged_by_the_signature(conf_dir: Path) -> None:
    reviewed = look(conf_dir, "+loss.bata=1", "+loss.gamma=1")
    assert reviewed.faults == []
    assert [fault.split(";")[0] for fault in find_faults(reviewed.configs[0])] == [
        "loss.bata: no such key",
        "loss.gamma: no such key",
    ]


def test_every_choice_of_a_sweep_is_judged(conf_dir: Path) -> None:
    """One config for the first choices and one per further choice: 1 + 1 (loss) + 2 (beta) + 1 (seed's far end)."""
    sweep = ["loss=sigmoid,ipo", "loss.beta=0.1,-1,x", "seed=range(0,5)"]
    reviewed = look(conf_dir, *sweep, multirun=True)
    assert reviewed.faults == []
    assert len(reviewed.configs) == 5
    assert [fault for config in reviewed.configs for fault in find_faults(config)] == [
        "loss.beta: must be greater than 0, got -1",
        "loss.beta: must be a number, got 'x'",
    ]


def test_a_key_that_one_swept_group_lacks_is_a_fault(conf_dir: Path) -> None:
    [fault] = look(conf_dir, "loss=sigmoid,ipo", "loss.label_smoothing=0.1", multirun=True).faults
    assert fault.endswith("keys of loss (ipo): beta, normalization")


def test_globs_and_misspelt_choices_of_a_sweep(conf_dir: Path) -> None:
    assert len(look(conf_dir, "loss=glob(*)", multirun=True).configs) == 2
    [fault] = look(conf_dir, "loss=sigmoid,ippo", multirun=True).faults
    assert fault == "loss=ippo: no such loss; did you mean ipo? known: ipo, sigmoid"


def test_a_mode_in_the_config_is_a_sweep_without_the_flag(conf_dir: Path) -> None:
    (conf_dir / "experiment" / "sweep.yaml").write_text("# @package _global_\nhydra: {mode: MULTIRUN}")
    assert look(conf_dir, "experiment=sweep", "seed=1,2").faults == []


def test_a_folder_of_ones_own_adds_options(conf_dir: Path, tmp_path: Path) -> None:
    extra = tmp_path / "mine" / "loss"
    extra.mkdir(parents=True)
    (extra / "own.yaml").write_text("_target_: tests.config.stub_targets.sigmoid\nbeta: 2")
    source = Source(str(conf_dir), "train", extra_dir=str(tmp_path / "mine"))
    reviewed = review(["loss=own", "loss.beta=3"], source, multirun=False)
    assert reviewed.faults == []
    assert reviewed.configs[0].loss.beta == 3
    by_searchpath = look(conf_dir, f"hydra.searchpath=['file://{tmp_path / 'mine'}']", "loss=own")
    assert by_searchpath.faults == []


def test_a_missing_primary_config_is_one_fault(conf_dir: Path) -> None:
    [fault] = review([], Source(str(conf_dir), "nope"), multirun=False).faults
    assert fault.startswith("Cannot find primary config 'nope'")


def test_a_knob_of_another_choice_is_refused_with_the_choices_that_take_it() -> None:
    """Read from the files of the same group, whichever group it is; also behind a package, as in a mix."""
    shipped = Source(str(CONF_DIR), "train")

    def fault(*overrides: str) -> str:
        [found] = review(list(overrides), shipped, multirun=False).faults
        return found

    label_smoothing = fault("loss=ipo", "loss.label_smoothing=0.1")
    assert label_smoothing.startswith("loss.label_smoothing=0.1: ipo does not take label_smoothing; choices of loss")
    takers = label_smoothing.split("that do: ")[1].split(";")[0].split(", ")
    assert {"sigmoid", "cpo", "modified (around another: loss@loss.base=NAME)", "robust"} <= set(takers)
    assert not {"ipo", "hinge", "mix"} & set(takers)
    assert takers == sorted(takers)
    assert label_smoothing.endswith("; keys of loss (ipo): beta, normalization")
    assert fault("reference=uniform", "reference.path=x").startswith(
        "reference.path=x: uniform does not take path; choices of reference that do: frozen"
    )
    assert fault("data.path=x").startswith("data.path=x: reviews does not take path; choices of data that do: files")
    assert fault("loss=mix", "loss.terms.penalty.loss.gamma=3").startswith(
        "loss.terms.penalty.loss.gamma=3: sft does not take gamma; choices of loss that do: alphapo, "
    )
    assert "modified (around another: loss@loss.terms.penalty.loss.base=NAME)" in fault(
        "loss=mix", "loss.terms.penalty.loss.confidence=true"
    )
    assert fault("loss.terms.penalty.weight=1").startswith(
        "loss.terms.penalty.weight=1: sigmoid does not take terms.penalty.weight; choices of loss that do: mix;"
    )
    assert fault("loss=ipo", "~loss.gamma").startswith("~loss.gamma: ipo does not take gamma; choices of loss that do")


def test_a_folder_inside_a_group_has_options_of_its_own(conf_dir: Path) -> None:
    (conf_dir / "loss" / "other").mkdir()
    (conf_dir / "loss" / "other" / "square.yaml").write_text("defaults: [/loss/ipo@_here_]\nbeta: 3")
    reviewed = look(conf_dir, "loss=other/square", "loss.normalization=mean")
    assert reviewed.faults == []
    assert (reviewed.configs[0].loss.beta, reviewed.configs[0].loss.normalization) == (3, "mean")
    assert look(conf_dir, "loss=other/sqare").faults == [
        "loss=other/sqare: no such loss; did you mean other/square? known: other/square"
    ]
    assert look(conf_dir, "loss=others/ipo").faults[0].endswith("known: ipo, sigmoid")
    [fault] = look(conf_dir, "loss=other/square", "loss.label_smoothing=0.1").faults
    assert fault.startswith("loss.label_smoothing=0.1: other/square does not take label_smoothing; choices of loss")
    assert len(look(conf_dir, "loss=other/square,ipo", multirun=True).configs) == 2


def test_a_slip_of_the_pen_keeps_its_suggestion() -> None:
    [fault] = review(["loss.bata=1"], Source(str(CONF_DIR), "train"), multirun=False).faults
    assert fault == ("loss.bata=1: no such key; did you mean loss.beta? keys of loss (sigmoid): beta, label_smoothing")


def test_a_file_that_stands_elsewhere_takes_nothing_of_the_group(conf_dir: Path) -> None:
    """``experiment/short`` holds ``trainer.max_steps`` as a key of the whole config, not as one of `experiment`."""
    (conf_dir / "experiment" / "own.yaml").write_text("note: x")
    faults = look(conf_dir, "experiment=own", "experiment.trainer.max_steps=1").faults
    assert [fault.split(";")[0] for fault in faults] == ["experiment.trainer.max_steps=1: no such key"]
    (conf_dir / "experiment" / "other.yaml").write_text("word: ???\nnothing: null")
    [fault] = look(conf_dir, "experiment=own", "experiment.word=1").faults
    assert fault.startswith("experiment.word=1: own does not take word; choices of experiment that do: other")


def test_choices_of_ones_own_folder_are_named_too(conf_dir: Path, tmp_path: Path) -> None:
    extra = tmp_path / "mine" / "loss"
    extra.mkdir(parents=True)
    (extra / "own.yaml").write_text("_target_: tests.config.stub_targets.sigmoid\nlabel_smoothing: 0.0")
    [fault] = look(
        conf_dir, f"hydra.searchpath=['file://{tmp_path / 'mine'}']", "loss=ipo", "loss.label_smoothing=0.1"
    ).faults
    assert "choices of loss that do: own, sigmoid;" in fault


def test_a_knob_of_a_step_that_is_not_chosen_says_how_to_choose_it() -> None:
    asked = ("data=files", "data.path=a.jsonl", "prepare=[drop_duplicates]", "prepare.clean.unicode=NFKC")
    assert look(CONF_DIR, *asked).faults == [
        "prepare.clean.unicode=NFKC: clean is not chosen; name it among the others: prepare=[clean]"
    ]
    assert look(CONF_DIR, *asked[:2], "prepare=[drop_duplicates,clean]", asked[3]).faults == []
    swept = look(CONF_DIR, *asked[:2], "prepare=[clean],[word_dropout,clean]", multirun=True)
    assert [list(config.prepare) for config in swept.configs] == [["clean"], ["word_dropout", "clean"]]
