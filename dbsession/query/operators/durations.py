"""Arithmetic with dates, times and timedeltas, exact to the microsecond."""

from __future__ import annotations

from collections.abc import Callable
from datetime import date, datetime, timedelta
from typing import TYPE_CHECKING, Any

from dbsession.query.kinds import Kind, is_value, kind_of, value_of
from dbsession.query.operators.base import ADDITION, MULTIPLICATION, PRIMARY, UNARY, Operator, Sql, enclosed
from dbsession.query.operators.moments import any_nullable, check_alike, type_of
from dbsession.query.tree import is_many

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS"]

_Render = Callable[["Compiler", tuple[Any, ...]], str]


# --- parts of a timedelta -------------------------------------------------------------------------------


def _seconds(compiler: Compiler, node: Any) -> str:
    """Return the SQL of the seconds of a timedelta on PostgreSQL, with their fraction: exact decimals."""
    return f"EXTRACT(EPOCH FROM {compiler.render(node, Kind(timedelta))})"


def _of_timedelta(name: str, python: type, sqlite: str, postgresql: str) -> Operator:
    """Return what takes a part of a timedelta: {} is its microseconds on SQLite, and its seconds on PostgreSQL."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if compiler.dialect.name == "sqlite":
            rendered = enclosed(compiler.render(operands[0]), MULTIPLICATION)
            return Sql(sqlite.format(rendered), PRIMARY if sqlite.endswith(")") else MULTIPLICATION)
        return postgresql.format(_seconds(compiler, operands[0]))

    def kind(operands: tuple[Any, ...]) -> Kind:
        if type_of(operands[0]) is not timedelta:
            raise TypeError(f"{operands[0]!r} is {kind_of(operands[0]).name}, which has no {name}")
        return Kind(python, None, any_nullable(operands))

    return Operator(render, kind)


def _beside(compiler: Compiler, node: Any, other: Any) -> str:
    """Render *node*, which as a value travels as *other* does, with all its digits."""
    kind = kind_of(node if is_value(node) and is_value(other) else other)
    return compiler.render(node, kind._replace(attribute=None))


def _no(operator: str, operands: tuple[Any, ...]) -> TypeError:
    what = " and ".join([f"{operand!r} ({kind_of(operand).name})" for operand in operands])
    return TypeError(f"{operator} is not for {what}; Python has none for them either")


# --- arithmetic -----------------------------------------------------------------------------------------


def _later(sign: str) -> _Render:
    """Return what renders a datetime plus or minus a timedelta."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        moment, span = operands
        kind = kind_of(moment)
        first = compiler.render(moment)
        second = compiler.render(span, Kind(timedelta))
        if compiler.dialect.name == "sqlite":
            return f"{_MOVED[sign]}({first}, {second})"
        second = enclosed(second, ADDITION + 1)
        if kind.tz:  # a day of 24 hours, whatever the session's time zone does on it
            shifted = f"({enclosed(first, PRIMARY)} AT TIME ZONE 'UTC' {sign} {second})"
            return Sql(f"{shifted} AT TIME ZONE 'UTC'", UNARY)
        return Sql(f"{enclosed(first, ADDITION)} {sign} {second}", ADDITION)

    return render


_MOVED = {"+": "dbs_later", "-": "dbs_earlier"}


def _other_day(sign: str) -> _Render:
    """Return what renders a date plus or minus a timedelta, of which only the days count, as in Python.

    They are rounded down: -1 hour is -1 day and 23 hours.
    """

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        day, span = operands
        first = compiler.render(day)
        if compiler.dialect.name == "sqlite":
            return f"{_MOVED[sign]}({first}, {compiler.render(span, Kind(timedelta))})"
        if is_value(span):
            days = compiler.parameter_of(span, Kind(timedelta), _days)
        else:
            days = f"floor({_seconds(compiler, span)} / 86400)::int"
        return Sql(f"{enclosed(first, ADDITION)} {sign} {days}", ADDITION)

    return render


def _days(span: timedelta) -> int:
    return span.days


def _turned(render: _Render) -> _Render:
    """Return *render* with its two operands the other way round."""
    return lambda compiler, operands: render(compiler, operands[::-1])


