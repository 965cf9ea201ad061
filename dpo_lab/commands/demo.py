"""`make demo`: the default run, and a look at what it did."""

import time
from pathlib import Path

from rich.console import Console

from dpo_lab.commands import cli
from dpo_lab.report.terminal import show_run
from dpo_lab.run import read_run

OVERRIDES = ("name=demo", "samples.num=1000", "trainer.validate_every=25")


def main(argv: list[str]) -> int:
    """Train with `argv` over the demo's own overrides, then show the run; the exit code of the training."""
    wall, cpu = time.monotonic(), time.process_time()
    code = cli.main(["train", *OVERRIDES, *argv])
    if code != 0:
        return code
    folder = max(Path("runs/demo").glob("*/run.json"), key=lambda path: path.stat().st_mtime).parent
    show_run(read_run(folder), Console())
    print(f"picture: {folder / 'report' / 'curves.png'}")
    print(f"took {time.monotonic() - wall:.0f} s ({time.process_time() - cpu:.0f} CPU seconds)")
    return 0
