"""The door from entities and queries to the current scope: the model's `Gateway`."""

from __future__ import annotations

from typing import Any

from dbsession.errors import QueryLeftScope, ScopeOwnershipError
from dbsession.model.collections import Collection
from dbsession.model.entity import EntityBase
from dbsession.query.selected import Selected
from dbsession.scope import stack
from dbsession.scope.handles import HandleScope
from dbsession.session.core import SessionCore
from dbsession.session.detached import DetachedUnit
from dbsession.session.opened import is_open_here
from dbsession.session.runner import Runner
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["ScopeGateway"]


class ScopeGateway(Runner):
    """Finds the unit of work of the current scope for one database, and runs what is asked there."""

    __slots__ = ("_from_scope",)

    def __init__(self, database: DatabaseLink) -> None:
        super().__init__(database)
        self._from_scope: Runner = _FromScope(database)

    def unit(self) -> UnitOfWork:
        """Return the unit of work of the current scope.

        Raises:
            NoScopeError: there is no scope here, or it is for another database.
            ScopeOwnershipError: the scope belongs to another thread or task.
        """
        return stack.session_for(self.database).unit(self.database)

    def unit_for_new(self, values: dict[str, Any]) -> UnitOfWork:
        """Return the unit of work for an object that is being constructed with *values*; see the model's `Gateway`."""
        frame = stack.current_frame()
        if frame is None:
            return self._unit_outside(values)
        session = frame.session
        try:
            if (
                frame.only is None and session.only is None
            ):  # as `session_for` does it, written out: this is asked for each new object
                session.check_owner()
            else:
                session = stack.session_for(self.database)
        except ScopeOwnershipError:
            if is_open_here():  # the scope of another task or thread, in a copied context
                return self._unit_outside(values)
            raise
        return session.unit(self.database)

    def _unit_outside(self, values: dict[str, Any]) -> UnitOfWork:
        """Return the unit of work for a new object outside of any scope."""
        for value in values.values():
            for related in value if isinstance(value, (list, tuple, set, Collection)) else (value,):
                unit: Any = related._state_.unit if isinstance(related, EntityBase) else None
                if unit is not None and unit.is_detached:
                    found: UnitOfWork = unit
                    return found
        if not is_open_here():
            raise stack.no_scope(
                "; while a Session(db) is open, an object may be built outside of any scope, and given to "
                "session.add(...)"
            )
        return self.make_detached()

    def make_detached(self) -> DetachedUnit:
        """Return a new unit of work without a session."""
        return DetachedUnit(self.database)

    def saving_now(self) -> None:
        """Note that something is about to be saved before the end of the current scope."""
        stack.session_for(self.database).has_committed = True

    def enter(self, session: SessionCore) -> HandleScope:
        """Make *session*, which somebody holds, the current scope, or let it join the one that is."""
        scope = HandleScope(session)
        scope.enter()
        return scope

    def session_here(self) -> SessionCore | None:
        """Return the session of the scope that is current here, whatever it is for."""
        return stack.session_here()

    def _runner(self) -> Runner:
        """Return what is to send a query that is made now."""
        return self if stack.current_frame() is None else self._from_scope


class _FromScope(Runner):
    """The runner of queries that were made within a scope: what they miss outside of any is the one that is over."""

    __slots__ = ()

    def unit(self) -> UnitOfWork:
        """Return the unit of work of the current scope."""
        return stack.session_for(self.database).unit(self.database)

    def _unit_for(self, selected: Selected) -> UnitOfWork:
        if stack.current_frame() is None:
            raise QueryLeftScope(
                f"{stack.no_scope()}. This query for {selected.mapping.name} was made in a db_session, but it sends "
                f"nothing before it is read: read it there, with list(query) for instance"
            )
        return self.unit()
