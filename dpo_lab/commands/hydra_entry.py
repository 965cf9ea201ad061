"""`dpo-lab train` as a Hydra application: overrides and config are checked first, then Hydra runs one job or many."""

import os
import sys
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.hydra_config import HydraConfig
from hydra.errors import CompactHydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from dpo_lab.commands import completion
from dpo_lab.commands.complain import as_typed, complain, complain_of_bug
from dpo_lab.commands.sweep_entry import is_elsewhere, run_multirun
from dpo_lab.commands.sweep_job import run_sweep_job
from dpo_lab.config import ConfigError, check, find_faults
from dpo_lab.config.overrides import review
from dpo_lab.config.source import Source
from dpo_lab.config.spelling import did_you_mean
from dpo_lab.errors import UserError
from dpo_lab.paths import CONF_DIR

PROGRAM = "dpo-lab train"
FULL_ERROR = "HYDRA_FULL_ERROR"


def main(argv: list[str]) -> int:
    """Run ``dpo-lab train`` with `argv` (what follows the verb) and return its exit code.

    0 done; 1 an error of ours or of a library, or a sweep with a failure; 2 what the user can mend, with every fault
    of the command line in one message. Anything else is what `dpo_lab.commands.train.train` returned.
    """
    parser = get_args_parser()
    parser.prog = PROGRAM
    args, unknown_flags = parser.parse_known_args(argv)
    if args.shell_completion and any(override.startswith("query=") for override in args.overrides):
        return complete(argv, verb="train")
    is_question = args.help or args.hydra_help or args.info is not None or args.shell_completion
    if not is_question or unknown_flags:
        _check_flags(parser, args)
        configs = _check_command(args, unknown_flags)
        if configs and args.cfg is None and _is_sweep(args, configs[0]):
            return run_multirun(argv, args.overrides, configs[0], _run_jobs)
    return _run_hydra(argv)


def _is_sweep(args: Namespace, config: DictConfig) -> bool:
    return args.multirun or OmegaConf.select(config, "hydra.mode") == RunMode.MULTIRUN


def complete(argv: list[str], *, verb: str) -> int:
    """Answer a shell's query for the overrides behind `verb`."""
    return completion.query(lambda: _run_hydra(argv), verb=verb)


def _check_flags(parser: ArgumentParser, args: Namespace) -> None:
    if args.resolve and args.cfg is None:
        parser.error("--resolve goes with --cfg, as in --cfg job --resolve")


def _check_command(args: Namespace, unknown_flags: list[str]) -> list[DictConfig]:
    """The configs that the overrides make, one a value, where Hydra's own way of finding them is known.

    Raises:
        ConfigError: with the faults of all overrides and of those configs.

    With ``--cfg`` values are not judged: whoever asks for a config wants to see it, wrong or not.
    """
    source = source_of(args)
    if source is None or args.experimental_rerun is not None:
        return []
    _check_places(args, source)
    reviewed = review([*args.overrides, *unknown_flags], source, multirun=args.multirun)
    faults = reviewed.faults
    if args.cfg is None:
        is_here = not is_elsewhere(args.overrides)
        faults += [fault for config in reviewed.configs for fault in find_faults(config, is_here=is_here)]
    if faults:
        raise ConfigError(*dict.fromkeys(faults))
    return reviewed.configs


def _check_places(args: Namespace, source: Source) -> None:
    """Whether there is a config to put overrides on.

    Raises:
        ConfigError: a folder, or the primary config, is not there.
    """
    places = {"--config-dir": args.config_dir, "--config-path": args.config_path}
    faults = [
        f"{flag}: no such folder: {place} (looked in {Path.cwd()})"
        for flag, place in places.items()
        if place and not place.startswith("pkg://") and not Path(place).is_dir()
    ]
    if not faults and not source.has_primary:
        faults = [f"--config-name={source.config_name}: no such config{did_you_mean(None, source.primaries())}"]
    if faults:
        raise ConfigError(*faults)


def source_of(args: Namespace) -> Source | None:
    """Where Hydra will look; None for a relative ``--config-path``, which Hydra finds in a way of its own."""
    conf_dir = args.config_path or str(CONF_DIR)
    if not (Path(conf_dir).is_absolute() or conf_dir.startswith("pkg://")):
        return None
    extra_dir = str(Path(args.config_dir).absolute()) if args.config_dir else None
    return Source(conf_dir, args.config_name or "train", extra_dir)


def _run_hydra(argv: list[str]) -> int:
    """One job in this process, or an answer of Hydra's own."""
    codes: list[int] = []
    command_line = list(sys.argv)

    def job(cfg: DictConfig) -> Any:
        if HydraConfig.get().mode == RunMode.MULTIRUN:  # of a configuration folder that only Hydra finds
            return run_sweep_job(cfg)
        codes.append(1)  # until the job says otherwise: it may leave by SystemExit
        with _command_line(command_line):
            codes[-1] = _run_job(cfg)
        return codes[-1]

    code = _compose_and_call(job, argv)
    return 2 if code == 1 and not codes else max([code, *codes])


def _compose_and_call(job: Callable[[DictConfig], Any], argv: list[str]) -> int:
    """Have Hydra compose what `argv` asks for and call `job`, once or for each job of a sweep; Hydra's exit code."""
    app = hydra.main(version_base="1.3", config_path=str(CONF_DIR), config_name="train")(job)
    try:
        with _command_line([sys.argv[0], *argv]):
            app()
    except SystemExit as error:
        return _exit_code(error)
    return 0


def _run_jobs(argv: list[str]) -> int:
    """All jobs of a sweep.

    Raises:
        BrokenExecutor: a worker of the launcher was killed.
    """
    with _whole_errors():
        try:
            return _compose_and_call(run_sweep_job, argv)
        except (CompactHydraException, UserError) as error:
            complain(error)
        except BrokenExecutor:
            raise
        except Exception:  # what a launcher or a sweeper could not do
            complain_of_bug()
    return 1


@contextmanager
def _whole_errors() -> Iterator[None]:
    """Have Hydra raise what goes wrong, instead of printing it and leaving."""
    before = os.environ.get(FULL_ERROR)
    os.environ[FULL_ERROR] = "1"
    try:
        yield
    finally:
        if before is None:
            del os.environ[FULL_ERROR]
        else:
            os.environ[FULL_ERROR] = before


def _run_job(cfg: DictConfig) -> int:
    """Train on one composed config."""
    overrides = list(HydraConfig.get().overrides.task)
    try:
        check(cfg)
        from dpo_lab.commands.train import train

        return train(cfg, overrides)
    except UserError as error:
        complain(f"{as_typed(PROGRAM, overrides)}: {error}")
        return error.exit_code
    except Exception:  # Hydra would print a message of its own and hide the traceback of what is a bug
        complain(f"{as_typed(PROGRAM, overrides)}:")
        complain_of_bug()
        return 1


def _exit_code(error: SystemExit) -> int:
    if error.code is None:
        return 0
    return error.code if isinstance(error.code, int) else 1


@contextmanager
def _command_line(argv: list[str]) -> Iterator[None]:
    """Hydra reads ``sys.argv`` and nothing else; jobs see the command as it was typed."""
    typed = sys.argv
    sys.argv = argv
    try:
        yield
    finally:
        sys.argv = typed
