"""What a policy that writes text and its reference say of held-out responses that were judged."""

from typing import Any

import pytorch_lightning as pl
import torch

from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.scores import parts_to_score
from dpo_lab.evaluation.figure import Figure
from dpo_lab.evaluation.judgement_figures import LENGTH, REFERENCE, REWARD, JudgedResponses, judgement_figures
from dpo_lab.metrics import predictions
from dpo_lab.module import PreferenceModule

_COLUMNS = {REWARD: "reward", LENGTH: "length", REFERENCE: "reference_log_prob"}


@torch.no_grad()
def measure_judgements(
    experiment: Experiment, module: PreferenceModule, trainer: pl.Trainer, name: str
) -> dict[str, Figure]:
    """Figures of `judgement_figures` for one split (``train``, ``val``, ``test``), as the run's loss sees it.

    A loss that imitates sees no judgement, so there is no figure.
    """
    columns: dict[str, list[float]] = {name: [] for name in _COLUMNS.values()}
    prompts: list[Any] = []
    pairs: list[tuple[int, int]] = []
    labels: list[int] = []
    for window in parts_to_score(experiment)[name]:
        for part in module.score(module.transfer_batch_to_device(window, trainer.strategy.root_device, 0)):
            first, batch = len(prompts), part.batch
            rows = predictions(module.objective, part.outputs, batch, part.measured.policy, part.measured.reference)
            for column, values in columns.items():
                values += rows[column].tolist() if column in rows else []
            keys = batch.key if batch.prompt_key is None else batch.prompt_key
            prompts += map(tuple, keys.tolist())
            pairs += [(first + better, first + worse) for better, worse in batch.pairs.tolist()]
            labels += [] if batch.labels is None else batch.labels.tolist()
    scores = {name: columns[column] for name, column in _COLUMNS.items() if columns[column]}
    return judgement_figures(JudgedResponses(scores, prompts, pairs, labels))
