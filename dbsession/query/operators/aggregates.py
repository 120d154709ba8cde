"""Aggregates: of the rows of the query that they stand in, or of a collection or subquery of their own.

NULLs are left out. The sum of nothing is 0 and its count 0; everything else of nothing is None. avg() is
a float. sum(), avg(), min() and max() take a second operand, group_concat() a third: whether equal values
count once. sum() of conditions counts those that are true.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import TYPE_CHECKING, Any
from uuid import UUID

from dbsession.query.kinds import Kind, is_condition, kind_of, value_of
from dbsession.query.operators.base import Operator, enclosed
from dbsession.query.operators.comparison import is_null
from dbsession.query.operators.conversions import as_text, str_kind
from dbsession.query.operators.operands import bare, collated, rendered
from dbsession.query.tree import Variable, is_many

if TYPE_CHECKING:
    from dbsession.query.sql.compiler import Compiler

__all__ = ["OPERATORS"]

_Render = Callable[["Compiler", tuple[Any, ...]], str]
_Kind = Callable[[tuple[Any, ...]], Kind]


def _aggregate(name: str, render: _Render, kind: _Kind) -> Operator:
    """Return an aggregate that *render* writes over the rows of its own query."""

    def write(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        kind(operands)
        if operands and is_many(operands[0]):
            return compiler.aggregated(name, *operands)
        return render(compiler, operands)

    return Operator(write, kind)


def _distinct(operands: tuple[Any, ...], place: int = 1) -> str:
    return "DISTINCT " if len(operands) > place and value_of(operands[place]) else ""


# --- count ------------------------------------------------------------------------------------------------


def _count_kind(operands: tuple[Any, ...]) -> Kind:
    if operands:
        kind_of(operands[0])
    return Kind(int, None, nullable=False)


def _count(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if len(operands) > 1 and value_of(operands[1]):
        return _count_distinct(compiler, operands)
    if not operands or not kind_of(operands[0]).nullable:
        return "count(*)"
    if isinstance(operands[0], Variable) or kind_of(operands[0]).is_object:
        return f"count({compiler.columns_of(operands[0])[0]})"
    return f"count({rendered(compiler, operands[0])})"


def _count_distinct(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (node, *_) = operands
    if not kind_of(node).is_object:
        return f"count(DISTINCT {rendered(compiler, node)})"
    columns = compiler.columns_of(node)
    if len(columns) == 1:
        return f"count(DISTINCT {columns[0]})"
    row = "json_array" if compiler.dialect.name == "sqlite" else "ROW"
    is_there = is_null(compiler, node, is_negated=True)
    return f"count(DISTINCT {row}({', '.join(columns)})) FILTER (WHERE {is_there})"


# --- sum avg ----------------------------------------------------------------------------------------------


def _sum_kind(operands: tuple[Any, ...]) -> Kind:
    kind = kind_of(operands[0])
    if kind.is_number or kind.python in (timedelta, None):
        return Kind(kind.python, None, nullable=False)
    if kind.is_bool:
        return Kind(int, None, nullable=False)
    raise TypeError(f"sum() takes numbers, and {operands[0]!r:.60} is {kind.name}")


def _sum(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    node = operands[0]
    kind = kind_of(node)
    if is_condition(node) or kind.is_bool:
        return f"count(*) FILTER (WHERE {compiler.condition(node)})"
    text = _distinct(operands) + rendered(compiler, node)
    if kind.is_decimal and compiler.dialect.name == "sqlite":
        return collated(f"coalesce(dbs_sum({bare(text)}), '0')")
    nothing = "0.0" if kind.python is float else "0"
    if kind.python is timedelta and compiler.dialect.name == "postgresql":
        nothing = "interval '0'"
    return f"coalesce(sum({text}), {nothing})"


def _avg_kind(operands: tuple[Any, ...]) -> Kind:
    kind = kind_of(operands[0])
    if kind.is_number or kind.python is None:
        return Kind(float)
    raise TypeError(f"avg() takes numbers, and {operands[0]!r:.60} is {kind.name}")


def _avg(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    node = operands[0]
    text = _distinct(operands) + rendered(compiler, node)
    if kind_of(node).is_decimal and compiler.dialect.name == "sqlite":
        return f"CAST(dbs_avg({text if _distinct(operands) else bare(text)}) AS REAL)"
    return f"avg({text})"


# --- min max ----------------------------------------------------------------------------------------------


def _extreme_kind(name: str) -> _Kind:
    def kind(operands: tuple[Any, ...]) -> Kind:
        own = kind_of(operands[0])
        if own.is_object or own.python in (dict, list, bytes):
            raise TypeError(f"{name}() takes what has an order, and {operands[0]!r:.60} is {own.name}")
        return own._replace(nullable=True)

    return kind


def _extreme(name: str) -> _Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        node = operands[0]
        kind = kind_of(node)
        text = rendered(compiler, node)
        if compiler.dialect.name == "sqlite":
            return collated(f"{name}({text})") if kind.is_decimal else f"{name}({text})"
        if kind.is_bool:  # PostgreSQL has no order of the two
            return f"bool_{'and' if name == 'min' else 'or'}({text})"
        if kind.python is UUID:
            return f'{name}({enclosed(text, 10)}::text COLLATE "C")::uuid'
        return f"{name}({text})"

    return render


# --- group_concat -----------------------------------------------------------------------------------------


def _join_kind(operands: tuple[Any, ...]) -> Kind:
    str_kind(operands[:1])
    if len(operands) > 1 and value_of(operands[1]) is not None and not kind_of(operands[1]).is_text:
        raise TypeError(f"group_concat() takes a text to put between, not {operands[1]!r}")
    return Kind(str)


def _join(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    text = as_text(compiler, operands[0])
    between = operands[1] if len(operands) > 1 and value_of(operands[1]) is not None else ","
    distinct = _distinct(operands, 2)
    if compiler.dialect.name == "sqlite":
        function = "dbs_join_distinct" if distinct else "group_concat"
        return f"{function}({text}, {compiler.render(between, Kind(str))})"
    return f"string_agg({distinct}{text}, {compiler.render(between, Kind(str))})"


# --- exists -----------------------------------------------------------------------------------------------


def _exists(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (node,) = operands
    if not is_many(node):
        raise TypeError(f"exists() takes a collection or a query, not {node!r:.60}")
    return compiler.exists(node)


OPERATORS: dict[str, Operator] = {
    "count": _aggregate("count", _count, _count_kind),
    "count_distinct": _aggregate("count_distinct", _count_distinct, _count_kind),
    "sum": _aggregate("sum", _sum, _sum_kind),
    "avg": _aggregate("avg", _avg, _avg_kind),
    "min": _aggregate("min", _extreme("min"), _extreme_kind("min")),
    "max": _aggregate("max", _extreme("max"), _extreme_kind("max")),
    "group_concat": _aggregate("group_concat", _join, _join_kind),
    "exists": Operator(_exists, lambda _: Kind(bool, None, nullable=False), is_condition=True),
}
