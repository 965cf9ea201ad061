"""Pictures and tables of a run, from its folder alone."""

import subprocess
import sys
from pathlib import Path

import pytest

from dpo_lab.commands import demo
from dpo_lab.report.curves import smooth
from dpo_lab.report.terminal import sparkline
from tests.small import SMALL


def test_smooth_by_hand():
    """Weight 1/2: 4; then (1/2 * 4 * 1/2 + 1/2 * 1) / (3/4) = (1 + 0.5) / 0.75 = 2."""
    assert smooth([4.0, 1.0], weight=0.5) == pytest.approx([4.0, 2.0])


def test_sparkline_of_a_constant_and_of_many():
    assert sparkline([2.0, 2.0]) == "▁▁"
    line = sparkline([float(value) for value in range(1000)], width=8)
    assert line == "▁▂▃▄▅▆▇█"


def test_demo_shows_curves_samples_and_means(capsys: pytest.CaptureFixture[str]):
    assert demo.main(list(SMALL)) == 0
    shown = capsys.readouterr().out
    for text in ("accuracy", "reward margin", "before", "mean true reward", "KL(policy || reference)", "CPU seconds"):
        assert text in shown
    picture = Path(shown.split("picture: ")[1].splitlines()[0])
    assert picture.read_bytes().startswith(b"\x89PNG")


def test_demo_gives_the_exit_code_of_its_run():
    assert demo.main(["loss.beta=-1"]) == 2


def test_reports_do_not_load_torch():
    code = "import sys, dpo_lab.report.curves, dpo_lab.report.terminal; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).resolve().parents[2])
