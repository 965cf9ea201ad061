"""Files that something is wrong with, and the words that the answer must have: the place, the column, the kind."""

import gzip
import json
from typing import Any, NamedTuple

import pyarrow
import pyarrow.parquet

GOOD = {"prompt": "What is it?", "chosen": "This.", "rejected": "That."}
USER = {"role": "user", "content": "Hi"}
ONE = {"role": "assistant", "content": "one"}
TWO = {"role": "assistant", "content": "two"}
CHAT = {"prompt": [USER], "chosen": [ONE], "rejected": [TWO]}
HUMAN = "\n\nHuman: Hi\n\nAssistant:"


class Bad(NamedTuple):
    """A file's name and content, words of the answer, and a value of ``data.columns``."""

    name: str
    content: bytes
    words: tuple[str, ...]
    columns: dict[str, str] | None = None


def lines(*rows: Any) -> bytes:
    return "".join(json.dumps(row) + "\n" for row in rows).encode()


def second(**changes: Any) -> bytes:
    """A good row, then one with `changes`."""
    return lines(GOOD, {**GOOD, "prompt": "And that?", **changes})


def without(column: str) -> bytes:
    return lines(GOOD, {name: value for name, value in GOOD.items() if name != column})


def parquet(table: pyarrow.Table) -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(table, sink)
    return sink.getvalue().to_pybytes()


def broken_parquet() -> bytes:
    """The second chosen is Latin-1."""
    texts = pyarrow.Array.from_buffers(
        pyarrow.string(),
        2,
        [None, pyarrow.py_buffer(b"\0\0\0\0\2\0\0\0\6\0\0\0"), pyarrow.py_buffer(b"yecaf\xe9")],
    )
    return parquet(pyarrow.table({"prompt": ["p", "q"], "chosen": texts, "rejected": ["a", "b"]}))


def twice_named() -> bytes:
    column = pyarrow.array(["a"])
    return parquet(pyarrow.Table.from_arrays([column, column, column], names=["prompt", "chosen", "chosen"]))


ROW_2 = "a.jsonl row 2"
CSV = b"prompt,chosen,rejected\n"

