"""Explanations as tables of W&B: a row a token, to sort and to filter, and a row a prompt, to read side by side."""

from collections.abc import Sequence
from dataclasses import replace

from markupsafe import escape

from dpo_lab.explanation.pieces import Piece
from dpo_lab.explanation.shown import Teller, Told, signed
from dpo_lab.logger.wandb_afterwards import HtmlCell
from dpo_lab.run.redaction import redact_text

Row = list[str | int | float | None]

TOKEN_COLUMNS = ("run", "source", "what", "response", "place", "text", "value")

UP, DOWN = "38,110,190", "225,115,20"
"""Blue and orange of the page. A cell is a page of its own, on white."""


def without_secrets(teller: Teller) -> Teller:
    """What may go to W&B. A secret that several tokens make up is seen only in all of them together: there stands one
    piece then."""
    return replace(teller, told=tuple(None if told is None else _cleaned(told) for told in teller.told))


def _cleaned(told: Told) -> Told:
    return replace(
        told,
        prompt=redact_text(told.prompt),
        responses=tuple(replace(one, pieces=_clean_pieces(one.pieces)) for one in told.responses),
        classes=tuple(replace(one, text=redact_text(one.text)) for one in told.classes),
        attributions=tuple(
            replace(
                one,
                response=redact_text(one.response),
                parts=tuple((name, _clean_pieces(pieces)) for name, pieces in one.parts),
            )
            for one in told.attributions
        ),
    )


def _clean_pieces(pieces: tuple[Piece, ...]) -> tuple[Piece, ...]:
    text = "".join(piece.text for piece in pieces)
    cleaned = redact_text(text)
    return pieces if cleaned == text else (Piece(cleaned, (sum(piece.value for piece in pieces),)),)


def token_rows(sources: Sequence[str], tellers: Sequence[Teller]) -> list[Row]:
    """Rows of `TOKEN_COLUMNS`, one a token of a response, a class, or a token of a text that is attributed."""
    rows: list[Row] = []
    for teller in tellers:
        for source, told in zip(sources, teller.told, strict=True):
            if told is None:
                continue
            said = [("response", response.name, response.pieces) for response in told.responses]
            said += [("attribution", one.name, one.pieces) for one in told.attributions]
            for what, name, pieces in said:
                for place, piece in enumerate(pieces):
                    rows.append([teller.name, source, what, name, place, piece.text, piece.value])
            for place, one in enumerate(told.classes):
                rows.append([teller.name, source, "class", one.role, place, one.text, one.value])
    return rows


def side_by_side(sources: Sequence[str], tellers: Sequence[Teller]) -> tuple[list[str], list[Row]]:
    """Columns and rows: a row a prompt, a cell of coloured text for each response of each run, and its margin."""
    found = [[_cells(told, teller) if told is not None else {} for told in teller.told] for teller in tellers]
    columns, rows = ["source", "prompt"], [[source, _prompt(tellers, at)] for at, source in enumerate(sources)]
    for number, (teller, cells) in enumerate(zip(tellers, found, strict=True)):
        same = sum(other.name == teller.name for other in tellers[:number])
        prefix = f"{teller.name}{f' ({same + 1})' if same else ''}: " if len(tellers) > 1 else ""
        names = dict.fromkeys(name for of_row in cells for name in of_row)
        columns += [prefix + name for name in names]
        for row, of_row in zip(rows, cells, strict=True):
            row += [of_row.get(name) for name in names]
    return columns, rows


def _prompt(tellers: Sequence[Teller], at: int) -> str | None:
    return next((told.prompt for told in (teller.told[at] for teller in tellers) if told is not None), None)


def _cells(told: Told, teller: Teller) -> dict[str, str | float | None]:
    """One a column. Responses of one name share a cell."""
    texts: dict[str, list[str]] = {}
    for response in told.responses:
        head = f"sum {signed(response.total)}"
        texts.setdefault(response.name, []).append(_headed(head, _coloured(response.pieces, teller.scale)))
    for one in told.attributions:
        head = f"{one.response} {signed(one.at_text)}, hidden {signed(one.at_baseline)}, gap {one.gap:.0e}"
        parts = [(name, _coloured(pieces, teller.attribution_scale)) for name, pieces in one.parts]
        told_parts = [_headed(name, text) if len(parts) > 1 else text for name, text in parts]
        texts.setdefault(f"attribution: {one.name}", []).append(_headed(head.strip(), "".join(told_parts)))
    cells: dict[str, str | float | None] = {"margin": told.margin} if told.margin is not None else {}
    if told.classes:
        lines = [Piece(f"{signed(one.value)} {one.text} {one.role}".strip(), (one.value,)) for one in told.classes]
        cells["classes"] = _html(["".join(_coloured([line], teller.scale) for line in lines)])
    return cells | {name: _html(same) for name, same in texts.items()}


def _html(texts: Sequence[str]) -> HtmlCell:
    return HtmlCell(
        '<meta charset="utf-8"><div style="font:14px/1.6 sans-serif;color:#1c1e21;background:#fff">'
        + "<hr>".join(texts)
        + "</div>"
    )


def _headed(head: str, text: str) -> str:
    return f'<div style="color:#5c6370;font-size:12px">{escape(head)}</div>{text}'


def _coloured(pieces: Sequence[Piece], scale: float) -> str:
    spans = []
    for piece in pieces:
        strength = 0.62 * min(abs(piece.value) / scale, 1.0)
        colour = f"background:rgba({UP if piece.value > 0 else DOWN},{strength:.2f})"
        mark = ";border-bottom:2px solid #1c1e21" if piece.is_marked else ""
        spans.append(f'<span style="{colour}{mark}" title="{signed(piece.value)}">{escape(piece.text)}</span>')
    return f'<div style="white-space:pre-wrap">{"".join(spans)}</div>'
