"""SQLite through the standard library: a file, or a database in memory, and its connections."""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import uuid
import weakref
from contextlib import suppress
from pathlib import Path

from dbsession.backends import fork
from dbsession.backends.base import Connection, Counters, Dialect
from dbsession.backends.sqlite_connection import SqliteConnection
from dbsession.backends.sqlite_dialect import SqliteDialect
from dbsession.backends.sqlite_functions import register_functions
from dbsession.errors import BindingError, InterfaceError, OperationalError, SessionForkError

__all__ = ["SqliteBackend", "SqliteConnection", "SqliteDialect"]

_MINIMUM = (3, 36)  # memdb; RETURNING came with 3.35
_CACHED_STATEMENTS = 512  # prepared statements that the driver keeps for a connection

_memory_numbers = itertools.count(1)


class SqliteBackend:
    """A file, or (with *path* None) a database in memory that lives until `close`.

    Connections are made when asked for and kept in a free list; there may be any number of them
    at once, since SQLite itself lets one writer in at a time and makes the others wait for
    *timeout* seconds.

    Raises:
        BindingError: the file's folder does not exist; *create* is False and there is no such file;
            this Python's SQLite is too old.
    """

    def __init__(
        self,
        path: str | os.PathLike[str] | None = None,
        *,
        url: str | None = None,
        timeout: float = 5.0,
        create: bool = True,
        max_idle: int = 8,
    ) -> None:
        if sqlite3.sqlite_version_info < _MINIMUM:
            raise BindingError(f"SQLite 3.36 or newer is needed; this Python has {sqlite3.sqlite_version}")
        self.dialect: Dialect = SqliteDialect()
        self.counters = Counters()
        self._timeout = timeout
        self._max_idle = max_idle
        self._again = {"timeout": timeout, "create": create, "max_idle": max_idle}
        self._file: Path | None = None
        self._uri = path is None or not create
        self._memory = path is None
        self.readers_wait = path is None  # a file in WAL mode can be read, memory cannot
        if path is None:
            self.url = url or "sqlite://"
            # The name says nothing, but two databases of one process must not share it.
            name = f"dbsession-{os.getpid()}-{next(_memory_numbers)}-{uuid.uuid4().hex}"
            self._target = f"file:/{name}?vfs=memdb"
        else:
            self._file = file = Path(path).expanduser().absolute()  # the working directory may change
            _check_file(file, create)
            self.url = url or f"sqlite:///{file}"
            self._target = str(file) if create else f"{file.as_uri()}?mode=rw"
        self._lock = threading.Lock()
        self._idle: list[SqliteConnection] = []
        self._in_use: set[Connection] = set()  # kept, so that `reclaim` finds them whole
        self._keeper: list[sqlite3.Connection] = []  # a memdb dies with its last connection
        self._closed = False
        self._foreign = False
        self._finalizer = weakref.finalize(self, _close_all, self._idle, self._keeper, os.getpid())
        fork.watch(self)

    def acquire(self) -> SqliteConnection:
        """Take a connection with no transaction open.

        Raises:
            OperationalError: the file cannot be opened; the message says why.
            SessionForkError: the database was opened by the parent process.
        """
        if self._foreign:
            raise SessionForkError(fork.REFUSAL.format(self.url))
        with self._lock:
            connection = self._idle.pop() if self._idle else None
            if connection is None:
                if self._closed:
                    raise InterfaceError(f"{self.url} is closed")
                if self._memory and not self._keeper:
                    self._keeper.append(self._open())
        if connection is None:
            connection = self._connect()
        self._in_use.add(connection)
        return connection

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Give *connection* back; one with an open transaction, or *discard*-ed, is closed."""
        self._in_use.discard(connection)
        if not discard and isinstance(connection, SqliteConnection) and connection.make_clean():
            with self._lock:
                if not self._closed and len(self._idle) < self._max_idle:
                    self._idle.append(connection)
                    return
        connection.close()

    def reclaim(self, connection: Connection) -> None:
        """Close *connection*, whose session is gone."""
        self._in_use.discard(connection)
        with suppress(sqlite3.ProgrammingError):  # if the backend is gone, too, the handle may have been closed first
            connection.close()

    def reopened(self) -> SqliteBackend:
        """Return a backend like this one, which was closed, with its counters. What was in memory is gone."""
        backend = SqliteBackend(self._file, url=self.url, **self._again)  # type: ignore[arg-type]
        backend.counters = self.counters
        return backend

    def close(self) -> None:
        """Close every connection; those in use are closed when they come back."""
        if self._foreign:
            return
        with self._lock:
            self._closed = True
            self._finalizer()

    def abandon(self) -> None:
        """Refuse every use from now on, if anything was opened: this is a forked child."""
        self._lock = threading.Lock()  # some thread of the parent may have held it
        if self._idle or self._keeper or self.counters.connections:
            self._foreign = True
            fork.keep_forever((self._idle[:], self._keeper[:]))
        self._finalizer.detach()

    def _open(self) -> sqlite3.Connection:
        try:
            return sqlite3.connect(
                self._target,
                timeout=self._timeout,
                isolation_level=None,
                check_same_thread=False,
                cached_statements=_CACHED_STATEMENTS,
                uri=self._uri,
            )
        except sqlite3.Error as exc:
            raise OperationalError(f"cannot open {self.url}: {exc}", original_exc=exc) from exc

    def _connect(self) -> SqliteConnection:
        db = self._open()
        try:
            register_functions(db)
            readers_block = self._memory or not self._use_wal(db)
            connection = SqliteConnection(db, self.counters, self._timeout, readers_block=readers_block)
        except sqlite3.Error as exc:
            db.close()
            raise OperationalError(f"cannot open {self.url}: {exc}", original_exc=exc) from exc
        self.counters.connections += 1
        return connection

    @staticmethod
    def _use_wal(db: sqlite3.Connection) -> bool:
        """Let readers and the writer work side by side, if that can be; it stays in the file once it is set."""
        try:
            return bool(db.execute("PRAGMA journal_mode = WAL").fetchall() == [("wal",)])
        except sqlite3.OperationalError as exc:
            # Busy: somebody works in the old mode, and a later connection will switch. Read-only
            # media and some network drives have no WAL, and work without.
            if exc.sqlite_errorcode & 0xFF not in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_CANTOPEN,
            ):
                raise
            return False


def _check_file(file: Path, create: bool) -> None:
    if not file.parent.is_dir():
        raise BindingError(
            f"the folder {file.parent} does not exist; make it first, or correct the path of the database"
        )
    if file.is_dir():
        raise BindingError(f"{file} is a folder, not a database file")
    if not create and not file.exists():
        raise BindingError(f"there is no database file {file}; create_db=True makes one")


def _close_all(idle: list[SqliteConnection], keeper: list[sqlite3.Connection], pid: int) -> None:
    if os.getpid() != pid:
        return
    while idle:
        idle.pop().close()
    while keeper:
        keeper.pop().close()
