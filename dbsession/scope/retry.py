"""Retry: which errors are worth another run, how long to wait before it, and the two ways to run again.

A function runs again in `rerun` (the decorator), a block in a loop over `Attempts`. Both ask a `Runs`
whether to go on. Every run has a session of its own, and the wait stands between two of them: the
connection has gone back, nothing is locked.

The wait has *full jitter*: it is drawn evenly between nothing and a limit that doubles with each
run, so that two transactions that met do not meet again (AWS Architecture Blog, "Exponential
Backoff And Jitter").
"""

from __future__ import annotations

import random
import sys
import time
import warnings
from collections.abc import Callable, Iterator
from enum import Enum
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol, TypeVar

from dbsession.errors import (
    CommitException,
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseSessionIsOver,
    DeadlockDetected,
    InvalidRequestError,
    LockNotAvailable,
    NoScopeError,
    OptimisticCheckError,
    OrmError,
    PartialCommitException,
    PoolTimeout,
    ReplayDiverged,
    RollbackException,
    SerializationConflict,
    SessionDoomed,
    TransactionIntegrityError,
    UnexpectedError,
    UnrepeatableReadError,
    UnresolvableCyclicDependency,
)
from dbsession.scope import stack
from dbsession.scope.loops import goes_on
from dbsession.session.core import SessionCore
from dbsession.session.options import Nesting, Options, RetryPolicy
from dbsession.session.session import Session

__all__ = [
    "POLICY",
    "Again",
    "Attempt",
    "Attempts",
    "Case",
    "Runs",
    "Scope",
    "listeners",
    "may_retry",
    "rerun",
    "warn_ignored",
    "will_join",
]

R = TypeVar("R")

listeners: list[Callable[[Exception], None]] = []
"""Called with the error of each run after which there is to be another one: tests count retries by it."""


# --- which errors -----------------------------------------------------------------------------------------


class Again(Enum):
    """Whether an error lets work run again."""

    YES = "by default"
    CAUSE = "if the error that it came from does"
    NEVER = "never, whatever retry_exceptions says"


class Case(NamedTuple):
    """What is known of one kind of error; SQLSTATEs of two characters are classes, SQLite's codes extended ones."""

    error: type[OrmError]
    sqlstates: tuple[str, ...]
    sqlite: tuple[int, ...]
    again: Again
    why: str


POLICY: Final = (
    Case(SerializationConflict, ("40001",), (517,), Again.YES, "a concurrent transaction was faster"),
    Case(DeadlockDetected, ("40P01",), (), Again.YES, "the other one of the deadlock goes on"),
    Case(LockNotAvailable, ("55P03",), (5, 6, 15, 261, 262), Again.YES, "the lock will be free"),
    Case(
        ConnectionLost,
        ("08", "25P03", "25P04", "57P01", "57P02", "57P03", "57P05"),
        (),
        Again.YES,
        "nothing was committed, and a new connection may work",
    ),
    Case(PoolTimeout, (), (), Again.YES, "nothing was sent"),
    Case(TransactionIntegrityError, ("23", "40002", "44"), (19,), Again.YES, "what was looked for may be there now"),
    Case(OptimisticCheckError, (), (), Again.YES, "somebody else was faster"),
    Case(UnrepeatableReadError, (), (), Again.YES, "somebody else was faster"),
    Case(ReplayDiverged, (), (), Again.YES, "somebody else was faster"),
    Case(UnexpectedError, (), (), Again.YES, "it may pass"),
    Case(RollbackException, (), (), Again.YES, "the connection was discarded, and nothing was committed"),
    Case(SessionDoomed, (), (), Again.CAUSE, "the first error counts"),
    Case(PartialCommitException, (), (), Again.NEVER, "a part would be saved twice"),
    Case(CommitException, (), (), Again.YES, "nothing was committed"),
    Case(CommitOutcomeUnknown, (), (), Again.NEVER, "all of it might be saved twice"),
    Case(DatabaseSessionIsOver, (), (), Again.NEVER, "the program uses an object of an earlier scope"),
    Case(InvalidRequestError, (), (), Again.NEVER, "the program would do the same again"),
    Case(UnresolvableCyclicDependency, (), (), Again.NEVER, "the rows would depend on each other again"),
)
"""All errors below `TransactionError`, which is what is retried by default; the most special class comes first.

Everything else (`DataError`, `ProgrammingError`, ``57014`` of a statement timeout, a full disk, ...) runs again
only if ``retry_exceptions`` names it. What is no `Exception` (KeyboardInterrupt, SystemExit, GeneratorExit,
cancellation) never does.

=========================  ======================================  ========================  =====================
error                      SQLSTATE                                SQLite                    retried
=========================  ======================================  ========================  =====================
SerializationConflict      40001                                   517 (BUSY_SNAPSHOT)       yes
DeadlockDetected           40P01                                                             yes
LockNotAvailable           55P03                                   5 (BUSY), 6 (LOCKED),     yes
                                                                   15, 261, 262
ConnectionLost             08..., 25P03, 25P04, 57P01, 57P02,                                yes (with COMMIT under
                           57P03, 57P05                                                      way it is a
                                                                                             CommitOutcomeUnknown)
TransactionIntegrityError  23..., 40002, 44...                     19 (CONSTRAINT)           yes
=========================  ======================================  ========================  =====================
"""

