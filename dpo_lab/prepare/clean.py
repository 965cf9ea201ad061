"""``prepare=[clean]``: characters that say nothing go, and what looks the same becomes the same."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import accumulate, pairwise
from typing import Any, cast

from dpo_lab.data.messages import is_blank, shows_images
from dpo_lab.data.preparation import BeforeSplit, Work
from dpo_lab.data.split import Split
from dpo_lab.prepare.cleaning import Characters, Cleaner, Unicode, WhiteSpace
from dpo_lab.types import Example, Message, Text

DEFAULT: tuple[Characters, ...] = ("control", "replacement", "byte_order_mark", "noncharacter", "zero_width")
MOVED = "left as it was, since the place of a span would be lost"


def clean(
    *,
    characters: Sequence[Characters] = DEFAULT,
    line_breaks: bool = True,
    unicode: Unicode | None = "NFC",
    whitespace: WhiteSpace | None = "strip",
) -> BeforeSplit:
    """Clean every text of every row, of training, validation and test alike.

    Names of classes are left alone. Spans stay where they are in their passage; a row of which that cannot be said is
    left as it was. A row that has lost its prompt or a response, or of which both responses have become the same, is
    dropped. Each of these is counted.

    Args:
        characters: sets of characters that are taken out. "control": control characters but tabs and line breaks.
            "replacement": U+FFFD, which stands where a character was lost. "byte_order_mark": U+FEFF. "noncharacter":
            code points that no text may hold. "zero_width": U+200B and U+2060. The others can carry meaning and go only
            where they are named: "joiner" (Persian, Indic scripts, emoji), "direction" (Arabic, Hebrew), "soft_hyphen",
            "private_use".
        line_breaks: whether each kind of line break (``\\r\\n``, ``\\r``, form feed, U+2028, ...) becomes ``\\n``.
        unicode: "NFC": accents and their letters become one character, nothing else. "NFKC": also what merely looks
            different (full-width letters, ligatures, superscripts), which is lost. Null: as it is.
        whitespace: "strip": none at the outer ends of a text or a turn. "collapse": also runs of blanks and tabs become
            one blank, which undoes indented code. Null: as it is. Line breaks inside stay. So does what stands between
            a prompt that is plain text and its responses: it is what keeps their words apart.
    """
    cleaner = Cleaner(tuple(characters), line_breaks, unicode, whitespace)

    def apply(sides: Split, work: Work) -> Split:
        return Split(*([one for row in rows if (one := _clean_row(row, cleaner, work)) is not None] for rows in sides))

    return BeforeSplit(apply)


def _clean_row(example: Example, cleaner: Cleaner, work: Work) -> Example | None:
    done: set[str] = set()
    if work.responses == "spans":
        cleaned = _clean_spans(example, cleaner, done)
        if cleaned is None:
            work.details[MOVED] += 1
            return example
    else:
        prompt = _clean_text(example.prompt, cleaner, done, right=work.responses == "classes")
        responses = example.responses
        if work.responses == "texts":
            responses = tuple(_clean_text(response, cleaner, done, left=False) for response in responses)
        cleaned = replace(example, prompt=prompt, responses=responses)
    if (is_blank(cleaned.prompt) and not shows_images(cleaned.prompt)) or any(map(is_blank, cleaned.responses)):
        work.drop("empty_after_cleaning", example.source)
        return None
    if len(cleaned.responses) == 2 and cleaned.pairs and cleaned.responses[0] == cleaned.responses[1]:
        work.drop("equal_after_cleaning", example.source)
        return None
    if cleaned == example:
        return example
    work.num_changed += 1
    work.details.update(sorted(done))
    return cleaned


def _clean_text(text: Text, cleaner: Cleaner, done: set[str], *, left: bool = True, right: bool = True) -> Text:
    """Of a chat each turn, at both ends; what else a turn holds stays."""
    if isinstance(text, str):
        return cleaner.clean(text, left=left, right=right, done=done)
    return [_clean_turn(message, cleaner, done) for message in text]


def _clean_turn(message: Message, cleaner: Cleaner, done: set[str]) -> Message:
    """Images stay where they are between the texts around them."""
    content, images = message["content"], message.get("images", [])
    if not images:
        return {**message, "content": cleaner.clean(content, done=done)}
    cuts = sorted({0, len(content), *(at for at, _ in images)})
    pieces = [
        cleaner.clean(content[start:end], left=start == 0, right=end == len(content), done=done)
        for start, end in pairwise(cuts)
    ]
    moved = dict(zip(cuts, accumulate(map(len, pieces), initial=0), strict=True))
    return {**message, "content": "".join(pieces), "images": [(moved[at], sha256) for at, sha256 in images]}


def _clean_spans(example: Example, cleaner: Cleaner, done: set[str]) -> Example | None:
    """The passage, which is the first turn, with its spans where they now stand; None where that cannot be said."""
    passage, *asked = cast(list[Message], example.prompt)
    spans = [cast(list[Any], response)[0] for response in example.responses]
    places = [(span["start"], span["start"] + len(span["content"])) for span in spans]
    found = cleaner.clean_between(passage["content"], _flat(places), done=done)
    if found is None:
        return None
    text, moved = found
    prompt = [cast(Message, {**passage, "content": text}), *cast(list[Message], _clean_text(asked, cleaner, done))]
    responses = tuple(
        [cast(Message, {**span, "content": text[moved[start] : moved[end]], "start": moved[start]})]
        for span, (start, end) in zip(spans, places, strict=True)
    )
    return replace(example, prompt=prompt, responses=responses)


def _flat(places: Sequence[tuple[int, int]]) -> list[int]:
    return [place for pair in places for place in pair]
