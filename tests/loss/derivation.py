"""Every loss as its paper writes it, in `Number`s: sums over tokens, one response after the other, nothing shared.

A formula is given the judged responses and every knob by name, and gives the loss of a step.
"""

from collections.abc import Callable
from dataclasses import dataclass

from mpmath import mp, mpf

from tests.loss.multiprecision import (
    Number,
    Real,
    constant,
    exp,
    log,
    log_one_minus_exp,
    log_sigmoid,
    mean,
    relu,
    sigmoid,
    total,
)

HALF = mpf(1) / 2


@dataclass(frozen=True)
class Judged:
    """Responses, each a list of log-probs of its tokens, and what was judged of them; names as in `Batch`."""

    policy: list[list[Number]]
    reference: list[list[Number]]
    collision: list[list[float]]
    sequential_kl: list[Number]
    pairs: list[tuple[int, int]]
    ranking: list[list[int]]
    labels: list[int]
    scores: list[float]
    win_probability: list[float]
    drift: list[int]

    def length(self, row: int) -> int:
        return len(self.policy[row])

    def ratio(self, row: int) -> Number:
        return total(self.policy[row]) - total(self.reference[row])

    def ratio_per_token(self, row: int) -> Number:
        return self.ratio(row) / self.length(row)

    def log_prob(self, row: int) -> Number:
        return total(self.policy[row])

    def log_prob_per_token(self, row: int) -> Number:
        return self.log_prob(row) / self.length(row)

    def each_pair(self, loss: Callable[[Number, Number], Number], of: Callable[[int], Number] | None = None) -> Number:
        """Mean of `loss`(chosen, rejected) over the pairs; of the log-ratios of responses unless told otherwise."""
        of = of or self.ratio
        return mean(loss(of(chosen), of(rejected)) for chosen, rejected in self.pairs)

    def each_label(self, desirable: Callable[[Number], Number], undesirable: Callable[[Number], Number]) -> Number:
        """Mean of `desirable`(log-ratio) or `undesirable`(log-ratio) over the judged responses."""
        judged = [(row, label) for row, label in enumerate(self.labels) if label >= 0]
        return mean((desirable if label else undesirable)(self.ratio(row)) for row, label in judged)

    def ratios(self, label: int) -> list[Number]:
        return [self.ratio(row) for row, found in enumerate(self.labels) if found == label]


def smoothed(x: Number, e: float) -> Number:
    return -(1 - mpf(e)) * log_sigmoid(x) - mpf(e) * log_sigmoid(-x)


def dpo(j: Judged, *, beta, label_smoothing=0.0) -> Number:
    return j.each_pair(lambda a, b: smoothed(beta * (a - b), label_smoothing))


def robust(j: Judged, *, beta, label_smoothing) -> Number:
    e = mpf(label_smoothing)

    def loss(a: Number, b: Number) -> Number:
        return (-(1 - e) * log_sigmoid(beta * (a - b)) + e * log_sigmoid(beta * (b - a))) / (1 - 2 * e)

    return j.each_pair(loss)


def square(x: Number) -> Number:
    return x * x


def ipo(j: Judged, *, beta, normalization) -> Number:
    of = j.ratio if normalization == "sum" else j.ratio_per_token
    return j.each_pair(lambda a, b: square(a - b - 1 / (2 * mpf(beta))), of)


def hinge(j: Judged, *, beta, normalization) -> Number:
    of = j.ratio if normalization == "sum" else j.ratio_per_token
    return j.each_pair(lambda a, b: relu(1 - beta * (a - b)), of)


def exo(j: Judged, *, beta, label_smoothing) -> Number:
    e = mpf(label_smoothing)

    def loss(a: Number, b: Number) -> Number:
        x = beta * (a - b)
        return sigmoid(x) * (log_sigmoid(x) - mp.log(1 - e)) + sigmoid(-x) * (log_sigmoid(-x) - mp.log(e))

    return j.each_pair(loss)


