"""`dpo-lab losses`: table, one loss, JSON, pictures, and how it refuses."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.catalogue.entry import names
from dpo_lab.commands.cli import main
from dpo_lab.commands.gallery import write_gallery

PNG = b"\x89PNG"


@pytest.fixture(autouse=True)
def terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")


def test_the_table_has_every_loss_in_eighty_columns(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    first_words = [line.split()[0] for line in lines if line and not line.startswith(" ")]
    assert set(names()) <= set(first_words)
    assert "pairs with a reference  need policy, reference, pairs" in "\n".join(lines)
    assert "as other libraries have them  loss=LIBRARY/NAME" in lines
    assert "openrlhf          dpo, dpo_nll, ipo" in [line.rstrip() for line in lines]
    text = " ".join("\n".join(lines).split())
    assert "sigmoid beta=0.1 (0, inf) 2305.18290 (7) label_smoothing=0 [0, 0.5)" in text
    assert "kto beta=0.1 (0, inf) drift 2402.01306 (8) desirable_weight=1 [0, inf) whole batch" in text


def test_a_wide_terminal_says_what_each_is(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "160")
    assert main(["losses"]) == 0
    said = capsys.readouterr().out
    assert "Hinge loss on the implicit reward margin." in said
    assert 120 < max(map(len, said.splitlines())) <= 160


def test_one_loss_in_full_writes_nothing(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    assert main(["losses", "f_dpo"]) == 0
    out, err = capsys.readouterr()
    assert max(map(len, out.splitlines())) <= 80
    text = " ".join(out.split())
    for said in (
        "DPO under divergences other than the reverse KL.",
        "-log sigmoid(beta (f'(u chosen) - f'(u rejected)))",
        "arXiv 2309.16240",
        "Published code differs in alpha",
        "reverse_kl | forward_kl | js",
        "row indices (chosen, rejected), one line a pair",
        "takes modifiers (label_smoothing, confidence, alpha): loss=modified loss@loss.base=f_dpo",
        "● beta 0.1 (default)",
        "gradient weight",
        "as a file: dpo-lab losses f_dpo --png f_dpo.png",
    ):
        assert said in text
    assert err == "" and list(workplace.iterdir()) == []


def test_a_set_of_another_library_shows_its_file(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "simpo/hinge"]) == 0
    lines = [line.strip() for line in capsys.readouterr().out.splitlines()]
    assert lines[0].startswith('simpo/hinge  SimPO repository: loss_type="hinge"')
    assert "beta: 1.3333333333333333 # beta / (1 + gamma)" in lines
    assert "to train:  dpo-lab train loss=simpo/hinge" in lines


def test_a_picture_is_written_where_it_is_asked_for(capsys: pytest.CaptureFixture[str], workplace: Path) -> None:
    assert main(["losses", "ipo", "--png", "a.png", "--json"]) == 0
    out, err = capsys.readouterr()
    assert json.loads(out)["name"] == "ipo"
    assert err == "picture: a.png\n"
    assert (workplace / "a.png").read_bytes().startswith(PNG)
    assert main(["losses", "ipo", "--png", "none/a.png"]) == 2
    assert capsys.readouterr().err == "dpo-lab losses: --png none/a.png: no such folder: none\n"


def test_json_of_all_and_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["losses", "--json"]) == 0
    out, err = capsys.readouterr()
    everything = json.loads(out)
    assert sorted(loss["name"] for loss in everything) == names() and err == ""
    assert main(["losses", "--json", "sigmoid"]) == 0
    assert json.loads(capsys.readouterr().out) == next(loss for loss in everything if loss["name"] == "sigmoid")


def test_what_does_not_exist_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for arguments in (["sigmod"], ["--json", "sigmod"]):
        assert main(["losses", *arguments]) == 2
        out, err = capsys.readouterr()
        assert out == ""
        assert err.startswith("dpo-lab losses: sigmod: no such loss; did you mean sigmoid? known: ")
    with pytest.raises(SystemExit) as raised:
        main(["losses", "--jsn"])
    assert raised.value.code == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("dpo-lab losses sig", ["sigmoid"]),
        ("dpo-lab losses openrlhf/d", ["openrlhf/dpo", "openrlhf/dpo_nll"]),
        ("dpo-lab losses --", ["--json", "--png"]),
        ("dpo-lab losses ipo x", []),
    ],
)
def test_names_are_completed(
    line: str, words: list[str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("COMP_LINE", line)
    assert main(["-sc", "query=bash"]) == 0
    assert capsys.readouterr().out.split() == words


def test_the_table_loads_nothing_that_is_slow(root: Path) -> None:
    """No trainer, no tokenizer, no plotting, no network: what a table of losses has no need of."""
    heavy = {"matplotlib", "transformers", "pytorch_lightning", "datasets", "wandb", "huggingface_hub"}
    code = (
        "import sys; from dpo_lab.commands.cli import main; assert main(['losses']) == 0\n"
        f"print({heavy!r} & {{name.partition('.')[0] for name in sys.modules}})"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "set()"


def test_the_gallery_is_a_page_and_a_picture(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("dpo_lab.catalogue.entry.names", lambda: ["ipo", "kto", "sft"])
    write_gallery(tmp_path)
    assert capsys.readouterr().out == f"{tmp_path / 'losses.md'}\n{tmp_path / 'losses' / 'gallery.png'}\n"
    page = (tmp_path / "losses.md").read_text(encoding="utf-8")
    assert [line for line in page.splitlines() if line.startswith("### ")] == ["### `ipo`", "### `kto`", "### `sft`"]
    assert "(losses/gallery.png)" in page
    assert (tmp_path / "losses" / "gallery.png").read_bytes().startswith(PNG)
