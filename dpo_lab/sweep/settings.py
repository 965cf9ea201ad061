"""How the jobs of a sweep share a machine, and what ends a sweep."""

from dataclasses import dataclass
from typing import Literal

from dpo_lab.ranges import NumThreads


@dataclass(frozen=True, kw_only=True)
class SweepSettings:
    """Knobs under `sweep`. None of them moves a number of a run.

    Attributes:
        on_error: "continue" trains every job, whatever became of the others; "stop" begins none after a failure.
        cpus_per_job: threads of a job (of each of its ranks), unless `trainer.num_threads` says otherwise; as many jobs
            run at once as the processors allow. With ``trainer=gpu`` a job has a device a rank, and sees no others.
        pin: have the threads of a job run on its processors alone, and those of each of its ranks on its part of them.
            Not with ``trainer=gpu``, nor where another job of the machine is pinned to one of them.
        objective: curve of the last validation, such as ``val/rewards/accuracies``, that a searching sweeper is told;
            several for a search with several objectives. A grid needs none.
    """

    on_error: Literal["continue", "stop"] = "continue"
    cpus_per_job: NumThreads = 1
    pin: bool = True
    objective: str | list[str] | None = None
