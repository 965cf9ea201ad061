"""Losses: one file, one objective, one pure function of the same name.

Every file of this folder is found by its name, so a new loss needs no entry here:

>>> from dpo_lab.loss import sigmoid
>>> sigmoid.__name__
'sigmoid'
"""

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # for editors, which do not follow the loop below
    from dpo_lab.loss.hinge import hinge as hinge
    from dpo_lab.loss.ipo import ipo as ipo
    from dpo_lab.loss.mix import mix as mix
    from dpo_lab.loss.sft import sft as sft
    from dpo_lab.loss.sigmoid import sigmoid as sigmoid

for _name in sorted(module.name for module in iter_modules(__path__)):
    globals()[_name] = getattr(import_module(f"{__name__}.{_name}"), _name)
