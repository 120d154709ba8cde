"""SELECTs of rows by lists of keys: their own, or those that they refer to; and what takes the replies.

A list of any length is cut into statements of `KEYS_AT_ONCE` keys. As they need nothing of each other, all of them,
and those of several loads, travel in one round trip (`run_loads`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Result, Statement
from dbsession.model.attributes import Attribute, ValueAttribute
from dbsession.model.mapping import Column, Mapping
from dbsession.model.references import ReferenceAttribute
from dbsession.session.conflicts import key_statement

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["KEYS_AT_ONCE", "Load", "among", "by_keys", "chunks", "deliver", "referring", "run_loads", "with_columns"]

KEYS_AT_ONCE = 500  # keys in one IN (...) list


class Load(NamedTuple):
    """Statements that may travel with others, and what takes their results."""

    statements: list[Statement]
    take: Callable[[list[Result]], None]


def run_loads(unit: UnitOfWork, loads: Sequence[Load]) -> Flow[None]:
    """Send the statements of *loads* in one round trip, and let each take its results."""
    statements = [statement for load in loads for statement in load.statements]
    if not statements:
        return
    results = yield from unit.transaction.read(*statements)
    deliver(loads, results)


def deliver(loads: Sequence[Load], results: list[Result]) -> None:
    """Let each of *loads* take its results, of those to all of their statements."""
    start = 0
    for load in loads:
        end = start + len(load.statements)
        load.take(results[start:end])
        start = end


def chunks(keys: list[Any]) -> Iterator[list[Any]]:
    """Cut *keys* into lists that one statement can take."""
    for start in range(0, len(keys), KEYS_AT_ONCE):
        yield keys[start : start + KEYS_AT_ONCE]


def among(mapping: Mapping, columns: Sequence[str], keys: list[Any]) -> tuple[str, list[Any]]:
    """Return the condition that *columns*, as SQL, are one of *keys*, and its parameters."""
    dialect = mapping.dialect
    mark, parts = dialect.placeholder, len(columns)
    if parts == 1:
        return f"{columns[0]} IN ({', '.join([mark] * len(keys))})", keys
    one = f"({', '.join([mark] * parts)})"
    values = "VALUES " if dialect.row_values_need_values else ""
    listed = values + ", ".join([one] * len(keys))
    return f"({', '.join(columns)}) IN ({listed})", [value for key in keys for value in key]


def by_keys(mapping: Mapping, keys: Iterable[Any], source: Sequence[Column] = ()) -> list[Statement]:
    """Return the SELECTs of the rows with *keys*: the columns *source*, or all that are not lazy."""
    keys = list(keys)
    if len(keys) == 1 and not source:
        return [key_statement(mapping, keys[0])]
    return _rows(mapping, mapping.key_columns, keys, source or mapping.wide, ("", []))


def referring(reference: ReferenceAttribute, keys: Iterable[Any], source: Sequence[Column]) -> list[Statement]:
    """Return the SELECTs of the rows that refer to one of *keys* by *reference*: the columns *source*."""
    return _rows(reference.mapping, reference.columns, list(keys), source, _kinds(reference.mapping))


def _rows(
    mapping: Mapping, columns: Sequence[Column], keys: list[Any], source: Sequence[Column], kinds: tuple[str, list[Any]]
) -> list[Statement]:
    picked = ", ".join([column.quoted for column in source])
    names = [column.quoted for column in columns]
    narrowed, values = kinds
    statements: list[Statement] = []
    for chunk in chunks(keys):
        where, params = among(mapping, names, chunk)
        sql = f"SELECT {picked} FROM {mapping.quoted} WHERE {where}{narrowed}"
        statements.append(Statement(sql, [*params, *values], returns=True))
    return statements


def _kinds(mapping: Mapping) -> tuple[str, list[Any]]:
    """Return what keeps the rows of this entity in the table of its hierarchy: a condition, and its parameters."""
    if mapping.root is mapping:
        return "", []
    column = mapping.root.discriminator
    assert isinstance(column, ValueAttribute)
    values = [column.raw(member.discriminator_value) for member in mapping.family()]
    marks = ", ".join([mapping.dialect.placeholder] * len(values))
    return f" AND {column.columns[0].quoted} IN ({marks})", values


def with_columns(source: Iterable[Column], attributes: Iterable[Attribute[Any]]) -> tuple[Column, ...]:
    """Return *source* with the columns of *attributes*, each column once."""
    columns = {column.name: column for column in source}
    for attribute in attributes:
        for column in attribute.columns:
            columns.setdefault(column.name, column)
    return tuple(columns.values())
