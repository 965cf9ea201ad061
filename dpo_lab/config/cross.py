"""Contradictions that no single signature can see. One function, one rule; all of them are in `CROSS_CHECKS`.

A cross-check gets the plain config, whose values may be of any type (types are reported elsewhere), and yields
faults.
"""

import os
from collections.abc import Callable, Iterator
from typing import Any

from dpo_lab.config.places import (
    data_files_exist,
    files_of_steps_exist,
    folders_can_be_written,
    kind_of,
    local,
    model_folders_exist,
)
from dpo_lab.config.signature import TargetError, locate, read_target
from dpo_lab.errors import UserError

Plain = dict[str, Any]
CrossCheck = Callable[[Plain], Iterator[str]]

NO_START = "dpo_lab.start.none"


def micro_batch_fits(cfg: Plain) -> Iterator[str]:
    """A micro-batch is a part of an optimizer step's batch."""
    trainer = _group(cfg, "trainer")
    micro, whole = trainer.get("micro_batch_size"), trainer.get("global_batch_size")
    if isinstance(micro, int) and isinstance(whole, int) and micro > whole:
        yield f"trainer.micro_batch_size: must be at most trainer.global_batch_size, which is {whole}, got {micro}"


def every_process_has_items(cfg: Plain) -> Iterator[str]:
    """Processes that train together each have a share of every optimizer step."""
    trainer = _group(cfg, "trainer")
    num, whole = trainer.get("num_devices"), trainer.get("global_batch_size")
    if isinstance(num, int) and isinstance(whole, int) and num > whole > 0:
        yield f"trainer.num_devices: must be at most trainer.global_batch_size, which is {whole}, got {num}"


def batch_warmup_is_whole(cfg: Plain) -> Iterator[str]:
    """A warm-up has a beginning and a length, and rises to the batch of later steps."""
    trainer = _group(cfg, "trainer")
    initial, steps = trainer.get("initial_batch_size"), trainer.get("batch_warmup_steps")
    whole, num = trainer.get("global_batch_size"), trainer.get("num_devices")
    if (initial is None) != (steps is None):
        missing, given = sorted(("initial_batch_size", "batch_warmup_steps"), key=lambda key: trainer[key] is not None)
        yield f"trainer.{missing}: is null beside trainer.{given}={trainer[given]}; a warm-up of the batch needs both"
    if isinstance(initial, int) and isinstance(whole, int) and initial > whole:
        yield f"trainer.initial_batch_size: must be at most trainer.global_batch_size, which is {whole}, got {initial}"
    if isinstance(initial, int) and isinstance(num, int) and num > initial > 0:
        yield f"trainer.initial_batch_size: must be at least trainer.num_devices, which is {num}, got {initial}"


def rows_can_be_prepared(cfg: Plain) -> Iterator[str]:
    """Steps are for rows of files."""
    if not _group(cfg, "prepare"):
        return
    plugins = cfg.get("plugins")
    target = _group(cfg, "data").get("_target_")
    try:
        takes_steps = "prepare" in read_target(locate(target, ("dpo_lab", *(plugins or [])))).given
    except TargetError:
        return  # reported where targets are checked
    if not takes_steps:
        yield (
            f"prepare: data={str(target).rpartition('.')[2]} takes no steps: its rows are generated, or chosen by "
            "knobs of its own; steps are for data=files, labelled and questions. Leave them out: prepare=[]"
        )


def gpu_is_there(cfg: Plain) -> Iterator[str]:
    """`trainer=gpu` needs a GPU that torch can use, and several processes one each."""
    trainer = _group(cfg, "trainer")
    if trainer.get("accelerator") != "gpu":
        return
    import torch

    wanted = trainer.get("num_devices")
    if not torch.cuda.is_available():
        yield "trainer=gpu: torch finds no CUDA device here; use trainer=cpu, or install a CUDA build of torch"
    elif isinstance(wanted, int) and wanted > max(1, torch.cuda.device_count()):
        yield f"trainer.num_devices: {wanted} is more than the {torch.cuda.device_count()} CUDA devices here"


def processes_have_processors(cfg: Plain) -> Iterator[str]:
    """Processes on CPUs share the processors: more of them than these only wait for each other."""
    trainer = _group(cfg, "trainer")
    wanted, most = trainer.get("num_devices"), max(2, os.cpu_count() or 1)
    if trainer.get("accelerator") == "cpu" and isinstance(wanted, int) and wanted > most:
        yield f"trainer.num_devices: {wanted} processes are more than the {most} that the processors here can run"


def folders_hold_no_secret(cfg: Plain) -> Iterator[str]:
    """Names of folders are written everywhere, so nothing of them could be struck out."""
    from dpo_lab.run.redaction import redact_text

    for key in ("name", "runs_dir", "cache_dir"):
        value = cfg.get(key)
        if isinstance(value, str) and redact_text(value) != value:
            yield f"{key}: holds a token or key, which would stand in the paths of all files; choose another"


def borrowing_has_a_neighbour(cfg: Plain) -> Iterator[str]:
    """A loss with borrowed responses takes them from the other items of its step."""
    from dpo_lab.needs import IngredientError, read_needs

    trainer = _group(cfg, "trainer")
    if 1 not in (trainer.get("global_batch_size"), trainer.get("initial_batch_size")):
        return
    for path, target in _targets("loss", cfg.get("loss")):
        try:
            needs = read_needs(locate(target, ("dpo_lab",)))
        except (TargetError, IngredientError):
            continue
        if "drift" in needs:
            yield (
                f"trainer.global_batch_size: {path} borrows responses from the other items of an optimizer step, and "
                "with 1 there is none; use at least 2"
            )


