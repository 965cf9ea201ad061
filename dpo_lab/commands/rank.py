"""One of several processes that train together, but the first: what the first one starts, from its resolved config."""

import json
import os
import shutil
import sys
import threading
from pathlib import Path
from typing import Any

from dpo_lab import ranks
from dpo_lab.commands.complain import complain, complain_of_bug
from dpo_lab.errors import UserError


def main() -> int:
    """Train along; the exit code is that of ``dpo-lab train``."""
    # What libraries print is said to nobody; the pipe behind it is for the one word that the first rank waits for.
    pipe = os.dup(sys.stdout.fileno())
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    given = json.loads(sys.stdin.buffer.readline() or b"null")
    if given is None:
        return 1
    threading.Thread(target=_end_with_first, args=(Path(given["meeting"]),), daemon=True).start()
    try:
        _train(given, pipe)
    except UserError as error:
        complain(error)
        return error.exit_code
    except SystemExit as stopped:
        return int(stopped.code or 0)
    except Exception:  # the first rank prints what is said here, where it cannot go on
        complain_of_bug()
        return 1
    return 0


def _train(given: dict[str, Any], pipe: int) -> None:
    from dpo_lab.assemble import assemble
    from dpo_lab.assemble.fit import follow
    from dpo_lab.assemble.lightning import computing
    from dpo_lab.interruption import Interruption

    config, trainer = given["config"], given["config"]["trainer"]
    interruption = Interruption()

    def join() -> None:
        os.write(pipe, b"ready\n")
        ranks.join(given["rank"], given["num_ranks"], Path(given["meeting"]) / "ranks", trainer["accelerator"])

    with interruption.listening(), computing(trainer["num_threads"], given["num_ranks"]):
        experiment = assemble(config, lambda line: None, rank=given["rank"])
        _check_same(experiment.contents, given["contents"])
        follow(experiment, join, interruption, _read_checkpoint(given))
    ranks.leave()


def _check_same(found: dict[str, str], expected: dict[str, str]) -> None:
    other = [name.replace("_", " ") for name in expected if found.get(name) != expected[name]]
    if other:
        raise UserError(
            f"this process finds other {', '.join(other)} than the first one did: did a file change meanwhile?"
        )


def _read_checkpoint(given: dict[str, Any]) -> dict[str, Any] | None:
    from dpo_lab.run.checkpoint import load

    if given["checkpoint"] is None:
        return None
    return {**load(given["checkpoint"]), "reference": given["reference"]}


def _end_with_first(meeting: Path) -> None:
    """The pipe ends when the first rank does, by whatever means."""
    while sys.stdin.buffer.read(1024):
        pass
    shutil.rmtree(meeting, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
