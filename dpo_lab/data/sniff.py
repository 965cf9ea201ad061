"""What a file is by its first bytes, where that is not what its name says."""

from pathlib import Path

from dpo_lab.data.errors import DataError

_SIGNATURES: tuple[tuple[bytes, str, str], ...] = (
    (b"\x1f\x8b", "a gzip file", "Name it with .gz behind its ending (pairs.jsonl.gz)."),
    (b"PAR1", "a Parquet file", "Name it with the ending .parquet."),
    (b"PK\x03\x04", "a ZIP archive (or a spreadsheet)", "Unpack it, or export it as CSV."),
    (b"\x28\xb5\x2f\xfd", "a Zstandard file", "Unpack it first."),
    (b"BZh", "a bzip2 file", "Unpack it first."),
    (b"\xfd7zXZ", "an xz file", "Unpack it first."),
    (b"ARROW1", "an Arrow file", "Write it as Parquet: datasets.Dataset.from_file(FILE).to_parquet(...)."),
    (b"version https://git-lfs", "a pointer of Git LFS, not the data", "Fetch the data itself: git lfs pull."),
    (b"<!DOCTYPE", "a web page", "Fetch the file itself, not the page that shows it."),
    (b"<!doctype", "a web page", "Fetch the file itself, not the page that shows it."),
    (b"<html", "a web page", "Fetch the file itself, not the page that shows it."),
)
_MARKS: tuple[tuple[bytes, str], ...] = (
    (b"\xff\xfe\x00\x00", "UTF-32"),
    (b"\x00\x00\xfe\xff", "UTF-32"),
    (b"\xff\xfe", "UTF-16"),
    (b"\xfe\xff", "UTF-16"),
)
_LOOKED_AT = 400


def refuse_other_kinds(content: bytes, path: Path, *, is_text: bool) -> None:
    """Raise where `content` is of another kind than the name of `path` says.

    Raises:
        DataError: for another format; for text that is UTF-16 or UTF-32, with or without a byte order mark.
    """
    for mark, name in _MARKS if is_text else ():
        if content.startswith(mark):
            raise DataError(f"{path} is {name}. Save it as UTF-8.")
    start = content.lstrip() if is_text else content
    for signature, kind, fix in _SIGNATURES:
        if start.startswith(signature) and not (signature == b"PAR1" and not is_text):
            raise DataError(f"{path} is {kind} by its content. {fix}")
    # Every second byte of Western text in UTF-16 is zero; in UTF-8 hardly any byte ever is.
    beginning = content[:_LOOKED_AT]
    if is_text and beginning.count(0) * 3 > len(beginning):
        raise DataError(f"{path} is UTF-16 or UTF-32 without a byte order mark, or no text at all. Save it as UTF-8.")
