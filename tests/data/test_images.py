"""Pictures of preference data: where they may stand, what becomes of them, and what is told of those that are wrong."""

import base64
import io
import json
from pathlib import Path
from typing import Any

import pyarrow
import pyarrow.parquet
import pytest
from PIL import Image

from dpo_lab.data.errors import DataError
from dpo_lab.data.files import files
from dpo_lab.data.preparation import Preparation
from dpo_lab.data.row_fingerprint import row_fingerprint
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.image_files import MAX_PIXELS, UnusableImageError, examine_image, hash_image, load_image, small_copy
from dpo_lab.prepare.clean import clean
from dpo_lab.prepare.drop_duplicates import drop_duplicates
from dpo_lab.types import Example, ImageFile

ANSWERS = {"chosen": "Red.", "rejected": "Blue."}
RED, BLUE = (255, 0, 0), (0, 0, 255)


def picture(
    colour: Any = RED, mode: str = "RGB", kind: str = "PNG", size: tuple[int, int] = (8, 6), **saved: Any
) -> bytes:
    buffer = io.BytesIO()
    Image.new(mode, size, colour).save(buffer, kind, **saved)
    return buffer.getvalue()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "red.png").write_bytes(picture(RED))
    (tmp_path / "more").mkdir()
    (tmp_path / "more" / "blue.png").write_bytes(picture(BLUE))
    return tmp_path


def read(folder: Path, *rows: dict[str, Any], **knobs: Any) -> DataSource:
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({**ANSWERS, **row}) + "\n" for row in rows))
    return files(path=str(path), validation_fraction=0.0, **knobs)


def only(source: DataSource) -> Example:
    [example] = source.train
    return example


SHA_RED, SHA_BLUE = hash_image(picture(RED)), hash_image(picture(BLUE))
PART = {"type": "image", "image": "red.png"}
ASKED = {"role": "user", "content": "Which colour?", "images": [(0, SHA_RED)]}


@pytest.mark.parametrize(
    "row",
    [
        {"prompt": "Which colour?", "images": ["red.png"]},
        {"prompt": "Which colour?", "image": "red.png"},
        {"prompt": "<image>\nWhich colour?", "image": {"path": "red.png", "bytes": None}},
        {"prompt": [{"role": "user", "content": "Which colour?"}], "images": ["red.png"]},
        {"prompt": [{"role": "user", "content": [PART, {"type": "text", "text": "Which colour?"}]}]},
        {
            "prompt": [{"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour?"}]}],
            "images": ["red.png"],
        },
        {
            "prompt": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": "red.png"}},
                        {"type": "text", "text": "Which "},
                        {"type": "text", "text": "colour?"},
                    ],
                }
            ]
        },
        {"conversations": [{"from": "human", "value": "<image>Which colour?"}], "images": ["red.png"]},
    ],
    ids=["column", "single", "mark", "chat", "part", "place", "url", "sharegpt"],
)
def test_ways_to_write_one_and_the_same_row(row: dict[str, Any], folder: Path):
    example = only(read(folder, row))
    assert example.prompt == [ASKED]
    assert example.images == (ImageFile(str(folder / "red.png"), SHA_RED),)


def test_pictures_stand_where_the_text_says(folder: Path):
    text = "First <image> then\n<image>"
    example = only(read(folder, {"prompt": text, "images": ["red.png", "more/blue.png"]}))
    assert example.prompt == [{"role": "user", "content": "First  then", "images": [(6, SHA_RED), (11, SHA_BLUE)]}]
    assert [image.sha256 for image in example.images] == [SHA_RED, SHA_BLUE]


