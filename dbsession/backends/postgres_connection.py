"""One connection to PostgreSQL: a batch is one round trip, and COMMIT is proven by its tag.

The driver's connection is in autocommit and we send BEGIN. What psycopg 3 would do to us otherwise:

- a pipeline without BEGIN is an implicit transaction, whose deferred constraints fail at Sync with
  the SQLSTATE lost and the connection stuck; so `require_transaction` comes first;
- ``executemany(returning=True)`` costs a trip of its own in a pipeline: never used;
- after an error inside a pipeline the client's cache of prepared statements names some that the
  server never made (26000 later on): the connection prepares nothing any more, and is `spent`;
- BEGIN, COMMIT and the like would be prepared after five uses: ``prepare=False``.
"""

from __future__ import annotations

import re
from typing import Any, TypeAlias

import psycopg
from psycopg.pq import TransactionStatus

from dbsession.backends import fork
from dbsession.backends.base import Counters
from dbsession.backends.postgres_arrivals import Arrivals
from dbsession.backends.postgres_dumpers import register_dumpers, restore_dumpers
from dbsession.backends.postgres_errors import is_stale_plan, lost_before, translate
from dbsession.backends.postgres_pipeline import Cursor, Link, Pipeline, guarded, mismatch, strip
from dbsession.backends.postgres_settings import leaves_settings
from dbsession.backends.statements import Batch, Kind, Result, Statement, require_transaction
from dbsession.errors import ConnectionLost, InterfaceError, OperationalError, OrmError, SessionDoomed, SessionForkError

__all__ = ["Link", "PostgresConnection"]

_Sql: TypeAlias = Any  # psycopg's types want literal strings; ours are put together, from quoted names

_IDLE = TransactionStatus.IDLE
_INTRANS = TransactionStatus.INTRANS
_INERROR = TransactionStatus.INERROR

# Command tags of statements that only we may send; "ROLLBACK" is also the tag of ROLLBACK TO.
_MOVES = frozenset({"BEGIN", "START TRANSACTION", "COMMIT", "ROLLBACK", "PREPARE TRANSACTION"})
_ROLLBACK_TO = re.compile(r"\s*rollback\s+(?:work\s+|transaction\s+)?to\b", re.IGNORECASE)

_CACHED_CURSORS = 128
_KEPT_ROWS = 256  # a cached cursor keeps its last reply in memory

_make_result = tuple.__new__  # half the cost of the NamedTuple's own


