"""The tables of a mapping as SQL: what ``create_tables`` sends and ``schema_sql()`` shows.

Names of constraints and indexes begin with ``dbs_``, so that they never meet a user's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dbsession.backends.base import Dialect
from dbsession.model.attributes import Attribute, ReferenceAttribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.mapping import Column, LinkTable, Mapping

__all__ = ["Table", "tables_of"]

_LONGEST_NAME = 63  # bytes; PostgreSQL cuts longer names silently


@dataclass
class Table:
    """One table: its name, and the statements that make it."""

    name: str
    quoted: str
    columns: tuple[Column, ...]
    create: str = ""
    afterwards: list[str] = field(default_factory=list)  # indexes, and foreign keys to tables made later

    def statements(self) -> list[str]:
        """Return everything that makes the table."""
        return [self.create, *self.afterwards]


def tables_of(mappings: Iterable[Mapping], links: Iterable[LinkTable], dialect: Dialect) -> list[Table]:
    """Return the tables of *mappings* and *links*, those that others refer to first."""
    roots = sorted((m for m in mappings if m.root is m), key=lambda mapping: (mapping.rank, mapping.name))
    made: set[str] = set()
    tables: list[Table] = []
    for root in roots:
        made.add(root.quoted)
        tables.append(_entity_table(root, dialect, made))
    tables.extend(_link_table(link, dialect) for link in links)
    return tables


def _name(kind: str, table: str, columns: Sequence[Column]) -> str:
    name = f"dbs_{kind}_{table}"
    if columns:
        name += "__" + "_".join(column.name for column in columns)
    if len(name.encode()) > _LONGEST_NAME:
        digest = hashlib.sha256(name.encode()).hexdigest()[:8]
        name = f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}_{digest}"
    return name


def _quoted(columns: Iterable[Column]) -> str:
    return ", ".join(column.quoted for column in columns)


def _entity_table(root: Mapping, dialect: Dialect, made: set[str]) -> Table:
    columns = _all_columns(root)
    name = root.table if isinstance(root.table, str) else root.table[-1]
    table = Table(name, root.quoted, columns)
    parts = [_column_definition(column, dialect) for column in columns]
    if root.auto_column is None:
        parts.append(f"CONSTRAINT {dialect.quote(_name('pk', name, ()))} PRIMARY KEY ({_quoted(root.key_columns)})")
    attributes = _all_attributes(root)
    for unique in _uniques(root, attributes):
        parts.append(f"CONSTRAINT {dialect.quote(_name('uq', name, unique))} UNIQUE ({_quoted(unique)})")
    for attribute in attributes:
        if isinstance(attribute, ReferenceAttribute) and not attribute.is_virtual:
            constraint = _foreign_key(name, attribute, dialect)
            if dialect.name == "sqlite" or attribute.target.root.quoted in made:
                parts.append(constraint)
            else:
                table.afterwards.append(f"ALTER TABLE {root.quoted} ADD {constraint}")
    table.create = _create(root.quoted, parts)
    table.afterwards += _indexes(root, name, attributes, dialect)
    return table


def _create(quoted: str, parts: Iterable[str]) -> str:
    return f"CREATE TABLE IF NOT EXISTS {quoted} (\n  " + ",\n  ".join(parts) + "\n)"


def _all_columns(root: Mapping) -> tuple[Column, ...]:
    columns: dict[str, Column] = {}
    for member in root.family():
        for column in member.columns:
            columns.setdefault(column.name, column)
    return tuple(columns.values())


def _all_attributes(root: Mapping) -> list[Attribute[object]]:
    attributes: dict[tuple[str, ...], Attribute[object]] = {}
    for member in root.family():
        for attribute in member.attributes.values():
            if attribute.columns:
                attributes.setdefault(tuple(column.name for column in attribute.columns), attribute)
    return list(attributes.values())


def _column_definition(column: Column, dialect: Dialect) -> str:
    if column.auto and column.is_key:
        return f"{column.quoted} {dialect.auto_key(column.sql_type)}"
    parts = [column.quoted, column.sql_type]
    if not column.nullable:
        parts.append("NOT NULL")
    if column.sql_default is not None:
        # SQLite takes expressions in parentheses only.
        parts.append(f"DEFAULT ({column.sql_default})" if dialect.name == "sqlite" else f"DEFAULT {column.sql_default}")
    return " ".join(parts)


def _uniques(root: Mapping, attributes: Iterable[Attribute[object]]) -> list[tuple[Column, ...]]:
    uniques: dict[tuple[str, ...], tuple[Column, ...]] = {}
    for attribute in attributes:
        one_to_one = isinstance(attribute, ReferenceAttribute) and not isinstance(
            attribute.reverse, CollectionAttribute
        )
        if (attribute.is_unique or one_to_one) and attribute.columns != root.key_columns:
            uniques[tuple(column.name for column in attribute.columns)] = attribute.columns
    for member in root.family():
        for composite, parts in member.composites:
            if composite.is_unique and not composite.is_primary:
                columns = tuple(column for part in parts for column in part.columns)
                uniques[tuple(column.name for column in columns)] = columns
    return list(uniques.values())


def _foreign_key(table: str, attribute: ReferenceAttribute, dialect: Dialect) -> str:
    name = attribute.declaration.options.get("fk_name") or _name("fk", table, attribute.columns)
    target = attribute.target.root
    return (
        f"CONSTRAINT {dialect.quote(name)} FOREIGN KEY ({_quoted(attribute.columns)}) "
        f"REFERENCES {target.quoted} ({_quoted(target.key_columns)}){_on_delete(attribute)}"
    )


def _on_delete(attribute: ReferenceAttribute) -> str:
    """The database does what the session would do, for the rows that the session has not loaded."""
    if attribute.dies_with_target:
        return " ON DELETE CASCADE"
    return "" if attribute.is_required else " ON DELETE SET NULL"


def _indexes(root: Mapping, name: str, attributes: Iterable[Attribute[object]], dialect: Dialect) -> list[str]:
    covered = {unique[0].name for unique in _uniques(root, attributes)} | {root.key_columns[0].name}
    wanted: list[tuple[str, tuple[Column, ...]]] = []
    for attribute in attributes:
        option = attribute.declaration.options.get("index")
        by_default = isinstance(attribute, ReferenceAttribute) and attribute.columns[0].name not in covered
        if option or (option is None and by_default):
            index = option if isinstance(option, str) else _name("ix", name, attribute.columns)
            wanted.append((index, attribute.columns))
    for member in root.family():
        for composite, parts in member.composites:
            if not composite.is_unique:
                columns = tuple(column for part in parts for column in part.columns)
                wanted.append((_name("ix", name, columns), columns))
    unique_statements = dict.fromkeys(
        f"CREATE INDEX IF NOT EXISTS {dialect.quote(index)} ON {root.quoted} ({_quoted(columns)})"
        for index, columns in wanted
    )
    return list(unique_statements)


def _link_table(link: LinkTable, dialect: Dialect) -> Table:
    columns = (*link.left_columns, *link.right_columns)
    parts = [f"{column.quoted} {column.sql_type} NOT NULL" for column in columns]
    parts.append(f"CONSTRAINT {dialect.quote(_name('pk', link.table, ()))} PRIMARY KEY ({_quoted(columns)})")
    for side, side_columns in ((link.left, link.left_columns), (link.right, link.right_columns)):
        root = side.mapping.root
        parts.append(
            f"CONSTRAINT {dialect.quote(_name('fk', link.table, side_columns))} FOREIGN KEY ({_quoted(side_columns)}) "
            f"REFERENCES {root.quoted} ({_quoted(root.key_columns)}) ON DELETE CASCADE"
        )
    table = Table(link.table, link.quoted, columns, _create(link.quoted, parts))
    index = dialect.quote(_name("ix", link.table, link.right_columns))
    table.afterwards.append(f"CREATE INDEX IF NOT EXISTS {index} ON {link.quoted} ({_quoted(link.right_columns)})")
    return table
