"""SQLite through the standard library: connections that are never in autocommit by accident.

The driver's own transaction control is off (``isolation_level=None``, no ``executescript``); we
send BEGIN and COMMIT. SQLite may roll back a whole transaction on its own (disk full, interrupt,
``OR ROLLBACK``) and would then run the next statement in autocommit, saving it alone; so a
connection remembers whether it is inside a transaction, compares that with ``in_transaction``
before every statement and after every error, and refuses everything but ROLLBACK once they differ.

Every cursor is read to its end before control returns: a half-read one would hold a read lock. Those of
`sqlite_cursors` are the exception, where a lock of readers keeps nobody from writing.
"""

from __future__ import annotations

import sqlite3
from typing import Any

from dbsession.backends import fork
from dbsession.backends.base import Counters, RowCountMismatch
from dbsession.backends.sqlite_cursors import CursorStep, SqliteCursor
from dbsession.backends.sqlite_errors import translate
from dbsession.backends.sqlite_limits import Limits, TimedCursor
from dbsession.backends.sqlite_settings import leaves_settings
from dbsession.backends.statements import Batch, Kind, Result, Row, Statement, require_transaction
from dbsession.errors import InterfaceError, OperationalError, OrmError, SessionDoomed, SessionForkError

__all__ = ["SqliteConnection"]

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
        "_half_read",
        "_leaves",
        "_limits",
        "_open",
        "_readers_block",
        "_timeout",
    )

    def __init__(
        self, db: sqlite3.Connection, counters: Counters, timeout: float, *, readers_block: bool = False
    ) -> None:
        self._db = db
        self._cursor = db.cursor()
        self._counters = counters
        self._timeout = timeout
        self._open = False
        self._readers_block = readers_block  # nobody else can write while a SELECT is half read
        self._half_read: set[SqliteCursor] = set()
        self._limits: Limits | None = None  # of the open transaction
        self._blocked: OrmError | None = None  # why nothing but ROLLBACK may run
        self._leaves = False  # something that the next session would see, and that is not put back
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
            DatabaseError: SQLite refused; ``error.statement`` is the statement, and ``error.results``
                has the replies to those before it.
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
        results: list[Result] = []
        try:
            results.extend(map(self._run, batch))  # which keeps what came before an error
        except OrmError as error:
            error.results = results
            raise
        return results

    def close(self) -> None:
        """Close the handle. What is not committed is rolled back by SQLite."""
        if not self.usable:
            return
        self._blocked = InterfaceError("this connection is closed")
        self._open = False
        self._close_cursors()
        self._cursor.close()
        self._db.close()

    def abandon(self) -> None:
        """Refuse every use from now on: this is a forked child, and the handle is its parent's."""
        fork.keep_forever((self._db, self._cursor))
        for cursor in self._half_read:
            fork.keep_forever(cursor.abandon())
        self._blocked = SessionForkError(
            "this connection was opened by the parent process; open a new scope in the child, on a Database of its own"
        )

    def make_clean(self) -> bool:
        """Bring the connection back to its first state; False if that is not possible."""
        self._close_cursors()
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
        if kind is not Kind.READ and self._half_read:
            self._put_aside(statement)
        if kind is Kind.READ or kind is Kind.WRITE or kind is Kind.RAW:
            if many:
                return self._run_many(statement)
        elif kind is Kind.CURSOR:
            return self._step(statement)
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

    def _step(self, statement: Statement) -> Result:
        """Open a cursor, or read on in one."""
        step = statement.params
        if not isinstance(step, CursorStep):
            raise InterfaceError(f"a statement of a cursor takes a step as parameters, not {step!r}")
        if isinstance(self._cursor, TimedCursor):
            self._cursor.start()
        try:
            rows = step.run(self._db, self._half_read, puts_aside=self._readers_block)
        except Exception as exc:
            raise self._failed(exc, statement, None) from exc
        return Result(rows, len(rows))

    def _put_aside(self, statement: Statement) -> None:
        """Leave no SELECT half read that *statement* could change; the end of the transaction closes them all."""
        if statement.kind in (Kind.CURSOR, Kind.COMMIT, Kind.ROLLBACK):
            return
        try:
            for cursor in list(self._half_read):
                cursor.put_aside()
        except Exception as exc:
            raise self._failed(exc, statement, None) from exc

    def _close_cursors(self) -> None:
        for cursor in list(self._half_read):
            cursor.close()

    def _control(self, statement: Statement) -> Result:
        """Run a statement that begins or ends a transaction or moves a savepoint."""
        kind = statement.kind
        if kind is Kind.ROLLBACK and not self._open:
            return Result([], 0, (), "ROLLBACK")
        if not self._open and kind is not Kind.BEGIN:
            # SAVEPOINT would open a transaction of its own, which RELEASE would commit.
            raise InterfaceError(f"{statement.sql} outside a transaction", statement=statement)
        try:
            if kind is Kind.BEGIN and statement.params is not None and not self._open:
                self._begin_limited(statement)
            else:
                self._cursor.execute(statement.sql)
        except Exception as exc:
            raise self._failed(exc, statement, None) from exc
        command: str | None = None
        if kind is Kind.BEGIN:
            self._open = True
            self._counters.transactions += 1
        elif (kind is Kind.COMMIT or kind is Kind.ROLLBACK) and not self._db.in_transaction:
            # The proof: it was open, the statement gave no error, and now it is not open.
            self._ended()
            command = "COMMIT" if kind is Kind.COMMIT else "ROLLBACK"
        return Result([], 0, (), command)

    def _begin_limited(self, statement: Statement) -> None:
        limits = statement.params
        if not isinstance(limits, Limits):
            raise InterfaceError(f"BEGIN takes its limits as parameters, not {limits!r}", statement=statement)
        self._limits = limits
        try:
            limits.impose(self._db, self._timeout)
            self._cursor.execute(statement.sql)
        except BaseException:
            self._lift()
            raise
        if limits.nowait:
            limits.begun(self._db, self._timeout)
        if limits.statement_timeout is not None:
            self._cursor = TimedCursor(self._db, limits.statement_timeout)

    def limit(self, limits: Limits | None) -> None:
        """Let *limits* hold from here on, within the open transaction; None: none. Foreign keys stay as they are."""
        self._lift()
        if limits is not None:
            self._limits = limits
            limits.impose(self._db, self._timeout)
            limits.begun(self._db, self._timeout)
            if limits.statement_timeout is not None:
                self._cursor = TimedCursor(self._db, limits.statement_timeout)

    def _ended(self) -> None:
        """Note that the transaction has ended, in whatever way."""
        self._open = False
        if self._half_read:
            self._close_cursors()
        if self._limits is not None:
            self._lift()

    def _lift(self) -> None:
        """Take back what held for the transaction alone."""
        limits, self._limits = self._limits, None
        if isinstance(self._cursor, TimedCursor):
            self._cursor.stop()
            self._cursor = self._db.cursor()
        if limits is not None:
            limits.lift(self._db, self._timeout)

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
            self._ended()
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
        if "pragma" in statement.sql.lower():
            self._altered = True
        self._leaves = self._leaves or leaves_settings(statement.sql)
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
        cursor = self._cursor
        timeout = cursor.seconds if isinstance(cursor, TimedCursor) and cursor.is_late() else None
        error = translate(exc, statement, tag=tag, lost=lost, timeout=timeout)
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
