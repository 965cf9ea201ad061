from typing import Any

import pytest
from hypothesis import example as also
from hypothesis import given, settings
from hypothesis import strategies as st

from dpo_lab.errors import UserError
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.types import Encoded, Example, Message
from tests.model.tokenizers import BEGIN_WITH_BOS, CHARACTERS, CHATML, SPACE_FIRST, TOKENIZERS

BUILT = {name: build() for name, build in TOKENIZERS.items()}
every_tokenizer = pytest.mark.parametrize("name", TOKENIZERS)
QUESTION: list[Message] = [{"role": "user", "content": "what is 12 + 34?"}]


def encode(tokenizer: Any, prompt: Any, *responses: Any) -> Encoded:
    (encoded,) = TextEncoder(tokenizer).encode([Example(prompt, responses, source="row 1")])
    return encoded


def decode(tokenizer: Any, ids: tuple[int, ...]) -> str:
    return tokenizer.decode(list(ids), skip_special_tokens=False)


@every_tokenizer
def test_plain_text_begins_and_ends_once(name: str):
    """BOS where the tokenizer itself writes it and nowhere else; EOS once, also where the text has it."""
    tokenizer = BUILT[name]
    encoded = encode(tokenizer, "the cat", " sat", f" sat{tokenizer.eos_token}", f" sat{tokenizer.eos_token * 2}")
    num_head = int(name in BEGIN_WITH_BOS)
    assert encoded.num_head == num_head
    assert encoded.prompt[:num_head] == (tokenizer.bos_token_id,) * num_head
    specials = {tokenizer.bos_token_id, tokenizer.eos_token_id}
    assert not specials & set(encoded.prompt[num_head:])
    assert len(set(encoded.responses)) == 1
    assert encoded.responses[0][-1] == tokenizer.eos_token_id
    assert not specials & set(encoded.responses[0][:-1])


@every_tokenizer
def test_ids_are_those_of_the_tokenizer_itself(name: str):
    """At a boundary without a merge, prompt and response are what the tokenizer makes of the text, then EOS."""
    tokenizer = BUILT[name]
    encoded = encode(tokenizer, "the cat", " sat on the mat.")
    assert encoded.num_boundary_merges == 0
    whole = tokenizer("the cat sat on the mat.")["input_ids"]
    assert [*encoded.prompt, *encoded.responses[0]] == [*whole, tokenizer.eos_token_id]


@every_tokenizer
@settings(max_examples=40)
@given(prompt=st.text(CHARACTERS, min_size=1, max_size=8), response=st.text(CHARACTERS, min_size=1, max_size=8))
@also(prompt="hel", response="lo world")
@also(prompt="what is ", response="the cat")
@also(prompt="a\n", response="\nb")
@also(prompt="1", response="2 + 34")
@also(prompt=".", response="!")
def test_decoded_prompt_and_response_give_the_text_back(name: str, prompt: str, response: str):
    """Also where the tokenizer would merge across the boundary, and where it begins texts with a space."""
    tokenizer = BUILT[name]
    encoded = encode(tokenizer, prompt, response)
    text = decode(tokenizer, encoded.prompt[encoded.num_head :] + encoded.responses[0][:-1])
    assert text == decode(tokenizer, tuple(tokenizer(prompt + response, add_special_tokens=False)["input_ids"]))
    if not name.startswith(("metaspace", "llama 2", "unigram")):  # where spaces at the beginning may be lost
        assert text == (" " if name in SPACE_FIRST and not prompt.startswith(" ") else "") + prompt + response


@every_tokenizer
def test_all_responses_follow_the_same_prompt(name: str):
    """ "hel" + "lo" would become one token, "hel" + " lo" would not: the prompt stays whole in both."""
    tokenizer = BUILT[name]
    encoded = encode(tokenizer, "hel", "lo there", " lo there")
    assert encoded.prompt[encoded.num_head :] == tuple(tokenizer("hel", add_special_tokens=False)["input_ids"])
    assert encoded.num_boundary_merges == int(name != "unigram")  # which has no merges
    first, second = (decode(tokenizer, response[:-1]) for response in encoded.responses)
    assert (first.strip(), second.strip()) == ("lo there", "lo there")
    assert encoded.responses[0] != encoded.responses[1]


def test_an_empty_response_has_no_token():
    """Not even EOS: the data room drops and counts it."""
    assert encode(BUILT["tiny"], "the cat", "", "</s>").responses == ((), ())


def test_batches_give_what_single_rows_give():
    examples = [Example("the cat", (" sat", "s")), Example("hel", ("lo",)), Example("", ("the",))]
    encoder = TextEncoder(BUILT["llama 2"])
    assert encoder.encode(examples) == [encoder.encode([example])[0] for example in examples]
    assert encoder.encode([]) == []


