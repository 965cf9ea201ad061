"""Where a run comes from."""

import shutil
import subprocess

import pytest

from dpo_lab.run import collect_provenance, describe_differences, provenance
from dpo_lab.run.provenance import code_diff, code_info, device_info


@pytest.fixture
def checkout(workplace, monkeypatch):
    """A small repository with one commit, taken for the checkout of dpo_lab."""
    repository = workplace / "repository"
    package = repository / "dpo_lab"
    package.mkdir(parents=True)
    (repository / "pyproject.toml").write_text("")
    (package / "loss.py").write_text("beta = 0.1\n")
    identity = ("-c", "user.name=a", "-c", "user.email=a@b.c")
    for arguments in (("init", "-q"), ("add", "."), (*identity, "commit", "-q", "-m", "first")):
        subprocess.run(["git", "-C", repository, *arguments], check=True)
    monkeypatch.setattr(provenance, "PACKAGE", package)
    return repository


def test_record():
    record = collect_provenance()
    assert record["packages"]["torch"]
    assert len(record["code"]["hash"]) == 64
    assert device_info()["num_threads"] >= 1


def test_a_clean_checkout_has_an_empty_diff(checkout):
    assert code_diff() == ""
    assert code_info()["dirty"] is False
    assert len(code_info()["commit"]) == 40


def test_the_diff_rebuilds_changed_and_new_sources(checkout, workplace):
    before = code_info()["hash"]
    clone = workplace / "clone"
    subprocess.run(["git", "clone", "-q", checkout, clone], check=True)
    (checkout / "dpo_lab" / "loss.py").write_text("beta = 0.2\n")
    (checkout / "dpo_lab" / "new_loss.py").write_text("gamma = 1\n")
    (checkout / "dpo_lab" / "weights.bin").write_text("no source")
    assert code_info()["dirty"] is True
    assert code_info()["hash"] != before
    subprocess.run(["git", "-C", clone, "apply", "-"], input=code_diff().encode(), check=True)
    assert (clone / "dpo_lab" / "loss.py").read_text() == "beta = 0.2\n"
    assert (clone / "dpo_lab" / "new_loss.py").read_text() == "gamma = 1\n"
    assert not (clone / "dpo_lab" / "weights.bin").exists()


def test_what_is_too_long_is_left_out_and_named(checkout):
    (checkout / "dpo_lab" / "big.py").write_text("x = 1\n" * 200_000)
    assert code_diff() == "# left out, too long: dpo_lab/big.py\n"


def test_without_a_checkout_there_is_no_commit_and_no_diff(checkout):
    shutil.rmtree(checkout / ".git")
    assert code_diff() == ""
    assert (code_info()["commit"], code_info()["dirty"]) == (None, None)


def test_only_differences_that_can_move_a_number_are_told():
    before = {
        "python": "3.11.7",
        "packages": {"torch": "2.11.0", "rich": "1"},
        "code": {"hash": "a", "commit": "c" * 40},
    }
    now = {"python": "3.11.7", "packages": {"torch": "2.13.0", "rich": "2"}, "code": {"hash": "b", "commit": None}}
    assert describe_differences(before, now) == [
        "torch: 2.11.0 then, 2.13.0 now",
        "code of dpo_lab: commit cccccccccc then, sources b now",
    ]
    assert describe_differences(now, now) == []
