"""The operators of queries: what each one means, by the kinds of its operands, on both databases.

One module for each family. Its table ``OPERATORS`` has what is its own; ``CASES`` has what texts make of a name that
belongs to another family, and `overloads` what JSON and dates make of it. `compiler` knows what is no operator:
variables, paths, values, subqueries.

NULL: an operator with a NULL operand gives NULL, on both databases; ``and``, ``or`` and ``not`` are
SQL's, with NULL as unknown; `truth` of a value is Python's, true or false. What is not as in Python:

- dividing by zero is an error on PostgreSQL, and NULL on SQLite;
- whole numbers have 64 bits: beyond them, PostgreSQL refuses and SQLite computes with floats
  (a result that is one is refused);
- texts are ordered by the collation of the database (SQLite: by code points, as Python does);
- floats become text as the database writes them (PostgreSQL: ``2``, not ``2.0``).
"""

from __future__ import annotations

from dbsession.query.kinds import CONDITIONS as _CONDITIONS
from dbsession.query.kinds import RULES as _RULES
from dbsession.query.operators.aggregates import OPERATORS as _AGGREGATES
from dbsession.query.operators.base import OPERATORS, Operator
from dbsession.query.operators.base import Case as _Case
from dbsession.query.operators.base import with_cases as _with_cases
from dbsession.query.operators.comparison import OPERATORS as _COMPARISON
from dbsession.query.operators.conversions import OPERATORS as _CONVERSIONS
from dbsession.query.operators.logic import OPERATORS as _LOGIC
from dbsession.query.operators.membership import OPERATORS as _MEMBERSHIP
from dbsession.query.operators.misc import OPERATORS as _MISC
from dbsession.query.operators.numbers import OPERATORS as _NUMBERS
from dbsession.query.operators.overloads import overloaded as _overloaded
from dbsession.query.operators.text import CASES as _TEXT_CASES
from dbsession.query.operators.text import OPERATORS as _TEXT

__all__ = ["OPERATORS", "Operator"]

_FAMILIES: tuple[dict[str, Operator], ...] = (
    _COMPARISON,
    _MEMBERSHIP,
    _LOGIC,
    _NUMBERS,
    _TEXT,
    _CONVERSIONS,
    _AGGREGATES,
    _MISC,
)
_CASES: tuple[dict[str, _Case], ...] = (_TEXT_CASES,)

OPERATORS.update(
    _overloaded(
        {
            name: _with_cases([cases[name] for cases in _CASES if name in cases], operator)
            for family in _FAMILIES
            for name, operator in family.items()
        }
    )
)
_RULES.update({name: operator.kind for name, operator in OPERATORS.items()})
_CONDITIONS.update(name for name, operator in OPERATORS.items() if operator.is_condition)
