"""Gets and queries for one database, run in a unit of work: the queries' `QueryRunner`, and what class verbs need.

Which unit of work that is, is for subclasses to say: that of the current scope, or that of a session
which somebody holds.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from dbsession.errors import ObjectNotFound
from dbsession.model.collections import CollectionAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.expressions import Operation
from dbsession.model.mapping import Mapping
from dbsession.query.arguments import require_objects
from dbsession.query.query import Query
from dbsession.query.selected import Selected
from dbsession.query.sql.compiled import compile_count, compile_exists
from dbsession.query.taking import sample_of
from dbsession.query.tree import Path, Slot
from dbsession.session import bulk_delete, bulk_update, loading, querying, raw_rows, streaming

if TYPE_CHECKING:
    from dbsession.session.core import SessionCore
    from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["Runner", "SessionRunner"]


class Runner(ABC):
    """Runs what is asked of one database in the unit of work that `unit` finds."""

    __slots__ = ("database",)

    def __init__(self, database: DatabaseLink) -> None:
        self.database = database

    @abstractmethod
    def unit(self) -> UnitOfWork:
        """Return the unit of work that is to be asked now."""

    # --- objects and queries ------------------------------------------------------------------

    def get(self, mapping: Mapping, key: Any) -> EntityBase | None:
        """Return the object with *key*: from the identity map, without any SQL, or from the database."""
        unit = self.unit()
        if unit.moves_keys:
            unit.run(unit.autoflush_for(mapping))
        found = unit.find(mapping, key)
        if found is not None:
            if not found._state_.may_change or not isinstance(found, mapping.entity):
                return self._narrowed(unit, mapping, key, found)
            if unit.identity.hollow_of(mapping).get(key) is not found:
                return found
        if unit.deleted:  # its row may go with those of others
            return unit.run(querying.get(unit, mapping, key))
        return unit.run(loading.get(unit, mapping, key))

    @staticmethod
    def _narrowed(unit: UnitOfWork, mapping: Mapping, key: Any, found: EntityBase) -> EntityBase | None:
        """Return *found* if it turns out to be of the wanted class once it is loaded."""
        if found._state_.may_change and unit.identity.hollow_of(mapping).get(key) is found:
            try:
                found.load()
            except ObjectNotFound:
                return None
            if isinstance(found, mapping.entity):
                return found
        return None

    def select(self, mapping: Mapping, conditions: tuple[Any, ...], values: dict[str, Any]) -> Query[Any]:
        """Return the query for the objects of *mapping*."""
        selected: Selected | None = mapping.sql.get("select")
        if selected is None:
            selected = mapping.sql["select"] = Selected.of(mapping)
        query: Query[Any] = Query(selected, self._runner())
        return query.filter(*conditions, **values) if conditions or values else query

    def query(self, selected: Selected, values: tuple[Any, ...]) -> Query[Any]:
        """Return the query for what *selected* asks for."""
        return Query(selected, self._runner(), values)

    def select_by_sql(self, mapping: Mapping, sql: str, params: Any) -> list[Any]:
        """Return the objects of *mapping* whose rows *sql* gives."""
        unit = self.unit()
        return unit.run(raw_rows.select_by_sql(unit, mapping, sql, params))

    def select_linked(self, attribute: CollectionAttribute, owner: EntityBase) -> Query[Any]:
        """Return the query for the objects that *owner* is linked to."""
        selected: Selected | None = attribute.mapping.sql.get(("linked", attribute.name))
        if selected is None:
            everything = Selected.of(attribute.target)
            linked: Operation[bool] = Operation("in", everything.result, Path(Slot(0, sample_of(owner)), attribute))
            selected = everything.replace(conditions=(linked,))
            attribute.mapping.sql["linked", attribute.name] = selected
        return Query(selected, self._runner(), (owner,))

    def _runner(self) -> Runner:
        """Return what is to send a query that is made now."""
        return self

    def _unit_for(self, selected: Selected) -> UnitOfWork:
        """Return the unit of work that is to send the query *selected*."""
        return self.unit()

    # --- the queries' QueryRunner -------------------------------------------------------------

    def fetch(self, selected: Selected, values: tuple[Any, ...]) -> list[Any]:
        """Return the results."""
        unit = self._unit_for(selected)
        return unit.run(querying.fetch(unit, selected, values))

    def stream(self, selected: Selected, values: tuple[Any, ...], batch: int) -> Iterator[Any]:
        """Iterate over the results, *batch* of them in memory at a time."""
        return streaming.iterate(partial(self._unit_for, selected), selected, values, batch)

    def count(self, selected: Selected, values: tuple[Any, ...]) -> int:
        """Return how many there are."""
        unit = self._unit_for(selected)
        number: int = unit.run(querying.ask(unit, compile_count(selected), values))[0][0]
        return number

    def exists(self, selected: Selected, values: tuple[Any, ...]) -> bool:
        """Return whether there is one."""
        unit = self._unit_for(selected)
        return bool(unit.run(querying.ask(unit, compile_exists(selected), values)))

    def aggregate(self, selected: Selected, values: tuple[Any, ...], operator: str, *options: Any) -> Any:
        """Return the aggregate *operator* of the values."""
        unit = self._unit_for(selected)
        return unit.run(querying.aggregate(unit, selected, values, operator, *options))

    def delete(self, selected: Selected, values: tuple[Any, ...], *, bulk: bool) -> int:
        """Delete the objects, each once, and return how many different ones there were."""
        unit = self._unit_for(selected)
        if bulk:
            return unit.run(bulk_delete.delete_in_bulk(unit, selected, values))
        require_objects(selected)
        results = unit.run(querying.fetch(unit, selected, values))
        objects = dict.fromkeys([obj for obj in results if obj is not None])  # a reference may lead to nothing
        unit.delete(*objects)
        return len(objects)

    def update(
        self, selected: Selected, values: tuple[Any, ...], assigned: dict[str, Any], *, bump_version: bool
    ) -> int:
        """Change all rows with one statement, and return how many there were."""
        unit = self._unit_for(selected)
        unit.check_owner()
        assignments = bulk_update.checked(unit, selected.mapping, assigned, bump_version=bump_version)
        return unit.run(bulk_update.update_in_bulk(unit, selected, values, assignments))


class SessionRunner(Runner):
    """Runs what is asked of a session that somebody holds."""

    __slots__ = ("_held", "_session")

    def __init__(self, session: SessionCore, database: DatabaseLink, held: object = None) -> None:
        super().__init__(database)
        self._session = session
        self._held = held  # what would end the session if it went with the last reference to it

    def unit(self) -> UnitOfWork:
        """Return the unit of work of the session.

        Raises:
            DatabaseSessionIsOver: the session was closed.
            ScopeOwnershipError: it belongs to another thread or task.
        """
        session = self._session
        if session.is_over:
            session.require_open("use the database")
        session.check_owner()
        return session.unit(self.database)
