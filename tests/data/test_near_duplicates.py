import random
from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.data.near_duplicates import THRESHOLD, near_duplicates, signature, similarity

WORDS = [f"{a}{b}{c}" for a in "bdfgk" for b in "aeiou" for c in ("n", "rt", "st", "l")]


def texts_with_copies(num: int, num_copies: int) -> list[str]:
    """Random texts of 60 words, and of the first `num_copies` a copy in which one word is another."""
    generator = random.Random(0)
    texts = [" ".join(generator.choices(WORDS, k=60)) for _ in range(num)]
    for original in texts[:num_copies]:
        words = original.split()
        words[generator.randrange(60)] = "changed"
        texts.append(" ".join(words))
    return texts


def test_planted_copies_and_nothing_else_are_found():
    groups = near_duplicates(texts_with_copies(150, 40))
    assert sorted(groups) == [[n, 150 + n] for n in range(40)]


def test_signatures_agree_in_about_the_share_of_the_similarity():
    """Over 40 copies, 128 bins each: the mean difference is below 0.03."""
    texts = texts_with_copies(40, 40)
    differences = [
        float((signature(texts[n]) == signature(texts[40 + n])).mean()) - similarity(texts[n], texts[40 + n])
        for n in range(40)
    ]
    assert abs(sum(differences) / 40) < 0.03


def test_case_and_white_space_do_not_count():
    assert near_duplicates(["What is the matter?", "something else", "what  is\nthe MATTER?"]) == [[0, 2]]


def test_short_and_empty_texts():
    assert near_duplicates(["a", "b", "", "a", " "]) == [[0, 3], [2, 4]]
    assert near_duplicates([]) == []


@settings(max_examples=40)
@given(st.lists(st.text("ab", max_size=12), max_size=12))
def test_against_every_pair(texts: list[str]):
    """Groups hold no text twice; equal texts are together; a group is linked by pairs above the threshold."""
    groups = near_duplicates(texts)
    members = [index for group in groups for index in group]
    assert len(members) == len(set(members))
    of = {index: number for number, group in enumerate(groups) for index in group}
    for one, other in combinations(range(len(texts)), 2):
        if texts[one] == texts[other]:
            assert of[one] == of[other]
    for group in groups:
        for index in group:
            assert any(similarity(texts[index], texts[other]) >= THRESHOLD for other in group if other != index)
    # Links go through near duplicates only, so their order does not change what is grouped with an equal text.
    assert groups == near_duplicates(texts)


@given(st.text(max_size=30), st.text(max_size=30))
def test_similarity_is_symmetric_and_in_range(one: str, other: str):
    assert 0 <= similarity(one, other) == similarity(other, one) <= 1
    assert similarity(one, one) == 1
