"""What holds for vision-language models beside the laws of every policy."""

from collections.abc import Callable
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch

from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.fit_length import fit_length
from dpo_lab.data.report import DataReport
from dpo_lab.errors import UserError
from dpo_lab.image_files import load_image
from dpo_lab.model.causal_lm import causal_lm
from dpo_lab.model.small_vision_language import small_vision_language
from dpo_lab.model.vision_language import vision_language
from dpo_lab.model.vision_policy import VisionLanguageModel
from dpo_lab.types import Example
from tests.model import policy_laws
from tests.model.architectures import write_model
from tests.model.policy_cases import PLAIN
from tests.model.vision_models import MODELS, draw_picture, random_vision_model, shown, write_vision_model

SIZES = [(40, 30), (90, 30), (20, 64)]


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory):
    folder = tmp_path_factory.mktemp("pictures")
    return [draw_picture(folder / f"{seed}.png", size, seed) for seed, size in enumerate(SIZES)]


@pytest.fixture(scope="module")
def policies():
    return cache(lambda name: VisionLanguageModel(*random_vision_model(name), **PLAIN).eval())


@pytest.fixture(params=MODELS)
def policy(request: pytest.FixtureRequest, policies: Callable[[str], VisionLanguageModel]) -> VisionLanguageModel:
    return policies(request.param)


@pytest.fixture
def examples(pictures: list[Any]) -> list[Example]:
    return [
        shown("the cat", pictures[:1], " sat on", "!"),
        shown("and the dog? what is it", pictures[1:], "a helpful answer", "12"),
        shown("hello", [], "a", "short answer"),
    ]


def test_log_probs_are_those_of_transformers(policy: VisionLanguageModel, examples: list[Example]):
    """Of prompt and response together, as its own processor prepares them, one row at a time."""
    [encoded] = policy.encode(examples[:1])
    processor = policy.encoder.processor
    prompt, responses = policy.encoder.text.renderer.texts(examples[0])
    images = [load_image(image) for image in examples[0].images]
    for response, ours, ids in zip(responses, policy_laws.decisions(policy, [encoded]), encoded.responses, strict=True):
        given = processor(text=[prompt + response], images=[images], add_special_tokens=True, return_tensors="pt")
        assert given["input_ids"][0].tolist() == [*encoded.prompt, *ids]
        with torch.no_grad():
            logits = policy.model(**given).logits[0]
        start = len(encoded.prompt)
        theirs = logits.log_softmax(-1)[start - 1 : -1].gather(-1, given["input_ids"][0, start:, None])[:, 0]
        assert ours == pytest.approx(theirs.tolist(), abs=policy_laws.ROUNDING)


@pytest.mark.parametrize("name", ["qwen2_vl", "gemma3"])
def test_company_and_order_change_nothing(name: str, policies: Any, examples: list[Example]):
    """The others stand under this law beside every other policy."""
    policy = policies(name)
    policy_laws.company_and_order_change_nothing(policy, policy.encode(examples))


def test_pixels_reach_the_policy(policy: VisionLanguageModel, examples: list[Example], tmp_path: Path):
    """A picture of the same size: the same tokens, another key, other numbers."""
    other = (draw_picture(tmp_path / "other.png", SIZES[0], 7),)
    [one] = policy.encode(examples[:1])
    [another] = policy.encode([shown("the cat", other, " sat on", "!")])
    assert another.prompt == one.prompt and another.images == other
    here, there = (policy_laws.decisions(policy, [encoded]) for encoded in (one, another))
    assert max(abs(sum(a) - sum(b)) for a, b in zip(here, there, strict=True)) > 0.01


def test_draws_see_what_stands_before_them(policy: VisionLanguageModel, examples: list[Example]):
    """Prompts of several lengths, padded on the left: a policy that is nearly sure says in company what it says alone,
    and what its own log-probs call likeliest."""
    prompts = policy.encode(examples)
    head = policy.model.get_output_embeddings().weight
    before = head.detach().clone()
    with torch.no_grad():
        head.mul_(1000)
    try:
        drawn = policy.sample(prompts, generator=torch.Generator().manual_seed(0), max_new_tokens=3)
        for prompt, response in zip(prompts, drawn, strict=True):
            [alone] = policy.sample([prompt], generator=torch.Generator().manual_seed(1), max_new_tokens=3)
            assert alone == response
            [decided] = policy_laws.decisions(policy, [replace(prompt, responses=(tuple(response),))])
            assert sum(decided) > -0.1
    finally:
        with torch.no_grad():
            head.copy_(before)


def test_a_cut_leaves_pictures_whole(policy: VisionLanguageModel, examples: list[Example]):
    """Text behind them goes, down to the last token; where they alone do not fit, the row goes."""
    [encoded] = policy.encode(examples[:1])
    longest = max(map(len, encoded.responses))
    placeholders = {*policy.encoder.placeholders}
    last = max(place for place, token in enumerate(encoded.prompt) if token in placeholders)
    assert last < encoded.num_head < len(encoded.prompt)
    cut = fit_length(encoded, encoded.num_head + 2 + longest, "truncate").encoded
    assert cut is not None
    assert cut.prompt == encoded.prompt[: encoded.num_head] + encoded.prompt[-2:]
    policy.log_prob(policy.collate([cut]))
    nothing = fit_length(encoded, encoded.num_head - 1, "truncate")
    assert nothing.encoded is None and nothing.reasons == ("prompt_fills_length",)


