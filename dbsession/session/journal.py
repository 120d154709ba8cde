"""What a rollback needs to put objects back as they were before the transaction.

Before the first statement of a transaction saves an object, the journal remembers its row. After a
rollback changed objects have their old rows, new ones have lost what the database made for them and
are transient, deleted ones live again, and every object stands under its old key.
"""

from __future__ import annotations

from collections.abc import Iterable
from collections.abc import Set as AbstractSet
from typing import Any, NamedTuple, Protocol

from dbsession.model.attributes import PendingExpression
from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase
from dbsession.model.state import NOT_LOADED, ROLLED_BACK, UNSET, State, States, Status, set_row, set_state
from dbsession.session.changes import row_seen
from dbsession.session.identity_map import IdentityMap, ObjectSet

__all__ = ["Journal", "SavepointLog", "empty", "make_transient"]


class SavepointLog(Protocol):
    """What an inner scope notes to be undone; the savepoint is the only one."""

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note where *item* is in *collection* before it comes or goes."""
        ...

    def back_reference_changing(self, obj: EntityBase, name: str) -> None:
        """Note what a one-to-one attribute without a column has before it changes."""
        ...

    def loaded(self, objects: Iterable[EntityBase]) -> None:
        """Note objects that were not known before."""
        ...

    def let_go(self, objects: Iterable[EntityBase]) -> None:
        """Hold *objects*, as far as they were only loaded, no longer."""
        ...

    def merging(self, obj: EntityBase) -> None:
        """Note *obj*, known before, which is about to take a newer row."""
        ...

    def filling(self, collection: Collection[Any]) -> None:
        """Note a collection that is about to be loaded."""
        ...


class _Before(NamedTuple):
    row: tuple[Any, ...]
    was_new: bool
    names: tuple[str, ...]  # attributes that a new object had values for
    read: dict[str, bool]  # attributes that were changed, and whether they had been read before


class Journal:
    """The objects that the open transaction has saved or loaded, as they were before.

    `savepoint` is the innermost inner scope's own; it is told of the same things.
    """

    __slots__ = ("_back_references", "_before", "_brought", "_collections", "_filled", "_given", "_loaded", "savepoint")

    def __init__(self) -> None:
        self._before: dict[EntityBase, _Before] = {}
        self._collections: dict[int, Collection[Any]] = {}
        self._back_references: dict[tuple[EntityBase, str], Any] = {}
        self._filled: dict[int, Collection[Any]] = {}
        self._given: dict[EntityBase, dict[str, Any]] = {}  # what new objects had that were saved, and then expired
        self._loaded = ObjectSet()
        self._brought: dict[EntityBase, None] = {}  # that came with changes, which are not committed; or undone
        self.savepoint: SavepointLog | None = None

    def remember(self, objects: Iterable[EntityBase]) -> None:
        """Note the rows of *objects*, which are about to be saved."""
        before = self._before
        for obj in objects:
            state = obj._state_
            read = _changes_of(obj)
            known = before.get(obj)
            if known is None:
                names = tuple(obj.__dict__) if state.is_new else ()
                before[obj] = _Before(row_seen(obj, obj._changes_) if read else obj._row_, state.is_new, names, read)
            else:
                for name, was_read in read.items():
                    known.read.setdefault(name, was_read)

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note a collection whose changes are not committed, before *item* comes or goes."""
        self._collections[id(collection)] = collection
        if self.savepoint is not None:
            self.savepoint.collection_changing(collection, item)

    def back_reference_changing(self, obj: EntityBase, name: str) -> None:
        """Note what a one-to-one attribute without a column has before it changes."""
        if self.savepoint is not None:
            self.savepoint.back_reference_changing(obj, name)
        self._back_references.setdefault((obj, name), obj.__dict__.get(name, UNSET))

    def take_collection(self, collection: Collection[Any]) -> None:
        """Note a collection that was changed before its owner was attached; the innermost scope knows of it."""
        self._collections[id(collection)] = collection

    def loaded(self, objects: Iterable[EntityBase]) -> None:
        """Note objects that were not known before, and whose rows may show what this transaction has written."""
        self._loaded.update(objects)
        if self.savepoint is not None:
            self.savepoint.loaded(objects)

    def let_go(self, objects: Iterable[EntityBase]) -> None:
        """Hold *objects*, as far as they were only loaded, no longer: nobody else may."""
        self._loaded.let_go(objects)
        if self.savepoint is not None:
            self.savepoint.let_go(objects)

    def merging(self, obj: EntityBase) -> None:
        """Note the row of *obj*, known before, which is about to take what this transaction may have written."""
        if self.savepoint is not None:
            self.savepoint.merging(obj)
        if obj not in self._before and obj not in self._loaded:
            self.remember((obj,))

    def filling(self, collection: Collection[Any]) -> None:
        """Note a collection that is about to be loaded, and may show what this transaction has changed."""
        self._filled[id(collection)] = collection
        if self.savepoint is not None:
            self.savepoint.filling(collection)

    def forgetting(self, obj: EntityBase) -> None:
        """Note the values of *obj* before they are expired: a rollback leaves a new one what the program gave it."""
        before = self._before.get(obj)
        if before is not None and before.was_new:
            self._given.setdefault(obj, {}).update(obj.__dict__)

    def undo_new(self, obj: EntityBase) -> None:
        """Make *obj*, which was new, transient, and forget that it was ever saved."""
        before = self._before.pop(obj, None)
        self._make_transient(obj, before)

    def _make_transient(self, obj: EntityBase, before: _Before | None) -> None:
        names = set(obj.__dict__) if before is None else {*before.names, *before.read, *_changes_of(obj)}
        make_transient(obj, names)
        for name, value in self._given.pop(obj, {}).items():
            if name in names:
                obj.__dict__.setdefault(name, value)
            if isinstance(value, Collection) and not value.is_loaded:
                value.fill(())

    def forget_new(self, obj: EntityBase) -> None:
        """Forget that the new object *obj* was ever saved, and leave it as it is."""
        self._before.pop(obj, None)
        self._given.pop(obj, None)

    def brought(self, obj: EntityBase) -> None:
        """Note that *obj* has come with unsaved changes: they are the session's to undo, but not to forget."""
        self._brought[obj] = None

    def forgive(self, obj: EntityBase, states: States) -> None:
        """Let *obj*, which is undone, be an ordinary clean object: the program wants what is in the database."""
        self._brought.pop(obj, None)
        set_state(obj, states.clean)

    def made(self) -> list[EntityBase]:
        """Return the objects that the transaction has saved for the first time."""
        return [obj for obj, before in self._before.items() if before.was_new]

    def settle(self) -> None:
        """Forget everything: it is committed."""
        for collection in self._collections.values():
            collection.settle()
        self._brought = {obj: None for obj in self._brought if obj._state_.is_undone}
        self._forget()

    def _forget(self) -> None:
        self._before.clear()
        self._collections.clear()
        self._back_references.clear()
        self._filled.clear()
        self._given.clear()
        self._loaded.clear()

    def restore(self, unsaved: Iterable[EntityBase], identity: IdentityMap, states: States) -> None:
        """Put every object back; *unsaved* are those with changes that were never sent."""
        saved = self._before
        read: dict[EntityBase, dict[str, bool]] = {}
        for obj in unsaved:
            if obj not in saved:
                read[obj] = _restore_unsaved(obj, identity, states)
        for obj, before in saved.items():
            if not before.was_new or obj._key_ is not None:
                identity.remove(obj, obj._key_)
        for obj, before in saved.items():
            if before.was_new:
                self._make_transient(obj, before)
            else:
                read[obj] = _restore_saved(obj, before, identity, states)
        for obj in self._loaded:
            if obj._state_.status is Status.CLEAN:  # else another object has its key
                empty(obj, identity)
                read.pop(obj, None)
        for obj, names in read.items():  # references find all objects in their places now
            _read_again(obj, names)
        for collection in self._collections.values():
            collection.restore()
        for collection in self._filled.values():
            collection.forget()
        for (obj, name), value in self._back_references.items():
            if value is UNSET:
                obj.__dict__.pop(name, None)
            else:
                obj.__dict__[name] = value
        for obj in self._brought:
            if obj._state_.status is Status.CLEAN:
                set_state(obj, states.undone)
        self._forget()


