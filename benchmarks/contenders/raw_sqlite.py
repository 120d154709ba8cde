"""sqlite3 by hand: ``isolation_level=None``, BEGIN and COMMIT where there is more than one statement."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from benchmarks.contenders import bare_scope
from benchmarks.data import Row, Stored, total
from benchmarks.target import Target

__all__ = ["RawSqlite"]

T = TypeVar("T")

INSERT = "insert into item (name, amount, price, note) values (?, ?, ?, ?)"
GET = "select id, name, amount, price, note from item where id = ?"
SELECT = "select id, name, amount, price, note from item"
UPDATE = "update item set amount = ? where id = ?"
ROWS_PER_INSERT = 100


def insert_of(count: int) -> str:
    """Return an INSERT of *count* rows that gives the keys back."""
    return INSERT + ", (?, ?, ?, ?)" * (count - 1) + " returning id"


class RawSqlite:
    """One connection, with the driver's own transaction control switched off."""

    version = f"sqlite3 (SQLite {sqlite3.sqlite_version})"

    def open(self, target: Target) -> None:
        """Connect, with the settings that all contenders share."""
        self._connection = sqlite3.connect(target.path, isolation_level=None)
        for pragma in target.pragmas:
            self._connection.execute(pragma).fetchall()

    def scalar(self, query: str) -> str:
        """Run *query* and return its one value."""
        return str(self._connection.execute(query).fetchone()[0])

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()

    def insert_single(self, rows: Sequence[Row]) -> None:
        """One INSERT in autocommit each; the key is `lastrowid`."""
        execute = self._connection.execute
        for row in rows:
            _ = execute(INSERT, row).lastrowid

    def insert_many(self, rows: Sequence[Row]) -> None:
        """INSERTs of 100 rows with RETURNING: a little faster than `executemany`, and keys come back."""
        execute = self._connection.execute
        execute("begin immediate")
        for first in range(0, len(rows), ROWS_PER_INSERT):
            part = rows[first : first + ROWS_PER_INSERT]
            execute(insert_of(len(part)), [value for row in part for value in row]).fetchall()
        execute("commit")

    def load(self, inside: Callable[[Sequence[Any]], T]) -> tuple[Sequence[Any], T]:
        """Fetch the rows as tuples."""
        rows = self._connection.execute(SELECT).fetchall()
        return rows, inside(rows)

    def stream(self, batch: int) -> float:
        """Step through the rows."""
        return total(self._connection.execute(SELECT))

    def checksum(self, items: Sequence[Any]) -> float:
        """Unpack every tuple."""
        return total(items)

    def rows(self, items: Sequence[Any]) -> list[Stored]:
        """Return the tuples."""
        return list(items)

    def get_sessions(self, keys: Sequence[int]) -> int:
        """One SELECT each: by hand there is no session."""
        return self.get_within(keys)

    def get_within(self, keys: Sequence[int]) -> int:
        """One SELECT each."""
        execute, result = self._connection.execute, 0
        for key in keys:
            result += execute(GET, (key,)).fetchone()[2]
        return result

    def query_within(self, keys: Sequence[int]) -> int:
        """One SELECT each: by hand a query is no other work than a look for a key."""
        return self.get_within(keys)

    def change(self, start: Callable[[], None]) -> None:
        """Update with `executemany` in one transaction."""
        rows = self._connection.execute(SELECT).fetchall()
        start()
        self._connection.execute("begin immediate")
        self._connection.executemany(UPDATE, [(row[2] + 1, row[0]) for row in rows])
        self._connection.execute("commit")

    def scope_with(self, count: int) -> int:
        """Enter the least that a scope can be."""
        return bare_scope.run_with(count)

    def scope_decorator(self, count: int) -> int:
        """Enter the least that a scope can be."""
        return bare_scope.run_decorated(count)
