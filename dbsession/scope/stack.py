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
from dbsession.session.core import SessionCore
from dbsession.session.inner import Inner
from dbsession.session.opened import is_open_here
from dbsession.session.options import Options
from dbsession.session.unit_of_work import DatabaseLink

__all__ = [
    "Frame",
    "commit",
    "covering",
    "current_frame",
    "current_session",
    "flush",
    "is_inside",
    "join",
    "no_scope",
    "not_innermost",
    "rollback",
    "session_for",
    "session_here",
    "set_frame",
]


class Frame(NamedTuple):
    """One entered scope."""

    parent: Frame | None
    session: SessionCore
    scope: Any  # the DBSession that was entered
    only: DatabaseLink | None = None  # the one database that the scope is for, whatever its session is for
    inner: Inner | None = None  # what it is in the session, if it has joined that ...
    before: Frame | None = None  # ... and where the session stood before

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


_current: ContextVar[Frame | None] = ContextVar("dbsession_scope", default=None)

current_frame = _current.get


def is_inside() -> bool:
    """Tell whether a scope entered here would be an inner one."""
    frame = _current.get()
    return frame is not None and frame.session.is_here()


set_frame = _current.set


def not_innermost(also: str = "") -> NoScopeError:
    """Return the error for leaving a scope that is not the innermost one entered here; *also*: what came of it."""
    return NoScopeError(
        f"a db_session was left that is not the innermost one entered here{also}; use `with db_session:`, which pairs "
        f"entering and leaving by itself"
    )


def join(session: SessionCore, options: Options, scope: Any, only: DatabaseLink | None = None) -> None:
    """Let *scope* be an inner one of *session*, which has one here already."""
    inner = session.enter_inner(options)
    before = session.place
    assert isinstance(before, Frame)
    frame = session.place = Frame(_current.get(), session, scope, only, inner, before)
    _current.set(frame)


def current_session() -> SessionCore:
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


def session_for(database: DatabaseLink) -> SessionCore:
    """Return the session of the innermost scope here that is for *database*.

    Raises:
        NoScopeError: there is no scope here, or each one is for another database.
        ScopeOwnershipError: the scope belongs to another thread or task.
    """
    frame = _current.get()
    if frame is None:
        raise no_scope()
    session = frame.session
    session.check_owner()
    if frame.only is None and session.only is None:
        return session
    found = covering(frame, database)
    if found is None:
        raise NoScopeError(
            f"the scope here has joined a Session({session.only}), which is for that database alone: use {database} in "
            f"a `with Session(...)` of its own within it, in `with db_session(nested='independent'):`, or put "
            f"`with db_session:`, which is for every database, around both"
        )
    return found


def covering(frame: Frame | None, database: DatabaseLink) -> SessionCore | None:
    """Return the session of the innermost of *frame* and those around it that is here, and is for *database*."""
    while frame is not None and frame.session.is_here():
        if frame.only is database:
            return frame.session
        if frame.only is None:  # a db_session: what is done in it is undone with it, so nobody looks beyond
            return frame.session if frame.session.only in (None, database) else None
        frame = frame.parent
    return None


def session_here() -> SessionCore | None:
    """Return the session of the current scope, if it belongs to the thread and task that asks."""
    frame = _current.get()
    return frame.session if frame is not None and frame.session.is_here() else None


def no_scope(also: str = "") -> NoScopeError:
    """Return the error for using the database outside any scope, naming the function that did; *also*: more to say."""
    frame = sys._getframe(1)
    while frame.f_back is not None and frame.f_globals.get("__name__", "").split(".")[0] == "dbsession":
        frame = frame.f_back
    if is_open_here():
        also += "; the Session that is open here is asked by session.get(...) and session.query(...)"
    name = frame.f_code.co_qualname
    where = f"{name}()" if not name.startswith("<") else "this code"
    return NoScopeError(
        f"{where} uses the database outside any db_session (line {frame.f_lineno} of {frame.f_code.co_filename}): "
        f"put @db_session on the function, or `with db_session:` around the code{also}"
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
