"""What is kept of what a model says, counted; and the whole way through the command."""

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from dpo_lab.assemble.paraphrasing import ParaphraseSettings, drawn_from
from dpo_lab.chat import client
from dpo_lab.commands import cli
from dpo_lab.data.split import prompt_key
from dpo_lab.model.causal_lm import CausalLM
from dpo_lab.prepare.paraphrase_sieve import Sieve
from dpo_lab.types import Encoded, Example
from tests.chat.server import Call, Reply, says, serving
from tests.prepare.rows import pair
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


def draw(policy: CausalLM, texts: list[str], num: int) -> Sieve:
    settings = ParaphraseSettings(num=num, instruction="say: {text}", max_new_tokens=10)
    sieve = Sieve([pair(text) for text in texts], [], "texts", "prompts")
    sieve.take(drawn_from(policy, sieve.texts, settings, lambda line: None))
    return sieve


def test_what_cannot_be_used_is_left_out_and_counted(monkeypatch: pytest.MonkeyPatch):
    """Of `a b` five are drawn and one is kept; of the second text all; the third does not fit into the model."""
    answers = {"a b": ["A  B.", "x y.", " X Y.", "never ends", " ."], "second": ["2nd.", "two.", "b.", "c.", "d."]}
    policy, _ = scripted(answers, monkeypatch)
    assert policy.max_positions is not None
    drawn = draw(policy, ["a b", "second", "t" * policy.max_positions], 5)
    assert drawn.rewrites == {"a b": ["x y"], "second": ["2nd", "two", "b", "c", "d"]}
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
        (["--out", "a.json", "--keep", "("], "--keep: is no regular expression"),
        (["--out", "a.json", "--model", "M"], "--model: is for a model behind a server"),
        (["--out", "a.json", "--url", "http://h/v1"], "which model of that server"),
        (["--out", "a.json", "--url", "http://h/v1", "--model", "M", "model=causal_lm"], "name two models"),
        (["--out", "a.json", "--url", "h/v1", "--model", "M"], "--url=h/v1: must be http://HOST/v1"),
        (["--out", "a.json", "--url", "http://h/v1", "--model", "M", "--extra", "[]"], "must be a JSON object"),
        (["--out", "a.json", "--url", "http://h/v1", "--model", "M", "--extra", '{"n": 2}'], "--extra: n is said"),
        (
            ["--out", "a.json", "--url", "http://h/v1", "--model", "M", "--key-variable", "NO_SUCH"],
            "--key-variable=NO_SUCH: there is no such environment variable, or it is empty; export it, or leave "
            "--key-variable out",
        ),
        (
            ["--out", "a.json", "--of", "responses", "data=headlines", "model=causal_lm", "model.path=M"],
            "--of responses: responses of this data are names of classes",
        ),
        (["--out", "a.json"], "model=tiny has learnt nothing; name a model that has"),
        (["--out", "a.json", "model=small_classifier", "data=headlines"], "writes no text"),
    ):
        assert cli.main(["paraphrase", *words, *([] if "data=headlines" in words else named)]) == 2
        assert said in capsys.readouterr().err


TOKEN = "key-of-a-test-0123456789"


def rewriting(call: Call, number: int) -> Reply:
    """By what is asked for; a second draw of one text says it in yet other words."""
    asked = call.body["messages"][0]["content"].split("<text>\n")[1].split("\n</text>")[0]
    if asked == "Refuse 1":
        return says(None, refusal="I must not.")
    if asked == "Cut 2":
        return says("It is cut 2", finish_reason="length")
    if asked in ("", "Say nothing."):
        return says("")
    answers = {"Repeat 3": "repeat  3", "Lose 4": "lose four", "Leak": "HELD  out?", "Echo": f"my key is {TOKEN}"}
    return says(answers.get(asked, f"In other words, {asked}"))


