"""Faults on demand: `fail_statement`, `fail_commit`, `lose_connection`.

A fault is what it would be in production, so that what follows is, too. On PostgreSQL the server itself raises the
error, by a statement of ours in the place of the failing one, and has aborted the transaction; a COMMIT that fails has
rolled back. SQLite takes back the statement, and keeps the transaction. A lost connection is closed.
"""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from enum import Enum
from typing import Any, Literal, TypeAlias

from dbsession.backends.base import Connection
from dbsession.backends.flow import Flow, execute
from dbsession.backends.statements import Batch, Kind, Result, Statement
from dbsession.database import Database
from dbsession.errors import (
    ConnectionLost,
    DatabaseError,
    DataError,
    DeadlockDetected,
    InternalError,
    LockNotAvailable,
    NotSupportedError,
    OperationalError,
    OrmError,
    ProgrammingError,
    SerializationConflict,
    TransactionIntegrityError,
)
from dbsession.integrations.recording import is_query
from dbsession.session.taps import taps

__all__ = ["Fault", "fail_commit", "fail_statement", "lose_connection"]

_Error: TypeAlias = type[BaseException] | BaseException

# What a server of PostgreSQL raises them by.
_SQLSTATES: dict[type[BaseException], str] = {
    SerializationConflict: "40001",
    DeadlockDetected: "40P01",
    LockNotAvailable: "55P03",
    TransactionIntegrityError: "23505",
    DataError: "22000",
    ProgrammingError: "42601",
    NotSupportedError: "0A000",
    OperationalError: "58000",
    InternalError: "XX000",
}
_OTHER = "P0001"
_ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)


class _What(Enum):
    """What is counted."""

    STATEMENT = "statement"
    COMMIT = "commit"


class Fault:
    """One kind of failure within a block; `times_reached` tells how often it has happened."""

    def __init__(
        self, name: str, database: Database, what: _What, *, n: int, times: int | None, matching: str | None
    ) -> None:
        if n < 1 or (times is not None and times < 1):
            raise ValueError(f"{name}() counts from 1: n={n}, times={times}")
        self.counters = database.counters
        self.times_reached = 0
        self._name = name
        self._what = what
        self._first = n
        self._last = None if times is None else n + times - 1
        self._pattern = re.compile(matching, re.IGNORECASE) if matching is not None else None
        self._seen = 0
        self._is_postgres = database.backend.dialect.name == "postgresql"

    def __repr__(self) -> str:
        return f"<{self._name}() of {self._what.value} {self._first}, reached {self.times_reached} times>"

    def pass_on(self, batch: Batch, connection: Connection) -> Flow[list[Result]]:
        """Send *batch*, up to where the fault strikes; it counts as sent."""
        place = self._find(batch, in_transaction=connection.in_transaction)
        if place is None:
            return (yield from execute(*batch))
        counters = self.counters
        before = counters.statements, counters.round_trips
        try:
            return (yield from self.strike(batch, place, connection))
        finally:
            counters.statements, counters.round_trips = before[0] + len(batch), before[1] + 1

    def strike(self, batch: Batch, place: int, connection: Connection) -> Flow[list[Result]]:
        """Let the statement at *place* of *batch* fail."""
        raise NotImplementedError

    def require_reached(self) -> None:
        """Raise unless it has happened: a test whose fault never strikes shows nothing.

        Raises:
            AssertionError: it has not.
        """
        if not self.times_reached:
            matching = f" matching {self._pattern.pattern!r}" if self._pattern is not None else ""
            raise AssertionError(
                f"{self._name}() was to strike at {self._what.value} {self._first}{matching}, and only {self._seen} "
                f"came; say must_happen=False if that is all right"
            )

    def _find(self, batch: Batch, *, in_transaction: bool) -> int | None:
        """Return the place in *batch* where it strikes, and count what comes before."""
        for place, statement in enumerate(batch):
            kind = statement.kind
            if self._counts(statement, in_transaction=in_transaction):
                self._seen += 1
                if self._seen >= self._first and (self._last is None or self._seen <= self._last):
                    return place
            if kind is Kind.BEGIN:
                in_transaction = True
            elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
                in_transaction = False
        return None

    def _counts(self, statement: Statement, *, in_transaction: bool) -> bool:
        if self._what is _What.STATEMENT:
            return is_query(statement) and (self._pattern is None or self._pattern.search(statement.sql) is not None)
        # A write outside of a transaction commits itself.
        return statement.kind is Kind.COMMIT or (statement.kind is Kind.WRITE and not in_transaction)

    def _explain(self, error: BaseException) -> None:
        self.times_reached += 1
        error.add_note(f"made by {self._name}(): {self._what.value} {self._seen}")


