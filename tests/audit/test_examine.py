"""The whole audit of small data, and the page and pictures made of it."""

import json
from pathlib import Path

from dpo_lab.audit.examine import examine
from dpo_lab.audit.findings import findings
from dpo_lab.audit.page import page
from dpo_lab.audit.pictures import draw_audit
from dpo_lab.audit.tokens import look_at_tokens
from dpo_lab.data.files import files
from dpo_lab.data.reviews import reviews
from dpo_lab.model.text_encoding import TextEncoder
from dpo_lab.model.tiny import train_tokenizer

QUESTION = "What would you say about the {n}th of the many things that one could ask about, and why is that?"


def write(rows: list[dict]) -> str:
    Path("a.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return "a.jsonl"


def test_everything_that_was_planted_is_found():
    """Chosen ends on a mark; row 1 is denied by row 41; validation has a question of training but for a word."""
    rows = [
        {"prompt": f"{n} {n * 7919} is a number?", "chosen": f"It is {n}!", "rejected": f"It is {n + 1}", "id": n}
        for n in range(40)
    ]
    rows.append({**rows[0], "chosen": rows[0]["rejected"], "rejected": rows[0]["chosen"]})
    rows.append({"prompt": QUESTION.format(n=3), "chosen": "This!", "rejected": "That"})
    Path("v.jsonl").write_text(json.dumps({"prompt": QUESTION.format(n=4), "chosen": "a!", "rejected": "b"}) + "\n")
    audit = examine(files(path=write(rows), validation_path="v.jsonl"), None)
    assert audit["counts"]["pairs"] == 43
    assert audit["noise"]["num_contradicted"] == 1
    assert audit["near_duplicates"]["num_validation_near_training"] == 1
    assert audit["near_duplicates"]["num_validation_in_training"] == 0
    assert audit["near_duplicates"]["places"] == ["v.jsonl row 1"]
    said = "\n".join(findings(audit))
    for words in (
        "contradictory_judgement",
        "columns that nothing reads: id",
        "'exclamation marks' is larger in chosen",
    ):
        assert words in said
    assert "can be had without reading" in said
    assert audit["fitting"] is None and "Not looked at: name a model" in page(audit)


def test_page_and_pictures_with_tokens(workplace: Path):
    source = reviews(num_pairs=60, num_validation_pairs=10, num_demonstrations=1)
    tokenizer = train_tokenizer([text for e in source.train for text in e.responses if isinstance(text, str)], 300)
    encoder = TextEncoder(tokenizer)
    audit = examine(source, look_at_tokens(source, encoder.encode, encoder.end_id, ()), tokenizer)
    assert json.loads(json.dumps(audit, allow_nan=False)) == audit
    names = draw_audit(audit, workplace)
    assert names == ["lengths.png", "surface.png"]
    assert all((workplace / name).stat().st_size > 1000 for name in names)
    text = page(audit, names)
    for words in (
        "![lengths](lengths.png)",
        "| tokens",
        "What a run sees: 60 training and 10 validation rows.",
        "By the prob",
    ):
        assert words in text
    # Every table is whole: as many cells in each of its lines.
    for block in text.split("\n\n"):
        if block.startswith("|"):
            assert len({line.replace("\\|", "").count("|") for line in block.splitlines()}) == 1


def test_data_without_pairs():
    rows = [{"prompt": f"p{n}", "response": f"r{n}" + "!" * (n % 2), "label": n % 2} for n in range(30)]
    audit = examine(files(path=write(rows), validation_fraction=0.0), None)
    assert (audit["counts"]["pairs"], audit["counts"]["labels"], audit["counts"]["labels_desirable"]) == (0, 30, 15)
    assert audit["lengths"]["characters"]["longer_wins"] is None
    assert audit["surface"]["labels"]["all_features"]["estimate"] == 1.0
    assert "the commoner label" in page(audit)
    assert draw_audit(audit, Path()) == ["lengths.png"]


def test_responses_that_answer_everything():
    rows = [{"prompt": f"p{n}", "chosen": "I cannot say.", "rejected": f"r{n}"} for n in range(3)]
    audit = examine(files(path=write(rows), validation_fraction=0.0), None)
    assert audit["repeated_responses"] == [
        {"text": "'I cannot say.'", "num_prompts": 3, "num_chosen": 3, "num_rejected": 0}
    ]
