"""The stack of scopes of this task or thread: a ContextVar that holds immutable frames.

The frames are linked, so that entering a scope is one assignment, and a context that was copied (by
a child task) holds a stack that nobody changes under it. A frame is found by identity when it is
left, never by a ContextVar token: a token fails in another context. Whether the current frame may
be used from here is its session's owner's to say.
"""

from __future__ import annotations

import sys
from contextvars import ContextVar
from typing import Any, NamedTuple

from dbsession.errors import NestedScopeError, NoScopeError
from dbsession.session.session import Session

__all__ = [
    "Frame",
    "commit",
    "current_frame",
    "current_session",
    "flush",
    "is_inside",
    "no_scope",
    "not_innermost",
    "rollback",
    "set_frame",
]


class Frame(NamedTuple):
    """One entered scope."""

    parent: Frame | None
    session: Session
    scope: Any  # the DBSession that was entered

    def make_current(self) -> None:
        """Let this be the current frame of the context that calls.

        Raises:
            NestedScopeError: there is a scope here that is not one of those around it, and would be left in its place.
        """
        here = _current.get()
        around: Frame | None = self
        while around is not None and around is not here:
            around = around.parent
        if here is not None and around is None and here.session.is_here():
            raise NestedScopeError(
                f"{self.session!r} cannot be adopted within the scope of {here.session!r}; leave that one first"
            )
        _current.set(self)

    @property
    def is_inner(self) -> bool:
        """Whether the scope joined an outer one."""
        return self.parent is not None and self.parent.session is self.session


_current: ContextVar[Frame | None] = ContextVar("dbsession_scope", default=None)

current_frame = _current.get


def is_inside() -> bool:
    """Tell whether a scope entered here would be an inner one."""
    frame = _current.get()
    return frame is not None and frame.session.is_here()


set_frame = _current.set


def not_innermost() -> NoScopeError:
    """Return the error for leaving a scope that is not the innermost one entered here."""
    return NoScopeError(
        "a db_session was left that is not the innermost one entered here; use `with db_session:`, which pairs "
        "entering and leaving by itself"
    )


def current_session() -> Session:
    """Return the session of the current scope.

    Raises:
        NoScopeError: there is no scope here.
        ScopeOwnershipError: the scope belongs to another thread or task.
    """
    frame = _current.get()
    if frame is None:
        raise no_scope()
    frame.session.check_owner()
    return frame.session


def no_scope() -> NoScopeError:
    """Return the error for using the database outside any scope, naming the function that did."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "dbsession":
        frame = frame.f_back
    name = frame.f_code.co_qualname
    where = f"{name}()" if not name.startswith("<") else "this code"
    return NoScopeError(
        f"{where} uses the database outside any db_session (line {frame.f_lineno} of {frame.f_code.co_filename}): "
        f"put @db_session on the function, or `with db_session:` around the code"
    )


def flush() -> None:
    """Send pending changes of the current scope to the database without committing them.

    Raises:
        NoScopeError: there is no db_session here.
        OptimisticCheckError, TransactionIntegrityError: the changes were refused; the session is doomed.
    """
    current_session().flush()


def commit() -> None:
    """Save everything that the current scope has changed; on return it is committed, verifiably.

    Objects keep their values, and the session goes on.

    Raises:
        NoScopeError: there is no db_session here.
        NestedScopeError: the current scope is an inner one.
        SessionDoomed, OptimisticCheckError, TransactionIntegrityError: nothing was committed.
    """
    current_session().commit()


def rollback() -> None:
    """Undo everything since the last commit, in the database and in the objects; the session goes on.

    Raises:
        NoScopeError: there is no db_session here.
        NestedScopeError: the current scope is an inner one.
    """
    current_session().rollback()
