"""The identity map: one object per row, for as long as the scope lasts.

Objects are held strongly, so that a row that was loaded is never loaded again, and an unsaved change is
never lost with the last reference to its object. Keys are as rows have them; a hierarchy of
entities shares one space of keys.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping

__all__ = ["IdentityMap"]


class IdentityMap:
    """The objects of one unit of work, by entity and key."""

    __slots__ = ("_hollow", "_objects")

    def __init__(self) -> None:
        self._objects: dict[Mapping, dict[Any, EntityBase]] = {}
        self._hollow: dict[Mapping, dict[Any, EntityBase]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def __iter__(self) -> Iterator[EntityBase]:
        for objects in self._objects.values():
            yield from objects.values()

    def of(self, mapping: Mapping) -> dict[Any, EntityBase]:
        """Return the objects of the hierarchy of *mapping* by key; a live dict."""
        objects = self._objects.get(mapping.root)
        if objects is None:
            objects = self._objects[mapping.root] = {}
        return objects

    def hollow_of(self, mapping: Mapping) -> dict[Any, EntityBase]:
        """Return those of them of which only the key is known; a live dict."""
        hollow = self._hollow.get(mapping.root)
        if hollow is None:
            hollow = self._hollow[mapping.root] = {}
        return hollow

    def add(self, obj: EntityBase, key: Any) -> None:
        """Let *obj* be the object with *key*."""
        self.of(obj._mapping_)[key] = obj

    def remove(self, obj: EntityBase, key: Any) -> None:
        """Forget that *obj* is the object with *key*, if it is."""
        objects = self.of(obj._mapping_)
        if objects.get(key) is obj:
            del objects[key]
            self.hollow_of(obj._mapping_).pop(key, None)

    def clear(self) -> None:
        """Forget every object."""
        self._objects.clear()
        self._hollow.clear()
