"""psycopg 3 by hand: autocommit where one statement is the transaction, prepared, binary results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
from psycopg.conninfo import make_conninfo

from benchmarks.contenders import bare_scope
from benchmarks.data import Row, Stored, total
from benchmarks.target import Target

__all__ = ["RawPsycopg"]

T = TypeVar("T")

INSERT = "insert into item (name, amount, price, note) values (%s, %s, %s, %s) returning id"
# Keys come back, as they do for every ORM here: COPY is faster still, but returns nothing.
INSERT_MANY = """
insert into item (name, amount, price, note)
select * from unnest(%b::text[], %b::integer[], %b::double precision[], %b::text[]) returning id
"""
GET = "select id, name, amount, price, note from item where id = %s"
SELECT = "select id, name, amount, price, note from item"
# Integers as one text literal: half the time of a list, which psycopg dumps in Python.
UPDATE = """
update item set amount = new.amount from unnest(%s::integer[], %s::integer[]) as new (id, amount)
where item.id = new.id
"""


class RawPsycopg:
    """One connection in autocommit and one cursor for results in binary form."""

    version = f"psycopg {psycopg.__version__} ({psycopg.pq.__impl__})"

    def open(self, target: Target) -> None:
        """Connect."""
        self._connection = psycopg.connect(make_conninfo(**target.parameters), autocommit=True)
        self._cursor = self._connection.cursor(binary=True)

    def scalar(self, query: str) -> str:
        """Run *query* and return its one value."""
        row = self._connection.execute(query.encode()).fetchone()
        return str(row[0]) if row is not None else ""

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def insert_single(self, rows: Sequence[Row]) -> None:
        """One INSERT in autocommit each: one round trip."""
        execute = self._cursor.execute
        for row in rows:
            execute(INSERT, row).fetchone()

    def insert_many(self, rows: Sequence[Row]) -> None:
        """One INSERT from arrays in one transaction."""
        columns = [list(column) for column in zip(*rows, strict=True)]
        with self._connection.transaction():
            self._cursor.execute(INSERT_MANY, columns).fetchall()

    def load(self, inside: Callable[[Sequence[Any]], T]) -> tuple[Sequence[Any], T]:
        """Fetch the rows as tuples."""
        rows = self._cursor.execute(SELECT).fetchall()
        return rows, inside(rows)

    def stream(self, batch: int) -> float:
        """Read from a server-side cursor."""
        with self._connection.transaction(), self._connection.cursor("c", binary=True) as cursor:
            cursor.itersize = batch
            return total(cursor.execute(SELECT))

    def checksum(self, items: Sequence[Any]) -> float:
        """Unpack every tuple."""
        return total(items)

    def rows(self, items: Sequence[Any]) -> list[Stored]:
        """Return the tuples."""
        return list(items)

    def get_sessions(self, keys: Sequence[int]) -> int:
        """One prepared SELECT in autocommit each: by hand there is no session."""
        return self.get_within(keys)

    def get_within(self, keys: Sequence[int]) -> int:
        """One prepared SELECT in autocommit each."""
        execute, result = self._cursor.execute, 0
        for key in keys:
            row = execute(GET, (key,)).fetchone()
            result += row[2] if row is not None else 0
        return result

    def query_within(self, keys: Sequence[int]) -> int:
        """One SELECT each: by hand a query is no other work than a look for a key."""
        return self.get_within(keys)

    def change(self, start: Callable[[], None]) -> None:
        """Update all rows with one statement from two arrays."""
        rows = self._cursor.execute(SELECT).fetchall()
        start()
        keys = ",".join([str(row[0]) for row in rows])
        amounts = ",".join([str(row[2] + 1) for row in rows])
        with self._connection.transaction():
            self._connection.execute(UPDATE, ("{" + keys + "}", "{" + amounts + "}"))

    def scope_with(self, count: int) -> int:
        """Enter the least that a scope can be."""
        return bare_scope.run_with(count)

    def scope_decorator(self, count: int) -> int:
        """Enter the least that a scope can be."""
        return bare_scope.run_decorated(count)
