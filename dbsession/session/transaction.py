"""Transactions: when BEGIN is sent, what a failure means, and what COMMIT has to answer.

How to read it: `Transaction` has four flows. `read` and `write` add to the batch what is due before
it (BEGIN, SAVEPOINT, ROLLBACK TO of an inner scope that has failed); `commit` sends the last
statements and COMMIT together and believes the server's command tag only; `rollback` ends whatever
is open. A failure that the server's transaction does not survive *dooms* it: from then on only
`rollback` works, so that nothing that was lost is reported as saved. A failure behind the SAVEPOINT
of an inner scope dooms that scope alone, unless it is one that a savepoint does not cure.

=========  ==========================================  ==========================================
phase      what may be sent                            how it is left
=========  ==========================================  ==========================================
IDLE       reads in autocommit; anything else begins   BEGIN -> OPEN
OPEN       everything                                  COMMIT, ROLLBACK -> IDLE; failure -> DOOMED
DOOMED     nothing                                     ROLLBACK -> IDLE
=========  ==========================================  ==========================================

A cursor needs a transaction on PostgreSQL. One that was begun for cursors alone ends with the last of
them, if nothing else has come of it.

The marks of the inner scopes lie upon OPEN and IDLE like a stack; those set in the database are the
lower ones.

PostgreSQL: 49.3 "Message Flow" (COMMIT of a failed transaction answers with the tag ROLLBACK).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import Enum

from dbsession.backends.base import Dialect, TransactionMode
from dbsession.backends.flow import Flow, execute
from dbsession.backends.statements import Batch, Kind, Result, Statement
from dbsession.errors import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    DeadlockDetected,
    OrmError,
    RollbackException,
    SerializationConflict,
    SessionDoomed,
    TransactionError,
    TransactionIntegrityError,
)
from dbsession.session.marks import Mark

__all__ = ["COMMIT", "ROLLBACK", "Phase", "Transaction", "TransactionPolicy"]

COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)
_CHECK_FOREIGN_KEYS = Statement("PRAGMA foreign_key_check", returns=True)

# What took the whole transaction with it: no savepoint cures these. (A snapshot is the transaction's.)
_INCURABLE = (ConnectionLost, DeadlockDetected, SerializationConflict, SessionDoomed)


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

    __slots__ = (
        "_dialect",
        "_due",
        "_is_for_cursors",
        "first_error",
        "is_committing",
        "marks",
        "open_cursors",
        "phase",
        "policy",
        "reads_wait",
        "require_free",
        "wrote",
    )

    def __init__(self, dialect: Dialect, policy: TransactionPolicy) -> None:
        self._dialect = dialect
        self.policy = policy
        self.phase = Phase.IDLE
        self.first_error: BaseException | None = None
        self.wrote = False  # something was sent that is not committed: what is loaded now may be rolled back
        self.marks: list[Mark] = []
        self.is_committing = False  # COMMIT is under way, or done, and the objects do not show it yet
        self.open_cursors = 0
        self._is_for_cursors = False  # begun for cursors, and used for nothing but reads
        # RELEASE and ROLLBACK TO of inner scopes that have ended, CLOSE of cursors; they travel with what follows.
        self._due: Batch = ()
        # Raises if an outer scope is in the way of a read, or (True) of a write.
        self.require_free: Callable[[bool], None] | None = None
        self.reads_wait = False  # reads have to be asked about, too

    def _begin(self, *, nowait: bool = False) -> Batch:
        """Return what is to be sent before the first statement; nothing if the transaction is open."""
        if self.phase is not Phase.IDLE:
            return ()
        self._require_free()
        mode = self.policy.mode
        return self._dialect.begin(replace(mode, nowait=True) if nowait else mode)

    def require_usable(self) -> None:
        """Raise `SessionDoomed` if the transaction, or the inner scope that it stands in, is lost."""
        if self.phase is Phase.DOOMED:
            first = self.first_error
            if self.is_unknown:
                raise SessionDoomed(
                    "nobody knows whether the last commit of this session was done, so nothing can be done on top of "
                    "it - look at the data in another scope; call rollback() or leave this one before anything else"
                ) from first
            raise SessionDoomed(
                f"the transaction was rolled back because of {type(first).__name__}: {first} "
                f"- call rollback() or leave the scope before anything else"
            ) from first
        for mark in self.marks:
            if mark.error is not None:
                raise SessionDoomed(
                    f"the work of the inner db_session is undone because of {type(mark.error).__name__}: {mark.error} "
                    f"- leave the inner scope before anything else; the outer one can go on"
                ) from mark.error

    # --- inner scopes -------------------------------------------------------------------------

    def enter(self, *, read_only: bool) -> Mark:
        """Open the savepoint of an inner scope; nothing is sent before it is needed."""
        within = self.marks[-1].read_only if self.marks else False  # holds for every scope in it
        mark = Mark(len(self.marks) + 1, read_only=read_only or within)
        self.marks.append(mark)
        return mark

    def release(self, mark: Mark) -> None:
        """Leave what was done since *mark*, the innermost, to the scope around it."""
        self.marks.remove(mark)
        if mark.wrote and self.marks:
            self.marks[-1].wrote = True
        if mark.is_set and self.phase is Phase.OPEN:
            self._due = (*self._due, mark.release)

    def rollback_to(self, mark: Mark) -> None:
        """Undo what was done since *mark*, the innermost; ROLLBACK TO travels with the next statement."""
        self.marks.remove(mark)
        mark.is_undone = True
        if mark.is_set and self.phase is Phase.OPEN:
            self._due = (mark.rollback, mark.release)

    def _unset(self, *, writes: bool) -> Batch:
        """Return the SAVEPOINTs to be set before a statement: on PostgreSQL a failed read needs them, too."""
        if not self.marks or not (writes or (self.phase is Phase.OPEN and not self._dialect.survives_errors)):
            return ()
        return tuple([mark.begin for mark in self.marks if not mark.is_set])

    # --- statements ---------------------------------------------------------------------------

    def read(self, *statements: Statement, for_cursor: bool = False) -> Flow[list[Result]]:
        """Send statements that change nothing: in autocommit where no transaction is open or wanted.

        *for_cursor*: they open a cursor that needs a transaction.
        """
        self.require_usable()
        begin = self._begin() if self.policy.immediate or for_cursor else ()
        if begin:
            self._is_for_cursors = not self.policy.immediate
        if self.reads_wait and self.require_free is not None and self.phase is Phase.IDLE and not begin:
            self.require_free(False)
        savepoints = self._unset(writes=bool(begin)) if self.marks else ()
        return (yield from self._send(statements, savepoints, begin, is_flush=False))

    def write(
        self, *statements: Statement, is_flush: bool = True, sets_marks: bool = False, nowait: bool = False
    ) -> Flow[list[Result]]:
        """Send statements that may change something, within a transaction.

        *is_flush*: they are the session's own, and their failure dooms it on every database.
        *sets_marks*: the SAVEPOINTs that are due stand among them, or in a later batch; whose work is sent is noted.
        *nowait*: a BEGIN that takes a lock (SQLite's) does not wait for it.
        """
        self.require_usable()
        begin = self._begin(nowait=nowait)
        self._is_for_cursors = False
        if is_flush or statements[0].kind not in (Kind.READ, Kind.CURSOR):  # a lock is no write
            self.wrote = True
            if self.marks and not sets_marks:
                self.marks[-1].wrote = True
        savepoints = self._unset(writes=True) if self.marks and not sets_marks else ()
        return (yield from self._send(statements, savepoints, begin, is_flush=is_flush))

    def _send(
        self, statements: tuple[Statement, ...], savepoints: Batch, begin: Batch, *, is_flush: bool
    ) -> Flow[list[Result]]:
        before = (*begin, *self._due, *savepoints)
        batch = (*before, *statements) if before else statements
        if begin:
            self.phase = Phase.OPEN
        try:
            results = yield from execute(*batch)
        except Exception as error:
            if begin and self._never_began(error, begin):
                self.phase = Phase.IDLE
                self.wrote = False
                raise
            self._trim(error, batch, len(before))
            yield from self._failed(error, is_flush=is_flush)
            raise
        except BaseException as error:
            self.interrupted(error)
            raise
        if before or self.marks:
            self._note_done(batch)
        return results[len(before) :] if before else results

    def close_cursor(self, closing: Statement | None) -> None:
        """Let *closing*, if there is something to be sent to close a cursor, travel with what follows."""
        if closing is not None and self.phase is Phase.OPEN:
            self._due = (*self._due, closing)

    def end_reading(self) -> Flow[None]:
        """Commit a transaction that was begun for cursors alone, when the last of them is closed."""
        if not self._is_for_cursors or self.open_cursors or self.marks or self.phase is not Phase.OPEN:
            return
        try:
            results = yield from execute(COMMIT)
        except Exception as error:
            yield from self.doom(error)
            raise
        except BaseException as error:
            self.interrupted(error)
            raise
        self._verify(results[0])
        self._ended()

    def _require_free(self) -> None:
        if self.require_free is not None:
            self.require_free(self.policy.mode.write)

    @staticmethod
    def _never_began(error: Exception, begin: Batch) -> bool:
        """Tell whether *error*, of a batch with *begin*, came before the transaction was open."""
        failing = getattr(error, "statement", None)
        if isinstance(error, OrmError) and any(failing is statement for statement in begin):
            error.nothing_sent = True
        return getattr(error, "nothing_sent", False)

    def _trim(self, error: Exception, batch: Batch, before: int) -> None:
        """Note what of *batch* was done before *error*; its `results` are those of the statements asked for."""
        failing = getattr(error, "statement", None)
        places = [place for place, statement in enumerate(batch) if statement is failing]
        if places and not isinstance(error, ConnectionLost):
            self._note_done(batch[: places[0]])
        if isinstance(error, OrmError):
            error.results = error.results[before:]

    def _note_done(self, batch: Batch) -> None:
        """Note which SAVEPOINTs are set now."""
        self._due = ()
        if self.marks:
            done = {id(statement) for statement in batch if statement.kind is Kind.SAVEPOINT}
            for mark in self.marks:
                if id(mark.begin) in done:
                    mark.is_set = True

    def _failed(self, error: Exception, *, is_flush: bool) -> Flow[None]:
        if self.phase is not Phase.OPEN or getattr(error, "nothing_sent", False):
            return  # autocommit: the statement was a transaction of its own
        survives = self._dialect.survives_errors and not isinstance(error, (SessionDoomed, ConnectionLost))
        if not is_flush and survives and not getattr(error, "transaction_lost", False):
            return
        inner = [mark for mark in self.marks if mark.is_set]
        if inner and not isinstance(error, _INCURABLE) and not getattr(error, "transaction_lost", False):
            inner[-1].error = error
        else:
            yield from self.doom(error)

    @property
    def doomed_mark(self) -> Mark | None:
        """The savepoint whose work is lost while the transaction is not, if there is one."""
        if self.phase is not Phase.OPEN:
            return None
        return next((mark for mark in self.marks if mark.error is not None), None)

    def blame(self, error: BaseException) -> None:
        """Let *error*, which says more, be the reason of what is doomed."""
        for mark in self.marks:
            if mark.error is not None:
                mark.error = error
        if self.phase is Phase.DOOMED:
            self.first_error = error

    def fail(self, error: BaseException, mark: Mark | None) -> Flow[None]:
        """Doom the inner scope of *mark* (None: everything) because of *error*, which is not the database's."""
        if mark is not None and self.phase is not Phase.DOOMED:
            mark.error = mark.error or error
        else:
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

    def interrupted(self, error: BaseException) -> None:
        """Refuse everything until `rollback`, since nobody knows what of a batch was done before *error*.

        It is a KeyboardInterrupt or its like. Nothing can be sent over that connection any more; the database
        rolls back when it is closed. If a COMMIT was under way, it may be done.
        """
        self.phase = Phase.DOOMED
        self.first_error = error
        if self.is_committing:
            self.first_error = CommitOutcomeUnknown(
                f"the commit was interrupted by {type(error).__name__}, so nobody here knows whether the work was saved"
            )
            self.first_error.__cause__ = error

    @property
    def is_unknown(self) -> bool:
        """Whether nobody knows if the last commit was done."""
        return isinstance(self.first_error, CommitOutcomeUnknown)

    def ask(self, statement: Statement) -> Flow[Result]:
        """Send a read that is to explain a failure, from what that has left of the transaction."""
        doomed = self.doomed_mark
        if doomed is not None:
            return (yield from execute(doomed.rollback, statement))[1]
        return (yield from execute(statement))[0]

    # --- its ends -----------------------------------------------------------------------------

    def commit(self, *statements: Statement) -> Flow[list[Result]]:
        """Send *statements* and end the transaction; on return all of it is committed, verifiably.

        Raises:
            SessionDoomed: the server had rolled back already.
            CommitOutcomeUnknown: the connection broke with COMMIT under way.
            TransactionIntegrityError: a schema change has left references to rows that are not there.
        """
        self.require_usable()
        if self.phase is Phase.IDLE and not statements:
            return []
        if not self.policy.mode.foreign_keys and self._dialect.ddl_is_special:
            replies = (yield from self.write(*statements)) if statements else []
            yield from self._check_foreign_keys()
            yield from self._commit(())
            return replies
        if self.phase is Phase.IDLE and self._may_autocommit(statements):
            return (yield from self._commit_alone(statements[0]))
        return (yield from self._commit(statements))

    def _commit(self, statements: tuple[Statement, ...]) -> Flow[list[Result]]:
        begin = self._begin()
        # COMMIT releases all savepoints.
        before = (*begin, *[statement for statement in self._due if statement.kind is Kind.ROLLBACK_TO])
        self.phase = Phase.OPEN
        self.is_committing = True
        try:
            results = yield from execute(*before, *statements, COMMIT)
        except Exception as error:
            self.is_committing = False
            if begin and self._never_began(error, begin):
                self._ended()
                raise
            yield from self._commit_failed(error)
            raise
        except BaseException as error:
            self.interrupted(error)
            raise
        self._verify(results[-1])
        self._ended()
        return results[len(before) : -1]

    def _check_foreign_keys(self) -> Flow[None]:
        """Look for references to rows that are not there: SQLite did not check them in this transaction."""
        results = yield from execute(*self._due, _CHECK_FOREIGN_KEYS)
        self._due = ()
        broken = results[-1].rows
        if not broken:
            return
        table, row, target, _ = broken[0]
        more = f", and {len(broken) - 1} more" if len(broken) > 1 else ""
        error = TransactionIntegrityError(
            f"the schema change has left rows that refer to nothing: row {row} of {table} refers to {target}{more}; "
            f"nothing was committed",
            table=table,
        )
        yield from self.doom(error)
        raise error

    def _may_autocommit(self, statements: tuple[Statement, ...]) -> bool:
        policy = self.policy
        if len(statements) != 1 or policy.immediate or not policy.autocommit_writes:
            return False
        only = statements[0]
        return only.expect == 1 and not (only.many and len(only.params or ()) != 1)

    def _commit_alone(self, statement: Statement) -> Flow[list[Result]]:
        self._require_free()
        self.is_committing = True
        try:
            results = yield from execute(statement)
        except Exception as error:
            self.is_committing = False
            if getattr(error, "nothing_sent", False):
                raise
            yield from self._commit_failed(error)
            raise
        except BaseException as error:
            self.interrupted(error)
            raise
        self._ended()
        return results

    def _commit_failed(self, error: Exception) -> Flow[None]:
        """Doom the session because of *error*.

        Raises:
            CommitOutcomeUnknown: the reply was lost, and nobody knows whether the commit was done.
        """
        if not (isinstance(error, ConnectionLost) and error.commit_sent):
            yield from self.doom(error)
            return
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
        self._is_for_cursors = False
        self._due = ()
