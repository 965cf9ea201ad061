"""Which names of a file's columns may stand for ours."""

import re
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches

NAMES: dict[str, tuple[str, ...]] = {
    "prompt": ("question", "instruction", "query", "user_prompt", "problem", "input", "context", "post"),
    "conversations": ("conversation", "dialogue", "dialog", "history"),
    "messages": ("conversation", "conversations", "dialogue", "dialog", "chat", "turns"),
    "chosen": (
        *("response_j", "chosen_response", "accepted", "preferred", "better", "best", "good", "winner", "win"),
        *("positive", "pos", "response_chosen", "answer_chosen", "preferred_response", "chosen_answer", "yw", "y_w"),
    ),
    "rejected": (
        *("response_k", "rejected_response", "dispreferred", "worse", "worst", "bad", "loser", "lose"),
        *("negative", "neg", "response_rejected", "answer_rejected", "rejected_answer", "yl", "y_l"),
    ),
    "responses": ("completions", "answers", "candidates", "generations", "outputs", "output"),
    "scores": ("score", "ratings", "rewards", "annotations"),
    "ranked": ("ranking", "ranked_responses", "ranked_answers", "output", "outputs", "answers"),
    "response": ("completion", "answer", "output", "generation", "text", "reply"),
    "images": ("image_path", "image_paths", "img", "picture", "photo"),
    "label": ("kto_tag", "labels", "desirable", "is_desirable", "thumbs_up", "liked"),
}
"""Our name -> names that published data sets give to the same thing, in lower case, the likeliest first."""

SCHEMAS: tuple[tuple[str, ...], ...] = (
    ("prompt", "chosen", "rejected"),
    ("chosen", "rejected"),
    ("prompt", "responses", "scores"),
    ("prompt", "response", "label"),
    ("messages", "label"),
    ("prompt", "ranked"),
    ("prompt", "response"),
    ("messages",),
)
"""What makes a row, the likeliest first; the last two are demonstrations."""

ELSEWHERE: tuple[tuple[frozenset[str], str], ...] = (
    (
        frozenset({"response_0", "response_1", "better_response_id"}),
        "Which response is better stands in better_response_id: write chosen = row[f'response_{better}'], and rejected "
        "the other one.",
    ),
    (
        frozenset({"human_ref_A", "human_ref_B", "labels"}),
        "Which answer is better stands in labels (1: human_ref_A): write chosen and rejected; prompt is history.",
    ),
    (
        frozenset({"conversation_a", "conversation_b", "winner"}),
        "Which conversation is better stands in winner: write chosen and rejected, and leave ties out.",
    ),
)
"""Columns of published data sets that no mapping makes readable, and what to do."""


def nearest_column(name: str, found: Iterable[str]) -> str | None:
    """The name in `found` that is most like `name`: the same in another spelling, one with its meaning, a typo.

    >>> nearest_column("chosen", ["Chosen ", "rejected"]), nearest_column("prompt", ["id", "question"])
    ('Chosen ', 'question')
    >>> nearest_column("rejected", ["id", "rejectd"]), nearest_column("prompt", ["id"])
    ('rejectd', None)
    """
    by_plain = {_plain(column): column for column in reversed([str(column) for column in found])}
    for candidate in (name, *NAMES.get(name, ())):
        if candidate in by_plain:
            return by_plain[candidate]
    close = get_close_matches(_plain(name), list(by_plain), n=1, cutoff=0.75)
    return by_plain[close[0]] if close else None


def mappings(found: Sequence[str]) -> list[dict[str, str]]:
    """Values of ``data.columns`` that make rows of these columns readable, as far as names tell; likeliest first.

    >>> mappings(["qid", "question", "response_j", "response_k"])[0]
    {'prompt': 'question', 'chosen': 'response_j', 'rejected': 'response_k'}
    """
    given = []
    for schema in SCHEMAS:
        mapping = _assign(schema, found)
        if mapping is not None and mapping not in given:
            given.append(mapping)
    return given


def as_override(mapping: Mapping[str, str]) -> str:
    """What to type.

    >>> print(as_override({"prompt": "my question"}))
    'data.columns={prompt: "my question"}'
    """
    pairs = ", ".join(f"{ours}: {_quoted(theirs)}" for ours, theirs in mapping.items())
    return f"'data.columns={{{pairs}}}'"


def _assign(schema: Sequence[str], found: Sequence[str]) -> dict[str, str] | None:
    mapping, left = {}, list(found)
    # A column that bears our own name is not given away to another.
    for ours in sorted(schema, key=lambda name: name not in found):
        theirs = ours if ours in left else nearest_column(ours, left)
        if theirs is None:
            return None
        left.remove(theirs)
        mapping[ours] = theirs
    return {ours: mapping[ours] for ours in schema if mapping[ours] != ours}


def _plain(name: str) -> str:
    return re.sub(r"[^a-z0-9]+", "_", name.strip().lower()).strip("_")


def _quoted(name: str) -> str:
    return name if re.fullmatch(r"[A-Za-z_][\w.-]*", name) else '"' + name.replace('"', '\\"') + '"'
