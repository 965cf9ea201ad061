"""Exchanges between ranks, with two of them stood in for by this process."""

import pytest
import torch

from dpo_lab import ranks


@pytest.fixture
def two(monkeypatch: pytest.MonkeyPatch) -> None:
    """The other rank holds exactly what this one holds."""
    monkeypatch.setattr(ranks, "num_ranks", lambda: 2)
    monkeypatch.setattr(ranks, "_all_reduce", lambda values: values.mul_(2))


@pytest.mark.usefixtures("two")
def test_gradients_are_summed_whatever_the_buckets_and_stay_away_where_there_is_none(monkeypatch: pytest.MonkeyPatch):
    """Five of 3 numbers each, two of them float64 and one without a gradient, in buckets of 3, 6, 7 and all."""
    for bucket in (3, 6, 7, 100):
        monkeypatch.setattr(ranks, "BUCKET", bucket)
        dtypes = [torch.float32, torch.float64, torch.float32, torch.float64, torch.float32]
        parameters = [torch.nn.Parameter(torch.zeros(3, dtype=dtype)) for dtype in dtypes]
        frozen = torch.nn.Parameter(torch.zeros(3), requires_grad=False)
        for number, parameter in enumerate(parameters[:-1]):
            parameter.grad = torch.full_like(parameter, number + 1)
        ranks.sum_gradients([*parameters, frozen])
        assert [p.grad.tolist() for p in parameters[:-1] if p.grad is not None] == [[2 * n] * 3 for n in (1, 2, 3, 4)]
        assert parameters[-1].grad is None and frozen.grad is None


def test_one_process_says_what_the_first_says():
    assert ranks.from_first_rank("mine") == "mine"
    assert ranks.gather_over_ranks(1) == [1] and ranks.seconds_waiting() == 0
