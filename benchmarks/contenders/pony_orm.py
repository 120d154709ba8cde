"""Pony 0.7.20 as its documentation writes it: ``with db_session``. Its PostgreSQL driver is psycopg2."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import pony  # type: ignore[import-untyped]
from pony.orm import Database, Optional, PrimaryKey, Required, db_session, select  # type: ignore[import-untyped]

from benchmarks.contenders import Contender, NotOffered
from benchmarks.data import Row, Stored, checksum
from benchmarks.target import Target

__all__ = ["contender"]

T = TypeVar("T")


@db_session  # type: ignore[untyped-decorator]
def nothing() -> int:
    """Count as one call."""
    return 1


def bind(database: Any, target: Target) -> None:
    """Bind to *target*; on SQLite each new connection gets the settings that all contenders share."""
    if target.database == "postgres":
        database.bind(provider="postgres", **target.parameters)
        return

    @database.on_connect(provider="sqlite")  # type: ignore[untyped-decorator]
    def configure(_database: Any, connection: Any) -> None:
        for pragma in target.pragmas:
            connection.execute(pragma).fetchall()

    database.bind(provider="sqlite", filename=target.path, create_db=False)


class Pony:
    """A ``with db_session`` for each unit of work."""

    def __init__(self, driver: str) -> None:
        """Remember the *driver* for the report."""
        self.version = f"Pony {pony.__version__} ({driver})"

    def open(self, target: Target) -> None:
        """Bind and map; the table is there."""
        database = Database()

        class Item(database.Entity):  # type: ignore[misc, name-defined]
            _table_ = "item"
            id = PrimaryKey(int, auto=True)
            name = Required(str)
            amount = Required(int)
            price = Required(float)
            note = Optional(str, nullable=True)

        bind(database, target)
        database.generate_mapping(create_tables=False)
        self._database = database
        self._item: Any = Item

    def scalar(self, query: str) -> str:
        """Run *query* and return its one value."""
        with db_session:
            return str(self._database.execute(query).fetchone()[0])

    def close(self) -> None:
        """Close the connection."""
        self._database.disconnect()

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
        """Refuse: a query fetches all its rows."""
        raise NotOffered("Pony has no streams: a query loads all its rows.")

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
                result += select(i.amount for i in item if i.id == key)[:][0]
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
    """Make the contender.

    Raises:
        ImportError: on PostgreSQL, psycopg2 is not installed.
    """
    if database == "sqlite":
        return Pony("sqlite3")
    driver = importlib.import_module("psycopg2")
    return Pony(f"psycopg2 {driver.__version__.split()[0]}")
