"""The scope of a session that somebody holds: `with Session(db):`."""

from __future__ import annotations

from dbsession.scope import stack
from dbsession.scope.db_session import DBSession
from dbsession.scope.stack import Frame
from dbsession.session.core import SessionCore
from dbsession.session.options import Nesting

__all__ = ["HandleScope"]


class HandleScope(DBSession):
    """A scope around a session that was made before it, or, within a scope on that database, an inner one of that."""

    __slots__ = ("_frame", "session")

    def __init__(self, session: SessionCore) -> None:
        super().__init__(session.options)
        self.session = session  # in which the work is done: another one, if it was joined
        self._frame: Frame | None = None

    def __repr__(self) -> str:
        return f"with {self.session!r}"

    def enter(self) -> SessionCore:
        """Make the session the current one, or join the one around it; what it has done already stays its own."""
        session, options, only = self.session, self._options, self.session.only
        outer = stack.current_frame()
        around = None if outer is None or only is None else stack.covering(outer, only)
        if around is not None and options.nested is Nesting.FORBID:
            raise self.is_forbidden()
        if around is not None and options.nested is not Nesting.INDEPENDENT and not session.in_use:
            stack.join(around, options, self, only)
            self.session = around
        else:
            session.outer = stack.session_here()
            session.place = Frame(outer, session, self, only)
            stack.set_frame(session.place)
        self._frame = stack.current_frame()
        return self.session

    @property
    def is_entered(self) -> bool:
        """Whether the scope has not been left: it has tried to, perhaps, and could not."""
        place = self.session.place
        while isinstance(place, Frame):
            if place is self._frame:
                return True
            place = place.before
        return False
