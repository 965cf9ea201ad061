"""The cache of a reference, through the commands: who finds what, and what `dpo-lab cache` says and does."""

import os
import time
from pathlib import Path
from typing import Any

import pytest

from dpo_lab.commands import cache, cli
from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR
from dpo_lab.run import Run
from tests.small import SMALL, run_train

SAME_NATS = 1e-4
QUIET = (
    *(override for override in SMALL if not override.startswith(("start.", "samples."))),
    "start=none",
    "samples.num=0",
    "trainer.save=none",
    "trainer.max_steps=1",
)


def counts(run: Run) -> tuple[int, int, int]:
    """Responses found, computed, and forward passes, as run.json has them."""
    use: dict[str, Any] = run.info["reference_cache"]
    return use["num_hits"], use["num_computed"], use["num_forward_passes"]


def test_the_second_run_of_a_sweep_spends_nothing_on_the_reference(capsys: pytest.CaptureFixture[str]):
    """40 pairs and 12 of validation are 104 responses, whatever loss, beta, seed, rate, batch, length and folder."""
    quiet = (*SMALL, "samples.num=0", "trainer.save=none")
    found, computed, passes = counts(run_train(*quiet))
    assert (found, computed) == (0, 104) and passes > 0
    assert "reference: 0 responses from the cache, 104 computed" in capsys.readouterr().err
    changed = ("loss.beta=0.3", "seed=5", "optimizer.lr=1e-4", "trainer.global_batch_size=4", "name=other")
    assert counts(run_train(*quiet, *changed)) == (104, 0, 0)
    assert "reference: 104 responses from the cache, 0 computed (0 forward passes), " in capsys.readouterr().err
    assert counts(run_train(*quiet, "loss=ipo", "trainer.micro_batch_size=3", "trainer.max_epochs=2")) == (104, 0, 0)


def test_borrowed_responses_are_computed_once():
    """They depend on the window, so a second beta finds them; the judged responses are those of any loss."""
    assert cli.main(["cache", "build", *QUIET]) == 0
    found, computed, _ = counts(run_train(*QUIET, "loss=kto", "trainer.max_steps=null"))
    assert found == 104 and computed > 0
    assert counts(run_train(*QUIET, "loss=kto", "trainer.max_steps=null", "loss.beta=0.3")) == (found + computed, 0, 0)


def test_another_reference_is_another_folder():
    """Its weights, the trainer's precision."""
    for change in ("seed=0", "seeds.init=7", "trainer.precision=bf16-mixed"):
        assert cli.main(["cache", "build", *QUIET, change]) == 0
    assert len(list(Path("cache/reference").glob("[0-9a-f]*"))) == 3


def test_cached_and_live_are_one_run_with_one_set_of_numbers():
    """The id is the same; a log-prob differs by the rounding of a batch's shape, every curve by no more."""
    live = run_train(*SMALL, "reference.cache=off")
    assert "reference_cache" not in live.info
    assert not Path("cache/reference").exists()
    cached = run_train(*SMALL, "fresh=true")
    cached_again = run_train(*SMALL, "fresh=true", "reference.verify_rows=5")
    assert cached.path.name == f"{live.path.name}-2"
    assert cached_again.path.name == f"{live.path.name}-3"
    assert cached_again.metrics == cached.metrics
    for row, other in zip(cached.metrics, live.metrics, strict=True):
        assert row.keys() == other.keys()
        exact = [name for name in row if "accurac" not in name]  # a margin of 0 rounds to either side
        assert [row[name] for name in exact] == pytest.approx([other[name] for name in exact], rel=1e-4, abs=SAME_NATS)


