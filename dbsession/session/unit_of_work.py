"""The unit of work: what one scope has loaded and changed in one database.

It is the `Unit` that entities know. It keeps the lists of new, changed and deleted objects, the
identity map, the journal and the transaction; what is done with them stands beside it: `flush`
saves, `loading` reads, `deleting` cascades, `journal` undoes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from threading import RLock
from typing import Any, Protocol, TypeVar
from weakref import ref

from dbsession.backends.base import Backend, Dialect
from dbsession.backends.flow import Flow, run
from dbsession.errors import InvalidRequestError, NotLoadedError, ScopeOwnershipError
from dbsession.model.attributes import Attribute, PendingExpression
from dbsession.model.collections import Collection, CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import LinkTable, Mapping, Selector
from dbsession.model.references import ReferenceAttribute
from dbsession.model.state import States, Status, set_changes, set_state
from dbsession.session import attaching, deleting, loading, relations
from dbsession.session.autoflush import flush_ahead_of
from dbsession.session.changes import Places, checked_places
from dbsession.session.flush import flush
from dbsession.session.identity_map import IdentityMap, ObjectSet
from dbsession.session.journal import Journal, empty
from dbsession.session.key_places import take_place
from dbsession.session.link import Link
from dbsession.session.links import Links, change_link, pending_link, take_links
from dbsession.session.ordering import Pending, frees_values
from dbsession.session.origins import Origin, origin
from dbsession.session.savepoint import Savepoint
from dbsession.session.strict import empty_objects
from dbsession.session.transaction import Phase, Transaction, TransactionPolicy

__all__ = ["DatabaseLink", "UnitOfWork"]

T = TypeVar("T")


class DatabaseLink(Protocol):
    """The database as a unit of work sees it."""

    gateway: Any

    @property
    def backend(self) -> Backend:
        """Where connections come from.

        Raises:
            BindingError: the database is bound to nothing yet.
        """
        ...


class UnitOfWork:
    """Everything that one scope knows of one database."""

    is_detached = False  # but see `detached`

    def __init__(
        self,
        database: DatabaseLink,
        policy: TransactionPolicy,
        check_owner: Callable[[], None],
        busy: RLock,
        *,
        optimistic: bool = True,
    ) -> None:
        self.database = database
        backend = database.backend
        self.dialect: Dialect = backend.dialect
        self.link = Link(backend)
        self.transaction = Transaction(self.dialect, policy)
        self.check_owner = check_owner
        self._busy = busy
        self._check_optimistically(policy, optimistic=optimistic)
        self.states = States(self)
        self.identity = IdentityMap()
        self.journal = Journal()
        self.new: dict[EntityBase, Origin | None] = {}  # and where they were made
        self.dirty: dict[EntityBase, None] = {}
        self.deleted: dict[EntityBase, None] = {}
        self.gone: list[ref[EntityBase]] = []  # deleted, and in the identity map no more
        self.links: Links = {}
        self.known_links: set[tuple[LinkTable, tuple[Any, Any]]] = set()  # those of links that surely change something
        self.exempt: set[EntityBase] = set()  # locked, or made, in the open transaction: nobody else can change them
        self.held: dict[EntityBase, Places] = {}  # updated in the open transaction: the columns that it set or compared
        self.collections_read: dict[Any, int] = {}  # by the attribute on the other side; of links, if any has changed
        self.referring: dict[ReferenceAttribute, dict[Any, EntityBase]] = {}  # who refers to a key, by the rows
        self.seen_for: dict[Any, int] = {}  # by attribute: how many objects there were when it was loaded for all
        self.has_hooks = self.is_flushing = False
        self.rests_on_old = False  # a check has found that somebody else has changed what was read
        self.is_alone = True  # no other database is in the session: COMMIT need not wait for its flush
        self.autoflush = True
        self.forgets_reads = False  # this session's own SQL may have changed anything
        self.fresh: ObjectSet | None = None  # objects loaded since the last commit or rollback; None: all
        self.ends = 0  # commits and rollbacks so far
        self.moves_keys = False  # an unsaved change concerns a key
        self.savepoint: Savepoint | None = None  # of the innermost inner scope
        self.runner: Selector | None = None  # of a session that need not be that of the current scope

    def _check_optimistically(self, policy: TransactionPolicy, *, optimistic: bool) -> None:
        # A serializable transaction needs no checks; but what was read in it is checked in the ones after it.
        self.optimistic = optimistic and policy.mode.isolation != "serializable"
        self._optimistic_later = optimistic

    def take_policy(self, policy: TransactionPolicy, *, optimistic: bool) -> None:
        """Want *policy* of the transaction, which has not begun."""
        self.transaction.policy = policy
        self._check_optimistically(policy, optimistic=optimistic)

    def run(self, flow: Flow[T]) -> T:
        """Drive *flow* on this unit's connection.

        Raises:
            ScopeOwnershipError: the session was handed on while its former owner was still at work.
        """
        if not self._busy.acquire(blocking=False):
            flow.close()
            raise ScopeOwnershipError("this session is at work in another thread: two users of it at the same time")
        was_flushing = self.is_flushing
        try:
            return run(flow, self.link)
        except BaseException as error:
            if not isinstance(error, Exception):
                self.is_flushing = was_flushing
                self._interrupted(error)
            raise
        finally:
            self._busy.release()

    def _interrupted(self, error: BaseException) -> None:
        """Trust the connection no more: *error*, Ctrl-C for instance, may have struck between any two lines."""
        transaction = self.transaction
        if transaction.phase is Phase.OPEN or transaction.is_committing:
            transaction.interrupted(error)
        self.link.distrust(at_once=transaction.phase is Phase.IDLE)

    # --- what entities ask (the `Unit` of the model) ------------------------------------------

    def add_new(self, obj: EntityBase) -> None:
        """Take in an object that the program has constructed."""
        if self.savepoint is not None:
            self.savepoint.made(obj)
        mapping = obj._mapping_
        if mapping.auto_column is None or mapping.key[0].name in obj.__dict__:
            self.key_changed(obj)
        self.new[obj] = origin()
        if mapping.hooks:
            self.has_hooks = True

    def withdraw(self, obj: EntityBase) -> None:
        """Let *obj*, which was just taken in as new, go: its construction has failed in the end."""
        deleting.withdraw(self, obj)

    def require_room(self, *objects: EntityBase) -> None:
        """Raise unless the transient *objects* can be taken in together, with all that they reach in memory."""
        attaching.require_room(self, objects)

    def take_in(self, *objects: EntityBase) -> None:
        """Add the transient *objects*, and all that they reach in memory; all of them, or, on an error, none."""
        attaching.add(self, objects)

    def mark_dirty(self, obj: EntityBase) -> dict[str, Any]:
        """Note that *obj* has its first unsaved change, and return the dict of its changes."""
        if self.savepoint is not None:
            self.savepoint.keep(obj)
        return self.still_dirty(obj)

    def still_dirty(self, obj: EntityBase) -> dict[str, Any]:
        """Do as `mark_dirty` for what a flush has saved in part: the change is that of the scope which it saves."""
        changes: dict[str, Any] = {}
        set_changes(obj, changes)
        set_state(obj, self.states.dirty)
        self.dirty[obj] = None
        if obj._mapping_.hooks:
            self.has_hooks = True
        return changes

    def key_changing(self, obj: EntityBase) -> None:
        """Take a new object from its old place in the identity map; a saved one moves when it is flushed."""
        if self.savepoint is not None:
            self.savepoint.keep(obj)
        if obj._state_.is_new and obj in self.new:
            self.free_key(obj)

    def free_key(self, obj: EntityBase) -> None:
        """Take the new *obj* from the identity map; a saved object whose key it had taken over is there again."""
        key = obj._key_
        if key is None:
            return
        self.identity.remove(obj, key)
        for other in (*self.deleted, *self.dirty) if self.moves_keys else self.deleted:
            if other._mapping_.root is obj._mapping_.root and other._key_ == key:
                self.identity.add(other, key)

    def key_changed(self, obj: EntityBase) -> None:
        """Put a new object in its place, or refuse a key that another object has."""
        take_place(self, obj)

    def delete(self, *objects: EntityBase) -> None:
        """Delete *objects*, and what cascades from them, at the next flush; all of them, or, on an error, none."""
        deleting.delete(self, objects)

    def reference(self, mapping: Mapping, key: Any) -> EntityBase:
        """Return the object with *key*, known or not yet loaded; sends nothing."""
        found = self.identity.find(mapping, key)
        return found if found is not None else loading.make_hollow(self, mapping, key)

    def find(self, mapping: Mapping, key: Any) -> EntityBase | None:
        """Return the object with *key* if the identity map has it; sends nothing."""
        return self.identity.find(mapping, key)

    def find_referring(self, attribute: ReferenceAttribute, target: EntityBase) -> EntityBase | None:
        """Return an object in memory that refers to *target* by *attribute*; sends nothing."""
        return relations.find_referring(self, attribute, target)

    def back_reference_changing(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Note what the one-to-one *attribute* of *obj*, which has no column, has before it changes."""
        self.journal.back_reference_changing(obj, attribute.name)

    def load(self, obj: EntityBase, attribute: Attribute[Any]) -> None:
        """Load what the row of *obj* lacks of *attribute*."""
        if obj._state_.is_new:
            return  # not saved yet: the database has not made the value
        if obj._state_.status is Status.DELETED:
            raise NotLoadedError(
                f"Cannot load attribute {obj!r}.{attribute.name}: the object was deleted in this session"
            )
        if obj._state_.status is Status.DIRTY and isinstance(obj._changes_.get(attribute.name), PendingExpression):
            self.flush_objects((obj,))
            return
        self.run(loading.load_attribute(self, obj, attribute))

    def load_back_reference(self, obj: EntityBase, attribute: ReferenceAttribute) -> None:
        """Load the object whose column refers to *obj*."""
        self.run(relations.load_back_reference(self, obj, attribute))

    def load_collection(self, collection: Collection[Any]) -> None:
        """Load the items of *collection*; from the second of its kind on, for all objects at once."""
        self.run(relations.load_collection(self, collection))

    def collection_changing(self, collection: Collection[Any], item: EntityBase) -> None:
        """Note a collection before *item* comes or goes."""
        self.journal.collection_changing(collection, item)

    def link_changed(
        self, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase, *, add: bool, known: bool
    ) -> None:
        """Note a link to be made or removed; of several changes to one link the last counts.

        *known*: what the database has is certain, so that taking the change back leaves nothing to send.
        """
        change_link(self, attribute, owner, item, add=add, known=known)

    def pending_link(self, attribute: CollectionAttribute, owner: EntityBase, item: EntityBase) -> bool | None:
        """Tell whether a link is to be made (True) or removed (False) by the next flush; None: neither."""
        return pending_link(self, attribute, owner, item)

    def select_items(self, collection: Collection[Any]) -> Any:
        """Return the query for the items of *collection*."""
        attribute, owner = collection.attribute, collection.owner
        target = attribute.target
        door = self.runner or target.gateway
        if attribute.link is None:
            return door.select(target, (attribute.reverse == owner,), {})
        return door.select_linked(attribute, owner)

    def is_linked(self, collection: Collection[Any], item: EntityBase) -> bool:
        """Ask the database whether *item* is in *collection*."""
        return self.run(relations.is_linked(self, collection, item))

    def flush_objects(self, objects: Iterable[EntityBase]) -> None:
        """Save *objects* and what they need to exist; everything, if a unique value is given up that they may want."""
        everything = frees_values(self.pending())
        self.run(flush(self, only=None if everything else deleting.with_parents(self, objects)))

    def refresh_lazy(self, obj: EntityBase, attributes: Iterable[Attribute[Any]]) -> None:
        """Load *attributes* of *obj* where they are missing."""
        self.run(loading.load_missing(self, obj, list(attributes)))

    # --- what the flush asks ------------------------------------------------------------------

    def begin_flush(self) -> None:
        """Mark the flush as running.

        Raises:
            InvalidRequestError: it runs already: a hook has called it.
        """
        if self.is_flushing:
            raise InvalidRequestError(
                "flush() was called from a hook of a flush; what a hook changes is saved without it"
            )
        self.is_flushing = True

    def end_flush(self) -> None:
        """Mark the flush as ended, however it ended."""
        self.is_flushing = False
        self.moves_keys = self.moves_keys and self.has_pending()

    def has_pending(self) -> bool:
        """Whether anything is unsaved."""
        return bool(self.new or self.dirty or self.deleted or self.links)

    def pending(self, only: set[EntityBase] | None = None) -> Pending:
        """Return the unsaved objects (of *only*)."""
        if only is None:
            return Pending(list(self.new), list(self.dirty), list(self.deleted))
        lists = (self.new, self.dirty, self.deleted)
        return Pending(*[[obj for obj in objects if obj in only] for objects in lists])

    def take_links(self, only: set[EntityBase] | None = None) -> Links:
        """Take over the links to be made and removed, those of deleted objects left out."""
        if not self.links or only is not None:
            return {}
        return take_links(self)

    def give_links_back(self, links: Links) -> None:
        """Take back the *links* of `take_links`, which were not sent."""
        self.links = links

    def sweep_deleted(self) -> None:
        """Bring objects in memory that refer to deleted ones into agreement with what the database will do."""
        if self.deleted:
            deleting.sweep(self)

    def checks(self, obj: EntityBase) -> bool:
        """Whether a write of *obj* has to compare what was read."""
        return (self.optimistic or self._is_older(obj)) and obj not in self.exempt

    def _is_older(self, obj: EntityBase) -> bool:
        """Whether *obj* was attached: its row was read before the transaction, whose isolation says nothing of that."""
        return self._optimistic_later and self.fresh is not None and obj not in self.fresh

    def checks_names(self, obj: EntityBase) -> tuple[str, ...]:
        """Return the attributes that were read of *obj*."""
        changes = obj._changes_ if obj._state_.status is not Status.CLEAN else {}
        columns = obj._mapping_.columns
        places = checked_places(obj, obj._mapping_, changes, self.held.get(obj, ()))
        return tuple(dict.fromkeys(columns[place].attribute.name for place in places))

    def hold(self, objects: Iterable[EntityBase], places: Places) -> None:
        """Note that the rows of *objects* have been locked with what is in memory in the columns *places*."""
        held = self.held
        for obj in objects:
            before = held.get(obj)
            held[obj] = places if before is None else (*before, *[place for place in places if place not in before])

    def forget_changes(self, obj: EntityBase) -> None:
        """Make *obj* clean."""
        self.dirty.pop(obj, None)
        if obj._state_.status is Status.DIRTY:
            set_state(obj, self.states.clean)

    def deleted_now(self, obj: EntityBase) -> None:
        """Note that the row of *obj* is gone."""
        self.deleted.pop(obj, None)
        self.gone.append(ref(obj))
        self.identity.remove(obj, obj._key_)
        set_state(obj, self.states.deleted)

    def remember(self, objects: Iterable[EntityBase]) -> None:
        """Note *objects* as they are, before something else than a flush changes them."""
        self.journal.remember(objects)
        if self.savepoint is not None:
            self.savepoint.keep_all(objects)

    def forget_row(self, obj: EntityBase) -> None:
        """Let *obj* be loaded again when it is needed."""
        empty(obj, self.identity)

    # --- inner scopes ---------------------------------------------------------------------------

    def enter_savepoint(self, *, read_only: bool) -> None:
        """Begin to keep what an inner scope needs to be undone; nothing is sent."""
        self._stand_in(Savepoint(self, self.savepoint, self.transaction.enter(read_only=read_only)))

    def release_savepoint(self) -> None:
        """Leave what the innermost scope has done to the one around it."""
        savepoint = self.savepoint
        assert savepoint is not None
        self.transaction.release(savepoint.mark)
        savepoint.merge()
        self._stand_in(savepoint.parent)

    def rollback_savepoint(self) -> None:
        """Undo what the innermost scope has done; in the database with the next statement."""
        savepoint = self.savepoint
        assert savepoint is not None
        self.transaction.rollback_to(savepoint.mark)
        self._stand_in(savepoint.parent)
        savepoint.restore()
        # Locks that it took are gone, and what was found may have been its own.
        self.exempt.clear()
        self.held.clear()
        self.referring.clear()
        self.seen_for.clear()

    def _stand_in(self, savepoint: Savepoint | None) -> None:
        self.savepoint = self.journal.savepoint = savepoint

    def forget_unsaved(self, obj: EntityBase) -> None:
        """Take *obj* from what a flush would send."""
        self.new.pop(obj, None)
        self.dirty.pop(obj, None)
        self.deleted.pop(obj, None)

    def take_unsaved(self, obj: EntityBase) -> None:
        """Let the next flush save *obj*, if its state says that it has something to save."""
        status = obj._state_.status
        if status is Status.NEW:
            self.new[obj] = None
        elif status is Status.DIRTY:
            self.dirty[obj] = None
        elif status is Status.MARKED_FOR_DELETION:
            self.deleted[obj] = None

    # --- the ends of a transaction --------------------------------------------------------------

    def committed(self) -> None:
        """Note that the transaction is committed: there is nothing to go back to any more."""
        self.journal.settle()
        self._transaction_ended()

    def commit(self) -> Flow[None]:
        """Save everything and commit; nothing is sent if there is nothing to do."""
        if self.has_pending():
            yield from flush(self, commit=True)
        else:
            yield from self.transaction.commit()
            self.committed()

    def rollback(self) -> Flow[None]:
        """Undo everything since the last commit, in the database and in memory."""
        self.restore()
        yield from self.transaction.rollback()

    def restore(self) -> None:
        """Put every object back as it was at the last commit."""
        unsaved = [*self.new, *self.dirty, *self.deleted]
        self._forget_unsaved()
        self.journal.restore(unsaved, self.identity, self.states)
        self._transaction_ended()

    def _forget_unsaved(self) -> None:
        """Forget what a flush would send, and what was found for it."""
        self.new.clear()
        self.dirty.clear()
        self.deleted.clear()
        self.links.clear()
        self.known_links.clear()
        self.referring.clear()
        self.seen_for.clear()

    def _transaction_ended(self) -> None:
        """Forget what held within the transaction only."""
        self.exempt.clear()
        self.held.clear()
        self.forgets_reads = self.rests_on_old = self.transaction.is_committing = False
        self.fresh = ObjectSet()
        self.ends += 1
        self.optimistic = self._optimistic_later

    def flush(self) -> Flow[None]:
        """Save what is unsaved."""
        self.transaction.require_usable()
        if self.has_pending():
            yield from flush(self)

    def autoflush_for(self, *tables: Mapping | None, comparing: Iterable[Any] = ()) -> Flow[None]:
        """Save what is unsaved if it concerns one of *tables* (None: any), or is among the objects *comparing*."""
        if not self.autoflush or self.is_flushing or not self.has_pending():
            return
        is_concerned = any(table is None or loading.concerns(self, table) for table in tables)
        if is_concerned or (self.new and any(obj in self.new for obj in comparing)):
            yield from flush_ahead_of(self, tables[0])

    def rest(self) -> None:
        """Give back the connection, if nothing is under way on it."""
        if self.transaction.phase is Phase.IDLE and not self.transaction.open_cursors:
            self.link.release()

    def close(self, reason: str, *, strict: bool = False, is_unknown: bool = False) -> None:
        """Detach every object and forget them; the connection goes back. *strict*: nothing but keys is left of them."""
        if strict:
            gone = [obj for reference in self.gone if (obj := reference()) is not None]
            empty_objects([*self.identity, *self.dirty, *self.deleted, *gone], reason)
        self.states.end(reason, is_unknown=is_unknown)
        self.identity.end()
        self._forget_unsaved()
        self.exempt.clear()
        self.held.clear()
        self.link.close()