def nca(j: Judged, *, beta) -> Number:
    return j.each_pair(
        lambda a, b: -log_sigmoid(beta * a) - HALF * log_sigmoid(-beta * a) - HALF * log_sigmoid(-beta * b)
    )


def bco(j: Judged, *, beta, shift) -> Number:
    """At the first step."""
    middle = constant(mean(HALF * (j.ratio(c) + j.ratio(r)) for c, r in j.pairs)) * beta
    delta = middle if shift == "running_mean" else Number(0)
    return j.each_pair(lambda a, b: -log_sigmoid(beta * a - delta) - log_sigmoid(delta - beta * b))


def bco_unpaired(j: Judged, *, beta, shift) -> Number:
    """At the first step."""
    kinds = [j.ratios(1), j.ratios(0)]
    middle = {
        "running_mean": lambda: HALF * (mean(kinds[0]) + mean(kinds[1])),
        "pooled_mean": lambda: mean([*kinds[0], *kinds[1]]),
        "none": lambda: Number(0),
    }
    delta = beta * constant(middle[shift]())
    return j.each_label(lambda a: -log_sigmoid(beta * a - delta), lambda a: -log_sigmoid(delta - beta * a))


def sppo(j: Judged, *, beta) -> Number:
    return j.each_pair(lambda a, b: square(a - HALF / mpf(beta)) + square(b + HALF / mpf(beta)))


def sppo_soft(j: Judged, *, beta) -> Number:
    targets = [(mpf(p) - HALF) / mpf(beta) for p in j.win_probability]
    sought = zip(j.pairs, targets, strict=True)
    return mean(square(j.ratio(c) - target) + square(j.ratio(r) + target) for (c, r), target in sought)


def ascending(numbers: list[Number]) -> list[Number]:
    return sorted(numbers, key=lambda number: number.value)


def aot(j: Judged, *, beta, label_smoothing) -> Number:
    ours = ascending([j.log_prob(c) - j.log_prob(r) for c, r in j.pairs])
    theirs = ascending([total(j.reference[c]) - total(j.reference[r]) for c, r in j.pairs])
    return mean(smoothed(beta * (x - y), label_smoothing) for x, y in zip(ours, theirs, strict=True))


def aot_unpaired(j: Judged, *, beta, label_smoothing) -> Number:
    """Both kinds repeated until they are as many: the same distributions, and place by place the same quantiles."""
    good, bad = ascending(j.ratios(1)), ascending(j.ratios(0))
    both = zip([x for x in good for _ in bad], [x for x in bad for _ in good], strict=True)
    return mean(smoothed(beta * (x - y), label_smoothing) for x, y in both)


def apo_zero(j: Judged, *, beta) -> Number:
    return j.each_pair(lambda a, b: sigmoid(-beta * a) + sigmoid(beta * b))


def apo_zero_unpaired(j: Judged, *, beta, desirable_weight, undesirable_weight) -> Number:
    return j.each_label(
        lambda a: desirable_weight * sigmoid(-beta * a), lambda a: undesirable_weight * sigmoid(beta * a)
    )


def apo_down(j: Judged, *, beta) -> Number:
    return j.each_pair(lambda a, b: sigmoid(beta * a) + sigmoid(beta * (b - a)))


def discopop(j: Judged, *, beta, tau) -> Number:
    def loss(a: Number, b: Number) -> Number:
        x = beta * (a - b)
        return -sigmoid(x * (-1 / mpf(tau))) * log_sigmoid(x) + sigmoid(x / tau) * exp(-x)

    return j.each_pair(loss)


def f_dpo(j: Judged, *, beta, divergence, alpha) -> Number:
    derivative: dict[str, Callable[[Number], Number]] = {
        "reverse_kl": lambda a: a + 1,
        "forward_kl": lambda a: -exp(-a),
        "js": lambda a: mp.log(2) + log_sigmoid(a),
        "alpha": lambda a: (1 - exp(a * -mpf(alpha))) / alpha,
    }
    f = derivative[divergence]
    return j.each_pair(lambda a, b: -log_sigmoid(beta * (f(a) - f(b))))


