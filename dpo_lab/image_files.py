"""Pictures in files: what may be shown to a model, and the pixels of one that was found in the data."""

import base64
import hashlib
import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from dpo_lab.errors import UserError
from dpo_lab.types import ImageFile

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 50_000_000
"""Of one picture; a larger one would be made smaller anyway by what prepares it for a model."""

TRANSPARENT = frozenset({"RGBA", "LA", "PA", "RGBa", "La"})
COLOURS = frozenset({"RGB", "L", "P", "1", "CMYK", "YCbCr", "HSV", "LAB"}) | TRANSPARENT
"""Modes of pillow with at most 8 bits a channel: others would be cut off and not scaled."""


class UnusableImageError(ValueError):
    """Bytes that are no picture to be shown; the message says why."""


def hash_image(content: bytes) -> str:
    """What a picture is told from others by: sha256 (hex) of the bytes of its file."""
    return hashlib.sha256(content).hexdigest()


def examine_image(content: bytes) -> list[str]:
    """What is to be noted of a picture: of ``animated_image``, ``image_colours``.

    It is decoded to its end, so that damage is found here and not while a model trains.

    Raises:
        UnusableImageError: it is no picture, is damaged, too large, or has more than 8 bits a channel.
    """
    notes = []
    with _opened(content) as image:
        if getattr(image, "is_animated", False):
            notes.append("animated_image")
        if image.mode not in ("RGB", "L", "1", "P") or "transparency" in image.info:
            notes.append("image_colours")
        image.draft("RGB", (64, 64))  # a JPEG is read whole and decoded small
        image.load()
    return notes


def load_image(file: ImageFile) -> "Image":
    """The picture in RGB and upright (EXIF); transparency laid over white; of an animation the first frame.

    Raises:
        UserError: it is no longer what it was when the data was read.
    """
    try:
        content = Path(file.path).read_bytes()
    except OSError as error:
        raise UserError(
            f"image {file.path} was there when the data was read, and is not any more ({error.strerror}); put it back"
        ) from error
    if hash_image(content) != file.sha256:
        raise UserError(f"image {file.path} has changed since the data was read; start again, so that it is read anew")
    with _opened(content) as image:
        return _upright_rgb(image)


def small_copy(file: ImageFile, longest: int = 256) -> str:
    """The picture as `load_image` gives it, at most `longest` pixels wide and high, as a ``data:`` address (PNG).

    Raises:
        UserError: it is no longer what it was when the data was read.
    """
    image = load_image(file)
    image.thumbnail((longest, longest))
    content = io.BytesIO()
    image.save(content, "PNG")
    return "data:image/png;base64," + base64.b64encode(content.getvalue()).decode("ascii")


@contextmanager
def _opened(content: bytes) -> Iterator["Image"]:
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that is not read, and of sizes, which are looked at here
            with Image.open(io.BytesIO(content)) as image:
                width, height = image.size
                if width * height > MAX_PIXELS:
                    raise UnusableImageError(f"{width} x {height} pixels; at most {MAX_PIXELS} in all are read")
                if image.mode not in COLOURS:
                    raise UnusableImageError(f"pixels of mode {image.mode}, which has more than 8 bits a channel")
                yield image
    except UnusableImageError:
        raise
    except UnidentifiedImageError:
        raise UnusableImageError("no picture of a format that pillow reads") from None
    except Exception as error:  # decoders raise types of their own: OSError, SyntaxError, struct.error, ...
        raise UnusableImageError(f"a damaged picture ({type(error).__name__}: {error})") from error


def _upright_rgb(image: "Image") -> "Image":
    from PIL import Image, ImageOps

    upright = ImageOps.exif_transpose(image)
    if upright.mode not in TRANSPARENT and "transparency" not in upright.info:
        return upright.convert("RGB")
    shown = upright.convert("RGBA")
    white = Image.new("RGBA", shown.size, (255, 255, 255, 255))
    return Image.alpha_composite(white, shown).convert("RGB")
