"""What an expression evaluates to: its `Kind`, told from the tree alone, before any SQL is written.

The kinds of operands decide what an operator means (``+`` of texts puts them together), which
operands it refuses, how values that stand beside them travel, and how results are decoded.
"""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Mapping as Table
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

from dbsession.backends.base import Dialect, ValueType
from dbsession.errors import BindingError, DataError
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Expression, Operation
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.query.tree import Computed, Path, RawSql, Slot, Subquery, Variable

__all__ = ["CONDITIONS", "RULES", "UNKNOWN", "Kind", "decoder_of", "is_condition", "is_value", "kind_of", "value_of"]

_Rule = Callable[[tuple[Any, ...]], "Kind"]
RULES: dict[str, _Rule] = {}
"""What each operator gives for its operands. `operators` enters them: it needs this module first."""
CONDITIONS: set[str] = set()
"""The operators that give a condition; entered in the same way."""


class Kind(NamedTuple):
    """What comes out of an expression.

    *python*: the type of its values as the program has them (of an Enum attribute the Enum, of JSON
    dict), the `Mapping` of objects, or None where nobody knows (raw SQL, None). *attribute*: the
    attribute that says how values compared with it travel and how results are decoded; None for what
    is computed. *nullable*: whether it may be NULL.
    """

    python: type | Mapping | None
    attribute: Attribute[Any] | None = None
    nullable: bool = True
    tz: bool = False

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return isinstance(self.python, type) and issubclass(self.python, str)

    @property
    def is_bool(self) -> bool:
        """Whether its values are bools."""
        return self.python is bool

    @property
    def is_number(self) -> bool:
        """Whether its values are int, float or Decimal, and no bools."""
        python = self.python
        return isinstance(python, type) and issubclass(python, int | float | Decimal) and python is not bool

    @property
    def is_decimal(self) -> bool:
        """Whether its values are Decimals."""
        return self.python is Decimal

    @property
    def is_enum(self) -> bool:
        """Whether its values are members of an Enum."""
        return isinstance(self.python, type) and issubclass(self.python, Enum)

    @property
    def is_object(self) -> bool:
        """Whether its values are objects."""
        return isinstance(self.python, Mapping)

    @property
    def name(self) -> str:
        """The name of its type, for messages."""
        if self.python is None:
            return "a value of no known type"
        if self.python in (dict, bytes):
            return "JSON" if self.python is dict else "bytes"
        name = self.python.name if isinstance(self.python, Mapping) else self.python.__name__
        return f"{'an' if name[0] in 'aeiouAEIO' else 'a'} {name}"


UNKNOWN = Kind(None)


def value_of(node: Any) -> Any:
    """Return the value that *node*, a constant or a slot, stands for; *node* itself if it is neither."""
    return node.sample if isinstance(node, Slot) else node


def is_value(node: Any) -> bool:
    """Tell whether *node* is a value, a constant or a slot, and no expression that the database evaluates."""
    return isinstance(node, Slot) or not isinstance(node, Expression)


def kind_of(node: Any) -> Kind:
    """Return what the expression or value *node* evaluates to.

    Raises:
        TypeError: the operands of an operator do not fit; the message says which, and what would.
    """
    if isinstance(node, Operation):
        try:
            kind: Kind = node.known_kind
        except AttributeError:  # asked once for each node, or a deep tree would be walked over and over
            kind = node.known_kind = RULES[node.operator](node.operands)
        return kind
    if isinstance(node, Attribute):
        return _of_attribute(node)
    if isinstance(node, Path):
        return _of_path(node)
    if isinstance(node, Variable):
        return Kind(node.mapping, None, node.is_optional)
    if isinstance(node, Subquery):
        return UNKNOWN if isinstance(node.selected.result, tuple) else kind_of(node.selected.result)
    if isinstance(node, Computed):
        return kind_of(node.node)
    if isinstance(node, RawSql):
        return Kind(node.python)
    if isinstance(node, CollectionAttribute):
        return Kind(node.target, None, nullable=False)
    return _of_value(value_of(node))


def is_condition(node: Any) -> bool:
    """Tell whether *node* is a condition: true, false or unknown, and no column."""
    return isinstance(node, Operation) and node.operator in CONDITIONS


def _of_attribute(attribute: Attribute[Any]) -> Kind:
    if isinstance(attribute, ReferenceAttribute):
        return Kind(attribute.target, attribute, attribute.nullable or attribute.is_virtual)
    assert isinstance(attribute, ValueAttribute)
    python: Any = attribute.declaration.python
    if not (isinstance(python, type) and issubclass(python, Enum)):
        python = attribute.kind.value_type.python
    return Kind(python, attribute, attribute.nullable, attribute.kind.value_type.tz)


def _of_path(path: Path) -> Kind:
    if isinstance(path.attribute, CollectionAttribute):
        return Kind(path.attribute.target, None, nullable=False)
    kind = _of_attribute(path.attribute)
    base = kind_of(path.base)
    is_of_subclass = isinstance(base.python, Mapping) and path.attribute.name not in base.python.attributes
    return kind._replace(nullable=kind.nullable or base.nullable or is_of_subclass)


_TYPES = (bool, int, float, Decimal, str, datetime, date, time, timedelta, UUID, bytes, dict, list)


def _of_value(value: Any) -> Kind:
    if value is None:
        return UNKNOWN
    if isinstance(value, EntityBase):
        return Kind(value._mapping_, None, nullable=False)
    if isinstance(value, Enum):
        return Kind(type(value), None, nullable=False)
    for python in _TYPES:
        if isinstance(value, python):
            return Kind(python, None, nullable=False, tz=isinstance(value, datetime) and value.tzinfo is not None)
    if isinstance(value, bytearray | memoryview):
        return Kind(bytes, None, nullable=False)
    return UNKNOWN


# --- results ----------------------------------------------------------------------------------------------


def decoder_of(kind: Kind, dialect: Dialect) -> Callable[[Any], Any] | None:
    """Return what turns a value in a row into the value of an expression of *kind*; None: it is that already.

    It is never called with None. Objects are not made of one value, and have none.
    """
    if isinstance(kind.attribute, ValueAttribute):
        return kind.attribute.decode
    python = kind.python
    if not isinstance(python, type):
        return None
    if issubclass(python, Enum):
        return python
    special = _DECODERS[dialect.name].get(python)
    if special is not None:
        return special
    try:
        return dialect.codec(ValueType(python, tz=kind.tz)).decode
    except BindingError:
        return None


def _whole(value: Any) -> int:
    """Return a computed int, or raise DataError: beyond 64 bits SQLite goes over to floats without a word."""
    if isinstance(value, float):
        raise DataError(f"the result {value!r} is beyond the 64 bits of SQLite's integers; compute it in Python")
    whole: int = value
    return whole


# What a database computes may have another type than a column of the same kind would have: the sum of
# bigints is numeric on PostgreSQL, and an expression has no declared type on SQLite.
_DECODERS: Table[str, Table[type, Callable[[Any], Any]]] = {
    "postgresql": {int: int, float: float},
    "sqlite": {bool: bool, int: _whole, float: float, Decimal: lambda value: Decimal(str(value))},
}