@pytest.mark.parametrize(
    ("text", "num", "responses", "why"),
    [
        ("what is <image>?", 0, ("a", "b"), "holds '<image>'.* 1 times and shows 0"),
        ("what is <image>?", 1, ("a", "b"), "holds '<image>'.* 2 times and shows 1"),
        ("what is it?", 1, ("an <image>", "b"), "a response holds '<image>'"),
    ],
)
def test_marks_in_texts_are_refused(
    text: str, num: int, responses: tuple[str, ...], why: str, policies: Any, pictures: list[Any]
):
    with pytest.raises(UserError, match=f"a row that asks.*{why}"):
        policies("llava").encode([shown(text, pictures[:num], *responses)])


def test_a_template_without_places_is_refused(tmp_path: Path, pictures: list[Any]):
    folder = write_vision_model(tmp_path / "model", "llava")
    template = tmp_path / "chat.jinja"
    row = shown("what is it?", pictures[:1], "a", "b")
    template.write_text("{% for m in messages %}{{ m['content'][-1]['text'] }}{% endfor %}")
    with pytest.raises(UserError, match=r"leaves 0 places for 1 images.*model.chat_template"):
        vision_language(path=str(folder), chat_template=str(template)).encode([row])
    template.write_text("{% for m in messages %}{{ m['content'] + '.' }}{% endfor %}")
    with pytest.raises(UserError, match="cannot render these messages"):
        vision_language(path=str(folder), chat_template=str(template)).encode([row])


def test_processors_that_cannot_be_batched_are_refused_by_name():
    model, processor = random_vision_model("llava")
    processor.image_token = None
    with pytest.raises(UserError, match="LlavaProcessor names no token for an image"):
        VisionLanguageModel(model, processor, **PLAIN)

    model, processor = random_vision_model("llava")

    class Mixed(type(processor)):
        def __call__(self, *args: Any, **options: Any) -> Any:
            outputs = super().__call__(*args, **options)
            outputs["pixel_values"] = outputs["pixel_values"][..., : outputs["input_ids"].shape[1]]
            return outputs

    processor.__class__ = Mixed
    with pytest.raises(UserError, match="Mixed makes pixel_values of text and images together"):
        VisionLanguageModel(model, processor, **PLAIN)


def test_a_narrow_picture_is_told_of_with_its_row(policies: Any, tmp_path: Path):
    """Qwen2-VL takes none that is over 200 times as long as it is wide."""
    row = shown("what is it?", [draw_picture(tmp_path / "line.png", (900, 4), 0)], "a", "b")
    with pytest.raises(UserError, match=r"a row that asks what is it\?: .*line\.png"):
        encode_source([row], policies("qwen2_vl").encode, 999, "error", DataReport(), 2)


def test_a_model_that_cannot_see_says_so(tmp_path: Path, pictures: list[Any]):
    policy = causal_lm(path=str(write_model(tmp_path / "llama", "llama")))
    with pytest.raises(UserError, match=r"a row that asks hello: the prompt shows images.*model=vision_language"):
        policy.encode([shown("hello", pictures[:1], "a", "b")])


def test_a_reference_that_prepares_pictures_otherwise_is_refused(tmp_path: Path):
    folder = write_vision_model(tmp_path / "model", "llava")
    policy = vision_language(path=str(folder))
    assert policy.load_other(str(folder)).fingerprint() == policy.fingerprint()
    settings = folder / "processor_config.json"
    settings.write_text(settings.read_text().replace("0.48145466", "0.5"))
    with pytest.raises(UserError, match="prepares images otherwise"):
        policy.load_other(str(folder))
    again = vision_language(path=str(folder))
    assert again.encoding_fingerprint() != policy.encoding_fingerprint()
    assert again.computation()["images"] != policy.computation()["images"]


def test_the_small_model_is_the_same_for_the_same_seed_and_ends_on_disk(tmp_path: Path, pictures: list[Any]):
    policy = small_vision_language(["which colour? red blue"] * 3, 1, vocab_size=300, num_layers=1, hidden_size=16)
    assert (
        small_vision_language(
            ["which colour? red blue"] * 3, 1, vocab_size=300, num_layers=1, hidden_size=16
        ).fingerprint()
        == policy.fingerprint()
    )
    groups = policy.encode([shown("which colour?", pictures[:1], "red", "blue")])
    policy_laws.export_gives_the_same_policy(
        policy, lambda folder: vision_language(path=str(folder)), groups, tmp_path / "model"
    )
    assert policy.decode_prompt(groups[0]).startswith("[0.png] ")
    assert "<image>" not in policy.decode_prompt(groups[0])


@pytest.mark.parametrize(
    ("knobs", "why"),
    [({"hidden_size": 20}, "multiple of 2"), ({"image_size": 30, "patch_size": 8}, "patch_size: 8 does not divide")],
)
def test_sizes_that_do_not_fit(knobs: dict[str, int], why: str):
    with pytest.raises(UserError, match=why):
        small_vision_language(["a"], 0, **knobs)  # type: ignore[arg-type]
