"""`rolled_back`: everything that is done to a database within a block is undone at its end, commits included.

While it is on, the database has one connection, with a transaction that is never committed. On it stands a
savepoint, the *floor*: below it is what counts as committed, above it what the open transaction of a session
has done. Sessions are handed a `Lease`, which looks like a connection and translates:

==============================  ===========================================================
a session sends                 the connection sends
==============================  ===========================================================
BEGIN                           nothing but what the mode wants: the floor is set
COMMIT                          deferred constraints are checked, then the floor is set anew
ROLLBACK                        ROLLBACK TO the floor
a write in autocommit           itself, then as for COMMIT; if it fails, as for ROLLBACK
everything else                 itself
==============================  ===========================================================

One connection serves one transaction at a time: see `Turn`.
"""

from __future__ import annotations

import threading
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from typing import Any

from dbsession.backends.base import Backend, Connection
from dbsession.backends.statements import Batch, Kind, Statement
from dbsession.database import Database
from dbsession.errors import InterfaceError, InvalidRequestError, OrmError, SessionDoomed
from dbsession.integrations.lease import Floor, Lease
from dbsession.integrations.turn import Turn
from dbsession.scope import stack
from dbsession.session.opened import open_here

__all__ = ["RollbackBackend", "rolled_back"]

_ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)
_BEGIN = {
    "sqlite": Statement("BEGIN IMMEDIATE", kind=Kind.BEGIN),
    "postgresql": Statement("BEGIN", kind=Kind.BEGIN),
}


