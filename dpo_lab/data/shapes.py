"""``data=shapes``: pictures of coloured shapes and questions about them, drawn here, for recipes without a file.

The right answer is in the picture and nowhere else, so whether a policy looks at pixels is a measurement: it answers
better than by chance, and with ``data.blank=true`` it does not.
"""

import io
import random
from collections.abc import Callable
from pathlib import Path

import numpy as np
from jaxtyping import Bool, Float, UInt8

from dpo_lab.data.errors import DataError
from dpo_lab.data.images import keep_image
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource
from dpo_lab.image_files import hash_image
from dpo_lab.ranges import NonNegativeInt, PositiveInt
from dpo_lab.types import Example, ImageFile, Message

COLOURS = {
    "red": (220, 40, 40),
    "green": (40, 160, 60),
    "blue": (50, 80, 220),
    "yellow": (235, 205, 40),
    "black": (20, 20, 20),
    "orange": (240, 140, 30),
}
Grid = Float[np.ndarray, " h w"]
FORMS: dict[str, Callable[[Grid, Grid], Bool[np.ndarray, " h w"]]] = {
    "circle": lambda x, y: x**2 + y**2 <= 1,
    "square": lambda x, y: np.maximum(abs(x), abs(y)) <= 0.85,
    "triangle": lambda x, y: (y <= 0.9) & (abs(x) <= (y + 1) / 2),
    "cross": lambda x, y: (np.minimum(abs(x), abs(y)) <= 0.3) & (np.maximum(abs(x), abs(y)) <= 1),
}
"""What is inside of each, where its middle is (0, 0) and it reaches to 1."""

MAX_SHAPES = len(FORMS)


def shapes(
    cache_dir: Path,
    *,
    num_pairs: PositiveInt = 400,
    num_validation_pairs: PositiveInt = 100,
    num_demonstrations: PositiveInt = 400,
    num_shapes: PositiveInt = 1,
    image_size: PositiveInt = 32,
    blank: bool = False,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 128,
    shuffle: bool = True,
) -> DataSource:
    """Pictures with a few shapes of different forms and colours, and one question about each: which colour has a form.

    The rejected answer names the colour of another shape of the picture, where there is one, else any other colour.

    Args:
        cache_dir: pictures are kept under it, by their hashes; the framework gives it.
        num_pairs: of the training data, each with a picture of its own.
        num_validation_pairs: further ones, drawn after them.
        num_demonstrations: single right answers to further questions, for the supervised stage.
        num_shapes: in each picture, at most 4. More is much harder: form and place then tell which colour counts.
        image_size: side of the pictures, pixels, at least 8.
        blank: pictures are left white and the questions what they are: the control, in which nothing can be learnt.
        seed: of the draw. The run's seed never moves the data.
        max_length: tokens of prompt and response together, those of pictures too.
        shuffle: training order drawn anew each epoch, or as generated.

    Raises:
        DataError: more shapes than forms, or pictures too small to draw in.
    """
    if num_shapes > MAX_SHAPES:
        raise DataError(f"data.num_shapes={num_shapes}: there are {MAX_SHAPES} forms, each once in a picture.")
    if image_size < 8:
        raise DataError(f"data.image_size={image_size}: nothing can be told apart in it; give 8 or more.")
    generator = random.Random(seed)

    def draw(number: int, what: str) -> Example:
        return _example(generator, cache_dir / "images", num_shapes, image_size, blank, f"shapes {what} {number}")

    train = [draw(number, "pair") for number in range(num_pairs)]
    validation = [draw(number, "validation pair") for number in range(num_validation_pairs)]
    demonstrations = [_right_alone(draw(number, "demonstration")) for number in range(num_demonstrations)]
    return DataSource(
        train=train,
        validation=validation,
        demonstrations=demonstrations,
        max_length=max_length,
        on_overflow="error",
        has_overflow_knob=False,
        shuffle=shuffle,
        report=DataReport(num_pairs + num_validation_pairs, num_pairs, num_validation_pairs),
    )


def _example(
    generator: random.Random, store: Path, num_shapes: int, image_size: int, blank: bool, source: str
) -> Example:
    forms = generator.sample(list(FORMS), num_shapes)
    colours = generator.sample(list(COLOURS), num_shapes)
    pixels = _picture(generator, forms, colours, image_size)
    if blank:
        pixels = np.full_like(pixels, 255)
    image = _keep(store, pixels)
    others = colours[1:] or [colour for colour in COLOURS if colour != colours[0]]
    question = Message(role="user", content=f"Which colour is the {forms[0]}?", images=[(0, image.sha256)])
    responses = (colours[0].capitalize(), generator.choice(others).capitalize())
    return Example([question], responses, ((0, 1),), source=source, images=(image,))


def _right_alone(example: Example) -> Example:
    return Example(example.prompt, example.responses[:1], source=example.source, images=example.images)


def _picture(generator: random.Random, forms: list[str], colours: list[str], size: int) -> UInt8[np.ndarray, " h w 3"]:
    """Each shape in a part of the picture of its own, at a place and of a size of its own."""
    pixels = np.full((size, size, 3), generator.randint(200, 255), dtype=np.uint8)
    num_sides = 1 if len(forms) == 1 else 2
    cells = generator.sample([(row, column) for row in range(num_sides) for column in range(num_sides)], len(forms))
    room = size / num_sides
    y, x = np.mgrid[:size, :size] + 0.5
    for form, colour, (row, column) in zip(forms, colours, cells, strict=True):
        radius = room * generator.uniform(0.28, 0.42)
        free = room / 2 - radius
        middle_x = (column + 0.5) * room + generator.uniform(-free, free)
        middle_y = (row + 0.5) * room + generator.uniform(-free, free)
        pixels[FORMS[form]((x - middle_x) / radius, (y - middle_y) / radius)] = COLOURS[colour]
    return pixels


def _keep(store: Path, pixels: UInt8[np.ndarray, " h w 3"]) -> ImageFile:
    """As a bitmap: what a compressed file holds depends on the library that wrote it."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "BMP")
    return keep_image(store, buffer.getvalue(), hash_image(buffer.getvalue()))
