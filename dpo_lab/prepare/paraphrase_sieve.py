"""Which texts may be put into other words, and which of the words that come back can be used."""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import NamedTuple, final

from dpo_lab.data.preparation import Responses
from dpo_lab.prepare.copies import rewritable_turn, with_turn
from dpo_lab.prepare.paraphrase_file import Of
from dpo_lab.prepare.paraphrases import said
from dpo_lab.prepare.spelling import HeldOut
from dpo_lab.types import Example, Text

ASKED, KEPT = "drawn", "kept"
UNFINISHED, REFUSED = "not ended within --max-new-tokens", "refused"
BLANK, SAME, AGAIN = "empty", "the same as the text", "drawn before"
LOST, LEAK = "without a number, an address or what else --keep names", "equal to a held-out prompt"
TOO_LONG, HELD_OUT = "texts too long for the model", "texts of held-out prompts, not asked for"


class Said(NamedTuple):
    """What a model has made of `text`: other words, or a `problem`, one of the reasons of this file."""

    text: str
    words: str = ""
    problem: str | None = None


@final
class Sieve:
    """`texts` are those that a model may be asked for, distinct and in order; `counts` what became of its answers.

    Of prompts these are the user's last turns; of responses, each of one turn. A row whose prompt is held out of
    training, in whatever spelling, gives none, and a paraphrase that makes such a prompt of a row is not kept.

    Args:
        rows: of training.
        held_out: what is validated or tested on.
        keep: a regular expression: what it finds in a text, its paraphrase has too. None asks for nothing.
    """

    def __init__(
        self,
        rows: Sequence[Example],
        held_out: Sequence[Example],
        responses: Responses,
        of: Of,
        keep: re.Pattern[str] | None = None,
    ):
        self.counts: Counter[str] = Counter()
        self._keep, self._held_out = keep, HeldOut(held_out, "texts")
        self._prompts: dict[str, list[Text]] = {}
        self._found: dict[str, list[str]] = {}
        own, leaks = HeldOut(held_out, responses), set[str]()
        for row in rows:
            parts = [rewritable_turn(row.prompt)] if of == "prompts" else map(said, row.responses)
            texts = [part for part in parts if part is not None and part.strip()]
            if row.prompt in own:
                leaks.update(texts)
                continue
            for text in texts:
                self._prompts.setdefault(text, []).extend([row.prompt] if of == "prompts" else [])
        if num := len(leaks - self._prompts.keys()):
            self.counts[HELD_OUT] = num

    @property
    def texts(self) -> list[str]:
        return list(self._prompts)

    @property
    def rewrites(self) -> dict[str, list[str]]:
        """What can be used, of each text that has any."""
        return {text: self._found[text] for text in self._prompts if self._found.get(text)}

    def take(self, answers: Iterable[Said]) -> None:
        """Keep what can be used, and count what cannot by its reason."""
        for answer in answers:
            if answer.problem == TOO_LONG:
                self.counts[TOO_LONG] += 1
            else:
                self.counts.update((ASKED, self._reason(answer)))

    def line(self) -> str:
        """What came of it, in one line."""
        lost = ", ".join(f"{num} {why}" for why, num in self.counts.items() if why not in (ASKED, KEPT))
        kept, asked = self.counts[KEPT], self.counts[ASKED]
        return f"{kept} of {asked} paraphrases of {len(self._prompts)} texts kept ({lost or 'all'})"

    def _reason(self, answer: Said) -> str:
        text, words = answer.text, answer.words.strip()
        known = self._found.setdefault(text, [])
        if answer.problem is not None:
            return answer.problem
        if not words:
            return BLANK
        if _bare(words) == _bare(text):
            return SAME
        if _bare(words) in map(_bare, known):
            return AGAIN
        if self._keep is not None and not _pieces(self._keep, text) <= _pieces(self._keep, words):
            return LOST
        if any(with_turn(prompt, words) in self._held_out for prompt in self._prompts[text]):
            return LEAK
        known.append(words)
        return KEPT


def _pieces(pattern: re.Pattern[str], text: str) -> set[str]:
    return {match[0] for match in pattern.finditer(text)}


def _bare(text: str) -> str:
    return " ".join(text.casefold().split())
