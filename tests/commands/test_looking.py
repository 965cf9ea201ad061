"""`dpo-lab audit` and `dpo-lab inspect`: what they print, write and refuse."""

import json
from pathlib import Path

import pytest

from dpo_lab.commands import cli
from tests.small import small_policy

SMALL_DATA = ["data.num_pairs=30", "data.num_validation_pairs=5", "data.num_demonstrations=5"]
SMALL_MODEL = ["model.vocab_size=300"]


@pytest.fixture
def pairs() -> list[str]:
    """Overrides for a file of 12 rows, of which row 2 cannot be used and row 3 is long, and for a model."""
    rows = [{"prompt": f"{n} + 1 =", "chosen": f" {n + 1}", "rejected": f" {n + 2}"} for n in range(12)]
    rows[1]["chosen"] = " "
    rows[2]["rejected"] = " a lot" * 30
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small_policy().export(Path("MODEL"))
    data = ["data=files", "data.path=pairs.jsonl", "data.validation_fraction=0.3", "data.max_length=40"]
    return [*data, "model=causal_lm", "model.path=MODEL"]


def test_audit_of_the_embedded_reviews_needs_no_model(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["audit", *SMALL_DATA]) == 0
    shown = capsys.readouterr().out
    folder = Path(shown.splitlines()[-1])
    assert folder.parent == Path("runs/.reports")
    assert sorted(path.name for path in folder.iterdir()) == ["audit.json", "audit.md", "lengths.png", "surface.png"]
    assert shown.startswith((folder / "audit.md").read_text().partition("\n![")[0].rstrip())
    audit = json.loads((folder / "audit.json").read_text())
    assert (audit["title"], audit["counts"]["train"], audit["encoding"]) == ("reviews", 30, None)
    # The same question has the same folder, another has another.
    assert cli.main(["audit", *SMALL_DATA]) == 0
    assert capsys.readouterr().out.splitlines()[-1] == str(folder)
    assert cli.main(["audit", *SMALL_DATA, "data.seed=1"]) == 0
    assert len(list(Path("runs/.reports").iterdir())) == 2


def test_audit_with_a_model_counts_what_a_run_would_refuse(pairs: list[str], capsys: pytest.CaptureFixture[str]):
    Path("MODEL/model.safetensors").unlink()
    assert cli.main(["audit", *pairs, "--out", "here/audit"]) == 0
    shown = capsys.readouterr().out
    assert shown.splitlines()[-1] == "here/audit"
    audit = json.loads(Path("here/audit/audit.json").read_text())
    assert audit["report"]["dropped"] == {"empty_response": 1, "overflow_dropped": 1}
    assert audit["fitting"]["num_overlong"] == 1
    assert audit["on_problem"] == "error"
    assert "a run stops here: 1 row cannot be used; data.on_problem=drop leaves them out" in shown
    assert not Path("runs").exists()


def test_inspect_shows_marks_where_there_is_no_colour(pairs: list[str], capsys: pytest.CaptureFixture[str]):
    overrides = [*pairs, "data.on_problem=drop", "data.validation_fraction=0", "data.on_overflow=truncate"]
    assert cli.main(["inspect", *overrides, "num=2"]) == 0
    shown = capsys.readouterr().out
    assert "pairs.jsonl row 1: " in shown and "pairs.jsonl row 3: 40 tokens, at most 40 fit" in shown
    assert "pairs.jsonl row 4" not in shown
    for words in ("⟨<s>⟩|", "[⟨</s>⟩]", "prompt: ", "not in the loss", "in the loss; ", " more ...", "response_cut"):
        assert words in shown
    assert "\x1b" not in shown


def test_inspect_in_colour_has_no_marks(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    command = ["inspect", *SMALL_DATA, *SMALL_MODEL, "num=1"]
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert cli.main(command) == 0
    colored = capsys.readouterr().out
    assert "\x1b[" in colored and "[⟨</s>⟩]" not in colored
    monkeypatch.setenv("NO_COLOR", "1")
    assert cli.main(command) == 0
    assert "[⟨</s>⟩]" in capsys.readouterr().out


def test_inspect_says_what_the_loss_of_the_run_counts(capsys: pytest.CaptureFixture[str]):
    assert cli.main(["inspect", *SMALL_DATA, *SMALL_MODEL, "num=1", "loss=sft"]) == 0
    [rejected] = [line for line in capsys.readouterr().out.splitlines() if line.startswith("  rejected: ")]
    assert rejected.endswith(" tokens, not in the loss")


@pytest.mark.parametrize(
    ("command", "words"),
    [
        (["audit", "data.num_pair=3"], "did you mean data.num_pairs?"),
        (["audit", "data=files", "data.path=no.jsonl"], "data.path: no such file"),
        (["inspect", "num=0"], "num: must be a whole number of at least 1"),
        (["inspect", "loss=sigmod"], "did you mean sigmoid?"),
    ],
)
def test_what_the_user_can_mend_ends_with_2(command: list[str], words: str, capsys: pytest.CaptureFixture[str]):
    assert cli.main(command) == 2
    said = capsys.readouterr()
    assert words in said.err and said.out == ""
    assert list(Path().iterdir()) == []


@pytest.mark.parametrize("verb", ["audit", "inspect"])
def test_completion_of_overrides(verb: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    monkeypatch.setenv("COMP_LINE", f"dpo-lab {verb} data=")
    monkeypatch.delenv("COMP_POINT", raising=False)
    assert cli.main(["-sc", "query=bash"]) == 0
    assert {"data=files", "data=reviews"} <= set(capsys.readouterr().out.split())
