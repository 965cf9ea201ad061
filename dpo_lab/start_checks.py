"""Checks on the first updates: each has caught a way in which preference training goes wrong without an error."""

import fnmatch
import warnings
from collections.abc import Mapping
from typing import Any, ClassVar, final

import pytorch_lightning as pl
import torch
from torch import Tensor

from dpo_lab.errors import UserError
from dpo_lab.log_ratio import log_ratio
from dpo_lab.module import PreferenceModule
from dpo_lab.ranks import gather_over_ranks
from dpo_lab.reference.rounding import same_within
from dpo_lab.scoring import Scored
from dpo_lab.types import Window

GRADIENT_UPDATES = 3
"""In the first one half of a fresh adapter has a gradient of zero, rightly; a shorter run is not checked."""

MOVE_UPDATES = 10
MOVE_SAMPLES_PER_TENSOR = 1024


class StartCheckError(UserError):
    """A check on the first updates failed: training on would give numbers that mean something else."""

    exit_code: ClassVar[int] = 1


class WeightsBarelyMoveWarning(UserWarning):
    """Updates are rounded away: most weights hold their first value."""


@final
class StartChecks(pl.Callback):
    """Log-ratios zero at the start, a gradient for every tensor, weights that move. `results` goes into the record."""

    def __init__(
        self,
        *,
        reference_is_policy: bool,
        dropout: float,
        is_exact: bool,
        zero_gradient_ok: tuple[str, ...],
        num_steps: int,
    ):
        """
        Args:
            reference_is_policy: the reference holds the weights that the policy starts from.
            is_exact: log-probs are computed in float32 throughout.
        """
        self.results: dict[str, float] = {}
        self._starts_at_zero = reference_is_policy and dropout == 0
        self._is_exact = is_exact
        self._zero_gradient_ok = zero_gradient_ok
        self._move_updates = min(MOVE_UPDATES, num_steps)
        self._without_gradient: set[str] = set()
        self._first_values: dict[str, Tensor] = {}
        self._num_updates = 0
        self._num_gradients = 0

    def state(self) -> dict[str, Any]:
        """All that a later process needs to finish the checks."""
        return {
            "results": self.results,
            "without_gradient": sorted(self._without_gradient),
            "first_values": self._first_values,
            "num_updates": self._num_updates,
            "num_gradients": self._num_gradients,
        }

    def load_state(self, state: Mapping[str, Any], device: torch.device) -> None:
        """Go on from what `state` gave."""
        self.results = dict(state["results"])
        self._without_gradient = set(state["without_gradient"])
        self._first_values = {name: values.to(device) for name, values in state["first_values"].items()}
        self._num_updates = state["num_updates"]
        self._num_gradients = state["num_gradients"]

    def on_train_batch_start(self, trainer: pl.Trainer, pl_module: Any, batch: Window, batch_idx: int) -> None:
        if self._num_updates:
            return
        self._without_gradient = {name for name, tensor in pl_module.policy.named_parameters() if tensor.requires_grad}
        self._first_values = _sample_values(pl_module)
        if self._starts_at_zero and pl_module.reference is not None:
            pl_module.watch = self._check_log_ratio

    @torch.no_grad()
    def _check_log_ratio(self, part: Scored) -> None:
        """Of what the first step computes anyway, before its way back."""
        policy, reference = part.measured.policy, part.measured.reference
        assert reference is not None
        size, tolerance = log_ratio(policy, reference).abs(), same_within(policy.length(), is_exact=self._is_exact)
        largest = max(float(size.max()), self.results.get("sanity/initial_log_ratio", 0.0))
        self.results["sanity/initial_log_ratio"] = largest
        worst = int((size - tolerance).argmax())
        if not bool(size[worst] <= tolerance[worst]):
            raise StartCheckError(
                "before the first update policy and reference hold the same weights, yet a response has a log-ratio of "
                f"{float(size[worst]):.3g} nats (tolerance {float(tolerance[worst]):.2g}). Likely causes: "
                "dropout that model.dropout does not reach; a model whose output depends on the other rows of a batch; "
                "different precision of policy and reference; log-probs on disk that are not the reference's "
                "(reference.cache=off computes them)"
            )

    def on_before_optimizer_step(self, trainer: pl.Trainer, pl_module: Any, optimizer: Any) -> None:
        if self._num_gradients >= GRADIENT_UPDATES:
            return
        gradients = {name: tensor.grad for name, tensor in pl_module.policy.named_parameters() if tensor.requires_grad}
        unreached = [name for name, grad in gradients.items() if grad is None and not self._is_exempt(name)]
        if unreached:
            raise StartCheckError(
                f"backward does not reach {len(unreached)} trainable tensors ({_first(unreached)}): they would never "
                "be trained. Freeze them, or name them in trainer.zero_gradient_ok"
            )
        touched = {name for name, grad in gradients.items() if grad is not None and bool(grad.count_nonzero())}
        self._without_gradient -= touched
        # A loss that is flat on a whole window (a hinge whose margin is met) says nothing of any tensor.
        self._num_gradients += bool(touched)
        if self._num_gradients == GRADIENT_UPDATES:
            self._check_gradients()

    def on_train_batch_end(self, trainer: pl.Trainer, pl_module: Any, outputs: Any, batch: Any, batch_idx: int) -> None:
        self._num_updates += 1
        pl_module.watch = None
        if self._num_updates == 1 and "sanity/initial_log_ratio" in self.results:
            largest = gather_over_ranks(self.results["sanity/initial_log_ratio"])
            self.results["sanity/initial_log_ratio"] = max(largest)
        # None where a shorter run, of which this is the continuation, has made the check.
        if self._num_updates == self._move_updates and self._first_values:
            self._check_moves(pl_module)

    def _check_gradients(self) -> None:
        dead = sorted(name for name in self._without_gradient if not self._is_exempt(name))
        self.results["sanity/num_tensors_without_gradient"] = float(len(self._without_gradient))
        if dead:
            raise StartCheckError(
                f"{len(dead)} trainable tensors had a gradient of exactly zero in the first {GRADIENT_UPDATES} "
                f"updates ({_first(dead)}). If that is right for this model, name them in trainer.zero_gradient_ok"
            )

    def _check_moves(self, module: PreferenceModule) -> None:
        now = _sample_values(module)
        # What rightly has no gradient says nothing of the size of the steps.
        still = self._without_gradient if self._num_gradients else set[str]()
        first_values = {name: first for name, first in self._first_values.items() if name not in still}
        num_moved = sum(int((now[name] != first).sum()) for name, first in first_values.items())
        fraction = num_moved / max(1, sum(first.numel() for first in first_values.values()))
        self.results["sanity/fraction_weights_moved"] = fraction
        self._first_values = {}
        if fraction < 0.5:
            cause = (
                "the steps are smaller than the weights' rounding. Use model.dtype=float32 (with "
                "trainer.precision=bf16-mixed for speed) or a larger optimizer.lr"
                if self._num_gradients
                else "every gradient was exactly zero, so the loss is flat where the policy stands"
            )
            warnings.warn(
                f"only {fraction:.1%} of the sampled weights changed in {self._move_updates} updates: {cause}",
                WeightsBarelyMoveWarning,
                stacklevel=2,
            )

    def _is_exempt(self, name: str) -> bool:
        return any(fnmatch.fnmatchcase(name, pattern) for pattern in self._zero_gradient_ok)


def _sample_values(module: PreferenceModule) -> dict[str, Tensor]:
    """Evenly spaced weights of every trainable tensor, copied."""
    samples = {}
    for name, tensor in module.policy.named_parameters():
        if tensor.requires_grad:
            flat = tensor.detach().reshape(-1)
            samples[name] = flat[:: max(1, flat.numel() // MOVE_SAMPLES_PER_TENSOR)].clone()
    return samples


def _first(names: list[str]) -> str:
    return ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
