"""Who has which key: the places of objects in the identity map, and those that they will have after the flush."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.errors import CacheIndexError
from dbsession.model.entity import EntityBase
from dbsession.model.state import Status
from dbsession.session.loading import assigned_key

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["moves_away", "take_place"]


def take_place(unit: UnitOfWork, obj: EntityBase) -> None:
    """Put the new *obj* in its place, or note that a saved one has a new key.

    Raises:
        CacheIndexError: another object has the key.
    """
    key = obj._key_ if obj._state_.is_new else assigned_key(obj)
    if key is None:
        return
    other = unit.identity.find(obj._mapping_, key)
    if other is not None and other is not obj and other._state_.may_change and not moves_away(other, key):
        raise CacheIndexError(
            f"{obj._mapping_.describe_key(key)} exists in this session already: {other!r} ({other._state_.label}); "
            f"change that object, or delete it first"
        )
    if obj._state_.is_new:
        unit.identity.add(obj, key)
    else:
        unit.moves_keys = True


def moves_away(other: EntityBase, key: Any) -> bool:
    """Tell whether *other*, which has *key*, will have another one after the flush."""
    return other._state_.status is Status.DIRTY and assigned_key(other) != key
