"""``db_session``: one object that is decorator, context manager and factory of itself with options.

It has no state of its own. Each entering pushes a frame, so that the same object can be entered any
number of times, at once, in every thread and task. An entered scope costs nothing until something is
read or written: connections are taken at the first statement.
"""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable
from dataclasses import fields
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, Unpack, overload

from dbsession.errors import NestedScopeError, NoScopeError
from dbsession.model.registration import suggest
from dbsession.scope import stack
from dbsession.scope.callables import decorate
from dbsession.scope.retry import Attempts, may_retry, warn_ignored
from dbsession.scope.stack import Frame
from dbsession.session.core import SessionCore
from dbsession.session.options import GivenOptions, Nesting, Options, OptionsButRetry, RetryPolicy, make_options
from dbsession.session.session import Session

__all__ = ["DBSession", "db_session", "savepoint", "with_transaction"]

P = ParamSpec("P")
R = TypeVar("R")
T = TypeVar("T")


_DEFAULT = Options()


class DBSession:
    """A scope: one unit of work around a function or a block, committed at its end, rolled back by an exception.

    Write `@db_session` or `with db_session:`; with options, by keyword, `@db_session(retry=3)`.

    - ``retry=0``: how often the work is run again after a conflict; an int, or a `RetryPolicy`. Not for `with` blocks:
      these are loops, ``for attempt in db_session.attempts(3): with attempt: ...``.
    - ``retry_exceptions=(TransactionError,)``: for which errors; a class, several, or a function of the exception.
    - ``allowed_exceptions=()``: errors that commit the work, and still reach the caller.
    - ``optimistic=True``: writes check that nobody has changed what was read; False implies ``immediate``.
    - ``immediate=False``: the transaction begins with the first statement, reads too.
    - ``serializable=False``: the isolation level SERIALIZABLE.
    - ``isolation=None``: ``"read committed"``, ``"repeatable read"`` or ``"serializable"``.
    - ``read_only=False``: changes are refused.
    - ``deferrable=False``: wait for a snapshot that cannot conflict (PostgreSQL; with the two above).
    - ``statement_timeout=None``: the longest time for one statement, in seconds.
    - ``lock_timeout=None``: the longest wait for one lock, in seconds.
    - ``nested="join"``: what it is within another scope: ``"join"``, ``"savepoint"``, ``"independent"``, ``"forbid"``.
    - ``strict=False``: after the scope its objects refuse every read.
    - ``ddl=False``: schema changes; SQLite's foreign keys are checked at the commit.
    - ``sql_debug=None``, ``show_values=None``: whether the SQL of this scope is logged, and with values.
    """

    __slots__ = ("_options",)

    def __init__(self, options: Options) -> None:
        self._options = options

    def __repr__(self) -> str:
        shown = [field for field in fields(Options) if field.repr]
        values = {field.name: (getattr(self._options, field.name), field.default) for field in shown}
        given = [
            f"{name}={_as_given(value)!r}"
            for name, (value, usual) in values.items()
            if value != usual and not callable(value)
        ]
        return f"db_session({', '.join(given)})" if given else "db_session"

    @overload
    def __call__(self, function: staticmethod[P, R], /) -> staticmethod[P, R]: ...
    @overload
    def __call__(self, function: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
    @overload
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, **options: Unpack[GivenOptions]) -> DBSession: ...
    def __call__(self, *functions: Any, **options: Any) -> Any:
        """Decorate a function, or return a `db_session` with *options*.

        Raises:
            TypeError: both were given, an option does not exist or does not fit, options were given before, or the
                function is of a kind that a session cannot be put around.
        """
        if functions and not options and len(functions) == 1:
            chosen = self._options
            return decorate(_Rerun(chosen) if chosen.retry else self, chosen, functions[0])
        if functions:
            raise TypeError("db_session takes one function to decorate, or options by keyword, not both")
        if not options:
            return self
        if self._options is not _DEFAULT:
            raise TypeError(f"{self!r} has its options already; give all of them to db_session at once")
        known = inspect.signature(make_options).parameters
        for name in options:
            if name not in known:
                raise TypeError(f"db_session has no option {name!r}{suggest(name, known)}; it has {', '.join(known)}")
        return DBSession(make_options(**options))

    # --- with ---------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        return Session.of(self.enter())

    def enter(self) -> SessionCore:
        """Enter the scope, as `with` does, and return the session behind the one that `with` gives."""
        outer = stack.current_frame()
        options = self._options
        if outer is None or not outer.session.is_here():  # the scope of another task, in a copied context
            session = SessionCore(options)
        elif options.nested is Nesting.INDEPENDENT:
            session = SessionCore(options, outer.session)
        elif options.nested is Nesting.FORBID:
            raise self.is_forbidden()
        else:
            session = outer.session
            if options is not _DEFAULT:
                self._warn_if_ignored()
            stack.join(session, options, self)
            return session
        frame = session.place = Frame(outer, session, self)
        stack.set_frame(frame)
        return session

    @staticmethod
    def is_forbidden() -> NestedScopeError:
        """Return the error of a scope that wants to be the outermost, and is not."""
        return NestedScopeError("this db_session is nested='forbid', and was entered within another one")

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        frame = stack.current_frame()
        if frame is None or frame.scope is not self:
            raise self._left_out_of_order(frame)
        session = frame.session
        if session.place is not frame or (session.in_use and not session.is_here()):  # it was handed on
            stack.set_frame(frame.parent)
            session.require_here()
            raise stack.not_innermost()
        if exc_type is None and session.in_use:
            session.require_no_hook("the end of the scope")
        try:
            if exc is None and exc_type is not None:
                exc = exc_type()  # called by hand, with the class alone
            if frame.inner is not None:
                session.leave_inner(frame.inner, exc)
            else:
                if exc is not None:
                    self._explain_retry(exc)
                session.end(exc)  # the hooks of the last flush still run within the scope
        except Exception as failure:
            self._explain_retry(failure)
            raise
        finally:
            session.place = frame.before
            if frame.inner is not None or frame.parent is None:
                stack.set_frame(frame.parent)
                if session.ready_hooks:
                    session.run_hooks()
            else:
                _run_hooks_alone(session, frame.parent)

    def _left_out_of_order(self, frame: Frame | None) -> NoScopeError:
        """Undo the work of the scope, which is around the innermost one, so that nothing joins it; return the error."""
        while frame is not None and frame.scope is not self:
            frame = frame.parent
        error = stack.not_innermost()
        if frame is not None and frame.session.is_here():
            error = stack.not_innermost(", so that its work was rolled back")
            if frame.inner is None:
                frame.session.end(error)
                frame.session.place = None
            else:
                frame.session.leave_inner(frame.inner, error)
        return error

    def _explain_retry(self, error: BaseException) -> None:
        """Say why an error that *retry* was meant for leaves a block all the same."""
        options = self._options
        if options.retry and may_retry(error, options) and not options.is_allowed(error):
            retry = f"retry={options.retry.retries}"
            error.add_note(
                f"{retry} could not help: a `with` block cannot run its body again. Write it as a loop "
                f"(`for attempt in db_session.attempts({retry}): with attempt: ...`), or put the work into a function "
                f"with @db_session({retry})"
            )

    def _warn_if_ignored(self) -> None:
        """Warn that a block within another scope has asked for *retry*."""
        if self._options.retry:
            warn_ignored(self._options.retry, f"`with db_session` in {sys._getframe(3).f_code.co_qualname}()", 4)

    # --- the same verbs as the functions of these names --------------------------------------------

    @staticmethod
    def flush() -> None:
        """Send pending changes of the current scope; the same as `dbsession.flush`."""
        stack.flush()

    @staticmethod
    def commit() -> None:
        """Save everything that the current scope has changed; the same as `dbsession.commit`."""
        stack.commit()

    @staticmethod
    def rollback() -> None:
        """Undo everything since the last commit; the same as `dbsession.rollback`."""
        stack.rollback()

    # --- run again ----------------------------------------------------------------------------

    def attempts(self, retry: int | RetryPolicy | None = None, **options: Unpack[OptionsButRetry]) -> Attempts:
        """Return the runs of a block: ``for attempt in db_session.attempts(3): with attempt: ...``.

        A block that fails with an error to be retried runs again, in a new session, at most *retry* times; success
        ends the loop. `with attempt:` has to be the last thing in the body of the loop.

        Raises:
            TypeError: an option does not exist or does not fit.
        """
        scope = self(**options) if retry is None else self(retry=retry, **options)
        chosen = scope._options
        return Attempts(_Rerun(chosen), chosen)


