"""`dpo-lab inspect`: rows as the model sees them."""

from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterator
from itertools import groupby
from typing import TYPE_CHECKING

from dpo_lab.errors import UserError

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

    from dpo_lab.audit.token_rows import ShownRow, ShownToken, Side

NUM_ROWS = 3
NUM_CUT_SHOWN = 12
NUM_ALIKE_SHOWN = 3
EXAMPLES = """\
dpo-lab inspect                                                      the embedded reviews, the tiny model's tokens
dpo-lab inspect data=files data.path=pairs.jsonl model=causal_lm model.path=MODEL num=5
dpo-lab inspect data=files data.path=pairs.jsonl model=causal_lm model.path=MODEL data.max_length=64

No weights are loaded. Colours are off where output is no terminal, and with NO_COLOR; then marks say the same.
"""
STYLES = {"context": ("dim", "dim"), "counted": ("bold green", "bold cyan"), "cut": ("strike red", "strike red")}
"""Of two neighbours, so that one sees where a token ends."""

MARKS = {"context": ("", "|"), "counted": ("[", "]"), "cut": ("{", "}")}
VISIBLE = {"\n": "⏎\n", "\t": "⇥", "\r": "␍"}


def main(argv: list[str]) -> int:
    """Show the first ``num`` training rows that `argv` composes. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.commands import hydra_entry

        return hydra_entry.complete(argv, verb="inspect")
    parser = ArgumentParser(
        "dpo-lab inspect",
        description="Rows as the model sees them: every token, what was cut, and what the loss counts.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "overrides",
        nargs="*",
        metavar="KEY=VALUE",
        help=f"as of dpo-lab train; and num=N, how many rows, else {NUM_ROWS}",
    )
    overrides = parser.parse_args(argv).overrides
    own = [override for override in overrides if not override.startswith("num=")]
    _inspect(own, _num([override for override in overrides if override.startswith("num=")]))
    return 0


def _num(given: list[str]) -> int:
    text = given[-1].partition("=")[2] if given else str(NUM_ROWS)
    if not text.isdecimal() or int(text) < 1:
        raise UserError(f"num: must be a whole number of at least 1, got {text!r}")
    return int(text)


def _inspect(overrides: list[str], num: int) -> None:
    from rich.console import Console

    from dpo_lab.assemble.encoding import build_encoding, build_source, build_view
    from dpo_lab.assemble.tokens import corpus
    from dpo_lab.audit.token_rows import show_row
    from dpo_lab.commands.compose import compose

    config = compose(overrides)
    source = build_source(config)
    view = build_view(config, source)
    encoding = build_encoding(config, corpus(source), source.classes)
    console = Console(highlight=False)
    has_color = console.color_system is not None and not console.no_color
    console.print(_legend(has_color), soft_wrap=True)
    for example in source.train[:num]:
        [encoded] = encoding.encode([example])
        row = show_row(
            example,
            encoded,
            encoding.tokenizer,
            max_length=source.max_length,
            on_overflow=source.on_overflow,
            end_id=encoding.end_id,
            view=view,
        )
        show(row, console, has_color=has_color, max_length=source.max_length)


def show(row: "ShownRow", console: "Console", *, has_color: bool, max_length: int) -> None:
    """Print one row: its place and lengths, what happened to it, then each side."""
    from rich.padding import Padding
    from rich.text import Text

    lengths = [len(side.tokens) - (0 if row.is_left_out else side.num("cut")) for side in row.sides]
    longest = lengths[0] + max(lengths[1:], default=0)
    console.print(Text(f"\n{row.source or 'a row'}: {longest} tokens, at most {max_length} fit", "bold"))
    for note in row.notes:
        console.print(Text(f"  {note}", "yellow"))
    for side in row.sides:
        console.print(Text(f"  {_describe(side, needs_end=row.needs_end)}"))
        console.print(Padding(_line(side.tokens, has_color=has_color), (0, 0, 0, 4), expand=False))


def _describe(side: "Side", *, needs_end: bool) -> str:
    counted, cut = side.num("counted"), side.num("cut")
    kept = len(side.tokens) - cut
    if cut == len(side.tokens):
        return f"{side.name}: {cut} tokens, left out"
    what = f"{counted} in the loss" if counted else "not in the loss"
    gone = f"; {cut} cut" if cut else ""
    ends = side.tokens[-1].is_special if side.tokens else False
    unended = "; does not end in a special token" if needs_end and counted and not cut and not ends else ""
    return f"{side.name}: {kept} tokens, {what}{gone}{unended}"


def _line(tokens: list["ShownToken"], *, has_color: bool) -> "Text":
    from rich.text import Text

    text = Text()
    for number, (token, num) in enumerate(_runs(_without_middle_of_cuts(tokens))):
        shown = "".join(VISIBLE.get(character, character) for character in token.text)
        shown = f"⟨{shown}⟩" if token.is_special else shown
        shown += f"*{num}" if num > 1 else ""
        if has_color:
            style = STYLES[token.state][number % 2]
            text.append(shown, f"{style} reverse" if token.is_special else style)
        else:
            before, after = MARKS[token.state]
            text.append(f"{before}{shown}{after}")
    return text


def _runs(tokens: list["ShownToken"]) -> Iterator[tuple["ShownToken", int]]:
    """Each token and 1; special ones that stand there many times in a row, as those of an image do, once."""
    for token, alike in groupby(tokens):
        num = len(list(alike))
        if token.is_special and num > NUM_ALIKE_SHOWN:
            yield token, num
        else:
            yield from [(token, 1)] * num


def _without_middle_of_cuts(tokens: list["ShownToken"]) -> list["ShownToken"]:
    """Of many tokens that were cut, those beside what was kept and the number of the others."""
    from dataclasses import replace

    cut = [index for index, token in enumerate(tokens) if token.state == "cut"]
    if len(cut) <= NUM_CUT_SHOWN:
        return tokens
    half = NUM_CUT_SHOWN // 2
    first, last = cut[half], cut[-half]
    more = replace(tokens[first], text=f" ... {last - first} more ... ", is_special=False)
    return [*tokens[:first], more, *tokens[last:]]


def _legend(has_color: bool) -> "Text":
    from rich.text import Text

    if has_color:
        return Text.assemble(
            ("read, not in the loss", "dim"),
            "  ",
            ("in ", "bold green"),
            ("the ", "bold cyan"),
            ("loss", "bold green"),
            "  ",
            ("cut", "strike red"),
            "  ",
            ("⟨special⟩", "reverse"),
        )
    return Text("token| read, not in the loss   [token] in the loss   {token} cut   ⟨token⟩ special   ⏎ line break")
