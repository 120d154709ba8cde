"""Statements, batches and results: the only words that flows and backends say to each other.

A *batch* is a tuple of statements none of which needs another's reply, so that they can share one
round trip. Backends run a batch in order and answer with one `Result` a statement; the first
statement that fails ends the batch, and its error is raised with `error.statement` set to it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, NamedTuple, TypeAlias

from dbsession.errors import InterfaceError

__all__ = ["Batch", "Kind", "Parameters", "Result", "Row", "Statement", "require_transaction"]

Row: TypeAlias = tuple[Any, ...]
Parameters: TypeAlias = Sequence[Any] | Mapping[str, Any]


class Kind(Enum):
    """What a statement is for; backends treat the ones that move a transaction apart from the rest."""

    READ = "read"
    WRITE = "write"
    RAW = "raw"
    BEGIN = "begin"
    COMMIT = "commit"
    ROLLBACK = "rollback"
    SAVEPOINT = "savepoint"
    ROLLBACK_TO = "rollback to"
    CURSOR = "cursor"


class Statement(NamedTuple):
    """One SQL statement with its parameters, and what has to come of it.

    `sql` has the placeholders of the dialect. With `many`, `params` is a list of parameter rows and
    the statement runs once for each of them, in order. `expect` is the number of rows that each
    run must touch (None: any number); a run that touches another number raises
    `RowCountMismatch` with the run's tag, which is `tag` plus the number of the run, and nothing
    of the transaction can be committed. `returns` says that the statement answers with rows.
    """

    sql: str
    params: Parameters | list[Sequence[Any]] | None = None
    kind: Kind = Kind.READ
    many: bool = False
    expect: int | None = None
    tag: int = 0
    returns: bool = False


class Result(NamedTuple):
    """The reply to one statement.

    `rows` are what it returned (for `many`: those of all runs, in the order of the runs),
    `rowcount` how many rows it touched or returned, `columns` the names of the returned columns,
    `command` the command tag that the server answered with ("COMMIT", "ROLLBACK", ...; None where
    the database has no such thing).
    """

    rows: list[Row]
    rowcount: int
    columns: tuple[str, ...] = ()
    command: str | None = None


Batch: TypeAlias = tuple[Statement, ...]


def require_transaction(batch: Batch, in_transaction: bool) -> None:
    """Refuse a batch that would write more than once outside a transaction.

    Such a batch would save some of its rows and lose others; on PostgreSQL a pipeline would also
    make it an implicit transaction, whose deferred constraints fail with their SQLSTATE lost.

    Raises:
        InterfaceError: the batch has such a write. That is a mistake in dbsession.
    """
    if in_transaction and len(batch) == 1:
        return
    for statement in batch:
        kind = statement.kind
        if kind is Kind.READ or kind is Kind.CURSOR:
            continue
        if kind is Kind.BEGIN:
            in_transaction = True
        elif kind is Kind.COMMIT or kind is Kind.ROLLBACK:
            in_transaction = False
        elif not in_transaction and (len(batch) > 1 or statement.many):
            raise InterfaceError(
                f"several writes in one batch, and no transaction around them: {statement.sql}",
                statement=statement,
            )
