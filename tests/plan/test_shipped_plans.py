"""Every plan that is shipped composes and fits, and compares losses at several learning rates each."""

from collections import defaultdict

import pytest

from dpo_lab.config.source import Source
from dpo_lab.paths import CONF_DIR
from dpo_lab.plan.cells import plan_runs
from dpo_lab.plan.find import find_plan, plan_paths
from dpo_lab.plan.search_cells import corners
from dpo_lab.plan.search_shape import read_search
from dpo_lab.plan.shape import Setting, expand

LR = "optimizer.lr"
GRIDS = [name for name in plan_paths([CONF_DIR]) if name != "tune"]


def test_the_plans_that_are_promised_are_there():
    assert {"beta_x_loss", "beta_x_loss_x_seed", "label_noise", "length_normalisation"} <= {*GRIDS}
    assert all(find_plan(name, [CONF_DIR]).about for name in plan_paths([CONF_DIR]))


@pytest.mark.parametrize("name", GRIDS)
def test_a_plan_runs_and_tunes_each_loss(name: str):
    cells, faults = expand(find_plan(name, [CONF_DIR]).content)
    assert faults == []
    rates = defaultdict(set)
    for cell in cells:
        rates[cell["loss"].value].add(cell[LR].value)
    assert len(rates) > 1
    assert all(len(found) > 1 for found in rates.values())
    planned = plan_runs(cells, [f"{LR}=0.001", "seed=0"], Source(str(CONF_DIR), "train"))
    assert planned.faults == []
    assert len(planned.runs) > len(rates)
    assert all(
        ("gamma" in run.config["loss"]) == (run.config["loss"]["_target_"].endswith("simpo")) for run in planned.runs
    )


def test_the_search_that_is_shipped_fits():
    content = find_plan("tune", [CONF_DIR]).content
    search = read_search(content["search"])
    base = {key: Setting(value, "set") for key, value in content["set"].items()}
    planned = plan_runs([{**base, **cell} for cell in corners(search)], ["loss=ipo"], Source(str(CONF_DIR), "train"))
    assert planned.faults == []
    assert {run.config["optimizer"]["lr"] for run in planned.runs} == {3e-5, 3e-3}
    assert search.prune is not None
