"""The door from entities and queries to the current scope: the model's `Gateway`, the queries' `QueryRunner`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Any

from dbsession.errors import ObjectNotFound, QueryLeftScope
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
from dbsession.scope import stack
from dbsession.session import bulk_delete, bulk_update, loading, querying, raw_rows, streaming
from dbsession.session.unit_of_work import DatabaseLink, UnitOfWork

__all__ = ["ScopeGateway"]


class ScopeGateway:
    """Finds the unit of work of the current scope for one database, and runs what is asked there."""

    __slots__ = ("_database", "_from_scope")

    def __init__(self, database: DatabaseLink) -> None:
        self._database = database
        self._from_scope: ScopeGateway = _FromScope(database, self)

    def unit(self) -> UnitOfWork:
        """Return the unit of work of the current scope.

        Raises:
            NoScopeError: there is no scope here.
            ScopeOwnershipError: the scope belongs to another thread or task.
        """
        return stack.current_session().unit(self._database)

    def saving_now(self) -> None:
        """Note that something is about to be saved before the end of the current scope."""
        stack.current_session().has_committed = True

    # --- the model's Gateway ------------------------------------------------------------------

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

    def _runner(self) -> ScopeGateway:
        """Return what is to send a query that is made now."""
        return self if stack.current_frame() is None else self._from_scope

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


class _FromScope(ScopeGateway):
    """The runner of queries that were made within a scope: what they miss outside of any is the one that is over."""

    __slots__ = ()

    def __init__(self, database: DatabaseLink, gateway: ScopeGateway) -> None:
        self._database = database
        self._from_scope = self

    def _unit_for(self, selected: Selected) -> UnitOfWork:
        if stack.current_frame() is None:
            raise QueryLeftScope(
                f"{stack.no_scope()}. This query for {selected.mapping.name} was made in a db_session, but it sends "
                f"nothing before it is read: read it there, with list(query) for instance"
            )
        return self.unit()
