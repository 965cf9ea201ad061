"""Noise whose rate is known: what is swapped, how much of it, and what stays."""

from pathlib import Path

import pytest

from dpo_lab.data.errors import DataError
from dpo_lab.data.files import files
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.label_noise import swap_labels
from dpo_lab.data.report import DataReport
from dpo_lab.data.reviews import reviews
from dpo_lab.types import Example


def pairs(num: int) -> list[Example]:
    return [Example("q", (f"good {n}", "bad"), ((0, 1),), source=f"row {n}") for n in range(num)]


def swapped(examples: list[Example]) -> set[int]:
    return {number for number, example in enumerate(examples) if example.pairs == ((1, 0),)}


def test_share_is_exact_counted_and_grows():
    """Of 25 rows 10 % are 2.5, rounded up to 3, and 40 % are 10, among them the 3."""
    report = DataReport()
    few, many = swap_labels(pairs(25), 0.1, 0, report), swap_labels(pairs(25), 0.4, 0, DataReport())
    assert (len(swapped(few)), len(swapped(many))) == (3, 10)
    assert swapped(few) < swapped(many)
    assert report.counts == {"label_swapped": 3}
    assert report.places["label_swapped"] == [f"row {number}" for number in sorted(swapped(few))]
    assert swapped(swap_labels(pairs(25), 0.4, 1, DataReport())) != swapped(many)
    assert swap_labels(pairs(25), 0.0, 0, report) == pairs(25)


def test_everything_that_a_loss_reads_is_swapped():
    """The order too, which a loss of lists would otherwise take from the scores; a single label becomes the other."""
    scored = Example("q", ("a", "b"), ((0, 1),), scores=(2.0, 1.0), win_probabilities=(0.9,))
    [noisy] = swap_labels([scored], 0.5, 0, DataReport())
    judgement = Judgement.of(noisy)
    assert (judgement.pairs, judgement.order(best_alone=False), judgement.chosen()) == (((1, 0),), (1, 0), [1])
    assert judgement.judged() == [(1, 1), (0, 0)]
    assert (noisy.responses, noisy.scores, noisy.win_probabilities) == (("a", "b"), (2.0, 1.0), (0.9,))
    labelled = [Example("q", ("a",), labels=(label,)) for label in (1, 0)]
    assert sorted(str(example.labels) for example in swap_labels(labelled, 0.5, 0, DataReport())) in (
        ["(0,)", "(0,)"],
        ["(1,)", "(1,)"],
    )


def test_what_was_not_judged_stays_and_lists_are_refused():
    demonstration = Example("q", ("a",))
    assert swap_labels([demonstration, *pairs(1)], 0.5, 0, DataReport())[0] == demonstration
    with pytest.raises(DataError, match=r"no training row is judged \(the first at row 1\).*label_noise=0"):
        swap_labels([demonstration], 0.5, 0, DataReport())
    with pytest.raises(DataError, match=r"reviews list 0 has 3 responses.*label_noise=0"):
        reviews(num_pairs=2, num_validation_pairs=1, num_demonstrations=1, num_responses=3, label_noise=0.1)


def test_reviews_and_files_swap_training_alone(workplace: Path):
    clean, noisy = (
        reviews(num_pairs=40, num_validation_pairs=40, num_demonstrations=2, label_noise=x) for x in (0, 0.25)
    )
    assert sum(one.pairs != other.pairs for one, other in zip(clean.train, noisy.train, strict=True)) == 10
    assert (clean.validation, clean.demonstrations) == (noisy.validation, noisy.demonstrations)
    assert clean.fingerprint != noisy.fingerprint
    assert noisy.report.counts == {"label_swapped": 10}
    lines = [f'{{"prompt": "{n}", "chosen": "a", "rejected": "b"}}' for n in range(20)]
    Path("pairs.jsonl").write_text("\n".join(lines) + "\n")
    read, told = files(path="pairs.jsonl"), files(path="pairs.jsonl", label_noise=0.5, label_noise_seed=3)
    assert len(swapped(told.train)) == told.report.counts["label_swapped"] == (len(read.train) + 1) // 2
    assert (read.validation, read.demonstrations) == (told.validation, told.demonstrations)
