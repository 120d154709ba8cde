"""Shapes of conditions in the expression form: what of them decides which SQL they need.

Equal shapes, same SQL: the shape of a condition is the key under which the query that it makes is kept
(`Selected.derived`), and its values (see `taking` for their shapes) are sent in slots.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbsession.model.expressions import Expression, Operation, Ordering
from dbsession.query.taking import as_value, items, plain, sample_of
from dbsession.query.tree import Path, Placed, RawSql, Slot

__all__ = ["expression_shape", "with_slots"]

_KEYS = (str, int)  # of JSON: they stand in the SQL, since an index may be over them


def expression_shape(node: Any, values: list[Any]) -> Any:
    """Return the shape of the expression *node*, and append the values in it to *values*.

    Expressions are told apart by identity, which holds as long as what is kept under the shape keeps them.
    """
    cls = type(node)
    if cls is Operation:
        operator, operands = node.operator, node.operands
        if operator == "isinstance":
            return operator, expression_shape(operands[0], values), operands[1]
        if operator == "in" and type(operands[1]) is tuple:
            if _has_expression(operands[1]):
                return operator, *[expression_shape(part, values) for part in (operands[0], *operands[1])]
            first = expression_shape(operands[0], values)
            listed, shape = items(operands[1])
            values.append(listed)
            return operator, first, shape
        if operator == "item" and type(operands[1]) in _KEYS:
            return operator, expression_shape(operands[0], values), operands[1]
        return operator, *[expression_shape(operand, values) for operand in operands]
    if node is None or node is True or node is False:
        return node
    if cls is RawSql:
        return "raw", node.texts, node.python, *[expression_shape(value, values) for value in node.values]
    if cls is Path:
        return expression_shape(node.base, values), id(node.attribute)
    if isinstance(node, Expression):
        return id(node)
    if cls is Placed:
        return node.descending, node.number
    if cls is Ordering:
        return node.descending, expression_shape(node.expression, values)
    value, shape = plain(node)
    values.append(value)
    return shape


def _has_expression(listed: tuple[Any, ...]) -> bool:
    """Tell whether there are expressions among listed values; without any, the list is one value."""
    return any(isinstance(item, Expression) for item in listed)


def with_slots(node: Any, numbers: Iterator[int]) -> Any:
    """Return the expression *node* with slots in place of its values, numbered by *numbers*."""
    if type(node) is Operation:
        operands = node.operands
        if node.operator == "isinstance":
            return Operation("isinstance", with_slots(operands[0], numbers), operands[1])
        if node.operator == "in" and type(operands[1]) is tuple:
            operand = with_slots(operands[0], numbers)
            if _has_expression(operands[1]):
                return Operation("in", operand, tuple([with_slots(item, numbers) for item in operands[1]]))
            return Operation("in", operand, Slot(next(numbers), sample_of(items(operands[1])[0])))
        if node.operator == "item" and type(operands[1]) in _KEYS:
            return Operation("item", with_slots(operands[0], numbers), operands[1])
        return Operation(node.operator, *[with_slots(operand, numbers) for operand in operands])
    if type(node) is RawSql:
        return RawSql(node.texts, tuple([with_slots(value, numbers) for value in node.values]), node.python)
    if type(node) is Ordering:
        return Ordering(with_slots(node.expression, numbers), descending=node.descending)
    if node is None or node is True or node is False or isinstance(node, Expression | Placed):
        return node
    return Slot(next(numbers), sample_of(as_value(node)))
