"""Changes of a key: all of it or nothing, since no two objects of a session may have the same one."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, Any

from dbsession.errors import CacheIndexError
from dbsession.model.state import UNSET, Status

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit

__all__ = ["assign_key", "change_key"]


def change_key(
    obj: EntityBase,
    unit: Unit,
    names: Iterable[str],
    change: Callable[[], None],
    coming: Sequence[EntityBase] = (),
) -> None:
    """Make a *change* of the key attributes *names*, and let what is *coming* join *unit*; or none of it.

    Raises:
        CacheIndexError: another object has the key that it makes, or one of those that come; everything is as it was.
    """
    values = obj.__dict__
    before = {name: values.get(name, UNSET) for name in names}
    changed = dict(obj._changes_) if obj._state_.status is Status.DIRTY else {}
    unit.key_changing(obj)
    change()
    try:
        unit.key_changed(obj)
        if coming:
            _take_in(obj, unit, coming)
    except CacheIndexError:
        _put_back(values, before)
        if obj._state_.status is Status.DIRTY:
            _put_back(obj._changes_, {name: changed.get(name, UNSET) for name in before})
        unit.key_changed(obj)
        raise


def _take_in(obj: EntityBase, unit: Unit, coming: Sequence[EntityBase]) -> None:
    try:
        unit.take_in(*coming)
    except CacheIndexError:
        unit.key_changing(obj)  # it is in its new place already
        raise


def _put_back(values: dict[str, Any], before: dict[str, Any]) -> None:
    for name, value in before.items():
        if value is UNSET:
            values.pop(name, None)
        else:
            values[name] = value


def assign_key(obj: EntityBase, unit: Unit, parts: dict[Any, Any], coming: Sequence[EntityBase] = ()) -> None:
    """Assign several parts (attribute to checked value) of a key at once: what lies between is nobody's key.

    *coming*: who joins *unit* with it.

    Raises:
        CacheIndexError: another object has the key that they make, or one of those that come; nothing was assigned.
    """
    targets = {part: part.known(obj, unit) for part in parts if hasattr(part, "tell")}
    moved = {part: value for part, value in parts.items() if part not in targets or targets[part] is not value}

    def store() -> None:
        for part, value in moved.items():
            part.store(obj, unit, value)

    change_key(obj, unit, [part.name for part in moved], store, coming)
    for part, old in targets.items():
        if part in moved:
            part.tell(obj, old, moved[part], unit)
