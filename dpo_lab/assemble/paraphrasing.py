"""Training texts in other words, by a model that the user names, as a file for ``prepare=[paraphrases]``."""

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

import torch

from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.instantiate import instantiate
from dpo_lab.assemble.lightning import make_trainer
from dpo_lab.assemble.preparing import of_every_row
from dpo_lab.assemble.suitability import kind_of_policy
from dpo_lab.assemble.tokens import corpus
from dpo_lab.chat.model import Answer, ChatModel
from dpo_lab.data.preparation import Responses
from dpo_lab.data.source import DataSource
from dpo_lab.errors import UserError
from dpo_lab.model.policy import Policy
from dpo_lab.prepare.paraphrase_file import Of, Paraphrases
from dpo_lab.prepare.paraphrase_sieve import REFUSED, TOO_LONG, UNFINISHED, Said, Sieve
from dpo_lab.types import Example

PLACE = "{text}"
BATCH = 64
REFUSED_RESPONSES: Mapping[Responses, str] = {
    "classes": "responses of this data are names of classes",
    "spans": "responses of this data are pieces of a passage",
}

Say = Callable[[str], None]


@final
@dataclass(frozen=True, kw_only=True)
class ParaphraseSettings:
    """What the model is asked for.

    Attributes:
        of: which texts of training rows.
        num: paraphrases drawn of each text; those that cannot be used are not drawn again.
        instruction: what the model reads, with the text in place of ``{text}``; a chat model as a turn of the user.
        max_new_tokens: a paraphrase that has not ended by then is left out.
        seed: draws them; of a server, tells apart what was asked before from what is asked anew.
        keep: what of a text its paraphrase must have, a regular expression; empty for nothing.
    """

    of: Of = "prompts"
    num: int = 2
    instruction: str
    max_new_tokens: int = 128
    seed: int = 0
    keep: str = ""


def paraphrase(
    config: Mapping[str, Any], file: Path, settings: ParaphraseSettings, say: Say, chat: ChatModel | None = None
) -> Sieve:
    """Write paraphrases of the training texts of `config` to `file`, with their provenance; say what became of them.

    Steps before the split are run, those on training rows are not. Rows that are held out are not asked for, nor is
    what says the same in another spelling.

    Args:
        chat: who is asked; None for the policy of `config`.

    Raises:
        UserError: the model writes no text or is none that was trained; the server cannot be asked; there is no text to
            rewrite, or nothing that was drawn can be used.
    """
    if chat is None:
        _check_policy(config)
    else:
        chat.check(say)
    source = build_source(of_every_row(config))
    if settings.of == "responses" and source.responses in REFUSED_RESPONSES:
        raise UserError(f"--of responses: {REFUSED_RESPONSES[source.responses]}; leave it out for prompts")
    keep = re.compile(settings.keep) if settings.keep else None
    sieve = Sieve(source.train, [*source.validation, *source.test], source.responses, settings.of, keep)
    if not sieve.texts:
        lost = "".join(f"; {num} {why}" for why, num in sieve.counts.items())
        raise UserError(
            f"no training row has {settings.of} of one text or turn that could be put into other words{lost}"
        )
    if chat is None:
        origin = _by_policy(config, source, sieve, settings, say)
    else:
        sieve.take(asked_of(chat, sieve.texts, settings, say))
        origin = {"model": chat.asked["model"], "url": chat.url, "request": _without_model(chat.asked)}
    if not sieve.rewrites:
        less = ", or ask less of a paraphrase (--keep '')" if settings.keep else ""
        raise UserError(
            f"nothing to write: {sieve.line()}. Raise --max-new-tokens or --num, or ask in other words "
            f"(--instruction){less}"
        )
    provenance = {
        **origin,
        "data": source.fingerprint[:16],
        "instruction": settings.instruction,
        "num": settings.num,
        "max_new_tokens": settings.max_new_tokens,
        "seed": settings.seed,
        "keep": settings.keep,
        "counts": dict(sieve.counts),
    }
    Paraphrases(settings.of, sieve.rewrites, provenance).write(file)
    return sieve


