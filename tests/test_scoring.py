"""Several micro-batches joined into one batch are the batch that they were cut from."""

from typing import Any

import torch
from torch.testing import assert_close

from dpo_lab.needs import Objective, Term
from dpo_lab.reference.frozen import frozen
from dpo_lab.scoring import Measured, Scorer, join_batches, join_measured
from dpo_lab.types import LogProbs, LossOutput, PolicyStats, PreferenceBatch
from tests.small import small_loader, small_policy


def part(width: int, first: float) -> tuple[PreferenceBatch, Measured]:
    """Two rows of one prompt, with every view."""
    batch = PreferenceBatch(
        inputs={},
        group=torch.tensor([0, 0]),
        key=torch.tensor([[1, 2], [3, 4]]),
        pairs=torch.tensor([[1, 0]]),
        chosen=torch.tensor([1]),
        ranking=torch.tensor([[1, 0, -1][:width]]),
        labels=torch.tensor([0, 1]),
        scores=torch.tensor([first, 1.0]),
        win_probability=torch.tensor([0.8]),
        drift=torch.tensor([0]),
        prompt_key=torch.tensor([[7, 8], [7, 8]]),
    )
    token = torch.full((2, width), -first)
    mask = torch.ones(2, width, dtype=torch.bool)
    return batch, Measured(LogProbs(token, mask), LogProbs(token, mask), PolicyStats(token), token.sum(1))


def test_views_point_at_the_same_responses():
    batch = join_batches([part(2, 5.0)[0], part(3, 6.0)[0]])
    assert batch.group.tolist() == [0, 0, 1, 1]
    assert batch.pairs.tolist() == [[1, 0], [3, 2]]
    assert batch.chosen.tolist() == [1, 3]
    assert batch.ranking is not None and batch.ranking.tolist() == [[1, 0, -1], [3, 2, -1]]
    assert batch.labels is not None and batch.labels.tolist() == [0, 1, 0, 1]
    assert batch.scores is not None and batch.scores.tolist() == [5.0, 1.0, 6.0, 1.0]
    assert batch.win_probability is not None and len(batch.win_probability) == 2
    assert batch.drift is not None and batch.drift.tolist() == [0, 2]
    assert batch.prompt_key is not None and batch.prompt_key.tolist() == [[7, 8]] * 4


def test_what_is_not_there_stays_so():
    nothing: dict[str, Any] = dict.fromkeys(PreferenceBatch._fields[5:])
    bare = part(2, 5.0)[0]._replace(**nothing)
    joined = join_batches([bare, bare])
    assert joined[5:] == (None,) * 6


def test_measured_rows_are_padded_to_the_longest():
    measured = join_measured([part(2, 5.0)[1], part(3, 6.0)[1]])
    assert measured.policy.mask.sum(1).tolist() == [2, 2, 3, 3]
    assert measured.policy.sum().tolist() == [-10.0, -10.0, -18.0, -18.0]
    assert measured.policy_stats is not None and measured.policy_stats.log_collision.shape == (4, 3)
    assert measured.sequential_kl is not None and len(measured.sequential_kl) == 4


def test_leaves_are_cut_off_and_take_a_gradient():
    leaves = part(2, 5.0)[1].as_leaves()
    assert len(leaves.attached()) == 3
    assert all(tensor.is_leaf and tensor.requires_grad for tensor in leaves.attached())


def test_distributions_are_asked_for_only_where_a_loss_reduces_them():
    """And their log-probs are those of the plain pass; of one model with itself the divergence is 0."""

    def plain(policy, reference, pairs) -> LossOutput: ...

    def reducing(policy, reference, pairs, policy_stats, sequential_kl) -> LossOutput: ...

    policy = small_policy(seed=1)
    (batch,) = next(iter(small_loader(policy)))
    first, second = (
        Scorer(policy, frozen(policy), Objective((Term("only", loss),)), 0).measure(batch) for loss in (plain, reducing)
    )
    assert first.policy_stats is first.sequential_kl is None
    assert_close(second.policy.token, first.policy.token, atol=1e-5, rtol=0)
    assert second.sequential_kl is not None and second.policy_stats is not None
    assert second.sequential_kl.abs().max() < 1e-5
    assert second.policy_stats.log_collision[second.policy.mask].max() < 0
