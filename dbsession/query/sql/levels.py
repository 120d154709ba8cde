"""Levels: the FROM clauses of a statement, one for each SELECT in it, and what the columns are called there.

A `Place` is where the columns of one object stand. Its key is often known without its table (a
reference has it in its own columns), so the table is joined only when another column is asked for,
and once, whoever asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from dbsession.model.attributes import Attribute
from dbsession.model.mapping import Column, Mapping
from dbsession.query.tree import Variable

__all__ = ["Level", "Place", "Source"]


class Source:
    """One table of a FROM clause. *join* is how it hangs on those before it, *on* the condition."""

    __slots__ = ("join", "name", "on")

    def __init__(self, name: str, join: str, on: str) -> None:
        self.name = name
        self.join = join
        self.on = on

    def __str__(self) -> str:
        return f"{self.join} {self.name} ON {self.on}" if self.on else f"{self.join} {self.name}"


class Place:
    """Where the columns of one object stand.

    *prefix*: the alias of its table with a dot, or "" where names need none; None until the table is
    joined by *join*. *keys*: its key columns, rendered, where they are known without the table.
    """

    __slots__ = ("is_optional", "join", "keys", "mapping", "prefix")

    def __init__(
        self,
        mapping: Mapping,
        *,
        prefix: str | None = None,
        keys: tuple[str, ...] = (),
        join: Callable[[], str] | None = None,
        is_optional: bool = False,
    ) -> None:
        self.mapping = mapping
        self.prefix = prefix
        self.keys = keys
        self.join = join
        self.is_optional = is_optional  # whether there may be no object

    def column(self, column: Column) -> str:
        """Return *column* of the object, joining its table where it has to be."""
        if self.keys and column.is_key:
            names = [key.name for key in self.mapping.key_columns]
            if column.name in names:
                return self.keys[names.index(column.name)]
        return self.joined() + column.quoted

    def joined(self) -> str:
        """Return the prefix of the object's own columns, joining its table where it has to be."""
        if self.prefix is None:
            assert self.join is not None
            self.prefix = self.join()
        return self.prefix

    def own_key(self) -> list[str]:
        """Return the key columns in its own table."""
        return [self.joined() + column.quoted for column in self.mapping.key_columns]

    def key(self) -> list[str]:
        """Return the key columns, wherever they are."""
        return list(self.keys) or [self.column(column) for column in self.mapping.key_columns]

    def key_part(self, attribute: Attribute[Any]) -> list[str]:
        """Return the columns of *attribute*."""
        return [self.column(column) for column in attribute.columns]


class Level:
    """One SELECT of a statement: its sources, and the places of its variables and of the paths from them."""

    __slots__ = ("conditions", "main", "narrowings", "outer", "places", "sources")

    def __init__(self, outer: Level | None) -> None:
        self.outer = outer
        self.sources: list[Source] = []
        self.places: dict[Any, Place] = {}  # by Variable, or by the place and the reference that lead there
        self.conditions: list[str] = []  # what the sources themselves demand
        self.narrowings: list[str] = []  # which rows of a hierarchy's table are meant
        self.main: Variable | None = None  # whose attributes may be written bare

    def of(self, variable: Variable) -> Level | None:
        """Return the level, this one or one around it, that *variable* ranges in."""
        level: Level | None = self
        while level is not None and variable not in level.places:
            level = level.outer
        return level

    def main_of(self, attribute: Attribute[Any]) -> Variable | None:
        """Return the variable that the bare *attribute* is one of: that of the innermost level that has one."""
        level: Level | None = self
        while level is not None:
            main = level.main
            if main is not None and main.mapping.root is attribute.mapping.root:
                return main
            level = level.outer
        return None

    def add(self, name: str, join: str, on: str) -> None:
        """Add a table; what the first one is joined by is a condition."""
        if not self.sources:
            if on:
                self.conditions.append(on)
            self.sources.append(Source(name, "", ""))
        else:
            self.sources.append(Source(name, "CROSS JOIN" if not on else join, on))

    def from_clause(self) -> str:
        """Return the FROM clause with a leading blank."""
        if not self.sources:
            return ""
        return f" FROM {' '.join([str(source).strip() for source in self.sources])}"
