"""What a picture of a loss shows; no torch here, so that reports can draw it."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """One loss with one value of its knob.

    `margin` is in nats, chosen minus rejected; `loss` in the loss's own unit; `weight`, the gradient weight, is minus
    the derivative of `loss` with respect to the margin: how hard a gradient step pushes the two responses apart.
    Both are None where they are no finite number.
    """

    label: str
    margin: tuple[float, ...]
    loss: tuple[float | None, ...]
    weight: tuple[float | None, ...]
    is_default: bool


@dataclass(frozen=True)
class Picture:
    """The curves of one loss; that of its defaults is among them."""

    name: str
    kind: str
    curves: tuple[Curve, ...]
