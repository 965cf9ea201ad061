"""Where configs are composed from, as Hydra would compose them for a command line."""

from dataclasses import dataclass
from functools import cached_property

import yaml
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.config_search_path import SearchPathQuery
from hydra.core.utils import setup_globals
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig


@dataclass(frozen=True)
class Source:
    """Where configs are composed from: the folders that Hydra would search, and the primary config's name."""

    conf_dir: str
    config_name: str
    extra_dir: str | None = None
    searchpath: tuple[str, ...] = ()

    @cached_property
    def loader(self) -> ConfigLoaderImpl:
        setup_globals()
        path = create_config_search_path(self.conf_dir)
        if self.extra_dir is not None:
            path.prepend("command-line", f"file://{self.extra_dir}", SearchPathQuery(provider="schema"))
        return ConfigLoaderImpl(config_search_path=path)

    def compose(self, overrides: list[str]) -> DictConfig:
        """
        Raises:
            HydraException: the configs do not fit together, or a file of theirs is no YAML.
        """
        try:
            return self.loader.load_configuration(self.config_name, [*self.searchpath, *overrides], RunMode.RUN)
        except (yaml.YAMLError, UnicodeDecodeError) as error:
            raise HydraException(f"a file of this name is no YAML in UTF-8: {error}") from error

    @property
    def has_primary(self) -> bool:
        return self.loader.repository.config_exists(self.config_name)

    def primaries(self) -> list[str]:
        """Names of the configs that can be the primary one."""
        return [name for name in self.options("") if not name.startswith("_")]

    def options(self, group: str) -> list[str]:
        """Names of the files of a config group; empty where there is no such group."""
        return self.loader.get_group_options(group, config_name=self.config_name, overrides=list(self.searchpath))

    def groups(self) -> list[str]:
        return [group for group in self.loader.list_groups("") if group != "hydra"]

    def folders(self, group: str) -> list[str]:
        """Names of the folders inside of a config group, as ``trl_1_16`` in ``loss``."""
        return self.loader.list_groups(group)
