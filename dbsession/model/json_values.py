"""Values of attributes and keys as JSON has them, and back: what JSON has no type for travels as text.

Dates and times are ISO 8601, and so are timedeltas (``P1DT2H3.5S``), which a number of seconds would
round; Decimal and UUID are their text, an Enum member is its value, bytes are base64. Floats that JSON does not have
are ``"NaN"``, ``"Infinity"`` and ``"-Infinity"``.
"""

from __future__ import annotations

import re
from base64 import b64decode, b64encode
from binascii import Error as NoBase64
from collections.abc import Callable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from math import isfinite, isnan
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbsession.model.attributes import ValueAttribute
from dbsession.model.references import ReferenceAttribute

if TYPE_CHECKING:
    from dbsession.backends.base import ValueType
    from dbsession.model.mapping import Mapping

__all__ = ["as_json", "key_from_json", "value_from_json"]


def as_json(value: Any) -> Any:
    """Return *value* as JSON has it; what is of no type of an attribute is left as it is."""
    if isinstance(value, Enum):
        return as_json(value.value)
    if isinstance(value, dict):
        return {key: as_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [as_json(item) for item in value]
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, timedelta):
        return _duration_text(value)
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, float) and not isfinite(value):
        return "NaN" if isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, bytes | bytearray):
        return b64encode(value).decode("ascii")
    return value


def _duration_text(value: timedelta) -> str:
    sign, value = ("-", -value) if value < timedelta(0) else ("", value)
    seconds = f"{value.seconds}.{value.microseconds:06}".rstrip("0").rstrip(".")
    days = f"{value.days}D" if value.days else ""
    return f"{sign}P{days}" if days and seconds == "0" else f"{sign}P{days}T{seconds}S"


_DURATION = re.compile(
    r"(?P<sign>[-+]?)P(?=.)(?:(?P<weeks>\d+)W)?(?:(?P<days>\d+)D)?"
    r"(?:T(?=.)(?:(?P<hours>\d+)H)?(?:(?P<minutes>\d+)M)?(?:(?P<seconds>\d+)(?:[.,](?P<part>\d{1,6})\d*)?S)?)?"
)


def _duration(text: str) -> timedelta:
    found = _DURATION.fullmatch(text)
    if found is None:
        raise ValueError("which is no duration of ISO 8601, such as P1DT2H30M or PT0.5S")
    parts = {name: int(found[name] or 0) for name in ("weeks", "days", "hours", "minutes", "seconds")}
    length = timedelta(**parts, microseconds=int((found["part"] or "").ljust(6, "0")))
    return -length if found["sign"] == "-" else length


def _bytes(text: str) -> bytes:
    try:
        return b64decode(text, validate=True)
    except (NoBase64, ValueError):
        raise ValueError("which is no base64, as JSON has bytes") from None


def _float(text: str) -> float:
    if text not in _NOT_FINITE:
        raise ValueError(f"which is none of {', '.join(_NOT_FINITE)}")
    return float(text)


_NOT_FINITE = ("NaN", "Infinity", "-Infinity")
# What coercing itself takes no text for.
_FROM_TEXT: dict[Any, Callable[[str], Any]] = {
    bytes: _bytes,
    float: _float,
    time: time.fromisoformat,
    timedelta: _duration,
}


def _value(kind: ValueType, value: Any) -> Any:
    if kind.item is not None and isinstance(value, list | tuple):
        return [_value(kind.item, item) for item in value]
    if isinstance(value, str) and kind.python in _FROM_TEXT:
        return _FROM_TEXT[kind.python](value)
    if kind.python is timedelta and isinstance(value, int | float) and not isinstance(value, bool):
        return timedelta(seconds=value)
    return value


def value_from_json(attribute: ValueAttribute[Any], value: Any) -> Any:
    """Return *value*, as JSON may have it, as one that can be assigned to *attribute*.

    Raises:
        ValueError: it is text, but not that of such a value.
    """
    try:
        return _value(attribute.kind.value_type, value)
    except (ValueError, OverflowError) as error:
        raise ValueError(f"{attribute!r} cannot be read from {value!r:.60}: {error}") from None


def key_from_json(mapping: Mapping, key: Any) -> Any:
    """Return *key*, as JSON has a key of *mapping*, as ``E[key]`` takes it: lists become tuples, text values.

    What does not fit is left as it is, for ``E[key]`` to refuse.

    Raises:
        ValueError: a part is text, but not that of such a value.
    """
    if len(mapping.key) == 1:
        attribute = mapping.key[0]
        is_alone = isinstance(key, list | tuple) and len(key) == 1 and isinstance(attribute, ValueAttribute)
        return _part(attribute, key[0] if is_alone else key)
    if not isinstance(key, list | tuple):
        return key
    if len(key) != len(mapping.key):
        return tuple(key)
    return tuple([_part(attribute, part) for attribute, part in zip(mapping.key, key, strict=True)])


def _part(attribute: Any, part: Any) -> Any:
    if isinstance(attribute, ReferenceAttribute):
        return key_from_json(attribute.target, part)
    return value_from_json(attribute, part)
