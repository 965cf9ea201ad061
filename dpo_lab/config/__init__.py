"""The config against the signatures that it feeds: every fault in one message, before anything heavy.

>>> from dpo_lab.config import find_faults
>>> find_faults({"loss": {"_target_": "dpo_lab.loss.sigmoid.sigmoid", "beta": -1}})[0]
'loss.beta: must be greater than 0, got -1'
"""

from dpo_lab.config.check import ConfigError, check, find_faults
from dpo_lab.config.signature import TargetError, locate

__all__ = ["ConfigError", "TargetError", "check", "find_faults", "locate"]
