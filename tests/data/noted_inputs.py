"""Files that are read, and of which something is noted."""

from tests.data.bad_inputs import CHAT, CSV, GOOD, ONE, ROW_2, USER, Bad, lines, second

NOTED: dict[str, Bad] = {
    "the same pair again": Bad("a.jsonl", lines(GOOD, GOOD), ("noted 1 judgement", "duplicate_judgement", ROW_2)),
    "the opposite pair": Bad(
        "a.jsonl", lines(GOOD, {**GOOD, "chosen": "That.", "rejected": "This."}), ("contradictory_judgement", ROW_2)
    ),
    "the opposite label": Bad(
        "a.jsonl",
        lines(*({"prompt": "p", "response": "a", "label": label} for label in (True, False, True))),
        ("noted 2 judgements", "contradictory_judgement", ROW_2, "duplicate_judgement]", "row 3"),
    ),
    "chats beside text": Bad(
        "a.jsonl", lines(CHAT, GOOD, {**GOOD, "prompt": "q"}), ("chat_beside_text", "a.jsonl row 1")
    ),
    "a column that nothing reads": Bad("a.jsonl", second(id=1), ("columns not read: id",)),
    "a key of messages that nothing reads": Bad(
        "a.jsonl",
        lines({**CHAT, "chosen": [{**ONE, "tool_calls": [{"name": "f"}], "weight": None}]}),
        ("columns not read: chosen[].tool_calls",),
    ),
    "responses of one wording": Bad(
        "a.jsonl", second(chosen="a b", rejected="a  b\n"), ("same_but_for_white_space", ROW_2)
    ),
    "responses that look alike": Bad(
        "a.jsonl", second(chosen="caf\u00e9\u200b", rejected="cafe\u0301"), ("same_but_for_white_space", ROW_2)
    ),
    "a response that was deleted": Bad("a.jsonl", second(chosen="[deleted]"), ("word_for_missing", ROW_2)),
    "a line break escaped twice": Bad("a.jsonl", second(chosen="a\\nB"), ("escaped_line_break", ROW_2)),
    "a prompt in one response": Bad(
        "a.jsonl", second(prompt="What is it?", chosen="What is it? a", rejected="b"), ("prompt_in_some", ROW_2)
    ),
    "a prompt in every response": Bad(
        "a.jsonl",
        lines({"prompt": "What is it?", "chosen": "What is it? a", "rejected": "What is it? b"}),
        ("prompt_repeated",),
    ),
    "a zero byte": Bad("a.jsonl", second(chosen="a\0b"), ("control_character", ROW_2)),
    "a zero byte in a CSV": Bad("a.csv", CSV + b"p,a\0,b\n", ("control_character", "a.csv row 2")),
    "text that was read wrongly": Bad("a.jsonl", second(chosen="itâ€™s a cafÃ©"), ("mojibake", ROW_2)),
    "text that was lost": Bad("a.jsonl", second(chosen="caf\ufffd"), ("replacement_character", ROW_2)),
    "a byte order mark inside": Bad("a.jsonl", second(chosen="\ufeffa"), ("byte_order_mark_inside", ROW_2)),
    "a score against the pair": Bad("a.jsonl", second(chosen_score=1, rejected_score=2), ("score_against_pair", ROW_2)),
    "equal scores of a pair": Bad("a.jsonl", second(chosen_score=1, rejected_score=1), ("scores_of_a_tie", ROW_2)),
    "a probability against the pair": Bad("a.jsonl", second(probability=0.2), ("probability_against_pair", ROW_2)),
    "two turns of the user": Bad(
        "a.jsonl", lines(CHAT, {**CHAT, "prompt": [USER, {**USER, "content": "Ho"}]}), ("turns_out_of_order", ROW_2)
    ),
    "a late system message": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "prompt": [USER, {"role": "system", "content": "Be kind."}]}),
        ("turns_out_of_order", ROW_2),
    ),
    "a template inside of a chat": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "prompt": [{**USER, "content": "<|im_start|>user\nHi<|im_end|>"}]}),
        ("template_in_chat", ROW_2),
    ),
    "a response twice in a list": Bad(
        "a.jsonl", lines({"prompt": "p", "ranked": ["a", "b", "a"]}), ("repeated_response", "a.jsonl row 1")
    ),
    "a list of none": Bad("a.jsonl", lines(GOOD, {"prompt": [USER], "ranked": []}), ("one_response", ROW_2)),
    "a list of one response": Bad(
        "a.jsonl", lines(GOOD, {"prompt": "p", "ranked": ["a", "a"]}), ("one_response", ROW_2)
    ),
}
"""What is trained on, or left out as saying nothing, and counted in the report."""
