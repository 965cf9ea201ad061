from dataclasses import replace

import pytest

from dpo_lab.assemble.encoding import build_source
from dpo_lab.commands.compose import compose
from dpo_lab.data.encode_source import encode_source
from dpo_lab.data.encoded import EncodedDataset
from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import IndexPairs, Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import Overflow
from dpo_lab.data.view import View
from dpo_lab.errors import UserError
from dpo_lab.types import Encoded, Example

EOS = 2


def encode(examples: list[Example]) -> list[Encoded]:
    """A character is its code point; '$' is the end of a sequence."""
    return [
        Encoded(ids(str(e.prompt)), tuple(ids(str(response)) for response in e.responses), num_boundary_merges=1)
        for e in examples
    ]


def ids(text: str) -> tuple[int, ...]:
    return tuple(EOS if character == "$" else ord(character) for character in text)


def run(
    examples: list[Example], max_length: int = 100, on_overflow: Overflow = "drop"
) -> tuple[EncodedDataset, dict[str, int]]:
    report = DataReport()
    dataset = encode_source(examples, encode, max_length, on_overflow, report, EOS)
    return dataset, {reason: num for reason, num in report.counts.items() if reason != "boundary_merge"}


def pairs_of(dataset: EncodedDataset) -> list[IndexPairs]:
    return [judgement.pairs for judgement in dataset.judgements]


def pair(prompt: str, chosen: str, rejected: str) -> Example:
    return Example(prompt, (chosen, rejected), ((0, 1),), source="a row 1")


def test_sound_examples_stay():
    dataset, counts = run([pair("p", "a$", "b$"), Example("q", ("c$",))])
    assert pairs_of(dataset) == [((0, 1),), ()]
    assert dataset.encoded[0].responses == ((97, EOS), (98, EOS))
    assert counts == {}


@pytest.mark.parametrize(
    ("example", "reason"),
    [
        (pair("", "a$", "b$"), "zero_token_prompt"),
        (pair("p", "", "b$"), "zero_token_response"),
        (pair("p", "a$a$", "b$"), "eos_inside_response"),
        (pair("p", "a$$", "b$"), "eos_inside_response"),
        (Example("p", ("",), source="a row 1"), "zero_token_response"),
        (pair("p", "a$", "a$"), "identical_after_encoding"),
        (pair("p" * 99, "a$", "b$"), "overflow_dropped"),
        (pair("p" * 100, "a$", "b$"), "prompt_fills_length"),
    ],
)
def test_what_is_dropped_is_counted(example: Example, reason: str):
    dataset, counts = run([example])
    assert (len(dataset), counts) == (0, {reason: 1})


def test_pair_that_differs_only_behind_the_cut_is_dropped():
    """max_length 6, prompt 1: responses of 5 tokens, equal there."""
    dataset, counts = run([pair("p", "abcdefX$", "abcdefY$")], max_length=6, on_overflow="truncate")
    assert (len(dataset), counts) == (0, {"response_cut": 1, "identical_after_cut": 1})


def test_the_rest_of_a_list_survives_one_bad_response():
    """Response 1 goes; 0 and 2 become 0 and 1, and keep their pair."""
    example = Example("p", ("a$", "", "c$"), ((0, 1), (0, 2), (1, 2)))
    dataset, counts = run([example])
    assert dataset.encoded[0].responses == ((97, EOS), (99, EOS))
    assert (pairs_of(dataset), counts) == ([((0, 1),)], {"zero_token_response": 1})


def test_everything_judged_is_numbered_anew_when_a_response_goes():
    """Response 1 of four goes: 0 2 3 become 0 1 2, and the pairs with 1 take their probabilities with them."""
    example = Example(
        "p",
        ("a$", "", "c$", "d$"),
        ((3, 1), (3, 0), (1, 0), (3, 2)),
        (0.5, 1.5, -0.1, 2.5),
        win_probabilities=(0.9, 0.8, 0.7, 0.6),
        labels=(0, 1, 0, 1),
        ranking=(3, 1, 0, 2),
    )
    dataset, _ = run([example])
    assert dataset.judgements == [
        Judgement(((2, 0), (2, 1)), (0.8, 0.6), (0.5, -0.1, 2.5), (0, 0, 1), ranking=(2, 0, 1))
    ]


