"""How values from outside are taken: as what, and with which shape.

``u.name == name`` is another query where ``name`` is None, and the same one for any two strings. Each
function here takes a value that Python has computed and returns it as the query is to take it,
together with its *shape*. A translation is remembered by the shapes that it has met, so values of one
shape must mean the same SQL, and a shape must hold nothing that keeps an object of an entity alive.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from types import FunctionType, MethodType, ModuleType
from typing import Any, TypeAlias, TypeGuard
from uuid import UUID

from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase, EntityMeta
from dbsession.model.expressions import Expression
from dbsession.model.state import State, Status, set_row, set_state

__all__ = [
    "NOTHING",
    "UNCACHED",
    "VALUES",
    "How",
    "Same",
    "as_value",
    "callee",
    "exact",
    "is_entity",
    "is_ours",
    "is_query",
    "items",
    "looped",
    "module",
    "ours",
    "plain",
    "sample_of",
    "truth",
]

How: TypeAlias = Callable[[Any], tuple[Any, Any]]  # ... and the shape, which is hashable

NOTHING = object()
"""What stands for "there is none" where None is a value."""
UNCACHED = "uncached"
"""The shape of what stands in the query as it is: nothing that holds it is remembered."""

VALUES = (str, bytes, bool, int, float, Decimal, datetime, date, time, timedelta, UUID, dict, list)
_SIMPLE = frozenset(VALUES) - {bool, datetime, time, dict, list}


class Same:
    """An object as a shape of its own: equal to nothing but itself, whatever its class says of equality."""

    __slots__ = ("it",)

    def __init__(self, it: Any) -> None:
        self.it = it

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Same) and self.it is other.it

    def __hash__(self) -> int:
        return id(self.it)


def as_value(value: Any) -> Any:
    """Return what *value* stands for: the object behind a proxy; anything else is itself."""
    target = getattr(type(value), "__proxy_target__", None)
    return value if target is None else target(value)


def is_query(value: Any) -> bool:
    """Tell whether *value* is a `Query`, which stands above this module."""
    kind = type(value)
    return hasattr(kind, "_runner") and hasattr(kind, "selected")


def is_entity(value: Any) -> TypeGuard[type[EntityBase]]:
    """Tell whether *value* is the class of an entity with a table."""
    return isinstance(value, EntityMeta) and value._mapping_ is not None


def is_ours(value: Any) -> bool:
    """Tell whether a loop over *value* is the database's."""
    return is_entity(value) or isinstance(value, Collection) or is_query(value)


# --- how a value is taken ---------------------------------------------------------------------------------


def plain(value: Any) -> tuple[Any, Any]:
    """Take a value as it is."""
    kind = type(value)
    if kind in _SIMPLE:
        return value, kind
    if value is None or kind is bool:
        return value, (kind, value)
    if kind is datetime or kind is time:
        return value, (kind, value.tzinfo is None)
    value = as_value(value)
    kind = type(value)
    if is_query(value):
        return value, (Same(value.selected), len(value.values))
    if isinstance(value, Collection):
        return value, (kind, Same(value.attribute), type(value.owner))
    if isinstance(value, Expression):
        return value, UNCACHED
    if isinstance(value, EntityMeta):
        return value, Same(value)
    if isinstance(value, dict | list):
        return _as_now(value), kind
    return value, (kind, len(value)) if isinstance(value, tuple) else kind


def _as_now(value: Any) -> Any:
    """Return a copy of a dict or list, as JSON has them: the query asks for what it is now."""
    if isinstance(value, dict):
        return {key: _as_now(item) for key, item in value.items()}
    return [_as_now(item) for item in value] if isinstance(value, list) else value


def truth(value: Any) -> tuple[Any, Any]:
    """Take whether a value is true; an expression of the database is itself, and a query whether it has rows."""
    if isinstance(value, Expression) or is_query(value):
        return plain(value)
    value = bool(as_value(value))
    return value, value


def items(value: Any) -> tuple[Any, Any]:
    """Take what stands behind ``in``: a text, a query, a collection, or else the values of an iterable."""
    value = as_value(value)
    if isinstance(value, str | bytes | Expression | Collection | EntityMeta) or is_query(value):
        return plain(value)
    if not isinstance(value, Iterable):
        return value, ("none", type(value))
    values = tuple([_as_now(as_value(item)) for item in value])
    if any(item is None for item in values):  # how often does not matter
        values = (*[item for item in values if item is not None], None)
    kinds = frozenset(map(type, values))
    widths = tuple([len(item) if isinstance(item, tuple) else -1 for item in values]) if tuple in kinds else None
    return values, (len(values), kinds, widths)


def exact(value: Any) -> tuple[Any, Any]:
    """Take a value that is part of the query's text."""
    try:
        hash(value)
    except TypeError:
        return value, UNCACHED
    return value, (type(value), value)


def callee(value: Any) -> tuple[Any, Any]:
    """Take what is called: a function by its code, since a closure is made anew each time."""
    if isinstance(value, FunctionType):
        return value, Same(value.__code__)
    if isinstance(value, MethodType) and isinstance(value.__func__, FunctionType):
        bound = value.__self__
        return value, (Same(value.__func__.__code__), Same(bound) if isinstance(bound, type) else type(bound))
    if isinstance(value, type):
        return value, Same(value)
    if isinstance(getattr(value, "__self__", None), ModuleType):  # a function written in C
        return value, Same(value)
    return value, type(value)


def looped(value: Any) -> tuple[Any, Any]:
    """Take what a ``for`` clause ranges over."""
    value = as_value(value)
    if isinstance(value, EntityMeta | Collection) or is_query(value):
        return plain(value)
    return value, ("other", type(value))


def ours(value: Any) -> tuple[Any, Any]:
    """Take whether a ``for`` clause over a value is the database's."""
    found = is_ours(as_value(value))
    return found, found


def module(value: Any) -> tuple[Any, Any]:
    """Take a module, or None for anything else."""
    found = value if isinstance(value, ModuleType) else None
    return found, Same(found)


# --- samples ----------------------------------------------------------------------------------------------


def sample_of(value: Any) -> Any:
    """Return what stands for *value* in a translation that is kept: an object would keep its session alive."""
    if isinstance(value, EntityBase):
        mapping = value._mapping_
        key = value._key_
        stand_in: EntityBase = object.__new__(type(value))
        set_row(stand_in, mapping.template if key is None else mapping.hollow_row(key))
        set_state(stand_in, _SAMPLE)
        return stand_in
    if isinstance(value, tuple):
        if len(value) <= _SAMPLE_ITEMS:
            return tuple([sample_of(item) for item in value])
        samples = {kind: sample_of(item) for kind, item in zip(map(type, value), value, strict=True)}
        return tuple([samples[type(item)] for item in value])
    return value[:_SAMPLE_LENGTH] if isinstance(value, str | bytes) else value


_SAMPLE_LENGTH = 80  # of texts and bytes; enough for messages
_SAMPLE_ITEMS = 20  # of lists; in longer ones, one item of each type stands for all
_SAMPLE = State(Status.DETACHED, None, "it stands for any object of its class in a query")
