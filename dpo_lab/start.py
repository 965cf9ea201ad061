"""What policy and reference start from: the model as loaded, or a supervised stage on it."""

from dataclasses import dataclass

from dpo_lab.ranges import NonNegativeInt, NumThreads, OpenFraction, Positive, PositiveInt, Seed


@dataclass(frozen=True, kw_only=True)
class SupervisedStart:
    """Knobs of `start=supervised`: before preference training the model imitates the data's demonstrations.

    The result is built once and found again by its content: same model, data and knobs, same weights.

    Attributes:
        seed: of initial weights and order. Its own, so that the run's `seed` never moves the reference.
        max_steps: optimizer steps.
        lr: peak learning rate of AdamW, cosine schedule.
        warmup_steps: optimizer steps until the peak rate.
        global_batch_size: demonstrations an optimizer step.
        num_threads: threads of arithmetic: the rounding, so the weights, may depend on their number.
    """

    seed: Seed = 0
    max_steps: PositiveInt = 300
    lr: Positive = 3e-3
    warmup_steps: NonNegativeInt = 10
    global_batch_size: PositiveInt = 64
    num_threads: NumThreads = 1


@dataclass(frozen=True, kw_only=True)
class MaskedTokensStart:
    """Knobs of `start=masked_tokens`: before anything else an encoder guesses hidden tokens of the training texts.

    Classes and spans are not looked at, and of validation and test no text is. Built once and found again by its
    content, as the supervised stage is.

    Attributes:
        seed: of initial weights, order, and of what is hidden. Its own, so that the run's `seed` never moves the
            reference.
        max_steps: optimizer steps.
        lr: peak learning rate of AdamW, cosine schedule.
        warmup_steps: optimizer steps until the peak rate.
        global_batch_size: texts an optimizer step.
        share: of the tokens that are hidden, in (0, 1).
        span_length: tokens that are hidden together; more than one where neighbours give each other away, as n-grams
            that overlap do.
        num_threads: threads of arithmetic: the rounding, so the weights, may depend on their number.
    """

    seed: Seed = 0
    max_steps: PositiveInt = 1000
    lr: Positive = 2e-3
    warmup_steps: NonNegativeInt = 50
    global_batch_size: PositiveInt = 64
    share: OpenFraction = 0.2
    span_length: PositiveInt = 1
    num_threads: NumThreads = 1


Start = SupervisedStart | MaskedTokensStart


def none() -> None:
    """`start=none`: policy and reference start from the model as it was loaded or initialised."""
