"""How Python values lie in SQLite: texts that sort and compare as their values do.

SQLite knows integers, floats, texts and blobs. NUMERIC affinity turns '123456789012345678.12' into
a rounded number, so a Decimal is text, with a collation and functions of our own (see
`sqlite_functions`); dates and times are fixed-width ISO 8601, so that comparing texts compares times.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

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
