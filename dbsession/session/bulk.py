"""What an UPDATE and a DELETE for many rows have in common: how they are sent, and who in memory is meant by a row."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Kind, Result, Row, Statement
from dbsession.errors import DatabaseError, InvalidRequestError
from dbsession.model.entity import EntityBase
from dbsession.model.mapping import Column, Mapping

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["key_in", "require_writable", "saved_objects", "send"]


def require_writable(unit: UnitOfWork, doing: str) -> None:
    """Raise `InvalidRequestError` if the scope has promised to change nothing."""
    if unit.savepoint is not None:
        unit.savepoint.require_writable()
    if unit.transaction.policy.mode.read_only:
        raise InvalidRequestError(
            f"Cannot {doing} in a db_session(read_only=True), which changes nothing; leave read_only out, or do it in "
            f"another scope"
        )


def saved_objects(unit: UnitOfWork, mapping: Mapping) -> dict[Any, EntityBase]:
    """Return the objects of the table of *mapping* by the keys that their rows have in the database."""
    objects = unit.identity.alive(mapping)
    if not unit.has_pending():
        return objects
    # There was no autoflush. A new object may stand in the place of one that is to be deleted, or to get another key.
    saved = {key: obj for key, obj in objects.items() if not obj._state_.is_new}
    root = mapping.root
    saved.update({obj._key_: obj for obj in (*unit.dirty, *unit.deleted) if obj._mapping_.root is root})
    return saved


def key_in(row: Row, mapping: Mapping) -> Any:
    """Return the key in a *row* that begins with the key columns."""
    width = len(mapping.key_columns)
    return row[0] if width == 1 else tuple(row[:width])


def send(
    unit: UnitOfWork, mapping: Mapping, sql: str, params: Row, returned: Sequence[Column], *, doing: str
) -> Flow[Result]:
    """Send a write for many rows of *mapping* that answers with the columns *returned*, if any."""
    if returned:
        sql += f" RETURNING {', '.join([column.quoted for column in returned])}"
    try:
        results = yield from unit.transaction.write(Statement(sql, params, Kind.WRITE, returns=bool(returned)))
    except DatabaseError as error:
        error.args = (f"{error} - while {doing} {mapping.name} in bulk", *error.args[1:])
        raise
    return results[0]
