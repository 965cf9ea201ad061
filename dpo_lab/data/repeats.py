"""Rows that say again, or deny, what an earlier row has said."""

import hashlib
from collections.abc import Iterator, Sequence

from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import prompt_key
from dpo_lab.types import Example

Statement = tuple[bytes, bool]
"""A hash of the prompt and what was judged of it, and which of the two ways it was judged."""


def statements(example: Example) -> Iterator[Statement]:
    """What `example` says: of each pair which response is better, of each label whether it is desirable.

    The two statements about one pair differ in the flag alone, as do the two labels of one response.
    """
    judgement = Judgement.of(example)
    prompt = prompt_key(example.prompt)
    said = [prompt_key(response) for response in example.responses]
    for better, worse in judgement.pairs:
        first, second = sorted((said[better], said[worse]))
        yield _hash(prompt, first, second), said[better] == first
    if judgement.labels is not None:
        for response, label in zip(said, judgement.labels, strict=True):
            yield _hash(prompt, response), label == 1


def count_repeats(examples: Sequence[Example], report: DataReport) -> None:
    """Count `duplicate_judgement`, `contradictory_judgement`, `duplicate_demonstration`, each at the later row."""
    earlier: set[Statement] = set()
    imitated: set[bytes] = set()
    for example in examples:
        if Judgement.of(example).is_demonstration:
            content = _hash(*map(prompt_key, (example.prompt, *example.responses)))
            report.count("duplicate_demonstration", int(content in imitated), example.source)
            imitated.add(content)
        here = set(statements(example))
        report.count("duplicate_judgement", len(here & earlier), example.source)
        against = {(content, not is_first) for content, is_first in here}
        report.count("contradictory_judgement", len(against & earlier), example.source)
        earlier |= here


def count_rarer_kind(examples: Sequence[Example], report: DataReport) -> None:
    """Count `chat_beside_text`: a tokenizer treats chats and plain text in two ways."""
    chats = [example for example in examples if not isinstance(example.prompt, str)]
    if 0 < len(chats) < len(examples):
        texts = [example for example in examples if isinstance(example.prompt, str)]
        for example in min(chats, texts, key=len):
            report.count("chat_beside_text", source=example.source)


def _hash(*parts: str) -> bytes:
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(f"{len(part)}:".encode())
        digest.update(part.encode())
    return digest.digest()
