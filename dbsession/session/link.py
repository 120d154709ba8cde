"""The connection of one unit of work: taken with the first batch, given back at the end."""

from __future__ import annotations

import warnings

from dbsession.backends.base import Backend, Connection
from dbsession.backends.statements import Batch, Kind, Result
from dbsession.errors import ConnectionLost, DatabaseSessionIsOver, OrmError
from dbsession.session.sql_log import SqlLog, make_sql_log
from dbsession.session.taps import tapped, taps

__all__ = ["Link"]


class Link:
    """The connection of one unit of work: taken with the first batch, given back at the end.

    `log` may be set at any time. An idle connection may have died in the pool: then its first batch is
    sent once more over another one, if that cannot do anything twice.
    """

    __slots__ = ("_backend", "_connection", "_discard", "_is_closed", "log")

    def __init__(self, backend: Backend, log: SqlLog | None = None) -> None:
        self._backend = backend
        self._connection: Connection | None = None
        self._discard = False
        self._is_closed = False
        self.log = log or make_sql_log()

    def __del__(self) -> None:
        """Give up the connection of a session that was never ended: of a thread that is gone, for instance."""
        self.abandon()

    def abandon(self) -> None:
        """Give up the connection, if there is one, with a warning, and take none again; takes no lock."""
        self._is_closed = True
        connection, self._connection = self._connection, None
        if connection is None:
            return
        is_lost = connection.usable  # not one of a parent process, or one that has broken
        self._backend.reclaim(connection)
        if is_lost:
            warnings.warn(
                f"a session on {self._backend.url} was never ended, and is gone: its connection was closed, so that "
                f"what it had not committed is rolled back; use `with db_session:`, or close it",
                ResourceWarning,
                stacklevel=3,
            )

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* on the connection.

        Raises:
            DatabaseSessionIsOver: the session has ended meanwhile.
            ConnectionLost: it was interrupted, and cannot be used before a rollback.
        """
        connection = self._connection
        if self._is_closed or (self._discard and connection is not None):
            raise self._refusal()
        if self.log.is_on:
            self.log.write(batch)
        is_first = connection is None
        if connection is None:
            self._discard = False
            connection = self._connection = self._acquire()
        try:
            return tapped(self._backend, connection).execute(batch) if taps else connection.execute(batch)
        except ConnectionLost as error:
            if not is_first or (error.commit_sent and not _is_harmless(batch)):
                raise
        except OrmError:
            raise
        except BaseException:
            # Interrupted in the middle: nobody knows what is still on the wire.
            self._discard = True
            raise
        self.release(discard=True)
        self._connection = self._acquire()
        return self.execute(batch)

    def _refusal(self) -> OrmError:
        """Return the error for using a connection that is not to be used."""
        error: OrmError = DatabaseSessionIsOver(
            "the session has ended while it was at work, so nothing more is sent for it; what was not committed is "
            "rolled back"
        )
        if not self._is_closed:
            error = ConnectionLost(
                "the connection was interrupted, and nobody knows what is under way on it; call rollback(), or leave "
                "the scope"
            )
        error.nothing_sent = True
        return error

    def distrust(self, *, at_once: bool) -> None:
        """Send nothing more over the connection, if there is one; *at_once*: do without it from now on."""
        self._discard = self._connection is not None
        if at_once:
            self.release()

    def close(self) -> None:
        """Give the connection back, and take none again."""
        self._is_closed = True
        self.release()

    def _acquire(self) -> Connection:
        try:
            return self._backend.acquire()
        except OrmError as error:
            error.nothing_sent = True
            raise

    @property
    def is_connected(self) -> bool:
        """Whether a connection was taken, so that something may have been sent."""
        return self._connection is not None

    @property
    def is_broken(self) -> bool:
        """Whether nothing more can be sent over the connection that it had."""
        return self._connection is not None and (self._discard or not self._connection.usable)

    def release(self, *, discard: bool = False) -> None:
        """Give the connection back, if one was taken."""
        connection, self._connection = self._connection, None
        if connection is not None:
            self._backend.release(connection, discard=discard or self._discard)
        self._discard = False


def _is_harmless(batch: Batch) -> bool:
    """Tell whether *batch*, its connection lost, can have left nothing behind.

    That is so if it only reads, by our own SQL, or has begun a transaction and did not ask to commit it. User-written
    SQL in autocommit may have called any function.
    """
    if batch[0].kind is Kind.BEGIN:
        return all(statement.kind is not Kind.COMMIT for statement in batch)
    return all(statement.kind is Kind.READ for statement in batch)
