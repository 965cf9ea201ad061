"""Pictures of losses from plain numbers."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from dpo_lab.catalogue.curve import Curve, Picture
from dpo_lab.report.loss_picture import draw_gallery, draw_loss, terminal_lines

STEEP = Curve("beta 2", (-2.0, -1.0, 0.0, 1.0, 2.0), (4.0, 3.0, 2.0, 1.0, 0.0), (1.0,) * 5, True)
PICTURE = Picture("straight", "lists", (STEEP,))
THREE = replace(
    PICTURE, curves=(replace(STEEP, label="beta 1", is_default=False), STEEP, replace(STEEP, is_default=False))
)


def size(path: Path) -> tuple[int, int]:
    """Width and height in pixels: bytes 16 to 24 of a PNG."""
    data = path.read_bytes()
    assert data.startswith(b"\x89PNG")
    return int.from_bytes(data[16:20], "big"), int.from_bytes(data[20:24], "big")


def test_files_are_png_whatever_they_are_called(tmp_path: Path) -> None:
    for picture in (PICTURE, THREE):
        draw_loss(picture, tmp_path / "picture.out")
        width, height = size(tmp_path / "picture.out")
        assert width > 2 * height


def test_a_gallery_grows_by_rows_of_six(tmp_path: Path) -> None:
    draw_gallery([PICTURE] * 6, tmp_path / "six.png")
    draw_gallery([THREE] * 7, tmp_path / "seven.png")
    assert size(tmp_path / "six.png")[0] == size(tmp_path / "seven.png")[0]
    assert size(tmp_path / "six.png")[1] < size(tmp_path / "seven.png")[1]


def test_a_falling_line_in_a_terminal() -> None:
    """Five rows for the losses 4 to 0: a mark in each row, further right from row to row."""
    lines = [line.plain for line in terminal_lines(PICTURE, width=60, height=5)]
    assert lines[0] == "● beta 2 (default)"
    assert lines[1].strip() == "loss"
    rows = [line.partition("┤")[2] for line in lines[2:7]]
    assert [line.partition("┤")[0].strip() for line in lines[2:7]] == ["4", "", "", "", "0"]
    places = [row.index("●") for row in rows]
    assert places == sorted(places) and places[0] == 0 and rows[4].endswith("●")
    assert lines[7].split() == ["-2", "margin,", "nats", "2"]
    assert lines[8].strip() == "gradient weight"


def test_a_gradient_weight_is_shown_from_zero() -> None:
    """The constant 1 stands in the first row and the axis, 0, in the last."""
    rows = [line.plain for line in terminal_lines(PICTURE, width=60, height=5)][9:14]
    assert set(rows[0].partition("┤")[2]) == {"●"}
    assert rows[4].split("┤")[0].strip() == "0" and "─" in rows[4] and "●" not in rows[4]


@pytest.mark.parametrize("width", [40, 75, 76, 80, 110])
def test_no_line_is_wider_than_the_terminal(width: int) -> None:
    lines = terminal_lines(THREE, width=width)
    assert max(len(line.plain) for line in lines[1:]) <= width
    assert len(lines) == (27 if width < 76 else 14)


def test_what_is_not_finite_is_left_out(tmp_path: Path) -> None:
    broken = replace(PICTURE, curves=(replace(STEEP, loss=(None, 3.0, None, 1.0, 0.0)),))
    rows = [line.plain for line in terminal_lines(broken, width=60, height=4)][2:6]
    assert rows[0].startswith("      3 ┤ ")
    assert rows[0][9] == " "
    draw_loss(broken, tmp_path / "broken.png")
    nothing = replace(PICTURE, curves=(replace(STEEP, loss=(None,) * 5),))
    assert "●" not in "".join(line.plain for line in terminal_lines(nothing, width=60, height=4)[2:6])


def test_a_picture_needs_no_torch(root: Path) -> None:
    code = "import sys, dpo_lab.report.loss_picture; sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=root)