_NEVER = tuple(case.error for case in POLICY if case.again is Again.NEVER)
_BY_CAUSE = tuple(case.error for case in POLICY if case.again is Again.CAUSE)


def may_retry(error: BaseException, options: Options) -> bool:
    """Tell whether *error* is one that the scope asked to be retried; never for KeyboardInterrupt and its like."""
    if not isinstance(error, Exception) or isinstance(error, _NEVER):
        return False
    cause = error.__cause__
    if isinstance(error, _BY_CAUSE):
        return cause is not None and may_retry(cause, options)
    if options.is_retried(error):
        return True
    # With several databases the error of a commit comes wrapped.
    return isinstance(error, CommitException) and cause is not None and may_retry(cause, options)


# --- one piece of work --------------------------------------------------------------------------------------


class Scope(Protocol):
    """A `db_session`, as far as it is entered and left."""

    def __enter__(self) -> Session: ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...


class Runs:
    """The runs of one piece of work: those that failed, and whether there is another one."""

    __slots__ = ("_delay", "_end", "_options", "failed")

    def __init__(self, options: Options) -> None:
        self._options = options
        deadline = options.retry.deadline
        self._end = None if deadline is None else time.monotonic() + deadline
        self._delay = 0.0
        self.failed: list[Exception] = []

    def go_on_after(self, error: Exception, session: SessionCore | None, *, was_saved: bool) -> bool:
        """Tell whether the work is to be run again because of *error*; if not, say in *error* what was tried.

        *was_saved*: the work is committed, *error* was allowed.
        """
        may = len(self.failed) < self._options.retry.retries and may_retry(error, self._options)
        if may and not was_saved:
            if session is not None and session.has_committed:
                error.add_note("not retried: commit() had saved a part of the work, and would have saved it again")
            elif self._draw_delay():
                self.failed.append(error)
                for listener in listeners:
                    listener(error)
                return True
            else:
                error.add_note(f"not retried: no run may begin {self._options.retry.deadline} s after the first one")
        self.give_up(error)
        return False

    def give_up(self, error: Exception) -> None:
        """Attach the errors of the earlier runs to the last one."""
        if self.failed:
            error.attempts = tuple(self.failed)  # type: ignore[attr-defined]
            error.add_note(f"after {len(self.failed) + 1} attempts")

    def _draw_delay(self) -> bool:
        """Draw the time to wait; return whether the deadline leaves it."""
        policy = self._options.retry
        doublings = min(len(self.failed) + 1, 64)  # more would be too large for a float
        self._delay = random.uniform(0, min(policy.cap, policy.base * 2**doublings))
        return self._end is None or time.monotonic() + self._delay <= self._end

    def wait(self) -> None:
        """Wait before the next run.

        Raises:
            Exception: the last error, since the wait took longer than it should, and the deadline is over.
        """
        time.sleep(self._delay)
        if self._end is not None and time.monotonic() > self._end:
            error = self.failed.pop()
            error.add_note(f"not retried: no run may begin {self._options.retry.deadline} s after the first one")
            self.give_up(error)
            raise error


def will_join(options: Options) -> bool:
    """Tell whether a scope with *options*, entered here, is a part of another one."""
    return options.nested is not Nesting.INDEPENDENT and stack.is_inside()


def warn_ignored(policy: RetryPolicy, where: str, stacklevel: int) -> None:
    """Warn that *where* is within another scope, so that its retry has no effect."""
    warnings.warn(
        f"retry={policy.retries} of {where} is ignored within another db_session: only the outermost scope can run "
        f"its work again",
        RuntimeWarning,
        stacklevel=stacklevel + 1,
    )


# --- functions ----------------------------------------------------------------------------------------------


