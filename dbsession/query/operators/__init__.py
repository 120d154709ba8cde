"""The operators of queries: what each one means, by the kinds of its operands, on both databases.

One module for each family. Its table ``OPERATORS`` has what is its own; ``CASES`` has what its kinds of operands
make of a name that belongs to another family (dates of ``+``, JSON of ``=``). `compiler` knows what is no operator:
variables, paths, values, subqueries.
"""

from __future__ import annotations

from dbsession.query.kinds import CONDITIONS as _CONDITIONS
from dbsession.query.kinds import RULES as _RULES
from dbsession.query.operators.base import Case as _Case
from dbsession.query.operators.base import Operator
from dbsession.query.operators.base import with_cases as _with_cases
from dbsession.query.operators.comparison import OPERATORS as _COMPARISON
from dbsession.query.operators.logic import OPERATORS as _LOGIC
from dbsession.query.operators.misc import OPERATORS as _MISC
from dbsession.query.operators.numbers import OPERATORS as _NUMBERS
from dbsession.query.operators.overloads import overloaded as _overloaded
from dbsession.query.operators.text import OPERATORS as _TEXT

__all__ = ["OPERATORS", "Operator"]

_FAMILIES: tuple[dict[str, Operator], ...] = (_COMPARISON, _LOGIC, _NUMBERS, _TEXT, _MISC)
_CASES: tuple[dict[str, _Case], ...] = ()

OPERATORS: dict[str, Operator] = _overloaded(
    {
        name: _with_cases([cases[name] for cases in _CASES if name in cases], operator)
        for family in _FAMILIES
        for name, operator in family.items()
    }
)

_RULES.update({name: operator.kind for name, operator in OPERATORS.items()})
_CONDITIONS.update(name for name, operator in OPERATORS.items() if operator.is_condition)
