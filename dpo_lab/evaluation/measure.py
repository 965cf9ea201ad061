"""What is measured of a policy beside its loss, which depends on what its responses are."""

from dpo_lab.data.source import DataSource
from dpo_lab.evaluation.answers import Measure, answer_measure
from dpo_lab.evaluation.next_items import next_item_measure
from dpo_lab.model.policy import Policy
from dpo_lab.model.recommender_policy import Recommender


def measure_of(policy: Policy, source: DataSource) -> Measure | None:
    """Measures of the policy's present answers to one of the sets of `source`, by name; None where there are none."""
    if isinstance(policy, Recommender):
        return next_item_measure(policy, source)
    return answer_measure(policy, source.sets, source.max_length)
