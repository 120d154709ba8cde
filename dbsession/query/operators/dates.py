"""Dates and times as Python has them: their parts, their text, what they are compared with.

On SQLite they are texts of one width and microseconds (see `sqlite_values`): parts are cut out, since
SQLite's own functions round to milliseconds, and what has to be computed is computed by functions of
ours. A datetime with a time zone is stored in UTC, and its parts are those of UTC.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import date, datetime, time, timedelta
from typing import TYPE_CHECKING, Any

from dbsession.query.kinds import Kind, kind_of
from dbsession.query.operators.base import (
    ADDITION,
    PRIMARY,
    UNARY,
    Operator,
    Sql,
    enclosed,
    prepared,
)
from dbsession.query.operators.durations import OPERATORS as DURATIONS
from dbsession.query.operators.moments import MOMENTS, any_nullable, check_alike, type_of

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["fits", "overloads"]


def fits(kinds: tuple[Kind, ...]) -> bool:
    """Tell whether a date, a time or a timedelta is among the operands."""
    return any(kind.python in MOMENTS for kind in kinds)


# --- parts ----------------------------------------------------------------------------------------------

# name -> where its digits stand in the text of a datetime
_PARTS = {
    "year": (1, 4),
    "month": (6, 2),
    "day": (9, 2),
    "hour": (12, 2),
    "minute": (15, 2),
    "second": (18, 2),
    "microsecond": (21, 6),
}
_OF_DAY = frozenset({"year", "month", "day"})
_CLOCK = 11  # characters in front of the time


def _having(name: str, operand: Any) -> Any:
    """Return the type of *operand*, which has the part *name*."""
    python = type_of(operand)
    if python is datetime or python is (date if name in _OF_DAY else time):
        return python
    raise TypeError(f"{operand!r} is {kind_of(operand).name}, which has no {name}")


def _in_utc(compiler: Compiler, node: Any) -> str:
    """Return the SQL of a date or time as PostgreSQL takes its parts: one without a zone."""
    rendered = compiler.render(node)
    if kind_of(node).tz:
        return Sql(f"{enclosed(rendered, PRIMARY)} AT TIME ZONE 'UTC'", UNARY)
    return rendered


def _part(name: str) -> Operator:
    start, length = _PARTS[name]

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        python = _having(name, operands[0])
        if compiler.dialect.name == "sqlite":
            first = start - _CLOCK if python is time else start
            return f"CAST(substr({compiler.render(operands[0])}, {first}, {length}) AS INTEGER)"
        moment = _in_utc(compiler, operands[0])
        if name == "microsecond":
            return f"mod(EXTRACT(MICROSECONDS FROM {moment})::int, 1000000)"
        if name == "second":
            return f"trunc(EXTRACT(SECOND FROM {moment}))::int"
        return f"EXTRACT({name.upper()} FROM {moment})::int"

    def kind(operands: tuple[Any, ...]) -> Kind:
        _having(name, operands[0])
        return Kind(int, None, any_nullable(operands))

    return Operator(render, kind)


def _of_date(operand: Any, name: str) -> None:
    if type_of(operand) not in (date, datetime):
        raise TypeError(f"{operand!r} is {kind_of(operand).name}, which has no {name}()")


def _weekday(name: str, first: int) -> Operator:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if compiler.dialect.name == "sqlite":
            day = f"substr({compiler.render(operands[0])}, 1, 10)"
            number = f"(strftime('%w', {day}) + 6) % 7"
        else:
            number = f"EXTRACT(ISODOW FROM {_in_utc(compiler, operands[0])})::int - 1"
        if not first:
            return Sql(number, ADDITION)
        return Sql(f"{number} + 1", ADDITION) if compiler.dialect.name == "sqlite" else number.removesuffix(" - 1")

    def kind(operands: tuple[Any, ...]) -> Kind:
        _of_date(operands[0], name)
        return Kind(int, None, any_nullable(operands))

    return Operator(render, kind)


def _half(name: str, python: type, start: int, length: int) -> Operator:
    """Return what takes the date or the time out of a datetime."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if compiler.dialect.name == "sqlite":
            return f"substr({compiler.render(operands[0])}, {start}, {length})"
        return f"{enclosed(_in_utc(compiler, operands[0]), PRIMARY)}::{name}"

    def kind(operands: tuple[Any, ...]) -> Kind:
        if type_of(operands[0]) is not datetime:
            raise TypeError(f"{operands[0]!r} is {kind_of(operands[0]).name}, which has no {name}()")
        return Kind(python, None, any_nullable(operands))

    return Operator(render, kind)


# --- as text --------------------------------------------------------------------------------------------

_FORMATS = {date: "YYYY-MM-DD", time: "HH24:MI:SS.US", datetime: "YYYY-MM-DD{}HH24:MI:SS.US"}


def _as_text(name: str, between: str) -> Operator:
    """Return what writes as ``str()`` or ``isoformat()`` does in Python: microseconds only where there are any.

    *between* stands between the date and the time.
    """

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        python = type_of(operands[0])
        if compiler.dialect.name == "sqlite":
            text = compiler.render(operands[0])
        else:
            glue = f'"{between}"' if between.strip() else between
            zone = '"+00:00"' if kind_of(operands[0]).tz else ""
            text = f"to_char({_in_utc(compiler, operands[0])}, '{_FORMATS[python].format(glue)}{zone}')"
        if python is not date:
            text = f"replace({text}, '.000000', '')"
        if compiler.dialect.name == "sqlite" and python is datetime and between != " ":
            text = f"replace({text}, ' ', '{between}')"
        return text

    def kind(operands: tuple[Any, ...]) -> Kind:
        python = type_of(operands[0])
        if python is timedelta and name == "str()":
            raise TypeError(
                f"{operands[0]!r} is a timedelta, which no database writes as Python does; select it as it is"
            )
        if python not in _FORMATS:
            raise TypeError(f"{operands[0]!r} is {kind_of(operands[0]).name}, which has no {name}")
        return Kind(str, None, any_nullable(operands))

    return Operator(render, kind)


_OPERATORS: dict[str, Operator] = {
    **{name: _part(name) for name in _PARTS},
    "weekday": _weekday("weekday", 0),
    "isoweekday": _weekday("isoweekday", 1),
    "date": _half("date", date, 1, 10),
    "time": _half("time", time, 12, 15),
    "str": _as_text("str()", " "),
    "isoformat": _as_text("isoformat()", "T"),
}

# what means for dates what it means for everything, once it is clear that they can be compared
_COMPARING = ("=", "<>", "<", "<=", ">", ">=", "between", "in", "min2", "max2", "coalesce")


def overloads(general: Mapping[str, Operator]) -> dict[str, Operator]:
    """Return what operators mean where a date, a time or a timedelta is among their operands."""
    return {**{name: _checked(general[name]) for name in _COMPARING if name in general}, **DURATIONS, **_OPERATORS}


def _checked(operator: Operator) -> Operator:
    def checked(operands: tuple[Any, ...]) -> tuple[Any, ...]:
        check_alike(operands)
        return operands

    return prepared(operator, checked)
