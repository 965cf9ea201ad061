"""Fresh samples of the policy: what it says now, how far it is from the reference, what that is worth."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch

from dpo_lab.errors import UserError
from dpo_lab.model.policy import Policy
from dpo_lab.reference.reference import Reference
from dpo_lab.run.files import write_text
from dpo_lab.run.redaction import redact
from dpo_lab.sampling import SampleSettings
from dpo_lab.types import Encoded

BATCH = 250


@dataclass(frozen=True)
class Sample:
    """One response drawn from the policy. Log-probs are of the whole response, nats."""

    prompt: str
    response: str
    length: int
    policy_log_prob: float
    reference_log_prob: float | None
    true_reward: float | None

    def as_row(self, step: int) -> dict[str, Any]:
        return {"step": step, **vars(self)}


def write_samples(file: Path, samples: Mapping[int, Sequence[Sample]]) -> None:
    """Write samples by the step that they were drawn after, one row each, without secrets; no file where none is."""
    rows = redact([sample.as_row(step) for step, drawn in samples.items() for sample in drawn])
    if rows:
        write_text(file, "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


def read_samples(file: Path, *, step: int) -> list[Sample]:
    """What `write_samples` wrote of `step`, bit for bit; none without a file.

    Raises:
        UserError: the file is damaged.
    """
    if not file.exists():
        return []
    try:
        rows = [json.loads(line) for line in file.read_text(encoding="utf-8").splitlines()]
        return [Sample(**{name: row[name] for name in row.keys() - {"step"}}) for row in rows if row["step"] == step]
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{file} is damaged: {error!r}") from error


@torch.no_grad()
def draw_samples(
    policy: Policy,
    reference: Reference | None,
    prompts: Sequence[Encoded],
    settings: SampleSettings,
    *,
    seed: int,
    true_reward: Callable[[str, str], float] | None,
) -> list[Sample]:
    """`settings.num` responses at temperature 1, one a prompt, `prompts` repeated as needed.

    `true_reward` is given prompt and response as text. The same seed and weights give the same samples. The mode
    (training, evaluation) is left as it was.
    """
    if not prompts:
        return []
    generator = torch.Generator().manual_seed(seed)
    wanted = [prompts[index % len(prompts)] for index in range(settings.num)]
    was_training = policy.training
    policy.eval()
    samples: list[Sample] = []
    for start in range(0, len(wanted), BATCH):
        batch = wanted[start : start + BATCH]
        responses = policy.sample(batch, generator=generator, max_new_tokens=settings.max_new_tokens)
        groups = [replace(p, responses=(tuple(r),)) for p, r in zip(batch, responses, strict=True)]
        device = next(policy.parameters()).device
        inputs = {name: tensor.to(device) for name, tensor in policy.collate(groups).items()}
        own = policy.log_prob(inputs).sum().tolist()
        other = [None] * len(batch) if reference is None else reference.log_prob(inputs).sum().tolist()
        for prompt, response, mine, theirs in zip(batch, responses, own, other, strict=True):
            asked, text = policy.decode_prompt(prompt), policy.decode(prompt, response)
            reward = None if true_reward is None else true_reward(asked, text)
            samples.append(Sample(asked, text, len(response), mine, theirs, reward))
    policy.train(was_training)
    return samples


def summarize(samples: Sequence[Sample]) -> dict[str, float]:
    """Means over samples with half-widths of their 95 % intervals (normal approximation).

    ``samples/kl`` is the plain Monte Carlo estimate of KL(policy || reference), nats a response:
    the mean of log pi(y|x) - log pi_ref(y|x) over y drawn from the policy.
    """
    curves: dict[str, Sequence[float | None]] = {
        "samples/length": [float(sample.length) for sample in samples],
        "samples/kl": [
            None if sample.reference_log_prob is None else sample.policy_log_prob - sample.reference_log_prob
            for sample in samples
        ],
        "samples/true_reward": [sample.true_reward for sample in samples],
    }
    row: dict[str, float] = {}
    for name, values in curves.items():
        known = [value for value in values if value is not None]
        if len(known) < 2:
            continue
        mean = sum(known) / len(known)
        variance = sum((value - mean) ** 2 for value in known) / (len(known) - 1)
        row[name] = mean
        row[f"{name}_ci95"] = 1.96 * math.sqrt(variance / len(known))
    return row
