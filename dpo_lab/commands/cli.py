"""`dpo-lab VERB ...`: finds the verb and hands over. Imports nothing heavy, so that help and typos answer at once."""

import sys
from dataclasses import dataclass
from importlib import import_module

from dpo_lab.errors import UserError


@dataclass(frozen=True)
class Verb:
    """`module` has ``main(argv: list[str]) -> int`` and is imported when its verb is asked for."""

    module: str
    summary: str


VERBS: dict[str, Verb] = {
    "train": Verb("dpo_lab.commands.hydra_entry", "train a policy against its reference; -m for a sweep"),
    "audit": Verb("dpo_lab.commands.audit", "what data is like: counts, lengths, biases, noise, duplicates, leaks"),
    "inspect": Verb("dpo_lab.commands.inspection", "rows as the model sees them: tokens, what was cut, what counts"),
    "sweep": Verb("dpo_lab.commands.sweep", "the runs of a plan, shown or run; or a sweep that goes on"),
    "losses": Verb("dpo_lab.commands.losses", "every loss: formula, paper, arguments, picture; --json"),
    "report": Verb("dpo_lab.commands.report", "run folders as tables, tests over seeds and charts; checks claims"),
    "runs": Verb("dpo_lab.commands.runs", "list runs, filtered by any config key or metric"),
    "diff": Verb("dpo_lab.commands.diff", "in what two runs differ: config, environment, results"),
    "reproduce": Verb(
        "dpo_lab.commands.reproduce", "make a run again from its folder: is it the same, and if not, why"
    ),
    "score": Verb(
        "dpo_lab.commands.score", "log-probs and rewards of any data, response by response, without training"
    ),
    "evaluate": Verb(
        "dpo_lab.commands.evaluate", "what a finished run is worth: figures that fit its policy, with intervals; judges"
    ),
    "explain": Verb("dpo_lab.commands.explain", "what a run has learnt: token by token on a page, and in which order"),
    "mine": Verb("dpo_lab.commands.mine", "what a finished run gets wrong, as data: confusion of classes, wrong spans"),
    "paraphrase": Verb(
        "dpo_lab.commands.paraphrase", "training texts in other words, by a model that you name, as data"
    ),
    "cache": Verb("dpo_lab.commands.cache", "log-probs of references on disk: list, build, verify, prune"),
}


def main(argv: list[str] | None = None) -> int:
    """Run the command line and return its exit code: 130 on Ctrl-C, 2 on anything that the user can mend.

    Args:
        argv: what follows the program's name; None takes ``sys.argv``.
    """
    words = sys.argv[1:] if argv is None else argv
    verb = words[0] if words else None
    try:
        if verb in VERBS:
            return import_module(VERBS[verb].module).main(words[1:])
        return _answer(verb, words)
    except UserError as error:
        from dpo_lab.commands.complain import complain

        complain(f"dpo-lab {verb}: {error}")
        return error.exit_code
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    except Exception:  # the end of the process: what nothing below knew is a bug, told as one with its traceback
        from dpo_lab.commands.complain import complain_of_bug

        complain_of_bug()
        return 1


def _answer(word: str | None, words: list[str]) -> int:
    """What is said without a verb."""
    if word in ("-h", "--help", "help"):
        print(_help())
        return 0
    if word == "--version":
        print(f"dpo-lab {_version()}")
        return 0
    if word in ("-sc", "--shell-completion"):
        return _complete(words)
    if word is None:
        print(_help(), file=sys.stderr)
        return 2
    print(_unknown_verb(word), file=sys.stderr)
    return 2


def _help() -> str:
    width = max(map(len, VERBS))
    verbs = "\n".join(f"  {name:<{width}}  {verb.summary}" for name, verb in VERBS.items())
    return (
        "usage: dpo-lab VERB [KEY=VALUE ...]\n\n"
        f"{verbs}\n\n"
        "dpo-lab VERB --help     what the verb takes\n"
        "dpo-lab --version       the installed version\n"
        'eval "$(dpo-lab -sc install=bash)"     tab completion in this shell'
    )


def _unknown_verb(word: str) -> str:
    from difflib import get_close_matches

    close = get_close_matches(word, VERBS, n=1)
    if close:
        advice = f"did you mean {close[0]}? "
    else:
        advice = f"did you mean dpo-lab train {word}? " if "=" in word else ""
    return f"dpo-lab: no verb {word!r}; {advice}verbs: {', '.join(VERBS)}"


def _version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("dpo-lab")
    except PackageNotFoundError:
        return "(not installed: running from a folder)"


def _complete(words: list[str]) -> int:
    """Shell completion before a verb: a query is for the verb, or for what stands behind it on the line."""
    from dpo_lab.commands import completion

    verb = "train"
    if any(word.startswith("query=") for word in words):
        suggestions = completion.complete_verb(VERBS)
        if suggestions is not None:
            print("\n".join(suggestions))
            return 0
        typed = completion.verb_of_line()
        if typed not in VERBS:
            return 0
        verb = typed
    return import_module(VERBS[verb].module).main(words)


if __name__ == "__main__":
    sys.exit(main())
