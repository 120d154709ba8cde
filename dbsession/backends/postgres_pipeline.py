"""A batch on its way to PostgreSQL in one round trip: what was sent, what was answered, and which statement failed."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeAlias

import psycopg

from dbsession.backends.base import RowCountMismatch
from dbsession.backends.placeholders import numbered
from dbsession.backends.postgres_dialect import guard
from dbsession.backends.statements import Batch, Kind, Result, Row, Statement
from dbsession.errors import InterfaceError

__all__ = ["Cursor", "Link", "Pipeline", "guarded", "mismatch", "strip"]

Link: TypeAlias = psycopg.Connection[Row]
Cursor: TypeAlias = psycopg.Cursor[Row]
_Sql: TypeAlias = Any  # psycopg's types want literal strings; ours are put together, from quoted names

_LONG = 4000  # psycopg reads the placeholders of longer texts each time anew


class _Sent:
    """One statement of a batch on its way: the cursors that will have its replies."""

    __slots__ = ("cursors", "is_guarded", "statement")

    def __init__(self, statement: Statement) -> None:
        self.statement = statement
        self.is_guarded = statement.expect is not None and statement.kind is Kind.WRITE
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

    def result(self) -> Result:
        """Read the replies to a statement that moves no transaction; all of them have arrived."""
        statement = self.statement
        expected = (statement.expect or 0) * self.runs()
        if statement.many and not statement.returns:
            total = sum(max(cursor.rowcount, 0) for cursor in self.cursors)
            return Result([], expected if self.is_guarded else total)
        rows: list[Row] = []
        total = 0
        columns: tuple[str, ...] = ()
        for cursor in self.cursors:
            total += max(cursor.rowcount, 0)
            if cursor.description is not None:
                rows += cursor.fetchall()
        if self.cursors:
            columns = tuple(column.name for column in self.cursors[-1].description or ())
        if self.is_guarded:
            total = expected
            rows, columns = strip(rows, columns) if statement.returns else ([], ())
        elif statement.expect is not None and total != expected:
            raise mismatch(statement, total)
        return Result(rows, total, columns)


class Pipeline:
    """Sends one batch, and reads its replies when all have arrived.

    *control* sends a statement that moves the transaction, *controlled* notes what its reply, a
    command tag, has done, *raw* makes a cursor for user-written SQL.
    """

    def __init__(
        self,
        link: Link,
        *,
        control: Callable[[Cursor, Statement], Cursor],
        controlled: Callable[[Statement, str | None], Result],
        raw: Callable[[str], Cursor],
    ) -> None:
        self._link = link
        self._control = control
        self._controlled = controlled
        self._raw = raw
        self._sent: list[_Sent] = []

    def send(self, batch: Batch) -> BaseException | None:
        """Send *batch*, wait until the server has answered, and return the error that ended it."""
        first: BaseException | None = None
        try:
            with self._link.pipeline():
                try:
                    for statement in batch:
                        self._send(statement)
                except BaseException as exc:
                    # Kept, not raised through the pipeline: it would log what follows from this error.
                    first = exc
        except BaseException as exc:
            first = first or exc
        return first

    def results(self) -> list[Result]:
        """Return the replies to all statements.

        Raises:
            RowCountMismatch: a statement that the server could not guard touched another number of rows.
        """
        results: list[Result] = []
        try:
            results.extend(map(self._result, self._sent))  # which keeps what came before an error
        except RowCountMismatch as error:
            error.results = results
            raise
        return results

    def done(self) -> list[Result]:
        """Return the replies to the statements before the one that failed."""
        results: list[Result] = []
        with suppress(RowCountMismatch):
            results.extend(map(self._result, self._sent[: self._completed()]))
        return results

    def raw_cursors(self) -> list[tuple[Cursor, Statement]]:
        """Return the cursors of the statements that may hold SQL of the user's own."""
        kinds = ((entry, entry.statement.kind) for entry in self._sent)
        return [
            (entry.cursors[0], entry.statement)
            for entry, kind in kinds
            if kind is Kind.RAW or (kind is Kind.READ and not entry.statement.many)
        ]

    def failing(self, exc: Exception) -> tuple[Statement | None, int | None]:
        """Return the statement that *exc* is about, and the tag of its run where the server guards it.

        The server answers in order, and stops answering at the one that fails. An error without a
        SQLSTATE is the driver's, raised while the last one was being sent.
        """
        if not self._sent:
            return None, None
        last = len(self._sent) - 1
        if isinstance(exc, psycopg.Error) and exc.sqlstate is not None:
            last = min(self._completed(), last)
        entry = self._sent[last]
        return entry.statement, entry.statement.tag + entry.answered() if entry.is_guarded else None

    def _completed(self) -> int:
        """Count the statements that were done before one failed: what stands before an answered one is done."""
        last = max((number for number, entry in enumerate(self._sent) if entry.answered()), default=-1)
        if last >= 0 and self._sent[last].answered() < self._sent[last].runs():
            return last
        return last + 1

    def _result(self, entry: _Sent) -> Result:
        kind = entry.statement.kind
        if kind is Kind.READ or kind is Kind.WRITE or kind is Kind.RAW or kind is Kind.CURSOR:
            return entry.result()
        return self._controlled(entry.statement, entry.cursors[0].statusmessage)

    def _send(self, statement: Statement) -> None:
        sql: _Sql
        sql, params, kind, many, _, tag, _ = statement
        entry = _Sent(statement)
        self._sent.append(entry)
        if kind is Kind.RAW:
            cursor = self._raw(sql)
            entry.cursors.append(cursor)
            cursor.execute(sql, params)
        elif kind is not Kind.READ and kind is not Kind.WRITE and kind is not Kind.CURSOR:
            cursor = self._link.cursor()
            entry.cursors.append(cursor)
            self._control(cursor, statement)
        elif many:
            self._send_many(entry, params)
        else:
            if entry.is_guarded:
                sql, params = guarded(statement, params, tag)
            cursor = self._link.cursor()
            if len(sql) > _LONG:
                sql, cursor = numbered(sql), psycopg.RawCursor(self._link)
            entry.cursors.append(cursor)
            cursor.execute(sql, () if params is None else params, prepare=False if kind is Kind.CURSOR else None)

    def _send_many(self, entry: _Sent, runs: Any) -> None:
        statement = entry.statement
        if not isinstance(runs, list):
            raise InterfaceError("a statement with many=True needs a list of parameter rows")
        sql: _Sql = statement.sql
        if entry.is_guarded:
            sql = guard(sql, statement.expect or 0, statement.returns)
            runs = [(*params, str(number)) for number, params in enumerate(runs, statement.tag)]
        if not statement.returns:
            if runs:
                cursor = self._link.cursor()
                entry.cursors.append(cursor)
                cursor.executemany(sql, runs, returning=False)
            return
        for params in runs:
            cursor = self._link.cursor()
            entry.cursors.append(cursor)
            cursor.execute(sql, params)


def guarded(statement: Statement, params: Any, tag: int) -> tuple[str, tuple[Any, ...]]:
    """Return *statement* so that the server itself fails unless it touches as many rows as it has to."""
    if not isinstance(params, (list, tuple, type(None))):
        raise InterfaceError("a statement with expect needs its parameters in order", statement=statement)
    return guard(statement.sql, statement.expect or 0, statement.returns), (*(params or ()), str(tag))


def strip(rows: list[Row], columns: tuple[str, ...]) -> tuple[list[Row], tuple[str, ...]]:
    """Take the guard's own column off."""
    return [row[1:] for row in rows], columns[1:]


def mismatch(statement: Statement, found: int) -> RowCountMismatch:
    """Make the error of a *statement* that touched *found* rows, and had to touch another number."""
    return RowCountMismatch(
        f"a statement had to touch {statement.expect} rows, and touched {found}",
        tag=statement.tag,
        found=found,
        statement=statement,
        sql=statement.sql,
    )
