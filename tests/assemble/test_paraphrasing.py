"""What is kept of what a model says, counted; and the whole way through the command."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_lab.assemble.paraphrasing import Drawn, ParaphraseSettings, rewrite
from dpo_lab.commands import cli
from dpo_lab.data.split import prompt_key
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.types import Encoded, Example
from tests.small import SMALL, run_train, small_policy


def scripted(answers: dict[str, list[str]], monkeypatch: pytest.MonkeyPatch, **tokenizer: Any) -> tuple[CausalLM, list]:
    """A policy that says what it is told to, a character a token, where a full stop ends it; and what it is asked."""
    policy, asked = small_policy(), []
    said = {text: iter(texts) for text, texts in answers.items()}

    def encode(examples: Sequence[Example]) -> list[Encoded]:
        asked.extend(example.prompt for example in examples)
        texts = [one if isinstance(one, str) else one[0]["content"] for one in asked]
        return [Encoded(tuple(map(ord, text)), ()) for text in texts]

    def sample(prompts: Sequence[Encoded], **_: Any) -> list[list[int]]:
        texts = [next(said["".join(map(chr, prompt.prompt)).removeprefix("say: ")]) for prompt in prompts]
        return [[policy.end_id if character == "." else ord(character) for character in text] for text in texts]

    for name, method in {"encode": encode, "sample": sample}.items():
        monkeypatch.setattr(policy, name, method)
    monkeypatch.setattr(policy, "decode", lambda prompt, response: "".join(map(chr, response[:-1])))
    monkeypatch.setattr(policy, "tokenizer", SimpleNamespace(**tokenizer))
    return policy, asked


def draw(policy: CausalLM, texts: list[str], num: int) -> tuple[dict[str, list[str]], Drawn]:
    settings = ParaphraseSettings(num=num, instruction="say: {text}", max_new_tokens=10)
    return rewrite(policy, texts, settings, lambda line: None)


def test_what_cannot_be_used_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch):
    """Of `a b` five are drawn and one is kept; of the second text all; the third does not fit into the model."""
    answers = {"a b": ["A  B.", "x y.", " X Y.", "never ends", " ."], "second": ["2nd.", "two.", "b.", "c.", "d."]}
    policy, _ = scripted(answers, monkeypatch)
    assert policy.max_positions is not None
    found, drawn = draw(policy, ["a b", "second", "t" * policy.max_positions], 5)
    assert found == {"a b": ["x y"], "second": ["2nd", "two", "b", "c", "d"]}
    assert drawn.counts == {
        "drawn": 10,
        "kept": 6,
        "the same as the text": 1,
        "drawn before": 1,
        "not ended within --max-new-tokens": 1,
        "empty": 1,
        "texts too long for the model": 1,
    }
    assert drawn.line().startswith("6 of 10 paraphrases of 3 texts kept (")


def test_a_chat_model_is_asked_in_a_turn_of_the_user(monkeypatch: pytest.MonkeyPatch):
    policy, asked = scripted({"a": ["b."]}, monkeypatch, chat_template="some")
    draw(policy, ["a"], 1)
    assert asked == [[{"role": "user", "content": "say: a"}]]


DATA = ("data=files", "data.path=pairs.jsonl", "data.validation_fraction=0.3")


def test_from_a_model_to_a_run_on_its_words(workplace: Path, capsys: pytest.CaptureFixture[str]):
    rows = [{"prompt": f"A review of hotel {n}:", "chosen": " good", "rejected": " bad"} for n in range(20)]
    (workplace / "pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    small_policy(seed=1).export(workplace / "MODEL")
    words = ["--num", "3", "--max-new-tokens", "60", "--instruction", "{text}", *DATA]
    model = ("model=causal_lm", "model.path=MODEL")
    for name in ("a.json", "b.json"):
        assert cli.main(["paraphrase", "--out", name, *words, *model]) == 0
    printed = capsys.readouterr()
    assert printed.out.splitlines()[-1] == "b.json" and "paraphrases of" in printed.err
    assert cli.main(["paraphrase", "--out", "c.json", "--max-new-tokens", "1", *words[4:], *model]) == 2
    assert "nothing to write: 0 of " in capsys.readouterr().err and not Path("c.json").exists()
    content = json.loads(Path("a.json").read_text())
    assert content == json.loads(Path("b.json").read_text()), "the same seed says the same"
    assert content["rewrites"] and content["provenance"]["model"] == "MODEL"

    steps = ("prepare=[paraphrases]", "prepare.paraphrases.path=a.json")
    quick = ("start.max_steps=1", "trainer.max_steps=1", "trainer.global_batch_size=8", "samples.num=0", "logger=local")
    run = run_train(*DATA, *steps, *SMALL[:4], *quick)
    report = run.info["data_report"]
    assert report["prepared"][0]["made"] == sum(map(len, content["rewrites"].values())) > 3
    assert "model MODEL" in report["made_with"][0]
    held_out = {prompt_key(row["prompt"]) for row in rows} - {prompt_key(text) for text in content["rewrites"]}
    assert len(held_out) >= report["num_validation"] > 0, "rows that are held out were not asked for"


def test_faults_are_told_before_data_is_read(capsys: pytest.CaptureFixture[str]):
    named = ["data=files", "data.path=a.jsonl"]
    Path("a.jsonl").write_text('{"prompt": "p", "chosen": "a", "rejected": "b"}\n')
    for words, said in (
        (["--out", "a.txt"], "does not end in .json"),
        (["--out", "a.json", "--num", "0"], "--num: must be at least 1"),
        (["--out", "a.json", "--instruction", "say it"], "--instruction: must hold {text} once"),
        (["--out", "a.json"], "model=tiny has learnt nothing; name a model that has"),
        (["--out", "a.json", "model=small_classifier", "data=headlines"], "writes no text"),
    ):
        assert cli.main(["paraphrase", *words, *([] if "data=headlines" in words else named)]) == 2
        assert said in capsys.readouterr().err
