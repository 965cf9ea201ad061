"""`dpo-lab report`, `runs` and `diff` through the command line, on folders that were made up."""

import base64
import csv
import io
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

from dpo_lab.commands.cli import main
from tests.report.folders import rows, write_run

EVIL = '<script>alert("x")</script>&$x_1$|`\\'


class Tags(HTMLParser):
    """Tags, and addresses that a page would ask for."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("href", "src", "xlink:href", "srcset")]


@pytest.fixture
def runs(workplace: Path) -> Path:
    """Two losses, two betas, three seeds, with pairs; one run failed."""
    for number, loss in enumerate(("sigmoid", "ipo")):
        for beta, kl in ((0.1, 2.0), (1.0, 1.0)):
            for seed in range(3):
                accuracy = 0.6 + 0.1 * number + 0.01 * seed * (1 + number) + 0.02 * beta
                pairs = {"chosen": [1.0, -1.0, 2.0], "rejected": [0.0, -2.0, 3.0 - number]}
                write_run(
                    workplace / "runs",
                    loss=loss,
                    beta=beta,
                    seed=seed,
                    metrics=rows(accuracy, kl=kl + 0.1 * seed + 0.3 * number),
                    pairs=pairs,
                )
    write_run(workplace / "runs", seed=9, id="broken", info={"status": "failed", "exit_reason": EVIL})
    return workplace / "runs"


def test_report_is_written_whole_and_asks_for_nothing(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["report", "runs", "baseline=loss=sigmoid loss.beta=0.1"]) == 0
    out = runs / ".reports" / "runs"
    assert Path(capsys.readouterr().out.strip()) == out / "report.html"
    page = (out / "report.html").read_text()
    found = Tags(page)
    assert all(link.startswith(("#", "data:text/csv")) for link in found.links)
    assert "script" not in found.tags and "svg" in found.tags and "http-equiv" in page
    assert "url(http" not in page and "@import" not in page
    table = next(link for link in found.links if link.startswith("data:"))
    assert base64.b64decode(table.partition(",")[2]).decode() == (out / "table.csv").read_text()
    assert len(list(csv.DictReader(io.StringIO((out / "table.csv").read_text())))) == 4
    assert "(declared)" in page and "winner&#39;s curse" in page and "no test split" in page
    svgs, pngs = sorted((out / "charts").glob("*.svg")), sorted((out / "charts").glob("*.png"))
    assert [path.stem for path in svgs] == [path.stem for path in pngs] and len(svgs) >= 6
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in pngs)
    assert len(page) < 400_000
    summary = page[: page.index("<nav")]
    assert "the primary family of tests (val/rewards/accuracies over seeds)" in summary and "are secondary" in summary
    assert "at equal KL (secondary)" in page and page.count("Secondary to the comparison") == 1
    ids = re.findall(r' id="([^"]+)"', page)
    assert len(ids) == len(set(ids))


def test_every_text_from_a_folder_is_escaped(runs: Path):
    """A reason, a config value and a seed's label that would be a script, a formula, a column or a command."""
    config = {"optimizer": {"lr": EVIL}}
    for seed in range(2):
        write_run(runs, seed=seed, id=f"evil-{seed}", metrics=rows(0.6, kl=1.0), config=config)
    assert main(["report", "runs"]) == 0
    out = runs / ".reports" / "runs"
    page = (out / "report.html").read_text()
    assert "script" not in Tags(page).tags and "<script" not in page and "&lt;script&gt;" in page
    assert "<script" not in (out / "report.md").read_text()
    assert all("<script" not in path.read_text() for path in (out / "charts").glob("*.svg"))
    tex = (out / "table.tex").read_text()
    assert r"\$x\_1\$" in tex and r"\&" in tex and tex.count(r"\begin{tabular}") == 1
    assert any(EVIL in cell for row in csv.reader(io.StringIO((out / "table.csv").read_text())) for cell in row)


def test_same_folders_same_report(runs: Path):
    assert main(["report", "runs", "out=one"]) == main(["report", "runs", "out=two"]) == 0
    for path in Path("one").rglob("*.*"):
        assert path.read_bytes() == (Path("two") / path.relative_to("one")).read_bytes(), path.name


