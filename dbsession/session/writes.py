"""From changed objects to statements, and from their replies back to the objects.

A `Write` is one statement and the objects that it saves. Objects that follow each other in the
order of the flush and differ only in their values share one statement. Every run of a statement has
a tag, so that a row that was not matched names its object.

A check is said as ``column IS NOT DISTINCT FROM value``: NULL needs no other text, so that like objects
stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from dbsession.backends.statements import Kind, Result, Statement
from dbsession.errors import UnexpectedError
from dbsession.model.attributes import ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, LinkTable, Mapping
from dbsession.model.state import NOT_LOADED, set_row
from dbsession.query.sql.compiler import Compiler
from dbsession.session.changes import (
    Change,
    Places,
    checked_places,
    columns_of,
    key_parameters,
    row_seen,
    unsaved,
    version_only,
)
from dbsession.session.inserts import insert_plan, volatile_columns
from dbsession.session.marks import Mark

__all__ = [
    "DeleteWrite",
    "GoneWrite",
    "InsertWrite",
    "LinkWrite",
    "SavepointWrite",
    "UpdateWrite",
    "VacateWrite",
    "Write",
]


class Write:
    """One statement of a flush, with the objects that it saves, in the order of its runs."""

    def __init__(self, mapping: Mapping | None, tag: int) -> None:
        self.mapping = mapping
        self.tag = tag
        self.objects: list[EntityBase] = []
        self.volatile: list[Column] = []

    @property
    def triggers_run_later(self) -> bool:
        """Whether what comes back may not be the last word on the volatile columns."""
        return bool(self.volatile) and self.mapping is not None and not self.mapping.dialect.returns_what_triggers_made

    def statement(self) -> Statement:
        """Return what is to be sent."""
        raise NotImplementedError

    def apply(self, result: Result) -> None:
        """Bring the objects into agreement with the *result*."""
        raise NotImplementedError


def _renew(objects: Iterable[EntityBase], columns: Iterable[Column]) -> None:
    """Let *objects* show what their rows came back with in *columns*, if that is the last word."""
    for obj in objects:
        row = list(obj._row_)
        for column in columns:
            obj.__dict__.pop(column.attribute.name, None)
            if not obj._mapping_.dialect.returns_what_triggers_made:
                row[column.position] = NOT_LOADED
        set_row(obj, tuple(row))


# --- INSERT --------------------------------------------------------------------------------------


class InsertWrite(Write):
    """Saves new objects of one entity that have values for the same attributes."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, shape: tuple[str, ...], tag: int, most: int) -> None:
        super().__init__(mapping, tag)
        self.shape = shape
        self.plan = plan = insert_plan(mapping, shape)
        self.volatile = plan.volatile
        self.room = plan.rows_at_once if plan.is_multi else most
        self.rows: list[tuple[Any, ...]] = []

    def add(self, obj: EntityBase, left_out: tuple[str, ...]) -> None:
        """Take in one more object; references *left_out* stay NULL for now."""
        plan = self.plan
        values = obj.__dict__
        self.objects.append(obj)
        self.rows.append(plan.values_of(values) if plan.values_of is not None else plan.row(values, left_out))

    def statement(self) -> Statement:
        """Return one INSERT for all rows, or one for each row where that is cheaper or the only sound way."""
        plan, tag, count = self.plan, self.tag, len(self.rows)
        returns = bool(plan.returned)
        if count == 1:
            return Statement(plan.sql(1), self.rows[0], Kind.WRITE, expect=1, tag=tag, returns=returns)
        if not plan.is_multi:
            return Statement(plan.sql(1), list(self.rows), Kind.WRITE, many=True, expect=1, tag=tag, returns=returns)
        flat = [value for row in self.rows for value in row]
        return Statement(plan.sql(count), flat, Kind.WRITE, expect=count, tag=tag, returns=returns)

    def apply(self, result: Result) -> None:
        """Give each object its row, with what the database made; rows are matched by their number, never by place."""
        plan = self.plan
        count = len(self.objects)
        returned: Sequence[tuple[Any, ...]] = result.rows if plan.returned else ((),) * count
        if plan.returned and plan.is_multi and count > 1:
            by_number = {row[0]: row[1:] for row in result.rows}
            if len(by_number) < count:
                raise UnexpectedError(
                    f"{count} {self.mapping.name} were inserted, and {len(result.rows)} rows came back"
                )
            returned = [by_number[number] for number in range(count)]
        arrange = plan.arrange
        for obj, given, made in zip(self.objects, self.rows, returned, strict=True):
            row = (*given, *made)
            set_row(obj, row if arrange is None else arrange(row))
        if self.volatile:
            _renew(self.objects, self.volatile)


# --- UPDATE and DELETE -----------------------------------------------------------------------------