def _changes_of(obj: EntityBase) -> dict[str, bool]:
    """Return the changed attributes of *obj*, and whether each had been read before."""
    if not obj._state_.has_changes:
        return {}
    return {
        name: change.was_read if isinstance(change, PendingExpression) else bool(change)
        for name, change in obj._changes_.items()
    }


def _restore_unsaved(obj: EntityBase, identity: IdentityMap, states: States) -> dict[str, bool]:
    """Put *obj* back, and return its attributes that are to be read again."""
    if obj._state_.is_new:
        key = obj._key_
        if key is not None:
            identity.remove(obj, key)
        make_transient(obj, obj.__dict__.keys())
        return {}
    read = _changes_of(obj)
    if read:
        set_row(obj, row_seen(obj, obj._changes_))
    set_state(obj, states.clean)
    identity.add(obj, obj._key_)
    return read


def _restore_saved(obj: EntityBase, before: _Before, identity: IdentityMap, states: States) -> dict[str, bool]:
    """Put *obj* back, and return its attributes that are to be read again."""
    read = {**_changes_of(obj), **before.read}
    attributes = obj._mapping_.attributes
    row = obj._row_
    for name in [name for name in obj.__dict__ if name in attributes and name not in read]:
        columns = attributes[name].columns
        if any(row[column.position] != before.row[column.position] for column in columns):
            read[name] = True
    set_row(obj, before.row)
    set_state(obj, states.clean)
    other = identity.find(obj._mapping_, obj._key_)
    if other is not None and other is not obj:
        set_state(other, State(Status.DETACHED, None, "its row was rolled back"))
    identity.add(obj, obj._key_)
    return read


def _read_again(obj: EntityBase, read: dict[str, bool]) -> None:
    """Let changed attributes show the row again; what had been read counts as read again."""
    values = obj.__dict__
    for name in read:
        values.pop(name, None)
    attributes = obj._mapping_.attributes
    for name, was_read in read.items():
        if was_read and all(obj._row_[column.position] is not NOT_LOADED for column in attributes[name].columns):
            getattr(obj, name)


def make_transient(obj: EntityBase, names: AbstractSet[str]) -> None:
    """Leave a new object the values that the program gave it, and nothing that the database made."""
    set_row(obj, obj._mapping_.template)
    set_state(obj, ROLLED_BACK)
    for name in [name for name in obj.__dict__ if name not in names]:
        del obj.__dict__[name]


def empty(obj: EntityBase, identity: IdentityMap) -> None:
    """Leave nothing of *obj* but its key: the rest is loaded again when it is needed."""
    key = obj._key_
    mapping = obj._mapping_
    set_row(obj, mapping.hollow_row(key))
    obj.__dict__.clear()
    identity.hollow_of(mapping)[key] = obj