def test_list_of_which_only_the_best_was_known():
    """Without a rejected response the rest stays; without the best nothing is known."""
    whole = Example("p", ("a$", "b$", "c$"), ((0, 1), (0, 2)), ranking=(0, 1, 2), is_best_alone=True)
    dataset, _ = run([replace(whole, responses=("a$", "", "c$"))])
    assert dataset.judgements == [Judgement(((0, 1),), ranking=(0, 1), is_best_alone=True)]
    dataset, counts = run([replace(whole, responses=("", "b$", "c$"))])
    assert (len(dataset), counts) == (0, {"zero_token_response": 1})


def test_order_outlives_the_pairs():
    """Adjacent pairs of a > b > c without b: no pair is left, a > c is."""
    dataset, _ = run([Example("p", ("a$", "", "c$"), ((0, 1), (1, 2)), ranking=(0, 1, 2))])
    assert dataset.judgements == [Judgement(ranking=(0, 1))]


def test_labels_outlive_the_pairs():
    dataset, _ = run([Example("p", ("a$", ""), ((0, 1),), labels=(1, 0)), Example("p", ("b$",), labels=(0,))])
    assert dataset.judgements == [Judgement(labels=(1,)), Judgement(labels=(0,))]


def test_identical_pairs_take_their_probability_with_them():
    """b and c become equal behind the cut of 2 tokens: the pair (1, 2) goes, the order keeps the better of the two."""
    example = Example(
        "p",
        ("a$", "bbX$", "bbY$"),
        ((0, 1), (1, 2), (0, 2)),
        win_probabilities=(0.9, 0.8, 0.7),
        ranking=(0, 1, 2),
    )
    dataset, counts = run([example], max_length=3, on_overflow="truncate")
    assert counts == {"response_cut": 1, "identical_after_cut": 1}
    assert dataset.judgements == [Judgement(((0, 1), (0, 2)), (0.9, 0.7), ranking=(0, 1, 2))]
    (item,) = dataset.items(View(frozenset({"ranking"})))
    assert (item.responses, item.pairs) == ((0, 1), (0,))


def test_list_that_has_become_one_response_is_dropped():
    example = Example("p", ("bbX$", "bbY$"), ((0, 1),), (2.0, 1.0))
    dataset, counts = run([example], max_length=3, on_overflow="truncate")
    assert (len(dataset), counts) == (0, {"response_cut": 1, "identical_after_cut": 1})


def test_all_examples_that_do_not_fit_are_in_one_error():
    with pytest.raises(DataError, match="2 rows cannot be used") as caught:
        run([pair("p" * 9, "a$", "b$"), pair("p", "a$", "b$"), pair("p" * 8, "a$", "b$")], 4, "error")
    assert "11 tokens do not fit into data.max_length=4" in str(caught.value)
    assert str(caught.value).endswith("the longest has 11 tokens), or choose data.on_overflow=drop or truncate.")


@pytest.mark.parametrize("data", ["articles", "reviews", "shapes"])
def test_advice_on_what_does_not_fit_names_knobs_that_the_data_has(data: str):
    """A character a token: no row fits into two."""
    few = [f"data.{knob}=20" for knob in ("num_pairs", "num_validation_pairs", "num_demonstrations")]
    config = compose([f"data={data}", "data.max_length=2", "cache_dir=cache", *few])
    source = build_source(config)
    with pytest.raises(DataError, match=r"Raise data.max_length \(the longest has \d+ tokens\)") as caught:
        encode_source(
            source.train[:2],
            encode,
            source.max_length,
            source.on_overflow,
            DataReport(),
            None,
            has_overflow_knob=source.has_overflow_knob,
        )
    assert ("on_overflow" in str(caught.value)) == ("on_overflow" in config["data"])


