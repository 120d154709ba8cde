"""Transactions that run at the same time, one step after the other, in an order that is written down.

Each transaction has a thread, and a connection, of its own. It stops where its work calls `pause`, and
goes on when it is its turn: the schedule ``"ABBA"`` lets A run to its first pause, B to its first, B to
its second, and A to its second. A step is over when everybody has stopped, is done, or waits for a lock
that somebody who has stopped will release. Who waits is asked of the database (`PostgresWatcher`), or
seen from the statements that were sent (`SqliteWatcher`): nothing here rests on how long something takes.

A transaction that waits for a lock misses its turn, and takes it as soon as it can. When the schedule is
through, all go on to their end, in the order of their names. An attempt that is not the first one waits
for that, and then runs without pauses.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from enum import Enum
from typing import Any, Protocol
from unittest import mock

import psycopg

from dbsession.backends.sqlite_connection import SqliteConnection
from dbsession.backends.statements import Batch, Kind, Result

__all__ = ["Actor", "PostgresWatcher", "SqliteWatcher", "Watcher", "play"]

LIMIT = 60.0  # seconds after which a schedule is taken to hang


class State(Enum):
    """What a transaction is doing."""

    RUNNING = "running"  # or waiting for a lock
    STOPPED = "stopped"
    PARKED = "parked"  # another attempt, which waits for the end of the schedule
    DONE = "done"


class Actor:
    """One transaction of a schedule, and what has become of it."""

    def __init__(self, name: str, work: Callable[[Actor], Any], changed: threading.Condition) -> None:
        self.name = name
        self.state = State.RUNNING
        self.attempts = 0
        self.has_waited = False  # for a lock that somebody else held
        self.result: Any = None
        self.error: Exception | None = None
        self._work = work
        self._changed = changed
        self.thread = threading.Thread(target=self._perform, name=name, daemon=True)

    def begin(self) -> None:
        """Say that the work begins, or begins again."""
        self.attempts += 1
        if self.attempts > 1:
            self._stop(State.PARKED)

    def pause(self) -> None:
        """Stop until it is this transaction's turn."""
        if self.attempts == 1:
            self._stop(State.STOPPED)

    def _perform(self) -> None:
        try:
            self._stop(State.STOPPED)
            self.result = self._work(self)
        except Exception as error:
            self.error = error
        self._enter(State.DONE)

    def _enter(self, state: State) -> None:
        with self._changed:
            self.state = state
            self._changed.notify_all()

    def _stop(self, state: State) -> None:
        self._enter(state)
        with self._changed:
            if not self._changed.wait_for(lambda: self.state is State.RUNNING, LIMIT):
                msg = f"{self.name} was never told to go on"
                raise AssertionError(msg)

    def go_on(self) -> None:
        """Let the transaction run; called by the schedule."""
        self._enter(State.RUNNING)


class Watcher(Protocol):
    """Whoever can tell that transactions wait for locks."""

    def all_wait(self, running: list[Actor], others: list[Actor]) -> bool:
        """Whether each of *running* waits for a lock that it cannot get before one of *others* goes on."""
        ...


