"""A step whose gradient is not finite, and the responses that are to blame."""

from collections.abc import Sequence
from itertools import chain
from typing import ClassVar

from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.ranks import gather_over_ranks
from dpo_lab.scoring import Scored
from dpo_lab.types import Window


class NonFiniteError(UserError):
    """A gradient is infinite or not a number: the update would destroy the weights, so it is not made.

    `keys` are of the responses in question, `PreferenceBatch.key`; `is_known`: each has a log-probability or a loss
    that is not finite by itself. Else all of the step are in question.
    """

    exit_code: ClassVar[int] = 6

    def __init__(self, message: str, keys: Sequence[tuple[int, int]] = (), *, is_known: bool = False) -> None:
        super().__init__(message)
        self.keys = tuple(keys)
        self.is_known = is_known


def non_finite_error(window: Window, scored: Sequence[Scored], step: int) -> NonFiniteError:
    """Says which responses of `window` are to blame, as far as the numbers of each in `scored` show it.

    To be called on every rank. `step` counts updates from 0.
    """
    mine = [key for part in scored for key in part.batch.key[_non_finite_rows(part)].tolist()]
    keys = list(chain.from_iterable(gather_over_ranks(mine)))
    known = bool(keys)
    if not known:
        mine = [key for batch in window for key in batch.key.tolist()]
        keys = list(chain.from_iterable(gather_over_ranks(mine)))
    return NonFiniteError(
        f"the gradient at optimizer step {step + 1} is not finite, and the update was not "
        "made; try a smaller optimizer.lr, trainer.clip_norm, or trainer.precision=32-true",
        [(high, low) for high, low in keys],
        is_known=known,
    )


def _non_finite_rows(part: Scored) -> Tensor:
    """``Bool[n]``: rows with a log-probability, or in an item with a loss, that is not finite."""
    batch, measured = part.batch, part.measured
    bad = ~measured.policy.token.isfinite().all(1)
    if measured.reference is not None:
        bad |= ~measured.reference.token.isfinite().all(1)
    for output in part.outputs.values():
        items = ~output.loss.isfinite()
        if len(items) == len(batch.pairs) and not bool(items.all()):
            bad[batch.pairs[items].flatten()] = True
        elif len(items) == len(bad) and not bool(items.all()):
            bad |= items
    return bad