def test_a_model_behind_a_server_is_asked_once(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    """Nine texts: one is held out in another spelling; of eight that are asked for, two say something of use."""
    prompts = ["Plain 5", "Refuse 1", "Cut 2", "Say nothing.", "Repeat 3", "Lose 4", "Leak", "Echo", "HELD\u00a0out?"]
    for name, asked in {"pairs": prompts, "held": ["held out?"]}.items():
        rows = [{"prompt": prompt, "chosen": " good", "rejected": " bad"} for prompt in asked]
        Path(f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    monkeypatch.setenv("PARAPHRASE_ACCESS", TOKEN)
    data = ["data=files", "data.path=pairs.jsonl", "data.validation_path=held.jsonl", "cache_dir=cache"]
    with serving(rewriting) as server:
        words = [
            "--url",
            server.url,
            "--model",
            "chat-1",
            "--key-variable",
            "PARAPHRASE_ACCESS",
            "--temperature",
            "0.7",
        ]
        words += ["--num", "1", *data]
        assert cli.main(["paraphrase", "--out", "a.json", *words]) == 0
        assert len(server.calls) == 8 and server.calls[0].headers["Authorization"] == f"Bearer {TOKEN}"
        assert server.calls[0].body.keys() == {"model", "temperature", "max_tokens", "messages"}
        first = Path("a.json").read_bytes()
        assert cli.main(["paraphrase", "--out", "b.json", *words]) == 0
        assert len(server.calls) == 8, "all is kept"
        assert cli.main(["paraphrase", "--out", "c.json", *words, "--seed", "1"]) == 0
        assert len(server.calls) == 16, "another seed asks anew"
        other = [
            "--extra",
            '{"max_completion_tokens": 99}',
            "--temperature",
            "none",
            "--instruction",
            "<text>\n{text}\n</text>",
        ]
        assert cli.main(["paraphrase", "--out", "d.json", *words, *other]) == 0
        assert server.calls[-1].body.keys() == {"model", "max_completion_tokens", "messages"}
    assert cli.main(["paraphrase", "--out", "e.json", *words]) == 0, "nobody listens any more"
    assert first == Path("b.json").read_bytes() == Path("e.json").read_bytes()
    content = json.loads(first)
    assert content["rewrites"] == {"Plain 5": ["In other words, Plain 5"], "Echo": ["my key is <redacted>"]}
    origin = content["provenance"]
    assert (origin["url"], origin["model"]) == (server.url, "chat-1")
    assert origin["request"] == {"temperature": 0.7, "max_tokens": 128} and "{text}" in origin["instruction"]
    assert origin["counts"] == {
        "texts of held-out prompts, not asked for": 1,
        "drawn": 8,
        "kept": 2,
        "refused": 1,
        "not ended within --max-new-tokens": 1,
        "empty": 1,
        "the same as the text": 1,
        "without a number, an address or what else --keep names": 1,
        "equal to a held-out prompt": 1,
    }
    printed = capsys.readouterr()
    assert "going on with" in printed.err and "2 of 8 paraphrases of 8 texts kept (" in printed.err
    kept = [file.read_text() for file in Path().rglob("*") if file.is_file() and file.suffix in (".json", ".jsonl")]
    assert not any(TOKEN in text for text in (*kept, printed.err, printed.out))


def test_what_a_server_has_said_before_it_failed_is_kept(
    workplace: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(client, "FIRST_WAIT_SECONDS", 0.01)
    rows = [{"prompt": f"Ask {number}", "chosen": " good", "rejected": " bad"} for number in range(4)]
    Path("pairs.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    words = ["--model", "chat-1", "--num", "1", "--num-parallel", "1", "--max-retries", "1"]
    words += ["data=files", "data.path=pairs.jsonl", "data.validation_fraction=0", "cache_dir=cache"]
    is_well = False
    with serving(lambda call, n: rewriting(call, n) if is_well or n < 2 else Reply({}, 429)) as server:
        words += ["--url", server.url]
        assert cli.main(["paraphrase", "--out", "a.json", *words]) == 2
        assert "gave no answer in 2 tries; the last: HTTP 429" in capsys.readouterr().err
        assert not Path("a.json").exists() and len(server.calls) == 4
        is_well = True
        assert cli.main(["paraphrase", "--out", "a.json", *words]) == 0 and len(server.calls) == 6
    with serving(lambda call, n: Reply({"error": "no"}, 401)) as server:
        assert cli.main(["paraphrase", "--out", "b.json", *words, "--url", server.url]) == 2
    assert "--key-variable names the environment variable" in capsys.readouterr().err
