"""How Python values lie in SQLite: texts that sort and compare as their values do, and functions for decimals.

SQLite knows integers, floats, texts and blobs. NUMERIC affinity turns '123456789012345678.12' into
a rounded number, so a Decimal is text, with a collation and aggregates of our own; dates and times
are fixed-width ISO 8601, so that comparing texts compares times.
"""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from dbsession.backends import sqlite_dates, sqlite_json
from dbsession.backends.json_text import encode_json

__all__ = [
    "check_timedelta",
    "decimal_encoder",
    "decode_timedelta",
    "encode_date",
    "encode_datetime",
    "encode_datetime_utc",
    "encode_decimal",
    "encode_float",
    "encode_time",
    "encode_timedelta",
    "encode_untyped",
    "register_functions",
]

# Wide enough for every number that a column may hold: arithmetic here never rounds unasked.
_WIDE = Context(prec=1000, rounding=ROUND_HALF_UP)


def encode_float(value: float) -> float:
    """Refuse NaN, which SQLite would store as NULL.

    Raises:
        ValueError: *value* is not a number.
    """
    if math.isnan(value):
        raise ValueError("is not a number (NaN), which SQLite would store as NULL")
    return value


def encode_decimal(value: Decimal) -> str:
    """Write *value* without exponent and trailing zeros, so that equal values have equal texts.

    Raises:
        ValueError: *value* is NaN or infinite.
    """
    if not value.is_finite():
        raise ValueError("SQLite cannot store a Decimal that is NaN or infinite")
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("-0", "") else text


def decimal_encoder(scale: int) -> Callable[[Decimal], str]:
    """Return an encoder that writes *scale* digits behind the point.

    It rounds half away from zero, as PostgreSQL does.
    """
    unit = Decimal(1).scaleb(-scale)
    zero = format(unit - unit, "f")

    def encode(value: Decimal) -> str:
        try:
            rounded = value.quantize(unit, context=_WIDE)
        except InvalidOperation:
            raise ValueError("SQLite cannot store a Decimal that is NaN or infinite") from None
        return format(rounded, "f") if rounded else zero

    return encode


def encode_datetime(value: datetime) -> str:
    """Write a naive *value* as ``YYYY-MM-DD HH:MM:SS.ffffff``.

    Raises:
        ValueError: *value* has a time zone.
    """
    if value.tzinfo is not None:
        raise ValueError("a datetime with a time zone needs a column with tz=True")
    return value.isoformat(" ", "microseconds")


def encode_datetime_utc(value: datetime) -> str:
    """Write an aware *value* in UTC as ``YYYY-MM-DD HH:MM:SS.ffffff+00:00``.

    Raises:
        ValueError: *value* has no time zone.
    """
    if value.tzinfo is None:
        raise ValueError("a column with tz=True needs a datetime with a time zone")
    return value.astimezone(UTC).isoformat(" ", "microseconds")


def encode_date(value: date) -> str:
    """Write *value* as ``YYYY-MM-DD``."""
    return value.isoformat()[:10]  # a datetime is a date too


def encode_time(value: time) -> str:
    """Write *value* as ``HH:MM:SS.ffffff``.

    Raises:
        ValueError: *value* has a time zone.
    """
    if value.tzinfo is not None:
        raise ValueError("a time with a time zone cannot be stored")
    return value.isoformat("microseconds")


def encode_timedelta(value: timedelta) -> int:
    """Count the microseconds of *value*."""
    return (value.days * 86400 + value.seconds) * 1_000_000 + value.microseconds


def check_timedelta(value: timedelta) -> timedelta:
    """Refuse what does not fit into 64 bits of microseconds, some 292 000 years.

    Raises:
        ValueError: *value* is longer than that, in either direction.
    """
    if not -(2**63) <= encode_timedelta(value) < 2**63:
        raise ValueError(f"is {value!r}, and SQLite holds no more than 292 000 years in microseconds")
    return value


def decode_timedelta(value: int) -> timedelta:
    """Make a timedelta of microseconds."""
    return timedelta(microseconds=value)


# By exact type, the most frequent first; subclasses are looked for on a miss.
_UNTYPED: dict[type, Callable[[Any], Any]] = {
    bool: int,
    Decimal: encode_decimal,
    datetime: lambda value: (encode_datetime if value.tzinfo is None else encode_datetime_utc)(value),
    date: encode_date,
    time: encode_time,
    timedelta: encode_timedelta,
    UUID: str,
    dict: encode_json,
    list: encode_json,
}


def encode_untyped(value: Any) -> Any:
    """Encode a parameter of user-written SQL by its own type, as a column of that type would."""
    if isinstance(value, Enum):
        value = value.value
    for python in type(value).__mro__:
        encode = _UNTYPED.get(python)
        if encode is not None:
            return encode(value)
    return value


# --- functions of the connection -----------------------------------------------------------------


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
    # 28 digits, as Decimal has by default; 1000 would be the exact but unreadable 0.333...
    return Context(prec=28, rounding=ROUND_HALF_UP).divide(left, right)


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


_SCALARS: Mapping[str, tuple[int, Callable[..., Any]]] = {
    **sqlite_dates.SCALARS,
    **sqlite_json.SCALARS,
    "dbs_add": (2, _binary(_WIDE.add)),
    "dbs_sub": (2, _binary(_WIDE.subtract)),
    "dbs_mul": (2, _binary(_WIDE.multiply)),
    "dbs_div": (2, _binary(_divide)),
    "dbs_neg": (1, _unary(_WIDE.minus)),
    "dbs_abs": (1, _unary(_WIDE.abs)),
    "dbs_round": (2, _round),
    # SQLite's own lower() and upper() know ASCII only.
    "dbs_lower": (1, _text(str.lower)),
    "dbs_upper": (1, _text(str.upper)),
}

_AGGREGATES: Sequence[tuple[str, type[Any]]] = (
    ("dbs_sum", _Sum),
    ("dbs_avg", _Average),
    ("dbs_min", _Least),
    ("dbs_max", _Extreme),
)


def register_functions(connection: sqlite3.Connection) -> None:
    """Give *connection* the collations ``dbs_decimal`` and ``dbs_json``, and the functions ``dbs_...``."""
    connection.create_collation("dbs_decimal", _compare)
    connection.create_collation("dbs_json", sqlite_json.compare)
    for name, (arguments, function) in _SCALARS.items():
        connection.create_function(name, arguments, function, deterministic=True)
    for name, aggregate in _AGGREGATES:
        connection.create_aggregate(name, 1, aggregate)
