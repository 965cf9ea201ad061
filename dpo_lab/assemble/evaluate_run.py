"""A finished run, measured as fits what its responses are."""

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytorch_lightning as pl
import torch

from dpo_lab.assemble.contests import measure_samples, opponent_of
from dpo_lab.assemble.encoding import build_source
from dpo_lab.assemble.experiment import Experiment
from dpo_lab.assemble.instantiate import instantiate
from dpo_lab.assemble.judgements import measure_judgements
from dpo_lab.assemble.lightning import computing, make_trainer
from dpo_lab.assemble.scores import parts_to_score, prepare_reference
from dpo_lab.assemble.suitability import kind_of_policy
from dpo_lab.config.signature import locate
from dpo_lab.errors import UserError
from dpo_lab.evaluation.answer_figures import measure_answers
from dpo_lab.evaluation.figure import Measured
from dpo_lab.evaluation.named_items import NameRanking, measure_names
from dpo_lab.evaluation.settings import EvaluationSettings
from dpo_lab.judge.judge import Judge
from dpo_lab.judge.known_reward import KnownReward
from dpo_lab.model.recommender_policy import Recommender
from dpo_lab.module import PreferenceModule

Say = Callable[[str], None]

OF_TEXTS = ("judge", "against", "num_samples", "max_new_tokens")
"""Knobs of an evaluation that act on policies that write text alone."""

OF_RANKINGS = ("cutoffs", "num_candidates")
"""Knobs of an evaluation that act where items are ranked."""


def check_knobs(named: Iterable[str], config: Mapping[str, Any]) -> None:
    """Whether what the command line names of an evaluation acts on a run of `config`.

    Raises:
        UserError: naming the first knob that would do nothing.
    """
    model, kind = kind_of_policy(config, ("dpo_lab", *config["plugins"]))
    for name in named:
        if name in OF_TEXTS and not kind.writes_text:
            raise UserError(
                f"{name}: is of responses that are drawn and compared, and {model} writes no text; its answers are "
                "measured against those of the data"
            )
        if name == "cutoffs" and not (kind.writes_text or issubclass(kind, Recommender)):
            raise UserError(f"cutoffs: is of a ranking, and {model} ranks nothing")
        if name == "num_candidates" and not kind.writes_text:
            why = "ranks its whole catalogue at once" if issubclass(kind, Recommender) else "ranks nothing"
            raise UserError(f"num_candidates: is of a policy that names items, and {model} {why}")


def check_ranking(experiment: Experiment, named: Iterable[str]) -> None:
    """Whether what the command line names of a ranking acts on a policy that writes text, whose data may name items.

    Raises:
        UserError: naming the first knob that would do nothing.
    """
    if not experiment.policy.writes_text or experiment.source.named_items is not None:
        return
    for name in named:
        if name in OF_RANKINGS:
            raise UserError(
                f"{name}: is of a ranking, and this data has no catalogue whose items the policy could name; "
                "data=interactions data.text=names has one"
            )


def check_opponent(experiment: Experiment, judge: Judge | None, settings: EvaluationSettings) -> None:
    """
    Raises:
        UserError: what responses are to be compared with is not there, or nobody would compare them.
    """
    if settings.num_samples == 0 and (judge is not None or settings.against is not None):
        raise UserError(
            f"num_samples=0: nothing is drawn that {'judge=' + judge.label if judge is not None else 'against'} could "
            "compare; leave it out, or draw samples"
        )
    if settings.against is None:
        return
    opponent_of(experiment, settings.against)
    if judge is None and experiment.source.true_reward is None:
        raise UserError(
            f"against={settings.against}: there is nobody to compare, since this data knows no reward of a response; "
            "take judge=reward_model or judge=endpoint"
        )


