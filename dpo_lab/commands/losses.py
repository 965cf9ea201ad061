"""`dpo-lab losses`: what every loss is, as a table, one in full with a picture, or as JSON."""

import itertools
import json
import os
import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from collections.abc import Iterable
from pathlib import Path

from rich.console import Console
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from dpo_lab.catalogue.docstring import Paper
from dpo_lab.catalogue.entry import KINDS, Entry, names, read_entries, read_entry, read_file, set_names
from dpo_lab.commands.completion import split_line
from dpo_lab.errors import UserError
from dpo_lab.needs import INGREDIENTS

# Columns of a terminal from which on the table also says what a loss is.
WIDE = 120
CITATION_WIDTH = 14
EXAMPLES = """\
dpo-lab losses                      a table of all losses
dpo-lab losses ipo                  one in full, with a picture in the terminal
dpo-lab losses trl_1_16/ipo         one with the arguments of another library
dpo-lab losses ipo --png ipo.png    its picture as a file; without a name, the pictures of all
dpo-lab losses --json               everything, for programs; docs/losses.md has the keys
"""


def main(argv: list[str]) -> int:
    """Show what `argv` asks for: ``[NAME] [--json] [--png FILE]``. 2 where there is no such loss or folder."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        return _complete()
    parser = ArgumentParser(
        "dpo-lab losses",
        description="What every loss is: formula, paper, arguments, needs, picture.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("name", nargs="?", metavar="NAME", help="a word of loss=NAME; without it, all of them")
    parser.add_argument("--json", action="store_true", help="JSON on stdout and nothing else")
    parser.add_argument("--png", type=Path, metavar="FILE", help="write the picture to FILE")
    args = parser.parse_args(argv)
    if args.png is not None and not args.png.absolute().parent.is_dir():
        raise UserError(f"--png {args.png}: no such folder: {args.png.parent}")
    entries = read_entries() if args.name is None else [read_entry(args.name)]
    if args.json:
        objects = [entry.to_json() for entry in entries]
        print(json.dumps(objects if args.name is None else objects[0], indent=2, ensure_ascii=False))
    elif args.name is None:
        show_table(entries, Console())
    else:
        show_entry(entries[0], Console())
    if args.png is not None:
        _draw(entries, args.png, is_one=args.name is not None)
        print(f"picture: {args.png}", file=sys.stderr)
    return 0


def show_table(entries: Iterable[Entry], console: Console) -> None:
    """Print a table for each kind of loss: above it what all of the kind need, in it what one needs beyond that."""
    by_kind = {kind: [entry for entry in entries if entry.kind == kind] for kind in KINDS}
    for kind, members in by_kind.items():
        if not members:
            continue
        shared = [need for need in INGREDIENTS if all(need in entry.needs for entry in members)]
        console.print(Text.assemble((f"\n{kind}", "bold"), (f"  need {', '.join(shared)}", "dim")))
        console.print(_table(members, shared, is_wide=console.width >= WIDE))
    _show_sets(console)
    console.print(Text("\none in full: dpo-lab losses NAME   for programs: --json   pictures: --png FILE", style="dim"))


def _table(members: list[Entry], shared: list[str], *, is_wide: bool) -> Table:
    table = Table(box=None, padding=(0, 1, 0, 0), header_style="dim", show_edge=False)
    table.add_column("loss", style="cyan", width=17, overflow="fold")
    table.add_column("arguments and their ranges", width=46 if is_wide else 30)
    table.add_column("also needs", width=15, overflow="fold")
    table.add_column("arXiv (eq.)", width=CITATION_WIDTH, overflow="fold")
    if is_wide:
        table.add_column("what it is", ratio=1)
    for entry in members:
        needs = [need for need in entry.needs if need not in shared]
        needs += ["whole batch"] if entry.objective.whole_batch else []
        cells = [
            entry.name,
            _argument_lines(entry),
            "\n".join(needs),
            "\n".join(map(_citation, entry.docstring.papers)),
        ]
        table.add_row(*cells, *([Text(entry.summary)] if is_wide else []))
    return table


def _show_sets(console: Console) -> None:
    """Print, a line for each other library, the names of its sets of arguments."""
    console.print(Text.assemble(("\nas other libraries have them", "bold"), ("  loss=LIBRARY/NAME", "dim")))
    table = Table(box=None, padding=(0, 1, 0, 0), show_header=False, show_edge=False)
    table.add_column(style="cyan", width=17)
    table.add_column()
    pairs = [name.split("/") for name in set_names()]
    for library, members in itertools.groupby(pairs, key=lambda pair: pair[0]):
        table.add_row(library, Text(", ".join(name for _, name in members)))
    console.print(table)


def _citation(paper: Paper) -> str:
    """The number, and the equation beside it where both fit into the column."""
    if not paper.equation:
        return paper.arxiv
    is_short = len(paper.arxiv) + len(paper.equation) + 3 <= CITATION_WIDTH
    return f"{paper.arxiv}{' ' if is_short else chr(10)}({paper.equation})"


def _argument_lines(entry: Entry) -> Text:
    lines = [
        Text.assemble(f"{argument.name}={argument.shown_default} ", (argument.short, "dim"))
        for argument in entry.arguments
    ]
    return Text("\n").join(lines)


def show_entry(entry: Entry, console: Console) -> None:
    """Print all that is known of one loss, and its picture."""
    docstring = entry.docstring
    console.print(Text.assemble((entry.name, "bold cyan"), f"  {entry.summary}"))
    console.print(Text(f"{entry.kind}" + "; compares items, sees the whole batch" * entry.objective.whole_batch, "dim"))
    if entry.name in set_names():
        body = "\n".join(line for line in read_file(entry.name).splitlines() if not line.startswith("#"))
        console.print(Padding(Text(body, "dim"), (1, 2, 0, 2)))
    console.print(Padding(Text(docstring.formula, "bold"), (1, 2)))
    for note in docstring.notes:
        console.print(Text(note), end="\n\n")
    arguments = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    for column in ("argument", "default", "allowed", "meaning"):
        arguments.add_column(column, style="cyan" if column == "argument" else "")
    for argument in entry.arguments:
        cells = (argument.name, argument.shown_default, argument.allowed, argument.meaning)
        arguments.add_row(*map(Text, cells))
    console.print(arguments)
    needs = Table(box=None, padding=(0, 2, 0, 0), header_style="dim")
    needs.add_column("needs", style="cyan")
    needs.add_column()
    for need in entry.needs:
        needs.add_row(need, Text(INGREDIENTS[need]))
    console.print(Padding(needs, (1, 0)))
    if entry.modifiers:
        remedy = f"loss=modified loss@loss.base={entry.name}"
        console.print(Text(f"takes modifiers ({', '.join(entry.modifiers)}): {remedy}"), end="\n\n")
    if docstring.returns:
        console.print(Text(f"gives {docstring.returns}"), end="\n\n")
    _show_picture(entry, console)


def _show_picture(entry: Entry, console: Console) -> None:
    # Here, since matplotlib takes a second that no table needs.
    from dpo_lab.catalogue.curves import compute_picture
    from dpo_lab.report.loss_picture import terminal_lines

    for line in terminal_lines(compute_picture(entry), min(console.width, 110)):
        console.print(line, no_wrap=True, crop=True)
    console.print(Text(f"\nas a file: dpo-lab losses {entry.name} --png {entry.name.replace('/', '_')}.png", "dim"))
    console.print(Text(f"to train:  dpo-lab train loss={entry.name}", "dim"))


def _draw(entries: list[Entry], path: Path, *, is_one: bool) -> None:
    from dpo_lab.catalogue.curves import compute_picture
    from dpo_lab.report.loss_picture import draw_gallery, draw_loss

    pictures = [compute_picture(entry) for entry in entries]
    if is_one:
        draw_loss(pictures[0], path)
    else:
        draw_gallery(pictures, path)


def _complete() -> int:
    """Names and flags that begin like the last word of the line; one line each."""
    words, is_typing = split_line(os.environ.get("COMP_LINE", ""))
    last = words[-1] if is_typing and words else ""
    print("\n".join(word for word in [*names(), *set_names(), "--json", "--png"] if word.startswith(last)))
    return 0
