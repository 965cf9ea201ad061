"""The answers of `examine` as a page of Markdown that a terminal shows as well."""

from collections.abc import Iterable, Iterator, Sequence
from typing import Any

from dpo_lab.audit.findings import findings, percent, shown_share
from dpo_lab.data.report import DataReport

Audit = dict[str, Any]

NUM_FEATURES = 6
SIDES = ("prompt", "chosen", "rejected", "demonstration")
PREDICTORS = {"majority": "the commoner label", "length_only": "length", "all_features": "all surface features"}


def page(audit: Audit, pictures: Sequence[str] = ()) -> str:
    """Markdown; `pictures` are file names beside it."""
    sections = [
        _head(audit),
        _rows(audit),
        _lengths(audit),
        _surface(audit),
        _noise(audit["noise"]),
        _near_duplicates(audit),
        _tokens(audit),
    ]
    lines = [line for section in sections for line in (*section, "")]
    return "\n".join([*lines, *(f"![{name.removesuffix('.png')}]({name})" for name in pictures)]).rstrip() + "\n"


def _head(audit: Audit) -> Iterator[str]:
    yield f"# Audit of {audit.get('title', 'the data')}"
    yield ""
    yield "## What stands out"
    yield ""
    yield from [f"- {finding}" for finding in findings(audit)] or ["- nothing"]


def _rows(audit: Audit) -> Iterator[str]:
    counts = audit["counts"]
    yield "## Rows"
    yield ""
    yield from _table(("what", "number"), ((name.replace("_", " "), str(num)) for name, num in counts.items()))
    yield ""
    yield from (f"- {line}" for line in DataReport.from_dict(audit["report"]).lines())


def _lengths(audit: Audit) -> Iterator[str]:
    yield "## Lengths"
    for unit, lengths in audit["lengths"].items():
        sides = {side: lengths[side] for side in SIDES if lengths[side]["num"]}
        names = list(next(iter(sides.values()))["quantiles"]) if sides else []
        yield ""
        yield from _table(
            (unit, "number", "mean", *(_quantile(name) for name in names)),
            (
                (side, str(of["num"]), f"{of['mean']:.1f}", *(f"{value:.0f}" for value in of["quantiles"].values()))
                for side, of in sides.items()
            ),
        )
        won = lengths["longer_wins"]
        if won is not None:
            yield ""
            ties = f", ties ({won['num_ties']}) taken as half" if won["num_ties"] else ""
            yield f"The longer response wins in {shown_share(won['share'])} of pairs{ties}."


def _surface(audit: Audit) -> Iterator[str]:
    yield "## What the surface alone predicts"
    for kind, found in audit["surface"].items():
        if found is None:
            continue
        yield ""
        yield f"Accuracy on {kind} whose prompts were held out ({found['num_folds']} folds):"
        yield ""
        yield from _table(
            ("logistic regression on", "accuracy, 95 % interval"),
            ((text, shown_share(found[name])) for name, text in PREDICTORS.items() if found.get(name) is not None),
        )
        if found["single"]:
            yield ""
            yield from _table(
                ("feature", "chosen has more", "pairs that differ"),
                (
                    (one["feature"], shown_share(one), str(one["num_different"]))
                    for one in found["single"][:NUM_FEATURES]
                ),
            )
    if not any(audit["surface"].values()):
        yield ""
        yield "No estimate: too few pairs or labels of different prompts."
    if audit["repeated_responses"]:
        yield ""
        yield from _table(
            ("the same response to several prompts", "prompts", "chosen", "rejected"),
            (
                (f"`{one['text']}`", *(str(one[f"num_{name}"]) for name in ("prompts", "chosen", "rejected")))
                for one in audit["repeated_responses"]
            ),
        )


