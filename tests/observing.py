"""What tests watch a database with: another thread, and what was sent.

A new thread has no scope, and a connection of its own: what it sees is what others see. (A second
`Database` on ``sqlite://`` would be another database.) SQLite in memory makes readers wait for a
writer, so look from elsewhere when no transaction is open.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg

from dbsession import Database, db_session
from dbsession.backends.base import Counters

__all__ = ["elsewhere", "left_behind", "rows", "sent", "wait_until_blocked"]

T = TypeVar("T")


def elsewhere(function: Callable[..., T], *args: Any) -> T:
    """Run *function* in a new thread, and return what it returns or raise what it raises."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args).result(60)


def rows(db: Database, sql: str, params: Any = None) -> list[Any]:
    """Return what everybody else sees: the rows of *sql*, plain values where there is one column."""

    @db_session
    def read() -> list[Any]:
        return [tuple(row) if isinstance(row, tuple) else row for row in db.select(sql, params)]

    return elsewhere(read)


@contextmanager
def sent(db: Database) -> Iterator[Counters]:
    """Count what the block sends; the numbers are there when it has ended."""
    counters = db.counters
    names = ("statements", "round_trips", "transactions", "connections")
    before = {name: getattr(counters, name) for name in names}
    spent = Counters()
    yield spent
    for name in names:
        setattr(spent, name, getattr(counters, name) - before[name])


@contextmanager
def left_behind(*kinds: type) -> Iterator[list[Any]]:
    """Find the objects of *kinds* that the block has made and that are alive when it has ended."""
    found: list[Any] = []
    gc.collect()
    before = {id(obj) for obj in gc.get_objects() if isinstance(obj, kinds)}  # what other tests hold
    yield found
    gc.collect()
    found += [obj for obj in gc.get_objects() if isinstance(obj, kinds) and id(obj) not in before]


def wait_until_blocked(watcher: psycopg.Connection, number: int) -> None:
    """Wait until *number* sessions of this database wait for a lock; that state lasts until the lock is released."""
    deadline = time.monotonic() + 30
    sql = (
        "SELECT count(*) FROM pg_stat_activity "
        "WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    while watcher.execute(sql).fetchall()[0][0] < number:
        assert time.monotonic() < deadline, f"{number} sessions were to wait for a lock"
