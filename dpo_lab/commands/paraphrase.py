"""`dpo-lab paraphrase`: training texts in other words, by a model that you name, for ``prepare=[paraphrases]``."""

import sys
from argparse import ArgumentParser, RawDescriptionHelpFormatter
from pathlib import Path

from dpo_lab.errors import UserError

INSTRUCTION = (
    "Say the following in other words, with the same meaning. Write nothing else.\n\n{text}\n\nIn other words:\n"
)

EXAMPLES = """\
dpo-lab paraphrase --out other_words.json data=files data.path=pairs.jsonl model=causal_lm model.path=MODEL
dpo-lab paraphrase --out other_words.json --of responses --num 4 data=files data.path=pairs.jsonl \\
                   model=seq2seq model.path=MODEL --instruction 'paraphrase: {text}'
dpo-lab train data=files data.path=pairs.jsonl 'prepare=[paraphrases]' prepare.paraphrases.path=other_words.json

KEY=VALUE are those of dpo-lab train; the model of a run is model.path=RUN/model. Texts are those of training rows
alone, after the steps before the split. Whether a paraphrase means the same nobody checks: read some before you train
on them.
"""


def main(argv: list[str]) -> int:
    """Write the file that `argv` asks for and print its name. 2 on what the user can mend."""
    if argv[:1] in (["-sc"], ["--shell-completion"]):
        from dpo_lab.commands import hydra_entry

        return hydra_entry.complete(argv, verb="paraphrase")
    parser = ArgumentParser(
        "dpo-lab paraphrase",
        description="Training texts in other words, drawn from a model, as a file with its provenance.",
        epilog=EXAMPLES,
        formatter_class=RawDescriptionHelpFormatter,
    )
    parser.add_argument("overrides", nargs="*", metavar="KEY=VALUE", help="as of dpo-lab train: data, model, trainer")
    parser.add_argument("--out", type=Path, required=True, metavar="FILE", help="the file to write (.json)")
    parser.add_argument("--of", choices=("prompts", "responses"), default="prompts", help="which texts; else prompts")
    parser.add_argument("--num", type=int, default=2, metavar="N", help="drawn of each text; else 2")
    parser.add_argument("--instruction", default=INSTRUCTION, metavar="TEXT", help="what the model reads, with {text}")
    parser.add_argument("--max-new-tokens", type=int, default=128, metavar="N", help="of one paraphrase; else 128")
    parser.add_argument("--seed", type=int, default=0, metavar="N", help="of the draw; else 0")
    args = parser.parse_intermixed_args(argv)
    for flag, value, least in (
        ("--num", args.num, 1),
        ("--max-new-tokens", args.max_new_tokens, 1),
        ("--seed", args.seed, 0),
    ):
        if value < least:
            raise UserError(f"{flag}: must be at least {least}, got {value}")
    if args.out.suffix != ".json":
        raise UserError(f"--out: {args.out} does not end in .json")
    if args.instruction.count("{text}") != 1:
        raise UserError(f"--instruction: must hold {{text}} once, got {args.instruction!r}")

    from dpo_lab.commands.compose import compose

    config = compose(args.overrides)

    from dpo_lab.assemble.lightning import computing
    from dpo_lab.assemble.paraphrasing import ParaphraseSettings, paraphrase

    settings = ParaphraseSettings(
        of=args.of, num=args.num, instruction=args.instruction, max_new_tokens=args.max_new_tokens, seed=args.seed
    )
    with computing(config["trainer"].get("num_threads")):
        drawn = paraphrase(config, args.out, settings, _say)
    _say(drawn.line())
    print(args.out)
    return 0


def _say(line: str) -> None:
    print(line, file=sys.stderr)