def _between_days(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    left, right = _sides(compiler, operands)
    if compiler.dialect.name == "sqlite":
        return f"dbs_elapsed({left}, {right})"
    return f"make_interval(days => {enclosed(left, ADDITION)} - {enclosed(right, ADDITION + 1)})"


def _elapsed(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    left, right = _sides(compiler, operands)
    if compiler.dialect.name == "sqlite":
        return f"dbs_elapsed({left}, {right})"
    return Sql(f"{enclosed(left, ADDITION)} - {enclosed(right, ADDITION + 1)}", ADDITION)


def _sides(compiler: Compiler, operands: tuple[Any, ...]) -> tuple[str, str]:
    left, right = operands
    return _beside(compiler, left, right), _beside(compiler, right, left)


def _spans(sign: str) -> _Render:
    """Return what renders the sum or the difference of two timedeltas."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        left, right = _sides(compiler, operands)
        return Sql(f"{enclosed(left, ADDITION)} {sign} {enclosed(right, ADDITION + 1)}", ADDITION)

    return render


def _times(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    """Render a timedelta times a number; on PostgreSQL by its seconds, since days would be rounded alone."""
    span, factor = operands
    if compiler.dialect.name == "sqlite":
        first = compiler.render(span, Kind(timedelta))
        second = compiler.render(factor, kind_of(factor))
        if type_of(factor) is int:
            return Sql(f"{enclosed(first, MULTIPLICATION)} * {enclosed(second, MULTIPLICATION + 1)}", MULTIPLICATION)
        return f"dbs_span_mul({first}, {second})"
    if type_of(factor) is int:
        first = enclosed(compiler.render(span, Kind(timedelta)), MULTIPLICATION)
    else:
        first = f"{_seconds(compiler, span)} * interval '1 second'"
    second = compiler.render(factor, kind_of(factor))
    return Sql(f"{first} * {enclosed(second, MULTIPLICATION + 1)}", MULTIPLICATION)


def _parts_of(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    """Render a timedelta divided by a number, rounded once."""
    span, divisor = operands
    if compiler.dialect.name == "sqlite":
        first = compiler.render(span, Kind(timedelta))
        return f"dbs_span_div({first}, {compiler.render(divisor, kind_of(divisor))})"
    first = f"{_seconds(compiler, span)} * interval '1 second'"
    second = compiler.render(divisor, kind_of(divisor))
    return Sql(f"{first} / {enclosed(second, MULTIPLICATION + 1)}", MULTIPLICATION)


def _whole_parts_of(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    span, divisor = operands
    if compiler.dialect.name == "sqlite":
        first = compiler.render(span, Kind(timedelta))
        return f"dbs_span_floor({first}, {compiler.render(divisor, kind_of(divisor))})"
    first = f"{_seconds(compiler, span)} * 1000000"
    second = compiler.render(divisor, kind_of(divisor))
    whole = f"floor({first} / {enclosed(second, MULTIPLICATION + 1)})"
    return Sql(f"{whole} * interval '1 microsecond'", MULTIPLICATION)


def _rest(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    """Render the remainder of two timedeltas, with the sign of the divisor."""
    if compiler.dialect.name == "sqlite":
        left, right = [compiler.render(operand, Kind(timedelta)) for operand in operands]
        return f"dbs_span_mod({left}, {right})"
    left, right = [_seconds(compiler, operand) for operand in operands]
    rest = f"({left} - {right} * floor({left} / {right}))"
    return Sql(f"{rest} * interval '1 second'", MULTIPLICATION)


def _quotient(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        left, right = [compiler.render(operand, Kind(timedelta)) for operand in operands]
        return Sql(f"CAST({left} AS REAL) / {enclosed(right, MULTIPLICATION + 1)}", MULTIPLICATION)
    left, right = [_seconds(compiler, operand) for operand in operands]
    return Sql(f"{left} / {right}", MULTIPLICATION)


def _whole_quotient(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if compiler.dialect.name == "sqlite":
        left, right = [compiler.render(operand, Kind(timedelta)) for operand in operands]
        return f"dbs_span_floor({left}, {right})"
    left, right = [_seconds(compiler, operand) for operand in operands]
    return f"floor({left} / {right})::bigint"


# operator -> types of the operands -> how it is written, and what comes out
_ARITHMETIC: dict[str, dict[tuple[Any, Any], tuple[_Render, type]]] = {
    "+": {
        (datetime, timedelta): (_later("+"), datetime),
        (timedelta, datetime): (_turned(_later("+")), datetime),
        (date, timedelta): (_other_day("+"), date),
        (timedelta, date): (_turned(_other_day("+")), date),
        (timedelta, timedelta): (_spans("+"), timedelta),
    },
    "-": {
        (datetime, timedelta): (_later("-"), datetime),
        (date, timedelta): (_other_day("-"), date),
        (timedelta, timedelta): (_spans("-"), timedelta),
        (datetime, datetime): (_elapsed, timedelta),
        (date, date): (_between_days, timedelta),
    },
    "*": {
        **{(timedelta, number): (_times, timedelta) for number in (int, float)},
        **{(number, timedelta): (_turned(_times), timedelta) for number in (int, float)},
    },
    "/": {
        **{(timedelta, number): (_parts_of, timedelta) for number in (int, float)},
        (timedelta, timedelta): (_quotient, float),
    },
    "//": {(timedelta, int): (_whole_parts_of, timedelta), (timedelta, timedelta): (_whole_quotient, int)},
    "%": {(timedelta, timedelta): (_rest, timedelta)},
}


def _arithmetic(operator: str) -> Operator:
    meanings = _ARITHMETIC[operator]

    def meaning(operands: tuple[Any, ...]) -> tuple[_Render, type]:
        left, right = operands
        found = meanings.get((type_of(left), type_of(right)))
        if found is not None:
            if type_of(left) is type_of(right):
                check_alike(operands, "subtract")
            return found
        if operator == "-" and {type_of(left), type_of(right)} == {date, datetime}:
            check_alike(operands, "subtract")
        raise _no(operator, operands)

    def kind(operands: tuple[Any, ...]) -> Kind:
        python = meaning(operands)[1]
        tz = python is datetime and any(kind_of(operand).tz for operand in operands)
        return Kind(python, None, any_nullable(operands), tz=tz)

    return Operator(lambda compiler, operands: meaning(operands)[0](compiler, operands), kind)


def _of_one_span(operator: str, render: _Render) -> Operator:
    def kind(operands: tuple[Any, ...]) -> Kind:
        if type_of(operands[0]) is not timedelta:
            raise _no(operator, operands)
        return Kind(timedelta, None, any_nullable(operands))

    return Operator(render, kind)


def _average_kind(operands: tuple[Any, ...]) -> Kind:
    kind = kind_of(operands[0])
    if kind.python is not timedelta:
        raise TypeError(f"avg() takes numbers and timedeltas, and {operands[0]!r} is {kind.name}")
    return Kind(timedelta)


def _average(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    """Render avg() of timedeltas: their sum divided by their number, rounded once."""
    node, *options = operands
    if is_many(node):
        return compiler.aggregated("avg", *operands)
    distinct = "DISTINCT " if options and value_of(options[0]) else ""
    text = distinct + compiler.render(node)
    if compiler.dialect.name == "sqlite":
        return f"dbs_span_div(sum({text}), count({text}))"
    return Sql(f"EXTRACT(EPOCH FROM sum({text})) * interval '1 second' / count({text})", MULTIPLICATION)


def _negation(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    return Sql(f"- {enclosed(compiler.render(operands[0]), PRIMARY)}", UNARY)


def _absolute(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    first = compiler.render(operands[0])
    if compiler.dialect.name == "sqlite":
        return f"abs({first})"
    return f"greatest({first}, - {enclosed(first, PRIMARY)})"


OPERATORS: dict[str, Operator] = {
    "total_seconds": _of_timedelta("total_seconds()", float, "{} / 1000000.0", "{}::float8"),
    "days": _of_timedelta("days", int, "dbs_span_floor({}, 86400000000)", "floor({} / 86400)::int"),
    "seconds": _of_timedelta(
        "seconds", int, "dbs_span_mod({}, 86400000000) / 1000000", "mod(mod(floor({}), 86400) + 86400, 86400)::int"
    ),
    "microseconds": _of_timedelta(
        "microseconds", int, "dbs_span_mod({}, 1000000)", "(mod(mod({}, 1) + 1, 1) * 1000000)::int"
    ),
    **{operator: _arithmetic(operator) for operator in _ARITHMETIC},
    "neg": _of_one_span("-", _negation),
    "abs": _of_one_span("abs()", _absolute),
    "avg": Operator(_average, _average_kind),
}
