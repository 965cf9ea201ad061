"""The runtime type checker of the tests: beartype, where an int is good wherever a float is (PEP 484)."""

from beartype import BeartypeConf, beartype

typechecker = beartype(conf=BeartypeConf(is_pep484_tower=True))
