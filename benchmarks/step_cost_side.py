"""One side of step_cost.py in a process of its own: reads a job, prints one JSON object.

    python benchmarks/step_cost_side.py JOB.json

Every job names its task: "prepare" makes what all sides load, "dpo_lab" and "trl" train and measure. TRL's is run by
the interpreter of TRL's own environment, so each task imports what it needs itself.
"""

import json
import os
import resource
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import redirect_stdout
from importlib.metadata import version
from pathlib import Path
from typing import Any

SIZES: dict[str, dict[str, Any]] = {
    "9m": {"hidden_size": 256, "num_hidden_layers": 6, "num_attention_heads": 4, "intermediate_size": 704},
    "17m": {"hidden_size": 384, "num_hidden_layers": 6, "num_attention_heads": 6, "intermediate_size": 1024},
}
"""Of a Llama with 9.0 and 16.9 million weights, of which the tied vocabulary takes 4.2 and 6.3."""

VOCABULARY = 16_384
MAX_LENGTH = 512
Job = dict[str, Any]


def cpu_seconds() -> float:
    """User and system time of this process, all threads, and of its children that have ended."""
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return time.process_time() + children.ru_utime + children.ru_stime


def peak_bytes() -> int:
    """Largest resident set so far. Not ru_maxrss, which a process inherits from the one that started it."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024
    raise SystemExit("/proc/self/status has no VmHWM: this benchmark measures memory on Linux only")


def prepare(job: Job) -> dict[str, Any]:
    """Train the tokenizer on the pairs, draw the weights, save both as a plain folder, and encode the pairs."""
    num_weights = save_model(job["size"], job["data"], Path(job["model"]))
    pairs = encoded_pairs(job)
    Path(job["pairs"]).write_text(json.dumps(pairs))
    return {"num_weights": num_weights, **count_tokens(pairs, job["pairs_a_step"])}


def save_model(size: str, data: str, folder: Path) -> int:
    """Write a model with random weights and the tokenizer of the pairs in `data`; returns the number of weights."""
    import torch
    from transformers import AutoModelForCausalLM, LlamaConfig

    from dpo_lab.assemble.tokens import corpus
    from dpo_lab.data.files import files

    save_tokenizer(corpus(files(path=data, on_problem="drop", validation_fraction=0.0)), folder)
    torch.manual_seed(0)
    config = LlamaConfig(
        **SIZES[size],
        vocab_size=VOCABULARY,
        max_position_embeddings=2048,
        tie_word_embeddings=True,
        pad_token_id=0,
        bos_token_id=1,
        eos_token_id=2,
    )
    model = AutoModelForCausalLM.from_config(config)
    model.save_pretrained(folder)
    return sum(tensor.numel() for tensor in model.parameters())


def save_tokenizer(texts: list[str], folder: Path) -> None:
    """A byte-level BPE with three special tokens, as transformers saves it."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    special = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>"}
    trainer = trainers.BpeTrainer(
        vocab_size=VOCABULARY,
        special_tokens=list(special.values()),
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special).save_pretrained(folder)


def encoded_pairs(job: Job) -> list[list[list[int]]]:
    """Token ids (prompt, chosen, rejected) of the pairs of all steps, as dpo_lab reads and caches them."""
    from dpo_lab.assemble import assemble

    loader = assemble(compose_config(job), say).train
    num_pairs = job["steps"] * job["pairs_a_step"]
    if len(loader.items) < num_pairs:
        raise SystemExit(f"{len(loader.items)} pairs fit, and {num_pairs} are needed: give more data or fewer --steps")
    pairs = []
    for item in loader.items[:num_pairs]:
        text = loader.dataset.encoded[item.example]
        pairs.append([list(ids) for ids in (text.prompt, *(text.responses[index] for index in item.responses))])
    return pairs


def count_tokens(pairs: list[list[list[int]]], pairs_a_step: int) -> dict[str, Any]:
    """Tokens a pair: in two rows, with the prompt once, of responses alone, in rows padded to a step's longest."""
    widths = [[len(prompt) + len(response) for response in both] for prompt, *both in pairs]
    padded = sum(
        2 * len(step) * max(map(max, step))
        for step in (widths[at : at + pairs_a_step] for at in range(0, len(widths), pairs_a_step))
    )
    real, prompts = sum(map(sum, widths)), sum(len(prompt) for prompt, *_ in pairs)
    tokens = {"real": real, "unique": real - prompts, "responses": real - 2 * prompts, "padded": padded}
    return {
        "tokens_a_pair": {name: number / len(pairs) for name, number in tokens.items()},
        "padding_ratio": 1 - real / padded,
    }


def compose_config(job: Job) -> dict[str, Any]:
    """The config of ``dpo-lab train`` with the recipe of the comparison and the overrides of this side."""
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from dpo_lab.config import check
    from dpo_lab.paths import CONF_DIR

    common = (
        "model=causal_lm data=files data.on_problem=drop data.on_overflow=drop data.validation_fraction=0 "
        "data.shuffle=false loss=sigmoid loss.beta=0.1 reference=frozen optimizer=adamw "
        "trainer.clip_norm=1.0 trainer.save=none logger=local samples.num=0"
    )
    trainer = f"trainer={'gpu' if job.get('device') == 'cuda' else 'cpu'}"
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        config = compose("train", [*common.split(), trainer, *job.get("overrides", [])])
    config.data.max_length = job.get("max_length", MAX_LENGTH)
    config.data.path, config.model.path = job["data"], job["model"]
    config.trainer.max_steps = job.get("max_steps", job["steps"])
    config.trainer.global_batch_size, config.optimizer.lr = job["pairs_a_step"], job.get("lr", 1e-5)
    config.trainer.num_threads = job["threads"]
    config.cache_dir, config.runs_dir = job["cache"], tempfile.mkdtemp(dir=job["work"])
    check(config)
    return OmegaConf.to_container(config, resolve=True)  # type: ignore[return-value]


