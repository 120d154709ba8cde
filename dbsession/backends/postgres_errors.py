"""What PostgreSQL's SQLSTATEs mean: one table from code to the errors of dbsession.

The server's primary message is shown, without the values that it quotes in class 22 (data exception).
Its DETAIL is not: "Key (email)=(x)" has a value in it.
"""

from __future__ import annotations

import re

import psycopg

from dbsession.backends.base import RowCountMismatch
from dbsession.backends.statements import Statement
from dbsession.errors import (
    ConnectionLost,
    DatabaseError,
    DataError,
    DeadlockDetected,
    IntegrityError,
    InterfaceError,
    InternalError,
    LockNotAvailable,
    NotSupportedError,
    OperationalError,
    ProgrammingError,
    SerializationConflict,
    TransactionIntegrityError,
)

__all__ = ["CODES", "cannot_connect", "is_stale_plan", "lost_before", "translate"]

# A code is looked up whole, then by its class (the first two characters).
# https://www.postgresql.org/docs/current/errcodes-appendix.html
CODES: dict[str, type[DatabaseError]] = {
    "40001": SerializationConflict,
    "40P01": DeadlockDetected,
    "55P03": LockNotAvailable,
    "08": ConnectionLost,
    "25P03": ConnectionLost,  # idle_in_transaction_session_timeout
    "25P04": ConnectionLost,  # transaction_timeout
    "57P01": ConnectionLost,  # admin_shutdown
    "57P02": ConnectionLost,  # crash_shutdown
    "57P03": ConnectionLost,  # cannot_connect_now
    "57P05": ConnectionLost,  # idle_session_timeout
    "0A": NotSupportedError,
    "21": ProgrammingError,
    "22": DataError,
    "23": TransactionIntegrityError,
    "25": OperationalError,
    "26": OperationalError,
    "28": OperationalError,
    "2D": OperationalError,
    "3D": ProgrammingError,
    "3F": ProgrammingError,
    "40002": TransactionIntegrityError,
    "40": OperationalError,
    "42": ProgrammingError,
    "44": TransactionIntegrityError,  # WITH CHECK OPTION
    "53": OperationalError,
    "54": OperationalError,
    "55": OperationalError,
    "57": OperationalError,
    "58": OperationalError,
    "P0": OperationalError,  # RAISE in PL/pgSQL: a rule of the user's own
    "XX": InternalError,
}

# For errors of the driver's own, which have no SQLSTATE; the most special class first.
_DRIVER_CLASSES: tuple[tuple[type[psycopg.Error], type[DatabaseError]], ...] = (
    (psycopg.NotSupportedError, NotSupportedError),
    (psycopg.ProgrammingError, ProgrammingError),
    (psycopg.InternalError, InternalError),
    (psycopg.IntegrityError, IntegrityError),
    (psycopg.DataError, DataError),
    (psycopg.OperationalError, OperationalError),
    (psycopg.InterfaceError, InterfaceError),
)

_MISMATCH = re.compile(r"dbs:(\d+):(\d+)")

# The server says "canceling statement due to statement timeout"; whoever has set it knows it by its name.
_TIMEOUT = re.compile(r"\b(statement|lock) timeout\b")

# 'invalid input syntax for type integer: "x"'. A value may hold quotes itself, and nothing escapes them, so all up to
# the last one goes. Names stay; other languages have other quotes.
_QUOTES = '["\u00ab\u00bb\u201c\u201d\u201e]'
_NAMED = "".join([rf"(?<!\b{kind} )" for kind in ("column", "constraint", "encoding", "parameter", "relation", "type")])
_QUOTED_VALUE = re.compile(rf"(?<!\w){_NAMED}{_QUOTES}.*{_QUOTES}", re.DOTALL)
_KEY_DETAIL = re.compile(r"\((.+?)\)=\(")

_POOLER = (
    "behind a transaction pooler, say prepare=false in the URL: prepared statements belong to one server connection"
)
_HINTS = {"26000": _POOLER, "42P05": _POOLER}

# English only: a server that speaks another language gets no hint. (pattern, passes by itself?, hint)
_CONNECT_HINTS: tuple[tuple[str, bool, str], ...] = (
    (
        r"too many clients|too many connections|remaining connection slots",
        True,
        "lower max_size, or raise max_connections",
    ),
    (r"starting up|shutting down|recovery", True, "the server is not ready yet; try again"),
    (r"refused|No such file or directory", False, "is PostgreSQL running, and does it listen there?"),
    (
        r"password authentication failed|no password supplied",
        False,
        "check user and password (URL, PGPASSWORD, ~/.pgpass)",
    ),
    (r"database \".*\" does not exist", False, "create it first, for instance with createdb"),
    (
        r"role \".*\" does not exist",
        False,
        "create it first, for instance with createuser, or name another user in the URL",
    ),
    (r"translate host name|not known|resolve", False, "check the host in the URL"),
    (r"no pg_hba.conf entry", False, "the server's pg_hba.conf does not let this user in from here"),
    (r"timeout expired|timed out", False, "the host does not answer; check host, port and firewall"),
)


