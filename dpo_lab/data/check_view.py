"""Whether data can feed an objective: asked of the examples as read, before anything heavy."""

from collections import Counter
from collections.abc import Callable, Sequence
from typing import NamedTuple

from dpo_lab.data.errors import DataError
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.report import DataReport
from dpo_lab.data.split import prompt_key
from dpo_lab.data.suggest import nearest_column
from dpo_lab.data.view import Kind, View
from dpo_lab.types import Example

_GIVES: dict[Kind, tuple[str, str]] = {
    "pairs": (
        "pairs of a better and a worse response",
        "Give chosen and rejected, responses with scores, or ranked; or choose a loss for what the data has.",
    ),
    "chosen": (
        "responses to imitate",
        "Give prompt and response, messages, chosen, or responses with label true.",
    ),
    "labels": (
        "responses judged as desirable or undesirable",
        "Give response with label, or chosen and rejected.",
    ),
    "lists": (
        "lists of responses with a known order",
        "Give ranked, responses with scores that differ, or chosen and rejected; or choose a loss that the best is "
        "enough for (loss=s_dpo), or one on pairs.",
    ),
}
_ASKED: dict[Kind, tuple[str, ...]] = {
    "pairs": ("pairs", "win_probability"),
    "chosen": ("chosen",),
    "labels": ("labels",),
    "lists": ("ranking",),
}
"""What makes an item be of that kind, as a loss asks for it."""
_OF_EACH = {
    "scores": (
        lambda example: example.scores,
        "give responses with scores, or chosen with chosen_score and rejected_score",
    ),
    "win_probability": (
        lambda example: example.win_probabilities,
        "give chosen and rejected with probability",
    ),
}


class _Reason(NamedTuple):
    unit: str
    what: str


_DEMONSTRATION = _Reason("row", "a response to imitate and no judgement")


def check_left(num_items: int, report: DataReport) -> None:
    """
    Raises:
        DataError: no training row is left to make an item of; with what became of them.
    """
    if num_items:
        return
    lost = [line for line in report.lines() if line.startswith(("dropped", "cut"))]
    raise DataError("\n  ".join(["No training row is left:", *(lost or ["there was none"])]))


def check_view(
    view: View,
    train: Sequence[Example],
    validation: Sequence[Example],
    test: Sequence[Example] = (),
    *,
    who_needs: Callable[[str], str] = lambda ingredient: "the loss",
    columns_not_read: Sequence[str] = (),
) -> list[str]:
    """Refuse data that cannot give what `view` wants; return a line about each group of rows that it leaves out.

    `who_needs` names, for what is refused, the loss that asks for an ingredient. `columns_not_read` are columns of the
    files in which the judgements that are lacking may stand under another name.

    Raises:
        DataError: where no row gives an item; where rows that do lack scores or probabilities; where all judged
            responses bear one label; where responses are to be borrowed and all training rows have one prompt.
    """
    lines: list[str] = []
    for examples, part in ((train, "training"), (validation, "validation"), (test, "test")):
        if not examples and part != "training":
            continue
        reasons = [_reason_left_out(example, view) for example in examples]
        used = [example for example, reason in zip(examples, reasons, strict=True) if reason is None]
        if not used:
            raise _nothing_error(view, part, examples, reasons, who_needs, columns_not_read)
        for name in sorted(_OF_EACH.keys() & view.wanted):
            _check_each(name, used, part, who_needs(name))
        lines += [f"{line}: left out" for line in _count(part, reasons)]
        lines += _check_variety(view, used, part, who_needs)
    return lines


def _reason_left_out(example: Example, view: View) -> _Reason | None:
    """Why `example` gives no item; None where it gives one."""
    judgement = Judgement.of(example)
    if judgement.is_demonstration and view.kind != "chosen":
        return _DEMONSTRATION
    if view.kind == "labels":
        return None if judgement.judged() else _Reason("row", "neither a label nor a pair")
    if view.kind == "chosen":
        return None if judgement.chosen() else _Reason("row", "undesirable responses only")
    if view.kind == "pairs" and judgement.pairs:
        return None
    if view.kind == "lists" and judgement.order(view.best_alone) is not None:
        return None
    if judgement.labels is not None and not judgement.pairs:
        return _Reason("row", "a single label")
    if view.kind == "pairs":
        return _Reason("row", "no pair")
    if judgement.ranking is not None and judgement.is_best_alone:
        return _Reason("list", "a known best and no complete order")
    if judgement.scores is not None and len(judgement.scores) > 1:
        return _Reason("list", "tied scores and no " + ("single best" if view.best_alone else "complete order"))
    return _Reason("row", "no order of responses")


