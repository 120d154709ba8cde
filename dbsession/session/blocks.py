"""A part of a session that may fail alone: what `session.begin_nested()` gives."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dbsession.errors import NestedScopeError
from dbsession.session.core import SessionCore
from dbsession.session.options import make_options

__all__ = ["NestedBlock"]

_OPTIONS = make_options(nested="savepoint")


class _UndoneError(Exception):
    """The reason of a block that is rolled back by hand."""


class NestedBlock:
    """A savepoint of a session: a `with` block, or ended by `commit` or `rollback`.

    At the end of the block its changes are sent, so that what the database refuses is raised there; an exception
    undoes them, in memory and in the database. What was done before it stays as it is.
    """

    __slots__ = ("_depth", "_has_ended", "_session")

    def __init__(self, session: SessionCore) -> None:
        session.require_open("begin a savepoint")
        self._session = session
        session.enter_inner(_OPTIONS)
        self._depth = session.depth
        self._has_ended = False

    def __repr__(self) -> str:
        return f"<savepoint {self._depth} of {self._session!r}>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if not self._has_ended:  # by hand
            self._leave(exc)

    def commit(self) -> None:
        """Send the changes of the block, and leave them to what is around it: they are saved with that.

        Raises:
            OptimisticCheckError, TransactionIntegrityError: they were refused; the block is undone.
            NestedScopeError: it has ended, or a block within it has not.
        """
        self._leave(None)

    def rollback(self) -> None:
        """Undo what was done since the block began.

        Raises:
            NestedScopeError: it has ended, or a block within it has not.
        """
        self._leave(_UndoneError())

    def _leave(self, error: BaseException | None) -> None:
        session = self._session
        if error is None or not session.is_over:
            session.require_open("end a savepoint")
        if self._has_ended or session.depth != self._depth:
            if error is not None and session.depth < self._depth:
                return  # what was around it has ended, and undone it
            what = "has ended already" if self._has_ended else "has another one in it, which has to end first"
            raise NestedScopeError(f"{self!r} {what}; savepoints end in the reverse order of their beginning")
        self._has_ended = True
        try:
            session.leave_inner(error)
        finally:
            session.run_hooks()
