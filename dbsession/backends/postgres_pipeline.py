"""What is known of the statements of a pipeline while, and after, it runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import psycopg

from dbsession.backends.statements import Row, Statement

__all__ = ["Cursor", "Sent", "failing_statement"]

Cursor: TypeAlias = psycopg.Cursor[Row]


class Sent:
    """One statement of a batch on its way: the cursors that will have its replies."""

    __slots__ = ("cursors", "guarded", "statement")

    def __init__(self, statement: Statement, guarded: bool) -> None:
        self.statement = statement
        self.guarded = guarded
        self.cursors: list[Cursor] = []

    def answered(self) -> int:
        """Count the runs that have a reply. Only for a statement of one row a run is it exact with executemany."""
        if self.statement.many and not self.statement.returns:
            return sum(max(cursor.rowcount, 0) for cursor in self.cursors)
        return sum(cursor.pgresult is not None for cursor in self.cursors)

    def runs(self) -> int:
        """Count the runs of the statement."""
        params = self.statement.params
        return len(params) if self.statement.many and params is not None else 1


def failing_statement(sent: Sequence[Sent], exc: Exception) -> Sent | None:
    """Return the statement of a failed pipeline that *exc* is about.

    The server answers in order, and stops answering at the one that fails. An error without a
    SQLSTATE is the driver's, raised while the last one was being sent.
    """
    if not sent:
        return None
    if not isinstance(exc, psycopg.Error) or exc.sqlstate is None:
        return sent[-1]
    last = max((number for number, entry in enumerate(sent) if entry.answered()), default=-1)
    if last >= 0 and sent[last].answered() < sent[last].runs():
        last -= 1
    return sent[min(last + 1, len(sent) - 1)]
