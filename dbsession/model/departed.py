"""Who has left a one-to-one relation: of the two ends, the one without a column does not know it any more.

A collection keeps who was taken out of it, so that copies of its owner bring the change along. The end of a one-to-one
relation keeps nobody; but whoever has left still has the old key in his row, and is unsaved.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dbsession.model.references import ReferenceAttribute

if TYPE_CHECKING:
    from dbsession.model.entity import EntityBase
    from dbsession.model.state import Unit

__all__ = ["Departed"]


class Departed:
    """Finds them for one object after the other; what is unsaved in a unit of work is looked at once."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[Unit, tuple[Any, dict[Any, list[tuple[EntityBase, str]]]]] = {}

    def of(self, obj: EntityBase) -> Iterator[EntityBase]:
        """Yield the objects that have left *obj*, or are marked for deletion, and refer to it in the database."""
        state = obj._state_
        unit = state.unit
        if unit is None or state.is_new or not (unit.dirty or unit.deleted):
            return
        unsaved = (unit.dirty, unit.deleted)
        stamp = [(len(objects), next(reversed(objects), None)) for objects in unsaved]
        known, found = self._found.get(unit, (None, {}))
        if known != stamp:
            found = _by_place(unit)
            self._found[unit] = stamp, found
        for other, name in found.get((obj._mapping_.root, obj._key_), ()):
            if other is not obj and (not other._state_.may_change or name in other._changes_):
                yield other


def _by_place(unit: Unit) -> dict[Any, list[tuple[EntityBase, str]]]:
    """Return the unsaved objects of *unit* by whom their rows refer to, in one-to-one relations."""
    found: dict[Any, list[tuple[EntityBase, str]]] = {}
    for obj in (*unit.dirty, *unit.deleted):
        for attribute in obj._mapping_.reference_attributes:
            if not attribute.is_virtual and isinstance(attribute.reverse, ReferenceAttribute):
                place = (attribute.target.root, attribute.key_in(obj._row_))
                found.setdefault(place, []).append((obj, attribute.name))
    return found
