"""What every test stands on: shapes checked at run time, no network, one thread, an empty working folder."""

import os
import tempfile
from collections import defaultdict
from pathlib import Path

# Read by the libraries when they are imported, so before anything else here.
os.environ["HF_HUB_OFFLINE"] = "1"
os.environ["TOKENIZERS_PARALLELISM"] = "false"
os.environ["MPLBACKEND"] = "Agg"
os.environ["NETRC"] = os.devnull
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.pop("WANDB_API_KEY", None)
# A sweep of a test must not wait for one that whoever runs the tests has going.
os.environ["DPO_LAB_SLOTS"] = str(Path(tempfile.gettempdir()) / f"dpo_lab-slots-of-tests-{os.getpid()}")
# Meant for this run of pytest alone, not for one that a test starts.
CHECK_COSTS = os.environ.pop("COSTS", os.devnull)

from jaxtyping import install_import_hook

import tests.typechecker

# By name, as the hook wants it: it imports `tests` alone and finds there what the line above put there.
install_import_hook("dpo_lab", f"{tests.typechecker.__name__}.typechecker")

import hypothesis
import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]

torch.set_num_threads(1)

# The same examples on every machine: a red test is red for everybody.
hypothesis.settings.register_profile("dpo_lab", derandomize=True, deadline=None, database=None, print_blob=False)
hypothesis.settings.load_profile("dpo_lab")


@pytest.fixture(autouse=True)
def workplace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty working folder of its own for every test, so that default folders (runs, caches) land in it."""
    folder = tmp_path / "workplace"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture(scope="session")
def root() -> Path:
    """The repository."""
    return ROOT


class Costs:
    """Adds up the seconds of set-up, call and tear-down of the tests of each folder, over all processes."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self.tests: defaultdict[str, int] = defaultdict(int)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        folder = _part(report.nodeid.partition("::")[0])
        self.seconds[folder] += report.duration
        self.tests[folder] += report.when == "call"

    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> None:
        terminalreporter.section("what each part costs")
        for line in Path(CHECK_COSTS).read_text().splitlines():
            name, seconds = line.split("\t")
            terminalreporter.line(f"{name:<28} {seconds:>7} s")
        for folder, seconds in sorted(self.seconds.items(), key=lambda item: -item[1]):
            terminalreporter.line(f"{folder:<28} {seconds:7.1f} s  {self.tests[folder]:5d} tests")
        terminalreporter.line("(seconds of tests are added up over the processes that run side by side)")


def _part(path: str) -> str:
    """`tests/loss` of `tests/loss/test_ipo.py`; `tests` of `tests/test_types.py`; `dpo_lab (doctests)`."""
    parts = path.split("/")
    if parts[0] == "dpo_lab":
        return "dpo_lab (doctests)"
    return "/".join(parts[:2]) if len(parts) > 2 else parts[0]


def pytest_configure(config: pytest.Config) -> None:
    if not hasattr(config, "workerinput"):
        config.pluginmanager.register(Costs(), "costs")
