"""What answers without reading come to on questions about passages: exact match and token F1, beside a trained reader.

    python benchmarks/question_baselines.py FILE [TEST_FRACTION]    SQuAD's JSON; by default a fifth of the passages

The test is that of `data=questions data.path=FILE data.test_fraction=TEST_FRACTION` with its default split seed. An
answer is

* a random span: up to four words, anywhere (mean over 20 draws);
* the first words of the passage, four of them;
* the sentence that shares most with the question, whole: the words of the question that it holds, each weighed by how
  few training passages hold it (inverse document frequency);
* of that sentence the four words that stand nearest to shared words and are none themselves.

The interval is Wilson's over passages, as that of `dpo-lab evaluate`.
"""

import math
import random
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from dpo_lab.answers import exact_match, normalise_answer, token_f1  # noqa: E402 - found by the line above
from dpo_lab.data.questions import passage_of, questions  # noqa: E402
from dpo_lab.evaluation.figure import share_figure  # noqa: E402
from dpo_lab.types import Example  # noqa: E402

NUM_WORDS = 4
NUM_DRAWS = 20
Answer = Callable[[str, str], str]
"""Takes passage and question to a span of the passage."""


def words_of(text: str) -> list[str]:
    return normalise_answer(text).split()


def weights_of(passages: Iterable[str]) -> Callable[[str], float]:
    """Inverse document frequency of a word, nats."""
    distinct = set(passages)
    counts = Counter(word for passage in distinct for word in set(words_of(passage)))
    return lambda word: math.log((len(distinct) + 1) / (counts[word] + 0.5))


def likest_sentence(weight: Callable[[str], float]) -> Answer:
    def answer(passage: str, question: str) -> str:
        asked = set(words_of(question))
        sentences = re.split(r"(?<=[.!?])\s+", passage)
        return max(sentences, key=lambda one: sum(weight(word) for word in asked & set(words_of(one))))

    return answer


def beside_shared_words(weight: Callable[[str], float]) -> Answer:
    """The window of words, none of them in the question, that has most weight of the question's words near by."""
    best_sentence = likest_sentence(weight)

    def answer(passage: str, question: str) -> str:
        asked = set(words_of(question))
        words = best_sentence(passage, question).split()
        shared = [sum(weight(part) for part in words_of(word) if part in asked) for word in words]

        def near(first: int) -> float:
            inside = range(first, min(first + NUM_WORDS, len(words)))
            if any(shared[place] for place in inside):
                return -1.0
            return sum(value / (1 + min(abs(at - place) for place in inside)) for at, value in enumerate(shared))

        first = max(range(len(words)), key=near)
        return " ".join(words[first : first + NUM_WORDS])

    return answer


def at_random(seed: int) -> Answer:
    generator = random.Random(seed)

    def answer(passage: str, question: str) -> str:
        words = passage.split()
        length = generator.randint(1, NUM_WORDS)
        first = generator.randrange(max(1, len(words) - length))
        return " ".join(words[first : first + length])

    return answer


def first_words(passage: str, question: str) -> str:
    return " ".join(passage.split()[:NUM_WORDS])


def measure(examples: Sequence[Example], answers: Sequence[Answer]) -> dict[str, str]:
    """Figures over all of `examples`; of several ways to answer the mean of each."""
    found: dict[str, list[float]] = {"exact_match": [], "token_f1": []}
    for example in examples:
        passage, question = (turn["content"] for turn in example.prompt if isinstance(turn, dict))
        right = [response[0]["content"] for response in example.responses if isinstance(response, list)]
        given = [answer(passage, question) for answer in answers]
        found["exact_match"].append(sum(exact_match(one, right) for one in given) / len(given))
        found["token_f1"].append(sum(token_f1(one, right) for one in given) / len(given))
    return {name: share_figure(values, [*map(passage_of, examples)]).text() for name, values in found.items()}


def main() -> None:
    path, fraction = sys.argv[1], float(sys.argv[2]) if len(sys.argv) > 2 else 0.2
    source = questions(path=path, rejected="none", test_fraction=fraction, validation_fraction=0.0)
    weight = weights_of(map(passage_of, source.train))
    ways = {
        "a random span": [at_random(seed) for seed in range(NUM_DRAWS)],
        "the first words": [first_words],
        "the likest sentence": [likest_sentence(weight)],
        "words beside shared ones": [beside_shared_words(weight)],
    }
    print(f"{len(source.test)} questions")
    for name, answers in ways.items():
        print(f"{name:26}", *(f"{key} {value}" for key, value in measure(source.test, answers).items()), sep="  ")


if __name__ == "__main__":
    main()
