"""Operators on plain values with SQL's NULL rules: None is NULL, and as a condition it is unknown."""

from __future__ import annotations

import math
import operator
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum

__all__ = [
    "Many",
    "Undefined",
    "Untyped",
    "all_of",
    "any_of",
    "arithmetic",
    "as_untyped",
    "compare",
    "negate",
    "number",
    "one_of",
    "order_key",
    "token",
    "truth",
]


class Undefined(Exception):
    """What is asked for is an error in one of the databases, or documented to differ between them."""


class Untyped(int):
    """The sum of nothing, and what is computed of it: 0 whose type only the database knows."""


class Many(list):
    """The values of a path that leads through a collection."""


def truth(value):
    """Return Python's truth value of a *value*: two-valued, NULL is false."""
    return bool(value)


# --- three-valued logic ---------------------------------------------------------------------------------


def all_of(conditions):
    """Return whether all hold: one that is false decides, else one that is unknown does."""
    conditions = list(conditions)
    return False if False in conditions else None if None in conditions else True


def any_of(conditions):
    """Return whether one holds: one that is true decides, else one that is unknown does."""
    conditions = list(conditions)
    return True if True in conditions else None if None in conditions else False


def negate(condition):
    """Return the contrary; that of unknown is unknown."""
    return None if condition is None else not condition


# --- comparing ------------------------------------------------------------------------------------------

COMPARISONS = {
    "Eq": operator.eq,
    "NotEq": operator.ne,
    "Lt": operator.lt,
    "LtE": operator.le,
    "Gt": operator.gt,
    "GtE": operator.ge,
}


def compare(name, left, right):
    """Compare by the operator *name* of the syntax tree; unknown where one is NULL."""
    if left is None or right is None:
        return None
    if _family(left) != _family(right):
        if name not in {"Eq", "NotEq"}:
            raise Undefined(f"the order of {left!r} and {right!r}")
        return name == "NotEq"
    if float in {type(left), type(right)} and left != right and math.isclose(left, right, rel_tol=1e-9, abs_tol=1e-12):
        raise Undefined(f"{left!r} and {right!r} are too close")
    return COMPARISONS[name](left, right)


def _family(value):
    """Return which values *value* can be equal to: JSON has values of any type."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int | float | Decimal):
        return "number"
    return type(value).__name__


def one_of(value, items, *, listed):
    """Return whether *value* is one of *items*; where they are *listed* in the program, None among them is NULL's equal."""
    found = [value is None if listed and item is None else compare("Eq", value, item) for item in items]
    return any_of(found)


# --- arithmetic -----------------------------------------------------------------------------------------

ARITHMETIC = {
    "Add": operator.add,
    "Sub": operator.sub,
    "Mult": operator.mul,
    "Div": operator.truediv,
    "FloorDiv": operator.floordiv,
    "Mod": operator.mod,
    "Pow": operator.pow,
}


def arithmetic(name, left, right):
    """Return the result of the operator *name* of the syntax tree; NULL where one is NULL.

    Raises:
        Undefined: a division by zero, or a result that does not fit.
    """
    if left is None or right is None:
        return None
    if name in {"Div", "FloorDiv", "Mod"} and not right:
        raise Undefined("division by zero")
    if type(left) is date and isinstance(right, timedelta) and right % timedelta(days=1):
        raise Undefined("a date and a part of a day")
    try:
        found = number(ARITHMETIC[name](left, right))
        return as_untyped(found) if Untyped in {type(left), type(right)} else found
    except (OverflowError, ArithmeticError) as error:
        raise Undefined(str(error)) from None


def as_untyped(value):
    """Return *value* as one whose type only the database knows, if it is whole."""
    return Untyped(value) if type(value) is int else value


def number(value):
    """Return *value* if a database can hold it.

    Raises:
        Undefined: it is too large.
    """
    if isinstance(value, int) and not -(2**63) <= value < 2**63:
        raise Undefined(f"{value} has more than 64 bits")
    if isinstance(value, complex) or (isinstance(value, float) and not abs(value) < 1e300):
        raise Undefined(f"{value}")
    if isinstance(value, datetime | date) and not 1000 <= value.year <= 9000:
        raise Undefined(f"{value!r}")
    return value


def token(value):
    """Return what equal values share, as the databases take them: 1.20 is 1.2, and True is not 1."""
    if isinstance(value, tuple):
        return tuple(map(token, value))
    return (_family(value), repr(value) if isinstance(value, dict | list) else value)


# --- the order of results -------------------------------------------------------------------------------


def order_key(value, *, nulls_first):
    """Return what *value* is ordered by; NULL is the smallest on SQLite, the largest on PostgreSQL."""
    if value is None:
        return (0 if nulls_first else 2, 0)
    if isinstance(value, Enum):
        value = value.value
    return (1, getattr(value, "key", value))
