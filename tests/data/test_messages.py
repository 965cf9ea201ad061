from typing import Any

import pytest

from dpo_lab.data.errors import RowError
from dpo_lab.data.messages import is_blank, read_text, split_conversation
from dpo_lab.types import Message

USER: Message = {"role": "user", "content": "Hi"}
ONE: Message = {"role": "assistant", "content": "one"}
TWO: Message = {"role": "assistant", "content": "two"}


def test_share_gpt_keys_become_ours():
    assert read_text([{"from": "human", "value": "Hi"}, {"from": "gpt", "value": "one"}], "prompt") == [USER, ONE]


def test_nulls_that_parquet_adds_are_no_values():
    message = {"role": None, "content": None, "from": "human", "value": "Hi"}
    assert read_text([message], "prompt") == [USER]


def test_one_message_is_a_list_of_one():
    assert read_text(ONE, "chosen") == [ONE]


@pytest.mark.parametrize(
    ("value", "reason"),
    [
        (None, "null_value"),
        (3, "not_text"),
        (True, "not_text"),
        (float("nan"), "not_text"),
        ("half \ud800", "broken_unicode"),
        (["Hi"], "bad_message"),
        ([{"content": "Hi"}], "bad_message"),
        ([{"role": "user"}], "null_value"),
        ([{"role": "user", "content": [{"type": "text"}]}], "null_value"),
        ([{"role": "user", "content": ["Hi"]}], "not_text"),
        ([{"role": "user", "content": [{"type": "video"}]}], "bad_message"),
        ([{"role": "user", "content": [{"type": "image"}]}], "image_in_response"),
        ([{"role": "narrator", "content": "Hi"}], "unknown_role"),
    ],
)
def test_what_is_refused(value: Any, reason: str):
    with pytest.raises(RowError) as caught:
        read_text(value, "prompt")
    assert (caught.value.reason, caught.value.column) == (reason, "prompt")


def test_blank_is_white_space_only():
    assert is_blank(" \n")
    assert is_blank([])
    assert is_blank([{"role": "user", "content": "\t"}])
    assert not is_blank(" x")


def test_response_is_the_assistants_turns_at_the_end():
    assert split_conversation([USER, ONE, TWO], "chosen") == ([USER], [ONE, TWO])
    assert split_conversation([USER, ONE, USER, TWO], "chosen") == ([USER, ONE, USER], [TWO])


def test_conversation_that_ends_on_the_user():
    with pytest.raises(RowError) as caught:
        split_conversation([USER, ONE, USER], "rejected")
    assert caught.value.reason == "ends_on_human_turn"
