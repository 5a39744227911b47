"""The type checker that tests put around every function of the package (see conftest.py)."""

from beartype import BeartypeConf, beartype

# is_pep484_tower: an int may stand where a float is asked for, as type checkers hold.
check = beartype(conf=BeartypeConf(is_pep484_tower=True))