def test_whole_conversations_show_their_picture_once(folder: Path):
    asked = {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": "Which colour?"}]}
    sides = {name: [asked, {"role": "assistant", "content": text}] for name, text in ANSWERS.items()}
    example = only(read(folder, {**sides, "images": ["red.png"]}))
    assert example.prompt == [ASKED]
    assert example.responses[0] == [{"role": "assistant", "content": "Red."}]


def test_a_text_that_speaks_of_a_mark_and_shows_nothing_is_a_text(folder: Path):
    assert only(read(folder, {"prompt": "What does <image> mean?"})).prompt == "What does <image> mean?"


def test_a_picture_may_be_all_that_is_asked(folder: Path):
    assert only(read(folder, {"prompt": [{"role": "user", "content": [PART]}]})).images


def test_what_counts_is_what_a_picture_shows(folder: Path, tmp_path_factory: pytest.TempPathFactory):
    """The same pixels elsewhere are the same data; other pixels at the same place are not."""
    row = {"prompt": "Which colour?", "images": ["red.png"]}
    here = read(folder, row)
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "red.png").write_bytes(picture(RED))
    there = read(elsewhere, row)
    assert there.fingerprint == here.fingerprint
    assert row_fingerprint(only(there)) == row_fingerprint(only(here))
    (elsewhere / "red.png").write_bytes(picture(BLUE))
    changed = read(elsewhere, row)
    assert changed.fingerprint != here.fingerprint
    assert row_fingerprint(only(changed)) != row_fingerprint(only(here))


def test_demonstrations_show_what_their_rows_show(folder: Path):
    source = read(folder, {"prompt": "Which colour?", "images": ["red.png"]})
    assert source.demonstrations[0].images == source.train[0].images


def test_the_same_question_of_two_pictures_is_two_prompts(folder: Path):
    """Neither a contradiction nor a repetition."""
    answers = {"chosen": "Blue.", "rejected": "Red."}
    rows = [{"prompt": "Which?", "image": "red.png"}, {"prompt": "Which?", "image": "more/blue.png", **answers}]
    assert read(folder, *rows).report.counts == {}
    assert read(folder, rows[0], {**rows[1], "image": "red.png"}).report.counts == {"contradictory_judgement": 1}


def test_pictures_inside_of_a_file_are_kept_by_their_contents(folder: Path):
    """As data sets of the hub hold them."""
    rows = [{"prompt": "Which colour?", **ANSWERS, "images": [{"bytes": picture(RED), "path": "0.png"}]}]
    pyarrow.parquet.write_table(pyarrow.Table.from_pylist(rows), folder / "rows.parquet")
    path, store = str(folder / "rows.parquet"), folder / "cache"
    example = only(files(cache_dir=store, path=path, validation_fraction=0.0))
    assert example.prompt == [ASKED]
    assert Path(example.images[0].path).parent.parent == store / "images"
    assert load_image(example.images[0]).getpixel((0, 0)) == RED
    with pytest.raises(DataError, match=r"row 1, column 'images'.*no folder to keep it in"):
        files(path=path, validation_fraction=0.0)


def test_a_folder_of_its_own(folder: Path):
    row = {"prompt": "Which colour?", "image": "blue.png"}
    assert only(read(folder, row, image_folder=str(folder / "more"))).images[0].sha256 == SHA_BLUE
    with pytest.raises(DataError, match="image_missing"):
        read(folder, row)


def test_bad_rows_are_dropped_and_counted_where_that_is_wanted(folder: Path):
    (folder / "torn.png").write_bytes(picture(RED, size=(64, 64))[:-40])
    rows = [{"prompt": "Which colour?", "image": name} for name in ("red.png", "torn.png", "none.png")]
    source = read(folder, *rows, on_problem="drop")
    assert len(source.train) == 1
    assert source.report.counts == {"bad_image": 1, "image_missing": 1}
    assert source.report.places["bad_image"] == ["rows.jsonl row 2"]


def test_what_is_noted(folder: Path):
    frames = [Image.new("RGB", (4, 4), colour) for colour in (RED, BLUE)]
    frames[0].save(folder / "two.gif", save_all=True, append_images=frames[1:])
    (folder / "ink.jpg").write_bytes(picture((0, 255, 255, 0), "CMYK", "JPEG"))
    rows = [{"prompt": "Which colour?", "image": name} for name in ("two.gif", "ink.jpg")]
    source = read(folder, *rows)
    assert source.report.counts == {"animated_image": 1, "image_colours": 1}
    for example in source.train:
        red, green, blue = load_image(example.images[0]).getpixel((1, 1))  # type: ignore[misc]
        assert red > 200 and green < 50 and blue < 50


