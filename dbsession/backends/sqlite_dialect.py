"""The SQL and the values of SQLite, for the SQL that dbsession writes."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

from dbsession.backends import placeholders
from dbsession.backends import sqlite_values as values
from dbsession.backends.base import Codec, TransactionMode, ValueType
from dbsession.backends.json_text import encode_json
from dbsession.backends.sqlite_cursors import SqliteCursor
from dbsession.backends.sqlite_limits import Limits
from dbsession.backends.statements import Batch, Kind, Row, Statement
from dbsession.errors import BindingError, InterfaceError

__all__ = ["SqliteDialect"]


def _int(value_type: ValueType) -> Codec:
    if value_type.unsigned and value_type.size == 64:
        raise BindingError("SQLite's integers have 64 bits with a sign: size=64 with unsigned=True does not fit")
    return Codec("INTEGER")


def _str(value_type: ValueType) -> Codec:
    return Codec("TEXT" if value_type.max_len is None else f"VARCHAR({value_type.max_len})")


def _decimal(value_type: ValueType) -> Codec:
    scale = value_type.scale
    encode = values.encode_decimal if scale is None else values.decimal_encoder(scale)
    return Codec("TEXT COLLATE dbs_decimal", encode, Decimal)


def _datetime(value_type: ValueType) -> Codec:
    encode = values.encode_datetime_utc if value_type.tz else values.encode_datetime
    return Codec("TEXT", encode, datetime.fromisoformat)


# In order: bool is an int, datetime is a date.
_CODECS: tuple[tuple[type, Callable[[ValueType], Codec]], ...] = (
    (bool, lambda _: Codec("BOOLEAN", int, bool)),
    (int, _int),
    (str, _str),
    (float, lambda _: Codec("REAL", values.encode_float, check=values.encode_float)),
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, lambda _: Codec("TEXT", values.encode_date, date.fromisoformat)),
    (time, lambda _: Codec("TEXT", values.encode_time, time.fromisoformat)),
    (timedelta, lambda _: Codec("INTEGER", values.encode_timedelta, values.decode_timedelta, values.check_timedelta)),
    (UUID, lambda _: Codec("TEXT", str, UUID)),
    (bytes, lambda _: Codec("BLOB")),
    (dict, lambda _: Codec("TEXT", encode_json, json.loads)),
)


class SqliteDialect:
    """SQLite, 3.36 or newer."""

    name = "sqlite"
    placeholder = "?"
    max_parameters = 32766  # SQLITE_MAX_VARIABLE_NUMBER
    rows_per_insert = 1  # no network to save; see `insert`
    has_row_locks = False
    null_safe_equals = "IS"
    one_writer = True
    survives_errors = True
    ddl_is_special = True
    row_values_need_values = True
    has_json_arrow = sqlite3.sqlite_version_info >= (3, 38)
    returns_what_triggers_made = False  # they run after it
    cursors_need_transaction = False

    def quote(self, name: str) -> str:
        """Quote an identifier, whatever characters it has."""
        return '"' + name.replace('"', '""') + '"'

    def table_name(self, entity_name: str) -> str:
        """Return the default table of an entity (unquoted): its own name."""
        return entity_name

    def codec(self, value_type: ValueType) -> Codec:
        """Return the column type and the conversions for *value_type*.

        A Decimal's column type carries the collation ``dbs_decimal``, without which an index or a
        comparison in SQL would order texts.

        Raises:
            BindingError: SQLite has no such type (arrays, unsigned 64-bit integers).
        """
        for python, make in _CODECS:
            if issubclass(value_type.python, python):
                return make(value_type)
        if issubclass(value_type.python, list):
            raise BindingError("SQLite has no arrays: use Json, or a PostgreSQL database")
        raise BindingError(f"SQLite has no column type for {value_type.python.__name__}")

    def auto_key(self, sql_type: str) -> str:
        """Return ``INTEGER PRIMARY KEY AUTOINCREMENT``, which no other type allows.

        The definition says PRIMARY KEY itself. AUTOINCREMENT (0.3 us a row) keeps the key of a
        deleted row from being given out again.
        """
        return "INTEGER PRIMARY KEY AUTOINCREMENT"

    def begin(self, mode: TransactionMode) -> Batch:
        """Return the statements that begin a transaction in *mode*.

        Every isolation level is serializable here. A writer takes the write lock at once: a lock
        asked for after a read could be refused for good (SQLITE_BUSY_SNAPSHOT). What else is asked
        for travels as the parameters of BEGIN, and holds until the transaction has ended.
        """
        limits = Limits(
            query_only=mode.read_only,
            foreign_keys=mode.foreign_keys,
            lock_timeout=mode.lock_timeout,
            statement_timeout=mode.statement_timeout,
            nowait=mode.nowait,
        )
        sql = "BEGIN IMMEDIATE" if mode.write and not mode.read_only else "BEGIN"
        return (Statement(sql, None if limits == Limits() else limits, Kind.BEGIN),)

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

        Where only *auto_key* is to come back, the text has no RETURNING: the connection answers
        with the rowid, which costs half as much. Several rows can be inserted only without
        *returning*, since SQLite promises no order of the rows that come back.

        Raises:
            InterfaceError: several rows with *returning*, or without columns.
        """
        if rows > 1 and (returning or not columns):
            raise InterfaceError("SQLite inserts rows one by one where values have to come back")
        if not columns:
            text = f"INSERT INTO {table} DEFAULT VALUES"
        else:
            names = ", ".join(name for name, _ in columns)
            row = "(" + ", ".join("?" * len(columns)) + ")"
            text = f"INSERT INTO {table} ({names}) VALUES {', '.join([row] * rows)}"
        if returning and not (auto_key is not None and list(returning) == [auto_key]):
            text += " RETURNING " + ", ".join(returning)
        return text

    def cursor(self, name: str, sql: str, params: Row) -> SqliteCursor:
        """Return the cursor *name* for the SELECT *sql*; nothing is sent."""
        return SqliteCursor(name, sql, params)

    def raw(self, sql: str, params: Any) -> tuple[str, Any]:
        """Turn SQL with ``%s`` or ``%(name)s`` into SQL with ``?``, and encode the values by their types.

        Raises:
            ProgrammingError: placeholders and parameters do not fit each other.
        """
        if params is None:
            return sql, None
        pieces, names = placeholders.parse(sql)
        given = placeholders.positional(sql, names, params)
        return "?".join(pieces), tuple(map(values.encode_untyped, given))