REFUSED: dict[str, Bad] = {
    # A column is missing, or has another name.
    "no chosen in one row": Bad("a.jsonl", without("chosen"), (ROW_2, "'chosen'", "missing_column", "has prompt, rej")),
    "no rejected in one row": Bad("a.jsonl", without("rejected"), (ROW_2, "column 'rejected'", "missing_column")),
    "no prompt in one row": Bad("a.jsonl", without("prompt"), (ROW_2, "no_prompt", "no prompt column")),
    "a typo": Bad("a.jsonl", lines({"prompt": "p", "chosen": "a", "rejectd": "b"}), ("{rejected: rejectd}", "nearest")),
    "a typo in one row": Bad(
        "a.jsonl",
        lines(GOOD, {"prompt": "p", "chosen": "a", "rejectd": "b"}),
        (ROW_2, "nearest is 'rejectd'", "rename it there: 'rejectd' to 'rejected'"),
    ),
    "capitals": Bad(
        "a.jsonl", lines({"Prompt": "p", "Chosen": "a", "Rejected": "b"}), ("{prompt: Prompt, chosen: Ch",)
    ),
    "stack exchange": Bad(
        "a.jsonl",
        lines({"qid": 1, "question": "p", "date": "d", "response_j": "a", "response_k": "b"}),
        ("data.columns={prompt: question, chosen: response_j, rejected: response_k}", "Columns found: qid, question"),
    ),
    "KTO with a completion": Bad(
        "a.jsonl", lines({"prompt": "p", "completion": "a", "label": True}), ("data.columns={response: completion}",)
    ),
    "KTO chats with a tag": Bad(
        "a.jsonl", lines({"messages": [USER, ONE], "kto_tag": True}), ("data.columns={label: kto_tag}",)
    ),
    "Alpaca": Bad(
        "a.json",
        json.dumps([{"instruction": "p", "input": "", "output": "a"}]).encode(),
        ("Columns found: instruction, input", "{prompt: instruction, response: output}", "imitate, with loss=sft"),
    ),
    "Dolly": Bad(
        "a.jsonl",
        lines({"instruction": "p", "context": "c", "response": "a", "category": "open_qa"}),
        ("data.columns={prompt: instruction}' (responses to imitate",),
    ),
    "prompt and completion": Bad(
        "a.jsonl", lines({"prompt": "p", "completion": "a"}), ("data.columns={response: completion}' (responses to",)
    ),
    "a label under another name": Bad(
        "a.jsonl",
        lines({"prompt": "p", "response": "a", "labl": False}),
        ("no column 'label'; the nearest is 'labl'", "whatever 'labl' says, take that column out", "{label: labl}'"),
    ),
    "a label under another name in one row": Bad(
        "a.csv.gz",
        gzip.compress(b"prompt,response,thumbs_up\np,a,\nq,b,1\n"),
        ("a.csv.gz row 3", "nearest is 'thumbs_up'", "rename it there: 'thumbs_up' to 'label'"),
    ),
    "a pair under other names beside a response": Bad(
        "a.jsonl",
        lines({"prompt": "p", "response": "a", "chosn": "a", "rejectd": "b"}),
        ("no column 'chosen'; the nearest is 'chosn'", "data.columns={chosen: chosn, rejected: rejectd}"),
    ),
    "rejected beside a response": Bad(
        "a.jsonl", lines({"prompt": "p", "response": "a", "rejected": "b"}), ("no column 'chosen'", "Columns found: pr")
    ),
    "a response without a prompt": Bad(
        "a.jsonl", lines({"quest": "p", "response": "a"}), ("no column 'prompt', which", "Our names are")
    ),
    "a chat to imitate that ends on the user": Bad(
        "a.jsonl", lines({"messages": [USER, ONE]}, {"messages": [USER, ONE, USER]}), (ROW_2, "ends_on_human_turn")
    ),
    "a ShareGPT chat that ends on the user": Bad(
        "a.jsonl",
        lines({"conversations": [USER, ONE]}, {"conversations": [USER]}),
        (ROW_2, "column 'chosen'", "'conversations' does not end on the assistant, to be imitated"),
    ),
    "an empty response to imitate": Bad(
        "a.jsonl", lines({"prompt": "p", "response": "a"}, {"prompt": "p", "response": " "}), (ROW_2, "empty_response")
    ),
    "a label that was left empty": Bad(
        "a.csv", b"prompt,response,label\np,a,1\nq,b,\n", ("row 3", "bad_label", "a file without that column")
    ),
    "Alpaca with a pair": Bad(
        "a.json",
        json.dumps([{"instruction": "p", "input": "", "output": "a", "chosen": "a", "rejected": "b"}]).encode(),
        ("data.columns={prompt: instruction}",),
    ),
    "a ranked list": Bad(
        "a.jsonl", lines({"instruction": "p", "output": ["a", "b"]}), ("{prompt: instruction, ranked: output}",)
    ),
    "a scored list": Bad(
        "a.jsonl",
        lines({"query": "p", "completions": ["a", "b"], "score": [1, 2]}),
        ("data.columns={prompt: query, responses: completions, scores: score}",),
    ),
    "two responses and an index": Bad(
        "a.jsonl",
        lines({"prompt": "p", "response_0": "a", "response_1": "b", "better_response_id": 1}),
        ("stands in better_response_id",),
    ),
    "a mapping to a column that is not there": Bad(
        "a.jsonl", lines({**GOOD, "questions": "p"}), ("no column 'question'", "'questions'"), {"prompt": "question"}
    ),
    "two of our names for one column": Bad(
        "a.jsonl", second(), ("'chosen' would be read twice, as chosen and as prompt",), {"prompt": "chosen"}
    ),
    "a mapping of a name that is not ours": Bad("a.jsonl", second(), ("data.columns maps promt",), {"promt": "x"}),
    "white space around a name": Bad(
        "a.csv", b"prompt, chosen, rejected\np,a,b\n", ('{chosen: " chosen", rejected: " rejected"}',)
    ),
    "a mapping that nothing needs": Bad(
        "a.jsonl", lines(GOOD), ("no column 'question'", "leave data.columns out"), {"prompt": "question"}
    ),
    "nothing that we know": Bad("a.jsonl", lines({"x": 1, "y": 2}), ("Columns found: x, y", "Our names are")),
    # A value is no text.
    "null": Bad("a.jsonl", second(chosen=None, rejected="b"), (ROW_2, "'chosen'", "null_value")),
    "a null prompt": Bad("a.jsonl", second(prompt=None), (ROW_2, "column 'prompt'", "null_value")),
    "a number": Bad("a.jsonl", second(rejected=4), (ROW_2, "column 'rejected'", "not_text", "int where", ": 4")),
    "a boolean": Bad("a.jsonl", second(chosen=True), (ROW_2, "column 'chosen'", "bool", "True")),
    "not a number": Bad("a.jsonl", second(prompt=float("nan")), (ROW_2, "column 'prompt'", "not_text", "nan")),
    "the file's own name in the message": Bad(
        "a.jsonl",
        lines({"question": "p", "chosen": "a", "rejected": "b"}, {"question": 3, "chosen": "a", "rejected": "b"}),
        (ROW_2, "column 'question'", "not_text"),
        {"prompt": "question"},
    ),
    "half a surrogate pair": Bad("a.jsonl", second(chosen="\ud83d"), (ROW_2, "'chosen'", "broken_unicode", "\\ud83d")),
    "chats as text": Bad(
        "a.jsonl", second(chosen=json.dumps([ONE])), (ROW_2, "'chosen'", "serialised_messages", "JSONL or Parquet")
    ),
    "chats as Python prints them": Bad("a.jsonl", second(prompt=str([USER])), (ROW_2, "serialised_messages")),
    # Nothing to learn from.
    "an empty response": Bad("a.jsonl", second(chosen=""), (ROW_2, "column 'chosen'", "empty_response", "''")),
    "white space for a response": Bad("a.jsonl", second(rejected=" \u00a0\n"), (ROW_2, "'rejected'", "empty_response")),
    "signs without a width for a response": Bad(
        "a.jsonl", second(chosen="\u200b\u200d\ufeff"), (ROW_2, "column 'chosen'", "empty_response")
    ),
    "no message": Bad(
        "a.jsonl", second(prompt=[USER], chosen=[], rejected=[TWO]), (ROW_2, "'chosen'", "empty_response")
    ),
    "an empty prompt": Bad("a.jsonl", second(prompt="\t"), (ROW_2, "column 'prompt'", "empty_prompt")),
    "chosen equals rejected": Bad("a.jsonl", second(chosen="That."), (ROW_2, "chosen_equals_rejected", "That.")),
    "equal scores": Bad(
        "a.jsonl",
        lines(GOOD, {"prompt": "p", "responses": ["a", "b"], "scores": [1, 1]}),
        (ROW_2, "'scores'", "no_pair"),
    ),
    "a score too few": Bad(
        "a.jsonl",
        lines(GOOD, {"prompt": "p", "responses": ["a", "b"], "scores": [1]}),
        (ROW_2, "'scores'", "bad_scores"),
    ),
    "a score of hundreds of digits": Bad(
        "a.jsonl", second(chosen_score=10**400, rejected_score=1), (ROW_2, "'chosen_score'", "bad_scores")
    ),
    "an unknown label": Bad(
        "a.jsonl",
        lines({"prompt": "p", "response": "a", "label": "good"}),
        ("row 1", "column 'label'", "bad_label", "'good'"),
    ),
    "a probability above one": Bad(
        "a.jsonl", second(probability=1.5), (ROW_2, "'probability'", "bad_probability", "1.5")
    ),
    # Prompts and chats.
    "two prompts in a transcript": Bad(
        "a.jsonl",
        lines(GOOD, {"chosen": HUMAN + " a", "rejected": "\n\nHuman: Ho\n\nAssistant: b"}),
        (ROW_2, "prompts_differ", "Hi", "against", "Ho"),
    ),
    "two prompts in conversations": Bad(
        "a.jsonl",
        lines(GOOD, {"chosen": [USER, ONE], "rejected": [{**USER, "content": "Ho"}, TWO]}),
        (ROW_2, "prompts_differ", "'user: Hi' against 'user: Ho'"),
    ),
    "a conversation with another beginning than the prompt": Bad(
        "a.jsonl", second(prompt="Ho", chosen=[USER, ONE], rejected=[USER, TWO]), (ROW_2, "'chosen'", "prompts_differ")
    ),
    "text against messages": Bad("a.jsonl", second(chosen=[ONE]), (ROW_2, "mixed_types", "rejected is text")),
    "text against messages, with a chat prompt": Bad(
        "a.jsonl", lines(CHAT, {**CHAT, "rejected": "two"}), (ROW_2, "mixed_types", "chosen is messages")
    ),
    "an unknown role": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "prompt": [{"role": "bot", "content": "x"}]}),
        (ROW_2, "'prompt'", "unknown_role", "bot"),
    ),
    "a message without a role": Bad(
        "a.jsonl", lines(CHAT, {**CHAT, "chosen": [{"content": "x"}]}), (ROW_2, "'chosen'", "bad_message", "content")
    ),
    "a text for a message": Bad("a.jsonl", lines(CHAT, {**CHAT, "chosen": ["x"]}), (ROW_2, "'chosen'", "bad_message")),
    "content in parts that no model reads": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "prompt": [{"role": "user", "content": [{"type": "audio", "audio": "hi.wav"}]}]}),
        (ROW_2, "'prompt'", "bad_message", "'audio'", "text, image and image_url"),
    ),
    "an image that is not there": Bad(
        "a.jsonl",
        second(images=["gone.png"]),
        (ROW_2, "'images'", "image_missing", "No such file", "data.image_folder"),
    ),
    "an image path that is none": Bad("a.jsonl", second(images="a\0b"), (ROW_2, "'images'", "image_missing")),
    "a number for an image": Bad("a.jsonl", second(images=[7]), (ROW_2, "'images'", "bad_image", "int where the path")),
    "an image path that leads elsewhere": Bad(
        "a.jsonl", second(images="../../secret.png"), (ROW_2, "'images'", "image_outside", "data.image_folder")
    ),
    "an absolute image path": Bad(
        "a.jsonl", second(image="/etc/hostname"), (ROW_2, "'image'", "image_outside", "/etc/hostname")
    ),
    "an image that is none": Bad(
        "a.jsonl", second(image="a.jsonl"), (ROW_2, "'image'", "bad_image", "no picture of a format", "a.jsonl")
    ),
    "an image by its address": Bad(
        "a.jsonl", second(image="https://example.org/a.png"), (ROW_2, "'image'", "bad_image", "fetch them first")
    ),
    "an image in a response": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "rejected": [{"role": "assistant", "content": [{"type": "image"}]}]}),
        (ROW_2, "'rejected'", "image_in_response"),
    ),
    "a place for an image, and no image": Bad(
        "a.jsonl",
        lines(CHAT, {**CHAT, "prompt": [{"role": "user", "content": [{"type": "image"}]}]}),
        (ROW_2, "'images'", "image_count", "0 images for 1 places"),
    ),
    "a chat that ends on the user": Bad(
        "a.jsonl", lines(CHAT, {**CHAT, "chosen": [ONE, USER]}), (ROW_2, "'chosen'", "ends_on_human_turn")
    ),
    "a prompt that ends on the assistant": Bad(
        "a.jsonl", lines(CHAT, {**CHAT, "prompt": [USER, ONE]}), (ROW_2, "'prompt'", "prompt_ends_on_assistant")
    ),
    "a transcript that ends on the human": Bad(
        "a.jsonl",
        lines(GOOD, {"chosen": HUMAN + " a\n\nHuman: b", "rejected": HUMAN + " c"}),
        (ROW_2, "'chosen'", "ends_on_human_turn"),
    ),
    # The file as such.
    "no row": Bad("a.jsonl", b"", ("a.jsonl has no row",)),
    "blank lines": Bad("a.jsonl", b"\n \n", ("has no row",)),
    "an empty list": Bad("a.json", b"[]", ("a.json has no row",)),
    "a header alone": Bad("a.csv", CSV, ("a.csv has no row",)),
    "an unknown ending": Bad("a.xlsx", b"x", ("ending that is not known", ".parquet")),
    "a broken line": Bad("a.jsonl", lines(GOOD) + b'{"prompt": "p", \n', (ROW_2, "broken_json", "near '{")),
    "a cut line": Bad("a.jsonl", second()[:-9], (ROW_2, "broken_json")),
    "two objects in a line": Bad("a.jsonl", lines(GOOD) + lines(GOOD)[:-1] + lines(GOOD), (ROW_2, "Extra data")),
    "single quotes": Bad("a.jsonl", lines(GOOD) + str(GOOD).encode(), (ROW_2, "broken_json", "double quotes")),
    "a list in a line": Bad("a.jsonl", lines(GOOD, [1]), (ROW_2, "not_an_object", "[1]")),
    "a key twice": Bad(
        "a.jsonl", lines(GOOD) + b'{"prompt": "p", "chosen": "a", "chosen": "b"}', (ROW_2, "duplicate_key")
    ),
    "a key twice inside": Bad(
        "a.json",
        b'[{"prompt": [{"role": "user", "content": "a", "content": "b"}]}]',
        ("row 1", "duplicate_key", "'content'"),
    ),
    "a number of thousands of digits": Bad(
        "a.jsonl", lines(GOOD) + b'{"x": ' + b"1" * 5000 + b"}", (ROW_2, "broken_json")
    ),
    "thousands of brackets": Bad("a.jsonl", lines(GOOD) + b"[" * 50_000, (ROW_2, "broken_json", "recursion")),
    "a cut list": Bad("a.json", json.dumps([GOOD]).encode()[:-9], ("a.json line 1", "end in the middle")),
    "a comma too many": Bad("a.json", b"[\n" + lines(GOOD)[:-1] + b",\n]", ("a.json line 3", "no JSON", "near")),
    "a list named .jsonl": Bad("a.jsonl", json.dumps([GOOD], indent=1).encode(), ("one JSON list", "ending .json")),
    "rows inside of an object": Bad("a.json", json.dumps({"data": [GOOD]}).encode(), ("inside of 'data'",)),
    "columns instead of rows": Bad("a.json", b'{"x": ["p"], "y": ["a"]}', ("list of objects, one a row",)),
    "Latin-1 in a line": Bad(
        "a.jsonl", lines(GOOD) + b'{"prompt": "caf\xe9"}', (ROW_2, "wrong_encoding", "0xe9", "caf")
    ),
    "Latin-1 in a CSV": Bad("a.csv", CSV + b"p,caf\xe9,b\n", ("a.csv line 2", "not UTF-8", "0xe9", "caf")),
    "UTF-16": Bad("a.jsonl", lines(GOOD).decode().encode("utf-16"), ("is UTF-16", "UTF-8")),
    "UTF-16 without a mark": Bad("a.jsonl", lines(GOOD).decode().encode("utf-16-le"), ("UTF-16 or UTF-32",)),
    "UTF-32": Bad("a.csv", CSV.decode().encode("utf-32"), ("is UTF-32",)),
    "a byte order mark between rows": Bad(
        "a.jsonl", lines(GOOD) + b"\xef\xbb\xbf" + lines(GOOD), (ROW_2, "byte order mark")
    ),
    "semicolons": Bad("a.csv", b"prompt;chosen;rejected\np;a;b\n", ("separated by ';'",)),
    "tabs": Bad("a.csv", b"prompt\tchosen\trejected\np\ta\tb\n", ("separated by '\\t'", ".tsv")),
    "a cell too few": Bad("a.csv", CSV + b"p,a,b\nq,a\n", ("a.csv row 3", "wrong_num_cells", "2 cells under 3", "q,a")),
    "a header in the middle": Bad("a.csv", CSV + b"p,a,b\n" + CSV, ("a.csv row 3", "repeated_header")),
    "an empty cell": Bad("a.csv", CSV + b"p,a,b\nq,,b\n", ("a.csv row 3", "column 'chosen'", "empty_response")),
    "an open quote": Bad("a.csv", CSV + b'p,"a,b\n', ("a.csv line 2", "no CSV", "quotes")),
    "a column twice": Bad("a.csv", b"prompt,chosen,chosen\np,a,b\n", ("names a column twice", "chosen")),
    "a Parquet column twice": Bad("a.parquet", twice_named(), ("names a column twice", "chosen")),
    "a cut Parquet file": Bad("a.parquet", parquet(pyarrow.table(GOOD_TABLE := {"prompt": ["p"]}))[:-9], ("Parquet",)),
    "Latin-1 in a Parquet file": Bad(
        "a.parquet", broken_parquet(), ("a.parquet row 2", "'chosen'", "wrong_encoding", "0xe9")
    ),
    "Parquet by another name": Bad("a.jsonl", parquet(pyarrow.table(GOOD_TABLE)), ("Parquet file by its content",)),
    "gzip by another name": Bad("a.jsonl", gzip.compress(lines(GOOD), mtime=0), ("gzip file by its content", ".gz")),
    "plain text by the name of gzip": Bad("a.jsonl.gz", lines(GOOD), ("no whole gzip file",)),
    "half a gzip file": Bad("a.jsonl.gz", gzip.compress(lines(GOOD) * 99, mtime=0)[:-9], ("no whole gzip file",)),
    "a web page": Bad("a.jsonl", b"<!DOCTYPE html>\n<html></html>", ("web page",)),
    "a pointer of Git LFS": Bad("a.parquet", b"version https://git-lfs.github.com/spec/v1\noid x\n", ("git lfs pull",)),
    "several kinds": Bad(
        "a.jsonl",
        lines(GOOD, {**GOOD, "chosen": ""}, {**GOOD, "chosen": None}, {**GOOD, "rejected": " "}) + b"{\n",
        (
            "4 rows cannot be used (2 empty_response,",
            "1 null_value",
            "1 broken_json",
            "row 2",
            "row 3",
            "row 4",
            "row 5",
        ),
    ),
}
"""What is refused, where ``data.on_problem`` is error."""
