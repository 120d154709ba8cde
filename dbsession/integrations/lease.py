"""What a session has for a connection within `rolled_back`: it translates what would end a transaction for good."""

from __future__ import annotations

import re
import threading
from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

from dbsession.backends.base import Connection, Counters
from dbsession.backends.flow import Flow, execute, run
from dbsession.backends.statements import Batch, Kind, Result, Statement, require_transaction
from dbsession.errors import (
    InterfaceError,
    NotSupportedError,
    OrmError,
    SessionDoomed,
    TransactionIntegrityError,
)
from dbsession.session.raw_sql import counts_as_write

__all__ = ["Floor", "Lease", "Lender"]

# User-written SQL that changes settings: for the transaction, or until the connection goes back.
_SETS_LOCALLY = re.compile(r"\bset\s+local\b|\bset_config\b", re.IGNORECASE)
_SETS = re.compile(r"\bset\s+(?!local\b|transaction\b|constraints\b)|\bset_config\b|\bpragma\b", re.IGNORECASE)
_SET_LOCAL = re.compile(r"SET LOCAL (\w+) = ")
_FOREIGN_KEYS = re.compile(r"PRAGMA foreign_keys = (ON|OFF)")

# Which constraints are checked at once unless somebody says otherwise; SET CONSTRAINTS ALL has changed it for all.
_AS_DECLARED = """DO $$
DECLARE names text := (
    SELECT string_agg(quote_ident(n.nspname) || '.' || quote_ident(c.conname), ', ')
    FROM pg_catalog.pg_constraint AS c JOIN pg_catalog.pg_namespace AS n ON n.oid = c.connamespace
    WHERE c.condeferrable AND NOT c.condeferred);
BEGIN
    IF names IS NOT NULL THEN EXECUTE 'SET CONSTRAINTS ' || names || ' IMMEDIATE'; END IF;
END $$"""

_CHECK = Statement("SET CONSTRAINTS ALL IMMEDIATE", kind=Kind.WRITE)
_DEFER = (Statement("SET CONSTRAINTS ALL DEFERRED", kind=Kind.WRITE), Statement(_AS_DECLARED, kind=Kind.WRITE))
_READ_ONLY = Statement("SET TRANSACTION READ ONLY", kind=Kind.WRITE)
_RESET = (Statement("RESET ALL", kind=Kind.WRITE), Statement("RESET ROLE", kind=Kind.WRITE))

_CLOSE_ALL = Statement("CLOSE ALL", kind=Kind.WRITE)

_MAY_DEFER = Statement("SELECT EXISTS (SELECT 1 FROM sqlite_master WHERE sql LIKE '%deferr%')", returns=True)
_IS_DEFERRING = Statement("PRAGMA defer_foreign_keys", returns=True)
_DANGLING = Statement("PRAGMA foreign_key_check", returns=True)
_DEFERRING = {"OFF": Statement("PRAGMA defer_foreign_keys = ON"), "ON": Statement("PRAGMA defer_foreign_keys = OFF")}


class Floor:
    """The savepoint between what counts as committed and what does not; nested ones have names of their own."""

    def __init__(self, depth: int) -> None:
        name = f"dbs_floor_{depth}"
        self.set = Statement(f"SAVEPOINT {name}", kind=Kind.SAVEPOINT)
        self.release = Statement(f"RELEASE SAVEPOINT {name}", kind=Kind.SAVEPOINT)
        self.back = Statement(f"ROLLBACK TO SAVEPOINT {name}", kind=Kind.ROLLBACK_TO)


class Lender(Protocol):
    """Whoever has the connection."""

    floor: Floor
    counters: Counters
    is_sqlite: bool
    busy: threading.Lock
    """Held while something is sent."""

    @property
    def is_alive(self) -> bool:
        """Whether the connection still has the transaction of the whole test."""
        ...

    def require_alive(self) -> None:
        """Raise `InterfaceError` if it has not."""
        ...

    def lend(self, lease: Lease) -> Connection:
        """Return the connection when it is the turn of *lease*."""
        ...

    def take_back(self, lease: Lease) -> None:
        """Let the next one have its turn."""
        ...

    def reset_later(self, statements: Batch) -> None:
        """Send *statements* before the next one who is in no transaction sends something."""
        ...

    def note(self, error: BaseException, *, is_fatal: bool = False) -> None:
        """Look whether *error* has taken the transaction of the whole test with it; *is_fatal*: it has."""
        ...


