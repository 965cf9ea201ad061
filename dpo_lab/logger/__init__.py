"""Mirrors of the run folder: `logger=wandb` and `logger=local`."""

from dpo_lab.logger.logger import Logger

__all__ = ["Logger"]
