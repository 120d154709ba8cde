"""How values from outside travel into a query: converted as what stands beside them in it is.

A value may be known only when the query is sent, so what is decided while the SQL is written is a
function: `traveller`.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from dbsession.backends.base import Dialect, ValueType
from dbsession.errors import BindingError, ConstraintError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.model.types import json_value
from dbsession.query.kinds import Kind

__all__ = ["Like", "key_of", "traveller"]

Like = Attribute[Any] | Kind | None
"""What a value stands beside: an attribute, or the kind of an expression; None: nothing that matters."""

_NUMBERS = (int, float, Decimal)
_MOMENTS = (datetime, date, time, timedelta)


def traveller(like: Like, dialect: Dialect) -> Callable[[Any], Any]:
    """Return what turns a value into a parameter where it stands beside *like*.

    For objects and their keys it gives the key as rows have it: a tuple where it has several parts. The
    function raises TypeError for a value of a type that *like* never has.
    """
    if isinstance(like, Kind) and like.python is dict:
        return lambda value: _as_json(value, like, dialect)
    if isinstance(like, Kind) and like.attribute is not None:
        like = like.attribute
    if isinstance(like, ReferenceAttribute):
        reference, target = like, like.target
        return lambda value: _key(value, target, reference)
    if isinstance(like, ValueAttribute):
        attribute = like
        if attribute.kind.value_type.python is dict:
            return lambda value: _as_json(value, attribute, dialect)
        return lambda value: _as_attribute(value, attribute, dialect)
    kind = like if isinstance(like, Kind) else Kind(None)
    python = kind.python
    if isinstance(python, Mapping):
        mapping = python
        return lambda value: _key(value, mapping, mapping)
    if python in _MOMENTS:
        return lambda value: _as_moment(value, kind, dialect)
    if python is Decimal:
        return lambda value: _exact(value, dialect) if _is_number(value) else _by_itself(value, dialect)
    if python in (int, float):
        return lambda value: _number(value, dialect) if _is_number(value) else _by_itself(value, dialect)
    return lambda value: _by_itself(value, dialect)


def key_of(obj: EntityBase) -> Any:
    """Return the key of *obj* as rows have it.

    Raises:
        ConstraintError: it has none yet, or none any more.
    """
    key = obj._key_
    if key is None:
        why = "flush() first" if obj._state_.is_new else obj._state_.reason
        raise ConstraintError(f"{obj!r} has no key, so nothing can be compared with it; {why}")
    return key


def _key(value: Any, target: Mapping, shown: object) -> Any:
    if not isinstance(value, EntityBase):
        try:
            return target.entity._key_from_(value)
        except TypeError as error:
            raise TypeError(f"{shown!r} is compared with an object of {target.name} or its key: {error}") from None
    if value._mapping_.root is not target.root:
        raise TypeError(f"{shown!r} refers to {target.name}, and {value!r} is none")
    return key_of(value)


def _is_number(value: Any) -> bool:
    return isinstance(value, _NUMBERS) and not isinstance(value, bool)


def _as_attribute(value: Any, like: ValueAttribute[Any], dialect: Dialect) -> Any:
    if isinstance(value, EntityBase):
        raise TypeError(
            f"{like!r} is no reference, and is compared with {value!r}; compare it with an attribute of that"
        )
    if value is None:
        return None
    python = like.kind.value_type.python
    if python in _NUMBERS and _is_number(value):
        return _exact(value, dialect, like.kind.value_type) if python is Decimal else _number(value, dialect)
    value = _begun(value, python)
    if python in _MOMENTS and _is_moment(value, python, tz=like.kind.value_type.tz):
        return _moment(value, dialect)  # all its digits, even where the column has less
    if python is str and like.kind.to_storage is None and isinstance(value, str) and "\0" not in value:
        return str.__str__(value)  # all its blanks, even where the attribute strips them
    try:
        return like.raw(like.kind.coerce(value))
    except TypeError as error:
        raise TypeError(f"{like!r} {error}") from None
    except ValueError as error:
        if isinstance(value, Enum):
            raise TypeError(f"{like!r} {error}") from None
        if isinstance(value, datetime | date) or (isinstance(value, str) and "\0" in value):
            raise ValueError(f"{like!r} {error}") from None
        return value  # too long, out of range: nothing matches, which is an answer


def _is_moment(value: Any, python: Any, *, tz: bool) -> bool:
    """Tell whether *value* is of the type *python*, a datetime being no date, and has a time zone if *tz*."""
    if not isinstance(value, python) or (python is date and isinstance(value, datetime)):
        return False
    return python is timedelta or (getattr(value, "tzinfo", None) is not None) is tz


def _begun(value: Any, python: Any) -> Any:
    """Return the beginning of the day *value* where it is compared with datetimes; anything else is itself."""
    if python is datetime and isinstance(value, date) and not isinstance(value, datetime):
        return datetime.combine(value, time())
    return value


def _moment(value: Any, dialect: Dialect) -> Any:
    if dialect.name == "sqlite" and isinstance(value, timedelta) and not -_LONGEST <= value <= _LONGEST:
        return 2**63 - 1 if value > _LONGEST else -(2**63)  # the longest that there is, to compare with
    if isinstance(value, datetime) and value.tzinfo is not None:
        value = value.astimezone(UTC)
    return _by_itself(value, dialect)


_LONGEST = timedelta(microseconds=2**63 - 1)


def _as_moment(value: Any, kind: Kind, dialect: Dialect) -> Any:
    """Return a date, a time or a timedelta as it travels beside an expression of *kind*.

    Raises:
        TypeError: it is something else, or has a time zone where the others have none.
    """
    if value is None:
        return None
    value = _begun(value, kind.python)
    if not _is_moment(value, kind.python, tz=kind.tz):
        zone = f" with{'' if kind.tz else 'out'} a time zone" if isinstance(value, datetime) else ""
        raise TypeError(f"{value!r} stands beside {kind.name}{zone if kind.python is datetime else ''}")
    return _moment(value, dialect)


def _as_json(value: Any, shown: object, dialect: Dialect) -> Any:
    """Return *value* as a JSON document travels, converted as an assignment would convert it.

    Raises:
        TypeError: JSON has no such value.
        ValueError: it is no number, an infinity, or holds a NUL character.
    """
    if value is None:
        return None
    try:
        document = json_value(value)
    except (TypeError, ValueError) as error:
        name = "JSON" if isinstance(shown, Kind) else repr(shown)
        raise type(error)(f"{name} is compared with {value!r:.60}, which {error}") from None
    encode = dialect.codec(ValueType(dict)).encode
    return document if encode is None else encode(document)


_ANY_DECIMAL = ValueType(Decimal)


def _exact(value: Any, dialect: Dialect, column: ValueType = _ANY_DECIMAL) -> Any:
    """Return a number as a Decimal travels: exactly, even where the *column* could not hold it.

    Where it could, it has as many digits behind the point as values there.
    """
    exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
    if dialect.name == "sqlite" and not exact.is_finite():
        return None if exact.is_nan() else str(exact)  # the collation knows where infinity stands
    encode = dialect.codec(_ANY_DECIMAL).encode
    if encode is None:
        return exact
    plain: str = encode(exact)
    if column.scale is None or len(plain.partition(".")[2]) > column.scale:
        return plain
    of_column = dialect.codec(column).encode
    return plain if of_column is None else of_column(exact)


def _number(value: Any, dialect: Dialect) -> Any:
    """Return a number as it travels beside an int or float: exactly, even where a column could not hold it."""
    if isinstance(value, Decimal):
        value = int(value) if value == value.to_integral_value() else float(value)
    if dialect.name == "sqlite" and isinstance(value, int) and not -(2**63) <= value < 2**63:
        return float(value)  # SQLite has no integers of that size
    return value


def _by_itself(value: Any, dialect: Dialect) -> Any:
    """Return *value* as a column of its own type would send it.

    Raises:
        ValueError: it is a text with a NUL character.
    """
    if isinstance(value, Enum):
        value = value.value
    if value is None:
        return None
    python = type(value)
    if python is int:
        return _number(value, dialect)
    if isinstance(value, str) and "\0" in value:
        raise ValueError(f"{value!r:.60} has a NUL character, which PostgreSQL cannot store")
    try:
        encode = dialect.codec(ValueType(python, tz=getattr(value, "tzinfo", None) is not None)).encode
    except BindingError:
        return value
    return value if encode is None else encode(value)
