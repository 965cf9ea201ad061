"""``data=facts``: passages of made-up facts and questions about them, generated here, for recipes without a file."""

import random

from dpo_lab.data.questions import passage_of, random_spans, span_example
from dpo_lab.data.read_questions import Question, Span
from dpo_lab.data.report import DataReport
from dpo_lab.data.source import DataSource, chosen_demonstrations
from dpo_lab.data.split import split_by_prompt
from dpo_lab.ranges import Fraction, NonNegativeInt, PositiveInt

NAMES = ("Ada", "Boris", "Chen", "Dora", "Emil", "Fatima", "Goran", "Hana")
TOWNS = ("Lisbon", "Oslo", "Quito", "Hanoi", "Perth", "Tunis")
JOBS = ("baker", "pilot", "sculptor", "surgeon", "farmer", "violinist")
FACTS = {
    "Where does {name} live?": ("{name} lives in {town}.", "town"),
    "What does {name} do?": ("{name} works as a {job}.", "job"),
    "When was {name} born?": ("{name} was born in {year}.", "year"),
}


def facts(
    *,
    num_passages: PositiveInt = 200,
    num_people: PositiveInt = 2,
    validation_fraction: Fraction = 0.2,
    num_rejected: PositiveInt = 1,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 256,
    shuffle: bool = True,
) -> DataSource:
    """Passages about a few people, three facts each in an order of its own, and a question about every fact.

    Rejected spans are of the same passage, as with ``data=questions data.rejected=random``.

    Args:
        num_passages: each with three questions a person.
        num_people: in each passage, at most 8: more is harder.
        validation_fraction: expected share of the passages that is validated on, with all their questions, in [0, 1).
        num_rejected: rejected spans of each question, at most.
        seed: of the draw. The run's seed never moves the data.
        max_length: tokens of question and passage together.
        shuffle: training order drawn anew each epoch, or as generated.
    """
    generator = random.Random(seed)
    report = DataReport()
    examples = [
        span_example(asked, random_spans(asked, num_rejected, seed), report)
        for number in range(num_passages)
        for asked in _passage(generator, min(num_people, len(NAMES)), f"facts passage {number}")
    ]
    train, validation, _ = split_by_prompt(examples, validation_fraction, 0, key_of=passage_of)
    report.num_read, report.num_train, report.num_validation = len(examples), len(train), len(validation)
    return DataSource(
        train=train,
        validation=validation,
        demonstrations=chosen_demonstrations(train),
        max_length=max_length,
        on_overflow="truncate",
        shuffle=shuffle,
        report=report,
        responses="spans",
    )


def _passage(generator: random.Random, num_people: int, source: str) -> list[Question]:
    told = []
    for name in generator.sample(NAMES, num_people):
        known = {
            "town": generator.choice(TOWNS),
            "job": generator.choice(JOBS),
            "year": str(generator.randint(1900, 1999)),
        }
        told += [
            (question.format(name=name), sentence.format(name=name, **known), known[answer])
            for question, (sentence, answer) in FACTS.items()
        ]
    generator.shuffle(told)
    passage = " ".join(sentence for _, sentence, _ in told)
    asked = []
    for question, sentence, answer in told:
        start = passage.index(sentence) + sentence.index(answer)
        asked.append(Question(question, passage, (Span(answer, start),), (), f"{source}, {question}"))
    return asked