def asked_of(chat: ChatModel, texts: Sequence[str], settings: ParaphraseSettings, say: Say) -> Iterator[Said]:
    """`num` answers to each of `texts`, in order; what was asked before comes from disk."""
    todo = [(text, number) for text in texts for number in range(settings.num)]
    questions = [[{"role": "user", "content": _filled(settings.instruction, text)}] for text, _ in todo]
    draws = [[settings.seed, number] for _, number in todo]
    for (text, _), answer in zip(todo, chat.answers(questions, say, draws=draws), strict=True):
        yield Said(text, answer.content, _problem(answer))


def drawn_from(policy: Policy, texts: Sequence[str], settings: ParaphraseSettings, say: Say) -> Iterator[Said]:
    """`num` samples of each of `texts` at temperature 1, where it fits into `policy`."""
    generator = torch.Generator().manual_seed(settings.seed)
    prompts = dict(
        zip(texts, policy.encode([_question(policy, text, settings.instruction) for text in texts]), strict=True)
    )
    limit = policy.max_positions
    fitting = [t for t in texts if limit is None or len(prompts[t].prompt) + settings.max_new_tokens <= limit]
    fits = frozenset(fitting)
    yield from (Said(text, problem=TOO_LONG) for text in texts if text not in fits)
    # Prompts of about one length together: a batch is padded to its longest.
    todo = sorted((text for text in fitting for _ in range(settings.num)), key=lambda text: len(prompts[text].prompt))
    for start in range(0, len(todo), BATCH):
        batch = todo[start : start + BATCH]
        responses = policy.sample(
            [prompts[text] for text in batch], generator=generator, max_new_tokens=settings.max_new_tokens
        )
        for text, response in zip(batch, responses, strict=True):
            if response and response[-1] == policy.end_id:
                yield Said(text, policy.decode(prompts[text], response))
            else:
                yield Said(text, problem=UNFINISHED)
        say(f"{min(start + BATCH, len(todo))} of {len(todo)} drawn")


def _check_policy(config: Mapping[str, Any]) -> None:
    name, kind = kind_of_policy(config, ("dpo_lab", *config["plugins"]))
    if not kind.writes_text:
        raise UserError(f"{name} writes no text; name a language model: model=causal_lm or seq2seq, and model.path")
    if not config["model"].get("path"):
        raise UserError(
            f"{name} has learnt nothing; name a model that has: model=causal_lm model.path=FOLDER_OR_HUB_NAME, or one "
            "behind a server: --url https://HOST/v1 --model NAME"
        )


def _by_policy(
    config: Mapping[str, Any], source: DataSource, sieve: Sieve, settings: ParaphraseSettings, say: Say
) -> dict[str, Any]:
    """Let the policy of `config` say it; who that is."""
    packages = ("dpo_lab", *config["plugins"])
    policy: Policy = instantiate(
        config["model"], packages, corpus=corpus(source), classes=source.classes, seed=0, adapter_seed=0
    )
    trainer = make_trainer(instantiate(config["trainer"], packages), num_steps=1, callbacks=[], validate_every=None)
    policy.to(trainer.strategy.root_device).eval()
    with torch.no_grad(), trainer.precision_plugin.val_step_context():
        sieve.take(drawn_from(policy, sieve.texts, settings, say))
    return {"model": config["model"]["path"], "weights": policy.fingerprint()[:16]}


def _filled(instruction: str, text: str) -> str:
    return instruction.replace(PLACE, text.strip())


def _question(policy: Policy, text: str, instruction: str) -> Example:
    """A model with a chat template is asked in a turn of the user."""
    question = _filled(instruction, text)
    is_chat = getattr(policy.tokenizer, "chat_template", None)
    return Example([{"role": "user", "content": question}] if is_chat else question, (), source="the instruction")


def _problem(answer: Answer) -> str | None:
    if answer.is_refused:
        return REFUSED
    return UNFINISHED if answer.is_cut else None


def _without_model(asked: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in asked.items() if name != "model"}
