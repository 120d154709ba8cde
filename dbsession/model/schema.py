"""The tables of a mapping as SQL: what ``create_tables`` sends and ``schema_sql()`` shows.

Names of constraints and indexes begin with ``dbs_``, so that they never meet a user's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

from dbsession.backends.base import Dialect
from dbsession.errors import ERDiagramError
from dbsession.model.attributes import Attribute
from dbsession.model.collections import CollectionAttribute
from dbsession.model.mapping import Column, LinkTable, Mapping
from dbsession.model.references import ReferenceAttribute

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
    links = list(links)
    names = _Names(dialect)
    for table in (*(root.table for root in roots), *(link.table for link in links)):
        names.claim(table if isinstance(table, str) else table[-1], "a table")
    made: set[str] = set()
    tables: list[Table] = []
    for root in roots:
        made.add(root.quoted)
        tables.append(_entity_table(root, names, made))
    tables.extend(_link_table(link, names) for link in links)
    return tables


class _Names:
    """The names of tables, indexes and constraints, which are not told apart by the table that they belong to."""

    def __init__(self, dialect: Dialect) -> None:
        self.dialect = dialect
        self._owners: dict[str, str] = {}

    def quoted(self, kind: str, table: str, columns: Sequence[Column] = ()) -> str:
        """Return the quoted name of a constraint or index; where two would be the same, or too long, with a hash."""
        owner = repr((kind, table, [column.name for column in columns]))
        name = f"dbs_{kind}_{table}" + ("__" + "_".join(column.name for column in columns) if columns else "")
        if len(name.encode()) > _LONGEST_NAME or self._owners.get(self._folded(name), owner) != owner:
            digest = hashlib.sha256(owner.encode()).hexdigest()[:8]
            name = f"{name.encode()[: _LONGEST_NAME - 9].decode(errors='ignore')}_{digest}"
        self._owners[self._folded(name)] = owner
        return self.dialect.quote(name)

    def claim(self, name: str, owner: str) -> str:
        """Return the quoted *name*, which the user chose for *owner*.

        Raises:
            ERDiagramError: something else has it; CREATE INDEX IF NOT EXISTS would pass over it in silence.
        """
        other = self._owners.setdefault(self._folded(name), owner)
        if other != owner:
            raise ERDiagramError(f"{owner} cannot be called {name!r}: that is the name of {other} already")
        return self.dialect.quote(name)

    def _folded(self, name: str) -> str:
        return name.lower() if self.dialect.name == "sqlite" else name


def _quoted(columns: Iterable[Column]) -> str:
    return ", ".join(column.quoted for column in columns)


def _entity_table(root: Mapping, names: _Names, made: set[str]) -> Table:
    dialect = names.dialect
    columns = _all_columns(root)
    name = root.table if isinstance(root.table, str) else root.table[-1]
    table = Table(name, root.quoted, columns)
    parts = [_column_definition(column, dialect) for column in columns]
    if root.auto_column is None:
        parts.append(f"CONSTRAINT {names.quoted('pk', name)} PRIMARY KEY ({_quoted(root.key_columns)})")
    attributes = _all_attributes(root)
    parts += [
        f"CONSTRAINT {names.quoted('uq', name, unique)} UNIQUE ({_quoted(unique)})"
        for unique in _uniques(root, attributes)
    ]
    for attribute in attributes:
        if isinstance(attribute, ReferenceAttribute) and not attribute.is_virtual:
            constraint = _foreign_key(name, attribute, names)
            if dialect.name == "sqlite" or attribute.target.root.quoted in made:
                parts.append(constraint)
            else:
                table.afterwards.append(f"ALTER TABLE {root.quoted} ADD {constraint}")
    table.create = _create(root.quoted, parts)
    table.afterwards += _indexes(root, name, attributes, names)
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
    if column.sql_default is not None and column.sql_default is not True:  # True: a trigger, or what is there already
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


def _foreign_key(table: str, attribute: ReferenceAttribute, names: _Names) -> str:
    chosen = attribute.declaration.options.get("fk_name")
    name = (
        names.claim(chosen, f"the foreign key of {attribute!r}")
        if chosen
        else names.quoted("fk", table, attribute.columns)
    )
    target = attribute.target.root
    return (
        f"CONSTRAINT {name} FOREIGN KEY ({_quoted(attribute.columns)}) "
        f"REFERENCES {target.quoted} ({_quoted(target.key_columns)}){_on_delete(attribute)}"
    )


def _on_delete(attribute: ReferenceAttribute) -> str:
    """Return what the database does with rows that the session has not loaded: the same as the session would."""
    if attribute.dies_with_target:
        return " ON DELETE CASCADE"
    return "" if attribute.is_required else " ON DELETE SET NULL"


def _indexes(root: Mapping, name: str, attributes: Iterable[Attribute[object]], names: _Names) -> list[str]:
    covered = {unique[0].name for unique in _uniques(root, attributes)} | {root.key_columns[0].name}
    wanted: list[tuple[str, tuple[Column, ...]]] = []
    for attribute in attributes:
        option = attribute.declaration.options.get("index")
        by_default = isinstance(attribute, ReferenceAttribute) and attribute.columns[0].name not in covered
        if option or (option is None and by_default):
            if isinstance(option, str):
                index = names.claim(option, f"the index of {attribute!r}")
            else:
                index = names.quoted("ix", name, attribute.columns)
            wanted.append((index, attribute.columns))
    for member in root.family():
        for composite, parts in member.composites:
            if not composite.is_unique:
                columns = tuple(column for part in parts for column in part.columns)
                wanted.append((names.quoted("ix", name, columns), columns))
    unique_statements = dict.fromkeys(
        f"CREATE INDEX IF NOT EXISTS {index} ON {root.quoted} ({_quoted(columns)})" for index, columns in wanted
    )
    return list(unique_statements)


def _link_table(link: LinkTable, names: _Names) -> Table:
    columns = (*link.left_columns, *link.right_columns)
    parts = [f"{column.quoted} {column.sql_type} NOT NULL" for column in columns]
    parts.append(f"CONSTRAINT {names.quoted('pk', link.table)} PRIMARY KEY ({_quoted(columns)})")
    for side, side_columns in ((link.left, link.left_columns), (link.right, link.right_columns)):
        root = side.mapping.root
        parts.append(
            f"CONSTRAINT {names.quoted('fk', link.table, side_columns)} FOREIGN KEY ({_quoted(side_columns)}) "
            f"REFERENCES {root.quoted} ({_quoted(root.key_columns)}) ON DELETE CASCADE"
        )
    table = Table(link.table, link.quoted, columns, _create(link.quoted, parts))
    index = names.quoted("ix", link.table, link.right_columns)
    table.afterwards.append(f"CREATE INDEX IF NOT EXISTS {index} ON {link.quoted} ({_quoted(link.right_columns)})")
    return table