def test_a_limit_inside_the_tokenizer_cuts_nothing():
    """A tokenizer.json may hold a truncation and a padding of its own."""
    tokenizer = TOKENIZERS["tiny"]()
    expected = encode(tokenizer, "the cat sat on the mat", " the dog did not")
    tokenizer.backend_tokenizer.enable_truncation(max_length=3)
    tokenizer.backend_tokenizer.enable_padding(length=50)
    assert encode(tokenizer, "the cat sat on the mat", " the dog did not") == expected


def test_chat_template_that_writes_bos():
    """tiny's template and its tokenizer both write BOS: one is left. The template's EOS is not doubled either."""
    tokenizer = BUILT["tiny"]
    encoded = encode(tokenizer, QUESTION, "46", [{"role": "assistant", "content": "46"}])
    assert decode(tokenizer, encoded.prompt) == "<s><|user|>\nwhat is 12 + 34?\n<|assistant|>\n"
    assert encoded.num_head == 1
    assert [decode(tokenizer, response) for response in encoded.responses] == ["46</s>"] * 2


def test_chat_template_that_writes_bos_twice():
    tokenizer = TOKENIZERS["tiny"]()
    expected = encode(tokenizer, QUESTION, "46")
    tokenizer.chat_template = "{{ bos_token }}" + tokenizer.chat_template
    assert encode(tokenizer, QUESTION, "46") == expected


@pytest.mark.parametrize("name", ["qwen", "yi"])
def test_chat_template_without_bos(name: str):
    """The line break that ChatML writes after the end of a turn is nothing that the model has to say."""
    tokenizer = TOKENIZERS[name]()
    encoded = encode(tokenizer, QUESTION, "46")
    assert encoded.num_head == 0
    assert decode(tokenizer, encoded.prompt) == "<|im_start|>user\nwhat is 12 + 34?<|im_end|>\n<|im_start|>assistant\n"
    end = {"qwen": "46<|im_end|>", "yi": "46<|im_end|>\n</s>"}  # for yi <|im_end|> is text: it ends with </s>
    assert decode(tokenizer, encoded.responses[0]) == end[name]
    assert encoded.responses[0].count(tokenizer.eos_token_id) == 1


def test_bos_that_only_the_template_writes_is_kept_and_counted():
    """Counted, so that a cut from the left keeps it."""
    tokenizer = TOKENIZERS["yi"]()
    tokenizer.chat_template = "{{ bos_token }}" + CHATML
    encoded = encode(tokenizer, QUESTION, "46")
    assert (encoded.num_head, encoded.prompt[:2].count(tokenizer.bos_token_id)) == (1, 1)


def test_chat_template_without_eos_gets_one():
    tokenizer = TOKENIZERS["tiny"]()
    tokenizer.chat_template = tokenizer.chat_template.replace("{{ eos_token }}", "")
    encoded = encode(tokenizer, QUESTION, "46")
    assert decode(tokenizer, encoded.responses[0]) == "46\n</s>"


def template(text: str) -> Any:
    tokenizer = TOKENIZERS["tiny"]()
    tokenizer.chat_template = text
    return tokenizer


@pytest.mark.parametrize(
    ("tokenizer", "prompt", "response", "message"),
    [
        (BUILT["gpt2"], QUESTION, "46", r"row 1: .*no chat template; give one with model\.chat_template=FILE"),
        (BUILT["tiny"], "12 + 34?", QUESTION, r"row 1: the prompt is text but a response is a list of chat messages"),
        (template("{{ raise_exception('no such role') }}"), QUESTION, "46", r"row 1: .*cannot render.*no such role"),
        (
            template("{{ messages | length }}{% for m in messages %}{{ m['content'] }}{% endfor %}"),
            QUESTION,
            "46",
            r"row 1: the chat template renders the prompt differently once a response follows",
        ),
    ],
)
def test_what_cannot_be_rendered_names_the_row(tokenizer: Any, prompt: Any, response: Any, message: str):
    with pytest.raises(UserError, match=message):
        encode(tokenizer, prompt, response)


def test_a_tokenizer_without_eos_is_refused():
    tokenizer = TOKENIZERS["tiny"]()
    tokenizer.eos_token = None
    with pytest.raises(UserError, match=r"no end-of-sequence token"):
        TextEncoder(tokenizer)


def test_fingerprint_moves_with_what_ids_depend_on_and_with_nothing_else():
    tokenizer = TOKENIZERS["tiny"]()
    encoder = TextEncoder(tokenizer)
    before = encoder.fingerprint()
    tokenizer(["a", "a longer text"], padding=True, truncation=True, max_length=3)
    assert encoder.fingerprint() == before == TextEncoder(TOKENIZERS["tiny"]()).fingerprint()
    others = [TextEncoder(BUILT[name]).fingerprint() for name in TOKENIZERS if name != "tiny"]
    tokenizer.chat_template += " "
    assert len({before, encoder.fingerprint(), *others}) == len(TOKENIZERS) + 1
