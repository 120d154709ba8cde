"""PostgreSQL through psycopg 3: a pool of connections that are known to be alive when handed out.

The pool is psycopg_pool's, opened at the first use. It connects in threads of its own and would
retry in silence while the caller waits; so each failure is noted where it happens, and the caller
gets the reason at once.
"""

from __future__ import annotations

import functools
import itertools
import logging
import os
import threading
import weakref
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from typing import Any, NamedTuple, Self

import psycopg
import psycopg_pool
from psycopg.conninfo import conninfo_to_dict

from dbsession.backends import fork
from dbsession.backends.base import Connection, Counters, Dialect
from dbsession.backends.postgres_connection import PostgresConnection
from dbsession.backends.postgres_dialect import PostgresDialect
from dbsession.backends.postgres_errors import cannot_connect
from dbsession.backends.statements import Row
from dbsession.errors import BindingError, InterfaceError, PoolTimeout, SessionForkError

__all__ = ["PostgresBackend", "PostgresConnection", "PostgresDialect"]

_PREPARE_THRESHOLD = 5
_CONNECT_TIMEOUT = 10  # seconds, unless the URL has connect_timeout
_FIRST_SLICE = 0.05  # how long to wait before looking whether connecting has failed; doubles


class _Failure(NamedTuple):
    when: float
    error: Exception


class _Failures:
    """The last failure to connect, noted by a thread of the pool for those who wait."""

    def __init__(self) -> None:
        self.last: _Failure | None = None

    def note(self, error: Exception) -> None:
        self.last = _Failure(monotonic(), error)


class _Link(psycopg.Connection[Row]):
    """The driver's connection, with our own around it kept from one use to the next."""

    wrapper: PostgresConnection | None = None

    @classmethod
    def connect(cls, conninfo: str = "", **kwargs: Any) -> Self:
        """Connect; tell `note_failure` why, if that fails."""
        note_failure: Callable[[Exception], None] = kwargs.pop("note_failure")
        try:
            return super().connect(conninfo, **kwargs)
        except Exception as exc:
            note_failure(exc)
            raise


_POOL_NAME = "dbsession"
_pool_numbers = itertools.count(1)


def _not_ours(record: logging.LogRecord) -> bool:
    """Keep the log of other pools; what goes wrong in ours is raised, or is none of the user's business."""
    arguments = record.args if isinstance(record.args, tuple) else ()
    return not any(
        isinstance(argument, _Link) or (isinstance(argument, str) and argument.startswith(_POOL_NAME))
        for argument in arguments
    )


logging.getLogger("psycopg.pool").addFilter(_not_ours)


