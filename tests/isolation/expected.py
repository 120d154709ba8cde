"""What is expected of each case, in each mode, without `retry`.

`retry` turns each error into the result of a serial order, and changes nothing else: `with_retry`.
"""

from __future__ import annotations

from typing import TypeAlias

from tests.isolation.outcomes import ANOMALY, MODES, NOTHING, RETRIED, WAITS

__all__ = ["DATABASES", "Table", "table"]

Row: TypeAlias = tuple[str, str, str, str]  # default, FOR UPDATE, repeatable read, serializable
Table: TypeAlias = dict[str, dict[tuple[str, bool], str]]
"""For each case: the outcome by mode, and whether there was a retry."""

_CHECK, _REREAD = "OptimisticCheckError", "UnrepeatableReadError"
_CONFLICT, _DEADLOCK, _INTEGRITY = "SerializationConflict", "DeadlockDetected", "TransactionIntegrityError"

_POSTGRESQL: dict[str, Row] = {
    "dirty write (G0)": (WAITS, WAITS, _CONFLICT, _CONFLICT),
    "aborted read (G1a)": (NOTHING, WAITS, NOTHING, NOTHING),
    "intermediate read (G1b)": (NOTHING, WAITS, NOTHING, NOTHING),
    "circular flow (G1c)": (NOTHING, _DEADLOCK, NOTHING, _CONFLICT),
    "lost update (P4)": (_CHECK, WAITS, _CONFLICT, _CONFLICT),
    "lost update, at once (P4)": (_CHECK, WAITS, _CONFLICT, _CONFLICT),
    "increment in SQL": (WAITS, WAITS, _CONFLICT, _CONFLICT),
    "unrepeatable read (P2)": (_REREAD, WAITS, NOTHING, NOTHING),
    "read skew (G-single)": (ANOMALY, WAITS, NOTHING, NOTHING),
    "stale delete (G-single)": (_CHECK, WAITS, _CONFLICT, _CONFLICT),
    "write skew (G2-item)": (ANOMALY, WAITS, ANOMALY, _CONFLICT),
    "read-only anomaly": (ANOMALY, WAITS, ANOMALY, _CONFLICT),
    # FOR UPDATE locks the rows that fit, and not those that do not fit yet.
    "phantom read (PMP)": (ANOMALY, ANOMALY, NOTHING, NOTHING),
    "phantom, deleted by a condition (PMP)": (_CHECK, ANOMALY, _CONFLICT, _CONFLICT),
    "phantom, deleted in bulk (PMP)": (ANOMALY, ANOMALY, _CONFLICT, _CONFLICT),
    "write skew by a condition (G2)": (ANOMALY, ANOMALY, ANOMALY, _CONFLICT),
    "deadlock": (_DEADLOCK, _DEADLOCK, _DEADLOCK, _DEADLOCK),
    "check, then insert": (_INTEGRITY, _INTEGRITY, _INTEGRITY, _CONFLICT),
    "insert below a deleted parent": (_INTEGRITY, WAITS, _CONFLICT, _CONFLICT),
}

# All but the default take the one lock for writers with their first statement.
_SQLITE: dict[str, Row] = {
    "dirty write (G0)": (WAITS, WAITS, WAITS, WAITS),
    "aborted read (G1a)": (NOTHING, WAITS, WAITS, WAITS),
    "intermediate read (G1b)": (NOTHING, WAITS, WAITS, WAITS),
    "circular flow (G1c)": (WAITS, WAITS, WAITS, WAITS),
    "lost update (P4)": (_CHECK, WAITS, WAITS, WAITS),
    "lost update, at once (P4)": (_CHECK, WAITS, WAITS, WAITS),
    "increment in SQL": (WAITS, WAITS, WAITS, WAITS),
    "unrepeatable read (P2)": (_REREAD, WAITS, WAITS, WAITS),
    "read skew (G-single)": (ANOMALY, WAITS, WAITS, WAITS),
    "stale delete (G-single)": (_CHECK, WAITS, WAITS, WAITS),
    "write skew (G2-item)": (ANOMALY, WAITS, WAITS, WAITS),
    "read-only anomaly": (ANOMALY, WAITS, WAITS, WAITS),
    "phantom read (PMP)": (ANOMALY, WAITS, WAITS, WAITS),
    "phantom, deleted by a condition (PMP)": (_CHECK, WAITS, WAITS, WAITS),
    "phantom, deleted in bulk (PMP)": (WAITS, WAITS, WAITS, WAITS),
    "write skew by a condition (G2)": (ANOMALY, WAITS, WAITS, WAITS),
    "deadlock": (WAITS, WAITS, WAITS, WAITS),
    "check, then insert": (_INTEGRITY, WAITS, WAITS, WAITS),
    "insert below a deleted parent": (_INTEGRITY, WAITS, WAITS, WAITS),
}

# In memory readers wait for the writer, since there is no WAL.
_SQLITE_IN_MEMORY: dict[str, Row] = {
    **_SQLITE,
    "aborted read (G1a)": (WAITS, WAITS, WAITS, WAITS),
    "intermediate read (G1b)": (WAITS, WAITS, WAITS, WAITS),
    "phantom, deleted by a condition (PMP)": (WAITS, WAITS, WAITS, WAITS),
}

DATABASES = {
    "sqlite": _SQLITE_IN_MEMORY,
    "sqlite-file": _SQLITE,
    "postgresql-16": _POSTGRESQL,
    "postgresql-18": _POSTGRESQL,
}
"""By the names that tests give to databases."""


def with_retry(word: str) -> str:
    """Return what `retry` makes of an outcome."""
    return word if word in {ANOMALY, NOTHING, WAITS} else RETRIED


def table(database: str) -> Table:
    """Return what is expected of every case in *database*."""
    return {
        case: {
            (mode, retry): with_retry(word) if retry else word
            for mode, word in zip(MODES, row, strict=True)
            for retry in (False, True)
        }
        for case, row in DATABASES[database].items()
    }
