"""What becomes of examples in token space."""

from dpo_lab.assemble.encoding import special_tokens
from dpo_lab.audit.tokens import boundaries, fitting, look_at_tokens
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, Overflow
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.types import Encoded, Example
from tests.model.tokenizers import TOKENIZERS


def source(*examples: Example, max_length: int = 99, on_overflow: Overflow = "drop") -> DataSource:
    return DataSource(list(examples), [], [], max_length, on_overflow, True, DataReport(len(examples), len(examples)))


def pair(prompt: str, chosen: str, rejected: str) -> Example:
    return Example(prompt, (chosen, rejected), ((0, 1),), source=f"row {prompt}")


def characters(examples: list[Example]) -> list[Encoded]:
    """A token a character, and an end."""
    return [
        Encoded(tuple(map(ord, str(e.prompt))), tuple((*map(ord, str(r)), 2) for r in e.responses)) for e in examples
    ]


def test_lengths_and_what_does_not_fit_by_hand():
    """Prompt and longest response with its end: 1+3, 2+5, 3+8, 9+3 tokens; of at most 9, the last's prompt fills it.

    Cut to 9, the third pair's responses keep 6 tokens, which they share.
    """
    pairs = [("p", "aa", "b"), ("pp", "a", "bbbb"), ("ppp", "aaaaaab", "aaaaaac"), ("p" * 9, "aa", "b")]
    examples = [pair(*one) for one in pairs]
    view = look_at_tokens(source(*examples, max_length=9), characters, 2, ())
    assert fitting(view, 9) == {
        "max_length": 9,
        "num": 4,
        "num_overlong": 2,
        "num_prompt_fills_length": 1,
        "num_identical_if_cut": 1,
        "length_for_share": {"0.9": 12, "0.95": 12, "0.99": 12, "1": 12},
    }
    assert view.report.counts == {"overflow_dropped": 1, "prompt_fills_length": 1}
    assert [len(tokens.prompt) for tokens in view.datasets["train"].encoded] == [1, 2]


def test_a_run_that_would_stop_is_looked_at_to_its_end():
    view = look_at_tokens(source(pair("pppp", "a", "b"), max_length=3, on_overflow="error"), characters, 2, ())
    assert (len(view.encoded), len(view.datasets["train"])) == (1, 0)


def test_special_tokens_in_text_are_noted_with_their_places():
    tokenizer = TOKENIZERS["qwen"]()
    encoder = TextEncoder(tokenizer)
    examples = [
        pair("the cat", " sat", " not"),
        pair("a <|im_start|>", " is", " it"),
        pair("so", " lo<|endoftext|>", " no"),
    ]
    view = look_at_tokens(source(*examples), encoder.encode, encoder.end_id, special_tokens(tokenizer))
    assert view.report.places["special_token_in_text"] == ["row a <|im_start|>", "row so"]
    assert set(special_tokens(tokenizer)) == {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}


def test_chats_without_a_template_are_counted_and_the_rest_is_seen():
    encoder = TextEncoder(TOKENIZERS["gpt2"]())
    chat = Example([{"role": "user", "content": "a"}], ("b", "c"), ((0, 1),), source="row 2")
    view = look_at_tokens(source(pair("the cat", " sat", " not"), chat), encoder.encode, encoder.end_id, ())
    assert view.report.counts == {"cannot_encode": 1}
    assert len(view.datasets["train"]) == len(view.encoded) == 1


def test_boundaries():
    """SentencePiece with a space before the first word: apart, every response of plain text has other tokens."""
    tokenizer = TOKENIZERS["metaspace always"]()
    encoder = TextEncoder(tokenizer)
    view = look_at_tokens(source(pair("the cat", "s sat", "s not")), encoder.encode, encoder.end_id, ())
    assert boundaries(view, tokenizer)["num_apart_differs"] == 1
    other = TOKENIZERS["gpt2"]()
    encoder = TextEncoder(other)
    view = look_at_tokens(source(pair("the cat", " sat", " not"), pair("so", "\n", "a")), encoder.encode, None, ())
    found = boundaries(view, other)
    assert (found["num"], found["num_text"]) == (2, 2)
    assert found["num_merged"] <= found["num_apart_differs"] <= 1
    assert boundaries(view, None)["num_apart_differs"] is None
