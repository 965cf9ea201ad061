"""`dpo-lab audit`: the whole picture of a data set, before anything is trained on it."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dpo_lab.data.source import DataSource

EXAMPLES = """\
dpo-lab audit                                              the embedded reviews
dpo-lab audit data=files data.path=pairs.jsonl             what needs no model
dpo-lab audit data=files data.path=pairs.jsonl model=causal_lm model.path=MODEL
                                                           with tokens: what does not fit, merges, special tokens
dpo-lab audit data=files data.path=pairs.jsonl --out DIR   writes there, and not to runs/.reports

Rows that cannot be used are counted, whatever data.on_problem says. No weights are loaded.
"""


def main(argv: list[str]) -> int:
    """Examine the data that `argv` composes; print the page, then the folder that holds it. 2 on unusable data."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.commands import hydra_entry

        return hydra_entry.complete(argv, verb="audit")
    parser = ArgumentParser(
        "dpo-lab audit",
        description="What data is like: counts, lengths, biases, noise, duplicates, leaks.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of dpo-lab train")
    parser.add_argument("--out", type=Path, metavar="DIR", help="folder to write to; else one under runs_dir/.reports")
    args = parser.parse_args(argv)
    return _audit(args.overrides, args.out)


def _audit(overrides: list[str], out: Path | None) -> int:
    from dpo_lab.assemble.encoding import build_encoding, build_source
    from dpo_lab.assemble.tokens import corpus
    from dpo_lab.audit.examine import examine
    from dpo_lab.audit.page import page
    from dpo_lab.audit.pictures import draw_audit
    from dpo_lab.audit.tokens import look_at_tokens
    from dpo_lab.commands.compose import compose

    config = compose(overrides)
    on_problem = config["data"].get("on_problem")
    source = build_source(config, on_problem="drop")
    tokens, tokenizer, encoding_id = None, None, None
    if names_a_model(overrides):
        encoding = build_encoding(config, corpus(source), source.classes)
        tokens = look_at_tokens(source, encoding.encode, encoding.end_id, encoding.special_tokens, encoding.unknown_id)
        # Classes, spans and items are no texts that could have been tokenised together with their prompt.
        tokenizer = None if encoding.end_id is None else encoding.tokenizer
        encoding_id = encoding.fingerprint
    audit = {
        "title": _title(config["data"]),
        "data": config["data"],
        "prepare": config.get("prepare", {}),
        "on_problem": on_problem,
        "encoding": encoding_id,
        **examine(source, tokens, tokenizer),
    }
    folder = out or Path(config["runs_dir"]).expanduser() / ".reports" / f"audit-{_identity(audit, source)}"
    folder.mkdir(parents=True, exist_ok=True)
    _write(audit, page(audit, draw_audit(audit, folder)), folder)
    print(page(audit))
    print(folder)
    return 0


def names_a_model(overrides: list[str]) -> bool:
    """Whether the command line says anything of the model."""
    keys = [override.lstrip("+").partition("=")[0] for override in overrides]
    return any(key == "model" or key.startswith("model.") for key in keys)


def _title(data: dict[str, Any]) -> str:
    path = data.get("path")
    if path is None:
        return str(data["_target_"]).rpartition(".")[2]
    return ", ".join(map(str, path)) if isinstance(path, list) else str(path)


def _identity(audit: dict[str, Any], source: "DataSource") -> str:
    """Of the data and of all that the numbers depend on: the same question to the same data has one folder."""
    import hashlib
    import json

    content = [audit["format"], audit["data"], source.fingerprint, source.report.as_dict(), audit["encoding"]]
    return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()[:12]


def _write(audit: dict[str, Any], text: str, folder: Path) -> None:
    import json

    from dpo_lab.whole_files import write_whole

    content = json.dumps(audit, indent=1, ensure_ascii=False, allow_nan=False)
    write_whole(folder / "audit.json", content.encode(errors="backslashreplace"))
    write_whole(folder / "audit.md", text.encode(errors="backslashreplace"))
    print(f"written: {folder}/audit.md, audit.json and pictures", file=sys.stderr)
