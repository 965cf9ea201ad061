"""Signatures are read as schemas."""

import pytest

from dpo_lab.config.signature import TargetError, is_importable, locate, read_shape, read_target
from tests.config import stub_targets

TARGETS = "tests.config.stub_targets"


def test_a_function_and_a_class_give_their_keyword_only_arguments() -> None:
    of_ipo = read_target(stub_targets.ipo)
    assert {name: knob.required for name, knob in of_ipo.knobs.items()} == {"beta": True, "normalization": False}
    assert of_ipo.given == {"policy"}
    assert "max_steps" in read_target(stub_targets.Trainer).knobs
    assert read_target(stub_targets.anything).is_open


def test_annotations_written_as_text_are_read() -> None:
    """The framework's own arguments may name types that exist only while type checking."""

    def late(policy: "Unknown", *, beta: "int"): ...  # type: ignore[name-defined]  # noqa: F821

    assert read_target(late).knobs["beta"].annotation is int


def test_typed_dicts_and_dataclasses_have_keys() -> None:
    weighted, trainer = read_shape(stub_targets.Weighted), read_shape(stub_targets.Trainer)
    assert weighted is not None
    assert trainer is not None
    assert weighted.knobs["weight"].required
    assert not trainer.knobs["fused"].required
    assert read_shape(dict[str, int]) is None


def test_a_target_is_found_even_where_a_package_hides_its_modules() -> None:
    """``dpo_lab.loss.sigmoid`` is the function once the package is imported; the module must still be found."""
    import dpo_lab.loss

    assert locate("dpo_lab.loss.sigmoid.sigmoid", ("dpo_lab",)) is dpo_lab.loss.sigmoid


@pytest.mark.parametrize("target", ["sigmoid", "", "os.system", "dpo_lab_other.thing", f"{TARGETS}.nothing"])
def test_other_targets_are_refused(target: str) -> None:
    with pytest.raises(TargetError):
        locate(target, ("dpo_lab", TARGETS))


def test_importable_packages() -> None:
    assert is_importable("json")
    assert is_importable(TARGETS)
    assert not any(map(is_importable, ["no_such_package", "no.such", "a b", "os;", "", "json."]))
