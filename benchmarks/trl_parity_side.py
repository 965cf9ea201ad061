"""TRL's side of trl_parity.py, run by the interpreter of TRL's own environment.

    python benchmarks/trl_parity_side.py FOLDER

Reads FOLDER/job.json, writes FOLDER/results.json and the final weights of recipe k as FOLDER/k.safetensors.
"""

import json
import os
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

os.environ["WANDB_MODE"] = "disabled"
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"

import torch
from datasets import Dataset
from safetensors.torch import save_file
from transformers import AutoModelForCausalLM, AutoTokenizer, PrinterCallback
from transformers.utils.logging import disable_progress_bar
from trl import DPOConfig, DPOTrainer  # pyright: ignore[reportMissingImports]

COLUMNS = ("prompt_ids", "chosen_ids", "rejected_ids")


class TokenTrainer(DPOTrainer):
    """TRL's trainer on token ids instead of text; nothing else of it is changed."""

    def _prepare_dataset(self, dataset: Any, *_: Any) -> Any:
        return dataset


def train(job: dict[str, Any], recipe: dict[str, Any], folder: Path, index: int) -> dict[str, Any]:
    """Train one recipe; write the weights and return losses, gradient norms and CPU seconds of training."""
    tokenizer = AutoTokenizer.from_pretrained(job["model"])
    if tokenizer.pad_token is None:  # padding is masked out: any token will do
        tokenizer.pad_token = tokenizer.eos_token
    model, reference = (
        AutoModelForCausalLM.from_pretrained(job["model"], dtype=torch.float32, attn_implementation="sdpa")
        for _ in range(2)
    )
    args = DPOConfig(
        output_dir=str(folder / f"trl-{index}"),
        max_steps=job["steps"],
        learning_rate=job["lr"],
        beta=job["beta"],
        lr_scheduler_type="constant",
        warmup_steps=0,
        optim="adamw_torch_fused",
        adam_beta1=0.9,
        adam_beta2=0.999,
        adam_epsilon=1e-8,
        bf16=False,
        disable_dropout=True,
        gradient_checkpointing=False,
        max_length=None,
        train_sampling_strategy="sequential",
        use_cpu=True,
        logging_steps=1,
        logging_nan_inf_filter=False,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        **recipe["trl"],
    )
    dataset = Dataset.from_list([dict(zip(COLUMNS, pair, strict=True)) for pair in recipe["pairs"]])
    trainer = TokenTrainer(
        model=model, ref_model=reference, args=args, train_dataset=dataset, processing_class=tokenizer
    )
    trainer.remove_callback(PrinterCallback)
    seen = watch(trainer.data_collator)
    started = time.process_time()
    trainer.train()
    seconds = time.process_time() - started
    if seen[: len(recipe["pairs"])] != recipe["pairs"]:
        raise SystemExit("TRL trained on other token ids, or in another order, than it was given")
    save_file({name: tensor.detach() for name, tensor in model.named_parameters()}, folder / f"{index}.safetensors")
    rows = [row for row in trainer.state.log_history if "loss" in row]
    return {
        "losses": [row["loss"] for row in rows],
        "grad_norms": [row["grad_norm"] for row in rows],
        "cpu_seconds": seconds,
    }


def watch(collator: Any) -> list[list[list[int]]]:
    """A list that grows by every pair the collator lays out."""
    seen: list[list[list[int]]] = []
    lay_out = collator.torch_call

    def watched(examples: list[dict[str, Any]]) -> Any:
        seen.extend([list(example[name]) for name in COLUMNS] for example in examples)
        return lay_out(examples)

    collator.torch_call = watched
    return seen


def main(folder: Path) -> None:
    """Train every recipe of the job, one after the other."""
    torch.set_num_threads(1)
    job = json.loads((folder / "job.json").read_text())
    disable_progress_bar()
    versions = {package: version(package) for package in ("torch", "transformers", "trl")}
    sides = [train(job, recipe, folder, index) for index, recipe in enumerate(job["recipes"])]
    (folder / "results.json").write_text(json.dumps({"versions": versions, "sides": sides}))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
