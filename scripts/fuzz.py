"""Throws damaged input at what reads files: only a `UserError`, or the documented answer, may come out.

    python scripts/fuzz.py readers --seconds 60
    python scripts/fuzz.py            # config, readers, report and runs, 60 s each

Guided by coverage where atheris is installed (``pip install atheris``; Linux, Python 3.11 to 3.13). It is no
requirement of dpo_lab: without it, say ``--blind``, and the same inputs are drawn at random.
"""

import argparse
import atexit
import contextlib
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

os.environ.update(HF_HUB_OFFLINE="1", MPLBACKEND="Agg", TOKENIZERS_PARALLELISM="false")
NAMES = ("a.jsonl", "a.json", "a.csv", "a.tsv", "a.parquet", "a.jsonl.gz")
DRAWN_EVERY = 100
"""Reports of which one is drawn and written; of the others every number and word is made, and no picture."""
PAIRS = b'{"prompt": "1 + 1 =", "chosen": " 2", "rejected": " 3"}\n'
SEEDS = {
    "readers": [bytes([number]) + PAIRS for number in range(len(NAMES))]
    + [
        b"\x01[" + PAIRS.strip() + b"]",
        b"\x02prompt,chosen,rejected\na,b,c\n",
        b"\x03prompt\tchosen\trejected\na\tb\tc\n",
    ],
    "config": [
        b"loss.beta=0.2",
        b"loss=ipo",
        b"+loss@loss.base=ipo",
        b"~samples\ntrainer.max_steps=1,2",
        b"seed=${seed}",
    ],
}


def readers(data: bytes) -> None:
    """The first byte chooses the ending of the name, the rest is the file."""
    from dpo_lab.data.errors import DataError
    from dpo_lab.data.files import files

    path = WORK / NAMES[data[0] % len(NAMES) if data else 0]
    path.write_bytes(data[1:])
    with contextlib.suppress(DataError):
        files(path=str(path), on_problem="drop", validation_fraction=0.0)


def config(data: bytes) -> None:
    """Lines are overrides of a saved config, as `dpo-lab reproduce` takes them."""
    from dpo_lab.config.saved import saved_config
    from dpo_lab.errors import UserError

    compose_once()
    with contextlib.suppress(UserError):
        saved_config(saved(), data.decode(errors="surrogateescape").split("\n"))


class Undrawn:
    """A figure and its axes that take whatever is drawn, and draw nothing: nine tenths of a report's time."""

    def __getattr__(self, name: str) -> "Undrawn":
        return self

    def __call__(self, *given: object, **options: object) -> "Undrawn":
        return self

    def __iter__(self) -> Iterator[list[object]]:
        return iter(([], []))  # handles and labels of a legend


UNDRAWN = Undrawn()


def runs(data: bytes) -> None:
    """A run folder in which one file is replaced, or has other bytes in it."""
    from dpo_lab.commands.cli import main
    from dpo_lab.errors import UserError
    from dpo_lab.report.records import read_record
    from dpo_lab.reproduction.original import read_original
    from dpo_lab.run.read import read_run

    study = damaged_study()
    with study.suffering(study.read(data)) as folder:
        for read in (read_run, read_original, read_record):
            with contextlib.suppress(UserError):
                read(folder)
        expect(main(["runs", "--json", "--runs-dir", str(study.runs_dir)]), 0, 2)
        if count("runs") % DRAWN_EVERY == 0:
            expect(main(["runs", "--runs-dir", str(study.runs_dir)]), 0, 2)


def report(data: bytes) -> None:
    """The report of three runs, of which one is damaged."""
    from dpo_lab.commands.cli import main
    from dpo_lab.errors import UserError
    from dpo_lab.report import charts
    from dpo_lab.report.build import build_report
    from dpo_lab.report.study import read_study
    from dpo_lab.report.write import latex, markdown

    study = damaged_study()
    with study.suffering(study.read(data)):
        if count("report") % DRAWN_EVERY == 0:
            expect(main(["report", str(study.runs_dir), f"--out={WORK / 'out'}"]), 0, 2)
            return
        with contextlib.suppress(UserError), mock.patch.object(charts, "_figure", return_value=(UNDRAWN, UNDRAWN)):
            made = build_report(read_study([study.runs_dir]), "damaged")
            for write in (markdown, latex):
                write(made)
            made.main.csv()


TARGETS: dict[str, Callable[[bytes], None]] = {"readers": readers, "config": config, "runs": runs, "report": report}


def expect(code: int, *allowed: int) -> None:
    if code not in allowed:
        raise AssertionError(f"exit code {code}")


def saved() -> dict[str, object]:
    """The config of the tiny model on its own data, composed once."""
    if not _SAVED:
        from hydra import compose, initialize_config_dir
        from omegaconf import OmegaConf

        from dpo_lab.paths import CONF_DIR

        with initialize_config_dir(str(CONF_DIR), version_base="1.3"):
            _SAVED.update(OmegaConf.to_container(compose("train", ["model=tiny"]), resolve=True))  # type: ignore[arg-type]
    return dict(_SAVED)


