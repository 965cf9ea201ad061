"""Headlines and facts that are drawn: the same on every machine, and right by construction."""

from dpo_lab.answers import token_f1
from dpo_lab.data.facts import facts
from dpo_lab.data.headlines import TOPICS, headlines
from dpo_lab.data.questions import passage_of


def test_headlines_are_drawn_from_their_seed_alone():
    source = headlines(num_train=40, num_validation=10, num_test=5)
    assert [len(part) for part in (source.train, source.validation, source.test)] == [40, 10, 5]
    assert source.fingerprint == headlines(num_train=40, num_validation=10, num_test=5).fingerprint
    assert source.fingerprint != headlines(num_train=40, num_validation=10, num_test=5, seed=1).fingerprint
    assert source.classes == tuple(TOPICS)
    assert all(len(set(example.responses)) == 2 for example in source.train)


def test_words_tell_the_topic_where_none_is_foreign():
    for example in headlines(num_train=60, num_validation=0, foreign_words=0.0).train:
        assert any(word in str(example.prompt) for word in TOPICS[str(example.responses[0])])


def test_facts_answer_their_questions():
    source = facts(num_passages=20, num_people=3)
    assert len(source.train) + len(source.validation) == 20 * 9
    assert not {passage_of(one) for one in source.train} & {passage_of(one) for one in source.validation}
    for example in source.train:
        right, wrong = (response[0] for response in example.responses)  # type: ignore[misc]
        assert passage_of(example)[right["start"] :].startswith(right["content"])  # type: ignore[index, typeddict-item]
        assert token_f1(wrong["content"], [right["content"]]) < 1  # type: ignore[index]
    assert source.fingerprint == facts(num_passages=20, num_people=3).fingerprint
