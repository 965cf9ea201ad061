"""Training texts in other words, by a model that the user names, as a file for ``prepare=[paraphrases]``."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, final

import torch

from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.instantiate import instantiate
from dpo_lab.assemble.lightning import make_trainer
from dpo_lab.assemble.preparing import of_every_row
from dpo_lab.assemble.suitability import kind_of_policy
from dpo_lab.assemble.tokens import corpus
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.model.policy import Policy
from dpo_lab.prepare.copies import rewritable_turn
from dpo_lab.prepare.paraphrase_file import Of, Paraphrases
from dpo_lab.prepare.paraphrases import said
from dpo_lab.types import Encoded, Example

PLACE = "{text}"
BATCH = 64

ASKED, KEPT = "drawn", "kept"
UNFINISHED, BLANK, SAME, AGAIN = "not ended within --max-new-tokens", "empty", "the same as the text", "drawn before"
TOO_LONG = "texts too long for the model"


@final
@dataclass(frozen=True, kw_only=True)
class ParaphraseSettings:
    """What the model is asked for.

    Attributes:
        of: which texts of training rows.
        num: paraphrases drawn of each text, at temperature 1; those that cannot be used are not drawn again.
        instruction: what the model reads, with the text in place of ``{text}``; a chat model as a turn of the user.
        max_new_tokens: a paraphrase that has not ended by then is left out.
        seed: draws them.
    """

    of: Of = "prompts"
    num: int = 2
    instruction: str
    max_new_tokens: int = 128
    seed: int = 0


@final
@dataclass
class Drawn:
    """What came of it: `counts` of drawn paraphrases by what became of them, over `num_texts` texts."""

    num_texts: int
    counts: Counter[str] = field(default_factory=Counter)

    def line(self) -> str:
        lost = ", ".join(f"{num} {why}" for why, num in self.counts.items() if why not in (ASKED, KEPT))
        return (
            f"{self.counts[KEPT]} of {self.counts[ASKED]} paraphrases of {self.num_texts} texts kept ({lost or 'all'})"
        )


def paraphrase(
    config: Mapping[str, Any], file: Path, settings: ParaphraseSettings, say: Callable[[str], None]
) -> Drawn:
    """Write paraphrases of the training texts of `config` by its model to `file`, with their provenance.

    Rows that are held out are not looked at. Steps before the split are run, those on training rows are not.

    Raises:
        UserError: the model writes no text or is none that was trained; there is no text to rewrite, or nothing that
            was drawn can be used.
    """
    packages = ("dpo_lab", *config["plugins"])
    name, kind = kind_of_policy(config, packages)
    if not kind.writes_text:
        raise UserError(f"{name} writes no text; name a language model: model=causal_lm or seq2seq, and model.path")
    if not config["model"].get("path"):
        raise UserError(
            f"{name} has learnt nothing; name a model that has: model=causal_lm model.path=FOLDER_OR_HUB_NAME"
        )
    source = build_source(of_every_row(config))
    texts = texts_of(source, settings.of)
    if not texts:
        raise UserError(f"no training row has {settings.of} of one text or turn that could be put into other words")
    policy: Policy = instantiate(
        config["model"], packages, corpus=corpus(source), classes=source.classes, seed=0, adapter_seed=0
    )
    trainer = make_trainer(instantiate(config["trainer"], packages), num_steps=1, callbacks=[], validate_every=None)
    policy.to(trainer.strategy.root_device).eval()
    with torch.no_grad(), trainer.precision_plugin.val_step_context():
        rewrites, drawn = rewrite(policy, texts, settings, say)
    if not rewrites:
        raise UserError(f"nothing to write: {drawn.line()}. Raise --max-new-tokens or --num, or ask in other words")
    provenance = {
        "model": config["model"]["path"],
        "weights": policy.fingerprint()[:16],
        "data": source.fingerprint[:16],
        "instruction": settings.instruction,
        "num": settings.num,
        "max_new_tokens": settings.max_new_tokens,
        "seed": settings.seed,
    }
    Paraphrases(settings.of, rewrites, provenance).write(file)
    return drawn


def texts_of(source: DataSource, of: Of) -> list[str]:
    """Distinct texts of training rows, in order: of prompts the user's last turn; responses of one turn each."""
    found: dict[str, None] = {}
    for example in source.train:
        parts = [rewritable_turn(example.prompt)] if of == "prompts" else map(said, example.responses)
        found.update(dict.fromkeys(part for part in parts if part is not None and part.strip()))
    return list(found)


def rewrite(
    policy: Policy, texts: Sequence[str], settings: ParaphraseSettings, say: Callable[[str], None]
) -> tuple[dict[str, list[str]], Drawn]:
    """Different paraphrases of each of `texts` that has any, each another than the text."""
    drawn = Drawn(len(texts))
    generator = torch.Generator().manual_seed(settings.seed)
    prompts = dict(
        zip(texts, policy.encode([_question(policy, text, settings.instruction) for text in texts]), strict=True)
    )
    limit = policy.max_positions
    fitting = [t for t in texts if limit is None or len(prompts[t].prompt) + settings.max_new_tokens <= limit]
    if len(fitting) < len(texts):
        drawn.counts[TOO_LONG] = len(texts) - len(fitting)
    found: dict[str, list[str]] = {}
    # Prompts of about one length together: a batch is padded to its longest.
    todo = sorted((text for text in fitting for _ in range(settings.num)), key=lambda text: len(prompts[text].prompt))
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        responses = policy.sample(
            [prompts[text] for text in batch], generator=generator, max_new_tokens=settings.max_new_tokens
        )
        for text, response in zip(batch, responses, strict=True):
            known = found.setdefault(text, [])
            reason = _keep(policy, prompts[text], response, text, known)
            drawn.counts.update((ASKED, reason))
        say(f"{min(start + BATCH, len(todo))} of {len(todo)} drawn")
    return {text: found[text] for text in texts if found.get(text)}, drawn


def _question(policy: Policy, text: str, instruction: str) -> Example:
    """A model with a chat template is asked in a turn of the user."""
    question = instruction.replace(PLACE, text.strip())
    is_chat = getattr(policy.tokenizer, "chat_template", None)
    return Example([{"role": "user", "content": question}] if is_chat else question, (), source="the instruction")


def _keep(policy: Policy, prompt: Encoded, response: Sequence[int], text: str, known: list[str]) -> str:
    """What becomes of `response`; where it can be used it goes to `known`."""
    if not response or response[-1] != policy.end_id:
        return UNFINISHED
    new = policy.decode(prompt, response).strip()
    if not new:
        return BLANK
    if _bare(new) == _bare(text):
        return SAME
    if _bare(new) in map(_bare, known):
        return AGAIN
    known.append(new)
    return KEPT


def _bare(text: str) -> str:
    return " ".join(text.casefold().split())