_SAVED: dict[str, object] = {}


def compose_once() -> None:
    """Have Hydra compose the same choices of groups once only: it takes half a second each time."""
    from dpo_lab.config.source import Source

    if "composed" not in _MADE:
        _MADE["composed"] = {}
        compose = Source.compose

        def remembering(self: Source, overrides: list[str]) -> Any:
            known = _MADE["composed"]
            if tuple(overrides) not in known:
                known[tuple(overrides)] = compose(self, overrides)
            return known[tuple(overrides)]

        Source.compose = remembering


def damaged_study() -> Any:
    """Runs of which one is to be damaged, made once: an input costs one file written, and put back."""
    if "study" not in _MADE:
        from tests.report.damage import DamagedStudy

        _MADE["study"] = DamagedStudy.make(WORK / "runs", with_digests=False)
    return _MADE["study"]


_MADE: dict[str, Any] = {}


def count(name: str) -> int:
    """How many inputs a target has had before this one."""
    _MADE[name] = _MADE.get(name, -1) + 1
    return _MADE[name]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("target", nargs="*", metavar="TARGET", help=", ".join(TARGETS) + "; none is all")
    parser.add_argument("--seconds", type=int, default=60, help="of each target")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--blind", action="store_true", help="without atheris: at random")
    parser.add_argument(
        "--corpus", type=Path, help="a folder that keeps inputs which reached new code, for the next time"
    )
    args = parser.parse_args()
    if odd := set(args.target) - set(TARGETS):
        parser.error(f"{sorted(odd)[0]}: choose from {', '.join(TARGETS)}")
    if not args.blind and find_spec("atheris") is None:
        print("coverage-guided fuzzing takes atheris: pip install atheris; or say --blind", file=sys.stderr)
        return 2
    targets = args.target or sorted(TARGETS)
    if len(targets) > 1:  # libFuzzer ends its process
        options = [f"--seconds={args.seconds}", f"--seed={args.seed}", *(["--blind"] if args.blind else [])]
        options += [] if args.corpus is None else [f"--corpus={args.corpus}"]
        return max(subprocess.run([sys.executable, __file__, name, *options]).returncode for name in targets)
    (fuzz_blindly if args.blind else fuzz)(targets[0], args.seconds, args.seed, args.corpus)
    return 0


def fuzz(name: str, seconds: int, seed: int, corpus: Path | None) -> None:
    """By libFuzzer: an input that reaches new code is kept and changed further. It ends the process, 77 on a fault."""
    atheris: Any = import_module("atheris")  # no requirement, so not known where types are checked
    with atheris.instrument_imports(include=["dpo_lab", "yaml"]):
        warm_up(name)
    folder = (corpus or WORK / "corpus") / name
    write_seeds(folder, name)
    options = [f"-max_total_time={seconds}", f"-seed={seed}", "-max_len=4096", "-timeout=60", "-verbosity=1"]
    atheris.Setup([sys.argv[0], str(folder), *options, f"-artifact_prefix={Path.cwd()}/fuzz-{name}-"], quiet(name))
    atheris.Fuzz()


def fuzz_blindly(name: str, seconds: int, seed: int, _corpus: Path | None) -> None:
    """Seeds with a few bytes changed, cut or put in, as long as there is time."""
    generator, one = random.Random(seed), quiet(name)
    seeds, num = seeds_of(name), 0
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        data = bytearray(generator.choice(seeds))
        for _ in range(generator.randint(0, 4)):
            place = generator.randrange(len(data) + 1)
            data[place : place + generator.randint(0, 3)] = generator.randbytes(generator.randint(0, 3))
        try:
            one(bytes(data))
        except BaseException:
            print(f"{name}: after {num} inputs, this one: {bytes(data)!r}", file=sys.stderr)
            raise
        num += 1
    print(f"{name}: {num} inputs in {seconds} s, nothing found", file=sys.stderr)


def quiet(name: str) -> Callable[[bytes], None]:
    """The target without what it prints."""
    from contextlib import redirect_stderr, redirect_stdout
    from io import StringIO

    def one(data: bytes) -> None:
        with redirect_stdout(StringIO()), redirect_stderr(StringIO()):
            TARGETS[name](data)

    return one


def seeds_of(name: str) -> Sequence[bytes]:
    from tests.report.damage import examples

    return SEEDS.get(name) or examples()


def write_seeds(folder: Path, name: str) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(seeds_of(name)):
        (folder / f"seed-{number}").write_bytes(seed)


def warm_up(name: str) -> None:
    """Import, and so instrument, what the target calls."""
    quiet(name)(seeds_of(name)[0])


WORK = Path(tempfile.mkdtemp(prefix="dpo_lab-fuzz-"))
atexit.register(shutil.rmtree, WORK, ignore_errors=True)

if __name__ == "__main__":
    sys.exit(main())
