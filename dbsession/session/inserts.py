"""How new objects of one entity are inserted: what does not depend on the objects, worked out once.

An `InsertPlan` belongs to an entity and the attributes that its objects have values for. It is kept
on the mapping, since most flushes insert objects of a kind that has been inserted before.
"""

from __future__ import annotations

from collections.abc import Callable
from operator import itemgetter
from typing import Any

from dbsession.model.attributes import Attribute
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.session.changes import columns_of, spread

__all__ = ["InsertPlan", "insert_plan", "volatile_columns"]

_Row = tuple[Any, ...]


def volatile_columns(mapping: Mapping) -> list[Column]:
    """Return the columns of which the database may have made another value than the one that was sent."""
    columns: list[Column] | None = mapping.sql.get("volatile")
    if columns is None:
        columns = mapping.sql["volatile"] = [c for c in mapping.columns if c.attribute.is_volatile]
    return columns


def insert_plan(mapping: Mapping, shape: tuple[str, ...]) -> InsertPlan:
    """Return the plan for objects of *mapping* with values for the attributes *shape*."""
    plan: InsertPlan | None = mapping.sql.get(("insert plan", shape))
    if plan is None:
        plan = mapping.sql["insert plan", shape] = InsertPlan(mapping, shape)
    return plan


class InsertPlan:
    """The columns of an INSERT, given and returned, and how rows are made of values and of the reply."""

    def __init__(self, mapping: Mapping, shape: tuple[str, ...]) -> None:
        self.mapping = mapping
        names = set(shape)
        self.attributes = [a for a in mapping.attributes.values() if a.name in names and not a.is_virtual]
        self.columns = columns_of(self.attributes)
        self.volatile = volatile_columns(mapping)
        self.returned = [c for c in mapping.columns if c not in self.columns or c in self.volatile]
        dialect = mapping.dialect
        several = dialect.rows_per_insert if self._can_match() else 1
        by_parameters = dialect.max_parameters // max(len(self.columns) + 2, 1)
        self.is_multi = several > 1
        self.rows_at_once = max(1, min(several, by_parameters))
        self.values_of = _getter(self.attributes)
        self.arrange = _arrangement(mapping, [*self.columns, *self.returned])
        self._sql: dict[int, str] = {}

    def _can_match(self) -> bool:
        """Whether the rows that come back can be told apart, by a key that the statement itself knows."""
        if not self.returned:
            return True
        auto = self.mapping.auto_column
        return auto is not None and auto not in self.columns

    def row(self, values: dict[str, Any], left_out: tuple[str, ...]) -> _Row:
        """Return the parameters for an object with *values*; references *left_out* are NULL for now."""
        row: list[Any] = []
        for attribute in self.attributes:
            value = values[attribute.name]
            if isinstance(attribute, ReferenceAttribute):
                key = None if value is None or attribute.name in left_out else value._key_
                row += spread(attribute, key)
            else:
                row.append(attribute.raw(value))  # type: ignore[attr-defined]
        return tuple(row)

    def sql(self, rows: int) -> str:
        """Return the INSERT of so many rows."""
        sql = self._sql.get(rows)
        if sql is None:
            mapping = self.mapping
            auto = mapping.auto_column
            columns = [(column.quoted, column.sql_type) for column in self.columns]
            returning = [column.quoted for column in self.returned]
            key = auto.quoted if auto is not None and auto not in self.columns else None
            sql = mapping.dialect.insert(mapping.quoted, columns, returning, rows, key)
            if rows in (1, self.rows_at_once):  # other sizes are leftovers; their texts are not worth keeping
                self._sql[rows] = sql
        return sql


def _getter(attributes: list[Attribute[Any]]) -> Callable[[dict[str, Any]], _Row] | None:
    """Return what takes the row from an object's values at once, where none of them has to be converted."""
    for attribute in attributes:
        if isinstance(attribute, ReferenceAttribute) or attribute.encode is not None:  # type: ignore[attr-defined]
            return None
    return itemgetter(*[attribute.name for attribute in attributes]) if len(attributes) > 1 else None


def _arrangement(mapping: Mapping, columns: list[Column]) -> Callable[[_Row], _Row] | None:
    """Return what puts values for *columns* into the order of the mapping, or None if they are in it."""
    places = [column.position for column in columns]
    size = len(mapping.columns)
    if places == list(range(size)):
        return None
    # A column that was given and is returned, too, stands twice: the returned value, behind the given one, wins.
    source = {place: index for index, place in enumerate(places)}
    order = [source[place] for place in range(size)]
    return itemgetter(*order) if size > 1 else lambda row: (row[order[0]],)