class PostgresBackend:
    """The database that *conninfo* (a libpq string or URL) names.

    Nothing is opened before the first `acquire`. *min_size* connections are kept open, at most
    *max_size* made; `acquire` waits *timeout* seconds for one. *prepare* False suits a transaction
    pooler that does not know prepared statements.

    Raises:
        BindingError: libpq cannot read *conninfo*, or the sizes contradict each other.
    """

    readers_wait: bool = False

    def __init__(
        self,
        conninfo: str,
        *,
        url: str | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: float = 30.0,
        prepare: bool = True,
    ) -> None:
        try:
            parts = conninfo_to_dict(conninfo)
        except psycopg.Error:
            # libpq's message quotes the whole text, and with it the password.
            raise BindingError(
                "libpq cannot read the connection string; see its syntax in PostgreSQL's manual, 34.1.1"
            ) from None
        if not 0 <= min_size <= max_size or max_size < 1:
            raise BindingError(f"min_size={min_size} and max_size={max_size} contradict each other")
        self.dialect: Dialect = PostgresDialect()
        self.counters = Counters()
        self.url = url or _describe(parts)
        self._again = functools.partial(
            PostgresBackend, conninfo, min_size=min_size, max_size=max_size, timeout=timeout, prepare=prepare
        )
        self._timeout = timeout
        self._max_size = max_size
        self._failures = _Failures()
        self._holders: dict[PostgresConnection, int] = {}
        self._reclaimed: deque[_Link] = deque()
        self._foreign = False
        self._opened = False
        self._pool: psycopg_pool.ConnectionPool[_Link] = psycopg_pool.ConnectionPool(
            conninfo,
            connection_class=_Link,
            kwargs={
                "autocommit": True,  # we send BEGIN
                "prepare_threshold": _PREPARE_THRESHOLD if prepare else None,
                "connect_timeout": parts.get("connect_timeout") or _CONNECT_TIMEOUT,
                "fallback_application_name": "dbsession",
                "note_failure": self._failures.note,
            },
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            name=f"{_POOL_NAME}-{next(_pool_numbers)}",
            # Each growth fails at once and for good, so that the next caller tries anew.
            reconnect_timeout=0,
            open=False,
        )
        self._finalizer = weakref.finalize(self, _close_pool, self._pool, os.getpid())
        fork.watch(self)

    def acquire(self) -> PostgresConnection:
        """Take a live connection with no transaction open.

        Nothing is sent to find out whether it lives: a server that has ended a connection has made
        its socket readable. After the first dead one all idle ones are asked.

        Raises:
            PoolTimeout: all connections were in use for too long.
            OperationalError: the server cannot be reached; the message says where and why.
            SessionForkError: the database was opened by the parent process.
        """
        if self._foreign:
            raise SessionForkError(fork.REFUSAL.format(self.url))
        if not self._opened:
            self._opened = True
            with suppress(psycopg_pool.PoolClosed):  # reported by _take
                self._pool.open()
        deadline = monotonic() + self._timeout
        checked = False
        while True:
            link = self._take(deadline)
            wrapper = link.wrapper
            if wrapper is None:
                self.counters.connections += 1
                wrapper = link.wrapper = PostgresConnection(link, self.counters)
            elif not wrapper.idle:
                self._give_back(link, close=True)
                if not checked:
                    checked = True
                    self._pool.check()
                continue
            self._holders[wrapper] = threading.get_ident()
            return wrapper

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Give *connection* back; one with an open transaction, broken, or *discard*-ed is closed."""
        if not isinstance(connection, PostgresConnection) or self._holders.pop(connection, None) is None:
            return  # given back already
        link = connection.link
        if isinstance(link, _Link) and not connection.inherited:
            self._give_back(link, close=discard or not connection.clean)

    def reclaim(self, connection: Connection) -> None:
        """Close *connection*, whose session is gone; its place in the pool is free when somebody asks for one."""
        if not isinstance(connection, PostgresConnection) or self._holders.pop(connection, None) is None:
            return
        link = connection.link
        if isinstance(link, _Link) and not connection.inherited:
            connection.close()
            link.wrapper = None
            self._reclaimed.append(link)  # the pool has a lock, which this thread may hold

    def reopened(self) -> PostgresBackend:
        """Return a backend like this one, which was closed, with its counters."""
        backend = self._again(url=self.url)
        backend.counters = self.counters
        return backend

    def close(self) -> None:
        """Close every connection; those in use are closed when they come back."""
        if not self._foreign:
            self._finalizer()

    def abandon(self) -> None:
        """Refuse every use from now on, if anything was opened: this is a forked child."""
        self._foreign = self._opened
        self._finalizer.detach()
        if self._opened:
            fork.keep_forever(self._pool)

    def _take(self, deadline: float) -> _Link:
        began = monotonic()
        wait = _FIRST_SLICE
        while True:
            for _ in range(len(self._reclaimed)):
                with suppress(IndexError):  # another thread was faster
                    self._pool.putconn(self._reclaimed.popleft())
            try:
                return self._pool.getconn(timeout=max(min(wait, deadline - monotonic()), 0.001))
            except psycopg_pool.PoolTimeout:
                failure = self._failures.last
                if failure is not None and failure.when >= began:
                    raise cannot_connect(failure.error, self.url) from failure.error
                if monotonic() >= deadline:
                    raise self._exhausted() from None
                wait *= 2
            except psycopg_pool.PoolClosed as exc:
                raise InterfaceError(f"{self.url} is closed", original_exc=exc) from exc

    def _give_back(self, link: _Link, *, close: bool) -> None:
        if close:
            if link.wrapper is not None:
                link.wrapper.close()
                link.wrapper = None
            link.close()
        self._pool.putconn(link)

    def _exhausted(self) -> PoolTimeout:
        names = {thread.ident: thread.name for thread in threading.enumerate()}
        holders = sorted(names.get(ident, "a thread that has ended") for ident in list(self._holders.values()))
        if len(holders) < self._max_size:
            return PoolTimeout(f"{self.url} let no new connection in within {self._timeout:g} seconds; try again")
        return PoolTimeout(
            f"no connection to {self.url} became free in {self._timeout:g} seconds; "
            f"all {self._max_size} are in use, by: {', '.join(holders)}. Close sessions that are not "
            "needed, or raise max_size"
        )


def _close_pool(pool: psycopg_pool.ConnectionPool[_Link], pid: int) -> None:
    if os.getpid() == pid:
        with suppress(RuntimeError):  # the garbage collector may run in a thread of the pool itself
            pool.close()


def _describe(parts: dict[str, Any]) -> str:
    """Return a URL without the password, and without what it leaves to libpq's defaults."""
    user = f"{parts['user']}@" if parts.get("user") else ""
    hosts = str(parts.get("host") or parts.get("hostaddr") or "").split(",")
    ports = str(parts.get("port") or "").split(",")
    if len(ports) < len(hosts):
        ports = ports * len(hosts) if len(ports) == 1 else ports + [""] * (len(hosts) - len(ports))
    database = parts.get("dbname") or parts.get("user") or ""
    if any(host.startswith("/") for host in hosts):  # a socket directory cannot stand in a URL's host
        query = f"?host={','.join(hosts)}" + (f"&port={','.join(ports)}" if any(ports) else "")
        return f"postgresql://{user}/{database}{query}"
    where = ",".join(f"{host}:{port}" if port else host for host, port in zip(hosts, ports, strict=False))
    return f"postgresql://{user}{where}/{database}"
