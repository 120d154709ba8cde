"""Transactions: when BEGIN is sent, what a failure means, and what COMMIT has to answer.

How to read it: `Transaction` has four flows. `read` and `write` add BEGIN to the batch where one is
due; `commit` sends the last statements and COMMIT together and believes the server's command tag
only; `rollback` ends whatever is open. A failure that the server's transaction does not survive
*dooms* it: from then on only `rollback` works, so that nothing that was lost is reported as saved.

=========  ==========================================  ==========================================
phase      what may be sent                            how it is left
=========  ==========================================  ==========================================
IDLE       reads in autocommit; anything else begins   BEGIN -> OPEN
OPEN       everything                                  COMMIT, ROLLBACK -> IDLE; failure -> DOOMED
DOOMED     nothing                                     ROLLBACK -> IDLE
=========  ==========================================  ==========================================

PostgreSQL: 49.3 "Message Flow" (COMMIT of a failed transaction answers with the tag ROLLBACK).
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import NoReturn

from dbsession.backends.base import Dialect, TransactionMode
from dbsession.backends.flow import Flow, execute
from dbsession.backends.statements import Kind, Result, Statement
from dbsession.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    OrmError,
    RollbackException,
    SessionDoomed,
    TransactionError,
)

__all__ = ["COMMIT", "ROLLBACK", "Phase", "Transaction", "TransactionPolicy"]

COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)


class Phase(Enum):
    """Where a transaction stands."""

    IDLE = "idle"
    OPEN = "open"
    DOOMED = "doomed"


@dataclass(frozen=True)
class TransactionPolicy:
    """What a session wants of its transactions.

    `immediate`: BEGIN goes with the first statement, reads too. `autocommit_writes`: a commit that
    is a single statement for a single row may go without BEGIN and COMMIT, since autocommit makes it
    a transaction of its own; off where a lost reply has to be resolved later.
    """

    mode: TransactionMode = field(default_factory=TransactionMode)
    immediate: bool = False
    autocommit_writes: bool = True


class Transaction:
    """The transaction of one unit of work."""

    __slots__ = ("_begin", "_dialect", "first_error", "phase", "policy", "wrote")

    def __init__(self, dialect: Dialect, policy: TransactionPolicy) -> None:
        self._dialect = dialect
        self.policy = policy
        self._begin = dialect.begin(policy.mode)
        self.phase = Phase.IDLE
        self.first_error: BaseException | None = None
        self.wrote = False  # something was sent that is not committed: what is loaded now may be rolled back

    def require_usable(self) -> None:
        """Raise `SessionDoomed` if the transaction is lost."""
        if self.phase is Phase.DOOMED:
            first = self.first_error
            if isinstance(first, CommitOutcomeUnknown):
                raise SessionDoomed(
                    "nobody knows whether the last commit of this session was done, so nothing can be done on top of "
                    "it - look at the data in another scope; call rollback() or leave this one before anything else"
                ) from first
            raise SessionDoomed(
                f"the transaction was rolled back because of {type(first).__name__}: {first} "
                f"- call rollback() or leave the scope before anything else"
            ) from first

    def read(self, *statements: Statement) -> Flow[list[Result]]:
        """Send statements that change nothing: in autocommit where no transaction is open or wanted."""
        self.require_usable()
        begins = self.phase is Phase.IDLE and self.policy.immediate
        return (yield from self._send(statements, begins=begins, is_flush=False))

    def write(self, *statements: Statement, is_flush: bool = True) -> Flow[list[Result]]:
        """Send statements that may change something, within a transaction.

        *is_flush*: they are the session's own, and their failure dooms it on every database.
        """
        self.require_usable()
        if is_flush or statements[0].kind is not Kind.READ:  # a lock is no write
            self.wrote = True
        return (yield from self._send(statements, begins=self.phase is Phase.IDLE, is_flush=is_flush))

    def _send(self, statements: tuple[Statement, ...], *, begins: bool, is_flush: bool) -> Flow[list[Result]]:
        batch = (*self._begin, *statements) if begins else statements
        if begins:
            self.phase = Phase.OPEN
        try:
            results = yield from execute(*batch)
        except Exception as error:
            if begins and self._never_began(error):
                self.phase = Phase.IDLE
                raise
            yield from self._failed(error, is_flush=is_flush)
            raise
        return results[len(self._begin) :] if begins else results

    def _never_began(self, error: Exception) -> bool:
        """Tell whether *error*, of a batch with BEGIN, came before the transaction was open."""
        return getattr(error, "nothing_sent", False) or any(
            getattr(error, "statement", None) is begin for begin in self._begin
        )

    def _failed(self, error: Exception, *, is_flush: bool) -> Flow[None]:
        if self.phase is not Phase.OPEN:
            return  # autocommit: the statement was a transaction of its own
        survives = self._dialect.name == "sqlite" and not isinstance(error, (SessionDoomed, ConnectionLost))
        if is_flush or not survives:
            yield from self.doom(error)

    def doom(self, error: BaseException) -> Flow[None]:
        """Roll back at once, and refuse everything until `rollback`, naming *error* as the reason."""
        if self.phase is Phase.DOOMED:
            return
        was_open = self.phase is Phase.OPEN
        self.phase = Phase.DOOMED
        self.first_error = error
        if was_open:
            try:
                yield from execute(ROLLBACK)
            except Exception as second:  # the first error counts; the link is discarded by whoever owns it
                if not isinstance(error, ConnectionLost):
                    error.add_note(f"and ROLLBACK failed: {second}")

    def commit(self, *statements: Statement) -> Flow[list[Result]]:
        """Send *statements* and end the transaction; on return all of it is committed, verifiably.

        Raises:
            SessionDoomed: the server had rolled back already.
            CommitOutcomeUnknown: the connection broke with COMMIT under way.
        """
        self.require_usable()
        if self.phase is Phase.IDLE and not statements:
            return []
        if self.phase is Phase.IDLE and self._may_autocommit(statements):
            return (yield from self._commit_alone(statements[0]))
        begins = self.phase is Phase.IDLE
        batch = (*self._begin, *statements, COMMIT) if begins else (*statements, COMMIT)
        self.phase = Phase.OPEN
        try:
            results = yield from execute(*batch)
        except Exception as error:
            if begins and self._never_began(error):
                self._ended()
                raise
            if isinstance(error, ConnectionLost):
                self._unknown(error)
            yield from self.doom(error)
            raise
        self._verify(results[-1])
        self._ended()
        return results[len(self._begin) : -1] if begins else results[:-1]

    def _may_autocommit(self, statements: tuple[Statement, ...]) -> bool:
        policy = self.policy
        if len(statements) != 1 or policy.immediate or not policy.autocommit_writes:
            return False
        only = statements[0]
        return only.expect == 1 and not (only.many and len(only.params or ()) != 1)

    def _commit_alone(self, statement: Statement) -> Flow[list[Result]]:
        try:
            return (yield from execute(statement))
        except Exception as error:
            if getattr(error, "nothing_sent", False):
                raise
            if isinstance(error, ConnectionLost):
                self._unknown(error)
            yield from self.doom(error)
            raise

    def _unknown(self, error: ConnectionLost) -> NoReturn:
        """Raise `CommitOutcomeUnknown`, and let nothing be done on top of that commit."""
        unknown = CommitOutcomeUnknown(
            f"the connection broke while the commit was under way, so nobody here knows whether the work was "
            f"saved ({error}); look at the data before doing it again",
            original_exc=error.original_exc,
        )
        self.phase = Phase.DOOMED
        self.first_error = unknown
        raise unknown from error

    def _verify(self, reply: Result) -> None:
        """Believe nothing but the tag: COMMIT of a transaction that had failed answers ROLLBACK, without an error."""
        if reply.command in (None, "COMMIT"):
            return
        self.phase = Phase.DOOMED
        self.first_error = TransactionError(f"the server answered COMMIT with {reply.command}")
        raise SessionDoomed(
            f"nothing was committed: the server answered COMMIT with {reply.command}, because a statement of the "
            f"transaction had failed before; let the error of that statement leave the scope, or call rollback()"
        )

    def rollback(self) -> Flow[None]:
        """End what is open without saving; sends nothing where nothing is.

        Raises:
            RollbackException: the database did not answer as it should; the link must be discarded.
        """
        is_open = self.phase is Phase.OPEN
        self._ended()
        if is_open:
            try:
                yield from execute(ROLLBACK)
            except (OrmError, DatabaseError) as error:
                raise RollbackException(f"ROLLBACK failed: {error}") from error

    def _ended(self) -> None:
        self.phase = Phase.IDLE
        self.first_error = None
        self.wrote = False
