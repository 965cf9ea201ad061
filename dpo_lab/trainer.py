"""How long, in what precision, on what device: everything about training that is not the experiment's idea."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from dpo_lab.ranges import NumThreads, Positive, PositiveInt

Precision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True, kw_only=True)
class TrainerSettings:
    """Knobs of `trainer=cpu` and `trainer=gpu`.

    Attributes:
        accelerator: "cpu", or "gpu" for CUDA devices.
        num_devices: processes that train together, each on a device of its own, or on a part of the processors; each
            computes its share of every step. Another number is another run, by the rounding of sums and by the noise
            of dropout.
        max_steps: optimizer steps; null leaves it to `max_epochs`. Both: whichever ends first.
        max_epochs: passes over the data; null leaves it to `max_steps`. Both null: one pass.
        precision: "32-true", or "bf16-mixed" (float32 weights, bfloat16 arithmetic where it is safe).
        global_batch_size: items an optimizer step, over all micro-batches: pairs for paired losses.
        global_batch_tokens: tokens an optimizer step, of each item its prompt once and its responses. A step ends
            before it would have more, or at `global_batch_size` items. Null: any number, so that every step but the
            last of an epoch has `global_batch_size` items.
        initial_batch_size: items of the first step; with `batch_warmup_steps` they rise evenly to `global_batch_size`,
            which they are after so many steps. Null: as many from the beginning.
        batch_warmup_steps: optimizer steps of that; null with `initial_batch_size` null.
        micro_batch_size: items computed at once, for memory; null is all. It never changes the gradient.
        micro_batch_tokens: tokens computed at once, each prompt counted once; null is any number. With both, whichever
            is reached first. It never changes the gradient.
        clip_norm: largest gradient norm; null does not clip.
        validate_every: optimizer steps between validations; null: only before the first update and after the last,
            where one is made in any case.
        checkpoint_every: optimizer steps between checkpoints; null: only at the end, and when a signal ends the run.
        keep_last: how many of the newest checkpoints are kept.
        save: "last" writes checkpoints and the model after the last step; "best" keeps the best validated checkpoint
            beside the newest, and writes the model from it; "none" keeps records only.
        best_metric: with `save` "best": which curve of validation is compared, such as val/rewards/accuracies.
        best_mode: whether its smallest ("min") or its largest ("max") value is the best; the earliest of equals.
        record_pairs: whether training_pairs.parquet keeps what each training row scored whenever it was trained on:
            numbers that the step computes in any case, under its dropout. No number of the run depends on it.
        deterministic: on a GPU, only operations that come to the same bits whenever they are repeated; one that cannot
            ends the run with torch's message, which names it. False allows such, and warns. On processors all can.
        num_threads: threads of arithmetic of each process; null leaves it to the library, or gives each of several
            processes its part of the processors.
        zero_gradient_ok: patterns (``*.k_proj.bias``) of tensors that may get no gradient in the first three updates.
    """

    accelerator: Literal["cpu", "gpu"] = "cpu"
    num_devices: PositiveInt = 1
    max_steps: PositiveInt | None = None
    max_epochs: PositiveInt | None = None
    precision: Precision = "32-true"
    global_batch_size: PositiveInt = 32
    global_batch_tokens: PositiveInt | None = None
    initial_batch_size: PositiveInt | None = None
    batch_warmup_steps: PositiveInt | None = None
    micro_batch_size: PositiveInt | None = None
    micro_batch_tokens: PositiveInt | None = None
    clip_norm: Positive | None = 1.0
    validate_every: PositiveInt | None = None
    checkpoint_every: PositiveInt | None = None
    keep_last: PositiveInt = 1
    save: Literal["last", "best", "none"] = "last"
    best_metric: str = "val/loss"
    best_mode: Literal["min", "max"] = "min"
    record_pairs: bool = False
    deterministic: bool = True
    num_threads: NumThreads | None = None
    zero_gradient_ok: list[str]

    def num_steps(self, num_windows: Callable[[int], int]) -> int:
        """Optimizer steps of the run: `max_steps` or `max_epochs`, whichever ends first; one epoch without either.

        `num_windows` says how many steps so many epochs have.
        """
        if self.max_epochs is None:
            return num_windows(1) if self.max_steps is None else self.max_steps
        by_epochs = num_windows(self.max_epochs)
        return by_epochs if self.max_steps is None else min(self.max_steps, by_epochs)
