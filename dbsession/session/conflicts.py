"""What to say when a row was not as the session had seen it: one more read, on the way to the error only."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Statement
from dbsession.errors import DatabaseError, IntegrityError, OptimisticCheckError, OrmError
from dbsession.model.attributes import PendingExpression, ValueAttribute
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Mapping
from dbsession.session.origins import Origin, describe

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["explain_conflict", "key_statement", "name_objects", "seen_and_found"]


def key_statement(mapping: Mapping, key: Any, *, lock: str = "") -> Statement:
    """Return the SELECT of one row by its key."""
    cache_key = ("get", lock)
    sql = mapping.sql.get(cache_key)
    if sql is None:
        columns = ", ".join([column.quoted for column in mapping.wide])
        mark = mapping.dialect.placeholder
        keys = " AND ".join([f"{column.quoted} = {mark}" for column in mapping.key_columns])
        sql = f"SELECT {columns} FROM {mapping.quoted} WHERE {keys}"
        if lock and mapping.dialect.has_row_locks:
            sql += f" {lock}"
        mapping.sql[cache_key] = sql
    return Statement(sql, key if isinstance(key, tuple) else (key,), returns=True)


def _whole_row(mapping: Mapping, key: Any) -> Statement:
    """Return the SELECT of one row with every column of *mapping*, lazy ones too, in their order."""
    columns = ", ".join([column.quoted for column in mapping.columns])
    mark = mapping.dialect.placeholder
    keys = " AND ".join([f"{column.quoted} = {mark}" for column in mapping.key_columns])
    sql = f"SELECT {columns} FROM {mapping.quoted} WHERE {keys}"
    return Statement(sql, key if isinstance(key, tuple) else (key,), returns=True)


_SOMEBODY = ("somebody else", "retry the work, with @db_session(retry=...) for instance")
_SOMEBODY_OR_WE = (
    "somebody else, or by the db.execute() of this session,",
    "read objects after db.execute() has changed their rows, not before; if it was somebody else, retry the work",
)


def explain_conflict(unit: UnitOfWork, obj: EntityBase) -> Flow[OrmError]:
    """Return the `OptimisticCheckError` for *obj*, whose row was not matched; the transaction is rolled back by now."""
    unit.rests_on_old = True
    mapping = obj._mapping_
    checked = unit.checks_names(obj)
    who, way_out = _SOMEBODY
    if unit.forgets_reads:
        who, way_out = _SOMEBODY_OR_WE
    try:
        result = yield from unit.transaction.ask(_whole_row(mapping, mapping.key_of(obj._row_)))
        rows = result.rows
    except OrmError:  # the first error is the one that counts
        rows = None
    if rows is None:
        return OptimisticCheckError(
            f"{obj!r} was changed or deleted by {who} since it was read here; {way_out}", obj=obj
        )
    if not rows:
        return OptimisticCheckError(
            f"{obj!r} was deleted by {who} since it was read here; {way_out}, so that it starts from what is there now",
            obj=obj,
        )
    differences = seen_and_found(obj, rows[0], checked)
    changed = "; ".join(f"{name}: {seen!r} was seen, {found!r} is there now" for name, seen, found in differences)
    return OptimisticCheckError(
        f"{obj!r} was changed by {who} since it was read here{f' ({changed})' if changed else ''}; {way_out}, "
        f"or lock the row with get_for_update()",
        obj=obj,
        differences=differences,
    )


def seen_and_found(obj: EntityBase, row: tuple[Any, ...], names: tuple[str, ...]) -> list[tuple[str, Any, Any]]:
    """Return (attribute, value seen, value found) for the attributes of *names* that differ."""
    differences: list[tuple[str, Any, Any]] = []
    changes: dict[str, Any] = obj._changes_ if obj._state_.has_changes else {}
    for name in names:
        attribute = obj._mapping_.attributes[name]
        change = changes.get(name)
        for column in attribute.columns:
            found = row[column.position]
            seen = change.raw if isinstance(change, PendingExpression) else obj._row_[column.position]
            if seen != found:
                decode = attribute.decode if isinstance(attribute, ValueAttribute) else None
                if decode is not None:
                    seen = None if seen is None else decode(seen)
                    found = None if found is None else decode(found)
                differences.append((name, seen, found))
    return differences


# By the SQLSTATE of PostgreSQL, or the words of SQLite.
_CAUSES = (
    ("23505", "UNIQUE", "another row has this value already: get that object, or choose another value"),
    ("23503", "FOREIGN KEY", "it refers to a row that is not there, or other rows refer to the one that is to go"),
    ("23502", "NOT NULL", "the column takes no NULL: give the attribute a value"),
    ("23514", "CHECK", "a rule of the table refuses the value"),
)


def name_objects(error: DatabaseError, objects: list[EntityBase], made: Origin | None) -> None:
    """Let *error* say which *objects* were being saved, and, of a constraint, what usually is the cause.

    *made*: where the first of them was made, if it is new.
    """
    names = ", ".join(map(repr, objects[:3])) + (f" and {len(objects) - 3} more" if len(objects) > 3 else "")
    text = f"{error} - while saving {names}"
    if made is not None:
        text += f" (made in {describe(made)})"
    if isinstance(error, IntegrityError):
        for sqlstate, words, cause in _CAUSES:
            if error.sqlstate == sqlstate or (error.sqlstate is None and str(error).startswith(words)):
                text += f"; {cause}"
                if words == "FOREIGN KEY":
                    text += _references(objects)
    error.args = (text, *error.args[1:])


def _references(objects: list[EntityBase]) -> str:
    """Name what a single object refers to: SQLite does not say which reference was broken."""
    if len(objects) != 1:
        return ""
    obj = objects[0]
    named = [
        f"{attribute.name}={obj.__dict__[attribute.name]!r}"
        for attribute in obj._mapping_.reference_attributes
        if not attribute.is_virtual and obj.__dict__.get(attribute.name) is not None
    ]
    return f" ({', '.join(named)})" if named else ""
