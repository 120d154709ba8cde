"""What a database has to offer: a `Backend` hands out `Connection`s, a `Dialect` knows its SQL and values.

Backends know SQL, values and errors. They know nothing of entities, sessions or scopes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

from dbsession.backends.statements import Batch, Result, Row, Statement
from dbsession.errors import DatabaseError

__all__ = [
    "Backend",
    "Codec",
    "Connection",
    "Counters",
    "Dialect",
    "RowCountMismatch",
    "ServerCursor",
    "TransactionMode",
    "ValueType",
    "milliseconds",
]


class RowCountMismatch(DatabaseError):
    """A write touched another number of rows than it had to. Nothing of its transaction can be committed.

    `tag` names the run (see `Statement`), `found` is the number of rows it touched, where known.
    """

    tag: int = 0
    found: int | None = None


@dataclass(frozen=True)
class ValueType:
    """The type of a column in Python's words; each dialect answers with its `Codec`.

    `python` is one of int, str, bool, float, Decimal, datetime, date, time, timedelta, UUID, bytes,
    dict (JSON of any shape), list (an array of `item`). Enum attributes are mapped by the model to
    the type of their values.
    """

    python: type
    size: int | None = None  # int: bits, 8/16/24/32/64
    unsigned: bool = False
    max_len: int | None = None  # str
    precision: int | None = None  # Decimal: all digits; datetime, time, timedelta: digits of the second
    scale: int | None = None  # Decimal: digits behind the point
    tz: bool = False  # datetime: aware values, stored in UTC
    item: ValueType | None = None  # list


class Codec(NamedTuple):
    """How a value travels: `encode` to a parameter, `decode` from a row; None means: as it is.

    Both are called with values that are not None. Equal values must have equal encodings, and
    ``decode(encode(value)) == value``. Where a column holds less than the Python type, `check`
    returns what it can hold, and raises ValueError for the rest; so that this is known when the
    value is assigned, not when it is sent.
    """

    sql_type: str
    encode: Callable[[Any], Any] | None = None
    decode: Callable[[Any], Any] | None = None
    check: Callable[[Any], Any] | None = None


@dataclass(frozen=True)
class TransactionMode:
    """How a transaction begins. `write` says that it will write (SQLite: take the write lock now)."""

    write: bool = True
    isolation: str | None = None  # "read committed", "repeatable read", "serializable"
    read_only: bool = False
    deferrable: bool = False
    statement_timeout: float | None = None  # seconds that one statement may take
    lock_timeout: float | None = None  # seconds to wait for one lock
    foreign_keys: bool = True  # SQLite: False leaves them unchecked until the commit
    nowait: bool = False  # SQLite: do not wait for the write lock (elsewhere a lock says so in its own SQL)


def milliseconds(seconds: float) -> int:
    """Return a timeout in whole milliseconds: at least one, since none means no timeout to databases."""
    return max(1, min(round(seconds * 1000), _LONGEST))


_LONGEST = 2**31 - 1  # milliseconds, on PostgreSQL and SQLite alike


class ServerCursor(Protocol):
    """The result of a SELECT that is read piece by piece; it shows what was there when it was opened.

    It lives on one connection, and until the end of the transaction at the longest.
    """

    def declare(self) -> Statement:
        """Return what opens it."""
        ...

    def fetch(self, count: int) -> Statement:
        """Return what answers with the next *count* rows; with fewer of them, there are no more."""
        ...

    def close(self) -> Statement | None:
        """Return what closes it, to be sent with whatever comes next; None: it is closed now."""
        ...


class Dialect(Protocol):
    """The SQL and the values of one database."""

    name: str
    """``"postgresql"`` or ``"sqlite"``."""
    placeholder: str
    """What stands for one parameter: ``%s`` or ``?``."""
    max_parameters: int
    """How many parameters one statement may have."""
    rows_per_insert: int
    """How many rows one INSERT should carry at most (1: single rows are cheapest here)."""
    has_row_locks: bool
    """Whether SELECT ... FOR UPDATE exists."""
    null_safe_equals: str
    """The operator that compares with NULL as equal to NULL."""
    one_writer: bool
    """Whether one transaction at a time can write, and the next one waits for its end."""
    survives_errors: bool
    """Whether a transaction goes on behind a statement that has failed."""
    ddl_is_special: bool
    """Whether a schema change wants a transaction of its own kind: foreign keys are off, and checked at its end."""
    row_values_need_values: bool
    """Whether ``(a, b) IN (...)`` takes the rows of a VALUES list only."""
    has_json_arrow: bool
    """Whether ``->`` takes a value out of a JSON document."""
    returns_what_triggers_made: bool
    """Whether RETURNING shows what triggers have made of a row (on PostgreSQL, those before the write)."""
    cursors_need_transaction: bool
    """Whether a cursor lives in a transaction only."""

    def quote(self, name: str) -> str:
        """Quote an identifier, whatever characters it has."""
        ...

    def table_name(self, entity_name: str) -> str:
        """Return the default table of an entity (unquoted)."""
        ...

    def codec(self, value_type: ValueType) -> Codec:
        """Return the column type and the conversions for *value_type*.

        Raises:
            BindingError: this database has no such type.
        """
        ...

    def auto_key(self, sql_type: str) -> str:
        """Return the column definition, behind the name, of an integer key that the database makes."""
        ...

    def begin(self, mode: TransactionMode) -> Batch:
        """Return the statements that begin a transaction in *mode*."""
        ...

    def insert(
        self,
        table: str,
        columns: Sequence[tuple[str, str]],
        returning: Sequence[str],
        rows: int,
        auto_key: str | None,
        key: Sequence[str] = (),
    ) -> str:
        """Return an INSERT of *rows* rows into *table*.

        All names come quoted; *columns* are pairs of a name and its SQL type, and may be empty
        (DEFAULT VALUES). With ``rows == 1`` the reply has the *returning* columns, if any. With
        more rows it has one row for each inserted row: first the number of the row among the
        parameters (0, 1, ...), then the *returning* columns, in any order: never matched by
        position. *auto_key* names the key column that the database fills, where there is one;
        *key* the key columns where they are all among *columns*. Several rows with *returning*
        need one of the two.

        Raises:
            InterfaceError: this database cannot match the returned rows with the given ones.
        """
        ...

    def cursor(self, name: str, sql: str, params: Row) -> ServerCursor:
        """Return the cursor *name* for the SELECT *sql*; nothing is sent."""
        ...

    def raw(self, sql: str, params: Any) -> tuple[str, Any]:
        """Turn SQL with ``%s`` or ``%(name)s`` into this driver's own style.

        Raises:
            ProgrammingError: placeholders and parameters do not fit each other.
        """
        ...


@dataclass(slots=True)
class Counters:
    """What was sent through a backend since it was made."""

    statements: int = 0
    round_trips: int = 0
    transactions: int = 0
    connections: int = 0


class Connection(Protocol):
    """One link to the database, used by one session at a time."""

    @property
    def in_transaction(self) -> bool:
        """Whether the database sees an open transaction here (a failed one counts)."""
        ...

    @property
    def usable(self) -> bool:
        """Whether the link still works."""
        ...

    def execute(self, batch: Batch) -> list[Result]:
        """Run *batch* in order, in one round trip where the database can.

        Raises:
            RowCountMismatch: a statement touched another number of rows than it had to.
            DatabaseError: the database refused; ``error.statement`` is the statement.
        """
        ...

    def close(self) -> None:
        """Close the link. What is not committed is rolled back by the database."""
        ...


class Backend(Protocol):
    """A database that can be reached: hands out connections and takes them back."""

    dialect: Dialect
    counters: Counters
    url: str
    """Where it is, without the password; used in messages."""
    readers_wait: bool
    """Whether nobody can read while somebody else's transaction writes."""

    def acquire(self) -> Connection:
        """Take a live connection with no transaction open.

        Raises:
            PoolTimeout: none became free in time.
            OperationalError: the database cannot be reached; the message says where and why.
        """
        ...

    def release(self, connection: Connection, *, discard: bool = False) -> None:
        """Give *connection* back; one with an open transaction, broken, or *discard*-ed is closed."""
        ...

    def reclaim(self, connection: Connection) -> None:
        """Close *connection*, whose session is gone; takes no lock, so that the garbage collector may call it."""
        ...

    def close(self) -> None:
        """Close every connection."""
        ...

    def reopened(self) -> Backend:
        """Return a backend like this one, which was closed, with its counters."""
        ...
