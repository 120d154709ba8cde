"""SQLAlchemy 2.1 as its documentation writes it: ``with Session(engine)``, `add_all`, `get`, defaults."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from typing import Any, TypeVar

import psycopg
import sqlalchemy
from sqlalchemy import Engine, create_engine, event, select, text
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from benchmarks.contenders import Contender, NotOffered
from benchmarks.data import Row, Stored, checksum
from benchmarks.target import Target

__all__ = ["contender"]

T = TypeVar("T")


class Base(DeclarativeBase):
    """The registry of the mapped classes."""


class Item(Base):
    """A row of the table."""

    __tablename__ = "item"

    id: Mapped[int] = mapped_column(primary_key=True)
    name: Mapped[str]
    amount: Mapped[int]
    price: Mapped[float]
    note: Mapped[str | None]


def make_engine(target: Target) -> Engine:
    """Make the engine; on SQLite each new connection gets the settings that all contenders share."""
    if target.database == "postgres":
        return create_engine("postgresql+psycopg://", connect_args=dict(target.parameters))
    engine = create_engine(f"sqlite:///{target.path}")

    def configure(connection: sqlite3.Connection, _record: object) -> None:
        for pragma in target.pragmas:
            connection.execute(pragma).fetchall()

    event.listen(engine, "connect", configure)
    return engine


class SqlAlchemy:
    """A session for each unit of work, as ``with Session(engine)``."""

    def __init__(self, driver: str) -> None:
        """Remember the *driver* for the report."""
        self.version = f"SQLAlchemy {sqlalchemy.__version__} ({driver})"

    def open(self, target: Target) -> None:
        """Make the engine."""
        self._engine = make_engine(target)

    def scalar(self, query: str) -> str:
        """Run *query* and return its one value."""
        with Session(self._engine) as session:
            return str(session.scalar(text(query)))

    def close(self) -> None:
        """Close the pool."""
        self._engine.dispose()

    def insert_single(self, rows: Sequence[Row]) -> None:
        """Add and commit one object in a session of its own."""
        for name, amount, price, note in rows:
            with Session(self._engine) as session:
                session.add(Item(name=name, amount=amount, price=price, note=note))
                session.commit()

    def insert_many(self, rows: Sequence[Row]) -> None:
        """`add_all` and one commit."""
        with Session(self._engine) as session:
            session.add_all(
                [Item(name=name, amount=amount, price=price, note=note) for name, amount, price, note in rows]
            )
            session.commit()

    def load(self, inside: Callable[[Sequence[Any]], T]) -> tuple[Sequence[Any], T]:
        """``session.scalars(select(Item)).all()``."""
        with Session(self._engine) as session:
            items = session.scalars(select(Item)).all()
            result = inside(items)
        return items, result

    def stream(self, batch: int) -> float:
        """``yield_per``: a server-side cursor on PostgreSQL."""
        with Session(self._engine) as session:
            return checksum(session.scalars(select(Item).execution_options(yield_per=batch)))

    def checksum(self, items: Sequence[Any]) -> float:
        """Read every attribute."""
        return checksum(items)

    def rows(self, items: Sequence[Any]) -> list[Stored]:
        """Read the objects, detached by now."""
        return [(item.id, item.name, item.amount, item.price, item.note) for item in items]

    def get_sessions(self, keys: Sequence[int]) -> int:
        """`session.get` in a session each."""
        result = 0
        for key in keys:
            with Session(self._engine) as session:
                result += session.get_one(Item, key).amount
        return result

    def get_within(self, keys: Sequence[int]) -> int:
        """`session.get` in one session."""
        result = 0
        with Session(self._engine) as session:
            for key in keys:
                result += session.get_one(Item, key).amount
        return result

    def query_within(self, keys: Sequence[int]) -> int:
        """``session.scalars(select(Item.amount).where(...))`` in one session."""
        result = 0
        with Session(self._engine) as session:
            for key in keys:
                result += session.scalars(select(Item.amount).where(Item.id == key)).all()[0]
        return result

    def change(self, start: Callable[[], None]) -> None:
        """Change the loaded objects and commit."""
        with Session(self._engine) as session:
            items = session.scalars(select(Item)).all()
            start()
            for item in items:
                item.amount += 1
            session.commit()

    def scope_with(self, count: int) -> int:
        """The cheapest form that is documented: no `begin`, so leaving it does not commit."""
        done = 0
        for _ in range(count):
            with Session(self._engine):
                done += 1
        return done

    def scope_decorator(self, count: int) -> int:
        """SQLAlchemy has none."""
        raise NotOffered("SQLAlchemy has no decorator that opens a session.")


def contender(database: str) -> Contender:
    """Make the contender; the driver is psycopg 3, as for dbsession."""
    driver = "sqlite3" if database == "sqlite" else f"psycopg {psycopg.__version__}"
    return SqlAlchemy(driver)
