"""The session as users hold it: what ``with db_session as session:`` and ``with Session(db) as session:`` give.

A shell around a `SessionCore`, in which the work is done. One that is made by ``Session(db)`` is for
that database alone. In a `with` block it is the current scope; without one it is no scope, and lives
until `close`, or until nobody holds it any more.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager
from types import TracebackType
from typing import Any, Never, Self, SupportsIndex, TypeVar, Unpack, overload

from dbsession.errors import InvalidRequestError
from dbsession.model.elsewhere import SessionNames
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping, mapping_of
from dbsession.query.query import Query
from dbsession.query.verbs import select
from dbsession.session import attaching, merging, refreshing
from dbsession.session.arguments import instead_of, require_asked, require_database
from dbsession.session.blocks import NestedBlock
from dbsession.session.contents import IdentityMapView, among, describe, holds, session_objects
from dbsession.session.core import SessionCore
from dbsession.session.held import Held
from dbsession.session.hooks import Event, make_hook
from dbsession.session.opened import register, unregister
from dbsession.session.options import SessionOptions, make_session_options
from dbsession.session.raw_sql import RawResult, execute_raw
from dbsession.session.runner import SessionRunner
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Session"]

E = TypeVar("E")
Obj = TypeVar("Obj", bound=EntityBase)
T = TypeVar("T")


class Session(SessionNames):
    """A unit of work that one holds: it loads objects, notes their changes, and saves them with `commit`.

    ``with Session(db) as session:`` is the current scope, like `with db_session:`, for the `Database` *bind* alone: it
    commits if the block ends well, rolls back if not, and is closed behind it. Within another scope on that database
    it is an inner one, which joins the outer one's transaction.

    Without `with` it is open from its making until `close`, and is no scope: objects are built for it by
    ``session.add(User(...))``, and read by `get` and `query`. It belongs to the thread and task that made it.

    *options* are those of `db_session` but for ``retry``, which needs code to run again; and ``autoflush=False``
    (queries see what is flushed only), ``info={...}`` (the first entries of `info`).

    Raises:
        TypeError: *bind* is no `Database`; an option does not exist or does not fit.
    """

    __slots__ = ("__weakref__", "_core", "_held", "_info")

    def __init__(self, bind: DatabaseLink, **options: Unpack[SessionOptions]) -> None:
        chosen, self._info = make_session_options(options)
        require_database("Session()", bind)
        core = self._core = SessionCore(chosen, only=bind)
        self._held: Held | None = Held(bind, core)
        register(core)

    @classmethod
    def of(cls, core: SessionCore) -> Session:
        """Return a handle on *core*, which somebody else ends."""
        session = object.__new__(cls)
        session._core = core
        session._held = None
        return session

    def __repr__(self) -> str:
        return repr(self._core)

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a Session cannot be copied or pickled; hand it on with adopt(), or pass keys")

    # --- with ---------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        core, held = self._core, self._held
        if held is None or held.scope is not None:
            raise InvalidRequestError(f"{self!r} is the session of a scope that was entered already")
        core.require_open("enter a session")
        core.require_no_hook("entering the session")
        scope = held.scope = held.database.gateway.enter(core)
        unregister(core)
        self._core = scope.session
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        held = self._held
        scope = held.scope if held is not None else None
        if held is None or scope is None:
            raise InvalidRequestError(f"{self!r} was left, and had not been entered: use `with Session(db):`")
        try:
            scope.__exit__(exc_type, exc, traceback)
        finally:
            if not scope.is_entered:  # else it is another thread's: it can be tried again
                held.scope, self._core = None, held.session
                if not held.session.is_over:  # it has joined another one, and did nothing itself
                    held.session.end(None)

    def close(self) -> None:
        """End the session without saving; what was committed stays. A second call does nothing.

        Warns with `RuntimeWarning`, naming them, if there are unsaved changes: they are lost.

        Raises:
            InvalidRequestError: it is the session of a scope, which ends with its block.
        """
        core = self._core
        if core.is_over:
            return
        if core.place is not None:
            raise InvalidRequestError(
                f"{self!r} ends with the block that it is the scope of: leave close() out; rollback() undoes its work"
            )
        unsaved, is_unknown = describe(core), core.is_unknown
        core.close()
        unregister(core)
        if unsaved:
            done = "nobody knows whether these were saved" if is_unknown else "close() has rolled back unsaved changes"
            warnings.warn(f"{done}: {unsaved}", RuntimeWarning, stacklevel=2)

    def adopt(self) -> None:
        """Make this session the caller's: its thread and task may use it from now on, and no other may.

        One that is a scope becomes the current scope here, and is no longer where it was. For frameworks that move a
        request from one thread or task to another. What is entered here has to be left before it is handed on.

        Raises:
            ScopeOwnershipError: it is at work elsewhere at this very moment.
            SessionForkError: it is the parent process's.
            NestedScopeError: there is another scope here, which has to be left first.
            DatabaseSessionIsOver: it has ended.
        """
        core = self._core
        core.adopt()
        if core.place is None:
            register(core)

    # --- saving -------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send pending changes to the database without committing them.

        Raises:
            OptimisticCheckError: a row was changed or deleted by somebody else since it was read.
            TransactionIntegrityError: a constraint was violated.
            SessionDoomed: an earlier failure has lost the transaction.
        """
        self._core.flush()

    def commit(self) -> None:
        """Save everything since the last commit; on return it is committed, verifiably. Objects stay as they are.

        Raises:
            NestedScopeError: the current scope is an inner one, or a savepoint is open.
            SessionDoomed: an earlier failure has lost the transaction; nothing was committed.
            OptimisticCheckError, TransactionIntegrityError: as for `flush`; nothing was committed.
            CommitOutcomeUnknown: the connection broke while COMMIT was under way.
            PartialCommitException: of several databases, one had committed before another failed.
        """
        self._core.commit()
        self._rest()

    def rollback(self) -> None:
        """Undo everything since the last commit: changed objects show the database's values, new ones are transient.

        Raises:
            RollbackException: the database did not answer; it rolls back by itself when the connection is closed.
        """
        self._core.rollback()
        self._rest()

    def _rest(self) -> None:
        """Give the connection back until it is needed again: nobody knows when that will be."""
        if self._core.place is None:
            for unit in self._core.units:
                unit.rest()

    def begin_nested(self) -> NestedBlock:
        """Begin a part that may fail alone: ``with session.begin_nested():``.

        At its end its changes are sent, so that what the database refuses is raised there; then, and if an exception
        leaves the block, they are undone, and the rest of the session can go on.

        Raises:
            DatabaseSessionIsOver: the session has ended.
        """
        self._core.in_use = True
        return NestedBlock(self._core)

    savepoint = begin_nested

    def on_commit(self, function: Callable[[], Any]) -> None:
        """Call *function* once, without arguments, after the next commit has saved what was done; see `on_commit`.

        Raises:
            TypeError: *function* cannot be called, or is a coroutine function.
        """
        self._core.add_hook(make_hook(Event.COMMIT, function))

    def on_rollback(self, function: Callable[[], Any]) -> None:
        """Call *function* once, without arguments, after what was done has been rolled back; see `on_rollback`.

        Raises:
            TypeError: *function* cannot be called, or is a coroutine function.
        """
        self._core.add_hook(make_hook(Event.ROLLBACK, function))

    # --- objects ------------------------------------------------------------------------------

    def add(self, obj: EntityBase) -> None:
        """Let *obj* be saved with the next commit; one that is in the session already stays as it is.

        What it refers to, and the items of its collections, come with it, as far as they are in memory. A detached
        object, or a copy of one, is attached: see `attach`.

        Raises:
            TypeError: it is no entity object.
            CacheIndexError: the session has another object with its key.
            ConstraintError: it is of another live session.
            OperationWithDeletedObjectError: it was deleted in this session.
        """
        self.add_all((obj,))

    def add_all(self, objects: Iterable[EntityBase]) -> None:
        """Do as `add` for each of *objects*; if one is refused, none was added."""
        if isinstance(objects, EntityBase):
            raise TypeError(f"session.add_all() takes several objects in a list; session.add(...) takes {objects!r}")
        groups: dict[UnitOfWork, list[EntityBase]] = {}
        for obj in objects:
            groups.setdefault(self._unit(obj, "add"), []).append(obj)
        attaching.add_all(groups)

    def attach(self, obj: Obj) -> Obj:
        """Let *obj*, a copy or of a scope that has ended, be in this session, with what it reaches; return it.

        A copy is what `copy.copy` and `pickle` make. It may have been changed: the changes are saved with the next
        commit, if nobody has changed what was read, or changed, of it since its row was loaded. Nothing is sent yet.
        If it was not changed, and the session has another object for its row, that one is returned.

        Raises:
            TypeError: it is no entity object.
            CacheIndexError: it was changed, and the session has another object for its row; see `merge`.
            ConstraintError: it is of another live session.
            InvalidRequestError: it was attached with changes before, which were rolled back; attach a copy each time.
            DatabaseSessionIsOver: nothing but its key is left since its strict scope has ended.
        """
        return attaching.attach(self._unit(obj, "attach"), obj)

    @overload
    def merge(self, what: type[E], data: dict[str, Any], /) -> E: ...
    @overload
    def merge(self, what: type[E], data: Sequence[dict[str, Any]], /) -> list[E]: ...
    @overload
    def merge(self, what: Obj, /) -> Obj: ...
    @overload
    def merge(self, what: Sequence[Obj], /) -> list[Obj]: ...
    def merge(self, what: Any, data: Any = None, /) -> Any:
        """Bring *data* onto the object of this session that has its key, or a copy onto the session's own object.

        ``session.merge(User, {"id": 7, "name": "x"})`` assigns what the dict has, and makes the object if there is no
        such row; ``session.merge(copy)`` takes over what was changed of a copy. Lists give lists. All rows are loaded
        in one round trip. A `Version` in the data has to be that of the row.

        Raises:
            TypeError, ValueError: there is no such attribute, or a value does not fit.
            OptimisticCheckError: the row has another version, or what a copy has changed is another value there now.
            ObjectNotFound: the row of a copy is gone, or an item of a collection is not there.

        Nothing is assigned if anything is refused.
        """
        one = what[0] if isinstance(what, list | tuple) and what else what
        if one == []:
            return []
        unit = self._runner(self._mapping(one)).unit() if isinstance(one, type) else self._unit(one, "merge")
        return unit.run(merging.merge(unit, what, data))

    def delete(self, obj: EntityBase) -> None:
        """Delete *obj*, and what cascades from it, at the next flush.

        Raises:
            InvalidRequestError: it is not in this session.
            ConstraintError: objects refer to it by a required attribute, and ``cascade_delete=False``.
        """
        self._require_mine(obj, "delete")
        obj.delete()

    def expire(self, obj: EntityBase, *attributes: Any, discard: bool = False) -> None:
        """Forget what was loaded of *obj*, or of its *attributes*: the next access loads it again.

        What was read of it counts as not read. *discard* throws unsaved changes away.

        Raises:
            InvalidRequestError: it has unsaved changes, is not saved yet, or is not in this session.
            OperationWithDeletedObjectError: it was deleted in this session.
        """
        refreshing.expire(self._require_mine(obj, "expire"), obj, attributes, discard=discard)

    def expire_all(self) -> None:
        """Forget what was loaded of all objects but those with unsaved changes; the next access loads it again.

        It loads all objects of a kind that were forgotten, in one round trip. Collections are forgotten, too; what was
        added to them or removed, and is not saved, stays.
        """
        self._core.require_open("expire objects")
        for unit in self._core.units:
            refreshing.expire_all(unit)

    def refresh(
        self,
        obj: EntityBase,
        *attributes: Any,
        for_update: bool = False,
        nowait: bool = False,
        discard: bool = False,
    ) -> None:
        """Load *obj*, or its *attributes*, again now, in one round trip; what was read of it is forgotten.

        *for_update* locks its row until the transaction ends, with *nowait* without waiting for others. *discard*
        throws unsaved changes away.

        Raises:
            ObjectNotFound: the row is gone.
            LockNotAvailable: *nowait*, and somebody else has the lock.
            InvalidRequestError: it has unsaved changes, is not saved yet, or is not in this session.
            OperationWithDeletedObjectError: it was deleted in this session.
        """
        unit = self._require_mine(obj, "refresh")
        unit.run(refreshing.refresh(unit, obj, attributes, for_update=for_update, nowait=nowait, discard=discard))

    def get(self, entity: type[E], /, *key: Any, for_update: bool = False, **values: Any) -> E | None:
        """Return the object with the primary key *key*, or the one that fits *values*, or None.

        ``session.get(User, 7)``; several key attributes as ``session.get(Line, (7, 3))``. An object that is in the
        session already is returned without asking the database; *for_update* locks its row and takes its values.

        Raises:
            MultipleObjectsFoundError: more than one fits *values*.
            TypeError: neither, or both, are given; *key* does not fit the entity.
        """
        mapping = self._mapping(entity)
        if len(key) > 1 or bool(key) is bool(values):
            raise TypeError(
                f"session.get() takes a primary key, or attributes by name: session.get({mapping.name}, 7), "
                f'session.get({mapping.name}, name="x"); a key of several parts is a tuple'
            )
        runner = self._runner(mapping)
        found: Any
        if key:
            raw = mapping.entity._key_from_(key[0])
            if not for_update:
                found = runner.get(mapping, raw)
                entity_object: E | None = found
                return entity_object
            is_split = isinstance(key[0], tuple) and len(key[0]) == len(mapping.key)
            parts = key[0] if is_split else key
            values = {part.name: value for part, value in zip(mapping.key, parts, strict=True)}
        query: Query[E] = runner.select(mapping, (), values)
        return query.for_update().get() if for_update else query.get()

    def query(self, what: Iterable[T], /) -> Query[T]:
        """Return the query for all objects of an entity, or for what a generator expression asks for.

        ``session.query(User).filter_by(name="x").first()``, ``session.query(u.name for u in User if u.age > 18)``.
        Nothing is sent until it is read; then it runs in this session, whichever is current.

        Raises:
            TypeError, TranslationError: as for `select`.
        """
        require_asked(what)
        query = select(what)
        mapping = query.selected.mapping
        return query.through(self._runner(mapping))

    def execute(self, sql: str, params: Any = None) -> RawResult:
        """Run *sql* in the session's transaction; it counts as a write. See `Database.execute`.

        Raises:
            InvalidRequestError: the session is for several databases, and it is not clear which is meant.
            ProgrammingError: the SQL is wrong, or tries to end the transaction.
        """
        return execute_raw(self._core.unit(self._only_database()), sql, params, writes=True)

    # --- what is in it ------------------------------------------------------------------------

    @property
    def new(self) -> frozenset[EntityBase]:
        """The objects that are not in the database yet."""
        return among(self._core, lambda unit: unit.new)

    @property
    def dirty(self) -> frozenset[EntityBase]:
        """The objects with changed attributes that are not flushed yet."""
        return among(self._core, lambda unit: [obj for obj in unit.dirty if obj._changes_])

    @property
    def deleted(self) -> frozenset[EntityBase]:
        """The objects whose deletion is not flushed yet."""
        return among(self._core, lambda unit: unit.deleted)

    def __contains__(self, obj: object) -> bool:
        return isinstance(obj, EntityBase) and holds(self._core, obj)

    def __iter__(self) -> Iterator[EntityBase]:
        return iter(session_objects(self._core))

    @property
    def identity_map(self) -> IdentityMapView:
        """The objects whose keys are known, by entity and key, to look at: ``session.identity_map[User, 7]``."""
        self._core.in_use = True
        return IdentityMapView(self._core)

    @property
    def info(self) -> dict[Any, Any]:
        """A dict for notes of your own, which lives as long as this handle."""
        info: dict[Any, Any] | None = getattr(self, "_info", None)  # it costs nothing where nobody asks
        if info is None:
            info = self._info = {}
        return info

    def no_autoflush(self) -> AbstractContextManager[None]:
        """Let queries in the block see what is flushed only, instead of flushing before they are sent."""
        return self._core.no_autoflush()

    # --- which unit of work -------------------------------------------------------------------

    def _only_database(self) -> DatabaseLink:
        if self._held is not None:
            return self._held.database
        core = self._core
        units = core.units
        if len(units) != 1:
            core.require_open("run SQL")
            raise InvalidRequestError(
                f"a session of db_session is for every database, and has used {len(units) or 'none'} of them so far: "
                f"use db.execute(...), which says which one is meant"
            )
        return units[0].database

    @staticmethod
    def _mapping(entity: Any) -> Mapping:
        if not isinstance(entity, type) or not issubclass(entity, EntityBase):
            raise TypeError(f"an entity class is needed here, such as User, not {entity!r:.80}")
        return mapping_of(entity)

    def _runner(self, mapping: Mapping) -> SessionRunner:
        core = self._core
        core.in_use = True  # so that it does not join another session any more, which what is made of it would not know
        database = mapping.gateway.database
        if self._held is not None and self._held.database is not database:
            raise InvalidRequestError(
                f"{mapping.name} is of {database}, and this Session is for {self._held.database} alone; use one of "
                f"{database}"
            )
        return SessionRunner(core, database, self._held)

    def _unit(self, obj: Any, verb: str) -> UnitOfWork:
        """Return the unit of work that *obj* is, or would be, in."""
        if not isinstance(obj, EntityBase):
            raise TypeError(f"session.{verb}() takes an object of an entity, not {obj!r:.80}{instead_of(obj, verb)}")
        return self._runner(self._mapping(type(obj))).unit()

    def _require_mine(self, obj: Any, verb: str) -> UnitOfWork:
        """Return the unit of work of *obj*, which has to be in this session."""
        unit = self._unit(obj, verb)
        theirs: object = obj._state_.unit
        if theirs is not unit:
            why = obj._state_.why_stranger(f"session.get({type(obj).__name__}, key)")
            raise InvalidRequestError(f"{self!r} cannot {verb} {obj!r}, which is not in it{why}")
        return unit