class RollbackBackend:
    """A `Backend` with one connection of *real*, taken with the first statement, and one transaction, never committed.

    It may be on top of another one: what the inner one does is undone first.
    """

    def __init__(self, real: Backend, timeout: float) -> None:
        self.dialect = real.dialect
        self.counters = real.counters
        self.url = real.url
        self.readers_wait = real.readers_wait
        self.is_sqlite = real.dialect.name == "sqlite"
        self.depth: int = real.depth + 1 if isinstance(real, RollbackBackend) else 1
        self.floor = Floor(self.depth)
        self._real = real
        self._connection: Connection | None = None
        self.busy = threading.Lock()
        self._timeout = timeout
        self._turn = Turn(timeout)
        self._resets: Batch = ()
        self._in_use: set[Lease] = set()  # kept, so that `reclaim` finds them whole
        self._lost: BaseException | None = None
        self._escaped = False  # the transaction was ended, perhaps by a commit
        self._ended = False

    def acquire(self) -> Lease:
        """Return what looks like a connection.

        Raises:
            InterfaceError: the transaction of the test is lost, or the block is over.
        """
        self.require_alive()
        lease = Lease(self)
        self._in_use.add(lease)
        return lease

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Take *connection* back; what it has not committed is undone."""
        if isinstance(connection, Lease):
            self._in_use.discard(connection)
            connection.give_back()

    def reclaim(self, connection: Connection) -> None:
        """Let the next one clear up behind *connection*, whose session is gone; takes no lock."""
        if isinstance(connection, Lease):
            self._in_use.discard(connection)
            connection.abandon()

    def close(self) -> None:
        """Close nothing: what was committed would be gone, and is not when the database is opened again."""

    def reopened(self) -> RollbackBackend:
        """Return this."""
        return self

    # --- for leases ---------------------------------------------------------------------------------

    @property
    def is_alive(self) -> bool:
        """Whether the connection still has the transaction of the whole test."""
        return self._lost is None and not self._ended

    def lend(self, lease: Lease) -> Connection:
        """Return the connection when it is the turn of *lease*.

        Raises:
            NotSupportedError: this very thread is in a transaction of another one.
            PoolTimeout: another thread is, and does not end it.
            InterfaceError: the transaction of the test is lost, or the block is over.
        """
        self.require_alive()
        left_behind = self._turn.take(lease)
        try:
            self.require_alive()
            if self._connection is None:
                self._connection = self._begin()
            elif left_behind:
                self._clear(self._connection)
            if self._resets and not lease.in_transaction:
                resets, self._resets = self._resets, ()
                with self._uncounted():
                    self._connection.execute((*resets, self.floor.release, self.floor.set))
        except BaseException:
            self._turn.give_back(lease)
            raise
        return self._connection

    def take_back(self, lease: Lease) -> None:
        """Let the next one have its turn."""
        self._turn.give_back(lease)

    def reset_later(self, statements: Batch) -> None:
        """Send *statements* before the next one who is in no transaction sends something."""
        self._resets = statements

    def note(self, error: BaseException, *, is_fatal: bool = False) -> None:
        """Look whether *error* has taken the transaction of the whole test with it; *is_fatal*: it has."""
        connection = self._connection
        if connection is None or self._lost is not None:
            return
        was_rolled_back = getattr(error, "transaction_lost", False) or not connection.usable
        if is_fatal or was_rolled_back or not connection.in_transaction:
            self._lost = error
            self._escaped = isinstance(error, SessionDoomed) and not was_rolled_back

    def undo(self) -> None:
        """Roll everything back, and give the connection back to where it came from.

        Raises:
            InterfaceError: SQL of the test's own has ended the transaction, so not all of it can be undone.
        """
        self._ended = True
        connection = self._connection
        if connection is None:
            return
        is_done = False
        is_free = self.busy.acquire(timeout=self._timeout)  # or a thread that goes on would send something behind it
        try:
            if is_free:
                with self._uncounted():
                    connection.execute((_ROLLBACK,))
                is_done = True
        except Exception as error:
            self._lost = self._lost or error  # it is closed, and rolls back by itself
        finally:
            self._real.release(connection, discard=not is_done)
            if is_free:
                self.busy.release()
        if self._escaped:
            raise InterfaceError(
                f"rolled_back() (db_rollback) could not undo everything on {self.url}: SQL of the test has ended the "
                f"transaction, and may have committed it ({self._lost})"
            ) from self._lost

    def _begin(self) -> Connection:
        connection = self._real.acquire()
        try:
            with self._uncounted():
                connection.execute((_BEGIN[self.dialect.name], self.floor.set))
        except BaseException as error:
            self._real.release(connection, discard=True)
            if isinstance(error, OrmError):
                error.nothing_sent = True
            raise
        return connection

    def _clear(self, connection: Connection) -> None:
        """Undo what a session that is gone has left behind."""
        try:
            with self._uncounted():
                connection.execute((self.floor.back,))
            if self.is_sqlite:
                limited: Any = connection
                limited.limit(None)
        except BaseException as error:
            self.note(error, is_fatal=True)
            raise

    @contextmanager
    def _uncounted(self) -> Generator[None]:
        """Let what the block sends not count: production does not send it."""
        counters = self.counters
        before = counters.statements, counters.round_trips, counters.transactions
        try:
            yield
        finally:
            counters.statements, counters.round_trips, counters.transactions = before

    def require_alive(self) -> None:
        """Raise if nothing can be sent any more.

        Raises:
            InterfaceError: the transaction of the test is lost, or the block is over.
        """
        if self._ended:
            raise InterfaceError(
                f"this session began within rolled_back() (db_rollback) on {self.url}, which is over: everything was "
                f"undone. End scopes within the block"
            )
        if self._lost is not None:
            raise InterfaceError(
                f"the transaction of rolled_back() (db_rollback) on {self.url} is gone, and with it all that was done "
                f"in it: {self._lost}"
            ) from self._lost


@contextmanager
def rolled_back(*databases: Database, timeout: float = 5.0) -> Generator[None]:
    """Undo at the end of the block all that was done to *databases* in it, what was committed included.

    Scopes, commits, rollbacks, retries, hooks and errors go as without it. There is one connection for a
    database, so one transaction at a time: another thread waits *timeout* seconds for its end, and an
    independent scope within an open transaction is refused. Sessions have to begin and to end within the block.

    Raises:
        InvalidRequestError: a session that is open here has used one of the databases already.
        NotSupportedError: from within the block, for what one transaction cannot have.
    """
    with ExitStack() as undoing:
        for database in databases:
            undoing.enter_context(_rolled_back(database, timeout))
        yield


@contextmanager
def _rolled_back(database: Database, timeout: float) -> Generator[None]:
    _require_unused(database)
    real = database.backend
    backend = RollbackBackend(real, timeout)
    database._backend = backend
    try:
        yield
    finally:
        database._backend, database._closed = real, None  # close() is undone, too
        backend.undo()


def _require_unused(database: Database) -> None:
    """Refuse to begin while a session is open here that has used the database, and would commit for good."""
    sessions = open_here()
    frame = stack.current_frame()
    while frame is not None:
        sessions.append(frame.session)
        frame = frame.parent
    for session in sessions:
        if session.unit_if_any(database) is not None:
            raise InvalidRequestError(
                f"rolled_back() (db_rollback) begins while {session!r} is open, which has used {database} already, on "
                f"a connection whose commits would not be undone; begin it before any scope, and close a session first"
            )
