"""The connection of one unit of work: taken with the first batch, given back at the end."""

from __future__ import annotations

from dbsession.backends.base import Backend, Connection
from dbsession.backends.statements import Batch, Result
from dbsession.errors import OrmError

__all__ = ["Link"]


class Link:
    """The connection of one unit of work: taken with the first batch, given back at the end."""

    __slots__ = ("_backend", "_connection", "_discard")

    def __init__(self, backend: Backend) -> None:
        self._backend = backend
        self._connection: Connection | None = None
        self._discard = False

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* on the connection."""
        connection = self._connection
        if connection is None:
            connection = self._connection = self._acquire()
        try:
            return connection.execute(batch)
        except OrmError:
            raise
        except BaseException:
            # Interrupted in the middle: nobody knows what is still on the wire.
            self._discard = True
            raise

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