def _run_hooks_alone(session: SessionCore, outer: Frame) -> None:
    """Run the hooks of *session*, which was independent of *outer*, outside of that scope, too."""
    stack.set_frame(None)
    try:
        session.run_hooks()
    finally:
        stack.set_frame(outer)


class _Rerun(DBSession):
    """The scope of work that is run again by whoever entered it."""

    __slots__ = ()

    def _explain_retry(self, error: BaseException) -> None:
        pass

    def _warn_if_ignored(self) -> None:
        pass


class _Savepoint(DBSession):
    """A scope for a part of the current one that may fail alone: `with savepoint:`, `@savepoint`.

    It is ``db_session(nested="savepoint")`` that insists on a scope around it: entered where there is none, it raises
    `NoScopeError`. Its changes are flushed at its own end, so that what the database refuses is raised there; then they
    are undone, in memory and in the database, and the outer scope can go on. It takes no options; ``savepoint()`` is
    the same object.
    """

    __slots__ = ()

    def __repr__(self) -> str:
        return "savepoint"

    def enter(self) -> SessionCore:
        """Enter the scope, if there is one that it is within."""
        stack.current_session()  # raises if there is none
        return super().enter()


def _as_given(value: Any) -> Any:
    """Return the value of an option as it is usually written."""
    if isinstance(value, Nesting):
        return value.value
    if isinstance(value, RetryPolicy) and value == RetryPolicy(value.retries):
        return value.retries
    return value


db_session = DBSession(_DEFAULT)
savepoint = _Savepoint(make_options(nested="savepoint"))


@overload
def with_transaction(function: staticmethod[P, R], /) -> staticmethod[P, R]: ...
@overload
def with_transaction(function: classmethod[T, P, R], /) -> classmethod[T, P, R]: ...
@overload
def with_transaction(function: Callable[P, R], /) -> Callable[P, R]: ...
@overload
def with_transaction(**options: Unpack[GivenOptions]) -> DBSession: ...
def with_transaction(*functions: Any, **options: Any) -> Any:
    """Do what `db_session` does: the old name of the decorator.

    Raises:
        TypeError: as for `db_session`.
    """
    warnings.warn("with_transaction is the old name of db_session: use @db_session", DeprecationWarning, stacklevel=2)
    return db_session(*functions, **options)
