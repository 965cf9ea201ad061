"""What can be wrong with a row, a response, a pair: every reason that is counted."""

from typing import Literal, NamedTuple

Effect = Literal["dropped", "cut", "noted"]
"""`dropped`: it is not trained on. `cut`: a part of it is not. `noted`: it is trained on as it stands."""


class Reason(NamedTuple):
    """What happened, to what (the unit that is counted), in words; what to do, where that is not plain."""

    effect: Effect
    unit: str
    text: str
    fix: str = ""


_UNUSABLE: dict[str, Reason] = {
    "missing_column": Reason("dropped", "row", "a column is missing"),
    "null_value": Reason("dropped", "row", "null where text belongs"),
    "not_text": Reason("dropped", "row", "a value of another type where text belongs"),
    "serialised_messages": Reason(
        "dropped", "row", "chat messages written as text", "Store them as lists of messages, in JSONL or Parquet."
    ),
    "broken_unicode": Reason("dropped", "row", "text that is no valid Unicode"),
    "wrong_encoding": Reason("dropped", "row", "bytes that are not UTF-8", "Save the file as UTF-8."),
    "broken_json": Reason("dropped", "row", "a line that is not JSON"),
    "duplicate_key": Reason("dropped", "row", "a key that stands twice in one object"),
    "not_an_object": Reason("dropped", "row", "JSON that is no object"),
    "wrong_num_cells": Reason("dropped", "row", "more or fewer cells than the header"),
    "repeated_header": Reason("dropped", "row", "the header again, as where files were put one behind the other"),
    "unreadable_value": Reason("dropped", "row", "a value that the file's library cannot give"),
    "bad_message": Reason("dropped", "row", "a chat message without a role or content"),
    "unknown_role": Reason("dropped", "row", "a chat role that is not known"),
    "mixed_types": Reason("dropped", "row", "one response is text, another is messages"),
    "no_prompt": Reason("dropped", "row", "no prompt column, and the text is no Human/Assistant transcript"),
    "empty_prompt": Reason("dropped", "row", "the prompt is empty"),
    "prompt_ends_on_assistant": Reason("dropped", "row", "the last message of the prompt is the assistant's"),
    "prompts_differ": Reason("dropped", "row", "chosen and rejected answer different prompts"),
    "empty_response": Reason("dropped", "row", "a response is empty"),
    "ends_on_human_turn": Reason("dropped", "row", "a response holds a turn of the human"),
    "chosen_equals_rejected": Reason("dropped", "row", "chosen equals rejected"),
    "bad_scores": Reason("dropped", "row", "scores that are not one finite number a response"),
    "no_pair": Reason("dropped", "row", "no response is better than another"),
    "bad_label": Reason("dropped", "row", "a label that is none of true, false, 1, 0"),
    "bad_probability": Reason("dropped", "row", "a probability that is no number in [0, 1]"),
    "unknown_class": Reason("dropped", "row", "a label that is none of the classes", "See data.classes."),
    "bad_answer": Reason("dropped", "row", "an answer without a text, or whose place is no number"),
    "answer_not_there": Reason("dropped", "row", "an answer that does not stand where it is said to stand"),
    "bad_item": Reason("dropped", "row", "an item whose id holds white space"),
    "bad_number": Reason("dropped", "row", "no finite number where a time or a rating belongs"),
    "image_missing": Reason("dropped", "row", "an image that is not where its path says", "See data.image_folder."),
    "image_outside": Reason("dropped", "row", "an image path that leads out of its folder", "See data.image_folder."),
    "bad_image": Reason("dropped", "row", "an image that cannot be read"),
    "image_count": Reason("dropped", "row", "not as many images as the prompt has places for"),
    "image_in_response": Reason("dropped", "row", "an image in a response"),
    "cannot_encode": Reason("dropped", "row", "the model, its tokenizer or its chat template cannot take it"),
}
UNUSABLE = frozenset(_UNUSABLE)
"""Rows about which ``data.on_problem`` decides: an error, or dropped and counted."""

