"""The unit of work of objects that no session has: transient ones, copies, and what comes out of a pickle.

It is a unit of work without a connection. Attributes, relations, collections and deletes work in memory by the same
code as in a session, and what has changed is recorded, until `attaching` makes the objects those of a session. What
would need the database is refused before anything has changed.

Objects that are linked to each other share one such unit: linking objects of two of them merges the two.
"""

from __future__ import annotations

from collections.abc import Iterable
from threading import RLock
from typing import Any, NoReturn

from dbsession.backends.statements import Batch, Result
from dbsession.errors import DatabaseSessionIsOver
from dbsession.model.attributes import Attribute
from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import NOT_LOADED
from dbsession.session import attaching
from dbsession.session.link import Link
from dbsession.session.transaction import TransactionPolicy
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["DetachedUnit"]

_POLICY = TransactionPolicy()


def _anybody() -> None:
    """Let everybody use objects that are in no session."""


class _NoLink(Link):
    """Stands where other units have a connection. What entities ask for is refused before it comes to this."""

    __slots__ = ()

    def execute(self, batch: Batch) -> list[Result]:
        """Refuse to send *batch*.

        Raises:
            DatabaseSessionIsOver: always.
        """
        error = DatabaseSessionIsOver(
            "Cannot use the database for an object that is in no session; session.attach(obj) or session.add(obj) first"
        )
        error.nothing_sent = True
        raise error


class DetachedUnit(UnitOfWork):
    """What is known of objects that are in no session, and linked to each other."""

    is_detached = True

    def __init__(self, database: DatabaseLink) -> None:
        super().__init__(database, _POLICY, _anybody, RLock())
        self.link = _NoLink(database.backend)

    def __len__(self) -> int:
        return len(self.new) + len(self.identity)

    def objects(self) -> list[EntityBase]:
        """Return all objects."""
        return list(dict.fromkeys([*self.identity, *self.new, *self.dirty, *self.deleted]))

    def place(self, obj: EntityBase) -> bool:
        """Take in *obj*, which has its row, values and one of this unit's states; tell whether its key was free."""
        mapping, state = obj._mapping_, obj._state_
        key = obj._key_
        if key is not None:
            if self.identity.find(mapping, key) is not None:
                return False
            self.identity.add(obj, key)
            if not state.is_new and mapping.is_hollow(obj._row_):
                self.identity.hollow_of(mapping)[key] = obj
        if state.is_new:
            self.new[obj] = None
        else:
            self.take_unsaved(obj)
        if state.has_changes and any(part.name in obj._changes_ for part in mapping.key):
            self.moves_keys = True
        self.has_hooks = self.has_hooks or bool(mapping.hooks)
        return True

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note nothing: there is no rollback."""

    def back_reference_changing(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Note nothing: there is no rollback."""

    # --- units that meet ------------------------------------------------------------------------

    def require_room(self, *objects: EntityBase) -> None:
        """Raise `CacheIndexError` if two of the units of *objects*, and this one, have objects for one row."""
        units = (self, *self._others(objects))
        largest = max(units, key=len)
        attaching.require_no_double(largest, [obj for unit in units if unit is not largest for obj in unit.objects()])

    def take_in(self, *objects: EntityBase) -> None:
        """Merge with the units of *objects*; it costs as much as all of them but the largest are large."""
        others = self._others(objects)
        if not others:
            return
        largest = max(others, key=len)
        if len(largest) > len(self):  # be what that one is: the objects of this unit are fewer
            mine = self.__dict__.copy()
            self.__dict__.update(largest.__dict__)
            largest.__dict__.update(mine)
            self.states.belong_to(self)
            largest.states.belong_to(largest)
        attaching.move(self, [obj for other in others for obj in other.objects()])

    def _others(self, objects: Iterable[EntityBase]) -> list[DetachedUnit]:
        units = dict.fromkeys(obj._state_.unit for obj in objects if obj._state_.unit is not self)
        return [unit for unit in units if isinstance(unit, DetachedUnit)]

    # --- what would need a connection -----------------------------------------------------------

    def _refuse(self, obj: EntityBase, doing: str, ahead: str = "") -> NoReturn:
        state = obj._state_
        what = "object is transient, in no session yet" if state.is_new else "object is in no session"
        way_in = state.way_in.replace("...", "obj")
        raise DatabaseSessionIsOver(f"Cannot {doing}: the {what}; {way_in} first{ahead}")

    def _refuse_load(self, obj: EntityBase, what: str, name: str) -> NoReturn:
        ahead = f", or load it before the object is copied, with query.prefetch({name}) for instance"
        self._refuse(obj, f"load {what}", "" if obj._state_.is_new else ahead)

    def load(self, obj: EntityBase, attribute: Attribute[Any]) -> None:
        """Refuse to load *attribute*; what the database makes for a new object is None still."""
        if not obj._state_.is_new:
            self._refuse_load(obj, f"attribute {obj!r}.{attribute.name}", repr(attribute))

    def load_back_reference(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Refuse to find who refers to *obj*."""
        self._refuse_load(obj, f"attribute {obj!r}.{attribute.name}", repr(attribute))

    def load_collection(self, collection: Collection[Any]) -> None:
        """Refuse to load the items of *collection*."""
        attribute = collection.attribute
        self._refuse_load(collection.owner, f"collection {collection.owner!r}.{attribute.name}", repr(attribute))

    def select_items(self, collection: Collection[Any]) -> Any:
        """Refuse to query *collection*."""
        self._refuse(collection.owner, f"query collection {collection.owner!r}.{collection.attribute.name}")

    def is_linked(self, collection: Collection[Any], item: EntityBase) -> bool:
        """Refuse to ask the database."""
        self.load_collection(collection)
        return False

    def flush_objects(self, objects: Iterable[EntityBase]) -> None:
        """Refuse to save *objects*."""
        for obj in objects:
            self._refuse(obj, f"flush object {obj!r}")

    def refresh_lazy(self, obj: EntityBase, attributes: Iterable[Attribute[Any]]) -> None:
        """Refuse to load *attributes* of *obj*, unless nothing is missing."""
        for attribute in attributes:
            if any(obj._row_[column.position] is NOT_LOADED for column in attribute.columns):
                self.load(obj, attribute)
