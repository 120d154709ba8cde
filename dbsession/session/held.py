"""What a `Session` holds beside its core: what ends it with the last reference, and the scope that it is."""

from __future__ import annotations

import warnings
from types import TracebackType
from typing import Protocol

from dbsession.session.contents import describe
from dbsession.session.core import SessionCore
from dbsession.session.unit_of_work import DatabaseLink

__all__ = ["EnteredScope", "Held"]


class EnteredScope(Protocol):
    """A scope that was entered for a session."""

    @property
    def session(self) -> SessionCore:
        """The session in which the work is done."""
        ...

    @property
    def is_entered(self) -> bool:
        """Whether it has not been left."""
        ...

    def __exit__(
        self,
        exc_type: type[BaseException] | None = None,
        exc: BaseException | None = None,
        traceback: TracebackType | None = None,
    ) -> None: ...


class Held:
    """What belongs to a session that somebody has made; it ends an open one with the last reference to it."""

    __slots__ = ("database", "scope", "session")

    def __init__(self, database: DatabaseLink, session: SessionCore) -> None:
        self.database = database  # the one that it is for
        self.session = session
        self.scope: EnteredScope | None = None  # while it is entered

    def __del__(self) -> None:
        session: SessionCore | None = getattr(self, "session", None)
        if session is None or session.is_over or session.place is not None or not session.is_of_this_process():
            return
        lost, unsaved = repr(session), describe(session)
        session.abandon()
        if unsaved:
            warnings.warn(
                f"{lost} was never closed, and is gone with unsaved changes: {unsaved}; call commit(), or use "
                f"`with Session(db) as session:`, which does",
                RuntimeWarning,
                stacklevel=2,
            )