def dpop(j: Judged, *, beta, weight) -> Number:
    return j.each_pair(lambda a, b: -log_sigmoid(beta * (a - b - weight * relu(-a))))


def r_dpo(j: Judged, *, beta, alpha) -> Number:
    """The reward that is optimal under a fine of alpha a token: beta * log-ratio + alpha * length."""
    return j.each_pair(lambda a, b: -log_sigmoid(a - b), lambda row: beta * j.ratio(row) + mpf(alpha) * j.length(row))


def odpo(j: Judged, *, beta, alpha, offset) -> Number:
    def loss(c: int, r: int) -> Number:
        better = mpf(j.scores[c]) - mpf(j.scores[r])
        asked = mpf(alpha) * (mp.log(better) if offset == "log" else better)
        return -log_sigmoid(beta * (j.ratio(c) - j.ratio(r)) - asked)

    return mean(loss(c, r) for c, r in j.pairs)


def ln_dpo(j: Judged, *, beta, label_smoothing) -> Number:
    return j.each_pair(lambda a, b: smoothed(beta * (a - b), label_smoothing), j.ratio_per_token)


def sft(j: Judged, *, normalization) -> Number:
    rows = [chosen for chosen, _ in j.pairs]
    if normalization == "token":
        return -total(j.log_prob(row) for row in rows) / sum(j.length(row) for row in rows)
    return -mean(map(j.log_prob_per_token if normalization == "sequence_mean" else j.log_prob, rows))


def rpo(j: Judged, *, beta, label_smoothing, weight, normalization) -> Number:
    return dpo(j, beta=beta, label_smoothing=label_smoothing) + weight * sft(j, normalization=normalization)


def cal_dpo(j: Judged, *, beta, weight) -> Number:
    c = HALF / mpf(beta)
    return j.each_pair(lambda a, b: -log_sigmoid(a - b) + weight * (square(a - c) + square(b + c)))


def beta_dpo(j: Judged, *, beta, alpha, keep_fraction, momentum, min_beta) -> Number:
    """At the first step, where the usual margin starts from 0; all pairs are kept."""
    assert keep_fraction == 1
    margins = [j.ratio(c) - j.ratio(r) for c, r in j.pairs]
    found = mean(margins).value
    usual = (1 - mpf(momentum)) * found
    strength = max(mpf(min_beta), mpf(beta) * (1 + mpf(alpha) * (found - usual)))
    return mean(-log_sigmoid(strength * margin) for margin in margins)


def wpo(j: Judged, *, beta, alignment, clamp) -> Number:
    def log_weight(row: int) -> Real:
        sampled = [mpf(x) if alignment == "sampled" else mpf(0) for x in j.collision[row]]
        gaps = [token.value - x for token, x in zip(j.policy[row], sampled, strict=True)]
        return mp.fsum(gaps) / len(gaps)

    def loss(c: int, r: int) -> Number:
        weight = mp.exp(log_weight(c) + log_weight(r))
        return -(min(weight, mpf(1)) if clamp else weight) * log_sigmoid(beta * (j.ratio(c) - j.ratio(r)))

    return mean(loss(c, r) for c, r in j.pairs)


def ld_dpo(j: Judged, *, beta, alpha, scope) -> Number:
    def worth(tokens: list[Number], shared: int, tail: float) -> Number:
        return total(tokens[:shared]) + tail * total(tokens[shared:])

    def loss(c: int, r: int) -> Number:
        shared, theirs = min(j.length(c), j.length(r)), alpha if scope == "both" else 1.0
        a, b = (worth(j.policy[row], shared, alpha) - worth(j.reference[row], shared, theirs) for row in (c, r))
        return -log_sigmoid(beta * (a - b))

    return mean(loss(c, r) for c, r in j.pairs)