def build_judge(node: Mapping[str, Any] | None, config: Mapping[str, Any], say: Say) -> Judge | None:
    """The judge that `node` names, checked; None where nobody is asked for. No weight of the run is loaded.

    Args:
        node: of the config group ``judge``.
        config: of the run, with the data that is evaluated on.

    Raises:
        UserError: it cannot be had, or does not fit the data.
    """
    if node is None:
        return None
    packages = ("dpo_lab", *config["plugins"])
    given: dict[str, Any] = {"cache_dir": Path(config["cache_dir"]).expanduser()}
    if "true_reward" in inspect.signature(locate(node["_target_"], packages)).parameters:
        given["true_reward"] = build_source(config).true_reward
    judge: Judge = instantiate(node, packages, **given)
    judge.check(say)
    return judge


def evaluate_run(
    experiment: Experiment,
    module: PreferenceModule,
    names: Sequence[str],
    judge: Judge | None,
    settings: EvaluationSettings,
    say: Say,
    restore: Callable[[PreferenceModule], None],
) -> dict[str, Measured]:
    """Everything about the weights that `module` holds once `restore` was called, by split.

    Args:
        names: splits, as in ``parts_to_score``: ``train``, ``val``, ``test``.
        judge: None takes the known reward, where the data has one.
        say: gets a line about what takes time.

    Raises:
        UserError: there is nothing to measure, or what the judge needs is not to be had.
    """
    policy, reference, source = experiment.policy, experiment.reference, experiment.source
    if judge is None and source.true_reward is not None:
        judge = KnownReward(source.true_reward)
    found = {}
    with computing(experiment.trainer.num_threads), torch.no_grad():
        trainer = make_trainer(experiment.trainer, num_steps=1, callbacks=[], validate_every=None)
        if policy.writes_text:
            prepare_reference(experiment, trainer, [parts_to_score(experiment)[name] for name in names], say)
        restore(module)
        policy.to(trainer.strategy.root_device).eval()
        if reference is not None:
            reference.to(trainer.strategy.root_device)
        with trainer.precision_plugin.val_step_context():
            for name in names:
                measured = measure_answers(policy, source, _set_of(name), settings.cutoffs)
                if measured is None and not policy.writes_text:
                    raise UserError(f"nothing is known to measure of a policy of kind {type(policy).__name__}")
                found[name] = measured or _of_texts(experiment, module, trainer, name, judge, settings, say)
    return found


def _of_texts(
    experiment: Experiment,
    module: PreferenceModule,
    trainer: pl.Trainer,
    name: str,
    judge: Judge | None,
    settings: EvaluationSettings,
    say: Say,
) -> Measured:
    """What the policy says of the judgements of one split, how it ranks the items that it names, and what it writes
    itself."""
    found = Measured(measure_judgements(experiment, module, trainer, name), [], {})
    if experiment.source.named_items is not None and settings.num_candidates != 0:
        found = _together(_of_names(experiment, trainer.strategy.root_device, name, settings, say), found)
    if settings.num_samples:
        found = _together(measure_samples(experiment, name, judge, settings, say), found)
    if not found.figures:
        raise UserError(
            f"num_samples=0: {name} has no judgement that the loss of this run sees, so samples are all that could be "
            "measured"
        )
    return found


def _together(one: Measured, other: Measured) -> Measured:
    return Measured({**one.figures, **other.figures}, [*one.rows, *other.rows], {**one.details, **other.details})


def _of_names(
    experiment: Experiment, device: torch.device, name: str, settings: EvaluationSettings, say: Say
) -> Measured:
    ranking = NameRanking.of(experiment.source, _set_of(name), settings.num_candidates)
    say(
        f"{name}: {ranking.num_rows} names to score behind {len(ranking.examples)} prompts, of a catalogue of "
        f"{len(ranking.items.ids)}; num_candidates=NUMBER scores fewer"
    )
    return measure_names(experiment.policy, ranking, settings.cutoffs, device)


def _set_of(name: str) -> str:
    return "validation" if name == "val" else name
