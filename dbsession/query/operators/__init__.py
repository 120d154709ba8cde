"""The operators of queries: what each one means, by the kinds of its operands, on both databases.

One module for each family; each has a table ``OPERATORS``. `compiler` knows what is no operator:
variables, paths, values, subqueries.
"""

from __future__ import annotations

from dbsession.query.kinds import CONDITIONS as _CONDITIONS
from dbsession.query.kinds import RULES as _RULES
from dbsession.query.operators.base import Operator
from dbsession.query.operators.comparison import OPERATORS as _COMPARISON
from dbsession.query.operators.logic import OPERATORS as _LOGIC
from dbsession.query.operators.misc import OPERATORS as _MISC
from dbsession.query.operators.numbers import OPERATORS as _NUMBERS
from dbsession.query.operators.text import OPERATORS as _TEXT

__all__ = ["OPERATORS", "Operator"]

OPERATORS: dict[str, Operator] = {**_COMPARISON, **_LOGIC, **_NUMBERS, **_TEXT, **_MISC}

_RULES.update({name: operator.kind for name, operator in OPERATORS.items()})
_CONDITIONS.update(name for name, operator in OPERATORS.items() if operator.is_condition)
