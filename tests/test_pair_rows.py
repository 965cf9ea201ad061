import torch

from dpo_lab.pair_rows import laid_out, mean_over_pairs, rows_of, weigh_tails
from tests.loss.batch import make_batch

PAIRS = torch.tensor([[0, 1], [3, 2], [0, 2]])


def test_rows_and_pairs_of_the_layout():
    rows = rows_of(PAIRS)
    assert rows.tolist() == [0, 3, 0, 1, 2, 2]
    assert rows[laid_out(3, rows.device)].tolist() == PAIRS.tolist()


def test_tails_by_hand():
    """Lengths 3, 1, 2, 4. Row 0 (-1, -0.5, -2) counts 1 token beside row 1: -1 + 0.5 (-2.5) = -2.25; 2 beside row 2:
    -1.5 - 1 = -2.5. Row 3 (-0.2, -0.4, -1.1, -2.3) beside row 2: -0.6 - 1.7 = -2.3. Rows 1 and 2 are the shorter."""
    weighed = weigh_tails(make_batch().policy, PAIRS, 0.5).sum()
    torch.testing.assert_close(weighed.tolist(), [-2.25, -2.3, -2.5, -0.7, -3.1, -3.1])


def test_mean_over_pairs_by_hand():
    """Row 0 stands in two pairs with 1 and 3, row 2 with 5 and 6; row 4 in none."""
    values = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0, 6.0])
    assert mean_over_pairs(values, PAIRS, torch.full((5,), 9.0)).tolist() == [2.0, 4.0, 5.5, 2.0, 9.0]
