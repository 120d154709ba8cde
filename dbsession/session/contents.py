"""What is in a session, to look at: its new, changed and deleted objects, and its identity map."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from dbsession.model.entity import EntityBase, EntityMeta
from dbsession.model.mapping import mapping_of
from dbsession.model.state import Status
from dbsession.session.core import SessionCore
from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["IdentityMapView", "among", "describe", "holds", "session_objects"]

_NAMED = 3  # objects that a message names


def among(session: SessionCore, chosen: Callable[[UnitOfWork], Iterable[EntityBase]]) -> frozenset[EntityBase]:
    """Return the *chosen* objects of all units of work of *session*."""
    session.check_owner()
    return frozenset([obj for unit in session.units for obj in chosen(unit)])


def session_objects(session: SessionCore) -> list[EntityBase]:
    """Return all objects of *session*, new ones first; those deleted and flushed are not among them."""
    session.check_owner()
    return list(dict.fromkeys([obj for unit in session.units for obj in (*unit.new, *unit.identity)]))


def holds(session: SessionCore, obj: EntityBase) -> bool:
    """Tell whether *obj* is in *session*; one whose deletion is not flushed yet is."""
    state = obj._state_
    return state.status is not Status.DELETED and any(state.unit is unit for unit in session.units)


def describe(session: SessionCore) -> str:
    """Name what *session* has not committed; empty if there is nothing."""
    parts: list[str] = []
    for unit in session.units:
        for label, objects in (("new", unit.new), ("changed", unit.dirty), ("deleted", unit.deleted)):
            if objects:
                named = ", ".join([repr(obj) for obj in list(objects)[:_NAMED]])
                more = f" and {len(objects) - _NAMED} more" if len(objects) > _NAMED else ""
                parts.append(f"{label} {named}{more}")
        if unit.links:
            parts.append("changed links of many-to-many relations")
        if unit.transaction.wrote:
            parts.append("what was executed or flushed since the last commit")
    return "; ".join(parts)


class IdentityMapView(Mapping[tuple[type[Any], Any], Any]):
    """The objects of a session by entity and key, as they are when one looks; sends nothing."""

    __slots__ = ("_session",)

    def __init__(self, session: SessionCore) -> None:
        self._session = session

    def __getitem__(self, place: tuple[type[Any], Any]) -> Any:
        entity, key = place if isinstance(place, tuple) and len(place) == 2 else (None, None)
        if not isinstance(entity, EntityMeta):
            raise KeyError(place)
        mapping = mapping_of(entity)
        raw = mapping.entity._key_from_(key)
        unit = self._session.unit_if_any(mapping.gateway.database)
        found = None if unit is None else unit.identity.find(mapping, raw)
        if not isinstance(found, mapping.entity):
            raise KeyError(place)
        return found

    def __iter__(self) -> Iterator[tuple[type[Any], Any]]:
        return iter([(type(obj), obj.get_pk()) for unit in self._session.units for obj in unit.identity])

    def __len__(self) -> int:
        return sum(len(unit.identity) for unit in self._session.units)

    def __repr__(self) -> str:
        return f"<identity map of {self._session!r}: {len(self)} objects>"
