"""The pictures of a row: found beside the data file or inside of it, looked at, and put where the prompt shows them."""

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, final

from dpo_lab.data.errors import RowError
from dpo_lab.data.excerpt import excerpt
from dpo_lab.image_files import UnusableImageError, examine_image, hash_image
from dpo_lab.types import ImageFile, Message, Text

MARK = re.compile(r"\n?<image>\Z|<image>\n?")
"""What stands in a text for a picture of the row's column, as LLaVA writes it, with the line break that sets it off."""

NOT_GIVEN = ""
"""Instead of a hash: the picture that stands here is the next one of the row's column."""


@final
class Images:
    """Finds pictures, each of them looked at once. Paths are those of `folder`, and never lead out of it."""

    def __init__(self, folder: Path | None, store: Path | None):
        """
        Args:
            folder: None where there is none: the rows come from elsewhere.
            store: where pictures that lie inside of a data file are kept, by their hash; None keeps none.
        """
        self._folder = None if folder is None else Path(os.path.normpath(folder.absolute()))
        self._store = store
        self._known: dict[Path | str, tuple[ImageFile, list[str]]] = {}

    def find(self, value: Any, column: str) -> tuple[ImageFile, list[str]]:
        """The picture that `value` is, a path or bytes, and what is to be noted of it.

        Raises:
            RowError: `bad_image`, `image_missing`, `image_outside`.
        """
        if isinstance(value, Mapping):  # as the hub's data sets hold one
            content = value.get("bytes")
            value = value.get("path") or value.get("url") if content is None else content
        if isinstance(value, bytes):
            return self._keep(value, column)
        if not isinstance(value, str) or not value:
            raise RowError("bad_image", column, f"{type(value).__name__} where the path of an image belongs")
        if re.match(r"(https?|ftp|s3|gs|data):", value):
            raise RowError("bad_image", column, "an address; images are read from files: fetch them first")
        path = self._path(value, column)
        if path not in self._known:
            try:
                content = path.read_bytes()
            except (OSError, ValueError) as error:  # no path can hold the character NUL, or half a surrogate pair
                why = getattr(error, "strerror", None) or "no path can read so"
                raise RowError("image_missing", column, f"{excerpt(str(path))}: {why}", excerpt(value)) from None
            self._known[path] = ImageFile(str(path), hash_image(content)), _examine(content, column, value)
        return self._known[path]

    def _path(self, value: str, column: str) -> Path:
        if self._folder is None:
            raise RowError("bad_image", column, "a path, and no folder that it begins in; set data.image_folder")
        path = Path(os.path.normpath(self._folder / value))
        if not path.is_relative_to(self._folder):
            raise RowError("image_outside", column, f"it leads out of {self._folder}; set data.image_folder")
        return path

    def _keep(self, content: bytes, column: str) -> tuple[ImageFile, list[str]]:
        if self._store is None:
            raise RowError("bad_image", column, "a picture inside of the data file, and no folder to keep it in")
        name = hash_image(content)
        if name not in self._known:
            notes = _examine(content, column, None)
            self._known[name] = keep_image(self._store, content, name), notes
        return self._known[name]


def keep_image(store: Path, content: bytes, sha256: str) -> ImageFile:
    """The file under `store` that has `content` and bears its hash; it is written unless it is there.

    It need not outlive a power cut: what is read of it later is compared with its hash.
    """
    file = store / sha256[:2] / sha256
    if not file.is_file() or file.stat().st_size != len(content):
        file.parent.mkdir(parents=True, exist_ok=True)
        partial = file.with_name(f"{file.name}.{os.getpid()}.partial")
        partial.write_bytes(content)
        partial.replace(file)
    return ImageFile(str(file.absolute()), sha256)


@final
class RowImages:
    """The pictures of one row, by their hashes; in `notes` what is to be counted of them, a reason each."""

    def __init__(self, images: Images):
        self._images = images
        self._files: dict[str, ImageFile] = {}
        self.notes: list[str] = []

    def show(self, value: Any, column: str) -> str:
        """The hash of the picture that `value` is; `NOT_GIVEN` where it is none.

        Raises:
            RowError: as of `Images.find`.
        """
        if value is None:
            return NOT_GIVEN
        file, notes = self._images.find(value, column)
        if file.sha256 not in self._files:
            self.notes += notes
        self._files[file.sha256] = file
        return file.sha256

    def place(self, prompt: Text, given: Sequence[str]) -> Text:
        """`prompt` with the pictures `given` of the row's column where they belong.

        That is where a message has a part for a picture, or a text has ``<image>``; else they stand in front of what
        the user says first. A prompt that shows pictures is a chat.

        Raises:
            RowError: `image_count`.
        """
        messages = [Message(role="user", content=prompt)] if isinstance(prompt, str) else prompt
        if given and not any("images" in message for message in messages):
            messages = _marked(messages, len(given))
        places = [sha for message in messages for _, sha in message.get("images", ())]
        if not places and not given:
            return prompt
        if (num := places.count(NOT_GIVEN)) != len(given):
            raise RowError("image_count", "images", f"{len(given)} images for {num} places of the prompt that show one")
        left = iter(given)
        return [_filled(message, left) for message in messages]

    def files(self, prompt: Text) -> tuple[ImageFile, ...]:
        """Where the pictures of `prompt` lie, in order."""
        messages = () if isinstance(prompt, str) else prompt
        return tuple(self._files[sha] for message in messages for _, sha in message.get("images", ()))


def _examine(content: bytes, column: str, value: str | None) -> list[str]:
    try:
        return examine_image(content)
    except UnusableImageError as error:
        raise RowError("bad_image", column, str(error), excerpt(value) if value else "") from None


def _marked(messages: list[Message], num: int) -> list[Message]:
    """The messages with places for `num` pictures: at the marks of the user's turns, or before the first of them."""
    marked = [_at_marks(message) if message["role"] == "user" else message for message in messages]
    if any("images" in message for message in marked):
        return marked
    first = next((index for index, message in enumerate(messages) if message["role"] == "user"), 0)
    before: Message = {**messages[first], "images": [(0, NOT_GIVEN)] * num}
    return [*messages[:first], before, *messages[first + 1 :]]


def _at_marks(message: Message) -> Message:
    texts = MARK.split(message["content"])
    if len(texts) == 1:
        return message
    ends = [sum(map(len, texts[: number + 1])) for number in range(len(texts) - 1)]
    return {**message, "content": "".join(texts), "images": [(end, NOT_GIVEN) for end in ends]}


def _filled(message: Message, left: Iterator[str]) -> Message:
    if "images" not in message:
        return message
    return {**message, "images": [(at, sha or next(left)) for at, sha in message["images"]]}
