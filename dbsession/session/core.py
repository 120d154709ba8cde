"""What a session does, whoever holds it: one unit of work for each database, made at first touch.

It runs the flows of its units and decides in which order several databases are saved. Scopes hold it
by their frames, users by a `Session`.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from functools import partial
from threading import RLock
from typing import Never, Protocol, SupportsIndex

from dbsession.errors import (
    DatabaseSessionIsOver,
    InvalidRequestError,
    NestedScopeError,
    PartialCommitException,
    ScopeOwnershipError,
)
from dbsession.session.hooks import Event, Hook, run_hooks
from dbsession.session.inner import Inner, UndoneError, upgraded
from dbsession.session.lock_waits import require_free
from dbsession.session.options import Nesting, Options
from dbsession.session.outcome import give_up
from dbsession.session.ownership import Owner
from dbsession.session.refreshing import expire_all
from dbsession.session.runner import SessionRunner
from dbsession.session.several import commit_units, flush_all
from dbsession.session.sql_log import SqlLog, make_sql_log
from dbsession.session.transaction import Phase
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Place", "SessionCore"]

_OVER = "the database session is over"

_ENDED: dict[DatabaseLink, UnitOfWork] = {}  # stands for the units of a session that has ended


class Place(Protocol):
    """Where a scope stands among the scopes of a context."""

    def make_current(self) -> None:
        """Let the scope be the current one of this context.

        Raises:
            NestedScopeError: there is another one here.
        """
        ...


class SessionCore:
    """The work of one scope: what it has loaded and changed, in each database that it has touched."""

    __slots__ = (
        "__weakref__",
        "_autoflush",
        "_busy",
        "_hooks",
        "_inner",
        "_options",
        "_outer",
        "_owner",
        "_units",
        "has_committed",
        "in_use",
        "only",
        "place",
        "ready_hooks",
    )

    def __init__(
        self,
        options: Options,
        outer: SessionCore | None = None,
        only: DatabaseLink | None = None,
    ) -> None:
        self._options = options
        self._outer = outer
        self.only = only  # the one database that it is for, if it is not for every one
        self._owner = Owner()
        self._busy: RLock | None = None  # one user at a time, also where the session is handed on
        self._units: dict[DatabaseLink, UnitOfWork] = {}
        self._inner: tuple[Inner, ...] = ()  # the scopes that have joined, and not ended
        self._hooks: tuple[Hook, ...] = ()
        self.ready_hooks: tuple[Hook, ...] = ()  # what they wait for has happened
        self._autoflush = True
        self.has_committed = False  # something was saved before the end: running the work again would save it twice
        self.in_use = False  # something was asked of it, or it was handed on: who may end it matters
        self.place: Place | None = None  # where the scope stands among the scopes of its context

    def __reduce_ex__(self, protocol: SupportsIndex) -> Never:
        raise TypeError("a session cannot be copied or pickled; hand it on with adopt(), or pass keys")

    def __repr__(self) -> str:
        on = f" on {self.only}" if self.only is not None else ""
        return f"<Session {id(self):#x}{on} of {self._owner}{', which is over' if self._units is _ENDED else ''}>"

    @property
    def outer(self) -> SessionCore | None:
        """The session that waits for what is done in this one, which is independent of it."""
        if self.only is not None and self.place is None and not self.is_over:  # held, and no scope itself
            around: SessionCore | None = self.only.gateway.session_here()
            return around
        return self._outer

    @outer.setter
    def outer(self, session: SessionCore | None) -> None:
        self._outer = session

    @property
    def options(self) -> Options:
        """What was asked of it."""
        return self._options

    @property
    def is_over(self) -> bool:
        """Whether it has ended."""
        return self._units is _ENDED

    @property
    def innermost(self) -> Inner | None:
        """The scope or savepoint in it that was begun last, and is open."""
        return self._inner[-1] if self._inner else None

    def has_inner(self, inner: Inner) -> bool:
        """Tell whether *inner* is open still."""
        return inner in self._inner

    @property
    def units(self) -> list[UnitOfWork]:
        """Those of the databases that were touched."""
        return list(self._units.values())

    def is_of_this_process(self) -> bool:
        """Tell whether it was made in this process, and not in the one that has forked it."""
        return self._owner.is_of_this_process()

    def check_owner(self) -> None:
        """Raise `ScopeOwnershipError` if the caller is not the thread and task that opened the scope."""
        self._owner.check()

    def require_here(self) -> None:
        """Raise unless the session may be ended from here.

        Raises:
            ScopeOwnershipError: it belongs to another thread or task, or was handed on to one.
            DatabaseSessionIsOver: it was ended elsewhere.
        """
        self.require_open("leave a scope")

    def is_here(self) -> bool:
        """Tell whether the caller is the thread and task that opened the scope, and the scope has not ended."""
        return self._units is not _ENDED and self._owner.is_here()

    def move_here(self) -> None:
        """Let the caller be the owner, without making this the current session."""
        if not self._owner.is_here():
            self._owner.move_here()

    def has_unsaved(self) -> bool:
        """Tell whether a rollback would undo something."""
        return any(unit.has_pending() or unit.transaction.wrote for unit in self._units.values())

    def unit(self, database: DatabaseLink) -> UnitOfWork:
        """Return the unit of work for *database*, making it at first touch."""
        unit = self._units.get(database)
        if unit is None:
            self.require_open("use the database")
            options = self._options
            busy = self._busy = self._busy or RLock()
            unit = UnitOfWork(database, options.policy, self._owner.check, busy, optimistic=options.optimistic)
            unit.autoflush = self._flushes_ahead()
            if self.only is not None:
                unit.runner = SessionRunner(self, database)
            if unit.dialect.one_writer:
                unit.transaction.require_free = partial(require_free, self, database)
                unit.transaction.reads_wait = database.backend.readers_wait
            for inner in self._inner:
                unit.enter_savepoint(read_only=inner.options.read_only)
            if self._inner or options.sql_debug is not None or options.show_values is not None:
                unit.link.log = self._sql_log()
            self._units[database] = unit
            self.in_use = True
            if len(self._units) > 1:
                for each in self._units.values():
                    each.is_alone = False
        return unit

    def _sql_log(self) -> SqlLog:
        """Return the log that the innermost scope wants which says anything about it."""
        asked = [self._options, *[inner.options for inner in self._inner]]
        debug = [options.sql_debug for options in asked if options.sql_debug is not None]
        shows_values = [options.show_values for options in asked if options.show_values is not None]
        return make_sql_log(debug[-1] if debug else None, shows_values[-1] if shows_values else None)

    def _switch(self, options: Options) -> None:
        """Log and flush as wanted from here on, if *options* say anything about it."""
        for unit in self._units.values():
            if options.sql_debug is not None or options.show_values is not None:
                unit.link.log = self._sql_log()
            if not options.autoflush:
                unit.autoflush = self._flushes_ahead()

    def _set_autoflush(self, wanted: bool) -> None:
        self._autoflush = wanted
        for unit in self._units.values():
            unit.autoflush = self._flushes_ahead()

    def _flushes_ahead(self) -> bool:
        """Tell whether queries are to see what is unsaved."""
        wanted = self._autoflush and self._options.autoflush
        return wanted and not (self._inner and any(not inner.options.autoflush for inner in self._inner))

    def unit_if_any(self, database: DatabaseLink) -> UnitOfWork | None:
        """Return the unit of work for *database*, if there is one already."""
        return self._units.get(database)

    # --- verbs --------------------------------------------------------------------------------

    def flush(self) -> None:
        """Send pending changes to the database; see `Session.flush`."""
        self.require_open("flush")
        self.require_no_hook("flush()")
        for unit in list(self._units.values()):
            unit.run(unit.flush())

    def commit(self) -> None:
        """Save everything since the last commit; see `Session.commit`."""
        self.require_open("commit")
        self._require_outermost("commit")
        self.require_no_hook("commit()")
        self._commit(goes_on=True)
        self.run_hooks()

    def _commit(self, *, goes_on: bool) -> None:
        saves = self.has_unsaved()
        try:
            if saves or any(unit.transaction.phase is not Phase.IDLE for unit in self._units.values()):
                commit_units(self._units)
            elif goes_on:
                for unit in self._units.values():
                    unit.committed()
        except BaseException as error:
            if isinstance(error, PartialCommitException) or self.is_unknown:
                self.has_committed = True  # a part of it, or all of it as far as anybody knows
                self._hooks = ()  # neither event has happened, as far as anybody knows, to all of the work
            raise
        self.has_committed = self.has_committed or saves
        self._happened(Event.COMMIT)

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows if the last commit was done."""
        return any(unit.transaction.is_unknown for unit in self._units.values())

    def require_no_hook(self, verb: str) -> None:
        """Refuse to cut into a flush that is under way."""
        for unit in self._units.values():
            if unit.is_flushing:
                raise InvalidRequestError(
                    f"{verb} was called from a hook of a flush, which is not done yet; what a hook changes is saved "
                    f"without it"
                )

    def require_open(self, doing: str) -> None:
        """Refuse what would be done in vain, or in a session that nobody ends."""
        self.check_owner()
        if self._units is _ENDED:
            way_out = "do it within the scope, or open another one with `with db_session:`"
            if self.only is not None:
                way_out = "do it before its end, or in another session: Session(db)"
            raise DatabaseSessionIsOver(f"Cannot {doing}: {_OVER}; {way_out}")

    def _require_outermost(self, verb: str) -> None:
        """Leave the end of the transaction to the outermost scope."""
        if not self._inner:
            return
        if self._inner[-1].is_block:
            raise NestedScopeError(
                f"{verb}() within begin_nested() would end the transaction around it; end that part first: leave its "
                f"`with` block, or call the commit() or rollback() of what begin_nested() has returned"
            )
        instead = "flush() sends changes now" if verb == "commit" else "an exception out of the inner one undoes it"
        raise NestedScopeError(
            f"{verb}() in an inner db_session would end the transaction of the outer one; only the outermost scope "
            f"does that: leave it to it; {instead}"
        )

    def rollback(self) -> None:
        """Undo everything since the last commit; see `Session.rollback`."""
        self.require_open("roll back")
        self.require_no_hook("rollback()")
        if all(inner.is_block for inner in self._inner):
            self._undo_blocks()
        self._require_outermost("rollback")
        failure: BaseException | None = None
        for unit in self._units.values():
            try:
                is_old = unit.rests_on_old or unit.transaction.is_unknown
                if unit.transaction.is_unknown:
                    give_up(unit)
                unit.run(unit.rollback())
                if is_old:
                    expire_all(unit)
            except BaseException as error:  # the others are rolled back, too, whatever it is
                unit.link.release(discard=True)
                failure = failure or error
            else:
                if unit.link.is_broken:  # or the session could not go on
                    unit.link.release(discard=True)
        self._happened(Event.ROLLBACK)
        try:
            if failure is not None:
                raise failure
        finally:
            self.run_hooks()

    def adopt(self) -> None:
        """Make this session that of the caller, and the current one if it is a scope; see `Session.adopt`."""
        if self._units is _ENDED or (self.place is None and self.only is None):
            raise DatabaseSessionIsOver(f"Cannot adopt a session: {_OVER}; open a scope here with `with db_session:`")
        self._owner.check_process()
        busy = self._busy = self._busy or RLock()
        if not busy.acquire(blocking=False):
            raise ScopeOwnershipError(
                f"{self!r} cannot be adopted while it is at work there: two users of one session at the same time"
            )
        try:
            if self.place is not None:
                self.place.make_current()
            self._owner.move_here()
            self.in_use = True
        finally:
            busy.release()

    @contextmanager
    def no_autoflush(self) -> Generator[None]:
        """Let queries in the block see what is flushed only, instead of flushing before they are sent."""
        self.require_open("suspend the autoflush")
        before = self._autoflush
        self._set_autoflush(False)
        try:
            yield
        finally:
            self._set_autoflush(before)

    # --- for the scope ------------------------------------------------------------------------

    def enter_inner(self, options: Options, *, is_block: bool = False) -> Inner:
        """Let an inner scope join, which can be undone without this session; nothing is sent for it yet.

        Raises:
            NestedScopeError: it asks for what this session cannot give any more.
        """
        if options.is_demanding:
            self._options = upgraded(self._options, options, self.units)
        inner = Inner(options, is_block=is_block)
        self._inner = (*self._inner, inner)
        self._switch(options)
        for unit in self._units.values():
            unit.enter_savepoint(read_only=options.read_only)
        return inner

    def leave_inner(self, inner: Inner, error: BaseException | None) -> None:
        """End *inner*, and what was left open in it: undo its work because of *error*, or leave it to what is around.

        Raises:
            SessionDoomed: the scope has swallowed an error that has lost its work.
            OptimisticCheckError, TransactionIntegrityError: of a scope with a savepoint of its own; it is undone.
        """
        failure: BaseException | None = None
        while inner in self._inner:
            try:
                self._leave_last(failure or error)
            except BaseException as second:  # what is around it is left, too
                failure = failure or second
        if failure is not None:
            raise failure

    def _leave_last(self, error: BaseException | None) -> None:
        inner = self._inner[-1]
        undoes = error is not None and not inner.options.is_allowed(error)
        try:
            if not undoes:
                self._finish_inner(inner)
        except BaseException:
            undoes = True
            raise
        finally:
            self._inner = self._inner[:-1]
            self._switch(inner.options)
            for unit in self._units.values():
                if undoes:
                    unit.rollback_savepoint()
                else:
                    unit.release_savepoint()
            if undoes:
                self.ready_hooks = (*self.ready_hooks, *[hook for hook in inner.hooks if hook.event is Event.ROLLBACK])
            else:
                self._register(inner.hooks)

    def _finish_inner(self, inner: Inner) -> None:
        for unit in self._units.values():
            unit.transaction.require_usable()
        if inner.options.nested is Nesting.SAVEPOINT:
            flush_all(self._units)

    def _register(self, hooks: list[Hook]) -> None:
        """Let *hooks* be the innermost scope's."""
        if self._inner:
            self._inner[-1].hooks.extend(hooks)
        else:
            self._hooks = (*self._hooks, *hooks)

    def add_hook(self, hook: Hook) -> None:
        """Call *hook* when the innermost scope's work is committed, or rolled back."""
        self.require_open(f"wait for its {hook.event.value}")
        self._register([hook])

    def _happened(self, event: Event) -> None:
        if self._hooks:
            self.ready_hooks = (*self.ready_hooks, *[hook for hook in self._hooks if hook.event is event])
            self._hooks = ()

    def run_hooks(self) -> None:
        """Call what has waited for a commit or rollback that has happened."""
        while self.ready_hooks:
            ready, self.ready_hooks = self.ready_hooks, ()
            run_hooks(ready)

    def end(self, error: BaseException | None) -> None:
        """End the session: commit without an *error* (or with an allowed one), else roll back; detach everything."""
        is_success = error is None or self._options.is_allowed(error)
        if not self._units:
            self._units = _ENDED
            self._happened(Event.COMMIT if is_success else Event.ROLLBACK)
            return
        if is_success:
            try:
                self._commit(goes_on=False)
            except BaseException as failure:
                self._abandon(failure)
                raise
            self._close(_OVER)
        elif error is not None:
            self._abandon(error)

    def _abandon(self, error: BaseException) -> None:
        """Roll back without hiding *error*, and close."""
        is_unknown = self.is_unknown
        why = "its commit ended in" if is_unknown else "it was rolled back because of"
        try:
            for unit in self._units.values():
                try:
                    # What may have been committed is not put back: nobody could say that it is in no database.
                    unit.run(unit.transaction.rollback() if unit.transaction.is_unknown else unit.rollback())
                except Exception as second:  # the first error is the one that counts
                    error.add_note(f"and the rollback failed: {second}")
                    unit.link.release(discard=True)
        finally:  # even if it is interrupted, the connections go back
            self._close(f"{_OVER}: {why} {type(error).__name__}", is_unknown=is_unknown)
        self._happened(Event.ROLLBACK)

    def close(self) -> None:
        """End the session without saving; what was committed stays."""
        self.require_open("close the session")
        self.require_no_hook("close()")
        self._undo_blocks()
        for unit in self._units.values():
            if unit.transaction.is_unknown and unit.transaction.first_error is not None:
                self._abandon(unit.transaction.first_error)
                return
        try:
            self.rollback()
        finally:
            self._close(_OVER)

    def _undo_blocks(self) -> None:
        """Undo the parts that `begin_nested` has begun, and nobody has ended."""
        if self._inner:
            self.leave_inner(self._inner[0], UndoneError())

    def abandon(self) -> None:
        """Give up the connections of the session, which nobody can end any more; the garbage collector may call it."""
        for unit in self._units.values():
            unit.link.abandon()
            unit.states.end("its session was never closed, and is gone")
        self._units = _ENDED

    def _close(self, reason: str, *, is_unknown: bool = False) -> None:
        for unit in self._units.values():
            unit.close(reason, strict=self._options.strict, is_unknown=is_unknown)
        self._units = _ENDED
