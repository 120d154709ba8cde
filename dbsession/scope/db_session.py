"""``db_session``: one object that is decorator, context manager and factory of itself with options.

It has no state of its own. Each entering pushes a frame, so that the same object can be entered any
number of times, at once, in every thread and task. An entered scope costs nothing until something is
read or written: connections are taken at the first statement.
"""

from __future__ import annotations

import functools
import inspect
import warnings
from collections.abc import Callable
from dataclasses import fields
from types import TracebackType
from typing import Any, ParamSpec, TypeVar, overload

from dbsession.errors import NestedScopeError
from dbsession.model.registration import suggest
from dbsession.scope import stack
from dbsession.scope.retry import may_retry, wait_before
from dbsession.scope.stack import Frame
from dbsession.session.options import Nesting, Options, RetryPolicy, make_options
from dbsession.session.session import Session

__all__ = ["DBSession", "db_session", "savepoint"]

P = ParamSpec("P")
R = TypeVar("R")


_DEFAULT = Options()


class DBSession:
    """The class of `db_session`. Options are those of `make_options`."""

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
    def __call__(self, function: Callable[P, R], /) -> Callable[P, R]: ...
    @overload
    def __call__(self, **options: Any) -> DBSession: ...
    def __call__(self, *functions: Any, **options: Any) -> Any:
        """Decorate a function, or return a `db_session` with *options*.

        Raises:
            TypeError: both were given, an option does not exist or does not fit, or the function is of a kind
                that a session cannot be put around.
        """
        if functions and not options and len(functions) == 1:
            return self._decorate(functions[0])
        if functions:
            raise TypeError("db_session takes one function to decorate, or options by keyword, not both")
        if not options:
            return self
        known = inspect.signature(make_options).parameters
        for name in options:
            if name not in known:
                raise TypeError(f"db_session has no option {name!r}{suggest(name, known)}; it has {', '.join(known)}")
        return DBSession(make_options(**options))

    # --- with ---------------------------------------------------------------------------------

    def __enter__(self) -> Session:
        outer = stack.current_frame()
        options = self._options
        if outer is None or not outer.session.is_here():  # the scope of another task, in a copied context
            session = Session(options)
        elif options.nested is Nesting.INDEPENDENT:
            session = Session(options, outer.session)
        elif options.nested is Nesting.FORBID:
            raise NestedScopeError("this db_session is nested='forbid', and was entered within another one")
        else:
            session = outer.session
            session.enter_inner(options)
        frame = session.place = Frame(outer, session, self)
        stack.set_frame(frame)
        return session

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        frame = stack.current_frame()
        if frame is None or frame.scope is not self:
            raise stack.not_innermost()
        session = frame.session
        try:
            if exc is None and exc_type is not None:
                exc = exc_type()  # called by hand, with the class alone
            if frame.is_inner:
                session.leave_inner(exc)
            else:
                self._explain_retry(exc)
                session.end(exc)  # the hooks of the last flush still run within the scope
        except Exception as failure:
            self._explain_retry(failure)
            raise
        finally:
            session.place = frame.parent if frame.is_inner else None
            stack.set_frame(frame.parent)
            session.run_hooks()

    def _explain_retry(self, error: BaseException | None) -> None:
        """Say why an error that *retry* was meant for leaves a block all the same."""
        if self._options.retry and error is not None and may_retry(error, self._options):
            error.add_note(
                f"retry={self._options.retry.retries} could not help: a `with` block cannot run its body again; "
                f"put the work into a function with @db_session(retry={self._options.retry.retries})"
            )

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

    # --- decorator ----------------------------------------------------------------------------

    def _decorate(self, function: Callable[P, R]) -> Callable[P, R]:
        _require_plain(function)
        options = self._options
        attempts = _Attempts(options)

        @functools.wraps(function)
        def in_session(*args: P.args, **kwargs: P.kwargs) -> R:
            if not options.retry:
                with self:
                    return function(*args, **kwargs)
            if stack.is_inside():
                warnings.warn(
                    f"retry={options.retry.retries} of {function.__qualname__}() is ignored: it is called within "
                    f"another db_session: only the outermost scope can run its work again",
                    RuntimeWarning,
                    stacklevel=2,
                )
                with self:
                    return function(*args, **kwargs)
            return _attempts(attempts, options, function, args, kwargs)

        return in_session


class _Savepoint(DBSession):
    """The scope of `savepoint`."""

    __slots__ = ()

    def __enter__(self) -> Session:
        stack.current_session()  # raises if there is none to be within
        return super().__enter__()


def savepoint() -> DBSession:
    """Return a scope for a part of the current one that may fail alone; enter it with ``with``.

    It is ``db_session(nested="savepoint")`` that insists on a scope around it. Its changes are flushed at
    its own end, so that what the database refuses is raised there; then they are undone, in memory and in
    the database, and the outer scope can go on.

    Raises:
        NoScopeError: it is entered where there is no db_session.
    """
    return _SAVEPOINT


def _as_given(value: Any) -> Any:
    """Return the value of an option as it is usually written."""
    if isinstance(value, Nesting):
        return value.value
    if isinstance(value, RetryPolicy) and value == RetryPolicy(value.retries):
        return value.retries
    return value


class _Attempts(DBSession):
    """The scope of a function that is run again by whoever called it."""

    __slots__ = ()

    def _explain_retry(self, error: BaseException | None) -> None:
        pass


def _attempts(scope: DBSession, options: Options, function: Callable[..., R], args: Any, kwargs: Any) -> R:
    """Run *function*, each time in a new session, until it ends well or the retries are used up."""
    failed: list[BaseException] = []
    while True:
        allowed: Exception | None = None
        session: Session | None = None
        try:
            with scope as session:
                try:
                    return function(*args, **kwargs)
                except Exception as error:
                    if options.is_allowed(error):
                        allowed = error
                    raise
        except Exception as error:
            # If it is still the allowed one, the work is committed. (If the commit failed, it is another.)
            wanted = len(failed) < options.retry.retries and may_retry(error, options)
            if wanted and session is not None and session.has_committed:
                error.add_note("not retried: commit() had saved a part of the work, and would have saved it again")
                wanted = False
            if error is allowed or not wanted:
                if failed:
                    error.attempts = tuple(failed)  # type: ignore[attr-defined]
                    error.add_note(f"after {len(failed) + 1} attempts")
                raise
            failed.append(error)
        wait_before(len(failed))


def _require_plain(function: Any) -> None:
    if isinstance(function, (staticmethod, classmethod)):
        kind = type(function).__name__
        raise TypeError(f"put @{kind} above @db_session, so that db_session decorates the function itself")
    if isinstance(function, type) or not callable(function):
        raise TypeError(f"db_session decorates functions, not {function!r:.80}")
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise TypeError(
            f"{function.__qualname__}() is async, and db_session is synchronous: its session would block the loop"
        )
    if inspect.isgeneratorfunction(function):
        raise TypeError(
            f"{function.__qualname__}() is a generator: a session around it would stay open between its values; "
            f"use `with db_session:` inside, around the work for one value"
        )
    if not hasattr(function, "__qualname__"):
        raise TypeError(f"db_session decorates functions and methods, not {type(function).__name__} objects")


db_session = DBSession(_DEFAULT)
_SAVEPOINT = _Savepoint(make_options(nested="savepoint"))