class _Limited(Protocol):
    """A connection to SQLite."""

    def limit(self, limits: Any) -> None:
        """Let *limits*, the parameters of a BEGIN, hold from here on; None: none."""
        ...


class _Step(NamedTuple):
    """One statement of a session, and what is sent in its place; the reply to it is that to *sent[answer]*."""

    statement: Statement
    sent: Batch
    answer: int | None = None
    command: str | None = None  # the reply, where there is no other

    def reply(self, replies: Sequence[Result]) -> Result:
        """Return the reply to the statement, with those to what was *sent*."""
        return Result([], 0, (), self.command) if self.answer is None else replies[self.answer]


class Lease:
    """A `Connection` for one session at a time. Its transactions lie above the floor."""

    def __init__(self, lender: Lender) -> None:
        self._lender = lender
        self._connection: Connection | None = None  # as soon as something was sent
        self._open = False
        self._ended: str | None = None  # why nothing can be sent any more
        self._limited = False
        self._takes_back: tuple[Statement, ...] = ()  # what ends what holds for the transaction alone
        self._sets = False  # something was set until the connection goes back
        self._unchecked = False  # foreign keys were turned off
        self._dangling = 0  # rows that referred to nothing before the transaction
        self._begun = 0  # transactions
        self.is_abandoned = False

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction was begun here and has not ended (a failed one counts)."""
        return self._open

    @property
    def usable(self) -> bool:
        """Whether something can be sent."""
        return self._ended is None and self._lender.is_alive

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* as a connection of its own would; it counts as that would count.

        Raises:
            NotSupportedError: it is not possible within one transaction for all; or another session of this
                thread is in a transaction.
            PoolTimeout: one of another thread is, and does not end.
            DatabaseError: as for any connection.
        """
        if not batch:
            return []
        if self._ended is not None:
            raise InterfaceError(self._ended)
        if not self._lender.is_alive and batch[0].kind is Kind.ROLLBACK:  # that has happened
            self._open = False
            self._lender.take_back(self)
            return [Result([], 0, (), "ROLLBACK")]
        require_transaction(batch, self._open)
        self._require_possible(batch)
        connection = self._connection = self._lender.lend(self)
        counters = self._lender.counters
        before = counters.statements, counters.round_trips, counters.transactions - self._begun
        try:
            with self._lender.busy:
                self._lender.require_alive()
                return run(self._translated(batch), connection)
        except Exception:
            raise
        except BaseException:
            self._open = True  # nobody knows what was done: it has to be undone when this is given back
            raise
        finally:
            counters.statements, counters.round_trips = before[0] + len(batch), before[1] + 1
            counters.transactions = before[2] + self._begun
            if not self._open:
                self._lender.take_back(self)

    def close(self) -> None:
        """Close the link: what is not committed is rolled back."""
        self.give_back("this connection is closed")

    def give_back(self, reason: str = "this connection was given back") -> None:
        """Leave the connection as it was found; nothing can be sent any more."""
        if self._ended is not None:
            return
        self._ended = reason
        if self._sets:
            self._lender.reset_later((Statement("PRAGMA query_only = OFF"),) if self._lender.is_sqlite else _RESET)
        if self._open and self._lender.is_alive:
            connection = self._lender.lend(self)
            counters = self._lender.counters
            before = counters.statements, counters.round_trips
            try:
                with self._lender.busy:
                    if self._lender.is_alive:
                        run(self._cleared(), connection)
            except BaseException as error:
                self._lender.note(error, is_fatal=True)  # whoever asks next is told
                if not isinstance(error, Exception):
                    raise
            finally:
                counters.statements, counters.round_trips = before
                self._lender.take_back(self)
        self._open = False

    def abandon(self) -> None:
        """Give everything up; whoever has the next turn clears up. Sends nothing, takes no lock."""
        self._ended = "the session of this connection is gone"
        self.is_abandoned = True

    def limit(self, limits: Any) -> None:
        """Pass the limits of a transaction within on to the connection."""
        connection: Any = self._connection
        limited: _Limited = connection
        limited.limit(limits)

    # --- flows ------------------------------------------------------------------------------------

    def _translated(self, batch: Batch) -> Flow[list[Result]]:
        """Send what stands for *batch*, and return the replies as the session expects them.

        SQLite has no network to save trips on, and is asked for dangling references in between.
        """
        steps = self._steps(batch)
        groups = [[step] for step in steps] if self._lender.is_sqlite else [steps]
        results: list[Result] = []
        for group in groups:
            try:
                replies = yield from (self._one_by_one(group[0]) if self._lender.is_sqlite else _at_once(group))
            except Exception as error:
                answered = yield from self._failed(error, group, results)
                if answered is not None:
                    return answered
                raise
            results += self._done(group, replies)
        return results

    def _done(self, steps: list[_Step], replies: Sequence[Result]) -> list[Result]:
        """Note that *steps* were done, and return the replies to them."""
        results: list[Result] = []
        place = 0
        for step in steps:
            results.append(step.reply(replies[place : place + len(step.sent)]))
            place += len(step.sent)
            self._moved(step.statement)
        return results

    def _moved(self, statement: Statement) -> None:
        """Note where the transaction stands behind *statement*."""
        kind = statement.kind
        if kind is Kind.BEGIN:
            self._open = True
            self._begun += 1
        elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
            self._open = False
            self._unlimit()
            self._takes_back = ()

    def _failed(self, error: Exception, steps: list[_Step], before: list[Result]) -> Flow[list[Result] | None]:
        """Bring everything up to where a connection of its own would stand behind *error*.

        Returns the replies, if it is one to a session that would have got replies.
        """
        replies: Sequence[Result] = error.results if isinstance(error, OrmError) else ()
        done = list[_Step]()
        while len(done) < len(steps) and sum(len(step.sent) for step in [*done, steps[len(done)]]) <= len(replies):
            done.append(steps[len(done)])
        results = [*before, *self._done(done, replies)]
        step = steps[min(len(done), len(steps) - 1)]
        failing = getattr(error, "statement", None)
        kind = step.statement.kind
        self._lender.note(error, is_fatal=kind is Kind.ROLLBACK)
        if isinstance(error, OrmError):
            error.results = results
            if failing is not None and failing is not step.statement:
                error.statement, error.sql = step.statement, step.statement.sql  # type: ignore[attr-defined]
        if kind is Kind.ROLLBACK and not self._lender.is_alive:
            self._open = False
            return [*results, Result([], 0, (), "ROLLBACK")]
        if not self._lender.is_alive:
            return None
        if kind is Kind.COMMIT and self._lender.is_sqlite:
            return None  # the transaction is open as before
        if kind is Kind.BEGIN or kind is Kind.COMMIT or not self._open:
            try:
                yield from execute(self._lender.floor.back)
            except Exception as second:  # the first error counts
                self._lender.note(second, is_fatal=True)
            self._open = False
            self._takes_back = ()
        if kind is Kind.COMMIT and isinstance(error, SessionDoomed):  # as a server that has aborted the transaction
            return [*results, Result([], 0, (), "ROLLBACK")]
        return None

    def _cleared(self) -> Flow[None]:
        """Undo the open transaction."""
        yield from execute(*self._rolling_back())
        self._unlimit()

    # --- SQLite -----------------------------------------------------------------------------------

    def _one_by_one(self, step: _Step) -> Flow[list[Result]]:
        """Send what stands for a statement, and check references where SQLite would, at the end of a transaction."""
        statement = step.statement
        if statement.kind is Kind.BEGIN and statement.params is not None:
            self.limit(statement.params)
            self._limited = True
        release = self._lender.floor.release
        if statement.kind is Kind.BEGIN or (release in step.sent and statement.kind is not Kind.COMMIT):
            self._dangling = yield from self._count_dangling()
        replies: list[Result] = []
        for each in step.sent:
            if each is release and not self._unchecked and (yield from self._count_dangling()) > self._dangling:
                raise TransactionIntegrityError("FOREIGN KEY constraint failed", statement=statement, sql=statement.sql)
            replies += yield from execute(each)
        return replies

    def _count_dangling(self) -> Flow[int]:
        """Count the rows that refer to nothing, if references may be checked at the end of the transaction only."""
        if not (yield from execute(_MAY_DEFER))[0].rows[0][0] and not (yield from execute(_IS_DEFERRING))[0].rows[0][0]:
            return 0
        return len((yield from execute(_DANGLING))[0].rows)

    def _unlimit(self) -> None:
        if self._limited and self._lender.is_alive:
            self.limit(None)
        self._limited = False

    # --- translation ------------------------------------------------------------------------------

    def _require_possible(self, batch: Batch) -> None:
        """Refuse what would not be undone, or would not do what it should, within a transaction.

        Raises:
            NotSupportedError: there is such a statement in *batch*.
        """
        is_open = self._open
        for statement in batch:
            kind = statement.kind
            if kind is Kind.BEGIN:
                is_open = True
                if self._lender.is_sqlite and not getattr(statement.params, "foreign_keys", True):
                    raise NotSupportedError(
                        "db_session(ddl=True) turns SQLite's foreign keys off, which is not possible within "
                        "rolled_back() (db_rollback): the whole test is one transaction there. Test schema changes on "
                        "a database of their own, without it",
                        statement=statement,
                    )
            elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
                is_open = False
            elif kind is Kind.RAW and not is_open and counts_as_write(statement.sql):
                raise NotSupportedError(
                    "execute(..., autocommit=True) runs outside any transaction, so rolled_back() (db_rollback) could "
                    "not undo it: test it without",
                    statement=statement,
                )

    def _steps(self, batch: Batch) -> list[_Step]:
        """Return what is to be sent for each statement of *batch*."""
        is_open = self._open
        steps: list[_Step] = []
        for statement in batch:
            kind = statement.kind
            if kind is Kind.BEGIN:
                is_open = True
                steps.append(_Step(statement, self._beginning(statement), None, "BEGIN"))
            elif kind is Kind.COMMIT and is_open:
                is_open = False
                steps.append(_Step(statement, self._committing(), None, "COMMIT"))
            elif kind is Kind.ROLLBACK:
                steps.append(_Step(statement, self._rolling_back() if is_open else (), None, "ROLLBACK"))
                is_open = False
            elif kind in (Kind.COMMIT, Kind.SAVEPOINT, Kind.ROLLBACK_TO) and not is_open:
                raise InterfaceError(f"{statement.sql} outside a transaction", statement=statement)
            else:
                steps.append(self._plain(statement, is_open=is_open))
        return steps

    def _plain(self, statement: Statement, *, is_open: bool) -> _Step:
        """Return what is to be sent for a *statement* that does not move the transaction."""
        sql = statement.sql
        kind = statement.kind
        if kind is Kind.RAW:
            self._sets = self._sets or _SETS.search(sql) is not None
            if is_open and self._lender.is_sqlite and "defer_foreign_keys" in sql:
                self._takes_back = (_DEFERRING["ON"],)
            elif is_open and not self._lender.is_sqlite and _SETS_LOCALLY.search(sql):
                self._takes_back = (*self._takes_back, *_RESET)
        elif kind is Kind.WRITE and (setting := _SET_LOCAL.match(sql)):
            reset = Statement(f"SET LOCAL {setting[1]} TO DEFAULT", kind=Kind.WRITE)
            self._takes_back = (*self._takes_back, reset)
        elif kind is Kind.CURSOR and not self._lender.is_sqlite and _CLOSE_ALL not in self._takes_back:
            self._takes_back = (*self._takes_back, _CLOSE_ALL)  # or no table that it reads can be altered
        elif kind is Kind.READ and (keys := _FOREIGN_KEYS.fullmatch(sql)) and not is_open:
            self._unchecked = keys[1] == "OFF"
            return _Step(statement, (_DEFERRING[keys[1]],), 0)
        if is_open or kind is Kind.READ or kind is Kind.CURSOR:
            return _Step(statement, (statement,), 0)
        return _Step(statement, (statement, *self._committing()), 0)

    def _beginning(self, statement: Statement) -> Batch:
        """Return what begins a transaction.

        The floor is there. PostgreSQL sets it anew, so that what a function has written that was called by a query
        before counts as committed, and so that the batch is none of a single statement, which may do more.
        """
        floor = self._lender.floor
        if self._lender.is_sqlite:
            return ()
        return (floor.release, floor.set, *[_READ_ONLY] * ("READ ONLY" in statement.sql))

    def _rolling_back(self) -> Batch:
        """Return what undoes all that was done above the floor."""
        back = self._lender.floor.back
        return (back, *self._takes_back) if self._lender.is_sqlite else (back,)  # no ROLLBACK takes back a PRAGMA

    def _committing(self) -> Batch:
        """Return what lets all that was done above the floor count as committed."""
        floor = self._lender.floor
        if self._lender.is_sqlite:
            return (floor.release, *self._takes_back, floor.set)
        return (_CHECK, floor.release, *self._takes_back, *_DEFER, floor.set)


def _at_once(steps: list[_Step]) -> Flow[list[Result]]:
    """Send what stands for all *steps* in one round trip."""
    sent = tuple([statement for step in steps for statement in step.sent])
    if len(steps) == 1 and len(sent) > 1 and sent[0].kind is Kind.RAW:  # several in one text cannot share a round trip
        return [*(yield from execute(sent[0])), *(yield from execute(*sent[1:]))]
    return (yield from execute(*sent)) if sent else []
