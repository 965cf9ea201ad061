"""``docs/losses.md``: every loss on one page, from docstrings and signatures alone."""

from collections.abc import Iterator, Sequence

import dpo_lab.catalogue
from dpo_lab.catalogue.arguments import Argument
from dpo_lab.catalogue.docstring import Paper
from dpo_lab.catalogue.entry import KINDS, Entry

PREFACE = """\
# Losses

This page is written by `python scripts/make_gallery.py` from the losses themselves. In a terminal: `dpo-lab losses`
for a table, `dpo-lab losses NAME` for one of them, `dpo-lab losses --json` for programs. The losses of other libraries,
`loss=LIBRARY/NAME`, have [a page of their own](compatibility.md).

## What they have in common

Every loss here is a function of log-probabilities: how likely the policy finds a response, mostly measured against
how likely a fixed reference finds it. Their difference, `log π(y|x) - log π_ref(y|x)`, is the log-ratio of a
response, in nats. The **margin** is the log-ratio of the chosen response minus that of the rejected one (without a
reference: the log-probability of one minus that of the other). Training is gradient descent on the loss, through
these log-probabilities, to the weights of the policy. No reward model is trained and nothing is sampled. More: [what
the numbers mean](preference_optimisation.md).

**beta** turns nats into reward: `beta * log-ratio` is the reward that a policy implies. A larger beta reaches the
margin that a loss is content with after fewer nats, so the policy stays closer to the reference; a smaller one lets
it go further. What a loss makes of beta beyond that is said below. A good beta for one loss says little about
another.

## What the picture shows

Above, the loss; below, the **gradient weight**: minus the derivative of the loss with respect to the margin, that is
how hard a gradient step pushes the two responses apart at that margin. Where it is 0 a pair no longer teaches
anything; where it is negative the loss pulls the responses together. The bold curve is the default; the pale one has
beta (or else gamma, or else weight) halved, the grey one doubled. The axis ends at 3 / beta nats, with the beta of the
first loss inside where a loss is made of others, or at 4 where there is no beta.

Each curve is the loss itself, called with three responses of one token each: chosen, rejected and one between them,
at B + m/2, B - m/2 and B nats under the policy and all at B under the reference, where m is the margin and B =
-(largest m + 1) / 2. Losses that differ only in how they treat lengths or tokens therefore look alike here. Further
ingredients: win probability 0.9, scores 4, 0 and 2, sequential KL of 2, 8 and 5 nats, collisions of B nats, an empty
state, the response between as the borrowed one.

![Loss and gradient weight of every loss](losses/gallery.png)
"""


def write_page(entries: Sequence[Entry]) -> str:
    """The Markdown of all `entries`, by kind."""
    parts = [PREFACE, _overview(entries)]
    for kind in KINDS:
        members = [entry for entry in entries if entry.kind == kind]
        if members:
            parts += [f"## {kind.capitalize()}\n", *(_section(entry) for entry in members)]
    return "\n".join([*parts, _schema()])


def _overview(entries: Sequence[Entry]) -> str:
    """All losses side by side, a row each."""
    rows = ["| loss | formula | arguments | needs | paper |", "|---|---|---|---|---|"]
    for entry in entries:
        arguments = "<br>".join(f"`{one.name}={one.shown_default}` {one.short}".strip() for one in entry.arguments)
        needs = ", ".join([*entry.needs, *(["whole batch"] if entry.objective.whole_batch else [])])
        papers = "<br>".join(_link(paper) for paper in entry.docstring.papers)
        link = f"[`{entry.name}`](#{entry.name})"
        rows.append("| " + " | ".join(map(_cell, (link, entry.docstring.formula, arguments, needs, papers))) + " |")
    return "## Side by side\n\n" + "\n".join(rows) + "\n"


def _section(entry: Entry) -> str:
    return "\n\n".join(_paragraphs(entry)) + "\n"


def _paragraphs(entry: Entry) -> Iterator[str]:
    yield f"### `{entry.name}`"
    yield entry.summary
    yield f"```text\n{entry.docstring.formula}\n```"
    needs = f"Needs {', '.join(f'`{need}`' for need in entry.needs)}."
    if entry.objective.whole_batch:
        needs += " Compares items: sees the whole batch of an optimizer step at once."
    if entry.modifiers:
        needs += f" Takes modifiers: `loss=modified loss@loss.base={entry.name}`."
    yield " ".join([*_papers(entry), needs])
    yield from entry.docstring.notes
    if entry.arguments:
        rows = [_row(argument) for argument in entry.arguments]
        yield "\n".join(["| argument | default | allowed | meaning |", "|---|---|---|---|", *rows])
    if entry.docstring.returns:
        yield f"Gives {entry.docstring.returns}"


def _papers(entry: Entry) -> Iterator[str]:
    for paper in entry.docstring.papers:
        word = "equations" if paper.equation and not paper.equation.isdigit() else "equation"
        yield f"{_link(paper)}, {word} {paper.equation}." if paper.equation else f"{_link(paper)}."


def _link(paper: Paper) -> str:
    return f"[arXiv {paper.arxiv}](https://arxiv.org/abs/{paper.arxiv})"


def _row(argument: Argument) -> str:
    cells = (f"`{argument.name}`", f"`{argument.shown_default}`", argument.allowed, argument.meaning)
    return "| " + " | ".join(map(_cell, cells)) + " |"


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


def _schema() -> str:
    """What the package's docstring says of the JSON."""
    text = dpo_lab.catalogue.__doc__ or ""
    return "## JSON\n\n" + text[text.index("The JSON of a loss") :].strip() + "\n"
