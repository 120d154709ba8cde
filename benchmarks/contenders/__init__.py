"""Who is measured: one file each, behind the `Contender` protocol.

Every contender maps the same table ``item`` (id, name, amount, price, note) and does each operation
as its own documentation recommends.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any, Protocol, TypeVar

from benchmarks.data import Row, Stored
from benchmarks.target import Target

__all__ = ["CONTENDERS", "Contender", "ContenderMissing", "NotOffered", "load"]

T = TypeVar("T")

CONTENDERS = {
    "raw": "benchmarks.contenders.raw",
    "dbsession": "benchmarks.contenders.dbsession_orm",
    "sqlalchemy": "benchmarks.contenders.sqlalchemy_orm",
    "pony": "benchmarks.contenders.pony_orm",
}
"""Name -> module with a function ``contender(database) -> Contender``."""


class ContenderMissing(Exception):
    """A contender cannot be imported here."""


class NotOffered(Exception):
    """A contender has no such operation. The message is printed below the table."""


class Contender(Protocol):
    """One library at work. Every method may be called many times, in any order, after `open`."""

    version: str
    """Library and driver, with versions."""

    def open(self, target: Target) -> None:
        """Connect and map the existing, empty table."""
        ...

    def scalar(self, query: str) -> str:
        """Run *query* on the connection that everything else runs on, and return its one value."""
        ...

    def close(self) -> None:
        """Give every connection back to the system."""
        ...

    def insert_single(self, rows: Sequence[Row]) -> None:
        """Insert *rows*, each in a session and a transaction of its own."""
        ...

    def insert_many(self, rows: Sequence[Row]) -> None:
        """Insert *rows* as objects in one session and one transaction; keys are made by the database."""
        ...

    def load(self, inside: Callable[[Sequence[Any]], T]) -> tuple[Sequence[Any], T]:
        """Load every row as an object, call *inside* with them in the session, return both afterwards."""
        ...

    def stream(self, batch: int) -> float:
        """Read every attribute of every row's object, *batch* of them in memory at a time (as `checksum`).

        Raises:
            NotOffered: the library loads all rows of a query.
        """
        ...

    def checksum(self, items: Sequence[Any]) -> float:
        """Read every attribute of what `load` gave (as `benchmarks.data.checksum`)."""
        ...

    def rows(self, items: Sequence[Any]) -> list[Stored]:
        """Return the values of what `load` gave; called after its session, never timed."""
        ...

    def get_sessions(self, keys: Sequence[int]) -> int:
        """Get each key in a session of its own; return the sum of the amounts."""
        ...

    def get_within(self, keys: Sequence[int]) -> int:
        """Get the keys one by one in one session; return the sum of the amounts."""
        ...

    def query_within(self, keys: Sequence[int]) -> int:
        """Ask for the amount of each key by a query with a condition, in one session; return their sum."""
        ...

    def change(self, start: Callable[[], None]) -> None:
        """Load every row, call *start*, add 1 to each object's amount, and commit."""
        ...

    def scope_with(self, count: int) -> int:
        """Enter and leave an empty scope *count* times with ``with``; return how often the body ran."""
        ...

    def scope_decorator(self, count: int) -> int:
        """Call a decorated function that does nothing *count* times; return how often it ran.

        Raises:
            NotOffered: the library has no decorator.
        """
        ...


def load(name: str, database: str) -> Contender:
    """Import the contender *name* and make it for *database* (``"sqlite"`` or ``"postgres"``).

    Raises:
        ContenderMissing: it, or the driver that it needs, is not installed or cannot be imported.
    """
    try:
        module = importlib.import_module(CONTENDERS[name])
        made: Contender = module.contender(database)
    except ImportError as error:
        message = f"{name} cannot be measured on {database}: {error} (pip install 'dbsession[bench]')"
        raise ContenderMissing(message) from error
    return made
