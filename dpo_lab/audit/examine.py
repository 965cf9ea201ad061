"""All questions to one data source; the answers as plain containers, ready for JSON."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from dpo_lab.audit.judged import JudgedPair, as_text, judged_pairs, labelled, prompt_ids
from dpo_lab.audit.lengths import longer_wins, summarize
from dpo_lab.audit.noise import estimate_noise
from dpo_lab.audit.surface import compare_labels, compare_pairs
from dpo_lab.audit.tokens import TokenView, boundaries, fitting
from dpo_lab.data.excerpt import around_difference, excerpt
from dpo_lab.data.judgement import Judgement
from dpo_lab.data.near_duplicates import SHINGLE, THRESHOLD, near_duplicates
from dpo_lab.data.source import DataSource
from dpo_lab.data.text_notes import with_images
from dpo_lab.types import Example

FORMAT = 1
NUM_SHOWN = 5


def examine(source: DataSource, tokens: TokenView | None, tokenizer: Any | None = None) -> dict[str, Any]:
    """Everything that `dpo-lab audit` knows of `source`.

    Args:
        tokens: as `look_at_tokens` gives it; None leaves out what needs a tokenizer.
        tokenizer: of transformers, for the comparison of texts tokenised together and apart.
    """
    examples = [example for examples in source.sets.values() for example in examples]
    pairs = list(judged_pairs(examples))
    report = source.report if tokens is None else source.report.merge(tokens.report)
    lengths = {"characters": _character_lengths(examples, pairs)}
    if tokens is not None:
        lengths["tokens"] = _token_lengths(tokens)
    return {
        "format": FORMAT,
        "fingerprint": source.fingerprint,
        "counts": _counts(source, examples, pairs),
        "report": report.as_dict(),
        "lengths": lengths,
        "surface": {"pairs": compare_pairs(pairs), "labels": compare_labels(list(labelled(examples)))},
        "noise": estimate_noise(examples),
        "near_duplicates": _near_duplicates(source),
        "repeated_responses": _repeated_responses(examples),
        "fitting": None if tokens is None else fitting(tokens, source.max_length),
        "boundaries": None if tokens is None else boundaries(tokens, tokenizer),
        "items": None if tokens is None else {name: len(data) for name, data in tokens.datasets.items()},
    }


def _counts(source: DataSource, examples: Sequence[Example], pairs: Sequence[JudgedPair]) -> dict[str, int]:
    return {
        "rows_read": source.report.num_read,
        "train": len(source.train),
        "validation": len(source.validation),
        **({"test": len(source.test)} if source.test else {}),
        "distinct_prompts": len(set(prompt_ids(examples))),
        "responses": sum(len(example.responses) for example in examples),
        "pairs": len(pairs),
        "labels": sum(len(example.labels or ()) for example in examples),
        "labels_desirable": sum(sum(example.labels or ()) for example in examples),
        "demonstrations": sum(Judgement.of(example).is_demonstration for example in examples),
        "lists": sum(len(example.responses) > 2 for example in examples),
        "chats": sum(not isinstance(example.prompt, str) for example in examples),
    }


def _character_lengths(examples: Sequence[Example], pairs: Sequence[JudgedPair]) -> dict[str, Any]:
    return _of_lengths(
        [len(as_text(example.prompt)) for example in examples],
        [[len(as_text(response)) for response in example.responses] for example in examples],
        examples,
        [pair.prompt_id for pair in pairs],
    )


def _token_lengths(tokens: TokenView) -> dict[str, Any]:
    ids = prompt_ids(tokens.examples)
    clusters = [ids[number] for number, example in enumerate(tokens.examples) for _ in example.pairs]
    return _of_lengths(
        [len(encoded.prompt) for encoded in tokens.encoded],
        [[len(response) for response in encoded.responses] for encoded in tokens.encoded],
        tokens.examples,
        clusters,
    )


def _of_lengths(
    prompts: Sequence[int], responses: Sequence[Sequence[int]], examples: Sequence[Example], clusters: Sequence[int]
) -> dict[str, Any]:
    """Chosen are preferred or desirable responses, rejected the others; of pairs each side of each pair.

    What was not judged is imitated as it stands.
    """
    chosen, rejected, imitated, better, worse = [], [], [], [], []
    for example, lengths in zip(examples, responses, strict=True):
        for index, label in Judgement.of(example).judged():
            (chosen if label else rejected).append(lengths[index])
        if Judgement.of(example).is_demonstration:
            imitated += lengths
        better += [lengths[a] for a, _ in example.pairs]
        worse += [lengths[b] for _, b in example.pairs]
    return {
        "prompt": summarize(prompts),
        "chosen": summarize(chosen),
        "rejected": summarize(rejected),
        "demonstration": summarize(imitated),
        "longer_wins": longer_wins(better, worse, clusters),
    }


def _near_duplicates(source: DataSource) -> dict[str, Any]:
    """Of distinct prompts, of distinct rows, and across the split."""
    examples = [example for examples in source.sets.values() for example in examples]
    prompts = [with_images(example.prompt) for example in examples]
    rows = ["\n".join([*map(as_text, e.responses), prompt]) for prompt, e in zip(prompts, examples, strict=True)]
    distinct = list(dict.fromkeys(prompts))
    groups = near_duplicates(distinct)
    group_of = {distinct[index]: number for number, group in enumerate(groups) for index in group}
    row_groups = near_duplicates(list(dict.fromkeys(rows)))
    return {
        "shingle_characters": SHINGLE,
        "threshold": THRESHOLD,
        "num_distinct_prompts": len(distinct),
        "num_prompt_groups": len(groups),
        "num_prompts_in_groups": sum(map(len, groups)),
        "largest_prompt_groups": [
            {"num": len(group), "example": around_difference(distinct[group[0]], distinct[group[1]])}
            for group in groups[:NUM_SHOWN]
        ],
        "num_equal_rows": len(rows) - len(set(rows)),
        "num_row_groups": len(row_groups),
        "num_rows_in_groups": sum(map(len, row_groups)),
        **_leaks(source, group_of),
    }


def _leaks(source: DataSource, group_of: Mapping[str, int]) -> dict[str, Any]:
    """Held-out rows whose prompt stands in training too; of a test also in validation, where choices are made."""
    found: dict[str, Any] = {}
    seen = [with_images(example.prompt) for example in source.train]
    for name, examples in list(source.sets.items())[1:]:
        prompts = [with_images(example.prompt) for example in examples]
        same, near = set(seen), {group_of.get(prompt, prompt) for prompt in seen}
        leaked = [
            example.source
            for example, prompt in zip(examples, prompts, strict=True)
            if group_of.get(prompt, prompt) in near
        ]
        found |= {
            f"num_{name}": len(examples),
            f"num_{name}_in_training": sum(prompt in same for prompt in prompts),
            f"num_{name}_near_training": len(leaked),
            "places" if name == "validation" else f"places_{name}": leaked[:NUM_SHOWN],
        }
        seen += prompts
    return found


def _repeated_responses(examples: Sequence[Example]) -> list[dict[str, Any]]:
    """Responses that answer several different prompts, the commonest first."""
    answered: dict[str, set[int]] = {}
    roles: Counter[tuple[str, int]] = Counter()
    for example, prompt_id in zip(examples, prompt_ids(examples), strict=True):
        texts = [as_text(response) for response in example.responses]
        for text in texts:
            answered.setdefault(text, set()).add(prompt_id)
        for index, label in Judgement.of(example).judged():
            roles[(texts[index], label)] += 1
    repeated = sorted((text for text in answered if len(answered[text]) > 1), key=lambda text: -len(answered[text]))
    return [
        {
            "text": excerpt(text),
            "num_prompts": len(answered[text]),
            "num_chosen": roles[(text, 1)],
            "num_rejected": roles[(text, 0)],
        }
        for text in repeated[:NUM_SHOWN]
    ]