class _Failure(Fault):
    """A statement that the database refuses."""

    def __init__(self, error: _Error, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._error = error

    def strike(self, batch: Batch, place: int, connection: Connection) -> Flow[list[Result]]:
        """Let the statement at *place* of *batch* fail."""
        statement, before = batch[place], batch[:place]
        error = self._make(statement)
        if isinstance(error, Exception) and self._is_postgres:
            failing = self._failing(statement)
            try:
                yield from execute(*before, failing)
            except DatabaseError as refusal:
                if getattr(refusal, "statement", None) is not failing:
                    raise
                if statement.kind is Kind.COMMIT:
                    yield from execute(_ROLLBACK)  # as the server does
                raise self._completed(error, refusal, statement) from refusal.original_exc
        results = (yield from execute(*before)) if before else []
        if isinstance(error, OrmError):
            error.results = results
        self._explain(error)
        raise error

    def _make(self, statement: Statement) -> BaseException:
        error = self._error
        if isinstance(error, BaseException):
            return error
        if not issubclass(error, OrmError):
            return error(f"{self._name}() was asked for it")
        return error(f"{self._name}() was asked for it", **_details(statement))

    def _failing(self, statement: Statement) -> Statement:
        """Return what lets the server raise the error."""
        cls = self._error if isinstance(self._error, type) else type(self._error)
        text = f"{self._name}() was asked for it"
        raising = f"RAISE EXCEPTION USING MESSAGE = '{text}', ERRCODE = '{_SQLSTATES.get(cls, _OTHER)}'"
        return Statement(f"DO $$ BEGIN {raising}; END $$")

    def _completed(self, error: BaseException, refusal: DatabaseError, statement: Statement) -> BaseException:
        """Return the server's *refusal* if it is of the class that was asked for, and *error* if not."""
        if isinstance(self._error, type) and type(refusal) is self._error:
            for name, value in _details(statement).items():
                setattr(refusal, name, value)
            error = refusal
        elif isinstance(error, OrmError):
            error.results = refusal.results
        self._explain(error)
        return error


class _Loss(Fault):
    """A connection that breaks."""

    def __init__(self, *args: Any, done: bool, sent: bool, **options: Any) -> None:
        super().__init__(*args, **options)
        self._done = done
        self._sent = sent

    def strike(self, batch: Batch, place: int, connection: Connection) -> Flow[list[Result]]:
        """Close the connection when the statement at *place* of *batch* was done, or was not."""
        statement = batch[place]
        if self._done:
            yield from execute(*batch[: place + 1])
        connection.close()
        error = ConnectionLost(
            f"{self._name}() was asked for it - nothing more can be sent over this connection; call rollback() or "
            f"leave the scope",
            commit_sent=self._sent,
            **_details(statement),
        )
        self._explain(error)
        raise error


def _details(statement: Statement) -> dict[str, Any]:
    """Return what an error tells of the *statement* that it is about."""
    details: dict[str, Any] = {"statement": statement, "sql": statement.sql}
    return details | {"tag": statement.tag} if statement.kind is Kind.WRITE else details


@contextmanager
def fail_statement(
    database: Database,
    n: int = 1,
    *,
    error: _Error = SerializationConflict,
    matching: str | None = None,
    times: int | None = 1,
    must_happen: bool = True,
) -> Generator[Fault]:
    """Let the *n*-th statement that is sent to *database* within the block fail with *error*.

    What begins, ends or configures a transaction is not counted. *matching* is a regular expression: only
    statements whose SQL has it are counted. *times* is how many in a row fail (None: all from the *n*-th on); with 1,
    a retry goes through. *error* is a class or an error, best one of a database: `SerializationConflict`,
    `DeadlockDetected`, `LockNotAvailable`, `TransactionIntegrityError`; for `ConnectionLost` see `lose_connection`.

    Raises:
        AssertionError: the block has ended, and it has never happened; not if *must_happen* is False.
    """
    _require_failure(error)
    options: dict[str, Any] = {"n": n, "times": times, "matching": matching}
    with _striking(_Failure(error, "fail_statement", database, _What.STATEMENT, **options), must_happen) as fault:
        yield fault


@contextmanager
def fail_commit(
    database: Database,
    n: int = 1,
    *,
    error: _Error = SerializationConflict,
    times: int | None = 1,
    must_happen: bool = True,
) -> Generator[Fault]:
    """Let the *n*-th commit to *database* within the block fail with *error*: nothing is committed.

    A single write that is sent without a transaction is a commit, too. For a commit whose reply is lost see
    `lose_connection`.

    Raises:
        AssertionError: the block has ended, and it has never happened; not if *must_happen* is False.
    """
    _require_failure(error)
    options: dict[str, Any] = {"n": n, "times": times, "matching": None}
    with _striking(_Failure(error, "fail_commit", database, _What.COMMIT, **options), must_happen) as fault:
        yield fault


@contextmanager
def lose_connection(
    database: Database,
    *,
    at: Literal["commit", "statement"] = "commit",
    n: int = 1,
    done: bool = False,
    sent: bool = True,
    matching: str | None = None,
    times: int | None = 1,
    must_happen: bool = True,
) -> Generator[Fault]:
    """Break the connection at the *n*-th commit to *database* within the block, or at the *n*-th statement.

    *done*: the database has done it, and the reply was lost; otherwise it was lost on its way. At a commit both
    are a `CommitOutcomeUnknown`. *sent=False*: the connection was found dead before anything was sent. A first
    batch that does no harm twice is sent again by the session, as always.

    Raises:
        AssertionError: the block has ended, and it has never happened; not if *must_happen* is False.
        TypeError: *matching* at a commit; *done* and not *sent*.
    """
    what = _What(at)
    if matching is not None and what is _What.COMMIT:
        raise TypeError('lose_connection() takes matching= with at="statement" only')
    if done and not sent:
        raise TypeError("lose_connection() cannot lose the reply (done=True) to what was not sent (sent=False)")
    options: dict[str, Any] = {"n": n, "times": times, "matching": matching, "done": done, "sent": sent}
    with _striking(_Loss("lose_connection", database, what, **options), must_happen) as fault:
        yield fault


def _require_failure(error: _Error) -> None:
    cls = error if isinstance(error, type) else type(error)
    if not issubclass(cls, BaseException):
        raise TypeError(f"error= takes the class of an error, or an error, not {error!r}")
    if issubclass(cls, ConnectionLost):
        raise TypeError("a lost connection is made by lose_connection(), which breaks it")


@contextmanager
def _striking(fault: Fault, must_happen: bool) -> Generator[Fault]:
    taps.insert(0, fault)  # behind what records, which shows what the session has sent
    try:
        yield fault
    finally:
        taps.remove(fault)
    if must_happen:
        fault.require_reached()
