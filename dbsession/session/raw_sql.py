"""SQL of the user's own: what may be sent, whether it counts as a write, and how it is sent."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from dbsession.backends.flow import Flow
from dbsession.backends.statements import Kind, Result, Row, Statement
from dbsession.errors import ProgrammingError
from dbsession.model.elsewhere import ResultNames
from dbsession.query.query import Query

if TYPE_CHECKING:
    from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["RawResult", "counts_as_write", "execute_raw", "send_raw", "without_quoted"]

# What may stand before the first word of a statement: blanks, semicolons, parentheses, comments.
_BEFORE = r"(?:[\s;(]|--[^\n]*(?:\n|$)|/\*.*?\*/)*"
_FIRST_WORD = re.compile(_BEFORE + r"(\w*)", re.DOTALL)
# Statements that move the transaction belong to the session: it has to know where the transaction stands.
_MOVES = re.compile(
    _BEFORE + r"(BEGIN|START|COMMIT|END|ROLLBACK|ABORT|SAVEPOINT|RELEASE|PREPARE\s+TRANSACTION)\b",
    re.DOTALL | re.IGNORECASE,
)
# Everything else is a write, as is a SELECT with one of these words outside of quotes: a WITH that deletes,
# FOR UPDATE, INTO. To take a read for a write does no harm; the reverse would leave it in autocommit.
_READS = frozenset({"SELECT", "WITH", "VALUES", "TABLE", "SHOW", "EXPLAIN", "PRAGMA"})
_WRITE_WORD = re.compile(r"\b(?:INSERT|UPDATE|DELETE|MERGE|INTO|SHARE)\b", re.IGNORECASE)
# Whatever begins first counts: a quote in a comment opens no text, and no comment begins within one.
_QUOTED = re.compile(r"\$(\w*)\$.*?\$\1\$|\b[eE]'(?:\\.|[^'\\])*'|'[^']*'|\"[^\"]*\"|--[^\n]*|/\*.*?\*/", re.DOTALL)
_STREAM = re.compile(r"\b(?:FROM\s+STDIN|TO\s+STDOUT)\b", re.IGNORECASE)


class RawResult(ResultNames):
    """What `Database.execute` answers: `rows` (tuples), `rowcount`, `columns`; iterates over the rows."""

    __slots__ = ("columns", "rowcount", "rows")

    def __init__(self, result: Result) -> None:
        self.rows: list[Row] = result.rows
        self.rowcount = result.rowcount
        self.columns = result.columns

    def __repr__(self) -> str:
        return f"<RawResult of {len(self.rows)} rows, rowcount {self.rowcount}>"

    def __iter__(self) -> Iterator[Row]:
        return iter(self.rows)

    def __len__(self) -> int:
        return len(self.rows)


def counts_as_write(sql: str) -> bool:
    """Tell whether *sql* may write or lock, as far as its text shows.

    Raises:
        TypeError: it is no text.
        ProgrammingError: there is nothing in it, or it is not for the user to send.
    """
    if not isinstance(sql, str):
        hint = "; a query is sent when it is read, by query.fetch() for instance" if isinstance(sql, Query) else ""
        raise TypeError(f"SQL is a str, not {type(sql).__name__} ({sql!r:.60}){hint}")
    first = _FIRST_WORD.match(sql)
    word = first[1].upper() if first is not None else ""
    if not word:
        raise ProgrammingError("there is no SQL to run")
    if moves := _MOVES.match(sql):
        raise ProgrammingError(
            f"{moves[1].upper()} belongs to the session, which has to know where its transaction stands; "
            f"use commit(), rollback() or flush()"
        )
    if word == "COPY" and _STREAM.search(sql):
        raise ProgrammingError("COPY to and from the client is a stream, which db.execute() cannot carry; use INSERT")
    return word not in _READS or bool(_WRITE_WORD.search(sql) and _WRITE_WORD.search(without_quoted(sql)))


def without_quoted(sql: str) -> str:
    """Return *sql* without what stands in quotes and comments."""
    return _QUOTED.sub(" ", sql)


def send_raw(unit: UnitOfWork, statement: Statement, *, writes: bool) -> Flow[Result]:
    """Send SQL of the user's own, behind what is unsaved; what *writes* goes in the transaction."""
    yield from unit.autoflush_for(None)
    if not writes:
        return (yield from unit.transaction.read(statement))[0]
    unit.forgets_reads = True
    if unit.savepoint is not None:
        unit.savepoint.require_writable()
    return (yield from unit.transaction.write(statement, is_flush=False))[0]


def execute_raw(unit: UnitOfWork, sql: str, params: Any, *, writes: bool) -> RawResult:
    """Run *sql* in *unit*; it goes in the transaction if it *writes*, or looks as if it did."""
    writes = counts_as_write(sql) or writes
    text, values = unit.dialect.raw(sql, params)
    return RawResult(unit.run(send_raw(unit, Statement(text, values, Kind.RAW, returns=True), writes=writes)))
