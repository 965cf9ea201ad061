"""Why a loss is at the end where it was at the start."""

from collections.abc import Mapping, Sequence

STILL = 1e-3
"""A loss that stays within this of its first value, relative to it or to 1, did not move: log 2 to its third digit."""

SHORT_WAY = 1e-4
"""Adam moves no weight much further than its learning rates add up to; by less than this a model hardly changes."""


def why_still(rows: Sequence[Mapping[str, float]], *, num_steps: int, warmup_steps: int) -> str | None:
    """What the record of a run says of a loss that did not move; None where it did, or too little was logged.

    >>> rows = [{"train/loss": 0.6931, "train/lr": 1e-7, "train/grad_norm": 1.0} for _ in range(9)]
    >>> why_still(rows, num_steps=9, warmup_steps=10).split("causes: ")[1]
    'optimizer.warmup_steps=10 is not over; optimizer.lr: the rates of all steps add up to 9e-07'

    Args:
        rows: of metrics.jsonl.
    """
    logged = [row for row in rows if "train/loss" in row]
    losses = [row["train/loss"] for row in logged]
    if len(losses) < 2 or max(abs(loss - losses[0]) for loss in losses) > STILL * max(1.0, abs(losses[0])):
        return None
    causes = []
    if warmup_steps >= num_steps:
        causes.append(f"optimizer.warmup_steps={warmup_steps} is not over")
    way = sum(row["train/lr"] for row in logged) / len(logged) * num_steps
    if way < SHORT_WAY:
        causes.append(f"optimizer.lr: the rates of all steps add up to {way:.2g}")
    if not any(row["train/grad_norm"] for row in logged):
        causes.append("every gradient is exactly zero: the loss is flat where the policy stands")
    moved = [row["sanity/fraction_weights_moved"] for row in rows if "sanity/fraction_weights_moved" in row]
    if moved and moved[-1] < 0.5:
        causes.append(f"only {moved[-1]:.0%} of the weights changed at all: steps are rounded away")
    if all(row.get("train/rewards/margins") == 0 and row.get("train/logps/chosen") for row in logged[1:]):
        causes.append("every margin is exactly zero: the two responses of each pair score the same")
    found = "; ".join(causes) or "none of those that are known (rate, warm-up, zero gradient, rounding, ties)"
    return f"the loss did not move: {losses[0]:.4g} at first, {losses[-1]:.4g} at last. Likely causes: {found}"