def tdpo1(j: Judged, *, beta) -> Number:
    d = j.sequential_kl
    return mean(-log_sigmoid(beta * (j.ratio(c) - j.ratio(r)) - beta * (d[r] - d[c])) for c, r in j.pairs)


def tdpo2(j: Judged, *, beta, alpha) -> Number:
    d = j.sequential_kl
    return mean(
        -log_sigmoid(beta * (j.ratio(c) - j.ratio(r)) - mpf(alpha) * (beta * d[r] - beta * constant(d[c])))
        for c, r in j.pairs
    )


def simpo(j: Judged, *, beta, gamma, label_smoothing) -> Number:
    return j.each_pair(lambda a, b: smoothed(beta * (a - b) - gamma, label_smoothing), j.log_prob_per_token)


def alphapo(j: Judged, *, beta, gamma, alpha) -> Number:
    def reward(row: int) -> Number:
        x = j.log_prob_per_token(row)
        return beta * ((1 - exp(x * -mpf(alpha))) / alpha if alpha else x)

    return j.each_pair(lambda a, b: -log_sigmoid(a - b - gamma), reward)


def cpo(j: Judged, *, beta, label_smoothing, weight, normalization) -> Number:
    preference = j.each_pair(lambda a, b: smoothed(beta * (a - b), label_smoothing), j.log_prob)
    return preference + weight * sft(j, normalization=normalization)


def orpo(j: Judged, *, weight, normalization) -> Number:
    def log_odds(row: int) -> Number:
        x = j.log_prob_per_token(row)
        return x - log_one_minus_exp(x)

    preference = j.each_pair(lambda a, b: -log_sigmoid(a - b), log_odds)
    return sft(j, normalization=normalization) + weight * preference


def slic(j: Judged, *, gamma, weight, normalization) -> Number:
    preference = j.each_pair(lambda a, b: relu(gamma - (a - b)), j.log_prob)
    return preference + weight * sft(j, normalization=normalization)


def kto(j: Judged, *, beta, desirable_weight, undesirable_weight) -> Number:
    z = Number(max(mean(j.ratio(row) for row in j.drift).value, mpf(0)))
    return j.each_label(
        lambda a: desirable_weight * (1 - sigmoid(beta * (a - z))),
        lambda a: undesirable_weight * (1 - sigmoid(beta * (z - a))),
    )


def log_sum_exp(numbers: list[Number]) -> Number:
    largest = max(number.value for number in numbers)
    return log(total(exp(number - largest) for number in numbers)) + largest


def plackett_luce(j: Judged, *, beta) -> Number:
    def loss(rows: list[int]) -> Number:
        rewards = [beta * j.ratio(row) for row in rows]
        return total(log_sum_exp(rewards[place:]) - rewards[place] for place in range(len(rows)))

    return mean(map(loss, j.ranking))


def s_dpo(j: Judged, *, beta) -> Number:
    def loss(rows: list[int]) -> Number:
        best, *others = [j.ratio(row) for row in rows]
        return -log_sigmoid(-log_sum_exp([beta * (other - best) for other in others]))

    return mean(map(loss, j.ranking))


Formula = Callable[..., Number]
FORMULAS: dict[str, Formula] = {
    formula.__name__: formula
    for formula in (
        *(robust, ipo, hinge, exo, nca, bco, bco_unpaired, sppo, sppo_soft, aot, aot_unpaired, apo_zero, apo_down),
        *(apo_zero_unpaired, discopop, f_dpo, dpop, r_dpo, odpo, ln_dpo, sft, rpo, cal_dpo, beta_dpo, wpo, ld_dpo),
        *(tdpo1, tdpo2, simpo, alphapo, cpo, orpo, slic, kto, plackett_luce, s_dpo),
    )
} | {"sigmoid": dpo, "spin": dpo}
