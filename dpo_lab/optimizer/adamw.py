"""AdamW with a schedule, norms and biases without decay."""

from torch import nn
from torch.optim import AdamW, Optimizer
from torch.optim.lr_scheduler import LambdaLR

from dpo_lab.errors import UserError
from dpo_lab.optimizer.schedule import ScheduleName, rate_factor
from dpo_lab.ranges import Fraction, NonNegative, NonNegativeInt, Positive

FUSED_DEVICES = ("cpu", "cuda", "mps", "xpu")


def adamw(
    model: nn.Module,
    num_steps: int,
    *,
    lr: Positive = 5e-7,
    weight_decay: NonNegative = 0.0,
    beta1: Fraction = 0.9,
    beta2: Fraction = 0.999,
    eps: Positive = 1e-8,
    schedule: ScheduleName = "constant",
    warmup_steps: NonNegativeInt = 0,
    fused: bool | None = None,
) -> tuple[Optimizer, LambdaLR]:
    """AdamW (Loshchilov and Hutter 2019, arXiv 1711.05101) over the trainable tensors of `model`.

    Args:
        model: what is trained; the framework gives it.
        num_steps: optimizer steps of the whole run, for the schedule; the framework gives it.
        lr: peak learning rate, in (0, inf).
        weight_decay: of tensors with two axes or more; norms and biases are not decayed. In [0, inf).
        beta1: decay of the mean of gradients, in [0, 1).
        beta2: decay of the mean of squared gradients, in [0, 1).
        eps: added to the root, in (0, inf).
        schedule: after warm-up: "constant", or "linear" or "cosine" down to 0 at `num_steps`.
        warmup_steps: updates until the peak rate; 0 is none.
        fused: torch's single-kernel update, the same numbers to rounding; null is true where torch has one for the
            device.

    Raises:
        UserError: `fused` is true and torch has no such kernel for the device.
    """
    trainable = [(name, tensor) for name, tensor in model.named_parameters() if tensor.requires_grad]
    groups = [
        {"params": [tensor for _, tensor in trainable if tensor.ndim >= 2], "weight_decay": weight_decay},
        {"params": [tensor for _, tensor in trainable if tensor.ndim < 2], "weight_decay": 0.0},
    ]
    has_kernel = all(tensor.device.type in FUSED_DEVICES for _, tensor in trainable)
    if fused and not has_kernel:
        raise UserError("optimizer.fused: torch has no fused AdamW for this device; use optimizer.fused=null")
    optimizer = AdamW(
        [group for group in groups if group["params"]],
        lr=lr,
        betas=(beta1, beta2),
        eps=eps,
        fused=has_kernel if fused is None else fused,
    )
    scheduler = LambdaLR(
        optimizer,
        lambda step: rate_factor(step, name=schedule, warmup_steps=warmup_steps, num_steps=num_steps),
    )
    return optimizer, scheduler
