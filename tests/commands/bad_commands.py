"""Commands that cannot be run, and the words of the answer: in the config, in the data, in the model."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from transformers import AutoTokenizer

from tests.data.bad_inputs import GOOD, ONE, REFUSED, TWO, lines
from tests.model.spoilt import SPOILT, edit_config


class Bad(NamedTuple):
    """Overrides, with MODEL and DATA for files of `write`; words of the answer; what `write` does in the folder."""

    overrides: tuple[str, ...]
    words: tuple[str, ...]
    write: Callable[[Path], object] = lambda folder: None


def knob(override: str, *words: str) -> Bad:
    return Bad((override,), words)


CONFIG: dict[str, Bad] = {
    # Names.
    "a key": knob("loss.bata=1", "loss.bata=1: no such key; did you mean loss.beta?"),
    "a key below another": knob("trainer.max_epoch=3", "did you mean trainer.max_epochs?"),
    "a key of another choice": knob("optimizer.learning_rate=1", "did you mean optimizer.lr?"),
    "a top-level key": knob("sede=1", "sede=1: no such key; did you mean seed?"),
    "an added key": knob("+loss.bata=1", "loss.bata: no such key; did you mean loss.beta?"),
    "a loss": knob("loss=sigmoit", "loss=sigmoit: no such loss; did you mean sigmoid?"),
    "a loss by its paper's name": knob("loss=dpo", "loss=dpo: no such loss; did you mean sigmoid?"),
    "a loss by a library's name": knob("loss=sppo_hard", "did you mean trl_1_16/sppo_hard?"),
    "a hub name for a model": knob("model=gpt2", "for one of your own: model=causal_lm model.path=gpt2"),
    "a file for data": knob("data=pairs.jsonl", "for one of your own: data=files data.path=pairs.jsonl"),
    "no key": knob("=1", "=1: no key before the value"),
    "blanks": knob("loss.beta = 1", "no blanks around the equals sign: loss.beta=1"),
    "a primary config": knob("--config-name=nope", "--config-name=nope: no such config; known: "),
    "a folder of configs": knob("--config-dir=nope", "--config-dir: no such folder: nope"),
    "a config that is no YAML": Bad(
        ("--config-dir=conf", "loss=mine"),
        ("loss=mine: a file of this name is no YAML", "mine.yaml"),
        lambda folder: (
            (folder / "conf/loss").mkdir(parents=True),
            (folder / "conf/loss/mine.yaml").write_text("\tbeta: 1\n"),
        ),
    ),
    "a switch of Hydra's instantiate": knob("+loss._partial_=true", "loss._partial_: no such key"),
    "an optimizer": knob("optimizer=adam", "no such optimizer; did you mean adamw?"),
    "a knob that another loss has": knob("loss.gamma=1", "sigmoid does not take gamma", "simpo"),
    "no value": knob("loss.beta", "loss.beta: not an override; write key=value"),
    "no loss": knob("~loss", "loss: missing; choose one: loss=NAME"),
    "a target elsewhere": knob("loss._target_=builtins.eval", "loss._target_: builtins.eval lies outside of dpo_lab"),
    "a target that is not there": knob("loss._target_=dpo_lab.loss.sigmoid.sigmoit", "did you mean sigmoid?"),
    "a package that is not there": knob("plugins=[nope]", "plugins: no package 'nope' can be imported"),
    "several values": knob("loss.beta=1,2", "several values are a sweep, which needs -m"),
    "an interpolation": knob("loss.beta=${nope}", "loss.beta: Interpolation key 'nope' not found"),
    # Values.
    "beta 0": knob("loss.beta=0", "loss.beta: must be greater than 0, got 0"),
    "beta negative": knob("loss.beta=-0.1", "loss.beta: must be greater than 0, got -0.1"),
    "beta NaN": knob("loss.beta=nan", "loss.beta: must be finite, got nan"),
    "beta infinite": knob("loss.beta=inf", "loss.beta: must be finite, got inf"),
    "beta text": knob("loss.beta=high", "loss.beta: must be a number, got 'high'"),
    "beta null": knob("loss.beta=null", "loss.beta: must be a number, got null"),
    "beta a boolean": knob("loss.beta=true", "loss.beta: must be a number, got true"),
    "beta a list": knob("loss.beta=[0.1]", "loss.beta: must be a number, got [0.1]"),
    "smoothing one half": knob("loss.label_smoothing=0.5", "loss.label_smoothing: must be less than 0.5, got 0.5"),
    "smoothing above": knob("loss.label_smoothing=0.7", "must be less than 0.5, got 0.7"),
    "smoothing negative": knob("loss.label_smoothing=-0.1", "must be at least 0, got -0.1"),
    "batch 0": knob("trainer.global_batch_size=0", "trainer.global_batch_size: must be greater than 0, got 0"),
    "batch in parts": knob("trainer.global_batch_size=1.5", "must be a whole number, got 1.5"),
    "a micro-batch above the batch": knob("trainer.micro_batch_size=64", "must be at most trainer.global_batch_size"),
    "steps 0": knob("trainer.max_steps=0", "trainer.max_steps: must be greater than 0 or null, got 0"),
    "epochs 0": knob("trainer.max_epochs=0", "trainer.max_epochs: must be greater than 0 or null, got 0"),
    "a precision": knob("trainer.precision=fp16", "must be '32-true' or 'bf16-mixed', got 'fp16'"),
    "processes 0": knob("trainer.num_devices=0", "trainer.num_devices: must be greater than 0, got 0"),
    "more processes than items": knob("trainer.num_devices=33", "must be at most trainer.global_batch_size"),
    "a GPU where there is none": knob("trainer=gpu", "trainer=gpu: torch finds no CUDA device here; use trainer=cpu"),
    "best of training": Bad(
        ("trainer.save=best", "trainer.best_metric=train/loss"), ("must be a curve of validation",)
    ),
    "more threads than can be": knob("trainer.num_threads=100000", "must be at most 1024 or null, got 100000"),
    "more processes than processors": Bad(
        ("trainer.num_devices=1000", "trainer.global_batch_size=1000"),
        ("trainer.num_devices: 1000 processes are more",),
    ),
    "a seed that torch cannot hold": knob("seeds.order=18446744073709551616", "seeds.order: must be less than"),
    "a project of W&B": knob("logger.project=a/b", "logger.project: must be 1 to 128 characters, none of them /"),
    "a tag of W&B": knob("logger.tags=['']", "logger.tags.0: must be 1 to 64 characters"),
    "rate 0": knob("optimizer.lr=0", "optimizer.lr: must be greater than 0, got 0"),
    "rate NaN": knob("optimizer.lr=nan", "optimizer.lr: must be finite, got nan"),
    "rate text": knob("optimizer.lr=1e-5x", "optimizer.lr: must be a number, got '1e-5x'"),
    "a schedule": knob("optimizer.schedule=cosin", "must be 'constant', 'linear' or 'cosine', got 'cosin'"),
    "seed negative": knob("seed=-1", "seed: must be at least 0, got -1"),
    "seed in parts": knob("seed=1.5", "seed: must be a whole number, got 1.5"),
    "a decay above one": Bad(("reference=ema", "reference.decay=1.5"), ("reference.decay: must be less than 1",)),
    "nothing to switch off": knob(
        "reference=adapter_off", "the policy has no adapter to switch off", "model.lora_rank"
    ),
    "nothing to borrow": Bad(("loss=kto", "trainer.global_batch_size=1"), ("with 1 there is none; use at least 2",)),
    "dropout 1": knob("model.dropout=1", "model.dropout: must be less than 1, got 1"),
    "a type of weights": knob("model.dtype=float16", "must be 'float32' or 'bfloat16', got 'float16'"),
    "a list for text": knob("name=[a]", "name: must be text, got ['a']"),
    # Places.
    "a name that leads out": knob("name=../x", "name: must name a folder", "'../x'"),
    "a folder below a file": Bad(
        ("runs_dir=file/runs",), ("runs_dir: cannot make", "is a file"), lambda folder: (folder / "file").touch()
    ),
    "a folder that cannot be written": knob("runs_dir=/proc/nope", "runs_dir: cannot write to /proc/nope"),
    "an empty folder": knob("cache_dir=''", "cache_dir: is empty; give a folder"),
    "a folder behind a link to nothing": Bad(
        ("runs_dir=link/runs",),
        ("runs_dir: cannot make", "is a link to nope, which is not there"),
        lambda folder: (folder / "link").symlink_to("nope"),
    ),
    "a folder with too long a name": knob(
        "runs_dir=" + 300 * "x", "no file system takes a name of more than 255 bytes"
    ),
    "a home of nobody": knob("runs_dir='~nobody-here/runs'", "names the home of a user that is not known here"),
    "data with too long a name": Bad(
        ("data=files", f"data.path={300 * 'x'}.jsonl"), ("data.path: no such file or folder: xxx",)
    ),
    "a token for a name": knob("name=hf_0123456789abcdefghij", "name: holds a token or key"),
    "a long name": knob("name=" + 129 * "x", "name: must name a folder, in at most 128 bytes"),
    "a revision of a folder": Bad(
        ("model=causal_lm", "model.path=folder", "model.revision=v2"),
        ("model.revision: is of a name on the hub, and folder is a folder here",),
        lambda folder: (folder / "folder").mkdir(),
    ),
    "no run to go on with": knob("resume.run=nope", "neither the folder of a run nor the id of one"),
    "a change that is not known": knob("resume.allow_change=[cfg]", "resume.allow_change.0: must be 'config'"),
    "no data": Bad(("data=files", "data.path=nope.jsonl"), ("data.path: no such file or folder: nope.jsonl",)),
    "no data in a list": Bad(("data=files", "data.path=[nope.csv]"), ("data.path: no such file or folder: nope.csv",)),
    "data not said": Bad(("data=files",), ("data.path: must be given: data.path=VALUE",)),
    "no model": Bad(("model=causal_lm", "model.path=./nope"), ("model.path: ./nope is no folder here",)),
    "a file for a model": Bad(
        ("model=causal_lm", "model.path=file"),
        ("model.path: file is a file; give the folder",),
        lambda folder: (folder / "file").touch(),
    ),
    "no reference": knob("reference.path=/nope", "reference.path: /nope is no folder here"),
}

_FIELDS = (
    *("no chosen in one row", "a typo", "stack exchange", "KTO with a completion", "nothing that we know"),
    *("null", "a number", "a boolean", "not a number", "half a surrogate pair", "chats as text"),
    *("an empty response", "white space for a response", "an empty prompt", "chosen equals rejected"),
    *("two prompts in a transcript", "two prompts in conversations", "text against messages", "an unknown role"),
    *("no row", "a header alone", "an unknown ending", "a broken line", "single quotes", "a key twice"),
    *("Latin-1 in a line", "UTF-16", "semicolons", "an open quote", "a cut Parquet file", "gzip by another name"),
    *("half a gzip file", "several kinds", "a mapping that nothing needs"),
)
DATA: dict[str, Bad] = {
    case: Bad(
        ("data=files", f"data.path={bad.name}", *(["data.columns={prompt: question}"] if bad.columns else [])),
        bad.words,
        lambda folder, bad=bad: (folder / bad.name).write_bytes(bad.content),
    )
    for case, bad in ((case, REFUSED[case]) for case in _FIELDS)
}


def many(num: int = 12, **changes: str) -> bytes:
    """Sound pairs, or pairs with `changes` (``{n}`` is the row's number)."""
    row = {"prompt": "Is {n} even?", "chosen": "Yes {n}.", "rejected": "No {n}.", **changes}
    return lines(*({name: text.format(n=number) for name, text in row.items()} for number in range(num)))


def data(content: bytes, *overrides: str, words: tuple[str, ...]) -> Bad:
    return Bad(
        ("data=files", "data.path=a.jsonl", "model=causal_lm", "model.path=MODEL", *overrides),
        words,
        lambda folder: (folder / "a.jsonl").write_bytes(content),
    )


CHATS = lines(
    *({"prompt": [{"role": "user", "content": f"Hi {n}"}], "chosen": [ONE], "rejected": [TWO]} for n in range(9))
)
LONG = "word " * 300

ENCODED: dict[str, Bad] = {
    "a chat without a template": data(
        CHATS, words=("cannot_encode", "a.jsonl row 1", "has no chat template", "model.chat_template=FILE")
    ),
    "no room for any prompt": data(
        many(prompt=LONG + "{n}"),
        "data.max_length=64",
        words=("No training row is left", "prompt alone leaves no room"),
    ),
    "rows that are too long": data(
        lines(GOOD, {**GOOD, "prompt": "q", "chosen": LONG}),
        *("data.max_length=64", "data.on_overflow=error", "data.validation_fraction=0"),
        words=("a.jsonl row 2", "do not fit into data.max_length=64", "data.on_overflow=drop"),
    ),
    "equal after the cut": data(
        many(chosen=LONG + "a", rejected=LONG + "b"),
        *("data.max_length=64", "data.on_overflow=truncate"),
        words=("No training row is left", "identical_after_cut", "a.jsonl row 1"),
    ),
    "one prompt to split": data(many(prompt="Same?"), words=("needs two distinct prompts", "validation_fraction=0")),
    "single labels for a loss of pairs": data(
        lines(*({"prompt": f"p {n}", "response": "a", "label": n % 2 == 0} for n in range(9))),
        words=("pairs of a better and a worse response", "choose a loss for what the data has"),
    ),
    "one label for a loss of labels": data(
        lines(*({"prompt": f"p {n}", "response": "a", "label": True} for n in range(9))),
        "loss=kto",
        words=("needs desirable and undesirable responses", "none is undesirable"),
    ),
    "demonstrations for a loss of labels": data(
        lines(*({"prompt": f"p {n}", "response": "a", "labl": "good"} for n in range(9))),
        "loss=kto",
        words=("a response to imitate and no judgement (the first at a.jsonl row", "'labl' for label", "loss=sft"),
    ),
    "demonstrations for a loss of pairs": data(
        lines(*({"messages": [{"role": role, "content": f"{n}"} for role in ("user", "assistant")]} for n in range(9))),
        "loss=rpo",
        words=("needs pairs of a better", "rows have a response to imitate and no judgement", "loss=sft"),
    ),
    "no scores": data(many(), "loss=odpo", words=("loss odpo needs scores", "a.jsonl row", "chosen_score")),
    "more positions than the model has": data(
        many(), "data.max_length=100000", words=("data.max_length: 100000 is longer than", "positions")
    ),
    "the same file twice": data(many(), "data.path=[a.jsonl,./a.jsonl]", words=("twice", "a.jsonl")),
    "a folder for a file": Bad(
        ("data=files", "data.path=folder"),
        ("folder is no file. Name files",),
        lambda folder: (folder / "folder").mkdir(),
    ),
}


def spoilt(case: str) -> Bad:
    """A model of `tests.model.spoilt`."""
    spoil, _ = SPOILT[case]
    return Bad((*GOOD_DATA, "model.path=MODEL"), ("MODEL",), lambda folder: spoil(folder / "MODEL"))


def without_end(folder: Path) -> None:
    tokenizer = AutoTokenizer.from_pretrained(folder / "MODEL")
    tokenizer.eos_token = None
    tokenizer.save_pretrained(folder / "MODEL")


GOOD_DATA = ("data=files", "data.path=good.jsonl", "model=causal_lm")
MODEL: dict[str, Bad] = {
    **{
        case: spoilt(case)._replace(words=words)
        for case, words in {
            "no config": ("is a folder without config.json",),
            "bad config": ("not a valid JSON",),
            "truncated": ("model.safetensors is no whole safetensors file", "fetch or copy it again"),
            "no weights": ("holds no weights", "found: config.json"),
            "a part is missing": ("two.safetensors, which is not there",),
            "a part lies elsewhere": ("outside of its folder; it is not read",),
            "a weight is missing": ("would be random: model.layers.0.mlp.down_proj.weight",),
            "another shape": ("another shape than config.json says", "down_proj.weight (2, 2), not"),
            "not a number": ("1 of its weights are infinite or not a number, in model.layers.0.mlp.down_proj.weight",),
            "a pickle": ("a pickle with more in it than tensors, and none of it was run; give safetensors",),
            "code of its own": ("model.trust_remote_code=true",),
            "bad tokenizer": ("cannot be loaded",),
            "no tokenizer": ("cannot be loaded", "tokenizer"),
            "too many tokens": ("tokens but the embedding only 300 rows",),
        }.items()
    },
    "no end of sequence": Bad((*GOOD_DATA, "model.path=MODEL"), ("no end-of-sequence token", "eos_token"), without_end),
    "a hub name without network": Bad(
        (*GOOD_DATA, "model.path=owner/name"), ("the hub cannot be reached", "hf download owner/name")
    ),
    "a reference that is spoilt": Bad(
        (*GOOD_DATA, "model.path=MODEL", "reference.path=OTHER"),
        ("OTHER", "is no whole safetensors file"),
        lambda folder: SPOILT["truncated"][0](folder / "OTHER"),
    ),
    "a reference of another kind": Bad(
        (*GOOD_DATA, "model.path=MODEL", "reference.path=OTHER"),
        ("cannot be loaded", "OTHER"),
        lambda folder: edit_config(model_type="nope")(folder / "OTHER"),
    ),
    "an adapter without its model": Bad(
        (*GOOD_DATA, "model.path=OTHER"),
        ("/nope", "there is no such folder"),
        lambda folder: write_adapter(folder / "OTHER", base="/nope"),
    ),
    "a template that is not there": Bad(
        (*GOOD_DATA, "model.path=MODEL", "model.chat_template=nope.jinja"), ("model.chat_template: no file nope.jinja",)
    ),
}


def write_adapter(folder: Path, *, base: str) -> None:
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "r": 2, "target_modules": ["q_proj"]}
    (folder / "adapter_config.json").write_text(json.dumps(config))
    (folder / "model.safetensors").rename(folder / "adapter_model.safetensors")


TABLE = {
    f"{part}: {case}": bad
    for part, cases in {"config": CONFIG, "data": DATA, "encoded": ENCODED, "model": MODEL}.items()
    for case, bad in cases.items()
}

AS_PROCESSES = (
    *("config: a key", "config: beta NaN", "config: epochs 0", "config: a GPU where there is none"),
    *("config: a folder that cannot be written", "config: no run to go on with", "config: no model", "config: no data"),
    *("data: several kinds", "model: truncated"),
)