def test_boundary_merges_are_noted():
    report = DataReport()
    encode_source([pair("p", "a$", "b$")] * 3, encode, 9, "drop", report, EOS)
    assert report.as_dict()["noted"] == {"boundary_merge": 3}


def test_encode_that_loses_a_response_is_found_out():
    with pytest.raises(DataError, match="1 of 2 responses"):
        encode_source([pair("p", "a", "b")], lambda _: [Encoded((1,), ((2,),))], 9, "drop", DataReport(), None)


def refuse(examples: list[Example]) -> list[Encoded]:
    for one in examples:
        if one.prompt == "bad":
            raise UserError(f"{one.source}: no template")
    return encode(examples)


def test_every_example_that_cannot_be_encoded_is_told():
    rows = [replace(pair(prompt, "a$", "b$"), source=f"a row {n}") for n, prompt in enumerate(("p", "bad", "q", "bad"))]
    with pytest.raises(DataError, match="2 rows cannot be used") as caught:
        encode_source(rows, refuse, 9, "drop", DataReport(), EOS)
    assert "a row 1: no template\n" in str(caught.value) and "a row 3: no template\n" in str(caught.value)
    report = DataReport()
    assert len(encode_source(rows, refuse, 9, "drop", report, EOS, on_problem="drop")) == 2
    assert report.counts["cannot_encode"] == 2
    with pytest.raises(DataError, match="1 row cannot be used"):  # nothing would be left
        encode_source(rows[1:2], refuse, 9, "drop", DataReport(), EOS, on_problem="drop")


def test_special_tokens_inside_of_text_are_noted():
    report = DataReport()
    rows = [pair("p", "a$", "b$"), replace(pair("p<s>", "a$", "b$"), source="a row 2")]
    assert len(encode_source(rows, encode, 9, "drop", report, EOS, special_tokens=("<s>", "</s>"))) == 2
    assert (report.counts["special_token_in_text"], report.places["special_token_in_text"]) == (1, ["a row 2"])


def test_text_without_a_token_is_noted():
    """Token 97 ("a") stands for whatever the vocabulary lacks."""
    report = DataReport()
    rows = [pair("p", "b$", "c$"), replace(pair("p", "d$", "xay$"), source="a row 2")]
    assert len(encode_source(rows, encode, 9, "drop", report, EOS, unknown_id=97)) == 2
    assert (report.counts["unknown_token"], report.places["unknown_token"]) == (1, ["a row 2"])


def test_spans_behind_the_cut_go_with_their_pairs():
    """Head of 2, passage of 4, tail of 1; 6 tokens leave the passage 3: the span (4, 5) ends behind the cut."""
    tokens = Encoded((1, 3, 10, 11, 12, 13, 2), ((2, 3), (4, 5), (4, 4)), num_head=2, num_tail=1, kind="span")
    example = Example("p", ("a", "b", "c"), ((0, 1), (0, 2)), scores=(1.0, 0.5, 0.0), source="a row 1")
    report = DataReport()
    dataset = encode_source([example], lambda _: [tokens], 6, "truncate", report, None)
    assert dataset.encoded == [replace(tokens, prompt=(1, 3, 10, 11, 12, 2), responses=((2, 3), (4, 4)))]
    assert dataset.judgements == [Judgement(((0, 1),), scores=(1.0, 0.0))]
    assert report.counts == {"prompt_end_cut": 1, "answer_cut": 1}


def test_a_question_whose_answer_was_cut_is_not_trained_on():
    tokens = Encoded((1, 3, 10, 11, 12, 13, 2), ((5, 5), (2, 3)), num_head=2, num_tail=1, kind="span")
    example = Example("p", ("a", "b"), ((0, 1),), source="a row 1")
    assert len(encode_source([example], lambda _: [tokens], 6, "truncate", DataReport(), None)) == 0
