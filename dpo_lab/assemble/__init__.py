"""The composition root: a resolved config becomes objects here, and nowhere else."""

from dpo_lab.assemble.experiment import Experiment, assemble

__all__ = ["Experiment", "assemble"]
