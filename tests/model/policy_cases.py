"""One small policy of every kind, for the laws that hold for all of them."""

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import torch

from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.model.class_policy import Classifier
from dpo_lab.model.classifier import classifier
from dpo_lab.model.extractive_qa import extractive_qa
from dpo_lab.model.policy import Policy
from dpo_lab.model.recommender import recommender
from dpo_lab.model.recommender_policy import Recommender
from dpo_lab.model.seq2seq import seq2seq
from dpo_lab.model.seq2seq_policy import Seq2SeqLM
from dpo_lab.model.small_recommender import small_recommender
from dpo_lab.model.span_policy import SpanReader
from dpo_lab.model.vision_language import vision_language
from dpo_lab.model.vision_policy import VisionLanguageModel
from dpo_lab.types import Encoded, Example, Message
from tests.model.architectures import random_model, write_model
from tests.model.encoders import CLASSES, TEXTS, write_encoder
from tests.model.seq2seq_models import random_seq2seq, write_seq2seq
from tests.model.vision_models import draw_picture, random_vision_model, shown, write_vision_model

NUM_WORDS = 11
"""Tokens of a vocabulary that is small enough to say everything in it."""


PLAIN: dict[str, Any] = {"dtype": "float32", "dropout": 0.0, "exported_dropout": {}}


@dataclass(frozen=True)
class Case:
    """What the laws need to know of one kind of policy.

    `load` reads a policy from a folder, with knobs of its builder; `folder` has one; `groups` are prompts with
    responses of it, of `num_decisions` decisions. `small` is a policy that answers `prompt` with one of `answers`, and
    with nothing else. `adapter`: knobs that give it a LoRA adapter; none for `WITHOUT_ADAPTER`.
    """

    load: Callable[..., Policy]
    folder: Path
    groups: list[Encoded]
    num_decisions: list[int]
    small: Policy
    prompt: Encoded
    answers: list[tuple[int, ...]]
    adapter: dict[str, Any] = field(default_factory=dict)


def token_answers(end: int) -> list[tuple[int, ...]]:
    """Every response of at most two tokens over `NUM_WORDS`: cut after the second, or ended before."""
    two = [(first, second) for first in range(NUM_WORDS) if first != end for second in range(NUM_WORDS)]
    return [(end,), *two]


def causal(make: Callable[[str], Path]) -> Case:
    return Case(
        load=lambda folder, **knobs: causal_lm(path=str(folder), **knobs),
        folder=write_model(make("causal"), "llama"),
        groups=[
            Encoded((1, 20, 31), ((40, 2), (40, 41, 42, 43, 2))),
            Encoded((1, 21, 22, 23, 24, 25), ((2,), (50, 51, 2), (52, 2))),
        ],
        num_decisions=[2, 5, 1, 3, 2],
        small=CausalLM(*random_model("llama", vocab_size=NUM_WORDS), **PLAIN),
        prompt=Encoded((1, 5, 6), ()),
        answers=token_answers(end=2),
        adapter={"lora_rank": 2, "lora_target": "all-linear"},
    )


def t5(make: Callable[[str], Path]) -> Case:
    return Case(
        load=lambda folder, **knobs: seq2seq(path=str(folder), **knobs),
        folder=write_seq2seq(make("t5"), "t5"),
        groups=[
            Encoded((20, 31, 1), ((40, 1), (40, 41, 42, 43, 1)), num_tail=1),
            Encoded((21, 22, 23, 24, 25, 1), ((1,), (50, 51, 1), (52, 1)), num_tail=1),
        ],
        num_decisions=[2, 5, 1, 3, 2],
        small=Seq2SeqLM(*random_seq2seq("t5", vocab_size=NUM_WORDS), **PLAIN),
        prompt=Encoded((5, 6, 1), ()),
        answers=token_answers(end=1),
        adapter={"lora_rank": 2},
    )


def bart(make: Callable[[str], Path]) -> Case:
    return Case(
        load=lambda folder, **knobs: seq2seq(path=str(folder), **knobs),
        folder=write_seq2seq(make("bart"), "bart"),
        groups=[
            Encoded((0, 20, 31, 2), ((40, 2), (40, 41, 42, 43, 2)), 1, 0, 1),
            Encoded((0, 21, 22, 23, 24, 25, 2), ((2,), (50, 51, 2), (52, 2)), 1, 0, 1),
        ],
        num_decisions=[2, 5, 1, 3, 2],
        small=Seq2SeqLM(*random_seq2seq("bart", vocab_size=NUM_WORDS), **PLAIN),
        prompt=Encoded((0, 5, 6, 2), ()),
        answers=token_answers(end=2),
        adapter={"lora_rank": 2},
    )


CATALOGUE = [f"film-{number}" for number in range(30)]


