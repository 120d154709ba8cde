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
from enum import Enum
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect, ValueType
from dbsession.backends.statements import Row
from dbsession.errors import ConstraintError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation, Ordering
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute

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
            parts += [rendered + direction for rendered in self.columns_of(ordering.expression)]
        return f" ORDER BY {', '.join(parts)}" if parts else ""

    def columns_of(self, expression: Any) -> list[str]:
        """Return the columns of an attribute, or the one rendering of another expression."""
        if isinstance(expression, Attribute):
            return [column.quoted for column in self.own(expression).columns]
        if _is_condition(expression):
            return [f"({self.condition(expression)})"]
        return [self.render(expression)]

    # --- expressions --------------------------------------------------------------------------

    def condition(self, node: Any) -> str:
        """Return *node* as a condition.

        Raises:
            TypeError: it is a value, not a condition.
        """
        if isinstance(node, bool):
            return "1 = 1" if node else "1 = 0"
        if isinstance(node, ValueAttribute) and node.kind.value_type.python is bool:
            return self.render(node)
        if isinstance(node, CollectionAttribute):
            raise TypeError(f"{node!r} is a collection, which cannot stand in a condition")
        if isinstance(node, Expression) and not _is_condition(node):
            raise TypeError(f"{node!r} is no condition; compare it with something")
        if not isinstance(node, Operation):
            raise TypeError(f"a condition is an expression such as User.age > 18, not {node!r:.80}")
        return _RENDER[node.operator](self, node.operands)

    def render(self, node: Any, like: Attribute[Any] | None = None) -> str:
        """Return the SQL of *node*; a value travels as the attribute that it is compared with (*like*) does.

        Raises:
            TypeError: it has no value: a condition, a collection, a reference of several columns.
        """
        if isinstance(node, Operation):
            if not _is_condition(node):
                return _RENDER[node.operator](self, node.operands)
            if isinstance(like, ValueAttribute) and like.kind.value_type.python is bool:
                return f"({self.condition(node)})"
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
        if isinstance(node, Expression):
            raise TypeError(f"{node!r} cannot stand in a condition")
        return self.parameter(self.value(node, like))

    def assigned(self, node: Any, attribute: ValueAttribute[Any]) -> str:
        """Return the SQL of the expression *node* as a value of the column of *attribute*."""
        rendered = self.render(node, attribute)
        kind = attribute.kind.value_type
        if self.dialect.name == "sqlite" and kind.python is Decimal:
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

    def value(self, value: Any, like: Attribute[Any] | None) -> Any:
        """Return *value* as it travels when it is compared with *like*.

        Raises:
            TypeError: it has a type that *like* never has.
        """
        if isinstance(like, ReferenceAttribute):
            return self.key(value, like) if isinstance(value, EntityBase) else like.target.entity._key_from_(value)
        if isinstance(value, EntityBase):
            raise TypeError(
                f"{like!r} is no reference, and is compared with {value!r}; compare it with an attribute of that"
            )
        if not isinstance(like, ValueAttribute) or value is None:
            return value
        if like.kind.value_type.python in _NUMBERS and isinstance(value, _NUMBERS) and not isinstance(value, bool):
            return self.number(value, like)
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

    def number(self, value: Any, like: ValueAttribute[Any]) -> Any:
        """Return a number as it travels: exactly, even where the column could not hold it (``age > 17.5``)."""
        if like.kind.value_type.python is Decimal:
            exact = Decimal(repr(value)) if isinstance(value, float) else Decimal(value)
            encode = self.dialect.codec(ValueType(Decimal)).encode
            return exact if encode is None else encode(exact)
        if isinstance(value, Decimal):
            value = int(value) if value == value.to_integral_value() else float(value)
        if self.dialect.name == "sqlite" and isinstance(value, int) and not -(2**63) <= value < 2**63:
            return float(value)  # SQLite has no integers of that size
        return value

    def key(self, obj: EntityBase, reference: ReferenceAttribute | None = None) -> Any:
        """Return the key of *obj* as rows have it.

        Raises:
            TypeError: *reference*, with which it is compared, refers to another entity.
        """
        if reference is not None and obj._mapping_.root is not reference.target.root:
            raise TypeError(f"{reference!r} refers to {reference.target.name}, and {obj!r} is none")
        key = obj._key_
        if key is None:
            why = "flush() first" if obj._state_.is_new else obj._state_.reason
            raise ConstraintError(f"{obj!r} has no key, so nothing can be compared with it; {why}")
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
        return f"{self.side(left, right)} {operator} {self.side(right, left)}"

    def side(self, node: Any, *others: Any) -> str:
        """Render one side of a comparison with *others*."""
        rendered = self.render(node, _like(*others) if _is_condition(node) else _like(node, *others))
        is_number = isinstance(node, Operation) and not _is_decimal(node)
        if self.dialect.name == "sqlite" and is_number and any(map(_is_decimal, others)):
            return f"CAST({rendered} AS TEXT)"  # decimals are text there; numbers stand before every text
        return rendered

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
            if right.target.root is not reference.target.root:
                raise TypeError(f"{reference!r} and {right!r} refer to different entities")
            others = self.columns_of(right)
        else:
            others = [self.parameter(part) for part in self.value(right, reference)]
        pairs = [f"{column} {operator} {other}" for column, other in zip(columns, others, strict=True)]
        return _both(" AND " if operator == "=" else " OR ", pairs)

    def contained(self, operand: Any, values: tuple[Any, ...]) -> str:
        """Render ``operand IN (values)``; None among them matches NULL."""
        present = [value for value in values if value is not None]
        parts: list[str] = []
        if isinstance(operand, ReferenceAttribute) and len(self.own(operand).columns) > 1:
            parts += [self._contained_key(operand, present)] if present else []
        elif present:
            like = _like(operand)
            rendered = self.render(operand, like)
            placeholders = ", ".join([self.parameter(self.value(value, like)) for value in present])
            parts.append(f"{rendered} IN ({placeholders})")
        if len(present) < len(values):
            parts.append(self._null("=", operand))
        return _both(" OR ", parts) if parts else "1 = 0"

    def _contained_key(self, reference: ReferenceAttribute, values: list[Any]) -> str:
        columns = ", ".join(self.columns_of(reference))
        rows = [", ".join(map(self.parameter, self.value(value, reference))) for value in values]
        listed = ", ".join([f"({row})" for row in rows])
        return f"({columns}) IN ({'VALUES ' if self.dialect.name == 'sqlite' else ''}{listed})"