class Clock:
    """CPU seconds at the end of every update, from the start of the process; or what `read` gives instead."""

    def __init__(self, read: Callable[[], float] = cpu_seconds) -> None:
        self.times: list[float] = []
        self._read = read

    def __call__(self, *_: Any) -> None:
        self.times.append(self._read())

    def measured(self, losses: list[float]) -> dict[str, Any]:
        """What both sides report. `start_up` ends with the first update."""
        steps = [later - earlier for earlier, later in zip(self.times, self.times[1:], strict=False)]
        packages = ("torch", "transformers", "pytorch-lightning", "trl", "accelerate")
        return {
            "step_cpu_seconds": steps,
            "start_up_cpu_seconds": self.times[0],
            "total_cpu_seconds": cpu_seconds(),
            "peak_bytes": peak_bytes(),
            "losses": losses,
            "versions": {name: found for name in packages if (found := installed(name)) is not None},
        }


def installed(package: str) -> str | None:
    """Version of a package that this process has loaded."""
    return version(package) if package.replace("-", "_") in sys.modules else None


def train_dpo_lab(job: Job, clock: Clock | None = None, wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """What ``dpo-lab train`` does: the assembled module, trainer, recorder and progress; losses are the record's.

    `wait` is called where all is ready to train.
    """
    from dataclasses import replace

    from dpo_lab.assemble import assemble
    from dpo_lab.assemble.fit import fit
    from dpo_lab.run import RunFolder, read_run, run_id

    clock, config = clock or Clock(), compose_config(job)
    experiment = assemble(config, say)
    timed = replace(experiment, make_optimizer=with_clock(experiment.make_optimizer, clock))
    run = RunFolder.claim(config["runs_dir"], config["name"], run_id(config, experiment.contents))
    with run, experiment.logger.mirroring(run, config, run.info):
        if wait is not None:
            wait()
        fit(timed, run, say)
    record = read_run(run.path)
    losses = [row["train/loss"] for row in record.metrics if "train/loss" in row]
    use = record.info.get("reference_cache") or {}
    return {**clock.measured(losses), "reference_cache": {name: use[name] for name in use if name != "folder"}}


def with_clock(make_optimizer: Callable[..., Any], clock: Clock) -> Callable[..., Any]:
    """The same optimizer, with `clock` told of each update."""

    def make(*given: Any) -> Any:
        optimizer, scheduler = make_optimizer(*given)
        optimizer.register_step_post_hook(clock)
        return optimizer, scheduler

    return make


def train_trl(job: Job, clock: Clock | None = None, wait: Callable[[], None] | None = None) -> dict[str, Any]:
    """TRL's trainer on the very token ids that dpo_lab trains on; `wait` as in `train_dpo_lab`."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer, TrainerCallback
    from trl import DPOConfig  # pyright: ignore[reportMissingImports]
    from trl_parity_side import COLUMNS, TokenTrainer, watch

    torch.set_num_threads(job["threads"])
    timed = clock or Clock()

    class Timer(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            timed()

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="sdpa")

    args = DPOConfig(
        output_dir=tempfile.mkdtemp(dir=job["work"]),
        max_steps=job.get("max_steps", job["steps"]),
        per_device_train_batch_size=job["pairs_a_step"],
        learning_rate=job.get("lr", 1e-5),
        beta=0.1,
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adamw_torch_fused",
        max_grad_norm=1.0,
        bf16=job.get("device") == "cuda",
        gradient_checkpointing=False,
        max_length=job.get("max_length", MAX_LENGTH),
        train_sampling_strategy="sequential",
        precompute_ref_log_probs=job["precompute"],
        use_cpu=job.get("device") != "cuda",
        logging_steps=1,
        save_strategy="no",
        report_to=[],
    )
    pairs = json.loads(Path(job["pairs"]).read_text())
    trainer = TokenTrainer(
        model=load(),
        ref_model=None if job["precompute"] else load(),
        args=args,
        train_dataset=Dataset.from_list([dict(zip(COLUMNS, pair, strict=True)) for pair in pairs]),
        processing_class=AutoTokenizer.from_pretrained(job["model"]),
        callbacks=[Timer()],
    )
    seen = watch(trainer.data_collator)
    if wait is not None:
        wait()
    trainer.train()
    if seen[: len(pairs)] != pairs:
        raise SystemExit("TRL trained on other token ids, or in another order, than it was given")
    return timed.measured([row["loss"] for row in trainer.state.log_history if "loss" in row])


def say(line: str) -> None:
    print(line, file=sys.stderr)


TASKS: dict[str, Callable[..., dict[str, Any]]] = {
    "prepare": prepare,
    "dpo_lab": train_dpo_lab,
    "trl": train_trl,
}


def main(path: Path) -> None:
    """Do the job; whatever else is printed on the way goes to stderr."""
    os.environ.update(WANDB_MODE="disabled", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    job = json.loads(path.read_text())
    with redirect_stdout(sys.stderr):
        result = TASKS[job["task"]](job)
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