class UpdateWrite(Write):
    """Updates objects of one entity that set and check the same columns."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, change: Change, tag: int) -> None:
        super().__init__(mapping, tag)
        self.sets = change.sets
        self.checks = change.checks
        self.expressions = change.expressions
        self.parameters: list[list[Any]] = []
        self.rows: list[tuple[Any, ...]] = []
        self.old_keys: list[Any] = []
        names = {name for name, _ in change.expressions}
        self.volatile = volatile_columns(mapping)
        self.returned = [c for c in mapping.columns if c in self.volatile or c.attribute.name in names]

    def takes(self, mapping: Mapping, change: Change) -> bool:
        """Whether *change* can share this statement."""
        return (
            mapping is self.mapping
            and change.sets == self.sets
            and change.checks == self.checks
            and not change.expressions
            and not self.expressions
        )

    def add(self, obj: EntityBase, change: Change) -> None:
        """Take in one more object."""
        self.objects.append(obj)
        self.parameters.append(change.parameters)
        self.rows.append(change.row)

    def statement(self) -> Statement:
        """Return the UPDATE, with as many runs as there are objects."""
        returns = bool(self.returned)
        if self.expressions:
            sql, extra = self._with_expressions()
            return Statement(sql, (*extra, *self.parameters[0]), Kind.WRITE, expect=1, tag=self.tag, returns=returns)
        sql = self._sql()
        if len(self.parameters) == 1:
            return Statement(sql, self.parameters[0], Kind.WRITE, expect=1, tag=self.tag, returns=returns)
        return Statement(sql, self.parameters, Kind.WRITE, many=True, expect=1, tag=self.tag, returns=returns)

    def _sql(self) -> str:
        cache = self.mapping.sql
        cache_key = ("update", self.sets, self.checks)
        sql: str | None = cache.get(cache_key)
        if sql is None:
            sql = cache[cache_key] = self._text([])
        return sql

    def _with_expressions(self) -> tuple[str, list[Any]]:
        compiler = Compiler.over(self.mapping)
        assignments: list[str] = []
        for name, pending in self.expressions:
            attribute = self.mapping.attributes[name]
            assert isinstance(attribute, ValueAttribute)  # references take no expressions
            assignments.append(f"{attribute.columns[0].quoted} = {compiler.assigned(pending.expression, attribute)}")
        assert not compiler.is_ambiguous  # other tables are refused when an expression is assigned
        text, params = compiler.finished(", ".join(assignments))
        return self._text([text]), params

    def _text(self, assignments: list[str]) -> str:
        mapping = self.mapping
        mark = mapping.dialect.placeholder
        plain = [f"{mapping.columns[place].quoted} = {mark}" for place in self.sets]
        sql = f"UPDATE {mapping.quoted} SET {', '.join([*assignments, *plain])}{_where(mapping, self.checks)}"
        if self.returned:
            sql += f" RETURNING {', '.join([column.quoted for column in self.returned])}"
        return sql

    def apply(self, result: Result) -> None:
        """Give each object the row that it now has."""
        if self.moves_keys():
            self.old_keys = [self.mapping.key_of(obj._row_) for obj in self.objects]
        if not self.returned:
            for obj, row in zip(self.objects, self.rows, strict=True):
                set_row(obj, row)
            return
        for obj, row, made in zip(self.objects, self.rows, result.rows, strict=True):
            values = list(row)
            for column, value in zip(self.returned, made, strict=True):
                values[column.position] = value
            set_row(obj, tuple(values))
        if self.volatile:
            _renew(self.objects, self.volatile)

    def holds(self) -> Places:
        """Return the columns of which the objects have what the rows have, from now until the transaction ends."""
        return (*self.sets, *self.checks, *[column.position for column in self.returned])

    def moves_keys(self) -> bool:
        """Whether the keys of the objects change."""
        return any(column.position in self.sets for column in self.mapping.key_columns)


class VacateWrite(UpdateWrite):
    """Empties unique columns of one object for a while; the object stays unsaved."""

    def takes(self, mapping: Mapping, change: Change) -> bool:
        """Share with nobody."""
        return False


class DeleteWrite(Write):
    """Deletes objects of one entity that check the same columns."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, checks: Places, tag: int, *, in_doubt: bool = False) -> None:
        super().__init__(mapping, tag)
        self.checks = checks
        self.expect = None if in_doubt else 1  # in doubt: the row may have gone with another one
        self.rows: list[tuple[Any, ...]] = []

    @staticmethod
    def checks_of(obj: EntityBase, left_out: tuple[str, ...], *, checked: bool, held: Places = ()) -> Places:
        """Return the columns that a DELETE of *obj* has to check; *left_out* are attributes that it must not."""
        mapping = obj._mapping_
        if not checked:
            return version_only(obj)
        places = checked_places(obj, mapping, unsaved(obj), held)
        excluded = {column.position for column in columns_of(mapping.attributes[name] for name in left_out)}
        return tuple([place for place in places if place not in excluded]) if excluded else places

    def add(self, obj: EntityBase) -> None:
        """Take in one more object."""
        seen = row_seen(obj, unsaved(obj))
        self.objects.append(obj)
        key = key_parameters(self.mapping, self.mapping.key_of(seen))
        self.rows.append((*key, *[seen[place] for place in self.checks]))

    def statement(self) -> Statement:
        """Return the DELETE, with as many runs as there are objects."""
        mapping = self.mapping
        cache_key = ("delete", self.checks)
        sql = mapping.sql.get(cache_key)
        if sql is None:
            sql = mapping.sql[cache_key] = f"DELETE FROM {mapping.quoted}{_where(mapping, self.checks)}"
        if len(self.rows) == 1:
            return Statement(sql, self.rows[0], Kind.WRITE, expect=self.expect, tag=self.tag)
        return Statement(sql, list(self.rows), Kind.WRITE, many=True, expect=self.expect, tag=self.tag)

    def apply(self, result: Result) -> None:
        """Do nothing: what a deleted object becomes is the unit of work's business."""