def test_claims_give_the_exit_code(runs: Path, capsys: pytest.CaptureFixture[str]):
    entry = {"name": "<i>ipo</i>", "metric": "val/rewards/accuracies", "better": "loss=ipo", "worse": "loss=sigmoid"}
    Path("claims.yaml").write_text(json.dumps({"claims": [{**entry, "at": "equal_beta"}]}))
    assert main(["report", "runs", "claims=claims.yaml"]) == 0
    assert "Claim <i>ipo</i>: holds." in capsys.readouterr().err
    page = (runs / ".reports/runs/report.html").read_text()
    assert "&lt;i&gt;ipo" in page and page.count("Secondary to the comparison") == 2
    swapped = {**entry, "better": "loss=sigmoid", "worse": "loss=ipo", "at": "equal_kl"}
    Path("claims.yaml").write_text(json.dumps({"claims": [swapped]}))
    assert main(["report", "runs", "--claims", "claims.yaml"]) == 4


def test_one_run_has_its_report_inside(runs: Path):
    folder = runs / "made" / "ipo-0.1-0"
    assert main(["report", str(folder)]) == 0
    assert (folder / "report" / "report.html").exists() and not (runs / ".reports").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nowhere"], "no such folder"),
        (["runs", "metric=val/rewards/acuracies"], "val/rewards/accuracies"),
        (["runs", "baseline=loss=kto"], "names no cell"),
        (["runs", "claims=none.yaml"], "claims=none.yaml"),
    ],
)
def test_mistakes_are_told(runs: Path, words: list[str], said: str, capsys: pytest.CaptureFixture[str]):
    assert main(["report", *words]) == 2
    assert said in capsys.readouterr().err


def test_runs_are_filtered(runs: Path, capsys: pytest.CaptureFixture[str]):
    assert main(["runs", "loss=ipo", "loss.beta>0.1", "val/rewards/accuracies>0.73", "--json"]) == 0
    assert [run["id"] for run in json.loads(capsys.readouterr().out)] == ["ipo-1-1", "ipo-1-2"]
    assert main(["runs", "status=failed"]) == 0
    shown = capsys.readouterr()
    assert "made/broken" in shown.out and "<script>" in shown.out and "1 of 13 runs" in shown.err
    assert main(["runs", "loss.bata=1"]) == 2
    assert "did you mean loss.beta?" in capsys.readouterr().err


def test_damaged_folder_is_listed_with_the_reason(runs: Path, capsys: pytest.CaptureFixture[str]):
    (runs / "made" / "ipo-0.1-0" / "run.json").write_text("{")
    (runs / "made" / "ipo-0.1-1" / "config.yaml").write_text("a: [")
    assert main(["runs", "status=unreadable"]) == 0
    shown = capsys.readouterr().out
    assert "ipo-0.1-0" in shown and "run.json" in shown and "config.yaml" in shown and "damaged" in shown
    assert main(["diff", "ipo-0.1-0", "ipo-0.1-1"]) == 0
    assert "cannot be read whole: run.json" in capsys.readouterr().out


def test_diff_names_config_environment_result_and_the_first_step(runs: Path, capsys: pytest.CaptureFixture[str]):
    write_run(runs, seed=4, id="other", metrics=rows(0.9), info={"python": "3.12.1", "hashes": {"data": "new"}})
    assert main(["diff", "sigmoid-0.1-0", "other"]) == 0
    shown = capsys.readouterr().out
    for words in (("seed", "0", "4"), ("python", "3.11.7", "3.12.1"), ("data", "da7a", "new")):
        assert re.search(r"^" + r"\s+".join(map(re.escape, words)), shown, flags=re.MULTILINE)
    assert "the same before step 2, where val/rewards/accuracies differs" in shown
    assert main(["diff", "sigmoid-0.1-0", "sigmoid"]) == 2
    assert "several runs" in capsys.readouterr().err
    assert main(["diff", "sigmoid-0.1-0", str(runs / "made" / "sigmoid-0.1-0")]) == 0
    assert "the same, bit for bit" in capsys.readouterr().out
    write_run(runs, seed=5, id="later", metrics=[{"step": 7, "val/rewards/accuracies": 0.9}])
    assert main(["diff", "sigmoid-0.1-0", "later"]) == 0
    assert "no step in common" in capsys.readouterr().out


def test_reports_load_no_torch(runs: Path, root: Path):
    code = (
        "import sys; from dpo_lab.commands.cli import main; main(['report', 'runs']); sys.exit('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
