"""The door for what stands for an object without being one, such as an `EntityProxy`.

Such a thing has ``__proxy_target__`` in its class, which returns the object that it stands for, as far as the
current scope has it, or else one that has nothing but its key. It sends nothing, and is asked for only where a value
would be refused otherwise.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase
    from dbsession.model.mapping import Mapping
    from dbsession.model.state import Unit

__all__ = ["object_behind", "object_in", "stands_for"]


def object_behind(value: Any) -> EntityBase | None:
    """Return the object that *value* stands for, or None if it is nothing of the kind; sends nothing."""
    target = getattr(type(value), "__proxy_target__", None)
    found: EntityBase | None = None if target is None else target(value)
    return found


def object_in(unit: Unit, value: Any) -> EntityBase | None:
    """Return the object of *unit* that *value* stands for, or None if it is nothing of the kind; sends nothing."""
    found = object_behind(value)
    return None if found is None else unit.reference(found._mapping_, found._key_)


def stands_for(mapping: Mapping, value: Any) -> Any:
    """Return the key, as rows have it, of the object of the hierarchy of *mapping* that *value* stands for, or None."""
    found = object_behind(value)
    return found._key_ if found is not None and found._mapping_.root is mapping.root else None
