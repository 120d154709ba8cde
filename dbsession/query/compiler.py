"""From expressions to SQL. Every value becomes a parameter, every identifier is quoted.

`Compiler` renders the expressions of one statement and collects their parameters in order. What an
operator means stands in `operators`.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect
from dbsession.backends.statements import Row
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation, Ordering
from dbsession.model.mapping import Column, Mapping
from dbsession.query.kinds import Kind, is_condition, kind_of, value_of
from dbsession.query.operators import OPERATORS
from dbsession.query.operators.base import AND, COMPARISON, Sql, enclosed
from dbsession.query.tree import Slot
from dbsession.query.values import Like, key_of, traveller

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
        return f" WHERE {' AND '.join([enclosed(part, AND) for part in parts])}" if parts else ""

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
            parts += [rendered + direction for rendered in self.columns_of(ordering.expression)]
        return f" ORDER BY {', '.join(parts)}" if parts else ""

    def columns_of(self, expression: Any) -> list[str]:
        """Return the columns of an attribute, or the one rendering of another expression."""
        if isinstance(expression, Attribute):
            return [column.quoted for column in self.own(expression).columns]
        if is_condition(expression):
            return [enclosed(self.condition(expression), COMPARISON + 1)]
        return [self.render(expression)]

    # --- expressions --------------------------------------------------------------------------

    def condition(self, node: Any) -> str:
        """Return *node* as a condition.

        Raises:
            TypeError: it is a value, not a condition.
        """
        if isinstance(node, bool):
            return Sql("1 = 1" if node else "1 = 0", COMPARISON)
        if isinstance(node, CollectionAttribute):
            raise TypeError(f"{node!r} is a collection, which cannot stand in a condition")
        if is_condition(node):
            return OPERATORS[node.operator].render(self, node.operands)
        if not isinstance(node, Expression):
            raise TypeError(f"a condition is an expression such as User.age > 18, not {node!r:.80}")
        if kind_of(node).is_bool:
            return self.render(node)
        raise TypeError(f"{node!r} is no condition; compare it with something")

    def render(self, node: Any, like: Like = None) -> str:
        """Return the SQL of *node*; a value travels as values beside *like* do.

        Raises:
            TypeError: it has no value: a condition, a collection, a reference of several columns.
        """
        if isinstance(node, Operation):
            if not is_condition(node):
                return OPERATORS[node.operator].render(self, node.operands)
            if like is not None and (like if isinstance(like, Kind) else kind_of(like)).is_bool:
                return self.condition(node)
            raise TypeError(f"{node!r} is a condition, and no value; combine conditions with & | ~")
        if isinstance(node, Attribute):
            attribute = self.own(node)
            if len(attribute.columns) != 1:
                raise TypeError(
                    f"{attribute!r} has {len(attribute.columns)} columns; it can be compared, and nothing else"
                )
            return attribute.columns[0].quoted
        if isinstance(node, CollectionAttribute):
            raise TypeError(f"{node!r} is a collection, which cannot stand in a condition")
        if isinstance(node, Expression) and not isinstance(node, Slot):
            raise TypeError(f"{node!r} cannot stand in a condition")
        return self.parameter_of(node, like)

    def assigned(self, node: Any, attribute: ValueAttribute[Any]) -> str:
        """Return the SQL of the expression *node* as a value of the column of *attribute*."""
        rendered = self.render(node, attribute)
        kind = attribute.kind.value_type
        if self.dialect.name == "sqlite" and kind.python is Decimal:
            rendered = rendered.removesuffix(" COLLATE dbs_decimal")
            return f"dbs_round({rendered}, {kind.scale})"  # other databases round by the type of the column
        return rendered

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

    def key(self, obj: EntityBase) -> Any:
        """Return the key of *obj* as rows have it."""
        return key_of(obj)

    def parameter_of(self, node: Any, like: Like = None, pick: Callable[[Any], Any] | None = None) -> str:
        """Take the value that *node*, a constant or a slot, stands for as a parameter, and return its placeholder.

        It travels as values beside *like* do. *pick* takes the part that is sent from what it is
        converted to: one item of a list, one part of a key.

        Raises:
            TypeError: it has a type that *like* never has.
        """
        converted = traveller(like, self.dialect)(value_of(node))
        return self.parameter(converted if pick is None else pick(converted))
