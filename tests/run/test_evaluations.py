"""What an evaluation leaves in a run folder, read back."""

import json
from pathlib import Path

import pytest

from dpo_lab.errors import UserError
from dpo_lab.run.evaluations import read_figures, write_evaluation

FIGURE = {"value": 0.5, "low": 0.4, "high": float("nan")}


def test_figures_come_back_by_file_and_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_PASSWORD", "hunter2hunter2")
    (tmp_path / "evaluation").mkdir()
    rows = [{"response": "it is hunter2hunter2", "score": float("nan")}]
    figures = {"kl": FIGURE, "loss": {"value": None}}
    write_evaluation(tmp_path / "evaluation" / "val.json", {"step": 7, "figures": figures}, rows)
    assert read_figures(tmp_path) == {"evaluation/val/kl": (7, 0.5)}
    record = json.loads((tmp_path / "evaluation/val.json").read_text())
    assert record["figures"]["kl"]["high"] is None
    assert json.loads((tmp_path / "evaluation/val.jsonl").read_text()) == {
        "response": "it is <redacted>",
        "score": None,
    }
    assert read_figures(tmp_path / "elsewhere") == {}


NO_NUMBER = '{"figures": {"kl": {"value": "high"}}}'


@pytest.mark.parametrize("content", ["{", "[]", "{}", '{"figures": {"kl": 1}}', '{"figures": [1]}', "\x00", NO_NUMBER])
def test_damage_is_told_by_its_file(content: str, tmp_path: Path):
    (tmp_path / "evaluation").mkdir()
    (tmp_path / "evaluation/val.json").write_text(content)
    with pytest.raises(UserError, match=r"evaluation/val\.json is damaged"):
        read_figures(tmp_path)
