"""``data=dialogues``: a shop's chats, generated here, in which people choose between two replies.

A customer has one question after another; only the last waits for its reply. A reply has a manner and an answer. It is
worth +1 for the answer to the last question and -1 for another, +1 for a kind manner and -1 for a curt one.
"""

import random

from dpo_lab.data.generated import Asked, generated
from dpo_lab.data.source import DataSource
from dpo_lab.ranges import NonNegativeInt, OpenFraction, PositiveInt, UpToHalf
from dpo_lab.types import Message

QUESTIONS = {
    "delivery": ("where is my parcel", "my parcel is late", "when will my parcel come"),
    "refund": ("I want my money back", "can I send this lamp back", "how do I get a refund"),
    "password": ("I cannot log in", "my password does not work", "I forgot my password"),
    "invoice": ("I need an invoice", "where is my bill", "can you send the invoice again"),
    "address": ("I have moved", "my address is wrong", "please change my address"),
    "hours": ("when are you open", "is the shop open on Sunday", "what are your hours"),
}
ANSWERS = {
    "delivery": "The parcel comes within three days.",
    "refund": "Send it back and the money is yours again.",
    "password": "A new password is on its way to you.",
    "invoice": "The invoice is in your mail.",
    "address": "Your new address is saved.",
    "hours": "We are open from nine to six.",
}
KIND = ("Thank you for asking!", "I am sorry for the trouble.", "Happy to help!")
CURT = ("Read the manual.", "Not my problem.", "As I said before.")
NEUTRAL = ("Hello.", "Well.", "Let me see.")
OPENERS = ("Hello, ", "Hi, ", "Excuse me, ", "", "And ")


def true_reward(prompt: str, reply: str) -> float:
    """In [-2, 2].

    >>> true_reward("Hello, I have moved?\\nYour new address is saved.\\nAnd I cannot log in?", "Well. We are open.")
    -1.0
    """
    _, topic = max((prompt.rfind(question), topic) for topic, asked in QUESTIONS.items() for question in asked)
    manner = any(words in reply for words in KIND) - any(words in reply for words in CURT)
    return float((1 if ANSWERS[topic] in reply else -1) + manner)


def dialogues(
    *,
    num_pairs: PositiveInt = 960,
    num_validation_pairs: PositiveInt = 300,
    num_test_pairs: NonNegativeInt = 0,
    num_demonstrations: PositiveInt = 4000,
    num_turns: PositiveInt = 3,
    error_rate: OpenFraction = 0.4,
    seed: NonNegativeInt = 0,
    max_length: PositiveInt = 256,
    shuffle: bool = True,
    label_noise: UpToHalf = 0.0,
    label_noise_seed: NonNegativeInt = 0,
) -> DataSource:
    """Chats drawn from `seed` alone; see `dpo_lab.data.generated`.

    Args:
        num_pairs: training pairs.
        num_validation_pairs: further ones.
        num_test_pairs: further ones, looked at once, after training.
        num_demonstrations: chats whose last reply is not judged, for a supervised stage.
        num_turns: questions of a chat, at most; the others are answered already.
        error_rate: share of the replies that answer another question, in (0, 1). Of manners each is as likely.
        seed: of the draw. The run's `seed` never moves the data.
        max_length: tokens of prompt and response together.
        shuffle: training order drawn anew each epoch, or as generated.
        label_noise: share of the training pairs that are swapped, in [0, 0.5].
        label_noise_seed: draws which.
    """

    def ask(generator: random.Random) -> Asked:
        topics = generator.sample(list(QUESTIONS), generator.randint(1, min(num_turns, len(QUESTIONS))))
        turns: list[Message] = [{"role": "system", "content": "You answer for a shop."}]
        for topic in topics:
            question = f"{generator.choice(OPENERS)}{generator.choice(QUESTIONS[topic])}?"
            turns.append({"role": "user", "content": question})
            turns.append({"role": "assistant", "content": ANSWERS[topic]})
        return Asked(turns[:-1], lambda later: _reply(later, topics[-1], error_rate))

    return generated(
        "dialogues",
        ask,
        true_reward,
        num_pairs=num_pairs,
        num_validation_pairs=num_validation_pairs,
        num_test_pairs=num_test_pairs,
        num_demonstrations=num_demonstrations,
        seed=seed,
        max_length=max_length,
        shuffle=shuffle,
        label_noise=label_noise,
        label_noise_seed=label_noise_seed,
    )


def _reply(generator: random.Random, topic: str, error_rate: float) -> str:
    others = [other for other in QUESTIONS if other != topic]
    answered = generator.choice(others) if generator.random() < error_rate else topic
    return f"{generator.choice(generator.choice((KIND, CURT, NEUTRAL)))} {ANSWERS[answered]}"
