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

    __slots__ = ("session",)

    def __init__(self, session: SessionCore) -> None:
        super().__init__(session.options)
        self.session = session  # in which the work is done: another one, if it was joined

    def __repr__(self) -> str:
        return f"with {self.session!r}"

    def enter(self) -> SessionCore:
        """Make the session the current one, or join the one around it; what it has done already stays its own."""
        session, options = self.session, self._options
        outer = stack.current_frame()
        if outer is not None and outer.session.is_here():
            around = stack.covering(outer, session.only) if session.only is not None else None
            if around is not None and options.nested is Nesting.FORBID:
                raise self.is_forbidden()
            if around is not None and options.nested is not Nesting.INDEPENDENT and not session.in_use:
                stack.join(around, options, self)
                self.session = around
                return around
            session.outer = outer.session
        frame = session.place = Frame(outer, session, self)
        stack.set_frame(frame)
        return session