def _both(glue: str, parts: list[str]) -> str:
    return parts[0] if len(parts) == 1 else f"({glue.join(parts)})"


def _like(*nodes: Any) -> Attribute[Any] | None:
    """Return the attribute that tells how the values beside it travel; a Decimal, where there is one."""
    found = [attribute for node in nodes for attribute in attributes_in(node)]
    return next(filter(_is_decimal, found), found[0] if found else None)


def _is_decimal(node: Any) -> bool:
    """Whether the value of the expression *node* is a Decimal."""
    if isinstance(node, ValueAttribute):
        return node.kind.value_type.python is Decimal
    return isinstance(node, Operation) and node.operator in _ARITHMETIC and any(map(_is_decimal, node.operands))


def _is_condition(node: Any) -> bool:
    return isinstance(node, Operation) and node.operator in _CONDITIONS


_MIRRORED = {"=": "=", "<>": "<>", "<": ">", "<=": ">=", ">": "<", ">=": "<="}

_Render = Callable[[Compiler, tuple[Any, ...]], str]


def _comparison(operator: str) -> _Render:
    return lambda compiler, operands: compiler.compare(operator, *operands)


def _logical(operator: str) -> _Render:
    return lambda compiler, operands: f"({f' {operator} '.join([compiler.condition(operand) for operand in operands])})"


