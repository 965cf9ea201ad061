"""The nearest right word to a wrong one."""

from collections.abc import Iterable
from difflib import SequenceMatcher, get_close_matches


def nearest(word: str, known: Iterable[str], cutoff: float = 0.6) -> str | None:
    """The word of `known` that is most like `word`; None when none is at least `cutoff` (in [0, 1]) alike.

    Capitals do not count, nor does the ending of a file.

    >>> nearest("sigmod", ["ipo", "sigmoid", "sft"]), nearest("IPO.yaml", ["ipo", "sigmoid"])
    ('sigmoid', 'ipo')
    """
    plain = {other.lower(): other for other in known}
    found = get_close_matches(word.lower().removesuffix(".yaml"), list(plain), n=1, cutoff=cutoff)
    return plain[found[0]] if found else None


def nearest_key(key: str, known: Iterable[str]) -> str | None:
    """The dotted key of `known` that the writer of `key` most likely meant.

    First a slip of the pen beside the right key, then the right name in the wrong group, then anything alike:

    >>> nearest_key("loss.bata", ["loss.beta", "data.path"])
    'loss.beta'
    >>> nearest_key("lr", ["loss.beta", "optimizer.lr"])
    'optimizer.lr'

    A bare name that several groups have gives all of them: ``"data.path or model.path"``.
    """
    candidates = list(known)
    parent, _, name = key.rpartition(".")
    siblings = [candidate for candidate in candidates if candidate.rpartition(".")[0] == parent]
    same_name = [candidate for candidate in candidates if candidate.rpartition(".")[2] == name]
    slip = nearest(key, siblings, cutoff=0.75)
    if slip or not same_name:
        return slip or nearest(key, candidates) or _nearest_name(name, candidates)
    if not parent:
        return " or ".join(sorted(same_name))
    return max(same_name, key=lambda candidate: SequenceMatcher(None, key, candidate).ratio())


def _nearest_name(name: str, candidates: list[str]) -> str | None:
    by_name = {candidate.rpartition(".")[2]: candidate for candidate in candidates}
    found = nearest(name, by_name, cutoff=0.7)
    return None if found is None else by_name[found]


def did_you_mean(suggestion: str | None, known: Iterable[str], title: str = "known") -> str:
    """``"; did you mean beta? known: beta, label_smoothing"``, each half only where there is something to say."""
    listed = ", ".join(sorted(known))
    asked = f"; did you mean {suggestion}?" if suggestion else ";" if listed else ""
    return f"{asked} {title}: {listed}" if listed else asked
