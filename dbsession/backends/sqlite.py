"""SQLite through the standard library: connections that are never in autocommit by accident.

The driver's own transaction control is off (``isolation_level=None``, no ``executescript``); we
send BEGIN and COMMIT. SQLite may roll back a whole transaction on its own (disk full, interrupt,
``OR ROLLBACK``) and would then run the next statement in autocommit, saving it alone; so a
connection remembers whether it is inside a transaction, compares that with ``in_transaction``
before every statement and after every error, and refuses everything but ROLLBACK once they differ.

Every cursor is read to its end before control returns: a half-read one would hold a read lock.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
import threading
import uuid
import weakref
from pathlib import Path
from typing import Any

from dbsession.backends import fork
from dbsession.backends.base import Connection, Counters, Dialect, RowCountMismatch
from dbsession.backends.sqlite_dialect import BEGIN_READ_ONLY, SqliteDialect
from dbsession.backends.sqlite_errors import translate
from dbsession.backends.sqlite_values import register_functions
from dbsession.backends.statements import Batch, Kind, Result, Row, Statement, require_transaction
from dbsession.errors import (
    BindingError,
    InterfaceError,
    OperationalError,
    OrmError,
    SessionDoomed,
    SessionForkError,
)

__all__ = ["SqliteBackend", "SqliteConnection", "SqliteDialect"]

_MINIMUM = (3, 36)  # memdb; RETURNING came with 3.35
_CACHED_STATEMENTS = 512  # prepared statements that the driver keeps for a connection
_CACHED_COLUMNS = 1024

_NOTHING: tuple[Any, ...] = ()

# A NamedTuple's own __new__ costs 70 ns more, of the 2 us that a read takes.
_make_result = tuple.__new__


class SqliteConnection:
    """One handle of the driver, used by one session at a time, from any thread.

    `in_transaction` tells what the session began and has not ended; a transaction that SQLite has
    rolled back on its own counts until ROLLBACK is sent, as a failed one does on PostgreSQL.
    """

    __slots__ = (
        "__weakref__",
        "_altered",
        "_blocked",
        "_columns",
        "_counters",
        "_cursor",
        "_db",
        "_leaves",
        "_open",
        "_timeout",
    )

    def __init__(self, db: sqlite3.Connection, counters: Counters, timeout: float) -> None:
        self._db = db
        self._cursor = db.cursor()
        self._counters = counters
        self._timeout = timeout
        self._open = False
        self._blocked: OrmError | None = None  # why nothing but ROLLBACK may run
        self._leaves = False
        self._altered = False  # a PRAGMA may have been changed
        self._columns: dict[str, tuple[Any, tuple[str, ...]]] = {}
        self._configure()
        fork.watch(self)

    def _configure(self) -> None:
        for pragma in (
            "foreign_keys = ON",
            "query_only = OFF",
            f"busy_timeout = {round(self._timeout * 1000)}",
        ):
            self._db.execute(f"PRAGMA {pragma}").close()
        self._altered = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun here and has not ended (a failed one counts)."""
        return self._open

    @property
    def usable(self) -> bool:
        """Whether the handle is this process's and its state is known."""
        return not isinstance(self._blocked, SessionForkError | InterfaceError)

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* in order; the first statement that fails ends it.

        Raises:
            RowCountMismatch: a statement touched another number of rows than it had to; nothing of
                its transaction can be committed.
            SessionDoomed: the transaction is already lost; only ROLLBACK runs.
            SessionForkError: the connection is the parent process's.
            DatabaseError: SQLite refused; ``error.statement`` is the statement.
        """
        if not batch:
            return []
        counters = self._counters
        counters.round_trips += 1
        counters.statements += len(batch)
        if len(batch) == 1:
            statement = batch[0]
            if statement.many:
                require_transaction(batch, self._open)
            return [self._run(statement)]
        require_transaction(batch, self._open)
        return [self._run(statement) for statement in batch]

    def close(self) -> None:
        """Close the handle. What is not committed is rolled back by SQLite."""
        if isinstance(self._blocked, SessionForkError):
            return
        self._blocked = InterfaceError("this connection is closed")
        self._open = False
        self._cursor.close()
        self._db.close()

    def abandon(self) -> None:
        """Refuse every use from now on: this is a forked child, and the handle is its parent's."""
        fork.keep_forever((self._db, self._cursor))
        self._blocked = SessionForkError(
            "this connection was opened by the parent process; open a new scope in the child, on a Database of its own"
        )

    def make_clean(self) -> bool:
        """Bring the connection back to its first state; False if that is not possible."""
        if self._blocked is not None or self._open or self._leaves or self._db.in_transaction:
            return False
        if self._altered:
            try:
                self._configure()
            except sqlite3.Error:
                return False
        return True

    # --- statements ------------------------------------------------------------------------------

    def _run(self, statement: Statement) -> Result:
        if (self._blocked is not None or self._db.in_transaction is not self._open) and self._recover(statement):
            return Result([], 0, (), "ROLLBACK")
        sql, params, kind, many, expect, tag, returns = statement
        if kind is Kind.READ or kind is Kind.WRITE or kind is Kind.RAW:
            if many:
                return self._run_many(statement)
        else:
            return self._control(statement)
        cursor = self._cursor
        try:
            cursor.execute(sql, _NOTHING if params is None else params)
            description = cursor.description
            if description is None:
                rows: list[Row] = []
                count = cursor.rowcount
            else:
                rows = cursor.fetchall()  # to the end: only then is the statement complete
                count = len(rows)
        except Exception as exc:
            raise self._failed(exc, statement, tag) from exc
        if kind is Kind.RAW or (kind is Kind.READ and description is None):
            self._check_raw(statement)
        if description is None:
            columns: tuple[str, ...] = ()
            if returns and count == 1:
                rows.append((cursor.lastrowid,))  # see SqliteDialect.insert
        else:
            cached = self._columns.get(sql)
            # The comparison notices a table that was altered behind SELECT *.
            columns = cached[1] if cached is not None and cached[0] == description else self._name(sql, description)
        if expect is not None and count != expect:
            raise self._mismatch(statement, tag, count)
        return _make_result(Result, (rows, count, columns, None))

    def _run_many(self, statement: Statement) -> Result:
        sql, runs, _, _, expect, tag, returns = statement
        if not isinstance(runs, list):
            raise InterfaceError("a statement with many=True needs a list of parameter rows")
        cursor = self._cursor
        execute = cursor.execute
        rows: list[Row] = []
        total = 0
        count = 0
        number = tag
        try:
            # executemany would drop the rows of RETURNING, and could not say which run failed.
            for params in runs:
                execute(sql, params)
                if cursor.description is not None:
                    fetched = cursor.fetchall()
                    rows += fetched
                    count = len(fetched)
                else:
                    count = cursor.rowcount
                    if returns and count == 1:
                        rows.append((cursor.lastrowid,))
                if expect is not None and count != expect:
                    break
                total += count
                number += 1
            else:
                return Result(rows, total, tuple(column[0] for column in cursor.description or ()))
        except Exception as exc:
            raise self._failed(exc, statement, number) from exc
        raise self._mismatch(statement, number, count)

    def _control(self, statement: Statement) -> Result:
        """Run a statement that begins or ends a transaction or moves a savepoint."""
        kind = statement.kind
        if kind is Kind.ROLLBACK and not self._open:
            return Result([], 0, (), "ROLLBACK")
        if not self._open and kind is not Kind.BEGIN:
            # SAVEPOINT would open a transaction of its own, which RELEASE would commit.
            raise InterfaceError(f"{statement.sql} outside a transaction", statement=statement)
        try:
            if statement.sql == BEGIN_READ_ONLY.sql:
                self._cursor.execute("PRAGMA query_only = ON")
                self._altered = True
            self._cursor.execute(statement.sql)
        except Exception as exc:
            raise self._failed(exc, statement, None) from exc
        command: str | None = None
        if kind is Kind.BEGIN:
            self._open = True
            self._counters.transactions += 1
        elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
            # The proof: it was open, the statement gave no error, and now it is not open.
            if not self._db.in_transaction:
                self._open = False
                command = "COMMIT" if kind is Kind.COMMIT else "ROLLBACK"
            if self._altered:
                self._cursor.execute("PRAGMA query_only = OFF")
        return Result([], 0, (), command)

    # --- what can go wrong -----------------------------------------------------------------------

    def _recover(self, statement: Statement) -> bool:
        """Let *statement* end a transaction that is lost; refuse it if it does not.

        Returns True if there is nothing left for it to do.
        """
        if isinstance(self._blocked, SessionForkError | InterfaceError):
            raise self._blocked
        alive = self._db.in_transaction
        if self._blocked is None:
            self._blocked = self._drift(alive)
        if statement.kind is Kind.ROLLBACK:
            if alive:
                self._db.rollback()
            self._blocked = None
            self._open = False
            return True
        if statement.kind is Kind.ROLLBACK_TO and alive and self._open:
            self._blocked = None  # a mismatch within the savepoint is undone with it
            return False
        raise SessionDoomed(
            "the transaction is already lost, nothing but a rollback is possible; "
            f"the first error was: {self._blocked}",
            statement=statement,
        ) from self._blocked

    def _drift(self, alive: bool) -> OperationalError:
        if alive:
            return OperationalError("a transaction was begun by SQL of the user's own; db_session begins and ends them")
        return OperationalError("the transaction was ended by something else than this session; it may have been lost")

    def _check_raw(self, statement: Statement) -> None:
        """Notice user-written SQL that moved the transaction or the settings of the connection."""
        text = statement.sql.lower()
        if "pragma" in text:
            self._altered = True
        if "attach" in text or "temp" in text:
            self._leaves = True  # something that the next session would see, and that no setting brings back
        alive = self._db.in_transaction
        if alive is not self._open:
            error = self._drift(alive)
            if alive:
                self._db.rollback()
            else:
                self._blocked = error
            raise error

    def _failed(self, exc: Exception, statement: Statement, tag: int | None) -> Exception:
        """Translate *exc*, and remember it if SQLite has rolled the transaction back on its own."""
        if isinstance(exc, OrmError):
            return exc
        lost = self._open and not self._db.in_transaction
        error = translate(exc, statement, tag=tag, lost=lost)
        if lost:
            self._blocked = error
        return error

    def _mismatch(self, statement: Statement, tag: int, found: int) -> RowCountMismatch:
        error = RowCountMismatch(
            f"a statement had to touch {statement.expect} rows, and touched {found}",
            tag=tag,
            found=found,
            statement=statement,
            sql=statement.sql,
        )
        if self._open:
            self._blocked = error  # SQLite itself would still commit
        return error

    def _name(self, sql: str, description: Any) -> tuple[str, ...]:
        columns = tuple(column[0] for column in description)
        if "pragma" in sql.lower():
            self._altered = True
            return columns
        if len(self._columns) >= _CACHED_COLUMNS:
            self._columns.clear()
        self._columns[sql] = description, columns
        return columns


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
            raise SessionForkError(f"{self.url} was opened by the parent process; make a new Database in the child")
        with self._lock:
            if self._idle:
                return self._idle.pop()
            if self._closed:
                raise InterfaceError(f"{self.url} is closed")
            if self._memory and not self._keeper:
                self._keeper.append(self._open())
        return self._connect()

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Give *connection* back; one with an open transaction, or *discard*-ed, is closed."""
        if not discard and isinstance(connection, SqliteConnection) and connection.make_clean():
            with self._lock:
                if not self._closed and len(self._idle) < self._max_idle:
                    self._idle.append(connection)
                    return
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
            if not self._memory:
                self._use_wal(db)
            connection = SqliteConnection(db, self.counters, self._timeout)
        except sqlite3.Error as exc:
            db.close()
            raise OperationalError(f"cannot open {self.url}: {exc}", original_exc=exc) from exc
        self.counters.connections += 1
        return connection

    @staticmethod
    def _use_wal(db: sqlite3.Connection) -> None:
        """Let readers and the writer work side by side; stays in the file once it is set."""
        try:
            db.execute("PRAGMA journal_mode = WAL").fetchall()
        except sqlite3.OperationalError as exc:
            # Busy: somebody works in the old mode, and a later connection will switch. Read-only
            # media and some network drives have no WAL, and work without.
            if exc.sqlite_errorcode & 0xFF not in (
                sqlite3.SQLITE_BUSY,
                sqlite3.SQLITE_READONLY,
                sqlite3.SQLITE_CANTOPEN,
            ):
                raise


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
