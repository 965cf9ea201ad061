"""The run folder: what is written, how it is read back. Importing it imports neither torch nor pyarrow."""

from dpo_lab.run.claim import AlreadyFinished, FolderClaimed
from dpo_lab.run.folder import RunFolder, status_after
from dpo_lab.run.hex_key import hex_key
from dpo_lab.run.identity import COSMETIC_KEYS, run_id
from dpo_lab.run.provenance import collect_provenance, describe_differences
from dpo_lab.run.read import Run, read_run

__all__ = [
    "COSMETIC_KEYS",
    "AlreadyFinished",
    "FolderClaimed",
    "Run",
    "RunFolder",
    "collect_provenance",
    "describe_differences",
    "hex_key",
    "read_run",
    "run_id",
    "status_after",
]
