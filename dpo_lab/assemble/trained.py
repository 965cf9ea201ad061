"""The weights that a run came to, put back into the policy that it began with."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, final

from dpo_lab.checkpoints import FORMAT
from dpo_lab.errors import UserError
from dpo_lab.module import PreferenceModule
from dpo_lab.reference.moving import MovingReference
from dpo_lab.run.kept import Kept, newest_sound, read_kept

MODEL, LAST, BEST = "model", "last", "best"


@final
@dataclass(frozen=True)
class Trained:
    """Weights of the run in the folder `run`, found before anything is built.

    `kept` is the checkpoint that holds them; None where ``model/`` alone does. `step` counts their updates, None where
    nothing says how many.
    """

    run: Path
    kept: Kept | None
    step: int | None

    @property
    def place(self) -> Path:
        return self.run / MODEL if self.kept is None else self.kept.path

    def load_into(self, module: PreferenceModule, *, is_own_reference: bool, is_own_loss: bool) -> None:
        """Put them into `module`, with what the reference and the loss had become by then.

        Args:
            is_own_reference: whether `module` has the reference of the run.
            is_own_loss: whether it has the loss of the run, whose state it then goes on from.

        Raises:
            UserError: they do not fit; or they are in ``model/`` alone, and that is not all it takes.
        """
        if self.kept is None:
            self._load_exported(module, is_own_reference=is_own_reference, is_own_loss=is_own_loss)
            return
        content = dict(self.kept.content)
        if content.get("format") != FORMAT:
            raise UserError(f"{self.place} has format {content.get('format')}, and this version reads {FORMAT}")
        reference = module.reference
        if not is_own_reference:
            content["reference_state"] = None
            content["reference"] = None if reference is None else reference.fingerprint()
        if not is_own_loss:
            content["loss_states"] = {}
        module.on_load_checkpoint(content)
        try:
            module.load_state_dict(content["state_dict"])
        except RuntimeError as error:
            raise UserError(f"{self.place} is of a model of another shape: {error}") from error

    def _load_exported(self, module: PreferenceModule, *, is_own_reference: bool, is_own_loss: bool) -> None:
        lacking = f"{self.run} has no checkpoint of these weights, and its model/ "
        if module.policy.adapter is not None:
            raise UserError(f"{lacking}holds them without their adapter; score it alone: model.path={self.run / MODEL}")
        if is_own_reference and isinstance(module.reference, MovingReference):
            raise UserError(f"{lacking}does not hold the reference, which moved; name one: reference=frozen")
        if is_own_loss and any("state" in term.needs for term in module.objective.terms):
            raise UserError(f"{lacking}does not hold what the loss remembers; name a loss without: loss=sigmoid")
        module.policy.load_weights(self.run / MODEL)


def find_trained(run: Path, info: Mapping[str, Any], which: str, say: Callable[[str], None]) -> Trained:
    """The weights that `which` names: ``model``, ``last``, ``best`` or an optimizer step.

    ``model`` is what ``model/`` of the run holds, taken from its checkpoint where that is still there.

    Raises:
        UserError: they are not there, or damaged.
    """
    folder, best = run / "checkpoints", (info.get("best") or {}).get("step")
    if which == LAST:
        kept = newest_sound(folder, say) if folder.is_dir() else None
        if kept is None:
            raise UserError(f"weights=last: {run} has no sound checkpoint; weights=model takes its model/")
        return Trained(run, kept, kept.step)
    if which == MODEL:
        step = info.get("num_steps") if best is None else best
        kept = _sound(folder, step)
        if kept is None and not (run / MODEL).is_dir():
            raise UserError(
                f"{run} has no model/ and no checkpoint of its last step; weights=last takes the newest one"
            )
        return Trained(run, kept, step)
    step = best if which == BEST else _step(which)
    if step is None:
        raise UserError(f"weights=best: {run} kept no best checkpoint; that takes trainer.save=best")
    return Trained(run, read_kept(folder, step), step)


def _sound(folder: Path, step: int | None) -> Kept | None:
    """The checkpoint of `step`, where it is there and whole."""
    try:
        return None if step is None else read_kept(folder, step)
    except UserError:
        return None


def _step(which: str) -> int:
    if not which.isdecimal():
        raise UserError(f"weights={which}: must be model, last, best or the step of a checkpoint")
    return int(which)
