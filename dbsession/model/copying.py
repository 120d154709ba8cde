"""Copies of one object alone: ``copy.copy``. Copies of it with what it reaches are `pickling`'s."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

from dbsession.errors import ConstraintError
from dbsession.model.attributes import ValueAttribute
from dbsession.model.mapping import Mapping
from dbsession.model.pickling import DIRTY, MARKED, NEW, STATES, facts, read_again, require_copyable
from dbsession.model.state import Detached, set_changes, set_row, set_state
from dbsession.model.tracked import plain

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase

__all__ = ["copy_object"]

T = TypeVar("T")


def copy_object(obj: T) -> T:
    """Return a copy of *obj* alone: its references are known by their keys, its collections are not loaded.

    Raises:
        OperationWithDeletedObjectError, InvalidRequestError: as for `reduce_object`.
        ConstraintError: it refers to an object that has no key yet.
    """
    source: Any = obj
    require_copyable(source)
    status, row, changes = facts(source)
    mapping: Mapping = source._mapping_
    unit = mapping.gateway.make_detached()
    twin: Any = object.__new__(mapping.entity)
    set_row(twin, row or mapping.template)
    set_state(twin, getattr(unit.states, STATES[status]))
    if status in {DIRTY, MARKED}:
        set_changes(twin, changes)
    read: list[str] = []
    for name, value in source.__dict__.items():
        attribute = mapping.attributes.get(name)
        if attribute is None or attribute.is_virtual:
            continue
        if status != NEW and name not in changes:
            read.append(name)
        elif isinstance(attribute, ValueAttribute):
            twin.__dict__[name] = attribute.held(twin, plain(value))
        else:
            twin.__dict__[name] = None if value is None else _by_key(source, attribute, value, unit)
    unit.place(twin)
    read_again(twin, read)
    copied: T = twin
    return copied


def _by_key(obj: EntityBase, attribute: Any, target: EntityBase, unit: Detached) -> EntityBase:
    key = target._key_
    if key is None:
        raise ConstraintError(
            f"{obj!r} cannot be copied alone: its {attribute.name} is {target!r}, which has no key yet; "
            f"copy.deepcopy() copies both"
        )
    return unit.reference(attribute.target, key)