def _class_of(exc: psycopg.Error) -> type[DatabaseError]:
    code = exc.sqlstate
    if code is not None:
        found = CODES.get(code) or CODES.get(code[:2])
        if found is not None:
            return found
    for theirs, ours in _DRIVER_CLASSES:
        if isinstance(exc, theirs):
            return ours
    return DatabaseError


def is_stale_plan(exc: BaseException) -> bool:
    """Say whether *exc* is about a prepared statement whose table was altered (in any language)."""
    return isinstance(exc, psycopg.errors.FeatureNotSupported) and exc.diag.source_function == "RevalidateCachedQuery"


def _columns_of(diag: psycopg.errors.Diagnostic) -> tuple[str, ...]:
    if diag.column_name:
        return (diag.column_name,)
    match = _KEY_DETAIL.search(diag.message_detail or "")
    if match is None:
        return ()
    return tuple(name.strip().strip('"') for name in match[1].split(","))


def _message(exc: BaseException) -> str:
    if isinstance(exc, psycopg.errors.SyntaxError) and exc.diag.source_function == "exec_parse_message":
        return "only one statement at a time can be sent, and the text has several"
    if isinstance(exc, psycopg.Error) and exc.diag.message_primary:
        hint = exc.diag.message_hint or _HINTS.get(exc.sqlstate or "")
        text = _TIMEOUT.sub(r"\1_timeout", exc.diag.message_primary)
        if (exc.sqlstate or "").startswith("22"):
            text = _QUOTED_VALUE.sub('"..."', text)
        return f"{text} ({hint})" if hint else text
    text = str(exc).strip()
    return text.splitlines()[0] if text else type(exc).__name__


def translate(
    exc: BaseException, statement: Statement | None, *, broken: bool = False, tag: int | None = None
) -> DatabaseError:
    """Make one of our errors of the driver's *exc*; the caller raises it ``from exc``.

    *broken* says that the connection is gone, whatever *exc* itself calls it.
    """
    details: dict[str, object] = {"original_exc": exc}
    if statement is not None:
        details |= {"statement": statement, "sql": statement.sql}
    if tag is not None:
        details["tag"] = tag
    if not isinstance(exc, psycopg.Error):
        value_error = isinstance(exc, (ValueError, OverflowError, TypeError))
        return (DataError if value_error else OperationalError)(_message(exc), **details)
    details["sqlstate"] = exc.sqlstate
    mismatch = exc.sqlstate == "22P02" and _MISMATCH.search(exc.diag.message_primary or "")
    if mismatch:
        found = int(mismatch[2])
        expected = "another number of" if statement is None else statement.expect
        details |= {"tag": int(mismatch[1]), "found": found}
        return RowCountMismatch(f"a statement had to touch {expected} rows, and touched {found}", **details)
    cls = ConnectionLost if broken else _class_of(exc)
    if is_stale_plan(exc):
        cls = SerializationConflict  # somebody altered the table; a new connection knows no old plans
    if issubclass(cls, IntegrityError):
        diag = exc.diag
        details |= {"constraint": diag.constraint_name, "table": diag.table_name, "columns": _columns_of(diag)}
    message = _message(exc)
    if cls is ConnectionLost:
        message = f"the connection to PostgreSQL was lost: {message}"
    return cls(message, **details)


def lost_before(first: BaseException | None, statement: Statement) -> ConnectionLost:
    """Make the error for *statement*, which was not sent, since the link broke before; *first* said how."""
    reason = "it is closed" if first is None else str(first)
    return ConnectionLost(
        f"{reason} - nothing more can be sent over this connection; call rollback() or leave the scope",
        statement=statement,
        original_exc=getattr(first, "original_exc", None),
        nothing_sent=True,
        commit_sent=False,
    )


def cannot_connect(exc: BaseException, where: str) -> OperationalError:
    """Make the error for a connection that could not be made; *where* is the URL without the password."""
    text = " ".join(str(exc).split())
    for pattern, passing, hint in _CONNECT_HINTS:
        if re.search(pattern, text):
            cls = ConnectionLost if passing else OperationalError  # the former is worth a retry
            return cls(f"cannot connect to {where}: {text} ({hint})", original_exc=exc)
    return OperationalError(f"cannot connect to {where}: {text}", original_exc=exc)
