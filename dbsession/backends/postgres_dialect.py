"""The SQL and the values of PostgreSQL, for the SQL that dbsession writes."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from functools import lru_cache
from typing import Any
from uuid import UUID

from psycopg.types.json import Jsonb

from dbsession.backends import placeholders
from dbsession.backends.base import Codec, TransactionMode, ValueType, milliseconds
from dbsession.backends.json_text import decode_json, encode_json, encode_json_text
from dbsession.backends.postgres_cursors import PostgresCursor
from dbsession.backends.statements import Batch, Kind, Row, Statement
from dbsession.errors import BindingError, InterfaceError

__all__ = ["PostgresDialect", "guard"]

_TAIL = ' SELECT * FROM "dbs_out"'
"""Ends every INSERT of ours that is a WITH: a data-modifying WITH cannot be nested, so the guard
takes this tail off and puts its own there."""

_ISOLATION = ("read committed", "repeatable read", "serializable", "read uncommitted")


def _int(value_type: ValueType) -> Codec:
    size = value_type.size or 64
    if value_type.unsigned:
        if value_type.size == 64:
            return Codec("numeric(20, 0)", Decimal, int)
        size = size * 2 if size in (8, 16, 32) else size
    return Codec("smallint" if size <= 16 else "integer" if size <= 32 else "bigint")


def _str(value_type: ValueType) -> Codec:
    return Codec("text" if value_type.max_len is None else f"varchar({value_type.max_len})")


def _decimal(value_type: ValueType) -> Codec:
    precision, scale = value_type.precision, value_type.scale
    if precision is None and scale is None:
        return Codec("numeric")
    return Codec(f"numeric({precision or 1000}, {scale or 0})")


def _encode_naive(value: datetime) -> datetime:
    if value.tzinfo is not None:  # the server would drop the zone in silence
        raise ValueError("a datetime with a time zone needs a column with tz=True")
    return value


def _encode_aware(value: datetime) -> datetime:
    if value.tzinfo is None:  # the server would take it as its own local time
        raise ValueError("a column with tz=True needs a datetime with a time zone")
    return value


def _decode_aware(value: datetime) -> datetime:
    return value.astimezone(UTC)


def _datetime(value_type: ValueType) -> Codec:
    digits = "" if value_type.precision is None else f"({value_type.precision})"
    if value_type.tz:
        return Codec(f"timestamp{digits} with time zone", _encode_aware, _decode_aware)
    return Codec(f"timestamp{digits} without time zone", _encode_naive)


def _with_digits(sql_type: str) -> Callable[[ValueType], Codec]:
    def make(value_type: ValueType) -> Codec:
        return Codec(sql_type if value_type.precision is None else f"{sql_type}({value_type.precision})")

    return make


def _list(value_type: ValueType) -> Codec:
    if value_type.item is None:
        raise BindingError("an array needs the type of its items")
    item = _codec(value_type.item)
    return Codec(
        item.sql_type + "[]",
        None if item.encode is None else _for_each(item.encode),
        None if item.decode is None else _for_each(item.decode),
    )


def _for_each(convert: Callable[[Any], Any]) -> Callable[[Any], list[Any]]:
    return lambda values: [None if value is None else convert(value) for value in values]


# In order: bool is an int, datetime is a date.
_CODECS: tuple[tuple[type, Callable[[ValueType], Codec]], ...] = (
    (bool, lambda _: Codec("boolean")),
    (int, _int),
    (str, _str),
    (float, lambda _: Codec("double precision")),
    (Decimal, _decimal),
    (datetime, _datetime),
    (date, lambda _: Codec("date")),
    (time, _with_digits("time")),
    (timedelta, _with_digits("interval")),
    (UUID, lambda _: Codec("uuid")),
    (bytes, lambda _: Codec("bytea")),
    (dict, lambda _: Codec("jsonb", encode_json_text, decode_json)),  # a str parameter has no type of its own
    (list, _list),
)


def _codec(value_type: ValueType) -> Codec:
    for python, make in _CODECS:
        if issubclass(value_type.python, python):
            return make(value_type)
    raise BindingError(f"PostgreSQL has no column type for {value_type.python.__name__}")


def _cast(sql_type: str) -> str:
    """Return *sql_type* as a cast that loses nothing: ``'abcdef'::varchar(3)`` would cut in silence."""
    base = re.sub(r"\s*\([^)]*\)", "", sql_type)
    return re.sub(r"^(varchar|char|character varying|character|bpchar)\b", "text", base, flags=re.IGNORECASE)


def _literal(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


def _values(columns: Sequence[tuple[str, str]], rows: int) -> str:
    """Return numbered parameter rows; the casts of the first row give the columns their types."""
    first = ", ".join(["(0", *(f"%s::{_cast(sql_type)}" for _, sql_type in columns)]) + ")"
    marks = ", %s" * len(columns)
    return ", ".join([first, *(f"({number}{marks})" for number in range(1, rows))])


def _insert_with_sequence(
    table: str, columns: Sequence[tuple[str, str]], returning: Sequence[str], rows: int, auto_key: str
) -> str:
    """Return an INSERT whose keys are drawn beforehand, in the order of the rows, to find them again."""
    names = [name for name, _ in columns]
    given = "".join(", " + name for name in names)
    column = auto_key[1:-1].replace('""', '"') if auto_key.startswith('"') else auto_key
    sequence = f"(SELECT pg_get_serial_sequence({_literal(table)}, {_literal(column)})::regclass)"
    answer = "".join(f', "dbs_ins".{name}' for name in returning)
    return (
        f'WITH "dbs_in" ("dbs_ord"{given}) AS (VALUES {_values(columns, rows)}), '
        f'"dbs_keyed" AS MATERIALIZED (SELECT nextval({sequence}) AS "dbs_key", "dbs_sorted".* '
        f'FROM (SELECT * FROM "dbs_in" ORDER BY "dbs_ord") AS "dbs_sorted"), '
        f'"dbs_ins" AS (INSERT INTO {table} ({auto_key}{given}) OVERRIDING SYSTEM VALUE '
        f'SELECT "dbs_key"{given} FROM "dbs_keyed" RETURNING {", ".join(_with_key(returning, [auto_key]))}), '
        f'"dbs_out" AS (SELECT "dbs_keyed"."dbs_ord"{answer} FROM "dbs_keyed" '
        f'JOIN "dbs_ins" ON "dbs_ins".{auto_key} = "dbs_keyed"."dbs_key")' + _TAIL
    )


def _insert_with_key(
    table: str, columns: Sequence[tuple[str, str]], returning: Sequence[str], rows: int, key: Sequence[str]
) -> str:
    """Return an INSERT whose rows are found again by their given *key*."""
    names = ", ".join(name for name, _ in columns)
    answer = "".join(f', "dbs_ins".{name}' for name in returning)
    match = " AND ".join(f'"dbs_ins".{name} = "dbs_in".{name}' for name in key)
    return (
        f'WITH "dbs_in" ("dbs_ord", {names}) AS (VALUES {_values(columns, rows)}), '
        f'"dbs_ins" AS (INSERT INTO {table} ({names}) SELECT {names} FROM "dbs_in" ORDER BY "dbs_ord" '
        f"RETURNING {', '.join(_with_key(returning, key))}), "
        f'"dbs_out" AS (SELECT "dbs_in"."dbs_ord"{answer} FROM "dbs_in" JOIN "dbs_ins" ON {match})' + _TAIL
    )


def _with_key(returning: Sequence[str], key: Sequence[str]) -> list[str]:
    return [*returning, *(name for name in key if name not in returning)]


@lru_cache(maxsize=2048)
def guard(sql: str, expect: int, returns: bool) -> str:
    """Wrap *sql* so that the server itself fails unless exactly *expect* rows are touched.

    The wrapped text takes one more parameter, the last: the tag, as text. ``count(*)`` has to be
    part of the text that is cast, or the planner folds the constant and raises always.
    """
    if sql.endswith(_TAIL):
        head = sql[: -len(_TAIL)]
    else:
        head = f'WITH "dbs_out" AS ({sql}{"" if returns else " RETURNING 1"})'
    verdict = (
        f"SELECT CASE WHEN count(*) = {expect} THEN 1 ELSE ('dbs:' || %s || ':' || count(*)::text)::int END "
        'FROM "dbs_out"'
    )
    if not returns:
        return f"{head} {verdict}"
    return f'{head} SELECT "dbs_ok"."ok", "dbs_out".* FROM ({verdict}) AS "dbs_ok" ("ok") LEFT JOIN "dbs_out" ON true'


class PostgresDialect:
    """PostgreSQL, 13 or newer."""

    name = "postgresql"
    placeholder = "%s"
    max_parameters = 30000  # the protocol allows 65535
    rows_per_insert = 500
    has_row_locks = True
    null_safe_equals = "IS NOT DISTINCT FROM"
    one_writer = False
    survives_errors = False
    ddl_is_special = False
    row_values_need_values = False
    has_json_arrow = True
    returns_what_triggers_made = True
    cursors_need_transaction = True

    def quote(self, name: str) -> str:
        """Quote an identifier, whatever characters it has.

        A percent sign comes doubled, so the SQL must be run with parameters (an empty tuple will do).
        """
        return '"' + name.replace('"', '""').replace("%", "%%") + '"'

    def table_name(self, entity_name: str) -> str:
        """Return the default table of an entity (unquoted): its name in lower case."""
        return entity_name.lower()

    def codec(self, value_type: ValueType) -> Codec:
        """Return the column type and the conversions for *value_type*.

        An int without a size is a bigint.

        Raises:
            BindingError: PostgreSQL has no such type.
        """
        return _codec(value_type)

    def auto_key(self, sql_type: str) -> str:
        """Return *sql_type* ``GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY``.

        The definition says PRIMARY KEY itself. BY DEFAULT, so that a key given by hand is taken.
        """
        return f"{sql_type} GENERATED BY DEFAULT AS IDENTITY PRIMARY KEY"

    def begin(self, mode: TransactionMode) -> Batch:
        """Return the statements that begin a transaction in *mode*.

        Timeouts are SET LOCAL: they end with the transaction, behind a transaction pooler too.

        Raises:
            InterfaceError: there is no such isolation level.
        """
        text = "BEGIN"
        if mode.isolation is not None:
            if mode.isolation.lower() not in _ISOLATION:
                raise InterfaceError(f"{mode.isolation!r} is no isolation level; there are: {', '.join(_ISOLATION)}")
            text += f" ISOLATION LEVEL {mode.isolation.upper()}"
        if mode.read_only:
            text += " READ ONLY"
        if mode.deferrable:
            text += " DEFERRABLE"
        timeouts = {"statement_timeout": mode.statement_timeout, "lock_timeout": mode.lock_timeout}
        return (
            Statement(text, kind=Kind.BEGIN),
            *[
                Statement(f"SET LOCAL {name} = {milliseconds(seconds)}", kind=Kind.WRITE)
                for name, seconds in timeouts.items()
                if seconds is not None
            ],
        )

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

        Several rows come back by a key: one drawn from the sequence of *auto_key* before they are
        inserted, or the given *key*. A trigger that changes the key or drops the row makes the
        answer shorter than the input, which an `expect` on the statement notices.

        Raises:
            InterfaceError: several rows with *returning*, and neither *auto_key* nor *key*; or
                several rows without columns.
        """
        names = [name for name, _ in columns]
        if rows > 1 and auto_key is not None and auto_key not in names:
            return _insert_with_sequence(table, columns, returning, rows, auto_key)
        if rows > 1 and (returning or not columns):
            if not key or not set(key) <= set(names):
                raise InterfaceError(
                    "several rows in one INSERT cannot be told apart when they come back without a key"
                )
            return _insert_with_key(table, columns, returning, rows, key)
        if not columns:
            text = f"INSERT INTO {table} DEFAULT VALUES"
        else:
            row = "(" + ", ".join(["%s"] * len(names)) + ")"
            text = f"INSERT INTO {table} ({', '.join(names)}) VALUES {', '.join([row] * rows)}"
        return text + (" RETURNING " + ", ".join(returning) if returning else "")

    def cursor(self, name: str, sql: str, params: Row) -> PostgresCursor:
        """Return the cursor *name* for the SELECT *sql*; nothing is sent."""
        return PostgresCursor(name, sql, params)

    def raw(self, sql: str, params: Any) -> tuple[str, Any]:
        """Check SQL with ``%s`` or ``%(name)s`` against its values, and adapt those that psycopg cannot.

        Raises:
            ProgrammingError: placeholders and parameters do not fit each other.
        """
        if params is None:
            return sql, None
        _, names = placeholders.parse(sql)
        given = placeholders.positional(sql, names, params)
        if isinstance(params, Mapping):
            return sql, {name: _adapt(value) for name, value in zip(names, given, strict=True)}
        return sql, tuple(map(_adapt, given))


def _adapt(value: Any) -> Any:
    if isinstance(value, Enum):
        value = value.value
    return Jsonb(value, encode_json) if isinstance(value, dict) else value
