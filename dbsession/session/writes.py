"""From changed objects to statements, and from their replies back to the objects.

A `Write` is one statement and the objects that it saves. Objects that follow each other in the
order of the flush and differ only in their values share one statement. Every run of a statement has
a tag, so that a row that was not matched names its object.

The optimistic check stands here: UPDATE and DELETE say, beside the key, what the session has read,
as ``column IS NOT DISTINCT FROM value``; NULL needs no other text, so that like objects stay together.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from dbsession.backends.base import Dialect
from dbsession.backends.statements import Kind, Result, Statement
from dbsession.errors import UnexpectedError
from dbsession.model.attributes import Attribute, PendingExpression, ReferenceAttribute, ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, LinkTable, Mapping
from dbsession.model.state import NOT_LOADED, UNSET, Status, set_row
from dbsession.query.compiler import Compiler

__all__ = [
    "Change",
    "DeleteWrite",
    "InsertWrite",
    "LinkWrite",
    "UpdateWrite",
    "VacateWrite",
    "Write",
    "change_of",
    "checked_names",
    "raw_value",
    "vacating",
]


def _same_check(dialect: Dialect) -> str:
    """Return the operator that compares with NULL as equal to NULL."""
    return "IS NOT DISTINCT FROM" if dialect.name == "postgresql" else "IS"


def raw_value(obj: EntityBase, attribute: Attribute[Any]) -> Any:
    """Return the value of *attribute* as it travels; several columns give a tuple."""
    if isinstance(attribute, ReferenceAttribute):
        return attribute.raw_key(obj)
    assert isinstance(attribute, ValueAttribute)
    value = obj.__dict__.get(attribute.name, UNSET)
    return obj._row_[attribute.position] if value is UNSET else attribute.raw(value)


def _spread(attribute: Attribute[Any], raw: Any) -> tuple[Any, ...]:
    """Return *raw* as one value a column."""
    if len(attribute.columns) == 1:
        return (raw,)
    return (None,) * len(attribute.columns) if raw is None else tuple(raw)


def _key_parameters(mapping: Mapping, key: Any) -> tuple[Any, ...]:
    return (key,) if len(mapping.key_columns) == 1 else tuple(key)


def _columns(attributes: Iterable[Attribute[Any]]) -> list[Column]:
    return [column for attribute in attributes for column in attribute.columns]


class Write:
    """One statement of a flush, with the objects that it saves, in the order of its runs."""

    def __init__(self, mapping: Mapping | None, tag: int) -> None:
        self.mapping = mapping
        self.tag = tag
        self.objects: list[EntityBase] = []

    def statement(self) -> Statement:
        """Return what is to be sent."""
        raise NotImplementedError

    def apply(self, result: Result) -> None:
        """Bring the objects into agreement with the *result*."""
        raise NotImplementedError


# --- INSERT --------------------------------------------------------------------------------------


class InsertWrite(Write):
    """Saves new objects of one entity that have values for the same attributes."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, given: tuple[str, ...], tag: int, room: int) -> None:
        super().__init__(mapping, tag)
        self.given = given
        self.attributes = [mapping.attributes[name] for name in given]
        self.columns = _columns(self.attributes)
        self.returned = [c for c in mapping.columns if c not in self.columns or c.attribute.is_volatile]
        dialect = mapping.dialect
        several = dialect.rows_per_insert if self._can_match() else 1
        self.room = min(room, max(1, min(several, dialect.max_parameters // max(len(self.columns) + 2, 1))))
        if several == 1:
            self.room = room
        self.rows: list[tuple[Any, ...]] = []
        self.is_multi = several > 1

    def _can_match(self) -> bool:
        """Whether the rows that come back can be told apart, by a key that the statement itself knows."""
        if not self.returned:
            return True
        auto = self.mapping.auto_column
        return auto is not None and auto not in self.columns

    def add(self, obj: EntityBase, row: tuple[Any, ...]) -> None:
        """Take in one more object, with the values of its columns."""
        self.objects.append(obj)
        self.rows.append(row)

    def statement(self) -> Statement:
        """Return one INSERT for all rows, or one for each row where that is cheaper or the only sound way."""
        mapping = self.mapping
        count = len(self.rows)
        multi = self.is_multi and count > 1
        sql = self._sql(count if multi else 1)
        if multi:
            flat = [value for row in self.rows for value in row]
            return Statement(sql, flat, Kind.WRITE, expect=count, tag=self.tag, returns=bool(self.returned))
        returns = bool(self.returned)
        if count == 1:
            return Statement(sql, self.rows[0], Kind.WRITE, expect=1, tag=self.tag, returns=returns)
        return Statement(sql, list(self.rows), Kind.WRITE, many=True, expect=1, tag=self.tag, returns=returns)

    def _sql(self, rows: int) -> str:
        mapping = self.mapping
        cache_key = ("insert", self.given, rows)
        sql: str | None = mapping.sql.get(cache_key)
        if sql is None:
            auto = mapping.auto_column
            columns = [(column.quoted, column.sql_type) for column in self.columns]
            returning = [column.quoted for column in self.returned]
            key = auto.quoted if auto is not None and auto not in self.columns else None
            sql = mapping.dialect.insert(mapping.quoted, columns, returning, rows, key)
            if rows in (1, self.room):  # other sizes are leftovers; their texts are not worth keeping
                mapping.sql[cache_key] = sql
        return sql

    def apply(self, result: Result) -> None:
        """Give each object its row, with what the database made; rows are matched by their number, never by place."""
        count = len(self.objects)
        if not self.returned:
            returned: Sequence[tuple[Any, ...]] = ((),) * count
        elif self.is_multi and count > 1:
            by_number: list[tuple[Any, ...] | None] = [None] * count
            for row in result.rows:
                by_number[row[0]] = row[1:]
            if None in by_number:
                raise UnexpectedError(f"{count} {self.mapping.name} were inserted, and {len(result.rows)} rows came back")
            returned = by_number  # type: ignore[assignment]
        else:
            returned = result.rows
        places = [column.position for column in (*self.columns, *self.returned)]
        size = len(self.mapping.columns)
        in_order = places == list(range(size))
        order = sorted(range(size), key=places.__getitem__) if not self._has_doubles(places) else None
        for obj, given, made in zip(self.objects, self.rows, returned, strict=True):
            row = (*given, *made)
            if not in_order:
                row = tuple([row[index] for index in order]) if order is not None else self._placed(row, places, size)
            set_row(obj, row)

    def _has_doubles(self, places: list[int]) -> bool:
        return len(set(places)) < len(places)

    def _placed(self, row: tuple[Any, ...], places: list[int], size: int) -> tuple[Any, ...]:
        placed: list[Any] = [None] * size
        for place, value in zip(places, row, strict=True):  # a returned value stands behind the given one, and wins
            placed[place] = value
        return tuple(placed)


# --- UPDATE and DELETE -----------------------------------------------------------------------------


class Change(NamedTuple):
    """What an UPDATE or DELETE of one object says: attributes to set, attributes to check, their values."""

    sets: tuple[str, ...]
    checks: tuple[str, ...]
    parameters: tuple[Any, ...]  # of the sets, the key and the checks, in this order
    row: tuple[Any, ...]  # the row afterwards
    expressions: tuple[tuple[str, PendingExpression], ...] = ()


def _unsaved(obj: EntityBase) -> dict[str, Any]:
    return obj._changes_ if obj._state_.status in _WITH_CHANGES else {}


_WITH_CHANGES = frozenset({Status.DIRTY, Status.MARKED_FOR_DELETION})


def checked_names(obj: EntityBase, mapping: Mapping) -> tuple[str, ...]:
    """Return the attributes that the session has read of *obj*, and that a check can be made of."""
    changes = _unsaved(obj)
    attributes = mapping.attributes
    names = [name for name in obj.__dict__ if name not in changes and name in attributes]
    for name, change in changes.items():
        if change.was_read if isinstance(change, PendingExpression) else change:
            names.append(name)
    checked = [name for name in names if attributes[name].is_checked and not attributes[name].is_virtual]
    if mapping.version is not None and mapping.version.name not in checked:
        checked.append(mapping.version.name)
    if len(checked) > 1:
        checked.sort(key=lambda name: attributes[name].position)
    return tuple(checked)


def _seen(obj: EntityBase, mapping: Mapping, names: tuple[str, ...]) -> list[Any]:
    """Return the raw values of *names* as the session saw them."""
    row = obj._row_
    changes = _unsaved(obj)
    values: list[Any] = []
    for name in names:
        change = changes.get(name)
        if isinstance(change, PendingExpression):
            values.append(change.raw)
        else:
            values.extend([row[column.position] for column in mapping.attributes[name].columns])
    return values


def change_of(obj: EntityBase, *, checked: bool) -> Change | None:
    """Return what an UPDATE of *obj* has to say, or None if nothing has really changed.

    *checked*: compare what was read; the version, where there is one, is compared in any case.
    """
    mapping = obj._mapping_
    changes = obj._changes_
    row = list(obj._row_)
    sets: list[tuple[int, str]] = []
    expressions: list[tuple[str, PendingExpression]] = []
    for name, change in changes.items():
        attribute = mapping.attributes[name]
        if isinstance(change, PendingExpression):
            expressions.append((name, change))
            continue
        raw = _spread(attribute, raw_value(obj, attribute))
        before = [row[column.position] for column in attribute.columns]
        if not _is_same(attribute, before, raw):
            sets.append((attribute.position, name))
            for column, value in zip(attribute.columns, raw, strict=True):
                row[column.position] = value
    if not sets and not expressions:
        return None
    version = mapping.version
    if version is not None:
        row[version.position] = obj._row_[version.position] + 1
        sets.append((version.position, version.name))
    if len(sets) > 1:
        sets.sort()
    names = tuple([name for _, name in sets])
    parameters = [row[column.position] for name in names for column in mapping.attributes[name].columns]
    checks = checked_names(obj, mapping) if checked else ((version.name,) if version is not None else ())
    key = _key_parameters(mapping, mapping.key_of(obj._row_))
    return Change(
        names, checks, (*parameters, *key, *_seen(obj, mapping, checks)), tuple(row), tuple(expressions)
    )


def vacating(obj: EntityBase, names: tuple[str, ...], *, checked: bool) -> Change:
    """Return the UPDATE that sets *names* to NULL for a while, so that other rows can take their values."""
    mapping = obj._mapping_
    row = list(obj._row_)
    columns = _columns(mapping.attributes[name] for name in names)
    for column in columns:
        row[column.position] = None
    checks = checked_names(obj, mapping) if checked else ()
    key = _key_parameters(mapping, mapping.key_of(obj._row_))
    return Change(names, checks, (*(None for _ in columns), *key, *_seen(obj, mapping, checks)), tuple(row))


def _is_same(attribute: Attribute[Any], before: list[Any], raw: tuple[Any, ...]) -> bool:
    if before == list(raw):
        return True
    decode = getattr(attribute, "decode", None)
    # The database may spell the same JSON in another way.
    if not getattr(attribute, "is_tracked", False) or None in before or None in raw or NOT_LOADED in before:
        return False
    return bool(decode is not None and decode(before[0]) == decode(raw[0]))


class UpdateWrite(Write):
    """Updates objects of one entity that set and check the same attributes."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, change: Change, tag: int) -> None:
        super().__init__(mapping, tag)
        self.sets = change.sets
        self.checks = change.checks
        self.expressions = change.expressions
        self.changes: list[Change] = []
        names = {name for name, _ in change.expressions}
        self.returned = [c for c in mapping.columns if c.attribute.is_volatile or c.attribute.name in names]

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
        self.changes.append(change)

    def statement(self) -> Statement:
        """Return the UPDATE, with as many runs as there are objects."""
        rows = [change.parameters for change in self.changes]
        returns = bool(self.returned)
        if self.expressions:
            sql, extra = self._with_expressions()
            return Statement(sql, (*extra, *rows[0]), Kind.WRITE, expect=1, tag=self.tag, returns=returns)
        sql = self._sql()
        if len(rows) == 1:
            return Statement(sql, rows[0], Kind.WRITE, expect=1, tag=self.tag, returns=returns)
        return Statement(sql, rows, Kind.WRITE, many=True, expect=1, tag=self.tag, returns=returns)

    def _sql(self) -> str:
        cache = self.mapping.sql
        cache_key = ("update", self.sets, self.checks)
        sql: str | None = cache.get(cache_key)
        if sql is None:
            sql = cache[cache_key] = self._text([])
        return sql

    def _with_expressions(self) -> tuple[str, list[Any]]:
        compiler = Compiler(self.mapping)
        assignments: list[str] = []
        for name, pending in self.expressions:
            attribute = self.mapping.attributes[name]
            assignments.append(f"{attribute.columns[0].quoted} = {compiler.render(pending.expression, attribute)}")
        return self._text(assignments), compiler.params

    def _text(self, assignments: list[str]) -> str:
        mapping = self.mapping
        mark = mapping.dialect.placeholder
        plain = [f"{c.quoted} = {mark}" for c in _columns(mapping.attributes[name] for name in self.sets)]
        sql = f"UPDATE {mapping.quoted} SET {', '.join([*assignments, *plain])}{_where(mapping, self.checks)}"
        if self.returned:
            sql += f" RETURNING {', '.join([column.quoted for column in self.returned])}"
        return sql

    def apply(self, result: Result) -> None:
        """Give each object the row that it now has."""
        returned: Sequence[tuple[Any, ...]] = result.rows if self.returned else ((),) * len(self.objects)
        for obj, change, made in zip(self.objects, self.changes, returned, strict=True):
            row = change.row
            if made:
                values = list(row)
                for column, value in zip(self.returned, made, strict=True):
                    if column.attribute.is_volatile and values[column.position] != value:
                        obj.__dict__.pop(column.attribute.name, None)
                    values[column.position] = value
                row = tuple(values)
            set_row(obj, row)


class VacateWrite(UpdateWrite):
    """Empties unique columns of one object for a while; the object stays unsaved."""

    def __init__(self, mapping: Mapping, change: Change, tag: int) -> None:
        super().__init__(mapping, change, tag)
        self.change = change

    def takes(self, mapping: Mapping, change: Change) -> bool:
        """Share with nobody."""
        return False


class DeleteWrite(Write):
    """Deletes objects of one entity that check the same attributes."""

    mapping: Mapping

    def __init__(self, mapping: Mapping, checks: tuple[str, ...], tag: int) -> None:
        super().__init__(mapping, tag)
        self.checks = checks
        self.rows: list[tuple[Any, ...]] = []

    @staticmethod
    def checks_of(obj: EntityBase, *, checked: bool) -> tuple[str, ...]:
        """Return the attributes that a DELETE of *obj* has to check."""
        mapping = obj._mapping_
        if checked:
            return checked_names(obj, mapping)
        return (mapping.version.name,) if mapping.version is not None else ()

    def add(self, obj: EntityBase) -> None:
        """Take in one more object."""
        mapping = self.mapping
        self.objects.append(obj)
        key = _key_parameters(mapping, mapping.key_of(obj._row_))
        self.rows.append((*key, *_seen(obj, mapping, self.checks)))

    def statement(self) -> Statement:
        """Return the DELETE, with as many runs as there are objects."""
        mapping = self.mapping
        cache_key = ("delete", self.checks)
        sql = mapping.sql.get(cache_key)
        if sql is None:
            sql = mapping.sql[cache_key] = f"DELETE FROM {mapping.quoted}{_where(mapping, self.checks)}"
        if len(self.rows) == 1:
            return Statement(sql, self.rows[0], Kind.WRITE, expect=1, tag=self.tag)
        return Statement(sql, list(self.rows), Kind.WRITE, many=True, expect=1, tag=self.tag)

    def apply(self, result: Result) -> None:
        """Do nothing: what a deleted object becomes is the unit of work's business."""


def _where(mapping: Mapping, checks: tuple[str, ...]) -> str:
    dialect = mapping.dialect
    parts = [f"{column.quoted} = {dialect.placeholder}" for column in mapping.key_columns]
    same = _same_check(dialect)
    parts += [f"{c.quoted} {same} {dialect.placeholder}" for c in _columns(mapping.attributes[name] for name in checks)]
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
            *_key_parameters(link.left.mapping, left._key_),
            *_key_parameters(link.right.mapping, right._key_),
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