REASONS: dict[str, Reason] = {
    **_UNUSABLE,
    "one_response": Reason("dropped", "row", "a ranked list without two different responses"),
    "repeated_response": Reason("dropped", "response", "it stands at a better place of its list already"),
    "no_answer": Reason("dropped", "row", "a question that its passage does not answer"),
    "rejected_is_right": Reason("dropped", "response", "a rejected span that says what a right answer says"),
    "low_rating": Reason("dropped", "interaction", "rated below data.min_rating"),
    "repeated_interaction": Reason("dropped", "interaction", "the user had met the item before"),
    "rare_item": Reason("dropped", "interaction", "of an item that fewer than data.min_item_users users met"),
    "short_history": Reason("dropped", "interaction", "of a user who met fewer than data.min_user_items items"),
    "no_name": Reason("dropped", "row", "an item that data.names_path does not name"),
    "empty_after_cleaning": Reason("dropped", "row", "nothing is left of its prompt or of a response"),
    "equal_after_cleaning": Reason("dropped", "row", "both responses have become the same"),
    "repeated_row": Reason("dropped", "row", "another row that is kept says the same"),
    "nearly_repeated_row": Reason("dropped", "row", "another row that is kept says nearly the same"),
    "repeated_prompt": Reason("dropped", "row", "another row that is kept has the same prompt"),
    "nearly_repeated_prompt": Reason("dropped", "row", "another row that is kept has nearly the same prompt"),
    "held_out_prompt": Reason("dropped", "row", "a training row that asks what is held out"),
    "nearly_held_out_prompt": Reason("dropped", "row", "a training row that asks nearly what is held out"),
    "unmatched_length": Reason("dropped", "row", "a pair without one of the other direction to match its lengths"),
    "overflow": Reason("dropped", "row", "longer than data.max_length"),
    "overflow_dropped": Reason("dropped", "row", "longer than data.max_length"),
    "prompt_fills_length": Reason("dropped", "row", "the prompt alone leaves no room in data.max_length"),
    "zero_token_prompt": Reason("dropped", "row", "the prompt has no token"),
    "zero_token_response": Reason("dropped", "response", "the response has no token"),
    "eos_inside_response": Reason("dropped", "response", "an end-of-sequence token before the end"),
    "answer_cut": Reason("dropped", "response", "the span lies where the end of its passage was cut off"),
    "identical_after_encoding": Reason("dropped", "pair", "both responses have the same token ids"),
    "identical_after_cut": Reason("dropped", "pair", "both responses are the same up to where they were cut"),
    "prompt_cut": Reason("cut", "row", "the prompt was cut from the left"),
    "prompt_end_cut": Reason("cut", "row", "the prompt was cut from the right, since its responses take no room"),
    "response_cut": Reason("cut", "row", "a response was cut from the right and has no end-of-sequence token"),
    "score_against_pair": Reason("noted", "row", "a rejected response with a higher score than the chosen one"),
    "scores_of_a_tie": Reason("noted", "row", "chosen and rejected have the same score"),
    "probability_against_pair": Reason("noted", "row", "a pair whose chosen response wins with less than one half"),
    "prompt_in_validation": Reason("noted", "row", "training row whose prompt is in the validation file too"),
    "prompt_in_test": Reason("noted", "row", "training or validation row whose prompt is in the test file too"),
    "duplicate_judgement": Reason("noted", "judgement", "an earlier row says the same of the same responses"),
    "contradictory_judgement": Reason("noted", "judgement", "an earlier row says the opposite of the same responses"),
    "duplicate_demonstration": Reason("noted", "row", "an earlier row has the same prompt and response to imitate"),
    "contradictory_class": Reason("noted", "row", "an earlier row gives the same text another class"),
    "same_but_for_white_space": Reason("noted", "row", "two responses of a pair differ in nothing that is seen"),
    "label_swapped": Reason("noted", "judgement", "says the opposite, as data.label_noise asks for"),
    "word_for_missing": Reason(
        "noted", "row", "a text that is a word for a missing value alone: nan, None, [deleted], ..."
    ),
    "prompt_in_some": Reason(
        "noted", "row", "one response begins with the prompt and another does not: a loss learns the difference"
    ),
    "escaped_line_break": Reason("noted", "row", "a backslash and an n, as of a line break that was escaped twice"),
    "prompt_repeated": Reason("noted", "row", "every response begins with the prompt, which then stands there twice"),
    "turns_out_of_order": Reason(
        "noted",
        "row",
        "a chat prompt with two turns of one role in a row, a late system message or no turn of the user",
    ),
    "template_in_chat": Reason("noted", "row", "a chat message that holds the markup of a template, as '<|im_start|>'"),
    "chat_beside_text": Reason("noted", "row", "of the rarer kind, where some rows are chats and others plain text"),
    "replacement_character": Reason("noted", "row", "U+FFFD: text that was once read in a wrong encoding"),
    "mojibake": Reason("noted", "row", "UTF-8 that was once read as another encoding, as in 'cafÃ©'"),
    "control_character": Reason("noted", "row", "a control character inside of the text"),
    "byte_order_mark_inside": Reason("noted", "row", "a byte order mark (U+FEFF) inside of the text"),
    "animated_image": Reason("noted", "image", "an animation, of which the first frame is shown"),
    "image_colours": Reason("noted", "image", "other colours than RGB: converted, transparency laid over white"),
    "special_token_in_text": Reason("noted", "row", "text that the tokenizer reads as a special token"),
    "unknown_token": Reason(
        "noted", "row", "text that the tokenizer has no token for, so that the model cannot see it"
    ),
    "boundary_merge": Reason("noted", "response", "its first token would have merged with the end of the prompt"),
}
"""Every reason that can be counted. Of a row that has several faults, the first found counts."""
