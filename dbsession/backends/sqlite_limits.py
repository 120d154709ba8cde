"""What is asked for one transaction of SQLite alone, and has to be gone from the connection when it has ended."""

from __future__ import annotations

import sqlite3
from time import monotonic
from typing import Any, NamedTuple, Self

from dbsession.backends.base import milliseconds

__all__ = ["Limits", "TimedCursor"]

_STEPS = 1000  # of SQLite's virtual machine between two looks at the clock: some ten microseconds


class Limits(NamedTuple):
    """The settings of one transaction. They travel as the parameters of its BEGIN, which has none of its own.

    `nowait` holds for BEGIN only: a COMMIT may have to wait for readers all the same.
    """

    query_only: bool = False
    foreign_keys: bool = True
    lock_timeout: float | None = None
    statement_timeout: float | None = None
    nowait: bool = False

    def impose(self, db: sqlite3.Connection, timeout: float) -> None:
        """Change the settings of *db*, which waits *timeout* seconds for locks otherwise, before BEGIN."""
        if self.query_only:
            _set(db, "query_only", "ON")
        if not self.foreign_keys:
            _set(db, "foreign_keys", "OFF")  # a no-op within a transaction
        if self.nowait:
            _set(db, "busy_timeout", 0)
        else:
            self.begun(db, timeout)

    def begun(self, db: sqlite3.Connection, timeout: float) -> None:
        """Let statements behind BEGIN wait for locks as long as they may."""
        asked = [seconds for seconds in (self.lock_timeout, self.statement_timeout) if seconds is not None]
        _set(db, "busy_timeout", min(map(milliseconds, asked), default=round(timeout * 1000)))

    def lift(self, db: sqlite3.Connection, timeout: float) -> None:
        """Put the settings of *db* back, outside any transaction."""
        if self.query_only:
            _set(db, "query_only", "OFF")
        if not self.foreign_keys:
            _set(db, "foreign_keys", "ON")
        _set(db, "busy_timeout", round(timeout * 1000))


class TimedCursor(sqlite3.Cursor):
    """Runs statements that SQLite interrupts after *seconds* each. `stop` it, or it watches others, too."""

    def __init__(self, db: sqlite3.Connection, seconds: float) -> None:
        super().__init__(db)
        self.seconds = seconds
        self._deadline = float("inf")
        db.set_progress_handler(self.is_late, _STEPS)

    def execute(self, sql: str, parameters: Any = (), /) -> Self:
        """Run *sql*; its time runs until the next one, so reading its rows is part of it."""
        self.start()
        return super().execute(sql, parameters)

    def start(self) -> None:
        """Let the time run anew, for another cursor of the same connection."""
        self._deadline = monotonic() + self.seconds

    def is_late(self) -> bool:
        """Tell whether the time of the current statement is over."""
        return monotonic() > self._deadline

    def stop(self) -> None:
        """Interrupt nothing any more."""
        self.connection.set_progress_handler(None, 0)
        self.close()


def _set(db: sqlite3.Connection, name: str, value: str | int) -> None:
    db.execute(f"PRAGMA {name} = {value}").close()