def random_recommender(num_items: int = len(CATALOGUE)) -> Recommender:
    """Far from uniform, so that what is wrong shows."""
    policy = small_recommender(CATALOGUE[:num_items], 0, hidden_size=16, max_positions=16)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in policy.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator) * 0.3)
    return policy.eval()


def items(make: Callable[[str], Path]) -> Case:
    folder = make("recommender") / "model"
    random_recommender().export(folder)
    return Case(
        load=lambda folder, **knobs: recommender(path=str(folder), **knobs),
        folder=folder,
        groups=[
            Encoded((3, 20, 11), ((4,), (5,), (6, 7, 8))),
            Encoded((9, 10, 11, 12, 13, 14), ((1,), (2,))),
        ],
        num_decisions=[1, 1, 3, 1, 1],
        small=random_recommender(NUM_WORDS),
        prompt=Encoded((5, 6), ()),
        answers=[(item,) for item in range(NUM_WORDS)],
    )


TEXT_EXAMPLES = [
    Example(TEXTS[0], ("sport", "money", "games")),
    Example("the share", ("games",)),
    Example(TEXTS[1], ("money", "sport")),
]


def classes(make: Callable[[str], Path]) -> Case:
    folder = write_encoder(make("classifier"), "bert", "AutoModelForSequenceClassification")

    def load(folder: Path, **knobs: Any) -> Classifier:
        return classifier(CLASSES, path=str(folder), **knobs)

    policy = load(folder)
    return Case(
        load=load,
        folder=folder,
        groups=policy.encode(TEXT_EXAMPLES),
        num_decisions=[1] * 6,
        small=policy,
        prompt=replace(policy.encode(TEXT_EXAMPLES[:1])[0], responses=()),
        answers=[(number,) for number in range(len(CLASSES))],
        adapter={"lora_rank": 2},
    )


def _ask(question: str, passage: str, *spans: str) -> Example:
    turns = [Message(role="assistant", content=span, start=passage.index(span)) for span in spans]
    prompt = [Message(role="system", content=passage), Message(role="user", content=question)]
    return Example(prompt, tuple([turn] for turn in turns))


def spans(make: Callable[[str], Path]) -> Case:
    """Of a passage of three windows, and of one that fits into one."""
    folder = write_encoder(make("extractive_qa"), "bert", "AutoModelForQuestionAnswering", None)
    long = _ask("who sold the share ?", f"{TEXTS[3]} . {TEXTS[1]} . {TEXTS[2]}", "the bank", "stock", "new level")
    short = _ask("who left ?", TEXTS[3], "the old coach", "march")

    def load(folder: Path, **knobs: Any) -> SpanReader:
        return extractive_qa(path=str(folder), window=20, stride=4, **knobs)

    policy = load(folder)
    groups = policy.encode([long, short])
    prompt = replace(groups[1], responses=())
    inside = range(prompt.num_head, len(prompt.prompt) - prompt.num_tail)
    return Case(
        load=load,
        folder=folder,
        groups=groups,
        num_decisions=[2] * 5,
        small=policy,
        prompt=prompt,
        answers=[(first, last) for first in inside for last in inside],
        adapter={"lora_rank": 2},
    )


def pictures(name: str, make: Callable[[str], Path]) -> Case:
    """Pictures of several sizes, two in one prompt, and a prompt without any."""
    folder = make(name)
    model = write_vision_model(folder / "model", name)
    sizes = [(40, 30), (90, 30), (20, 64)]
    files = [draw_picture(folder / f"{seed}.png", size, seed) for seed, size in enumerate(sizes)]
    examples = [
        shown("the cat", files[:1], " sat on", "!"),
        shown("and the dog? what is it", files[1:], "a helpful answer", "12", "no"),
        shown("hello", [], "a", "short answer"),
    ]
    groups = vision_language(path=str(model)).encode(examples)
    image, end = 3, 2
    return Case(
        load=lambda folder, **knobs: vision_language(path=str(folder), **knobs),
        folder=model,
        groups=groups,
        num_decisions=[len(response) for group in groups for response in group.responses],
        small=VisionLanguageModel(*random_vision_model("llava", vocab_size=NUM_WORDS), **PLAIN),
        prompt=Encoded((1, *[image] * 4, 5, 6), (), images=tuple(files[:1])),
        # Nothing is said behind the token of an image.
        answers=[(image,), *(answer for answer in token_answers(end) if answer[0] != image)],
        adapter={"lora_rank": 2, "lora_target": "all-linear"},
    )


CASES: dict[str, Callable[[Callable[[str], Path]], Case]] = {
    "causal_lm": causal,
    "t5": t5,
    "bart": bart,
    "recommender": items,
    "classifier": classes,
    "extractive_qa": spans,
    "llava": partial(pictures, "llava"),
    "idefics3": partial(pictures, "idefics3"),
}
WITHOUT_ADAPTER = frozenset({"recommender"})
"""Their builders have no knob for one."""
