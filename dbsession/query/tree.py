"""The words of a query: what stands in a query beside the expressions of the model.

A query over ``for u in User for o in u.orders if o.user.name == name`` is a `Selected` (see
`selected`) with two `Variable`s, and the condition ``Operation("=", Path(Path(o, Order.user),
User.name), Slot(0, "Ann"))``. A bare attribute (``User.name``) is that of the query's first variable,
which is how the expression form is written.

Nothing here is SQL. `compiler` says how each of these is written, `operators` what each operator
means, and `kinds` what type it has.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.model.collections import CollectionAttribute
from dbsession.model.expressions import Expression, Operation, Ordering, Path
from dbsession.model.mapping import Mapping

if TYPE_CHECKING:
    from dbsession.query.selected import Selected

__all__ = [
    "AGGREGATES",
    "Computed",
    "Path",
    "Placed",
    "RawSql",
    "Slot",
    "Subquery",
    "Variable",
    "is_many",
    "is_same",
    "walk",
]


AGGREGATES = frozenset({"count", "count_distinct", "sum", "avg", "min", "max", "group_concat", "exists"})
"""Operators over many rows: those of a collection or a subquery, or else those of the query that they stand in."""


class Variable(Expression[Any]):
    """What a ``for`` clause ranges over: ``u`` in ``for u in User``. As a value it is the object.

    Two variables are the same only if they are the same object: the name is for reading. *written*: what
    the author of the query calls it, which lambdas may use; None for one that came in with another query.
    """

    __slots__ = ("is_optional", "mapping", "name", "written")

    def __init__(self, mapping: Mapping, name: str, *, written: str | None = None, is_optional: bool = False) -> None:
        self.mapping = mapping
        self.name = name
        self.written = written
        self.is_optional = is_optional  # whether it may stand for nothing, as in a left join

    @classmethod
    def of(cls, mapping: Mapping) -> Variable:
        """Return a variable that the program has no name for; it is called by its entity's first letter."""
        first = mapping.name[0].lower()
        name = first if first.isalpha() else "t"
        return cls(mapping, name, written=name)

    def __repr__(self) -> str:
        return self.name


class Slot(Expression[Any]):
    """A value from outside the query, known only when it is sent.

    *number*: its place among the values of the query. *sample*: the value at the time of the
    translation; other values have the same shape (see `translation`), so that the SQL fits them too.
    """

    __slots__ = ("number", "sample")

    def __init__(self, number: int, sample: Any) -> None:
        self.number = number
        self.sample = sample

    def __repr__(self) -> str:
        return repr(self.sample)


class Subquery(Expression[Any]):
    """Another query within an expression: ``u in select(...)``, ``sum(o.total for o in u.orders)``.

    Its variables may be those of the query around it. *shift*: its slots are numbered from there on in
    the values of the whole query.
    """

    __slots__ = ("selected", "shift")

    def __init__(self, selected: Selected, shift: int = 0) -> None:
        self.selected = selected
        self.shift = shift

    def __repr__(self) -> str:
        return f"({self.selected!r})"


class Computed(Expression[Any]):
    """The value of *node* as a subquery in the FROM clause has computed it, in the column *sql*."""

    __slots__ = ("node", "sql")

    def __init__(self, node: Any, sql: str) -> None:
        self.node = node
        self.sql = sql

    def __repr__(self) -> str:
        return repr(self.node)


class Placed(Ordering):
    """An order by the *number*-th item of the result, *item*; it stays the same object, so that its SQL is the same."""

    __slots__ = ("number",)

    def __init__(self, number: int, item: Any, *, descending: bool) -> None:
        super().__init__(item, descending=descending)
        self.number = number


class RawSql(Expression[Any]):
    """SQL of the user's own: the *texts* stand around the *values*, one more text than values.

    *python* is the type of the result, where it was given.
    """

    __slots__ = ("python", "texts", "values")

    def __init__(self, texts: tuple[str, ...], values: tuple[Any, ...], python: type | None = None) -> None:
        self.texts = texts
        self.values = values
        self.python = python

    def __repr__(self) -> str:
        return f"raw_sql({'?'.join(self.texts)!r})"


def is_many(node: Any) -> bool:
    """Tell whether *node* has any number of values: a subquery, a collection, or what lies behind one."""
    return isinstance(node, Subquery | CollectionAttribute) or (isinstance(node, Path) and node.is_many)


def walk(node: Any) -> Any:
    """Yield *node* and the expressions in it, from the outside in; subqueries are not entered."""
    yield node
    if isinstance(node, Operation):
        for operand in node.operands:
            yield from walk(operand)
    elif isinstance(node, tuple):
        for item in node:
            yield from walk(item)
    elif isinstance(node, Path):
        yield from walk(node.base)
    elif isinstance(node, RawSql):
        yield from walk(node.values)


def is_same(one: Any, other: Any) -> bool:
    """Tell whether *one* and *other* are the same expression, so that they have the same value in every row."""
    if isinstance(one, Operation):
        is_alike = isinstance(other, Operation) and other.operator == one.operator
        return is_alike and len(one.operands) == len(other.operands) and all(map(is_same, one.operands, other.operands))
    if isinstance(one, Path):
        return isinstance(other, Path) and other.attribute is one.attribute and is_same(one.base, other.base)
    if isinstance(one, Slot):
        return isinstance(other, Slot) and other.number == one.number
    if isinstance(one, Expression) or isinstance(other, Expression):
        return one is other
    return type(one) is type(other) and bool(one == other)
