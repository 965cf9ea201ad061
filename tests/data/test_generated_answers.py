"""Kinds of data whose answers are drawn: rewards by hand, and what every kind must keep."""

from collections.abc import Callable

import pytest

from dpo_lab.data.articles import articles
from dpo_lab.data.articles import true_reward as of_summary
from dpo_lab.data.balances import balances
from dpo_lab.data.balances import true_reward as of_answer
from dpo_lab.data.dialogues import dialogues
from dpo_lab.data.dialogues import true_reward as of_reply
from dpo_lab.data.generated import as_text
from dpo_lab.data.quarters import quarters
from dpo_lab.data.quarters import true_reward as of_report
from dpo_lab.data.source import DataSource

KINDS = [articles, balances, dialogues, quarters]
Kind = Callable[..., DataSource]


def small(kind: Kind, **knobs: int | float) -> DataSource:
    return kind(**{"num_pairs": 40, "num_validation_pairs": 12, "num_demonstrations": 60, "num_test_pairs": 6, **knobs})


@pytest.mark.parametrize("kind", KINDS)
def test_the_better_answer_is_chosen(kind: Kind):
    source = small(kind)
    assert source.true_reward is not None
    for example in [*source.train, *source.validation, *source.test]:
        prompt = as_text(example.prompt)
        better, worse = (source.true_reward(prompt, str(response)) for response in example.responses)
        assert better > worse and example.scores == (better, worse) and example.pairs == ((0, 1),)


@pytest.mark.parametrize("kind", KINDS)
def test_rows_depend_on_their_seed_alone(kind: Kind):
    source = small(kind)
    assert source.fingerprint == small(kind).fingerprint != small(kind, seed=1).fingerprint
    larger = small(kind, num_pairs=41, num_demonstrations=61)
    assert larger.train[:40] == source.train and larger.validation == source.validation
    assert larger.demonstrations[:60] == source.demonstrations


@pytest.mark.parametrize("kind", KINDS)
def test_fewer_mistakes_are_worth_more(kind: Kind):
    def mean(error_rate: float) -> float:
        source = small(kind, num_demonstrations=200, error_rate=error_rate)
        assert source.true_reward is not None
        rewards = [source.true_reward(as_text(one.prompt), str(one.responses[0])) for one in source.demonstrations]
        return sum(rewards) / len(rewards)

    assert mean(0.1) > mean(0.5) + 0.3


def test_swapped_pairs_are_counted():
    source = small(balances, label_noise=0.5)
    assert source.report.counts["label_swapped"] == 20
    assert small(balances).train != source.train and small(balances).validation == source.validation


def test_a_reply_by_hand():
    """Right and kind 1 + 1; right and curt 1 - 1; wrong and neither -1. The last question counts."""
    chat = "I cannot log in?\nA new password is on its way to you.\nHi, where is my bill?"
    assert of_reply(chat, "Happy to help! The invoice is in your mail.") == 2
    assert of_reply(chat, "Not my problem. The invoice is in your mail.") == 0
    assert of_reply(chat, "Well. A new password is on its way to you.") == -1


def test_an_answer_by_hand():
    """The figures of the line that is asked for, the earlier one first."""
    prompt = "costs: 40 then 52\ndebt: 30 then 20\nQuestion: costs?\nAnswer:"
    assert of_answer(prompt, " 40 then 52") == 1
    assert [of_answer(prompt, said) for said in (" 52 then 40", " 30 then 20", " 40 then", "")] == [0, 0, 0, 0]


def test_a_report_by_hand():
    """All three right: 3; one of three wrong: 2 - 1; an unknown line: -3; a line again: -3."""
    figures = "Profit: 40 then 52\nDebt: 30 then 20\nReport:"
    right = " Profit rose from 40 to 52."
    assert of_report(figures, f"{right} Debt fell from 30 to 20.") == 6
    assert of_report(figures, f"{right} Debt rose from 30 to 20.") == 4
    assert of_report(figures, f"{right} Staff rose from 30 to 20.") == 0
    assert of_report(figures, right + right) == 0
    assert of_report(figures, "") == 0


def test_a_summary_by_hand():
    """Three right: 3; winner and loser swapped: 1 - 2; an idle sentence: -1; no summary: -3."""
    article = "The Lions lost to the Bears in Oslo. The crowd sang. The Hawks won last year in Perth."
    assert of_summary(article, " Bears beat Lions in Oslo.") == 3
    assert of_summary(article, " Lions beat Bears in Oslo.") == -1
    assert of_summary(article, " Bears beat Lions in Oslo. The crowd sang.") == 2
    assert of_summary(article, " The crowd sang.") == -4
    assert of_summary(article.replace("lost to", "beat"), " Lions beat Bears in Oslo.") == 3