def _count(part: str, reasons: Sequence[_Reason | None]) -> list[str]:
    counts = Counter(reason for reason in reasons if reason is not None)
    return [
        f"{num} {part} {unit} has {what}" if num == 1 else f"{num} {part} {unit}s have {what}"
        for (unit, what), num in counts.items()
    ]


def _nothing_error(
    view: View,
    part: str,
    examples: Sequence[Example],
    reasons: Sequence[_Reason | None],
    who_needs: Callable[[str], str],
    columns_not_read: Sequence[str],
) -> DataError:
    what, fix = _GIVES[view.kind]
    # An item is pairs also where a win probability alone is asked for.
    who = who_needs(next((need for need in _ASKED[view.kind] if need in view.wanted), ""))
    found = "; ".join(_count(part, reasons))
    at = f" (the first at {examples[0].source})" if examples and examples[0].source else ""
    if _DEMONSTRATION in reasons:
        fix += _unjudged_fix(view.kind, columns_not_read)
    if part != "training":
        key = f"data.{part}_fraction"
        fix += f" Of too few {part} rows, draw more ({key}) or none ({key}=0)."
    return DataError(f"{who} needs {what}, and no {part} row gives one: {found or 'there is no row'}{at}. {fix}")


def _unjudged_fix(kind: Kind, columns_not_read: Sequence[str]) -> str:
    """For rows without any judgement: where it may stand, and what can be done without one."""
    fix = " Or imitate the responses, with loss=sft."
    if columns_not_read:
        asked = ("label",) if kind == "labels" else ("ranked", "responses", "scores")
        fix += f" Columns that nothing reads: {', '.join(map(repr, columns_not_read))}"
        near = {ours: nearest_column(ours, columns_not_read) for ours in ("chosen", "rejected", *asked)}
        like = [f"{theirs!r} for {ours}" for ours, theirs in near.items() if theirs is not None]
        fix += f" (perhaps {', '.join(like)})" if like else ""
        fix += "; a judgement in one of them is read by data.columns='{OUR_NAME: COLUMN}'."
    return fix


def _check_each(name: str, used: Sequence[Example], part: str, who: str) -> None:
    read: Callable[[Example], object]
    read, fix = _OF_EACH[name]
    lacking = [example for example in used if read(example) is None]
    if lacking:
        at = f", the first at {lacking[0].source}" if lacking[0].source else ""
        have = "has" if len(lacking) == 1 else "have"
        raise DataError(
            f"{who} needs {name}: {len(lacking)} of {len(used)} {part} rows {have} none{at}. "
            f"For every row {fix} (data.columns maps other names), or choose a loss that does not need {name}."
        )


def _check_variety(view: View, used: Sequence[Example], part: str, who_needs: Callable[[str], str]) -> list[str]:
    """Both labels, where single labels are wanted; two prompts, where responses are borrowed."""
    lines = []
    if view.kind == "labels":
        nums = Counter(label for example in used for _, label in Judgement.of(example).judged())
        if len(nums) < 2:
            ((label, num),) = nums.items()
            there, gone = ("desirable", "undesirable") if label == 1 else ("undesirable", "desirable")
            what = f"all {num} judged {part} responses are {there}"
            if part == "training":
                raise DataError(
                    f"{who_needs('labels')} needs desirable and undesirable responses: {what}, and none is {gone}. "
                    f"Add rows with label {'false' if label == 1 else 'true'}, or imitate with loss=sft."
                )
            lines.append(what)
    if "drift" in view.wanted and len({prompt_key(example.prompt) for example in used}) < 2:
        what = f"all {len(used)} {part} rows answer one prompt"
        if part == "training":
            raise DataError(
                f"{who_needs('drift')} needs responses to other prompts (drift): {what}. Add rows with another "
                "prompt, or choose a loss without drift."
            )
        lines.append(f"{what}: no response can be borrowed")
    return lines