def test_require_stops_before_the_first_step_and_build_makes_it_pass(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", *QUIET, "reference.cache=require"]) == 2
    assert "104 of 104 responses are not in cache/reference/" in capsys.readouterr().err
    assert cli.main(["cache", "build", *QUIET, "reference.cache=require"]) == 0
    said = capsys.readouterr()
    assert "104 computed" in said.err
    assert Path(said.out.strip()).is_dir()
    assert counts(run_train(*QUIET, "reference.cache=require", "fresh=true")) == (104, 0, 0)


@pytest.mark.parametrize("choice", ["uniform", "ema"])
def test_what_has_no_cache_refuses_it_by_name(choice: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(["train", f"reference={choice}", "reference.cache=require"]) == 2
    assert f"{choice} does not take cache; choices of reference that do: " in capsys.readouterr().err


def test_a_loss_of_whole_distributions_says_that_it_uses_none(capsys: pytest.CaptureFixture[str]):
    run = run_train(*QUIET, "loss=tdpo1")
    assert "reference: this loss needs whole distributions" in capsys.readouterr().err
    assert "reference_cache" not in run.info
    assert cli.main(["train", *QUIET, "loss=tdpo1", "reference.cache=require"]) == 2
    assert "needs the whole distributions of the reference, which are not kept" in capsys.readouterr().err


def test_wrong_rows_are_noticed_by_the_start_check(capsys: pytest.CaptureFixture[str], monkeypatch):
    """The reference is the initial policy, so no row is computed again, and yet its cache is compared with it."""
    from dpo_lab.reference.cache_store import CacheStore

    take = CacheStore.take
    monkeypatch.setattr(CacheStore, "take", lambda *given: take(*given) - 0.01)
    assert cli.main(["train", *QUIET]) == 1
    assert "log-probs on disk that are not the reference's (reference.cache=off" in capsys.readouterr().err


def test_verify(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["cache", "verify", *QUIET]) == 2
    assert "no response of this run is in the cache" in capsys.readouterr().err
    assert cli.main(["cache", "build", *QUIET]) == 0
    capsys.readouterr()
    assert cli.main(["cache", "verify", "--rows", "7", *QUIET]) == 0
    assert capsys.readouterr().out.startswith("7 responses computed again; the largest difference is ")
    assert cli.main(["cache", "verify", *QUIET]) == 0
    assert capsys.readouterr().out.startswith("104 responses computed again")


def test_there_must_be_something_to_build(capsys: pytest.CaptureFixture[str]):
    for overrides in (["reference=uniform"], ["reference.cache=off"], ["loss=sft"]):
        assert cli.main(["cache", "build", *QUIET, *overrides]) == 2
        assert "this run keeps no log-probs" in capsys.readouterr().err
    assert cli.main(["cache", "build", "loss.bata=1"]) == 2
    assert "loss.bata=1: no such key" in capsys.readouterr().err
    assert not Path("cache/reference").exists()


def test_list_and_prune(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["cache", "list"]) == 0
    assert "no log-probs of a reference under cache" in capsys.readouterr().err
    assert cli.main(["cache", "build", *QUIET, "cache_dir=elsewhere"]) == 0
    (folder,) = Path("elsewhere/reference").glob("[0-9a-f]*")
    capsys.readouterr()
    where = ["--cache-dir", "elsewhere"]
    assert cli.main(["cache", "list", *where]) == 0
    shown = capsys.readouterr().out
    assert folder.name[:12] in shown and "Llama" in shown and " 104 " in shown and "today" in shown
    assert cli.main(["cache", "prune", folder.name[:6], "--dry-run", *where]) == 0
    assert capsys.readouterr().out == f"would delete {folder}\n"
    assert cli.main(["cache", "prune", "--older-than", "2", *where]) == 0
    assert "nothing to delete" in capsys.readouterr().err
    long_ago = time.time() - 3 * cache.DAY
    os.utime(folder / "record.json", (long_ago, long_ago))
    assert cli.main(["cache", "list", *where]) == 0
    assert "3 days ago" in capsys.readouterr().out
    assert folder.is_dir()
    assert cli.main(["cache", "prune", "--older-than", "2", *where]) == 0
    assert capsys.readouterr().out == f"deleted {folder}\n"
    assert not folder.exists()


def test_prune_takes_no_guesses(capsys: pytest.CaptureFixture[str]):
    for name in ("a" * 32, "a" + "b" * 31):
        (Path("cache/reference") / name).mkdir(parents=True)
    for words, said in (
        ([], "say what to delete"),
        (["b"], "no identity begins with 'b'"),
        (["a"], "2 identities begin with 'a'"),
        ([""], "no identity begins with ''"),
    ):
        assert cli.main(["cache", "prune", *words]) == 2
        assert said in capsys.readouterr().err
    assert len(list(Path("cache/reference").iterdir())) == 2
    assert cli.main(["cache", "prune", "aa", "ab"]) == 0
    assert list(Path("cache/reference").iterdir()) == []


def test_the_folder_is_that_of_the_config():
    assert Source(str(CONF_DIR), "train").compose([]).cache_dir == cache.CACHE_DIR
    assert cache.main(["-sc", "query=bash"]) == 0
