"""What SQLite cannot do with dates and times: it counts milliseconds, and Python counts microseconds.

The functions take and give what columns hold (see `sqlite_values`): texts, and the microseconds of a
timedelta as a number.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Mapping
from datetime import date, datetime, timedelta
from typing import Any

__all__ = ["SCALARS"]

_DATE = 10  # characters: YYYY-MM-DD


def _shifted(operation: Callable[[Any, timedelta], Any]) -> Callable[[str | None, int | None], str | None]:
    """Return what moves a date or a datetime, as it was written; NULL before year 1 and after year 9999."""

    def function(moment: str | None, microseconds: int | None) -> str | None:
        if moment is None or microseconds is None:
            return None
        try:
            span = timedelta(microseconds=microseconds)
            if len(moment) == _DATE:
                day: date = operation(date.fromisoformat(moment), span)
                return day.isoformat()
            shifted: datetime = operation(datetime.fromisoformat(moment), span)
            return shifted.isoformat(" ", "microseconds")
        except OverflowError:
            return None

    return function


def _elapsed(later: str | None, earlier: str | None) -> int | None:
    """Return the microseconds between two moments of the same form."""
    if later is None or earlier is None:
        return None
    return (datetime.fromisoformat(later) - datetime.fromisoformat(earlier)) // timedelta(microseconds=1)


def _scaled(operation: Callable[[timedelta, Any], timedelta]) -> Callable[[int | None, Any], int | None]:
    """Return a function that rounds to whole microseconds as Python does; NULL where it would raise."""

    def function(microseconds: int | None, factor: Any) -> int | None:
        if microseconds is None or factor is None:
            return None
        try:
            result = operation(timedelta(microseconds=microseconds), factor) // timedelta(microseconds=1)
        except (ArithmeticError, ValueError):
            return None
        return result if -(2**63) <= result < 2**63 else None

    return function


def _divided(operation: Callable[[int, int], int]) -> Callable[[int | None, int | None], int | None]:
    """Return a division that rounds down, as Python's does; NULL by zero."""

    def function(left: int | None, right: int | None) -> int | None:
        return None if left is None or not right else operation(left, right)

    return function


SCALARS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    "dbs_later": (2, _shifted(operator.add)),
    "dbs_earlier": (2, _shifted(operator.sub)),
    "dbs_elapsed": (2, _elapsed),
    "dbs_span_floor": (2, _divided(operator.floordiv)),
    "dbs_span_mod": (2, _divided(operator.mod)),
    "dbs_span_mul": (2, _scaled(operator.mul)),
    "dbs_span_div": (2, _scaled(operator.truediv)),
}
