"""The functions and the collations that dbsession gives to every SQLite connection: ``dbs_...``.

Decimals are texts there, so their arithmetic is done here, and exactly; and some of what Python does
with numbers and texts has no SQL in SQLite. A function that raises is an OperationalError of its statement.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from typing import Any

from dbsession.backends import sqlite_dates, sqlite_json
from dbsession.backends.sqlite_values import encode_decimal

__all__ = ["register_functions"]

# Wide enough for every number that a column may hold: arithmetic here never rounds unasked.
_WIDE = Context(prec=1000, rounding=ROUND_HALF_UP)
_PYTHONS = Context(prec=28)  # for what has no exact result, as many digits as Python gives by default

# --- exact numbers ----------------------------------------------------------------------------------------


def _decimal(value: Any) -> Decimal:
    return Decimal(value) if isinstance(value, str) else Decimal(str(value))


def _compare(left: str, right: str) -> int:
    if left == right:
        return 0
    try:
        first, second = Decimal(left), Decimal(right)
    except InvalidOperation:  # not ours; an order of some kind is still needed
        return -1 if left < right else 1
    return (first > second) - (first < second)


def _binary(operation: Callable[[Decimal, Decimal], Decimal]) -> Callable[[Any, Any], str | None]:
    def function(left: Any, right: Any) -> str | None:
        if left is None or right is None:
            return None
        return encode_decimal(operation(_decimal(left), _decimal(right)))

    return function


def _divide(left: Decimal, right: Decimal) -> Decimal:
    return _PYTHONS.divide(left, right)


def _by_zero(operation: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return *operation* that gives NULL for a division by zero, as SQLite's own do."""
    return lambda left, right: None if right is None or not _decimal(right) else operation(left, right)


# --- Python's numbers -------------------------------------------------------------------------------------


def _number(value: Any) -> Any:
    """Return what SQLite has as a Decimal, an int or a float: a text is a Decimal."""
    return Decimal(value) if isinstance(value, str) else value


def _fitting(value: Any) -> Any:
    """Return a number as SQLite can hold it."""
    if isinstance(value, Decimal):
        return encode_decimal(value)
    return float(value) if isinstance(value, int) and not -(2**63) <= value < 2**63 else value


