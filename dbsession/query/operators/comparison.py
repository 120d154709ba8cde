"""Comparisons, between, in: of values of every kind, of objects by their keys, with SQL's NULL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.model.expressions import Expression
from dbsession.model.references import ReferenceAttribute
from dbsession.query.kinds import Kind, is_condition, is_value, kind_of, value_of
from dbsession.query.operators.base import AND, COMPARISON, OR, Operator, Sql, enclosed, joined
from dbsession.query.tree import Path, Subquery
from dbsession.query.values import Like

if TYPE_CHECKING:
    from dbsession.query.compiler import Compiler

__all__ = ["MIRRORED", "OPERATORS", "like_of"]

MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}


def like_of(*nodes: Any) -> Like:
    """Return how values beside *nodes* travel: as the first that is no value itself; as a Decimal among them."""
    kinds = [kind_of(node) for node in nodes if not is_value(node)]
    for kind in kinds:
        if kind.is_decimal:
            return kind
    return kinds[0] if kinds else None


def _compare(compiler: Compiler, operator: str, left: Any, right: Any) -> str:
    if value_of(left) is None or (not isinstance(left, Expression) and isinstance(right, Expression)):
        left, right, operator = right, left, MIRRORED[operator]
    if value_of(right) is None:
        return _null(compiler, operator, left)
    columns = _key_columns(compiler, left)
    if len(columns) > 1:
        return _compare_key(compiler, operator, left, columns, right)
    first = _side(compiler, left, right)
    return Sql(f"{first} {operator} {_side(compiler, right, left)}", COMPARISON)


def _side(compiler: Compiler, node: Any, *others: Any) -> str:
    """Render one side of a comparison with *others*."""
    like = like_of(*others) if is_condition(node) else like_of(node, *others)
    rendered = enclosed(compiler.render(node, like), COMPARISON + 1)
    is_plain = not is_value(node) and not kind_of(node).is_decimal
    if compiler.dialect.name == "sqlite" and is_plain and any(_is_computed_decimal(other) for other in others):
        return f"CAST({rendered} AS TEXT)"  # decimals are text there; numbers stand before every text
    return rendered


def _is_computed_decimal(node: Any) -> bool:
    return not is_value(node) and kind_of(node).is_decimal


def _null(compiler: Compiler, operator: str, operand: Any) -> str:
    if operator not in ("=", "<>"):
        raise TypeError(f"None cannot be compared with {operator}")
    word = "IS NULL" if operator == "=" else "IS NOT NULL"
    parts = [Sql(f"{enclosed(column, COMPARISON + 1)} {word}", COMPARISON) for column in compiler.columns_of(operand)]
    return joined("AND", parts, AND) if operator == "=" else joined("OR", parts, OR)


def _key_columns(compiler: Compiler, node: Any) -> list[str]:
    """Return the columns of a reference; nothing for what is no object."""
    return compiler.columns_of(node) if isinstance(node, ReferenceAttribute) else []


def _compare_key(compiler: Compiler, operator: str, left: Any, columns: list[str], right: Any) -> str:
    if operator not in ("=", "<>"):
        raise TypeError(f"{left!r} has a key of several parts, which {operator} cannot compare")
    if isinstance(right, ReferenceAttribute):
        if right.target.root is not left.target.root:
            raise TypeError(f"{left!r} and {right!r} refer to different entities")
        others = compiler.columns_of(right)
    else:
        others = [compiler.parameter_of(right, left, _part(index)) for index in range(len(columns))]
    pairs = [Sql(f"{column} {operator} {other}", COMPARISON) for column, other in zip(columns, others, strict=True)]
    return joined("AND", pairs, AND) if operator == "=" else joined("OR", pairs, OR)


def _part(index: int) -> Any:
    return lambda key: key[index]


def _contained(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    operand, listed = operands
    if isinstance(listed, Subquery) or (isinstance(listed, Path) and listed.is_many):
        return compiler.contained(operand, listed)
    values = value_of(listed)
    present = [value for value in values if value_of(value) is not None]
    parts: list[str] = []
    columns = _key_columns(compiler, operand)
    if len(columns) > 1:
        parts += [_contained_key(compiler, operand, columns, present)] if present else []
    elif present:
        like = like_of(operand)
        rendered = enclosed(compiler.render(operand, like), COMPARISON + 1)
        placeholders = ", ".join([compiler.parameter_of(value, like) for value in present])
        parts.append(Sql(f"{rendered} IN ({placeholders})", COMPARISON))
    if len(present) < len(values):
        parts.append(_null(compiler, "=", operand))
    return joined("OR", parts, OR) if parts else Sql("1 = 0", COMPARISON)


def _contained_key(compiler: Compiler, operand: Any, columns: list[str], values: list[Any]) -> str:
    rows = [
        ", ".join([compiler.parameter_of(value, operand, _part(index)) for index in range(len(columns))])
        for value in values
    ]
    listed = ", ".join([f"({row})" for row in rows])
    values_word = "VALUES " if compiler.dialect.row_values_need_values else ""
    return Sql(f"({', '.join(columns)}) IN ({values_word}{listed})", COMPARISON)


def _between(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if None in [value_of(operand) for operand in operands if not isinstance(value_of(operand), Expression)]:
        raise TypeError("between() takes two values, and None is none; compare with >= or <= alone")
    value, low, high = operands
    sides = [_side(compiler, value, low, high), _side(compiler, low, value), _side(compiler, high, value)]
    return Sql(f"{sides[0]} BETWEEN {sides[1]} AND {sides[2]}", COMPARISON)


def _kind(operands: tuple[Any, ...]) -> Kind:
    return Kind(bool, None, any(kind_of(operand).nullable for operand in operands if not isinstance(operand, tuple)))


def _comparison(operator: str) -> Operator:
    return Operator(lambda compiler, operands: _compare(compiler, operator, *operands), _kind, is_condition=True)


OPERATORS: dict[str, Operator] = {
    **{operator: _comparison(operator) for operator in MIRRORED},
    "in": Operator(_contained, _kind, is_condition=True),
    "between": Operator(_between, _kind, is_condition=True),
}
