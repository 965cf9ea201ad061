"""Which columns of a file a user renamed for us: ``data.columns``."""

from collections.abc import Mapping

from dpo_lab.data.errors import DataError


def check_columns(columns: Mapping[str, str], known: Mapping[str, str]) -> None:
    """Refuse a name of `columns` that is none of `known`, our name -> what it means.

    Raises:
        DataError: with all of our names and their meanings.
    """
    unknown = [ours for ours in columns if ours not in known]
    if unknown:
        names = "\n".join(f"  {name}: {meaning}" for name, meaning in known.items())
        raise DataError(f"data.columns maps {', '.join(unknown)}, which nothing reads. Our names are:\n{names}")