def losses_can_be_fed(cfg: Plain) -> Iterator[str]:
    """What a loss asks for before ``*`` must be an ingredient that a batch has."""
    from dpo_lab.needs import IngredientError, read_needs  # imports torch, which `--cfg` can do without

    plugins = cfg.get("plugins")
    packages = ("dpo_lab", *(plugins if isinstance(plugins, list) else []))
    for path, target in _targets("loss", cfg.get("loss")):
        try:
            read_needs(locate(target, packages))
        except TargetError:
            continue  # reported where targets are checked
        except IngredientError as error:
            yield f"{path}: {error}"


def adapter_is_there(cfg: Plain) -> Iterator[str]:
    """What is switched off, or written alone, must be there, and be said where it could be two things."""
    model, reference = _group(cfg, "model"), _group(cfg, "reference")
    path = model.get("path")
    is_trained = isinstance(path, str) and kind_of(local(path) / "adapter_config.json") == "file"
    if reference.get("_target_") == "dpo_lab.reference.adapter_off.adapter_off":
        if is_trained and reference.get("start") is None:
            yield (
                f"reference.start: training starts from the adapter in {path}; say what the reference is: base (the "
                "model without it) or adapter (a copy of it as it is now)"
            )
        if not is_trained and "lora_rank" in model and model["lora_rank"] is None:
            yield (
                "reference=adapter_off: the policy has no adapter to switch off; give it one with model.lora_rank, or "
                "use reference=frozen"
            )
    is_changed = cfg.get("start") is not None and _group(cfg, "start").get("_target_") != NO_START
    if model.get("lora_export") == "adapter" and is_changed:
        yield (
            "model.lora_export: the start changes the model below the adapter, so the adapter alone could not be used; "
            "use merged, or start=none"
        )
    if model.get("quantization") is not None and is_changed:
        yield (
            "model.quantization: the start trains the model below the adapter, which a quantised one cannot be; use "
            "start=none, or model.quantization=null"
        )
    if model.get("quantization") is not None and not is_trained and model.get("lora_rank") is None:
        yield (
            "model.quantization: a quantised model cannot be trained whole; train an adapter on it with "
            "model.lora_rank, or leave it whole with model.quantization=null"
        )


def best_is_of_validation(cfg: Plain) -> Iterator[str]:
    """Checkpoints are compared by what validation says of them."""
    trainer = _group(cfg, "trainer")
    metric = trainer.get("best_metric")
    if trainer.get("save") == "best" and isinstance(metric, str) and not metric.startswith(("val/", "test/")):
        yield f"trainer.best_metric: must be a curve of validation, such as val/loss, got {metric}"


def nothing_is_chosen_on_the_test(cfg: Plain) -> Iterator[str]:
    """A figure by which something was chosen is no test of it."""
    for group, key in (("trainer", "best_metric"), ("sweep", "objective")):
        metric = _group(cfg, group).get(key)
        if isinstance(metric, str) and metric.startswith("test/"):
            yield f"{group}.{key}: the test chooses nothing; use a curve of validation, such as val/loss, got {metric}"


def sides_leave_something(cfg: Plain) -> Iterator[str]:
    """Validation and test are taken from the rows that are trained on."""
    data = _group(cfg, "data")
    fraction: Any = 0 if data.get("validation_path") else data.get("validation_fraction")
    test_fraction: Any = data.get("test_fraction")
    if not all(isinstance(value, int | float) for value in (fraction, test_fraction)):
        return
    if data.get("test_path") and test_fraction:
        yield "data.test_fraction: data.test_path is the test already; use one of the two"
    elif fraction < 1 and test_fraction < 1 <= fraction + test_fraction:
        yield f"data.test_fraction: with data.validation_fraction={fraction:g} it leaves nothing to train on"


def resume_or_fresh(cfg: Plain) -> Iterator[str]:
    """An attempt that begins anew goes on with none."""
    if cfg.get("fresh") is True and _group(cfg, "resume").get("run") is not None:
        yield "resume.run: fresh=true begins another attempt, which goes on with no other; use one of the two"


def resumed_run_is_there(cfg: Plain) -> Iterator[str]:
    """What is to be gone on with exists, which is known before data is read and weights are loaded."""
    run, runs_dir = _group(cfg, "resume").get("run"), cfg.get("runs_dir")
    if not isinstance(run, str) or not isinstance(runs_dir, str):
        return
    from dpo_lab.run.claim import find_run

    try:
        find_run(runs_dir, run)
    except UserError as error:
        yield str(error).replace(f"resume.run={run}: ", "resume.run: ", 1)


CROSS_CHECKS: tuple[CrossCheck, ...] = (
    micro_batch_fits,
    every_process_has_items,
    batch_warmup_is_whole,
    data_files_exist,
    files_of_steps_exist,
    rows_can_be_prepared,
    model_folders_exist,
    gpu_is_there,
    processes_have_processors,
    folders_can_be_written,
    folders_hold_no_secret,
    losses_can_be_fed,
    borrowing_has_a_neighbour,
    adapter_is_there,
    best_is_of_validation,
    nothing_is_chosen_on_the_test,
    sides_leave_something,
    resume_or_fresh,
    resumed_run_is_there,
)

OF_THIS_MACHINE: frozenset[CrossCheck] = frozenset({gpu_is_there, processes_have_processors})
"""What need not hold here of a run that another machine will make."""


def _group(cfg: Plain, name: str) -> Plain:
    node = cfg.get(name)
    return node if isinstance(node, dict) else {}


def _targets(path: str, node: Any) -> Iterator[tuple[str, Any]]:
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        yield path, node["_target_"]
    for key, value in node.items():
        yield from _targets(f"{path}.{key}", value)
