"""Batches of rows: every row once, of like length, the responses to one prompt side by side."""

from hypothesis import given
from hypothesis import strategies as st

from dpo_lab.reference.rows import BATCH_TOKENS, Row, as_groups, batches
from dpo_lab.types import Encoded, ImageFile


def row(prompt: tuple[int, ...], response: tuple[int, ...], number: int) -> Row:
    return Row(Encoded(prompt, (response,)), response, (0, number))


def test_by_hand():
    """Prompts of 2 and 1 tokens; 4096 // 2050 = 1 row beside none, then the short ones together."""
    long = row((1, 2), (3,) * 2048, 0)
    first, other, second = row((5,), (6,), 1), row((7,), (6,), 2), row((5,), (6, 8), 3)
    assert list(batches([first, other, long, second])) == [[long], [first, second, other]]
    assert as_groups([first, second, other]) == [Encoded((5,), ((6,), (6, 8))), Encoded((7,), ((6,),))]
    assert list(batches([])) == []


lengths = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 1500), st.integers(0, 3)), max_size=30)


@given(lengths)
def test_every_row_once_and_no_batch_too_large(rows: list[tuple[int, int, int]]):
    made = [row((token,) * size, (9,) * response, number) for number, (size, response, token) in enumerate(rows)]
    found = list(batches(made))
    assert sorted(row.key for batch in found for row in batch) == [row.key for row in made]
    for batch in found:
        assert len(batch) == 1 or len(batch) * max(row.width for row in batch) <= BATCH_TOKENS
        groups = as_groups(batch)
        assert [response for group in groups for response in group.responses] == [row.response for row in batch]


def test_the_same_tokens_with_other_images_are_another_prompt():
    first, second = (ImageFile("a.png", "00"),), (ImageFile("b.png", "11"),)
    shown = [(first, (6,)), (second, (6,)), (first, (7,))]
    rows = [Row(Encoded((5,), (), images=images), response, (0, at)) for at, (images, response) in enumerate(shown)]
    (batch,) = batches(rows)
    assert as_groups(batch) == [Encoded((5,), ((6,), (7,)), images=first), Encoded((5,), ((6,),), images=second)]