class PostgresConnection:
    """One session's link at a time. `spent` says that it must not go back to the pool."""

    __slots__ = (
        "__weakref__",
        "_arrivals",
        "_blocked",
        "_counters",
        "_cursors",
        "_first",
        "_link",
        "_raw",
        "_settings",
        "_transacting",
        "spent",
    )

    def __init__(self, link: Link, counters: Counters) -> None:
        self._link = link
        self._arrivals = Arrivals(link)
        self._counters = counters
        self._cursors: dict[str, tuple[str, Cursor, tuple[bytes, ...], tuple[str, ...]]] = {}
        self._transacting = False  # whether we began a transaction and have not ended it
        self._first: BaseException | None = None  # what made the server abort the transaction, or broke the link
        self._blocked: OrmError | None = None  # why nothing but ROLLBACK may run
        self._settings = False  # whether it has changed what a ROLLBACK does not bring back
        self._raw = False  # whether user-written SQL has run, which may have made or altered tables
        self.spent = False
        register_dumpers(link.adapters)
        fork.watch(self)

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun here and has not ended (a failed one counts)."""
        return self._transacting

    @property
    def usable(self) -> bool:
        """Whether the link is this process's and still works."""
        return not self.inherited and not self._link.closed

    @property
    def inherited(self) -> bool:
        """Whether it is the parent process's."""
        return isinstance(self._blocked, SessionForkError)

    @property
    def clean(self) -> bool:
        """Whether another session may have it."""
        return (
            not self.spent
            and not self._settings
            and self._blocked is None
            and not self._transacting
            and self._link.pgconn.transaction_status == _IDLE
        )

    @property
    def idle(self) -> bool:
        """Whether the link is open and the server has said nothing since: on an idle one, only its end is to come."""
        return not self._link.closed and not self._arrivals.waiting()

    @property
    def link(self) -> Link:
        """The driver's connection."""
        return self._link

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* in order, in one round trip.

        The result of COMMIT has ``command == "COMMIT"`` only if the server has said so, and a
        transaction was open: any other answer is a lost transaction.

        Raises:
            RowCountMismatch: a statement touched another number of rows than it had to.
            ConnectionLost: the link broke; whether a COMMIT in *batch* was done is not known, unless
                ``error.commit_sent`` is False.
            SessionDoomed: the transaction is already lost; only ROLLBACK runs.
            SessionForkError: the connection is the parent process's.
            DatabaseError: the server refused; ``error.statement`` is the statement, and
                ``error.results`` has the replies to those before it.
        """
        if self._blocked is not None:
            self._recover(batch)
            return [Result([], 0, (), "ROLLBACK")]
        if not batch:
            return []
        if self.spent and self._link.closed:
            raise lost_before(self._first, batch[0])
        counters = self._counters
        counters.round_trips += 1
        counters.statements += len(batch)
        if len(batch) == 1 and not batch[0].many:
            kind = batch[0].kind
            if kind is not Kind.READ and (kind is Kind.COMMIT or not self._transacting):
                self._require_server(batch)  # in autocommit every write is a commit
            return [self._single(batch[0])]
        require_transaction(batch, self._transacting)
        for statement in batch:
            if statement.kind is Kind.COMMIT:
                self._require_server(batch)
        return self._pipelined(batch)

    def close(self) -> None:
        """Close the link. What is not committed is rolled back by the server."""
        if self.inherited:
            return
        self.spent = True
        self._transacting = False
        self._cursors.clear()
        self._link.close()

    def abandon(self) -> None:
        """Refuse every use from now on: this is a forked child, and the socket is its parent's."""
        fork.keep_forever((self._link, self._cursors))
        self._blocked = SessionForkError(
            "this connection was opened by the parent process; open a new scope in the child, on a Database of its own"
        )

    # --- one statement ---------------------------------------------------------------------------

    def _single(self, statement: Statement) -> Result:
        sql: _Sql
        sql, params, kind, _, expect, tag, returns = statement
        if kind is Kind.READ or kind is Kind.WRITE:
            is_guarded = expect is not None and self._transacting and kind is Kind.WRITE
            if is_guarded:
                sql, params = guarded(statement, params, tag)
            cursor, columns = self._run_cached(sql, () if params is None else params, statement)
        elif kind is Kind.RAW:
            is_guarded = False
            cursor = self._run(self._raw_cursor(sql), sql, params, statement)
            while cursor.nextset():  # several statements in one text: the last one answers
                pass
            columns = tuple(column.name for column in cursor.description or ())
        elif kind is Kind.CURSOR:  # a name that is never used again: neither prepared nor kept
            is_guarded, columns = False, ()
            cursor = self._run(self._link.cursor(), sql, params or (), statement, prepare=False)
        else:
            return self._control(statement)
        self._check_drift(cursor, statement)
        if is_guarded:
            rows, columns = strip(cursor.fetchall(), columns) if returns else ([], ())
            return Result(rows, expect or 0, columns)
        count = cursor.rowcount
        rows = cursor.fetchall() if columns or cursor.description is not None else []
        if expect is not None and count != expect:
            raise mismatch(statement, count)
        return _make_result(Result, (rows, max(count, 0), columns, None))

    def _run_cached(self, sql: _Sql, params: Any, statement: Statement) -> tuple[Cursor, tuple[str, ...]]:
        """Run *sql* on the cursor that ran it before, whose loaders and dumpers are ready."""
        entry = self._cursors.get(sql)
        if entry is None:
            cursor = self._run(self._link.cursor(), sql, params, statement)
            names: tuple[bytes, ...] = ()
            columns: tuple[str, ...] = ()
        else:
            sql, cursor, names, columns = entry  # psycopg compares the text by identity
            cursor = self._run(cursor, sql, params, statement)
        reply = cursor.pgresult
        width = 0 if reply is None else reply.nfields
        found = tuple([reply.fname(number) or b"" for number in range(width)]) if reply is not None and width else ()
        if entry is None or found != names:  # other names: a table was altered behind SELECT *
            columns = tuple(column.name for column in cursor.description or ()) if width else ()
            if len(self._cursors) >= _CACHED_CURSORS:
                self._cursors.clear()
            self._cursors[sql] = sql, cursor, found, columns
        if reply is not None and reply.ntuples > _KEPT_ROWS:
            del self._cursors[sql]
        return cursor, columns

    def _run(
        self, cursor: Cursor, sql: _Sql, params: Any, statement: Statement, *, prepare: bool | None = None
    ) -> Cursor:
        try:
            return cursor.execute(sql, params, prepare=prepare)
        except psycopg.Error as exc:
            if is_stale_plan(exc) and not self._transacting and not self._link.closed:
                return self._run_unprepared(sql, params, statement)
            raise self._failed(exc, statement) from exc
        except Exception as exc:
            raise self._failed(exc, statement) from exc
        except BaseException:
            self._interrupted()
            raise

    def _run_unprepared(self, sql: _Sql, params: Any, statement: Statement) -> Cursor:
        """Run again what failed because of an old plan; outside a transaction nothing was done."""
        self._distrust()
        try:
            return self._link.cursor().execute(sql, params, prepare=False)
        except Exception as exc:
            raise self._failed(exc, statement) from exc

    def _raw_cursor(self, sql: str) -> Cursor:
        """Return a cursor for user-written SQL.

        It sends values as psycopg does: ``f(smallint)`` would not be found for an int4.
        """
        self._raw = True
        self._settings = self._settings or leaves_settings(sql)
        cursor = self._link.cursor()
        restore_dumpers(cursor.adapters)
        return cursor

    def _control(self, statement: Statement) -> Result:
        """Run a statement that begins or ends a transaction or moves a savepoint."""
        kind = statement.kind
        if not self._transacting and kind is not Kind.BEGIN:
            if kind is Kind.ROLLBACK:
                return Result([], 0, (), "ROLLBACK")
            # COMMIT outside a transaction is answered with "COMMIT", and would prove nothing.
            raise InterfaceError(f"{statement.sql} outside a transaction", statement=statement)
        try:
            cursor = self._send_control(self._link.cursor(), statement)
        except Exception as exc:
            raise self._failed(exc, statement) from exc
        except BaseException:
            self._interrupted()
            raise
        return self._controlled(statement, cursor.statusmessage)

    def _send_control(self, cursor: Cursor, statement: Statement) -> Cursor:
        """Send a statement that is never prepared.

        psycopg answers ROLLBACK by forgetting all prepared statements, and telling the server so in
        a trip of its own, since tables may be gone with the transaction. They are not if it had
        nothing but our own statements in it. In a pipeline it tells the server too late: what was
        prepared meanwhile is gone with the rest, and still in the client's cache.
        """
        sql: _Sql = statement.sql
        if statement.kind not in (Kind.ROLLBACK, Kind.ROLLBACK_TO):
            return cursor.execute(sql, prepare=False)
        if self._raw and statement.kind is Kind.ROLLBACK_TO:
            self._distrust()
        elif self._raw:
            return cursor.execute(sql, prepare=False)
        threshold = self._link.prepare_threshold
        self._link.prepare_threshold = None
        try:
            return cursor.execute(sql, prepare=False)
        finally:
            self._link.prepare_threshold = threshold

    def _controlled(self, statement: Statement, command: str | None) -> Result:
        """Record what the control *statement* has done."""
        kind = statement.kind
        if kind is Kind.BEGIN:
            self._transacting = True
            self._counters.transactions += 1
        elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
            self._transacting = False
            self._first = None
            self._raw = False
        elif kind is Kind.ROLLBACK_TO:
            self._first = None
        return Result([], 0, (), command)

    # --- several statements ----------------------------------------------------------------------

    def _pipelined(self, batch: Batch) -> list[Result]:
        pipeline = Pipeline(self._link, control=self._send_control, controlled=self._controlled, raw=self._raw_cursor)
        error = pipeline.send(batch)
        if error is not None:
            failure = self._pipeline_failed(pipeline, error)
            raise failure from (error if failure is not error else None)
        results = pipeline.results()
        for cursor, statement in pipeline.raw_cursors():
            self._check_drift(cursor, statement)
        return results

    # --- what can go wrong -----------------------------------------------------------------------

    def _require_server(self, batch: Batch) -> None:
        """Look whether the server has ended the connection, before *batch* is sent, which may commit.

        Otherwise nobody could say whether it has: it is worth the 0.3 us.

        Raises:
            ConnectionLost: it has.
        """
        if not self._arrivals.waiting():
            return
        exc = self._arrivals.read()
        if exc is not None:
            self.close()
            self._first = error = translate(exc, batch[0], broken=True)
            if isinstance(error, ConnectionLost):
                error.commit_sent = False
            raise error from exc

    def _recover(self, batch: Batch) -> None:
        """Let *batch* end a transaction that is lost; refuse it if it does not begin with ROLLBACK."""
        blocked = self._blocked
        if isinstance(blocked, SessionForkError):
            raise blocked
        if batch[0].kind is Kind.ROLLBACK and len(batch) == 1:
            self._blocked = None
            self._transacting = False
            self.spent = True
            if self._link.pgconn.transaction_status != _IDLE:  # that SQL has begun another one
                self._run(self._link.cursor(), "ROLLBACK", None, batch[0])
            return
        raise SessionDoomed(
            f"the transaction is already lost, nothing but a rollback is possible; the first error was: {blocked}",
            statement=batch[0],
        ) from blocked

    def _check_drift(self, cursor: Cursor, statement: Statement) -> None:
        """Notice user-written SQL that began or ended a transaction."""
        idle = self._link.pgconn.transaction_status == _IDLE
        # Within a batch, what one statement has moved another may have moved back; the tag tells.
        moved = cursor.statusmessage in _MOVES and not _ROLLBACK_TO.match(statement.sql)
        if idle is not self._transacting and not moved:
            return
        if self._transacting or idle:
            error = OperationalError(
                "the transaction was ended by SQL of the user's own; it may have been lost", statement=statement
            )
            self._blocked = error if self._transacting else None
        else:
            error = OperationalError(
                "a transaction was begun by SQL of the user's own; db_session begins and ends them", statement=statement
            )
            self._link.cursor().execute("ROLLBACK", prepare=False)
        raise error

    def _pipeline_failed(self, pipeline: Pipeline, exc: BaseException) -> BaseException:
        """Find the statement that *exc* is about, and bring our own state up to the server's."""
        self._distrust()
        results = pipeline.done()  # what was answered has happened: BEGIN above all
        if not isinstance(exc, Exception):
            self._interrupted()
            return exc
        error = self._failed(exc, *pipeline.failing(exc))
        if isinstance(error, OrmError) and not isinstance(error, ConnectionLost):
            error.results = results
        return error

    def _failed(self, exc: Exception, statement: Statement | None, tag: int | None = None) -> Exception:
        """Translate *exc*; a link that is broken or out of step is closed."""
        if isinstance(exc, OrmError):
            return exc
        status = self._link.pgconn.transaction_status
        broken = self._link.closed or status not in (_IDLE, _INTRANS, _INERROR)
        if broken:
            self.close()
        elif is_stale_plan(exc):
            self._distrust()
        elif status == _IDLE and self._transacting and statement is not None and statement.kind is Kind.COMMIT:
            self._transacting = False  # a deferred constraint, or a conflict: the server has rolled back
            self._first = None
        if isinstance(exc, psycopg.errors.InFailedSqlTransaction):
            first = self._first or "that of a statement which was not sent by this session"
            return SessionDoomed(
                f"the transaction is already lost, nothing but a rollback is possible; the first error was: {first}",
                statement=statement,
            )
        if tag is None and statement is not None and not statement.many and statement.kind is Kind.WRITE:
            tag = statement.tag
        error = translate(exc, statement, broken=broken, tag=tag)
        error.__cause__ = exc
        if (broken or status == _INERROR) and self._first is None:
            self._first = error
        if status == _IDLE and self._transacting:
            self._blocked = error  # user-written SQL ended the transaction before it failed
        return error

    def _interrupted(self) -> None:
        """Give up a link on which a statement was cut short (KeyboardInterrupt and the like)."""
        self._distrust()
        if self._link.pgconn.transaction_status not in (_IDLE, _INTRANS, _INERROR):
            self.close()

    def _distrust(self) -> None:
        """Prepare nothing any more: the client's cache may name statements that the server never made."""
        self.spent = True
        self._link.prepare_threshold = None
