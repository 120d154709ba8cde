"""A part of a session that may fail alone: what `session.begin_nested()` gives."""

from __future__ import annotations

from types import TracebackType
from typing import Self

from dbsession.errors import NestedScopeError
from dbsession.session.core import SessionCore
from dbsession.session.inner import UndoneError
from dbsession.session.options import make_options

__all__ = ["NestedBlock"]

_OPTIONS = make_options(nested="savepoint")


class NestedBlock:
    """A savepoint of a session: a `with` block, or ended by `commit` or `rollback`.

    At the end of the block its changes are sent, so that what the database refuses is raised there; an exception
    undoes them, in memory and in the database. What was done before it stays as it is.
    """

    __slots__ = ("_inner", "_is_entered", "_session")

    def __init__(self, session: SessionCore) -> None:
        session.require_open("begin a savepoint")
        self._session = session
        self._inner = session.enter_inner(_OPTIONS, is_block=True)
        self._is_entered = False

    def __repr__(self) -> str:
        return f"<savepoint of {self._session!r}>"

    def __enter__(self) -> Self:
        if self._is_entered or not self._session.has_inner(self._inner):
            raise NestedScopeError(f"{self!r} was entered before, or has ended; begin_nested() gives a new one")
        self._is_entered = True
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None:
        if self._session.has_inner(self._inner):  # else it was ended within the block
            self._leave(exc if exc is not None or exc_type is None else exc_type())

    def commit(self) -> None:
        """Send the changes of the block, and leave them to what is around it: they are saved with that.

        Raises:
            OptimisticCheckError, TransactionIntegrityError: they were refused; the block is undone.
            NestedScopeError: it has ended, or a block within it has not.
        """
        self._require_last()
        self._leave(None)

    def rollback(self) -> None:
        """Undo what was done since the block began.

        Raises:
            NestedScopeError: it has ended, or a block within it has not.
        """
        self._require_last()
        self._leave(UndoneError())

    def _require_last(self) -> None:
        session = self._session
        session.require_open("end a savepoint")
        if session.innermost is not self._inner:
            is_open = session.has_inner(self._inner)
            what = "has another one in it, which has to end first" if is_open else "has ended already"
            raise NestedScopeError(f"{self!r} {what}; savepoints end in the reverse order of their beginning")

    def _leave(self, error: BaseException | None) -> None:
        session = self._session
        session.require_open("end a savepoint")
        try:
            session.leave_inner(self._inner, error)
        finally:
            session.run_hooks()
