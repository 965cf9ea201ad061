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
    from dpo_lab.loss.alphapo import alphapo as alphapo
    from dpo_lab.loss.aot import aot as aot
    from dpo_lab.loss.aot_unpaired import aot_unpaired as aot_unpaired
    from dpo_lab.loss.apo_down import apo_down as apo_down
    from dpo_lab.loss.apo_zero import apo_zero as apo_zero
    from dpo_lab.loss.apo_zero_unpaired import apo_zero_unpaired as apo_zero_unpaired
    from dpo_lab.loss.bco import bco as bco
    from dpo_lab.loss.bco_unpaired import bco_unpaired as bco_unpaired
    from dpo_lab.loss.beta_dpo import beta_dpo as beta_dpo
    from dpo_lab.loss.cal_dpo import cal_dpo as cal_dpo
    from dpo_lab.loss.cpo import cpo as cpo
    from dpo_lab.loss.discopop import discopop as discopop
    from dpo_lab.loss.dpop import dpop as dpop
    from dpo_lab.loss.exo import exo as exo
    from dpo_lab.loss.f_dpo import f_dpo as f_dpo
    from dpo_lab.loss.hinge import hinge as hinge
    from dpo_lab.loss.ipo import ipo as ipo
    from dpo_lab.loss.kto import kto as kto
    from dpo_lab.loss.ld_dpo import ld_dpo as ld_dpo
    from dpo_lab.loss.ln_dpo import ln_dpo as ln_dpo
    from dpo_lab.loss.mix import mix as mix
    from dpo_lab.loss.modified import modified as modified
    from dpo_lab.loss.nca import nca as nca
    from dpo_lab.loss.odpo import odpo as odpo
    from dpo_lab.loss.orpo import orpo as orpo
    from dpo_lab.loss.plackett_luce import plackett_luce as plackett_luce
    from dpo_lab.loss.r_dpo import r_dpo as r_dpo
    from dpo_lab.loss.robust import robust as robust
    from dpo_lab.loss.rpo import rpo as rpo
    from dpo_lab.loss.s_dpo import s_dpo as s_dpo
    from dpo_lab.loss.sampo import sampo as sampo
    from dpo_lab.loss.sft import sft as sft
    from dpo_lab.loss.sigmoid import sigmoid as sigmoid
    from dpo_lab.loss.simpo import simpo as simpo
    from dpo_lab.loss.slic import slic as slic
    from dpo_lab.loss.spin import spin as spin
    from dpo_lab.loss.sppo import sppo as sppo
    from dpo_lab.loss.sppo_soft import sppo_soft as sppo_soft
    from dpo_lab.loss.tdpo1 import tdpo1 as tdpo1
    from dpo_lab.loss.tdpo2 import tdpo2 as tdpo2
    from dpo_lab.loss.wpo import wpo as wpo

for _name in sorted(module.name for module in iter_modules(__path__)):
    globals()[_name] = getattr(import_module(f"{__name__}.{_name}"), _name)
