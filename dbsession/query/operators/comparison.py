"""Comparisons: of values of every kind, of objects by their keys, with SQL's NULL."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.model.entity import EntityBase
from dbsession.query.kinds import Kind, is_value, kind_of, value_of
from dbsession.query.operators.base import AND, COMPARISON, OR, Operator, Sql, enclosed, joined, nullable
from dbsession.query.operators.operands import alike, check_alike
from dbsession.query.tree import Variable

if TYPE_CHECKING:
    from collections.abc import Callable

    from dbsession.model.mapping import Mapping
    from dbsession.query.sql.compiler import Compiler

__all__ = ["MIRRORED", "OPERATORS", "is_null", "key_columns"]

MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}
"""What each comparison is from the other side."""

_OPPOSITE = {"=": "<>", "<>": "=", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}


def _compare(compiler: Compiler, operator: str, left: Any, right: Any) -> str:
    if value_of(left) is None or (is_value(left) and not is_value(right)):
        left, right, operator = right, left, MIRRORED[operator]
    if value_of(right) is None:
        if operator not in ("=", "<>"):
            raise TypeError(f"None cannot be compared with {operator}")
        return is_null(compiler, left, is_negated=operator == "<>")
    check_alike(left, right)
    kinds = kind_of(left), kind_of(right)
    if kinds[0].is_object or kinds[1].is_object:
        return _compare_keys(compiler, operator, left, right)
    one, other = alike(compiler, (left, right), COMPARISON + 1, are_equal=operator == "=")
    return Sql(f"{one} {operator} {other}", COMPARISON)


def is_null(compiler: Compiler, node: Any, *, is_negated: bool = False) -> str:
    """Return the condition that *node* is NULL, or with *is_negated* that it is not."""
    if is_value(node):  # of which PostgreSQL could not tell the type
        return Sql("1 = 1" if (value_of(node) is None) is not is_negated else "1 = 0", COMPARISON)
    columns = compiler.columns_of(node)
    if isinstance(node, Variable):
        columns = columns[:1]  # no part of a key is NULL, unless there is no object
    word = "IS NOT NULL" if is_negated else "IS NULL"
    parts = [Sql(f"{enclosed(column, COMPARISON + 1)} {word}", COMPARISON) for column in columns]
    return joined("OR", parts, OR) if is_negated else joined("AND", parts, AND)


# --- objects ----------------------------------------------------------------------------------------------


def key_columns(compiler: Compiler, node: Any, mapping: Mapping, like: Kind) -> list[str]:
    """Return the columns of the key of *node*, an object of *mapping* or its key, as expressions or parameters."""
    if not is_value(node) or isinstance(value_of(node), EntityBase):
        columns = compiler.columns_of(node)
        return [enclosed(column, COMPARISON + 1) for column in columns]
    width = len(mapping.key_columns)
    if width == 1:
        return [compiler.parameter_of(node, like)]
    return [compiler.parameter_of(node, like, _part(index)) for index in range(width)]


def _part(index: int) -> Callable[[Any], Any]:
    """Return what takes one part of a key."""
    return lambda key: key[index]


def _compare_keys(compiler: Compiler, operator: str, left: Any, right: Any) -> str:
    like = next(kind for kind in (kind_of(left), kind_of(right)) if kind.is_object)
    mapping: Any = like.python
    if operator not in ("=", "<>"):
        if len(mapping.key_columns) > 1:
            raise TypeError(f"{left!r} has a key of several parts, which {operator} cannot compare")
        if kind_of(left).is_object and kind_of(right).is_object:
            raise TypeError(f"{left!r} and {right!r} are objects, which have no order; compare their attributes")
    pairs = zip(key_columns(compiler, left, mapping, like), key_columns(compiler, right, mapping, like), strict=True)
    parts = [Sql(f"{one} {operator} {other}", COMPARISON) for one, other in pairs]
    return joined("OR", parts, OR) if operator == "<>" else joined("AND", parts, AND)


# --- the table --------------------------------------------------------------------------------------------


def _kind(operands: tuple[Any, ...]) -> Kind:
    has_null = any(value_of(operand) is None for operand in operands)  # IS NULL is true or false
    return Kind(bool, None, not has_null and nullable(operands))


def _comparison(operator: str) -> Operator:
    return Operator(
        lambda compiler, operands: _compare(compiler, operator, *operands),
        _kind,
        is_condition=True,
        negated=lambda compiler, operands: _compare(compiler, _OPPOSITE[operator], *operands),
    )


def _between(word: str) -> Callable[[Compiler, tuple[Any, ...]], str]:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        if any(value_of(operand) is None for operand in operands):
            raise TypeError("between() takes two values, and None is none; compare with >= or <= alone")
        value, low, high = operands
        check_alike(value, low)
        check_alike(value, high)
        texts = alike(compiler, operands, COMPARISON + 1)
        return Sql(f"{texts[0]} {word} {texts[1]} AND {texts[2]}", COMPARISON)

    return render


def _isnull_kind(operands: tuple[Any, ...]) -> Kind:
    kind_of(operands[0])
    return Kind(bool, None, nullable=False)


OPERATORS: dict[str, Operator] = {
    **{operator: _comparison(operator) for operator in MIRRORED},
    "between": Operator(
        _between("BETWEEN"),
        lambda operands: Kind(bool, None, nullable(operands)),
        is_condition=True,
        negated=_between("NOT BETWEEN"),
    ),
    "isnull": Operator(
        lambda compiler, operands: is_null(compiler, operands[0]),
        _isnull_kind,
        is_condition=True,
        negated=lambda compiler, operands: is_null(compiler, operands[0], is_negated=True),
    ),
}
