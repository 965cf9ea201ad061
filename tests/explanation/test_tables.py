"""Tables of W&B: what stands in which cell, and what never goes there."""

import html
import re

import pytest

from dpo_lab.explanation.pieces import Piece
from dpo_lab.explanation.shown import (
    AttributionMethod,
    Measure,
    ShownAttribution,
    ShownClass,
    ShownResponse,
    Teller,
    Told,
)
from dpo_lab.explanation.tables import TOKEN_COLUMNS, side_by_side, token_rows, without_secrets


def text_of(cell: object) -> str:
    return html.unescape(re.sub(r"<[^>]*>", "", str(cell)))


def teller(name: str, *words: str) -> Teller:
    pieces = tuple(Piece(word, (0.5,), is_marked=place == 1) for place, word in enumerate(words))
    responses = (ShownResponse("chosen", "ab", pieces), ShownResponse("rejected", "cd", pieces[:1]))
    shares = tuple(ShownAttribution(side, "a <b>", (("text", pieces),), 1.0, -0.5, 0.25) for side in ("chosen",) * 2)
    told = Told("".join(words), responses, (), 0, shares)
    return Teller(name, Measure(True, 0.1), (told, None), AttributionMethod(True, "[MASK]", 5))


def test_a_row_a_prompt_and_a_cell_a_side():
    """Responses of one name share a cell; a run that cannot read a row has none in it."""
    columns, rows = side_by_side(["row 1", "row 2"], [teller("A", "x", "<y>"), teller("B", "z")])
    names = ["margin", "chosen", "rejected", "attribution: chosen"]
    assert columns == ["source", "prompt", *(f"{run}: {name}" for run in "AB" for name in names)]
    assert rows[0][:3] == ["row 1", "x<y>", 0.5] and rows[1] == ["row 2", None, *[None] * 8]
    assert text_of(rows[0][3]) == "sum +1.000x<y>" and "<y>" not in str(rows[0][3])
    assert text_of(rows[0][5]) == "a <b> +1.000, hidden -0.500, gap 2e-01x<y>" * 2
    assert str(rows[0][5]).count("<hr>") == 1 and str(rows[0][5]).count("border-bottom") == 2


def test_a_row_a_token_and_a_class():
    classes = Teller("B", Measure(True, 0.1), (Told("t", (), (ShownClass("sport", "chosen", 2.0, 0.5, 0.1),)), None))
    rows = token_rows(["row 1", "row 2"], [teller("A", "x", "y"), classes])
    assert [dict(zip(TOKEN_COLUMNS, row, strict=True))["what"] for row in rows] == [
        *["response"] * 3,
        *["attribution"] * 4,
        "class",
    ]
    assert rows[1] == ["A", "row 1", "response", "chosen", 1, "y", 0.5]
    assert rows[-1] == ["B", "row 1", "class", "chosen", 0, "sport", 2.0]


def test_a_secret_that_tokens_cut_up_goes_nowhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("MY_API_KEY", "correct-horse-battery")
    sent = without_secrets(teller("A", "say correct-", "horse-", "battery"))
    columns, rows = side_by_side(["row 1", "row 2"], [sent])
    everything = repr((columns, [[text_of(cell) for cell in row] for row in rows], token_rows(["1", "2"], [sent])))
    assert "horse" not in everything and "battery" not in everything and "say <redacted>" in everything
    told = sent.told[0]
    assert told is not None and told.margin == 1.0, "nothing of a value is lost"
