"""Headlines, facts and pictures that are drawn: the same on every machine, and right by construction."""

from pathlib import Path

import numpy as np
import pytest

from dpo_lab.answers import token_f1
from dpo_lab.data.errors import DataError
from dpo_lab.data.facts import facts
from dpo_lab.data.headlines import TOPICS, headlines
from dpo_lab.data.questions import passage_of
from dpo_lab.data.shapes import COLOURS, shapes
from dpo_lab.image_files import load_image


def test_headlines_are_drawn_from_their_seed_alone():
    source = headlines(num_train=40, num_validation=10, num_test=5)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [40, 10, 5]
    assert source.fingerprint == headlines(num_train=40, num_validation=10, num_test=5).fingerprint
    assert source.fingerprint != headlines(num_train=40, num_validation=10, num_test=5, seed=1).fingerprint
    assert source.classes == tuple(TOPICS)
    assert all(len(set(example.responses)) == 2 for example in source.train)


def test_words_tell_the_topic_where_none_is_foreign():
    for example in headlines(num_train=60, num_validation=0, foreign_words=0.0).train:
        assert any(word in str(example.prompt) for word in TOPICS[str(example.responses[0])])


def test_facts_answer_their_questions():
    source = facts(num_passages=20, num_people=3)
    assert len(source.train) + len(source.validation) == 20 * 9
    assert not {passage_of(one) for one in source.train} & {passage_of(one) for one in source.validation}
    for example in source.train:
        right, wrong = (response[0] for response in example.responses)  # type: ignore[misc]
        assert passage_of(example)[right["start"] :].startswith(right["content"])  # type: ignore[index, typeddict-item]
        assert token_f1(wrong["content"], [right["content"]]) < 1  # type: ignore[index]
    assert source.fingerprint == facts(num_passages=20, num_people=3).fingerprint


def test_shapes_show_what_is_right(tmp_path: Path):
    """The middle of the one shape has the colour of the chosen answer; in a blank picture nothing has any."""
    source = shapes(tmp_path, num_pairs=30, num_validation_pairs=5, num_demonstrations=5)
    for example in source.train:
        pixels = np.asarray(load_image(example.images[0]))
        drawn = {tuple(pixel) for pixel in pixels.reshape(-1, 3)}
        right, wrong = (COLOURS[str(response).lower()] for response in example.responses)
        assert right in drawn and wrong not in drawn and len(drawn) == 2
    again = shapes(tmp_path / "other", num_pairs=30, num_validation_pairs=5, num_demonstrations=5)
    assert again.fingerprint == source.fingerprint
    blank = shapes(tmp_path, num_pairs=30, num_validation_pairs=5, num_demonstrations=5, blank=True)
    assert [example.responses for example in blank.train] == [example.responses for example in source.train]
    assert {example.images for example in blank.train} == {blank.train[0].images}
    assert (np.asarray(load_image(blank.train[0].images[0])) == 255).all()


def test_of_several_shapes_the_wrong_answer_is_of_another(tmp_path: Path):
    for example in shapes(tmp_path, num_pairs=20, num_shapes=3, image_size=48).train:
        drawn = {tuple(pixel) for pixel in np.asarray(load_image(example.images[0])).reshape(-1, 3)}
        assert {COLOURS[str(response).lower()] for response in example.responses} <= drawn and len(drawn) == 4
    with pytest.raises(DataError, match=r"data.num_shapes=5: there are 4 forms"):
        shapes(tmp_path, num_shapes=5)