class GoneWrite(Write):
    """Touches rows that must be gone: a DELETE that was in doubt did not leave one because of what it checks."""

    mapping: Mapping

    def __init__(self, deletes: DeleteWrite, tag: int) -> None:
        super().__init__(deletes.mapping, tag)
        self.objects = deletes.objects

    def statement(self) -> Statement:
        """Return an UPDATE that changes nothing and must find nothing."""
        mapping = self.mapping
        first = mapping.key_columns[0].quoted
        sql = f"UPDATE {mapping.quoted} SET {first} = {first}{_where(mapping, ())}"
        rows = [tuple(key_parameters(mapping, mapping.key_of(obj._row_))) for obj in self.objects]
        return Statement(sql, rows, Kind.WRITE, many=True, expect=0, tag=self.tag)

    def apply(self, result: Result) -> None:
        """Do nothing: there was nothing."""


class SavepointWrite(Write):
    """Sets the savepoint of an inner scope."""

    def __init__(self, mark: Mark, tag: int) -> None:
        super().__init__(None, tag)
        self.mark = mark

    def statement(self) -> Statement:
        """Return the SAVEPOINT."""
        return self.mark.begin

    def apply(self, result: Result) -> None:
        """Change nothing: the transaction knows."""


def _where(mapping: Mapping, checks: Places) -> str:
    dialect = mapping.dialect
    parts = [f"{column.quoted} = {dialect.placeholder}" for column in mapping.key_columns]
    same = dialect.null_safe_equals
    parts += [f"{mapping.columns[place].quoted} {same} {dialect.placeholder}" for place in checks]
    return f" WHERE {' AND '.join(parts)}"


# --- links -----------------------------------------------------------------------------------------


class LinkWrite(Write):
    """Adds or removes links of one many-to-many relation. That a link is there already, or gone already, is fine."""

    def __init__(self, link: LinkTable, tag: int, *, adds: bool) -> None:
        super().__init__(None, tag)
        self.link = link
        self.adds = adds
        self.pairs: list[tuple[Any, ...]] = []

    def add(self, left: EntityBase, right: EntityBase) -> None:
        """Take in one more link; the keys of both ends are known by now."""
        link = self.link
        pair = (
            *key_parameters(link.left.mapping, left._key_),
            *key_parameters(link.right.mapping, right._key_),
        )
        self.pairs.append(pair)
        if link.is_symmetric and left is not right:
            half = len(link.left_columns)
            self.pairs.append((*pair[half:], *pair[:half]))

    def statement(self) -> Statement:
        """Return the INSERT or DELETE, with as many runs as there are links, in the order of their keys."""
        link = self.link
        sql = link.sql.get(self.adds)
        if sql is None:
            sql = link.sql[self.adds] = self._sql()
        pairs = sorted(set(self.pairs), key=_sortable)
        return Statement(sql, pairs, Kind.WRITE, many=True, tag=self.tag)

    def _sql(self) -> str:
        link = self.link
        columns = [*link.left_columns, *link.right_columns]
        mark = link.left.mapping.dialect.placeholder
        if self.adds:
            names = ", ".join([column.quoted for column in columns])
            marks = ", ".join([mark] * len(columns))
            return f"INSERT INTO {link.quoted} ({names}) VALUES ({marks}) ON CONFLICT DO NOTHING"
        return f"DELETE FROM {link.quoted} WHERE {' AND '.join([f'{column.quoted} = {mark}' for column in columns])}"

    def apply(self, result: Result) -> None:
        """Do nothing: collections know their links already."""


def _sortable(key: tuple[Any, ...]) -> tuple[Any, ...]:
    return tuple([(type(part).__name__, part) for part in key])
