"""The identity map: one object per row, for as long as the scope lasts.

Objects are held strongly, so that a row that was loaded is never loaded again, and an unsaved change is
never lost with the last reference to its object. Keys are as rows have them; a hierarchy of
entities shares one space of keys.

What a stream has brought is *let go* behind it: from then on the object lives as long as somebody else
holds it, the program or the unit of work with its unsaved changes. As long as it lives it is the
object of its row, and it is held again when its row is loaded again or asked for by key.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice
from typing import Any, NamedTuple
from weakref import WeakSet, WeakValueDictionary, ref

from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.session.changes import row_seen, unsaved

__all__ = ["IdentityMap", "ObjectSet", "Watcher"]

_AHEAD = ", loaded ahead"  # behind the name of a reference, in the __dict__ of an object: no attribute's name


class IdentityMap:
    """The objects of one unit of work, by entity and key."""

    __slots__ = ("_followed", "_hollow", "_objects", "_watchers", "expired_ends", "released")

    def __init__(self) -> None:
        self._objects: dict[Mapping, dict[Any, EntityBase]] = {}
        self._hollow: dict[Mapping, dict[Any, EntityBase]] = {}
        self._followed: dict[ReferenceAttribute, ObjectSet] = {}
        self.released: dict[Mapping, WeakValueDictionary[Any, EntityBase]] = {}  # those let go that live
        self._watchers: tuple[Watcher, ...] = ()
        # Collections, and ends of one-to-one relations without a column, that the program wants to be loaded again: by
        # owner and name. What was read of their items may have changed.
        self.expired_ends: set[tuple[EntityBase, str]] = set()

    def __len__(self) -> int:
        return sum(map(len, self._objects.values()))

    def __iter__(self) -> Iterator[EntityBase]:
        for root in self._objects:
            yield from self.alive(root).values()

    def of(self, mapping: Mapping) -> dict[Any, EntityBase]:
        """Return the objects of the hierarchy of *mapping* that are held, by key; a live dict."""
        objects = self._objects.get(mapping.root)
        if objects is None:
            objects = self._objects[mapping.root] = {}
        return objects

    def alive(self, mapping: Mapping) -> dict[Any, EntityBase]:
        """Return all objects of the hierarchy of *mapping* by key, with those that were let go; not to be changed."""
        objects = self.of(mapping)
        released = self.released.get(mapping.root)
        return {**dict(released.items()), **objects} if released else objects

    def hollow_of(self, mapping: Mapping) -> dict[Any, EntityBase]:
        """Return those of them of which only the key is known; a live dict."""
        hollow = self._hollow.get(mapping.root)
        if hollow is None:
            hollow = self._hollow[mapping.root] = {}
        return hollow

    def find(self, mapping: Mapping, key: Any) -> EntityBase | None:
        """Return the object with *key*, if there is one; it is held from now on."""
        objects = self._objects.get(mapping.root)
        if objects is None:
            return None
        found = objects.get(key)
        if found is None and self.released:
            self.hold_again(mapping, [key])
            found = objects.get(key)
        return found

    def add(self, obj: EntityBase, key: Any) -> None:
        """Let *obj* be the object with *key*."""
        self.of(obj._mapping_)[key] = obj
        self._forget_released(obj._mapping_, key)

    def remove(self, obj: EntityBase, key: Any) -> None:
        """Forget that *obj* is the object with *key*, if it is."""
        objects = self.of(obj._mapping_)
        if self.find(obj._mapping_, key) is obj:
            del objects[key]
            self._forget_released(obj._mapping_, key)
            self.hollow_of(obj._mapping_).pop(key, None)
            if self._watchers:
                self.note_left(obj._mapping_, [key])

    def note_followed(self, reference: ReferenceAttribute, objects: Iterable[EntityBase]) -> None:
        """Note that what *objects* refer to by *reference* was loaded ahead: it is to be readable after the scope.

        A reference that is not read keeps nothing but a key, which finds no object any more when this map is gone.
        To read it now would make the flush compare it.
        """
        followed = self._followed.get(reference)
        if followed is None:
            followed = self._followed[reference] = ObjectSet()
        followed.update(objects)

    def end(self) -> None:
        """Forget every object. Those of `note_followed` hold what they refer to from now on."""
        for reference, owners in self._followed.items():
            for owner, target in self._targets(reference, owners):
                owner.__dict__.setdefault(reference.name, target)
                owner.__dict__.pop(f"{reference.name}{_AHEAD}", None)
        self._followed.clear()
        self._objects.clear()
        self._hollow.clear()
        self.released.clear()
        self.expired_ends.clear()

    def _targets(
        self, reference: ReferenceAttribute, owners: Iterable[EntityBase]
    ) -> Iterator[tuple[EntityBase, EntityBase]]:
        """Yield each of *owners* with what it refers to, as far as that is loaded."""
        objects, hollow = self.alive(reference.target), self.hollow_of(reference.target)
        for owner in owners:
            key = reference.key_in(owner._row_)  # of an emptied object it is not loaded
            if key in objects and key not in hollow:
                yield owner, objects[key]

    # --- for streams ------------------------------------------------------------------------------

    def sizes(self) -> dict[Mapping, int]:
        """Return how many objects are held of each hierarchy, by its root; see `since`."""
        return {root: len(objects) for root, objects in self._objects.items()}

    def since(self, sizes: dict[Mapping, int]) -> dict[Mapping, list[Any]]:
        """Return the keys of the objects that have come since the map had *sizes*, if none have gone."""
        return {
            root: list(islice(reversed(objects), len(objects) - sizes.get(root, 0)))
            for root, objects in self._objects.items()
            if len(objects) > sizes.get(root, 0)
        }

    def let_go(self, keys: dict[Mapping, list[Any]]) -> None:
        """Hold the objects with *keys*, by the roots of their hierarchies, no longer."""
        if self._followed or self.expired_ends:
            going = {obj for root, some in keys.items() for obj in map(self.of(root).get, some) if obj is not None}
            self._let_go_of_followed(going)
            self.expired_ends = {end for end in self.expired_ends if end[0] not in going}
            del going
        for root, some in keys.items():
            objects, hollow = self.of(root), self.hollow_of(root)
            for key in some if hollow else ():
                hollow.pop(key, None)
            gone = [(key, ref(objects.pop(key))) for key in some if key in objects]
            released = self.released.get(root)
            if released is None:
                released = self.released[root] = WeakValueDictionary()
            for key, reference in gone:
                obj = reference()
                if obj is not None:  # somebody else holds it
                    released[key] = obj

    def _let_go_of_followed(self, objects: set[EntityBase]) -> None:
        """Let those of *objects* that are in `note_followed` hold what they refer to, without having read it."""
        for reference, owners in self._followed.items():
            for owner, target in self._targets(reference, owners.let_go(objects)):
                owner.__dict__[f"{reference.name}{_AHEAD}"] = target

    def hold_again(self, mapping: Mapping, keys: list[Any]) -> None:
        """Hold those of the objects with *keys* that were let go, and live."""
        released = self.released.get(mapping.root)
        if not released:
            return
        objects = self.of(mapping)
        for key in keys if len(keys) <= len(released) else set(keys).intersection(list(released)):
            obj = released.pop(key, None)
            if obj is None or objects.setdefault(key, obj) is not obj:
                continue
            if obj._state_.is_persistent and obj._mapping_.is_hollow(row_seen(obj, unsaved(obj))):
                self.hollow_of(mapping)[key] = obj

    def _forget_released(self, mapping: Mapping, key: Any) -> None:
        released = self.released.get(mapping.root) if self.released else None
        if released is not None:
            released.pop(key, None)

    def watch(self, watcher: Watcher) -> None:
        """Tell *watcher*, from now on, which rows are no longer there, and which objects are expired."""
        self._watchers = (*self._watchers, watcher)

    @property
    def is_watched(self) -> bool:
        """Whether anybody wants to know which rows are no longer there."""
        return bool(self._watchers)

    def note_left(self, mapping: Mapping, keys: Iterable[Any]) -> None:
        """Note that rows are no longer there, whether or not anybody has loaded them."""
        rows = [(mapping.root, key) for key in keys]
        for watcher in self._watchers:
            watcher.left.update(rows)

    def note_expired_end(self, owner: EntityBase, name: str) -> None:
        """Note that the program wants the collection, or one-to-one end, *name* of *owner* to be loaded again."""
        if self.of(owner._mapping_).get(owner._key_) is owner:  # one that was let go is not to be held by this
            self.expired_ends.add((owner, name))

    def note_expired(self, mapping: Mapping, key: Any) -> None:
        """Note that what was known of a row until now is not to be believed any more."""
        for watcher in self._watchers:
            watcher.expired.add((mapping.root, key))

    def unwatch(self, watcher: Watcher) -> None:
        """Tell *watcher* nothing any more."""
        self._watchers = tuple([each for each in self._watchers if each is not watcher])


class Watcher(NamedTuple):
    """What a stream has to know of rows that it may still bring, as they were when it was opened."""

    left: set[tuple[Mapping, Any]]  # no longer there: deleted, or moved to another key
    expired: set[tuple[Mapping, Any]]


class ObjectSet:
    """Objects in the order in which they came. Those that are let go are in it for as long as they live."""

    __slots__ = ("_held", "_let_go")

    def __init__(self) -> None:
        self._held: dict[EntityBase, None] = {}
        self._let_go: WeakSet[EntityBase] | None = None

    def __contains__(self, obj: EntityBase) -> bool:
        return obj in self._held or (self._let_go is not None and obj in self._let_go)

    def __iter__(self) -> Iterator[EntityBase]:
        yield from self._held
        if self._let_go is not None:
            yield from list(self._let_go)

    def update(self, objects: Iterable[EntityBase]) -> None:
        """Take in *objects*."""
        self._held.update(dict.fromkeys(objects))

    def merge(self, other: ObjectSet) -> None:
        """Take in those of *other*, as they are in it."""
        self._held.update(other._held)
        if other._let_go is not None:
            self._loosely(other._let_go)

    def let_go(self, objects: Iterable[EntityBase]) -> list[EntityBase]:
        """Hold those of *objects* that are in it no longer, and return them."""
        held = self._held
        gone = [obj for obj in objects if obj in held]
        for obj in gone:
            del held[obj]
        if gone:
            self._loosely(gone)
        return gone

    def _loosely(self, objects: Iterable[EntityBase]) -> None:
        if self._let_go is None:
            self._let_go = WeakSet()
        self._let_go.update(objects)

    def clear(self) -> None:
        """Hold nothing."""
        self._held.clear()
        self._let_go = None
