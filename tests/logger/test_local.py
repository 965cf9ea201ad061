"""`logger=local` writes nothing of its own; what all loggers share is tested here."""

import pytest

from dpo_lab.logger.local import LocalLogger, local


def test_nothing_but_the_run_folder(claim):
    folder = claim("abc")
    logger = local()
    with logger.mirroring(folder, {}, folder.info):
        logger.metrics(1, {"train/loss": 0.5})
        logger.table("samples", ["prompt"], [["a"]])
        logger.summary({"x": 1})
    assert sorted(path.name for path in folder.path.iterdir()) == [".lock", "run.json"]


def test_logged_steps():
    """Every third step, and the first: row 1 is the loss before update 1 whatever the interval."""
    logger = local(every_n_steps=3)
    assert [step for step in range(1, 10) if logger.wants(step)] == [1, 3, 6, 9]


@pytest.mark.parametrize(
    ("error", "status"), [(None, "finished"), (RuntimeError("boom"), "failed"), (KeyboardInterrupt(), "interrupted")]
)
def test_the_end_is_told_whatever_it_is(claim, monkeypatch, error, status: str):
    told = []
    monkeypatch.setattr(LocalLogger, "finish", lambda self, status: told.append(status))
    logger, folder = local(), claim("abc")

    def train():
        with logger.mirroring(folder, {}, {}):
            if error is not None:
                raise error

    if error is None:
        train()
    else:
        with pytest.raises(type(error)):
            train()
    assert told == [status]
