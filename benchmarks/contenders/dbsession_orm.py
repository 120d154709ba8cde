"""dbsession itself, through its public names only."""

from __future__ import annotations

import importlib.metadata
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

from benchmarks.contenders import Contender
from benchmarks.data import Row, Stored, checksum
from benchmarks.target import Target
from dbsession import Database, Optional, PrimaryKey, Required, db_session, select

__all__ = ["contender"]

T = TypeVar("T")


@db_session
def nothing() -> int:
    """Count as one call."""
    return 1


def version() -> str:
    """Return our version, where we are installed."""
    try:
        return importlib.metadata.version("dbsession")
    except importlib.metadata.PackageNotFoundError:
        return "(working tree)"


class DbSession:
    """A ``with db_session`` for each unit of work."""

    def __init__(self, driver: str) -> None:
        """Remember the *driver* for the report."""
        self.version = f"dbsession {version()} ({driver})"

    def open(self, target: Target) -> None:
        """Bind and map; the table is there, and every setting is the library's default."""
        db = Database(target.url)

        class Item(db.Entity):  # type: ignore[misc, name-defined]
            id = PrimaryKey(int, auto=True)
            name = Required(str)
            amount = Required(int)
            price = Required(float)
            note = Optional(str)

        db.generate_mapping(create_tables=True)
        self._db = db
        self._item: Any = Item

    def scalar(self, query: str) -> str:
        """Run *query* and return its one value."""
        with db_session:
            return str(self._db.select(query)[0])

    def close(self) -> None:
        """Close the pool."""
        self._db.close()

    def insert_single(self, rows: Sequence[Row]) -> None:
        """Make one object in a session of its own."""
        item = self._item
        for name, amount, price, note in rows:
            with db_session:
                item(name=name, amount=amount, price=price, note=note)

    def insert_many(self, rows: Sequence[Row]) -> None:
        """Make all objects in one session."""
        item = self._item
        with db_session:
            for name, amount, price, note in rows:
                item(name=name, amount=amount, price=price, note=note)

    def load(self, inside: Callable[[Sequence[Any]], T]) -> tuple[Sequence[Any], T]:
        """``list(Item.select())``."""
        with db_session:
            items = list(self._item.select())
            result = inside(items)
        return items, result

    def stream(self, batch: int) -> float:
        """``Item.select().stream(batch)``."""
        with db_session:
            return checksum(self._item.select().stream(batch))

    def checksum(self, items: Sequence[Any]) -> float:
        """Read every attribute."""
        return checksum(items)

    def rows(self, items: Sequence[Any]) -> list[Stored]:
        """Read the objects after their session."""
        return [(item.id, item.name, item.amount, item.price, item.note) for item in items]

    def get_sessions(self, keys: Sequence[int]) -> int:
        """``Item[key]`` in a session each."""
        item, result = self._item, 0
        for key in keys:
            with db_session:
                result += item[key].amount
        return result

    def get_within(self, keys: Sequence[int]) -> int:
        """``Item[key]`` in one session."""
        item, result = self._item, 0
        with db_session:
            for key in keys:
                result += item[key].amount
        return result

    def query_within(self, keys: Sequence[int]) -> int:
        """``select(i.amount for i in Item if i.id == key)`` in one session."""
        item, result = self._item, 0
        with db_session:
            for key in keys:
                result += select(i.amount for i in item if i.id == key).fetch()[0]
        return result

    def change(self, start: Callable[[], None]) -> None:
        """Change the loaded objects; leaving the session commits."""
        with db_session:
            items = list(self._item.select())
            start()
            for item in items:
                item.amount += 1

    def scope_with(self, count: int) -> int:
        """``with db_session``."""
        done = 0
        for _ in range(count):
            with db_session:
                done += 1
        return done

    def scope_decorator(self, count: int) -> int:
        """``@db_session``."""
        done = 0
        for _ in range(count):
            done += nothing()
        return done


def contender(database: str) -> Contender:
    """Make the contender."""
    return DbSession("sqlite3" if database == "sqlite" else "psycopg")
