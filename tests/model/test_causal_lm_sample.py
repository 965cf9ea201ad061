"""`CausalLM.sample`: whether what is drawn comes from the policy itself, and from nothing else."""

import json
import math
import shutil
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from dpo_lab.model.causal_lm import CausalLM, causal_lm
from dpo_lab.types import Encoded
from tests.model.architectures import ARCHITECTURES

Folder = Callable[[str], Path]
SHORT, LONG = [1, 20], [1, 20, 21, 22, 23, 24, 25]

# Whatever a generation_config.json can bend a distribution with.
BENDING = {
    "do_sample": False,
    "temperature": 0.2,
    "top_k": 3,
    "top_p": 0.3,
    "min_p": 0.2,
    "typical_p": 0.3,
    "repetition_penalty": 3.0,
    "no_repeat_ngram_size": 1,
    "suppress_tokens": [5, 6, 7],
    "begin_suppress_tokens": [2],
    "min_new_tokens": 5,
    "max_length": 9,
    "num_beams": 2,
    "eos_token_id": [1, 2, 30],
}


def draw(policy: CausalLM, prompts: list[list[int]], seed: int = 0, max_new_tokens: int = 8) -> list[list[int]]:
    groups = [Encoded(tuple(prompt), ()) for prompt in prompts]
    return policy.sample(groups, generator=torch.Generator().manual_seed(seed), max_new_tokens=max_new_tokens)


@pytest.fixture
def bent(model_folder: Folder, tmp_path: Path) -> CausalLM:
    folder = Path(shutil.copytree(model_folder("llama"), tmp_path / "bent"))
    (folder / "generation_config.json").write_text(json.dumps(BENDING))
    policy = causal_lm(path=str(folder))
    assert policy.model.generation_config.repetition_penalty == 3.0
    return policy


def test_a_generation_config_bends_nothing(bent: CausalLM, model_folder: Folder):
    plain = causal_lm(path=str(model_folder("llama")))
    assert draw(bent, [SHORT, LONG] * 20) == draw(plain, [SHORT, LONG] * 20)
    assert bent.model.generation_config.to_dict().items() >= BENDING.items(), "not put back"


def test_first_tokens_have_the_frequencies_of_the_softmax(bent: CausalLM):
    """Pearson's statistic over the tokens expected at least 5 times, the others as one: mean df, variance 2 df."""
    num = 4000
    with torch.no_grad():
        probability = bent.model(torch.tensor([SHORT])).logits[0, -1].double().softmax(-1)
    counts = Counter(response[0] for response in draw(bent, [SHORT] * num, max_new_tokens=1))
    expected = {token: num * p for token, p in enumerate(probability.tolist())}
    often = [token for token, value in expected.items() if value >= 5]
    cells = [(counts[token], expected[token]) for token in often]
    cells.append((num - sum(seen for seen, _ in cells), num - sum(value for _, value in cells)))
    assert len(cells) > 20, "too flat or too peaked to tell"
    statistic = sum((seen - value) ** 2 / value for seen, value in cells)
    freedom = len(cells) - 1
    assert abs(statistic - freedom) < 4 * math.sqrt(2 * freedom)


@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_token_is_drawn_from_what_log_prob_scores(name: str, model_folder: Folder):
    """Prompts of unequal length side by side, so padded on the left, and the cache of keys and values in use.

    Given what stands before it, a token's log-prob has the mean sum p log p and the variance sum p log^2 p less its
    square. Sums of the deviations over all tokens are a martingale: divided by the root of the summed variances,
    close to a standard normal. A temperature, a penalty or a shifted position moves it by tens.
    """
    policy = causal_lm(path=str(model_folder(name)), attention="padded")
    prompts = [SHORT, LONG] * 150
    groups = [
        Encoded(tuple(prompt), (tuple(response),))
        for prompt, response in zip(prompts, draw(policy, prompts), strict=True)
    ]
    inputs = policy.collate(groups)
    log_prob = policy.log_prob(inputs)
    with torch.no_grad():
        logits = policy.model(input_ids=inputs["input_ids"], attention_mask=inputs["attention_mask"]).logits.double()
    for parity in (0, 1):
        deviation = variance = 0.0
        for row in range(parity, len(prompts), 2):
            start, length = inputs["response_start"][row], inputs["response_length"][row]
            every = logits[row, start - 1 : start - 1 + length].log_softmax(-1)
            mean = (every.exp() * every).sum(-1)
            deviation += (log_prob.token[row, :length].double() - mean).sum().item()
            variance += ((every.exp() * every**2).sum(-1) - mean**2).sum().item()
        assert abs(deviation) < 4 * math.sqrt(variance)


def test_the_same_seed_gives_the_same_and_another_others(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    first, again, other = (draw(policy, [SHORT, LONG] * 5, seed) for seed in (1, 1, 2))
    assert first == again != other
    generator = torch.Generator().manual_seed(1)
    twice = [policy.sample([Encoded(tuple(SHORT), ())] * 5, generator=generator, max_new_tokens=8) for _ in range(2)]
    assert twice[0] != twice[1], "the generator has to move on"


def test_nothing_else_is_touched(model_folder: Folder):
    """Neither the global generator, nor the mode, nor whether tensors take gradients."""
    policy = causal_lm(path=str(model_folder("gpt2")), dropout=0.3)
    before = torch.get_rng_state()
    drawn = []
    for mode in (True, False):
        policy.train(mode)
        drawn.append(draw(policy, [SHORT] * 3))
        assert policy.training == policy.model.training == mode
    assert drawn[0] == drawn[1], "dropout is on"
    assert torch.equal(torch.get_rng_state(), before)
    assert torch.is_grad_enabled() and all(parameter.requires_grad for parameter in policy.parameters())


def test_a_global_seed_does_not_matter(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    found = []
    for seed in (0, 1):
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            found.append(draw(policy, [SHORT] * 5))
    assert found[0] == found[1]


def test_a_response_ends_with_its_first_eos_or_is_cut(model_folder: Folder):
    policy = causal_lm(path=str(model_folder("llama")))
    responses = draw(policy, [SHORT, LONG] * 200, max_new_tokens=12)
    ended = [response for response in responses if policy.end_id in response]
    assert 0 < len(ended) < len(responses)
    assert all(response.index(policy.end_id) == len(response) - 1 for response in ended)
    assert all(len(response) == 12 for response in responses if policy.end_id not in response)
