"""What SQLite's result codes mean: one table from (extended) code to the errors of dbsession."""

from __future__ import annotations

import re
import sqlite3

from dbsession.backends.statements import Statement
from dbsession.errors import (
    DatabaseError,
    DataError,
    InterfaceError,
    InternalError,
    LockNotAvailable,
    OperationalError,
    ProgrammingError,
    SerializationConflict,
    TransactionIntegrityError,
)

__all__ = ["CODES", "translate"]

# Extended codes first; a code that is not here is looked up by its low byte.
# https://www.sqlite.org/rescode.html
CODES: dict[int, type[DatabaseError]] = {
    1: ProgrammingError,  # SQLITE_ERROR: syntax, no such table or column; see _GENERIC
    2: InternalError,
    3: OperationalError,  # PERM
    4: OperationalError,  # ABORT
    5: LockNotAvailable,  # BUSY
    261: LockNotAvailable,  # BUSY_RECOVERY
    517: SerializationConflict,  # BUSY_SNAPSHOT: the snapshot is stale; waiting does not help
    6: LockNotAvailable,  # LOCKED
    262: LockNotAvailable,  # LOCKED_SHAREDCACHE
    7: OperationalError,  # NOMEM
    8: OperationalError,  # READONLY
    9: OperationalError,  # INTERRUPT
    10: OperationalError,  # IOERR
    11: OperationalError,  # CORRUPT
    13: OperationalError,  # FULL
    14: OperationalError,  # CANTOPEN
    15: LockNotAvailable,  # PROTOCOL: the WAL could not be locked
    17: OperationalError,  # SCHEMA
    18: DataError,  # TOOBIG
    19: TransactionIntegrityError,  # CONSTRAINT
    20: DataError,  # MISMATCH
    21: InterfaceError,  # MISUSE
    23: OperationalError,  # AUTH
    25: ProgrammingError,  # RANGE: a parameter too many
    26: OperationalError,  # NOTADB
}

# SQLITE_ERROR says everything that has no code of its own; these are not mistakes in the SQL text.
_GENERIC = re.compile(r"user-defined|cannot (?:commit|rollback|start)|no such savepoint")

_CONSTRAINT = re.compile(r"^(UNIQUE|NOT NULL|CHECK|FOREIGN KEY) constraint failed(?:: (.*))?$", re.DOTALL)

_HINTS = {
    LockNotAvailable: "another connection holds the lock; keep write transactions short, or raise the timeout",
    SerializationConflict: "another connection wrote since this transaction first read; run it again",
}


def _class_of(exc: Exception, code: int | None) -> type[DatabaseError]:
    if code is None:
        if isinstance(exc, (OverflowError, UnicodeError, ValueError)):
            return DataError  # the value never reached SQLite
        if isinstance(exc, (sqlite3.InterfaceError, sqlite3.ProgrammingError, sqlite3.Warning)):
            return ProgrammingError  # wrong number or type of parameters, two statements in one
        return OperationalError
    if code == 1 and _GENERIC.search(str(exc)):
        return OperationalError
    return CODES.get(code) or CODES.get(code & 0xFF, DatabaseError)


def _constraint_details(text: str) -> dict[str, object]:
    """Read table, columns and constraint out of SQLite's message, which has names and no values."""
    match = _CONSTRAINT.match(text)
    if match is None or not match[2]:
        return {}
    kind, rest = match.groups()
    if kind == "CHECK":
        return {"constraint": rest}
    if rest.startswith("index '"):
        return {"constraint": rest[7:].rstrip("'")}
    parts = [part.rpartition(".") for part in rest.split(", ")]
    return {"table": parts[0][0], "columns": tuple(column for _, _, column in parts)}


def translate(
    exc: Exception,
    statement: Statement | None,
    *,
    tag: int | None = None,
    lost: bool = False,
    timeout: float | None = None,
) -> DatabaseError:
    """Make one of our errors of the driver's *exc*; the caller raises it ``from exc``.

    *lost* says that SQLite has rolled the transaction back on its own, *timeout* which
    statement_timeout was over. Parameter values are never shown.
    """
    code: int | None = getattr(exc, "sqlite_errorcode", None)
    cls = _class_of(exc, code)
    text = str(exc)
    if isinstance(exc, UnicodeError):
        text = "a string holds characters that UTF-8 cannot encode"  # the driver's text shows the value
    elif code == sqlite3.SQLITE_INTERRUPT and timeout is not None:
        text = f"the statement ran longer than its statement_timeout of {timeout:g} seconds"
    details: dict[str, object] = {"original_exc": exc}
    if issubclass(cls, TransactionIntegrityError):
        details |= _constraint_details(text)
    if statement is not None:
        details |= {"statement": statement, "sql": statement.sql}
    if tag is not None:
        details["tag"] = tag
    if lost:
        details["transaction_lost"] = True
        text += " (SQLite has rolled back the whole transaction)"
    elif cls in _HINTS:
        text += f" ({_HINTS[cls]})"
    error = cls(text, **details)
    error.__cause__ = exc
    return error
