"""What of an audit a reader has to know first."""

from collections.abc import Iterator
from typing import Any

from dpo_lab.data.reasons import REASONS, UNUSABLE

Audit = dict[str, Any]

GIVEN_AWAY = 0.8
"""Accuracy of surface features from which on judgements can be had without reading."""

NOT_SPECIAL = {"boundary_merge", "repeated_response"}
"""Counted, and said where they belong."""


def findings(audit: Audit) -> list[str]:
    """One sentence each, the gravest first."""
    return [*_of_rows(audit), *_of_surface(audit), *_of_noise(audit), *_of_leaks(audit), *_of_tokens(audit)]


def percent(share: float) -> str:
    """
    >>> percent(0.0004), percent(0.123), percent(1.0)
    ('0.04 %', '12.3 %', '100 %')
    """
    return f"{100 * share:.3g} %"


def shown_share(share: dict[str, Any]) -> str:
    """
    >>> shown_share({"estimate": 0.5, "low": 0.4, "high": 0.6, "num": 100})
    '50.0 % (40.0 to 60.0)'
    """
    return f"{100 * share['estimate']:.1f} % ({100 * share['low']:.1f} to {100 * share['high']:.1f})"


def _of_rows(audit: Audit) -> Iterator[str]:
    report = audit["report"]
    num_unusable = sum(num for reason, num in report["dropped"].items() if reason in UNUSABLE)
    if num_unusable and audit.get("on_problem") == "error":
        rows = "1 row" if num_unusable == 1 else f"{num_unusable} rows"
        yield f"a run stops here: {rows} cannot be used; data.on_problem=drop leaves them out"
    for effect in ("dropped", "noted"):
        for reason, num in sorted(report[effect].items(), key=lambda item: -item[1]):
            if reason in NOT_SPECIAL:
                continue
            unit = REASONS[reason].unit + "s" * (num != 1)
            yield f"{num} {unit} {effect}: {REASONS[reason].text} [{reason}]"
    if report["columns_not_read"]:
        yield f"columns that nothing reads: {', '.join(report['columns_not_read'])}"


def _of_surface(audit: Audit) -> Iterator[str]:
    for kind, found in audit["surface"].items():
        if found is None:
            continue
        chance = found["majority"]["high"] if found.get("majority") else 0.5
        for name, text in (("length_only", "length"), ("all_features", "what shows on the surface")):
            score = found[name]
            if score is None or score["low"] <= chance:
                continue
            grave = ", so that the judgements can be had without reading" if score["low"] >= GIVEN_AWAY else ""
            yield f"{text} alone predicts {shown_share(score)} of held-out {kind}{grave}"
        for one in found["single"]:
            if max(one["estimate"], 1 - one["estimate"]) >= GIVEN_AWAY:
                side = "chosen" if one["estimate"] > 0.5 else "rejected"
                yield f"'{one['feature']}' is larger in {side} in {percent(max(one['estimate'], 1 - one['estimate']))}"


def _of_noise(audit: Audit) -> Iterator[str]:
    noise = audit["noise"]
    if noise["num_contradicted"]:
        estimate, low, high = noise["flipped"]
        yield (
            f"{noise['num_contradicted']} of {noise['num_judged_again']} pairs and responses judged more than once are "
            f"contradicted: about {percent(estimate)} of judgements are flipped ({percent(low)} to {percent(high)})"
        )


def _of_leaks(audit: Audit) -> Iterator[str]:
    found = audit["near_duplicates"]
    if found["num_validation_near_training"]:
        yield (
            f"{found['num_validation_near_training']} of {found['num_validation']} validation rows have a prompt that "
            f"stands in training too, or nearly ({found['num_validation_in_training']} exactly)"
        )
    if found.get("num_test_near_training"):
        yield (
            f"{found['num_test_near_training']} of {found['num_test']} test rows have a prompt that stands in training "
            f"or validation too, or nearly ({found['num_test_in_training']} exactly)"
        )
    if found["num_prompts_in_groups"]:
        yield f"{found['num_prompts_in_groups']} prompts are near duplicates of another"


def _of_tokens(audit: Audit) -> Iterator[str]:
    fits, boundary = audit["fitting"], audit["boundaries"]
    if fits is None:
        return
    if fits["num_overlong"]:
        yield f"{fits['num_overlong']} of {fits['num']} rows are longer than data.max_length={fits['max_length']}"
    if fits["num_identical_if_cut"]:
        yield f"{fits['num_identical_if_cut']} pairs would be of equal responses if cut (data.on_overflow=truncate)"
    if boundary["num_merged"]:
        yield f"in {boundary['num_merged']} of {boundary['num']} rows a token would lie across prompt and response"
    if boundary["num_apart_differs"]:
        yield (
            f"tokenised apart, {boundary['num_apart_differs']} of {boundary['num_text']} rows have other tokens than "
            "together: numbers of libraries that do so will differ"
        )