def _arithmetic(operator: str, decimal_function: str) -> _Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        numbers = _numbers(compiler, operands, operator)
        if compiler.dialect.name == "sqlite" and any(map(_is_decimal, operands)):
            return f"{decimal_function}({', '.join(numbers)}) COLLATE dbs_decimal"  # decimals are text there
        return f"({f' {operator} '.join(numbers)})"

    return render


def _negation(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    (rendered,) = _numbers(compiler, operands, "-")
    if compiler.dialect.name == "sqlite" and _is_decimal(operands[0]):
        return f"dbs_neg({rendered}) COLLATE dbs_decimal"
    return f"(- {rendered})"


def _numbers(compiler: Compiler, operands: tuple[Any, ...], operator: str) -> list[str]:
    for operand in operands:
        kind = operand.kind.value_type.python if isinstance(operand, ValueAttribute) else None
        is_other = isinstance(operand, Expression) and not isinstance(operand, ValueAttribute | Operation)
        if operand is None or is_other or (kind is not None and kind not in _NUMBERS):
            raise TypeError(f"{operand!r} is no number: {operator} takes numbers")
    like = _like(*operands)
    return [compiler.render(operand, like) for operand in operands]


def _text(compiler: Compiler, node: Any, verb: str) -> str:
    """Render a text: an attribute, an expression or a value.

    Raises:
        TypeError: it is something else.
    """
    if isinstance(node, ValueAttribute):
        is_text = node.kind.value_type.python is str
    elif isinstance(node, Operation):
        is_text = node.operator in {"lower", "upper"}
    else:
        is_text = isinstance(node, str)
    if not is_text:
        raise TypeError(f"{verb}() is for text, and {node!r:.60} is none")
    return compiler.render(node)


def _case(function: str) -> _Render:
    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        prefix = "dbs_" if compiler.dialect.name == "sqlite" else ""  # SQLite's own know ASCII only
        return f"{prefix}{function}({_text(compiler, operands[0], function)})"

    return render


def _texts(verb: str, postgresql: str, sqlite: str) -> _Render:
    """Return what renders a condition on two texts, {0} and {1} in the patterns."""

    def render(compiler: Compiler, operands: tuple[Any, ...]) -> str:
        pattern = sqlite if compiler.dialect.name == "sqlite" else postgresql
        return re.sub(r"\{([01])\}", lambda slot: _text(compiler, operands[int(slot[1])], verb), pattern)

    return render


def _between(compiler: Compiler, operands: tuple[Any, ...]) -> str:
    if None in [operand for operand in operands if not isinstance(operand, Expression)]:
        raise TypeError("between() takes two values, and None is none; compare with >= or <= alone")
    value, low, high = operands
    return f"{compiler.side(value, low, high)} BETWEEN {compiler.side(low, value)} AND {compiler.side(high, value)}"


_NUMBERS = (int, float, Decimal)
_ARITHMETIC = frozenset({"+", "-", "*", "/", "neg", "value"})
_CONDITIONS = frozenset({*_MIRRORED, "and", "or", "not", "in", "between", "startswith", "endswith", "contains"})

_RENDER: dict[str, _Render] = {
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
    "startswith": _texts("startswith", "starts_with({0}, {1})", "substr({0}, 1, length({1})) = {1}"),
    # SQLite: counted from the front, since substr(x, -0) would be all of x
    "endswith": _texts(
        "endswith",
        "right({0}, length({1})) = {1}",
        "(length({0}) >= length({1}) AND substr({0}, length({0}) - length({1}) + 1) = {1})",
    ),
    "contains": _texts("contains", "strpos({0}, {1}) > 0", "instr({0}, {1}) > 0"),
    "value": lambda compiler, operands: compiler.render(operands[0]),
}