def _noise(noise: Audit) -> Iterator[str]:
    yield "## Label noise"
    yield ""
    if noise["disagreement"] is None:
        yield (
            f"No estimate: none of the {noise['num_judged']} pairs and responses was judged twice, so nothing could be "
            "contradicted."
        )
    else:
        estimate, low, high = noise["flipped"]
        yield (
            f"{noise['num_judged_again']} of {noise['num_judged']} pairs and responses were judged more than once, "
            f"{noise['num_contradicted']} of them in both ways. Two judgements disagree in "
            f"{shown_share(noise['disagreement'])}, which is what a share of {percent(estimate)} flipped judgements "
            f"({percent(low)} to {percent(high)}) gives. This rests on judgements that are independent: where a row "
            "was merely copied, the estimate is too low; where the pairs judged twice are the hard ones, too high."
        )
    if noise["declared"] is not None:
        yield ""
        yield f"By the probabilities of the data itself, {percent(noise['declared'])} of judgements are flipped."


def _near_duplicates(audit: Audit) -> Iterator[str]:
    found = audit["near_duplicates"]
    yield "## Near duplicates"
    yield ""
    yield (
        f"Jaccard similarity of at least {found['threshold']:g} on runs of {found['shingle_characters']} characters. "
        f"Prompts: {found['num_prompts_in_groups']} of {found['num_distinct_prompts']} distinct ones in "
        f"{found['num_prompt_groups']} groups. Rows: {found['num_rows_in_groups']} in {found['num_row_groups']} "
        f"groups, beside {found['num_equal_rows']} that are equal to an earlier one."
    )
    yield (
        f"Validation rows whose prompt stands in training too, or nearly: {found['num_validation_near_training']} of "
        f"{found['num_validation']}, {found['num_validation_in_training']} exactly" + _places(found["places"]) + "."
    )
    if "num_test" in found:
        yield (
            "Test rows whose prompt stands in training or validation too, or nearly: "
            f"{found['num_test_near_training']} of {found['num_test']}, {found['num_test_in_training']} exactly"
            + _places(found["places_test"])
            + "."
        )
    if found["largest_prompt_groups"]:
        yield ""
        yield from _table(
            ("prompts in a group", "two of them, from where they differ"),
            ((str(group["num"]), f"`{group['example']}`") for group in found["largest_prompt_groups"]),
        )


def _tokens(audit: Audit) -> Iterator[str]:
    yield "## Tokens"
    yield ""
    fits, boundary = audit["fitting"], audit["boundaries"]
    if fits is None:
        yield "Not looked at: name a model (`model=...`) for lengths in tokens, what does not fit, and merges."
        return
    rooms = ", ".join(f"{percent(float(room))}: {length}" for room, length in fits["length_for_share"].items())
    yield (
        f"Longer than data.max_length={fits['max_length']}: {fits['num_overlong']} of {fits['num']} rows; of "
        f"{fits['num_prompt_fills_length']} the prompt alone leaves no room. Cut to fit, "
        f"{fits['num_identical_if_cut']} pairs would be of equal responses. Lengths at which a share of rows fits "
        f"whole: {rooms}."
    )
    yield (
        f"A token would lie across the boundary of prompt and response in {boundary['num_merged']} of "
        f"{boundary['num']} rows; there the response is tokenised on its own."
    )
    if boundary["num_apart_differs"] is not None and boundary["num_text"]:
        yield (
            f"Tokenising prompt and response apart, as some libraries do, gives other tokens than together in "
            f"{boundary['num_apart_differs']} of {boundary['num_text']} rows of plain text."
        )
    items = audit["items"]
    test = f", {items['test']} test rows" if "test" in items else ""
    yield f"What a run sees: {items['train']} training and {items['validation']} validation rows{test}."


def _table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> Iterator[str]:
    """Columns padded to one width, so that the source reads like the table; the first is aligned left."""
    cells = [list(header), *([cell.replace("|", "\\|") for cell in row] for row in rows)]
    widths = [max(map(len, column)) for column in zip(*cells, strict=True)]
    for number, row in enumerate(cells):
        padded = [
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ]
        yield f"| {' | '.join(padded)} |"
        if number == 0:
            rules = ["-" * width if place == 0 else "-" * (width - 1) + ":" for place, width in enumerate(widths)]
            yield f"| {' | '.join(rules)} |"


def _quantile(name: str) -> str:
    return {"0": "min", "0.5": "median", "1": "max"}.get(name, f"{float(name):.0%}")


def _places(places: Sequence[str]) -> str:
    return f" (as {', '.join(places)})" if places else ""
