"""A start that is built anew is the start that was kept."""

from pathlib import Path

import pytest
import torch

from dpo_lab.assemble.start import start_key, train_start
from dpo_lab.data.reviews import reviews
from dpo_lab.model.tiny import tiny
from dpo_lab.start import SupervisedStart

SETTINGS = SupervisedStart(max_steps=2, global_batch_size=8)
SOURCE = reviews(num_pairs=8, num_validation_pairs=4, num_demonstrations=16, seed=0)


def policy(dropout: float):
    corpus = [str(example.prompt) for example in SOURCE.train]
    return tiny(corpus, 0, hidden_size=16, num_layers=1, num_heads=2, vocab_size=300, dropout=dropout)


@pytest.mark.parametrize("dropout", [0.0, 0.5])
def test_whatever_was_drawn_before_moves_nothing(dropout: float, tmp_path: Path):
    found = []
    for number in range(2):
        torch.manual_seed(number)
        state = torch.get_rng_state()
        trained = policy(dropout)
        assert not train_start(trained, SOURCE, SETTINGS, tmp_path / str(number))
        assert torch.equal(torch.get_rng_state(), state)
        found.append(trained.fingerprint())
    assert found[0] == found[1]


def test_another_rate_of_dropout_is_another_start(tmp_path: Path):
    quiet, noisy = policy(0.0), policy(0.5)
    assert quiet.fingerprint() == noisy.fingerprint()
    assert start_key(quiet, SOURCE, SETTINGS) != start_key(noisy, SOURCE, SETTINGS)
    assert not train_start(quiet, SOURCE, SETTINGS, tmp_path)
    assert not train_start(noisy, SOURCE, SETTINGS, tmp_path)
    assert quiet.fingerprint() != noisy.fingerprint()
