"""Every kind of fault is found, named by its dotted key, and none hides another."""

from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dpo_lab.config import ConfigError, check, find_faults
from dpo_lab.errors import UserError

TARGETS = "tests.config.stub_targets"


def faults_with(cfg: dict[str, Any], key: str, value: Any) -> list[str]:
    """Faults after `value` is put at the dotted `key`."""
    changed = OmegaConf.create(cfg)
    OmegaConf.update(changed, key, value, merge=False, force_add=True)
    return find_faults(changed)


def test_a_config_without_fault_passes_and_is_left_as_it_was(cfg: dict[str, Any]) -> None:
    before = OmegaConf.create(cfg)
    check(before)
    assert before == OmegaConf.create(cfg)


def test_all_faults_come_in_one_user_error(cfg: dict[str, Any]) -> None:
    cfg["loss"] = {"_target_": f"{TARGETS}.sigmoid", "bata": 0.1, "beta": -1}
    cfg["seed"] = -1
    with pytest.raises(ConfigError) as raised:
        check(cfg)
    assert raised.value.faults == (
        "loss.bata: no such key; did you mean loss.beta? keys of loss: beta, label_smoothing",
        "loss.beta: must be greater than 0, got -1",
        "seed: must be at least 0, got -1",
    )
    assert isinstance(raised.value, UserError)
    assert raised.value.exit_code == 2
    assert str(raised.value).startswith("3 faults in the config; nothing was started\n  loss.bata")


@pytest.mark.parametrize(
    ("key", "value", "fault"),
    [
        ("loss.beta", "1e-5x", "loss.beta: must be a number, got '1e-5x'"),
        ("loss.beta", "nan", "loss.beta: must be a number, got 'nan'"),
        ("loss.beta", float("nan"), "loss.beta: must be finite, got nan"),
        ("loss.beta", float("inf"), "loss.beta: must be finite, got inf"),
        ("loss.beta", True, "loss.beta: must be a number, got true"),
        ("loss.beta", None, "loss.beta: must be a number, got null"),
        ("loss.beta", "???", "loss.beta: must be given: loss.beta=VALUE"),
        ("loss.beta", "${nowhere}", "loss.beta: Interpolation key 'nowhere' not found"),
        ("loss.label_smoothing", 0.5, "loss.label_smoothing: must be less than 0.5, got 0.5"),
        ("loss.policy", 1, "loss.policy: is given by the framework, not by the config; remove it"),
        ("trainer.max_steps", 1000.0, "trainer.max_steps: must be a whole number or null, got 1000.0"),
        ("trainer.max_steps", 0, "trainer.max_steps: must be greater than 0 or null, got 0"),
        ("trainer.warmup", True, "trainer.warmup: must be a whole number, got true"),
        ("trainer.fused", "on", "trainer.fused: must be true or false, got 'on'"),
        ("model.path", 3, "model.path: must be text, got 3"),
        ("model.betas", [0.9], "model.betas: must have more entries, got [0.9]"),
        ("model.betas", [0.9, 1.0], "model.betas: must be less than 1, got [0.9, 1.0]"),
        ("model.tags", ["a", 1], "model.tags.1: must be text, got 1"),
        ("model.tags", "a", "model.tags: must be a list or null, got 'a'"),
        ("data.columns", {"prompt": 1}, "data.columns.prompt: must be text, got 1"),
        ("data.columns", [1], "data.columns: must be a mapping or null, got [1]"),
        ("name", "a/b", "name: must name a folder: letters, digits, '_', '-', '.', beginning with a letter"),
        ("seeds", {"oder": 1}, "seeds.oder: no such key; did you mean seeds.order? keys of seeds: dropout, init, or"),
        ("seeds", 3, "seeds: must be a mapping, got 3"),
        ("fresh", "yes", "fresh: must be true or false, got 'yes'"),
        ("loss", "sigmoid", "loss: must be a node with a _target_"),
        ("loss", {"beta": 1}, "loss: must be a node with a _target_"),
        ("loss", None, "loss: must be a node with a _target_"),
        ("los", {"beta": 1}, "los: no such key; did you mean loss? top-level keys: cache_dir"),
        ("loss._target_", 3, "loss._target_: must be package.module.name, got 3"),
        ("loss._target_", "os.system", "loss._target_: os.system lies outside of dpo_lab, tests.config"),
        ("loss._target_", "dpo_lab_evil.run", "loss._target_: dpo_lab_evil.run lies outside of dpo_lab"),
        ("loss._target_", f"{TARGETS}.sigmod", f"loss._target_: {TARGETS} has no sigmod; did you mean sigmoid?"),
        ("loss._target_", f"{TARGETS}.not_callable", f"loss._target_: {TARGETS} has no not_callable"),
        ("loss._target_", f"{TARGETS}.no.such", f"loss._target_: cannot import {TARGETS}.no"),
        ("loss._args_", [1], "loss._args_: no such key"),
        ("plugins", [TARGETS, "no.such"], "plugins: no package 'no.such' can be imported"),
        ("plugins", [TARGETS, "a b"], "plugins: no package 'a b' can be imported"),
        ("plugins", TARGETS, f"plugins: must be a list, got '{TARGETS}'"),
    ],
)
def test_each_kind_of_fault_is_named_by_its_key(cfg: dict[str, Any], key: str, value: Any, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults_with(cfg, key, value)), faults_with(cfg, key, value)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("loss.beta", 1),
        ("trainer.max_steps", None),
        ("model.betas", [0, 0.5]),
        ("model.tags", ["a"]),
        ("data.columns", {"prompt": "question"}),
        ("start", None),
        ("seeds", {"order": 3}),
        ("optimizer.whatever", [1, {"a": 2}]),
        ("seed", "${trainer.max_steps}"),
    ],
)
def test_what_is_allowed_passes(cfg: dict[str, Any], key: str, value: Any) -> None:
    cfg["trainer"]["max_epochs"] = 1
    assert faults_with(cfg, key, value) == []


