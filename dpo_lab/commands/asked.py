"""What stands behind ``dpo-lab sweep NAME``, taken apart."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from dpo_lab.commands.hydra_entry import source_of
from dpo_lab.commands.launching import JobLauncher
from dpo_lab.commands.sweep_entry import OWN_FOLDER, is_elsewhere, own_folder
from dpo_lab.config.source import Source
from dpo_lab.errors import UserError
from dpo_lab.run.redaction import redact_override
from dpo_lab.sweep.record import SweepFolder, SweepRecord


@dataclass(frozen=True)
class Asked:
    """A command line, read.

    `typed` are all overrides, `of_hydra` those of Hydra's own, `overrides` the others; `flags` say where configs are.
    """

    typed: list[str]
    of_hydra: list[str]
    overrides: list[str]
    flags: list[str]
    source: Source

    @classmethod
    def read(cls, args: Namespace, flags: Sequence[str]) -> "Asked":
        """
        Raises:
            UserError: the folder of configs is given as a relative path.
        """
        of_hydra = [text for text in args.overrides if _is_of_hydra(text)]
        source = source_of(args)
        if source is None:
            raise UserError(f"--config-path {args.config_path}: give an absolute path")
        searchpath = tuple(text for text in of_hydra if text.startswith("hydra.searchpath="))
        overrides = [text for text in args.overrides if text not in of_hydra]
        return cls(list(args.overrides), of_hydra, overrides, list(flags), replace(source, searchpath=searchpath))

    @property
    def is_here(self) -> bool:
        """Whether this machine will run the jobs."""
        return not is_elsewhere(self.of_hydra)

    def launcher(self, folder: SweepFolder) -> JobLauncher:
        """The one that the command line chooses, for a sweep in `folder`."""
        rest = [text for text in self.of_hydra if not text.startswith(OWN_FOLDER)]
        return JobLauncher(self.source, [*rest, own_folder(folder.path)])

    def record(self, path: Path, plan: str) -> SweepRecord:
        """What `sweep.json` says of the command."""
        return SweepRecord(
            id=path.name,
            working_dir=str(Path.cwd()),
            flags=self.flags,
            overrides=[redact_override(text) for text in self.typed],
            plan=plan,
        )


def _is_of_hydra(text: str) -> bool:
    try:
        return OverridesParser.create().parse_override(text).is_hydra_override()
    except HydraException:  # said later, with everything else that is wrong
        return False
