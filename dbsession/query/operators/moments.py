"""Which dates, times and timedeltas stand beside which, as in Python."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from typing import Any

from dbsession.query.kinds import is_value, kind_of, value_of

__all__ = ["MOMENTS", "any_nullable", "check_alike", "type_of"]

MOMENTS = (datetime, date, time, timedelta)


def type_of(node: Any) -> Any:
    """Return the type of the values of *node*."""
    return kind_of(node).python


def any_nullable(operands: tuple[Any, ...]) -> bool:
    """Tell whether one of *operands* may be NULL."""
    return any(kind_of(operand).nullable for operand in operands)


def check_alike(operands: tuple[Any, ...], doing: str = "compare") -> None:
    """Refuse what Python would not compare: a date and a datetime, with a time zone and without.

    But a value that is a date may be compared with naive datetimes: it stands for the beginning of the day.

    Raises:
        TypeError: one of *operands* does not fit another; the message says what would.
    """
    first = next((node for node in operands if not is_value(node) and type_of(node) in MOMENTS), None)
    if first is None:
        return
    for node in operands:
        items = value_of(node) if isinstance(value_of(node), tuple | list | set | frozenset) else (node,)
        for item in items:
            _check_pair(first, item, doing)


def _check_pair(left: Any, right: Any, doing: str) -> None:
    mine, other = kind_of(left), kind_of(right)
    if other.python is None or other.python in (list, tuple):
        return
    if mine.python is other.python:
        if mine.tz != other.tz:
            aware, naive = (left, right) if mine.tz else (right, left)
            raise TypeError(f"{aware!r} has a time zone and {naive!r} has none; Python does not {doing} them either")
        return
    if mine.python is datetime and other.python is date and is_value(right) and doing == "compare" and not mine.tz:
        return  # a date among the values is its first moment
    if {mine.python, other.python} == {date, datetime}:
        moment, day = (left, right) if mine.python is datetime else (right, left)
        raise TypeError(f"{moment!r} is a datetime and {day!r} is a date; {doing} {moment!r}.date()")
    if other.is_text and is_value(right) and mine.attribute is not None:
        return  # an attribute takes texts in ISO 8601, and says so if they are not
    raise TypeError(f"{left!r} is {mine.name}, and {right!r} is {other.name}; {doing} values of one type")
