"""Hydra's launchers for jobs that no sweeper of Hydra's made: those of a plan, and those of a search."""

from collections.abc import Sequence
from typing import final

from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra.core.plugins import Plugins
from hydra.core.utils import configure_log
from hydra.plugins.launcher import Launcher
from hydra.types import HydraContext, RunMode

from dpo_lab.commands.sweep_job import run_sweep_job
from dpo_lab.config.source import Source


@final
class JobLauncher:
    """Has the launcher that `overrides` of ``hydra`` choose run `run_sweep_job` for sets of overrides.

    The same launchers, and the same job function, as those of ``dpo-lab train -m``.
    """

    def __init__(self, source: Source, overrides: Sequence[str]) -> None:
        version.setbase("1.3")  # as `hydra.main` does: a job stays in the folder where it was asked for
        config = source.loader.load_configuration(
            source.config_name, [*source.searchpath, *overrides], RunMode.MULTIRUN
        )
        configure_log(config.hydra.hydra_logging, config.hydra.verbose)
        self._launcher: Launcher = Plugins.instance().instantiate_launcher(
            hydra_context=HydraContext(config_loader=source.loader, callbacks=Callbacks(config)),
            task_function=run_sweep_job,
            config=config,
        )

    def launch(self, jobs: Sequence[Sequence[str]], first: int = 0) -> None:
        """Run `jobs`, numbered from `first`, and wait for all of them.

        Raises:
            Whatever ended a job function; a job of a grid that fails raises nothing, and its folder says so.
        """
        returned = self._launcher.launch([list(job) for job in jobs], initial_job_idx=first)
        for each in returned:
            _ = each.return_value  # raises what the job function raised
