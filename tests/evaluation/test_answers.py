"""Answers of policies to whole data sets, and what they are measured against."""

import numpy as np
import pytest
import torch
from torch.testing import assert_close

from dpo_lab.data.questions import as_example
from dpo_lab.data.read_questions import Question, Span
from dpo_lab.evaluation.answers import answer_measure, best_answers, class_log_probs, readable, right_answers
from dpo_lab.model.small_classifier import small_classifier
from dpo_lab.model.small_extractive_qa import small_extractive_qa
from dpo_lab.types import Example
from tests.small import small_policy

TEXTS = ["the goal was late", "the bank sold a share", "a level", "the old coach left the team in march again"] * 8
CLASSES = ("sport", "money")
LABELLED = [Example(text, (CLASSES[n % 2], CLASSES[1 - n % 2]), ((0, 1),)) for n, text in enumerate(TEXTS)]
PASSAGE = "The Bank sold a share. The coach left in March."
ASKED = [as_example(Question("who sold ?", PASSAGE, (Span("The Bank", 0),), (Span("coach", 27),), "row 1"), ())]
SIZES = {"hidden_size": 16, "num_layers": 1, "num_heads": 2}


def test_every_text_is_answered_and_order_is_kept():
    """Also the long ones, cut; the log-probs are those of each text alone, in a policy that was training."""
    policy = small_classifier(TEXTS, CLASSES, 0, dropout=0.3, **SIZES)  # type: ignore[arg-type]
    measure = answer_measure(policy, {"test": LABELLED}, 8)
    assert measure is not None
    found = measure("test")
    assert policy.training
    policy.eval()
    prompts = readable(policy, LABELLED, 8)
    assert max(len(prompt.prompt) for prompt in prompts) == 8
    log_probs = class_log_probs(policy, prompts)
    alone = np.concatenate([policy.class_log_probs([prompt]).double().numpy() for prompt in prompts])
    assert_close(torch.tensor(log_probs), torch.tensor(alone), atol=1e-5, rtol=0)
    is_right = log_probs.argmax(1) == np.arange(len(TEXTS)) % 2
    assert found["accuracy"] == is_right.mean()
    assert measure("test") == found


def test_answers_are_text_of_the_passage_itself():
    """Upper case and spaces as there, whatever the tokenizer made of them."""
    policy = small_extractive_qa([PASSAGE, "who sold ?"] * 2, 0, window=40, stride=4, **SIZES).eval()  # type: ignore[arg-type]
    (answers,) = best_answers(policy, ASKED, readable(policy, ASKED, 40), 4)
    assert [log_prob for _, log_prob in answers] == sorted((log_prob for _, log_prob in answers), reverse=True)
    for turn, _ in answers:
        assert PASSAGE[turn["start"] :].startswith(turn["content"])  # type: ignore[typeddict-item]
    measure = answer_measure(policy, {"validation": ASKED}, 40)
    assert measure is not None
    assert set(measure("validation")) == {"exact_match", "token_f1"}


def test_right_answers_are_those_that_score_one():
    (example,) = ASKED
    assert right_answers(example) == ["The Bank"]
    two = Question("who ?", PASSAGE, (Span("The Bank", 0), Span("Bank", 4)), (), "row")
    assert right_answers(as_example(two, (Span("coach", 27),))) == ["The Bank", "Bank"]


@pytest.mark.parametrize("split", ["validation"])
def test_a_language_model_has_no_such_measure(split: str):
    assert answer_measure(small_policy(), {split: []}, 8) is None