def test_missing_keys_and_groups_are_named(cfg: dict[str, Any]) -> None:
    del cfg["model"]["path"]
    del cfg["data"]
    del cfg["runs_dir"]
    assert find_faults(cfg) == [
        "model.path: missing; it has no default",
        "data: missing; choose one: data=NAME",
        "runs_dir: missing; it has no default",
    ]


def test_targets_inside_targets_are_checked(cfg: dict[str, Any]) -> None:
    loss = {"_target_": f"{TARGETS}.ipo", "normalization": "avg"}
    terms = {"first": {"weight": -1, "loss": loss}, "second": {"wieght": 1.0}, "third": 3}
    cfg["loss"] = {"_target_": f"{TARGETS}.mix", "terms": terms}
    assert find_faults(cfg) == [
        "loss.terms.first.weight: must be at least 0, got -1",
        "loss.terms.first.loss.normalization: must be 'sum' or 'mean', got 'avg'",
        "loss.terms.first.loss.beta: missing; it has no default",
        "loss.terms.second.wieght: no such key; did you mean loss.terms.second.weight? "
        "keys of loss.terms.second: loss, weight",
        "loss.terms.second.weight: missing; it has no default",
        "loss.terms.second.loss: missing; choose one: loss=NAME",
        "loss.terms.third: must be a mapping, got 3",
    ]


def test_a_knob_of_another_choice_is_refused_wherever_it_stands(cfg: dict[str, Any]) -> None:
    """A key that was added past the overrides' own check, at a group's place and inside a mix."""
    ipo = {"_target_": "dpo_lab.loss.ipo.ipo", "label_smoothing": 0.1}
    [fault] = faults_with(cfg, "loss", ipo)
    assert fault.startswith("loss.label_smoothing: ipo does not take label_smoothing; choices of loss that do: ")
    assert ", cpo, " in fault and ", sigmoid, " in fault
    assert fault.endswith("; keys of loss: beta, normalization")
    terms = {"only": {"weight": 1.0, "loss": ipo}}
    [fault] = faults_with(cfg, "loss", {"_target_": "dpo_lab.loss.mix.mix", "terms": terms})
    assert fault.startswith("loss.terms.only.loss.label_smoothing: ipo does not take label_smoothing; ")
    [fault] = faults_with(cfg, "loss", {"_target_": "dpo_lab.loss.ipo.ipo", "bata": 0.1})
    assert fault == "loss.bata: no such key; did you mean loss.beta? keys of loss: beta, normalization"


def test_an_error_survives_a_pickle() -> None:
    """Sweeps on other launchers carry errors between processes."""
    import pickle

    error = pickle.loads(pickle.dumps(ConfigError("seed: must be at least 0, got -1")))
    assert error.faults == ("seed: must be at least 0, got -1",)


def test_a_check_makes_no_folder(cfg: dict[str, Any], workplace: Path) -> None:
    check(cfg)
    assert list(workplace.iterdir()) == []