class PostgresWatcher:
    """Asks the server, over a connection of its own."""

    def __init__(self, url: str) -> None:
        self._connection = psycopg.connect(url, autocommit=True)
        # After this time a transaction that waits looks for a deadlock; the default is a second.
        self._connection.execute(
            "DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET deadlock_timeout = 10', current_database()); END $$"
        )

    def all_wait(self, running: list[Actor], others: list[Actor]) -> bool:
        """Whether as many connections wait for a lock as there are transactions that run."""
        row = self._connection.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() "
            "AND cardinality(pg_blocking_pids(pid)) > 0"
        ).fetchone()
        assert row is not None
        return row[0] == len(running)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class SqliteWatcher:
    """Looks at the statements: there is one lock for writers, and who asks for it waits while another one has it.

    In a file (WAL) readers read beside the writer. In memory there is no WAL, and they wait for it, too.
    """

    def __init__(self, *, readers_wait: bool) -> None:
        self._readers_wait = readers_wait
        self._asking: set[threading.Thread] = set()
        self._inside: set[threading.Thread] = set()

    def all_wait(self, running: list[Actor], others: list[Actor]) -> bool:
        """Whether each of *running* has asked for the lock, while one of *others* is in a transaction that has it."""
        return all(actor.thread in self._asking for actor in running) and any(
            actor.thread in self._inside for actor in others
        )

    def _asks(self, batch: Batch) -> bool:
        return any(
            "IMMEDIATE" in statement.sql if statement.kind is Kind.BEGIN else statement.kind is not Kind.READ
            for statement in batch
        )

    @contextmanager
    def watching(self) -> Iterator[None]:
        """See every statement that is sent within the block."""
        execute = SqliteConnection.execute

        def watched(connection: SqliteConnection, batch: Batch) -> list[Result]:
            me = threading.current_thread()
            asks = self._asks(batch)
            if not connection.in_transaction and (asks or self._readers_wait):
                self._asking.add(me)
            try:
                return execute(connection, batch)
            finally:
                if not connection.in_transaction:
                    self._inside.discard(me)
                elif asks:
                    self._inside.add(me)
                self._asking.discard(me)

        with mock.patch.object(SqliteConnection, "execute", watched):
            yield


class _Stage:
    """The transactions of one schedule, and the word that lets them go on."""

    def __init__(self, works: Mapping[str, Callable[[Actor], Any]], watcher: Watcher) -> None:
        self._watcher = watcher
        self._changed = threading.Condition()
        self._deadline = time.monotonic() + LIMIT
        self.actors = {name: Actor(name, work, self._changed) for name, work in works.items()}
        for actor in self.actors.values():
            actor.thread.start()
        self._settle()

    def play(self, schedule: str) -> None:
        """Let the transactions run as *schedule* says, and then to their ends."""
        owed: list[Actor] = []
        for name in schedule:
            owed.append(self.actors[name])
            for actor in owed[:]:
                if actor.state is State.STOPPED:
                    self._let(actor)
                    owed.remove(actor)
                elif actor.state is not State.RUNNING:  # it will not stop again
                    owed.remove(actor)
        self._finish(State.STOPPED)
        self._finish(State.PARKED)
        for actor in self.actors.values():
            actor.thread.join(LIMIT)

    def _finish(self, state: State) -> None:
        """Let whoever is in *state* go on, one after the other, until nobody is."""
        while left := [actor for actor in self.actors.values() if actor.state in {state, State.RUNNING}]:
            ready = next((actor for actor in left if actor.state is state), None)
            if ready is not None:
                self._let(ready)
            else:  # the database has to decide, about a deadlock for instance
                self._wait_for_change(left, 1.0)

    def _let(self, actor: Actor) -> None:
        actor.go_on()
        self._settle()

    def _settle(self) -> None:
        """Wait until nobody runs, or everybody who does waits for somebody who does not."""
        while True:
            with self._changed:
                running = [actor for actor in self.actors.values() if actor.state is State.RUNNING]
                others = [actor for actor in self.actors.values() if actor.state is not State.RUNNING]
            if not running:
                return
            if self._watcher.all_wait(running, others):
                for each in running:
                    each.has_waited = True
                return
            self._wait_for_change(running, 0.001)

    def _wait_for_change(self, running: list[Actor], timeout: float) -> None:
        with self._changed:
            self._changed.wait_for(lambda: any(actor.state is not State.RUNNING for actor in running), timeout)
        if time.monotonic() > self._deadline:
            states = ", ".join(f"{actor.name}: {actor.state.value}" for actor in self.actors.values())
            msg = f"the schedule hangs ({states})"
            raise AssertionError(msg)


def play(works: Mapping[str, Callable[[Actor], Any]], schedule: str, watcher: Watcher) -> dict[str, Actor]:
    """Run *works* by *schedule*, and return what has become of each."""
    stage = _Stage(works, watcher)
    stage.play(schedule)
    return stage.actors