def rerun(scope: Scope, options: Options, function: Callable[..., R], args: Any, kwargs: Any) -> R:
    """Run *function*, each time in a new session, until it ends well or the retries are used up."""
    runs = Runs(options)
    try:
        while True:
            raised: Exception | None = None
            session: SessionCore | None = None
            try:
                with scope:
                    session = stack.current_session()
                    try:
                        return function(*args, **kwargs)
                    except Exception as error:
                        raised = error
                        raise
            except Exception as error:
                # If it is still the one that the function raised, an allowed one is committed.
                was_saved = error is raised and options.is_allowed(error)
                if not runs.go_on_after(error, session, was_saved=was_saved):
                    raise
            finally:
                raised = None
            runs.wait()
    finally:
        runs.failed.clear()  # the errors hold this frame, by their tracebacks


# --- blocks -------------------------------------------------------------------------------------------------


class _Status(Enum):
    """Where an attempt stands."""

    NEW = "was never entered"
    OPEN = "was never left"
    DONE = "is over"
    FAILED = "is to be run again"


class Attempt:
    """One run of the block of a loop: ``for attempt in db_session.attempts(3): with attempt: ...``."""

    __slots__ = ("_options", "_runs", "_runs_once", "_scope", "_session", "_status", "last_error", "number")

    def __init__(self, scope: Scope, options: Options, runs: Runs) -> None:
        self._scope = scope
        self._options = options
        self._runs = runs
        self._session: SessionCore | None = None
        self._runs_once = False
        self._status = _Status.NEW
        self.number = len(runs.failed) + 1
        """Which run it is: 1, 2, ..."""
        self.last_error: Exception | None = runs.failed[-1] if runs.failed else None
        """Why the run before it failed."""

    def __repr__(self) -> str:
        return f"<attempt {self.number} of {self._options.retry.retries + 1}>"

    def __enter__(self) -> Session:
        if self._status is not _Status.NEW:
            raise NoScopeError(
                f"{self!r} was entered twice; each turn of the loop has an attempt of its own, for one `with attempt:`"
            )
        if self._options.retry and will_join(self._options):
            warn_ignored(self._options.retry, f"the loop in {sys._getframe(1).f_code.co_qualname}()", 2)
            self._runs_once = True
        session = self._scope.__enter__()
        self._session = stack.current_session()
        self._status = _Status.OPEN
        return session

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> bool:
        """End the session; swallow an error after which the block is to be run again."""
        self._status = _Status.DONE
        try:
            self._scope.__exit__(exc_type, exc, traceback)
        except Exception as error:  # of the commit
            if self._goes_on_after(error, sys._getframe(1), was_saved=False):
                return True
            raise
        if not isinstance(exc, Exception):
            return False
        return self._goes_on_after(exc, sys._getframe(1), was_saved=self._options.is_allowed(exc))

    def _goes_on_after(self, error: Exception, frame: Any, *, was_saved: bool) -> bool:
        if self._runs_once or not self._runs.go_on_after(error, self._session, was_saved=was_saved):
            return False
        if goes_on(frame):
            self._status = _Status.FAILED
            return True
        self._runs.failed.pop()
        error.add_note(
            "not retried: the loop over db_session.attempts() would not have gone on. `with attempt:` has to be the "
            "last thing in its body, and the block must not be left by `return` or `break` before the commit; "
            "success ends the loop by itself"
        )
        self._runs.give_up(error)
        return False


class Attempts:
    """The runs of a block: iterate, and enter each attempt with `with`. Success ends the loop."""

    __slots__ = ("_options", "_scope")

    def __init__(self, scope: Scope, options: Options) -> None:
        self._scope = scope
        self._options = options

    def __iter__(self) -> Iterator[Attempt]:
        """Begin a loop of its own.

        Raises:
            NoScopeError: the body of the loop did not enter its attempt, or has not left it.
        """
        runs = Runs(self._options)
        while True:
            attempt = Attempt(self._scope, self._options, runs)
            try:
                yield attempt
            except GeneratorExit:
                if attempt._status is _Status.FAILED:
                    warnings.warn(
                        f"the loop was left after {attempt!r} had failed; its work is not saved: {runs.failed[-1]!r}",
                        RuntimeWarning,
                        stacklevel=2,
                    )
                raise
            if attempt._status is _Status.DONE:
                return
            if attempt._status is not _Status.FAILED:
                raise NoScopeError(
                    f"{attempt!r} {attempt._status.value}; put `with attempt:` around the whole body of the loop over "
                    f"db_session.attempts()"
                )
            runs.wait()
