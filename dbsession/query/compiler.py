"""From expressions to SQL. Every value becomes a parameter, every identifier is quoted.

`Compiler` renders the expressions of one statement and collects their parameters in order. What an
operator looks like stands in one table, `_RENDER`; where the databases differ, the entry looks at
the dialect's name.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date, datetime
from decimal import Decimal
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect
from dbsession.backends.statements import Row
from dbsession.errors import ConstraintError
from dbsession.model.attributes import Attribute, ReferenceAttribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation, Ordering
from dbsession.model.mapping import Column, Mapping

__all__ = ["Compiled", "Compiler", "attributes_in", "objects_in", "select_columns"]


class Compiled(NamedTuple):
    """A SELECT ready to be sent, and the columns that its rows have."""

    sql: str
    params: Row
    source: tuple[Column, ...]


def select_columns(mapping: Mapping) -> tuple[Column, ...]:
    """Return the columns that loading objects of *mapping* asks for; lazy ones are left out."""
    return mapping.wide


def attributes_in(node: Any) -> list[Attribute[Any]]:
    """Return the attributes that stand in the expression *node*."""
    if isinstance(node, Attribute):
        return [node]
    if isinstance(node, Operation):
        return [attribute for operand in node.operands for attribute in attributes_in(operand)]
    return []


def objects_in(node: Any) -> list[EntityBase]:
    """Return the objects that stand in the expression *node*."""
    if isinstance(node, EntityBase):
        return [node]
    operands = node.operands if isinstance(node, Operation) else node if isinstance(node, tuple) else ()
    return [obj for operand in operands for obj in objects_in(operand)]


class Compiler:
    """Renders the expressions of one statement over the table of *mapping*."""

    def __init__(self, mapping: Mapping) -> None:
        self.mapping = mapping
        self.dialect: Dialect = mapping.dialect
        self.params: list[Any] = []

    # --- statements ---------------------------------------------------------------------------

    def where(self, conditions: tuple[Any, ...]) -> str:
        """Return the WHERE clause with a leading blank, or nothing."""
        parts = [self.condition(condition) for condition in conditions]
        if narrowed := self.discriminator():
            parts.append(narrowed)
        return f" WHERE {' AND '.join(parts)}" if parts else ""

    def discriminator(self) -> str:
        """Return the condition that keeps the rows of this entity in the table of its hierarchy."""
        mapping = self.mapping
        if mapping.root is mapping:
            return ""
        column = mapping.root.discriminator
        assert isinstance(column, ValueAttribute)
        values = [column.raw(member.discriminator_value) for member in mapping.family()]
        return f"{column.columns[0].quoted} IN ({', '.join(map(self.parameter, values))})"

    def order_by(self, orderings: tuple[Ordering, ...]) -> str:
        """Return the ORDER BY clause with a leading blank, or nothing."""
        parts: list[str] = []
        for ordering in orderings:
            direction = " DESC" if ordering.descending else ""
            for rendered in self.columns_of(ordering.expression):
                parts.append(rendered + direction)
        return f" ORDER BY {', '.join(parts)}" if parts else ""

    def columns_of(self, expression: Any) -> list[str]:
        """Return the columns of an attribute, or the one rendering of another expression."""
        if isinstance(expression, Attribute):
            return [column.quoted for column in self.own(expression).columns]
        return [self.render(expression)]

    # --- expressions --------------------------------------------------------------------------

    def condition(self, node: Any) -> str:
        """Return *node* as a condition."""
        if isinstance(node, bool):
            return "1 = 1" if node else "1 = 0"
        if isinstance(node, ValueAttribute):
            rendered = self.render(node)
            if node.kind.value_type.python is bool:
                return rendered
            raise TypeError(f"{node!r} is no condition; compare it with something")
        if not isinstance(node, Operation):
            raise TypeError(f"a condition is an expression such as User.age > 18, not {node!r:.80}")
        return self.render(node)

    def render(self, node: Any, like: Attribute[Any] | None = None) -> str:
        """Return the SQL of *node*; a value travels as the attribute that it is compared with (*like*) does."""
        if isinstance(node, Operation):
            return _RENDER[node.operator](self, node.operands)
        if isinstance(node, Attribute):
            attribute = self.own(node)
            if len(attribute.columns) != 1:
                raise TypeError(
                    f"{attribute!r} has {len(attribute.columns)} columns; it can be compared, and nothing else"
                )
            return attribute.columns[0].quoted
        if isinstance(node, CollectionAttribute):
            raise TypeError(f"{node!r} is a collection, which cannot stand in a condition")
        if isinstance(node, Expression):
            raise TypeError(f"{node!r} cannot stand in a condition")
        return self.parameter(self.value(node, like))

    def own(self, attribute: Attribute[Any]) -> Attribute[Any]:
        """Return the attribute as this entity has it.

        Raises:
            TypeError: it belongs to another entity, or its column lies in another table.
        """
        mapping = self.mapping
        if attribute.mapping.root is not mapping.root:
            raise TypeError(f"{attribute!r} is no attribute of {mapping.name}, whose objects are queried")
        if attribute.is_virtual:
            raise TypeError(f"{attribute!r} has no column; query {attribute.target.name} instead")  # type: ignore[attr-defined]
        return mapping.attributes.get(attribute.name, attribute)

    def parameter(self, value: Any) -> str:
        """Take *value* as a parameter, and return its placeholder."""
        self.params.append(value)
        return self.dialect.placeholder

    def value(self, value: Any, like: Attribute[Any] | None) -> Any:
        """Return *value* as it travels when it is compared with *like*.

        Raises:
            TypeError: it has a type that *like* never has.
        """
        if isinstance(value, EntityBase):
            return self.key(value)
        if isinstance(like, ReferenceAttribute):
            return like.target.entity._key_from_(value)
        if not isinstance(like, ValueAttribute) or value is None:
            return value
        try:
            return like.raw(like.kind.coerce(value))
        except TypeError as error:
            if isinstance(value, (int, float, Decimal)) and like.kind.value_type.python in (int, float, Decimal):
                return value  # age > 17.5 has a meaning
            raise TypeError(f"{like!r} {error}") from None
        except ValueError as error:
            if isinstance(value, (datetime, date)):
                raise ValueError(f"{like!r} {error}") from None
            return value  # too long, out of range: nothing matches, which is an answer

    def key(self, obj: EntityBase) -> Any:
        """Return the key of *obj* as rows have it."""
        key = obj._key_
        if key is None:
            raise ConstraintError(f"{obj!r} has no key yet, so nothing can be compared with it; flush() first")
        return key

    # --- comparisons --------------------------------------------------------------------------

    def compare(self, operator: str, left: Any, right: Any) -> str:
        """Render a comparison, with None as NULL and references by their keys."""
        if left is None or (not isinstance(left, Expression) and isinstance(right, Expression)):
            left, right, operator = right, left, _MIRRORED[operator]
        if right is None:
            return self._null(operator, left)
        reference = left if isinstance(left, ReferenceAttribute) else None
        if reference is not None and len(self.own(reference).columns) > 1:
            return self._compare_key(operator, reference, right)
        like = _like(left, right)
        return f"{self.render(left, like)} {operator} {self.render(right, like)}"

    def _null(self, operator: str, operand: Any) -> str:
        if operator not in ("=", "<>"):
            raise TypeError(f"None cannot be compared with {operator}")
        word = "IS NULL" if operator == "=" else "IS NOT NULL"
        columns = self.columns_of(operand)
        return _both(" AND " if operator == "=" else " OR ", [f"{column} {word}" for column in columns])

    def _compare_key(self, operator: str, reference: ReferenceAttribute, right: Any) -> str:
        if operator not in ("=", "<>"):
            raise TypeError(f"{reference!r} has a key of several parts, which {operator} cannot compare")
        columns = self.columns_of(reference)
        if isinstance(right, ReferenceAttribute):
            others = self.columns_of(right)
        else:
            key = self.key(right) if isinstance(right, EntityBase) else reference.target.entity._key_from_(right)
            others = [self.parameter(part) for part in key]
        pairs = [f"{column} {operator} {other}" for column, other in zip(columns, others, strict=True)]
        return _both(" AND " if operator == "=" else " OR ", pairs)

    def contained(self, operand: Any, values: tuple[Any, ...]) -> str:
        """Render ``operand IN (values)``; None among them matches NULL."""
        present = [value for value in values if value is not None]
        parts: list[str] = []
        if isinstance(operand, ReferenceAttribute) and len(self.own(operand).columns) > 1:
            parts += [self._compare_key("=", operand, value) for value in present]
        elif present:
            like = _like(operand)
            rendered = self.render(operand)
            placeholders = ", ".join([self.parameter(self.value(value, like)) for value in present])
            parts.append(f"{rendered} IN ({placeholders})")
        if len(present) < len(values):
            parts.append(self._null("=", operand))
        return _both(" OR ", parts) if parts else "1 = 0"


def _both(glue: str, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({glue.join(parts)})"


def _like(*nodes: Any) -> Attribute[Any] | None:
    """Return the attribute that tells how the values beside it travel."""
    for node in nodes:
        if found := attributes_in(node):
            return found[0]
    return None


_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

Render = Callable[[Compiler, tuple[Any, ...]], str]


def _comparison(operator: str) -> Render:
    return lambda compiler, operands: compiler.compare(operator, *operands)


def _logical(operator: str) -> Render:
    return lambda compiler, operands: f"({f' {operator} '.join([compiler.condition(operand) for operand in operands])})"


def _is_decimal(operands: tuple[Any, ...]) -> bool:
    like = _like(*operands)
    return isinstance(like, ValueAttribute) and like.kind.value_type.python is Decimal


def _arithmetic(operator: str, decimal_function: str) -> Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        like = _like(*operands)
        numbers = [compiler.render(operand, like) for operand in operands]
        if compiler.dialect.name == "sqlite" and _is_decimal(operands):
            return f"{decimal_function}({', '.join(numbers)})"  # decimals are text there, see the driver
        return f"({f' {operator} '.join(numbers)})"

    return render


def _negation(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    rendered = compiler.render(operands[0])
    return f"dbs_neg({rendered})" if compiler.dialect.name == "sqlite" and _is_decimal(operands) else f"(- {rendered})"


def _case(function: str) -> Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        prefix = "dbs_" if compiler.dialect.name == "sqlite" else ""  # SQLite's own know ASCII only
        return f"{prefix}{function}({compiler.render(operands[0])})"

    return render


def _prefix(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    text, prefix = operands
    if compiler.dialect.name == "postgresql":
        return f"starts_with({compiler.render(text)}, {compiler.render(prefix)})"
    rendered = compiler.render(text)
    return f"substr({rendered}, 1, length({compiler.render(prefix)})) = {compiler.render(prefix)}"


def _suffix(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    text, suffix = operands
    pattern = "right({0}, length({1})) = {1}"
    if compiler.dialect.name == "sqlite":
        # counted from the front: substr(x, -0) would be all of x
        pattern = "(length({0}) >= length({1}) AND substr({0}, length({0}) - length({1}) + 1) = {1})"
    return re.sub(r"\{([01])\}", lambda slot: compiler.render((text, suffix)[int(slot[1])]), pattern)


def _part(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    function = "strpos" if compiler.dialect.name == "postgresql" else "instr"
    return f"{function}({compiler.render(operands[0])}, {compiler.render(operands[1])}) > 0"


def _between(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    like = _like(*operands)
    value, low, high = [compiler.render(operand, like) for operand in operands]
    return f"{value} BETWEEN {low} AND {high}"


_RENDER: dict[str, Render] = {
    **{operator: _comparison(operator) for operator in _MIRRORED},
    "and": _logical("AND"),
    "or": _logical("OR"),
    "not": lambda compiler, operands: f"NOT ({compiler.condition(operands[0])})",
    "in": lambda compiler, operands: compiler.contained(*operands),
    "between": _between,
    "+": _arithmetic("+", "dbs_add"),
    "-": _arithmetic("-", "dbs_sub"),
    "*": _arithmetic("*", "dbs_mul"),
    "/": _arithmetic("/", "dbs_div"),
    "neg": _negation,
    "lower": _case("lower"),
    "upper": _case("upper"),
    "startswith": _prefix,
    "endswith": _suffix,
    "contains": _part,
    "value": lambda compiler, operands: compiler.render(operands[0]),
}
