"""Cursors of PostgreSQL: DECLARE, FETCH and CLOSE, within a transaction.

A cursor shows what was there when it was declared, whatever is written behind it. A cursor that locks (FOR UPDATE)
is the exception: rows come as they are when they are fetched, and those that the transaction itself has changed
since are left out. PostgreSQL: DECLARE, "Notes".
"""

from __future__ import annotations

from typing import NamedTuple

from dbsession.backends.statements import Kind, Row, Statement

__all__ = ["PostgresCursor"]


class PostgresCursor(NamedTuple):
    """A cursor with the *name*, which is quoted where it has to be, for the SELECT *sql*."""

    name: str
    sql: str
    params: Row

    def declare(self) -> Statement:
        """Return what opens it."""
        return Statement(f"DECLARE {self.name} NO SCROLL CURSOR FOR {self.sql}", self.params, Kind.CURSOR)

    def fetch(self, count: int) -> Statement:
        """Return what answers with the next *count* rows; with fewer of them, there are no more."""
        return Statement(f"FETCH {count} FROM {self.name}", None, Kind.CURSOR, returns=True)

    def close(self) -> Statement:
        """Return what closes it, to be sent with whatever comes next; COMMIT and ROLLBACK do it, too."""
        return Statement(f"CLOSE {self.name}", None, Kind.CURSOR)
