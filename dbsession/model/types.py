"""The types of attributes: how a value from the program becomes the value that the database gives back.

An `AttributeType` has a Python half (`coerce`: check and normalise at assignment, so that memory
equals what a reload would give) and a storage half (`value_type`, for which the dialect has the
column type and the conversions).
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from decimal import ROUND_HALF_UP, Context, Decimal, InvalidOperation
from enum import Enum
from typing import Any
from uuid import UUID

from dbsession.backends.base import ValueType
from dbsession.errors import ERDiagramError

__all__ = ["AttributeType", "Json", "attribute_type", "json_value"]

_Coerce = Callable[[Any], Any]


class Json:
    """Declare a JSON attribute: ``data = Required(Json)``. Its values are dicts, lists, str, numbers, bool, None."""


@dataclass(frozen=True)
class AttributeType:
    """How values of one attribute are checked, normalised and stored."""

    value_type: ValueType
    coerce: _Coerce
    to_storage: _Coerce | None = None  # Enum member -> its value, bytearray -> bytes
    from_storage: _Coerce | None = None
    is_checked: bool = True  # takes part in optimistic checks unless the attribute says otherwise
    is_tracked: bool = False  # dicts, lists and bytearrays, changed in place
    empty: Any = None  # what a Required attribute refuses beside None


def _wrong(expected: str, value: Any) -> TypeError:
    return TypeError(f"must be {expected}, not {type(value).__name__} ({value!r:.60})")


def _string(options: dict[str, Any]) -> _Coerce:
    max_len: int | None = options.get("max_len")
    autostrip: bool = options.get("autostrip", True)

    def coerce(value: Any) -> str:
        if not isinstance(value, str):
            raise _wrong("a str", value)
        text: str = value if type(value) is str else str.__str__(value)
        if autostrip:
            text = text.strip()
        if max_len is not None and len(text) > max_len:
            raise ValueError(f"is too long: {len(text)} characters, and at most {max_len} are allowed")
        if "\0" in text:
            raise ValueError("has a NUL character, which PostgreSQL cannot store")
        return text

    return coerce


def _bounded(convert: _Coerce, low: Any, high: Any) -> _Coerce:
    if low is None and high is None:
        return convert

    def coerce(value: Any) -> Any:
        value = convert(value)
        if low is not None and value < low:
            raise ValueError(f"is {value!r}, below the smallest that is allowed, {low!r}")
        if high is not None and value > high:
            raise ValueError(f"is {value!r}, above the largest that is allowed, {high!r}")
        return value

    return coerce


_INT_SIZES = (8, 16, 24, 32, 64)


def _integer(options: dict[str, Any]) -> _Coerce:
    size: int = options.get("size") or 64
    unsigned: bool = options.get("unsigned", False)
    if size not in _INT_SIZES:
        raise ERDiagramError(f"size must be one of {_INT_SIZES} (bits), not {size!r}")
    least, most = (0, 2**size - 1) if unsigned else (-(2 ** (size - 1)), 2 ** (size - 1) - 1)
    low, high = options.get("min"), options.get("max")
    # two instructions for the usual case: an int in range
    floor, ceiling = max(least, low if low is not None else least), min(most, high if high is not None else most)

    def coerce(value: Any) -> int:
        if type(value) is not int:
            value = _to_int(value)
        if floor <= value <= ceiling:
            number: int = value
            return number
        raise ValueError(f"is {value}, and must be between {floor} and {ceiling}")

    return coerce


def _to_int(value: Any) -> int:
    """Accept what is a whole number beyond doubt: bool, 1.0, Decimal("1"), "1"; refuse 1.5 and "x"."""
    if isinstance(value, str):
        try:
            return int(value)
        except ValueError:
            raise _wrong("an int", value) from None
    if isinstance(value, bytes | bytearray) or (isinstance(value, float | Decimal) and value != value // 1):
        raise _wrong("an int", value)
    try:
        return int(value)
    except (TypeError, ValueError, OverflowError):
        raise _wrong("an int", value) from None


def _float(value: Any) -> float:
    if type(value) is float:
        return value
    if isinstance(value, str) or not hasattr(value, "__float__"):
        raise _wrong("a float", value)
    return float(value)


def _boolean(value: Any) -> bool:
    if type(value) is bool:
        return value
    if isinstance(value, int) and value in (0, 1):
        return bool(value)
    raise _wrong("a bool", value)


# Wide enough for every number that a column may hold; it rounds as the databases do.
_WIDE = Context(prec=1000, rounding=ROUND_HALF_UP)


def _decimal(options: dict[str, Any]) -> _Coerce:
    precision: int = options.get("precision") or 12
    scale: int = options["scale"] if options.get("scale") is not None else 2
    if scale > precision:
        raise ERDiagramError(f"scale ({scale}) cannot be larger than precision ({precision})")
    quantum = Decimal(1).scaleb(-scale)
    limit = Decimal(10) ** (precision - scale)

    def coerce(value: Any) -> Decimal:
        if isinstance(value, bool) or not isinstance(value, int | float | str | Decimal):
            raise _wrong("a Decimal", value)
        try:
            number = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
        except InvalidOperation:
            raise _wrong("a Decimal", value) from None
        if not number.is_finite():
            raise ValueError(f"is {number}, which is no number that can be stored")
        if number.copy_abs() >= limit:
            raise ValueError(f"is {number}, too large for {precision} digits, {scale} of them behind the point")
        rounded = number.quantize(quantum, context=_WIDE)
        if rounded.copy_abs() >= limit:
            raise ValueError(f"is {number}, too large for {precision} digits, {scale} of them behind the point")
        return rounded or rounded.copy_abs()  # the databases know no -0

    return coerce


def _datetime(options: dict[str, Any]) -> _Coerce:
    tz: bool = options.get("tz", False)
    round_to = _precision(options)

    def coerce(value: Any) -> datetime:
        if isinstance(value, str):
            try:
                value = datetime.fromisoformat(value)
            except ValueError:
                raise _wrong("a datetime", value) from None
        if not isinstance(value, datetime):
            raise _wrong("a datetime", value)
        if tz and value.tzinfo is None:
            raise ValueError(f"is {value!r}, without a time zone; the attribute is declared with tz=True")
        if not tz and value.tzinfo is not None:
            raise ValueError(f"is {value!r}, with a time zone; declare the attribute with tz=True to keep it")
        if tz and value.tzinfo is not UTC:
            value = value.astimezone(UTC)
        moment: datetime = value.replace(microsecond=round_to(value.microsecond), fold=0)
        return moment

    return coerce


def _precision(options: dict[str, Any]) -> Callable[[int], int]:
    """Cut microseconds to the digits that the column keeps."""
    digits = options.get("precision")
    if digits is None or digits >= 6:
        return int
    unit: int = 10 ** (6 - digits)
    return lambda microseconds: microseconds // unit * unit


def _date(value: Any) -> date:
    if isinstance(value, str):
        try:
            return date.fromisoformat(value)
        except ValueError:
            raise _wrong("a date", value) from None
    if isinstance(value, datetime) or not isinstance(value, date):
        raise _wrong("a date", value)
    return value


def _time(options: dict[str, Any]) -> _Coerce:
    round_to = _precision(options)

    def coerce(value: Any) -> time:
        if not isinstance(value, time):
            raise _wrong("a time", value)
        if value.tzinfo is not None:
            raise ValueError("has a time zone; a time attribute keeps none")
        return value.replace(microsecond=round_to(value.microsecond), fold=0)

    return coerce


def _timedelta(value: Any) -> timedelta:
    if not isinstance(value, timedelta):
        raise _wrong("a timedelta", value)
    return value


def _uuid(value: Any) -> UUID:
    if isinstance(value, UUID):
        return value
    try:
        if isinstance(value, bytes):
            return UUID(bytes=value)
        if isinstance(value, str):
            return UUID(value)
    except ValueError:
        pass
    raise _wrong("a UUID", value)


def _bytes(options: dict[str, Any]) -> _Coerce:
    max_len: int | None = options.get("max_len")

    def coerce(value: Any) -> bytes:
        if not isinstance(value, bytes | bytearray | memoryview):
            raise _wrong("bytes", value)
        if max_len is not None and len(value) > max_len:
            raise ValueError(f"is too long: {len(value)} bytes, and at most {max_len} are allowed")
        return bytes(value)

    return coerce


def _bytearray(options: dict[str, Any]) -> _Coerce:
    coerce_bytes = _bytes(options)
    return lambda value: bytearray(coerce_bytes(value))


_LONGEST_INT = 14_000  # bits; Python itself refuses to write more than 4300 digits


def _json_text(value: str, path: str) -> str:
    if "\0" in value:
        raise ValueError(f"has a NUL character at {path}, which PostgreSQL cannot store")
    return value if type(value) is str else str.__str__(value)


def json_value(value: Any, path: str = "$") -> Any:
    """Return *value* as JSON would give it back, or raise TypeError with the path of what JSON does not have."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, Enum):
        return json_value(value.value, path)
    if isinstance(value, str):
        return _json_text(value, path)
    if isinstance(value, int):
        if value.bit_length() > _LONGEST_INT:
            raise ValueError(f"has an int of {value.bit_length()} bits at {path}, which is too long to be written down")
        return int(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise ValueError(f"has {value!r} at {path}, which JSON does not have")
        return float(value) + 0.0  # without the sign of -0.0, which PostgreSQL does not keep
    if isinstance(value, datetime | date | time):
        return value.isoformat()
    if isinstance(value, Decimal | UUID):
        return str(value)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise TypeError(f"has a key that is no str at {path}: {key!r}")
        return {_json_text(key, path): json_value(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [json_value(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise TypeError(f"has a {type(value).__name__} at {path}, which JSON does not have")


def _enum(enum: type[Enum], options: dict[str, Any]) -> AttributeType:
    values = [member.value for member in enum]
    kinds = {type(value) for value in values}
    if len(kinds) != 1 or not (kinds <= {int, str}):
        raise ERDiagramError(f"the values of {enum.__name__} must be all str or all int to be stored")
    kind = kinds.pop()
    longest = max(map(len, values)) if kind is str else None

    def coerce(value: Any) -> Enum:
        if isinstance(value, enum):
            return value
        try:
            return enum(value)
        except ValueError:
            raise ValueError(f"is {value!r}, and must be one of {', '.join(map(repr, values))}") from None

    def load(value: Any) -> Enum:
        try:
            return enum(value)
        except ValueError:
            known = ", ".join(map(repr, values))
            raise ValueError(f"the database holds {value!r}, which is no value of {enum.__name__} ({known})") from None

    return AttributeType(
        ValueType(kind, max_len=options.get("max_len") or longest, size=options.get("size")),
        coerce,
        to_storage=lambda member: member.value,
        from_storage=load,
    )


def _array(item_type: Any, options: dict[str, Any]) -> AttributeType:
    item = attribute_type(item_type, options)
    if item.value_type.python is dict:
        raise ERDiagramError("an array of Json cannot be stored; a Json attribute holds lists as it is")

    def coerce(value: Any) -> list[Any]:
        if isinstance(value, str) or not isinstance(value, list | tuple):
            raise _wrong("a list", value)
        return [None if element is None else item.coerce(element) for element in value]

    return AttributeType(
        ValueType(list, item=item.value_type), coerce, _each(item.to_storage), _each(item.from_storage), is_tracked=True
    )


def _each(convert: _Coerce | None) -> _Coerce | None:
    """Return *convert* for the items of a list, if there is anything to convert."""
    if convert is None:
        return None
    return lambda values: [None if value is None else convert(value) for value in values]


def attribute_type(python: Any, options: dict[str, Any]) -> AttributeType:
    """Return how values of *python* are handled, with the *options* of the attribute's declaration.

    Raises:
        ERDiagramError: the type is none that can be stored, or an option does not fit.
    """
    if isinstance(python, type) and issubclass(python, Enum):
        return _enum(python, options)
    arguments = getattr(python, "__args__", None)
    if getattr(python, "__origin__", None) is list and arguments:
        return _array(arguments[0], options)
    low, high, size = options.get("min"), options.get("max"), options.get("size")
    precision, scale, max_len = options.get("precision"), options.get("scale"), options.get("max_len")
    if python is str:
        return AttributeType(ValueType(str, max_len=max_len), _string(options), empty="")
    if python is int:
        unsigned = options.get("unsigned", False)
        return AttributeType(ValueType(int, size=size, unsigned=unsigned), _integer(options))
    if python is bool:
        return AttributeType(ValueType(bool), _boolean)
    if python is float:
        return AttributeType(ValueType(float), _bounded(_float, low, high), is_checked=False)
    if python is Decimal:
        value_type = ValueType(Decimal, precision=precision or 12, scale=2 if scale is None else scale)
        return AttributeType(value_type, _bounded(_decimal(options), low, high))
    if python is datetime:
        tz = options.get("tz", False)
        return AttributeType(ValueType(datetime, precision=precision, tz=tz), _datetime(options))
    if python is date:
        return AttributeType(ValueType(date), _date)
    if python is time:
        return AttributeType(ValueType(time, precision=precision), _time(options))
    if python is timedelta:
        return AttributeType(ValueType(timedelta), _timedelta)
    if python is UUID:
        return AttributeType(ValueType(UUID), _uuid)
    if python is bytes:
        return AttributeType(ValueType(bytes, max_len=max_len), _bytes(options))
    if python is bytearray:
        value_type = ValueType(bytes, max_len=max_len)
        return AttributeType(value_type, _bytearray(options), bytes, bytearray, is_tracked=True)
    if python is Json or python is dict:
        return AttributeType(ValueType(dict), json_value, is_checked=False, is_tracked=True)
    name = getattr(python, "__name__", repr(python))
    raise ERDiagramError(
        f"{name} is no type that can be stored; there are int, str, bool, float, Decimal, datetime, date, time, "
        f"timedelta, UUID, bytes, Json, an Enum, list[...] (arrays, on PostgreSQL), and entities"
    )