def _pair(exact: Callable[[Decimal, Decimal], Decimal], other: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
    """Return a function of two numbers: *exact* if one is a Decimal."""

    def function(left: Any, right: Any) -> Any:
        if left is None or right is None:
            return None
        if isinstance(left, str) or isinstance(right, str):
            return encode_decimal(exact(_decimal(left), _decimal(right)))
        return _fitting(other(left, right))

    return function


def _power(base: Any, exponent: Any) -> Any:
    try:
        result = base**exponent
    except ZeroDivisionError:
        return None
    return None if isinstance(result, complex) else result


def _round_even(value: Any, *digits: Any) -> Any:
    """Round as Python does, halves to even."""
    if value is None or None in digits:
        return None
    return _fitting(round(_number(value), *digits))


def _exact(value: Any) -> str | None:
    """Return a number as the text of a Decimal."""
    return None if value is None else format(_decimal(value), "f")


def _converter(convert: Callable[[Any], Any]) -> Callable[[Any], Any]:
    return lambda value: None if value is None else _fitting(convert(value))


# --- texts ------------------------------------------------------------------------------------------------


def _slice(text: Any, *bounds: int | None) -> str | None:
    if text is None or None in bounds:
        return None
    return str(text)[slice(bounds[0], bounds[1] if len(bounds) > 1 else None)]


def _round(value: Any, digits: int) -> str | None:
    if value is None:
        return None
    return format(_decimal(value).quantize(Decimal(1).scaleb(-digits), context=_WIDE), "f")


def _unary(operation: Callable[[Decimal], Decimal]) -> Callable[[Any], str | None]:
    def function(value: Any) -> str | None:
        return None if value is None else encode_decimal(operation(_decimal(value)))

    return function


def _text(operation: Callable[[str], str]) -> Callable[[Any], str | None]:
    def function(value: Any) -> str | None:
        return None if value is None else operation(str(value))

    return function


# --- aggregates -------------------------------------------------------------------------------------------


class _Sum:
    """Exact sum of decimal texts; NULL for no rows, as in SQL."""

    def __init__(self) -> None:
        self.total: Decimal | None = None
        self.count = 0

    def step(self, value: Any) -> None:
        if value is not None:
            number = _decimal(value)
            self.total = number if self.total is None else _WIDE.add(self.total, number)
            self.count += 1

    def finalize(self) -> str | None:
        return None if self.total is None else encode_decimal(self.total)


class _Average(_Sum):
    """Mean of decimal texts, to 28 digits."""

    def finalize(self) -> str | None:
        return None if self.total is None else encode_decimal(_divide(self.total, Decimal(self.count)))


class _Extreme:
    """Smallest (`sign` -1) or largest (`sign` 1) of decimal texts, given back as it was stored."""

    sign = 1

    def __init__(self) -> None:
        self.best: str | None = None

    def step(self, value: Any) -> None:
        if value is not None:
            text = str(value)
            if self.best is None or _compare(text, self.best) == self.sign:
                self.best = text

    def finalize(self) -> str | None:
        return self.best


class _Least(_Extreme):
    """Smallest of decimal texts."""

    sign = -1


class _JoinDistinct:
    """The different texts, in the order in which they came, with a text between them."""

    def __init__(self) -> None:
        self.texts: dict[str, None] = {}
        self.between = ","

    def step(self, value: Any, between: str) -> None:
        if value is not None:
            self.texts[str(value)] = None
            self.between = between

    def finalize(self) -> str | None:
        return self.between.join(self.texts) if self.texts else None


_SCALARS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    **sqlite_dates.SCALARS,
    **sqlite_json.SCALARS,
    "dbs_add": (2, _binary(_WIDE.add)),
    "dbs_sub": (2, _binary(_WIDE.subtract)),
    "dbs_mul": (2, _binary(_WIDE.multiply)),
    "dbs_div": (2, _by_zero(_binary(_divide))),
    # Decimals are cut towards zero and keep the sign of the dividend, as in Python
    "dbs_floordiv": (2, _by_zero(_pair(_WIDE.divide_int, lambda left, right: left // right))),
    "dbs_mod": (2, _by_zero(_pair(_WIDE.remainder, lambda left, right: left % right))),
    "dbs_pow": (2, _pair(_PYTHONS.power, _power)),
    "dbs_neg": (1, _unary(_WIDE.minus)),
    "dbs_abs": (1, _unary(_WIDE.abs)),
    "dbs_round": (2, _round),
    "dbs_round_even": (-1, _round_even),
    "dbs_exact": (1, _exact),
    "dbs_int": (1, _converter(int)),
    "dbs_float": (1, _converter(float)),
    "dbs_str": (1, _text(str)),
    "dbs_slice": (-1, _slice),
    # SQLite's own lower() and upper() know ASCII only.
    "dbs_lower": (1, _text(str.lower)),
    "dbs_upper": (1, _text(str.upper)),
}

_AGGREGATES: Sequence[tuple[str, int, type[Any]]] = (
    ("dbs_sum", 1, _Sum),
    ("dbs_avg", 1, _Average),
    ("dbs_min", 1, _Least),
    ("dbs_max", 1, _Extreme),
    ("dbs_join_distinct", 2, _JoinDistinct),
)


def register_functions(connection: sqlite3.Connection) -> None:
    """Give *connection* the collations ``dbs_decimal`` and ``dbs_json``, and the functions ``dbs_...``."""
    connection.create_collation("dbs_decimal", _compare)
    connection.create_collation("dbs_json", sqlite_json.compare)
    for name, (arguments, function) in _SCALARS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    connection.create_function("dbs_random", 0, random.random)
    for name, arguments, aggregate in _AGGREGATES:
        connection.create_aggregate(name, arguments, aggregate)
