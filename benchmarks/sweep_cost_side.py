"""One side of sweep_cost.py in a process of its own: reads a job, prints one JSON object.

    python benchmarks/sweep_cost_side.py JOB.json

"prepare" makes the model, the data files and the order in which each seed sees the pairs. "trl" is one run of TRL, by
the interpreter of TRL's own environment, so each task imports what it needs itself.
"""

import gzip
import json
import os
import sys
import tempfile
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

from step_cost_side import Job, count_tokens, installed, save_model, say

RECIPE = (
    "model=causal_lm data=files data.on_problem=drop data.max_length=512 reference=frozen optimizer=adamw "
    "optimizer.lr=1e-5 trainer=cpu trainer.num_threads=1 trainer.clip_norm=1.0 logger=local samples.num=0"
)
"""What every run of a sweep of dpo_lab is told beside its files, losses, betas and seeds."""


def prepare(job: Job) -> dict[str, Any]:
    """Write model/, train.jsonl, validation.jsonl, and pairs.json: for each seed the pairs of a run, in its order."""
    folder = Path(job["work"])
    with gzip.open(job["data"], "rt") as lines:
        rows = [line for _, line in zip(range(job["train_rows"] + job["validation_rows"]), lines, strict=False)]
    (folder / "train.jsonl").write_text("".join(rows[: job["train_rows"]]))
    (folder / "validation.jsonl").write_text("".join(rows[job["train_rows"] :]))
    num_weights = save_model(job["size"], str(folder / "train.jsonl"), folder / "model")
    loaders = {seed: _loaders(job, seed) for seed in job["seeds"]}
    num_pairs = job["steps"] * job["pairs_a_step"]
    pairs = {seed: _ids(train, num_pairs) for seed, (train, _) in loaders.items()}
    train, validation = next(iter(loaders.values()))
    pairs["validation"] = _ids(validation, len(validation.items))
    (folder / "pairs.json").write_text(json.dumps(pairs))
    return {
        "num_weights": num_weights,
        "train_pairs": len(train.items),
        "validation_pairs": len(validation.items),
        **count_tokens(pairs[job["seeds"][0]], job["pairs_a_step"]),
    }


def files_of(work: Path) -> list[str]:
    """Overrides that name the files which `prepare` wrote."""
    return [
        f"model.path={work / 'model'}",
        f"data.path={work / 'train.jsonl'}",
        f"data.validation_path={work / 'validation.jsonl'}",
    ]


def _loaders(job: Job, seed: int) -> tuple[Any, Any]:
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from dpo_lab.assemble import assemble
    from dpo_lab.paths import CONF_DIR

    overrides = [*RECIPE.split(), *files_of(Path(job["work"])), f"seed={seed}"]
    with initialize_config_dir(version_base="1.3", config_dir=str(CONF_DIR)):
        config = compose("train", [*overrides, f"trainer.global_batch_size={job['pairs_a_step']}"])
    config.cache_dir = tempfile.mkdtemp(dir=job["work"])  # the sweep finds no cache of this
    experiment = assemble(OmegaConf.to_container(config, resolve=True), say)  # type: ignore[arg-type]
    return experiment.train, experiment.validation


def _ids(loader: Any, num_pairs: int) -> list[list[list[int]]]:
    """Token ids (prompt, chosen, rejected) of the first `num_pairs` pairs that `loader` gives."""
    from dpo_lab.data.order import epoch_order

    if len(loader.items) < num_pairs:
        raise SystemExit(f"{len(loader.items)} pairs fit, and {num_pairs} are needed: give more --train-rows")
    pairs = []
    for index in epoch_order(loader.seed, 0, len(loader.items), loader.shuffle)[:num_pairs]:
        item = loader.items[index]
        text = loader.dataset.encoded[item.example]
        pairs.append([list(ids) for ids in (text.prompt, *(text.responses[number] for number in item.responses))])
    return pairs


def train_trl(job: Job) -> dict[str, Any]:
    """One run of TRL: evaluation, training and evaluation on the pairs of dpo_lab's run, then the model is saved."""
    import torch
    from datasets import Dataset
    from transformers import AutoModelForCausalLM, AutoTokenizer
    from trl import DPOConfig  # pyright: ignore[reportMissingImports]
    from trl_parity_side import COLUMNS, TokenTrainer, watch

    torch.set_num_threads(1)
    work = Path(job["work"])
    all_pairs = json.loads((work / "pairs.json").read_text())
    pairs, held_out = all_pairs[str(job["seed"])], all_pairs["validation"]

    def load() -> Any:
        return AutoModelForCausalLM.from_pretrained(work / "model", dtype=torch.float32, attn_implementation="sdpa")

    def dataset(of: list[list[list[int]]]) -> Any:
        return Dataset.from_list([dict(zip(COLUMNS, pair, strict=True)) for pair in of])

    with tempfile.TemporaryDirectory(dir=work) as folder:
        args = DPOConfig(
            output_dir=folder,
            max_steps=job["steps"],
            per_device_train_batch_size=job["pairs_a_step"],
            per_device_eval_batch_size=job["pairs_a_step"],
            learning_rate=1e-5,
            loss_type=[job["loss"]],
            beta=job["beta"],
            seed=job["seed"],
            lr_scheduler_type="constant",
            warmup_steps=0,
            optim="adamw_torch_fused",
            max_grad_norm=1.0,
            bf16=False,
            gradient_checkpointing=False,
            max_length=512,
            train_sampling_strategy="sequential",
            precompute_ref_log_probs=job["precompute"],
            use_cpu=True,
            logging_steps=1,
            save_strategy="no",
            report_to=[],
        )
        trainer = TokenTrainer(
            model=load(),
            ref_model=None if job["precompute"] else load(),
            args=args,
            train_dataset=dataset(pairs),
            eval_dataset=dataset(held_out),
            processing_class=AutoTokenizer.from_pretrained(work / "model"),
        )
        before = trainer.evaluate()
        seen = watch(trainer.data_collator)
        trainer.train()
        if seen[: len(pairs)] != pairs:
            raise SystemExit("TRL trained on other token ids, or in another order, than it was given")
        after = trainer.evaluate()
        trainer.save_model(folder)
    return {
        "losses": [row["loss"] for row in trainer.state.log_history if "loss" in row],
        "validation_losses": [before["eval_loss"], after["eval_loss"]],
        "versions": {name: installed(name) for name in ("torch", "transformers", "trl", "accelerate")},
    }


def main(path: Path) -> None:
    """Do the job; whatever else is printed on the way goes to stderr."""
    os.environ.update(WANDB_MODE="disabled", HF_HUB_OFFLINE="1", TOKENIZERS_PARALLELISM="false")
    job = json.loads(path.read_text())
    with redirect_stdout(sys.stderr):
        result = {"prepare": prepare, "trl": train_trl}[job["task"]](job)
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