def test_transparency_is_white():
    """Half of (0, 0, 255) over white is (127, 127, 255); what is hidden entirely is white, whatever it hides."""
    for alpha, expected in ((0, (255, 255, 255)), (128, (127, 127, 255)), (255, BLUE)):
        assert pixel_of(picture((*BLUE, alpha), "RGBA")) == expected


def test_a_photograph_is_turned_upright():
    """EXIF orientation 6: to be turned a quarter clockwise, so 8 x 6 becomes 6 x 8."""
    exif = Image.Exif()
    exif[0x0112] = 6
    assert loaded(picture(exif=exif, kind="JPEG")).size == (6, 8)


def test_a_small_copy_is_an_address_of_its_own():
    Path("wide").write_bytes(picture(BLUE, size=(512, 128)))
    kind, _, content = small_copy(ImageFile("wide", hash_image(Path("wide").read_bytes()))).partition(",")
    assert kind == "data:image/png;base64"
    shown = Image.open(io.BytesIO(base64.b64decode(content)))
    assert (shown.size, shown.getpixel((0, 0))) == ((256, 64), BLUE)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"", "no picture of a format"),
        (b"GIF89a", "no picture of a format|damaged"),
        (picture(kind="JPEG", size=(640, 480))[:-400], "damaged"),
        (picture(7, "I;16"), "more than 8 bits"),
        (picture(0, "1", size=(MAX_PIXELS // 1000 + 1, 1000)), "at most 50000000 in all"),
    ],
    ids=["empty", "header", "torn", "deep", "large"],
)
def test_what_cannot_be_shown(content: bytes, why: str):
    with pytest.raises(UnusableImageError, match=why):
        examine_image(content)


def test_a_picture_that_changed_since_it_was_read_is_not_shown(folder: Path):
    image = only(read(folder, {"prompt": "Which colour?", "image": "red.png"})).images[0]
    (folder / "red.png").write_bytes(picture(BLUE))
    with pytest.raises(UserError, match=r"red\.png has changed since the data was read"):
        load_image(image)
    (folder / "red.png").unlink()
    with pytest.raises(UserError, match=r"red\.png was there when the data was read"):
        load_image(image)


def loaded(content: bytes) -> Image.Image:
    file = Path("picture")
    file.write_bytes(content)
    return load_image(ImageFile(str(file), hash_image(content)))


def pixel_of(content: bytes) -> Any:
    return loaded(content).getpixel((0, 0))


def test_cleaning_leaves_pictures_between_their_texts(folder: Path):
    """Two blanks become one, and the picture behind them stands one character earlier."""
    row = {"prompt": "See  this: <image> What is  it? ", "image": "red.png"}
    steps = Preparation({"clean": clean(whitespace="collapse")})
    path = folder / "rows.jsonl"
    path.write_text(json.dumps({**ANSWERS, **row}) + "\n")
    example = only(files(steps, path=str(path), validation_fraction=0.0))
    assert example.prompt == [
        {"role": "user", "content": "See this:  What is it?", "images": [(10, SHA_RED)]},
    ]


def test_rows_that_differ_in_their_picture_alone_are_no_duplicates(folder: Path):
    rows = [{"prompt": "Which colour is this?", "image": name} for name in ("red.png", "more/blue.png", "red.png")]
    path = folder / "rows.jsonl"
    path.write_text("".join(json.dumps({**ANSWERS, **row}) + "\n" for row in rows))
    source = files(Preparation({"once": drop_duplicates(near=True)}), path=str(path), validation_fraction=0.0)
    assert [example.images[0].sha256 for example in source.train] == [SHA_RED, SHA_BLUE]
