"""The laws of `tests.model.policy_laws`, for every kind of policy."""

from collections.abc import Callable
from functools import cache
from pathlib import Path

import pytest

from tests.model import policy_laws
from tests.model.policy_cases import CASES, WITHOUT_ADAPTER, Case


@pytest.fixture(scope="module")
def cases(tmp_path_factory: pytest.TempPathFactory):
    return cache(lambda name: CASES[name](tmp_path_factory.mktemp))


@pytest.fixture(params=CASES)
def case(request: pytest.FixtureRequest, cases) -> Case:
    return cases(request.param)


def test_company_and_order_change_nothing(case: Case):
    policy_laws.company_and_order_change_nothing(case.load(case.folder), case.groups)


def test_the_mask_covers_exactly_the_response(case: Case):
    policy_laws.mask_covers_exactly_the_response(case.load(case.folder), case.groups, case.num_decisions)


def test_the_whole_space_sums_to_one(case: Case):
    policy_laws.the_whole_space_sums_to_one(case.small, case.prompt, case.answers)


def test_the_distribution_holds_what_was_decided(case: Case):
    policy_laws.distribution_holds_what_was_decided(case.load(case.folder), case.groups)


def test_draws_follow_log_probs(case: Case):
    policy_laws.draws_follow_log_probs(case.small, case.prompt, case.answers, num=400)


def test_cached_equals_live(case: Case, tmp_path: Path):
    policy_laws.cached_equals_live(case.load(case.folder), case.groups, tmp_path)


def test_noise_of_training_is_off(case: Case):
    policy_laws.noise_of_training_is_off(case.load(case.folder), case.groups)


def test_export_gives_the_same_policy(case: Case, tmp_path: Path):
    policy_laws.export_gives_the_same_policy(case.load(case.folder), case.load, case.groups, tmp_path / "model")


@pytest.mark.parametrize("name", sorted(CASES.keys() - WITHOUT_ADAPTER))
def test_lora_reference_off_equals_base(cases: Callable[[str], Case], name: str):
    case = cases(name)
    policy_laws.reference_off_is_the_base(case.load(case.folder, **case.adapter), case.load(case.folder), case.groups)


@pytest.mark.parametrize("name", ["llava", "idefics3"])
def test_what_sees_is_reached_by_images_alone(cases: Callable[[str], Case], name: str):
    case = cases(name)
    policy_laws.what_sees_is_reached_by_images_alone(case.load(case.folder), case.groups)
