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
from dbsession.model.references import ReferenceAttribute

__all__ = ["IdentityMap"]


class IdentityMap:
    """The objects of one unit of work, by entity and key."""

    __slots__ = ("_followed", "_hollow", "_objects")

    def __init__(self) -> None:
        self._objects: dict[Mapping, dict[Any, EntityBase]] = {}
        self._hollow: dict[Mapping, dict[Any, EntityBase]] = {}
        self._followed: dict[ReferenceAttribute, dict[EntityBase, None]] = {}

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

    def note_followed(self, reference: ReferenceAttribute, objects: dict[EntityBase, None]) -> None:
        """Note that what *objects* refer to by *reference* was loaded ahead: it is to be readable after the scope.

        A reference that is not read keeps nothing but a key, which finds no object any more when this map is gone.
        To read it now would make the flush compare it.
        """
        followed = self._followed.get(reference)
        if followed is None:
            self._followed[reference] = objects.copy()
        else:
            followed.update(objects)

    def end(self) -> None:
        """Forget every object. Those of `note_followed` hold what they refer to from now on."""
        for reference, owners in self._followed.items():
            objects, hollow = self.of(reference.target), self.hollow_of(reference.target)
            name, key_in = reference.name, reference.key_in
            for owner in owners:
                key = key_in(owner._row_)  # of an emptied object it is not loaded
                if key in objects and key not in hollow:
                    owner.__dict__.setdefault(name, objects[key])
        self._followed.clear()
        self._objects.clear()
        self._hollow.clear()
