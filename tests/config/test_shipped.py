"""Every shipped YAML composes and fits the signature that it feeds."""

import inspect
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from dpo_lab.config import find_faults
from dpo_lab.config.evaluation import compose_evaluation
from dpo_lab.config.overrides import review
from dpo_lab.config.signature import locate, read_target
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR

CHOICES = sorted(
    "=".join(file.relative_to(CONF_DIR).with_suffix("").as_posix().split("/", maxsplit=1))
    for file in CONF_DIR.rglob("*.yaml")
    if file.parent not in (CONF_DIR, CONF_DIR / "hydra", CONF_DIR / "judge") and CONF_DIR / "sweep" not in file.parents
)
COMPANIONS = {
    "reference=adapter_off": ["model.lora_rank=4"],
    "recipe=news_classification_small_classifier": ["experiment=news_classification"],
    "recipe=extractive_qa_small_extractive_qa": ["experiment=extractive_qa"],
} | {choice: ["data=files"] for choice in CHOICES if choice.startswith("prepare=")}
"""What a choice cannot do without."""


@pytest.mark.parametrize("choice", ["seed=0", *CHOICES])
def test_a_choice_composes_and_fits(choice: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    reviewed = review([choice, *COMPANIONS.get(choice, [])], Source(str(CONF_DIR), "train"), multirun=False)
    assert reviewed.faults == []
    faults = [fault for config in reviewed.configs for fault in find_faults(config)]
    to_be_given = [fault for fault in faults if "must be given: " in fault]
    assert [fault for fault in faults if fault not in to_be_given] == []
    assert all((".path: " in fault) or (".templates: " in fault) for fault in to_be_given)


@pytest.mark.parametrize("file", sorted((CONF_DIR / "judge").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_judge_composes_fits_and_lists_all_its_knobs(file: Path) -> None:
    """With those that have to be given; `dpo-lab train` takes none."""
    node = Source(str(CONF_DIR), "evaluate").compose([f"judge={file.stem}"]).judge
    needed = [f"judge.{key}=x" for key in node if OmegaConf.is_missing(node, key)]
    found = compose_evaluation([f"judge={file.stem}", *needed])["judge"]
    assert set(read_target(locate(found["_target_"], ("dpo_lab",))).knobs) == set(found) - {"_target_"}
    assert review([f"judge={file.stem}"], Source(str(CONF_DIR), "train"), multirun=False).faults


@pytest.mark.parametrize("file", sorted((CONF_DIR / "loss").glob("*.yaml")), ids=lambda file: file.stem)
def test_a_loss_lists_all_its_knobs(file: Path) -> None:
    """What can be varied is seen in its YAML: no knob lives in the signature alone."""
    node = Source(str(CONF_DIR), "train").compose([f"loss={file.stem}"]).loss
    knobs = set(read_target(locate(node._target_, ("dpo_lab",))).knobs)
    assert knobs <= set(node.keys())


def test_steps_list_all_their_knobs_with_their_defaults_and_keep_their_order() -> None:
    names = sorted((file.stem for file in (CONF_DIR / "prepare").glob("*.yaml")), reverse=True)
    nodes: Any = OmegaConf.to_container(
        Source(str(CONF_DIR), "train").compose([f"prepare=[{','.join(names)}]"]).prepare
    )
    assert list(nodes) == names
    for name, node in nodes.items():
        target = locate(node.pop("_target_"), ("dpo_lab",))
        assert (target.__module__, target.__name__) == (f"dpo_lab.prepare.{name}", name)
        parameters = inspect.signature(target).parameters
        required = {key for key, parameter in parameters.items() if parameter.default is inspect.Parameter.empty}
        assert {key for key, value in node.items() if value == "???"} == required
        assert {key: tuple(value) if isinstance(value, list) else value for key, value in node.items()} == {
            key: "???" if key in required else parameter.default for key, parameter in parameters.items()
        }
