"""SELECTs of SQLite that are read piece by piece, and show what was there when they were opened, whatever is written.

SQLite does not say what a half-read SELECT sees of later writes of its own connection: a row that moves
ahead in the index that is being read may come again, without end. So before anything else than a read
runs there, the rest is put aside: in memory while it is small, then in a file. It also gives up the
lock, and the snapshot, with which BEGIN IMMEDIATE would be refused after somebody else's commit.
https://www.sqlite.org/isolation.html ("No Isolation Between Operations On The Same Database Connection")
"""

from __future__ import annotations

import marshal
import sqlite3
from collections.abc import Iterator
from itertools import islice
from tempfile import SpooledTemporaryFile
from typing import NamedTuple

from dbsession.backends.statements import Kind, Row, Statement
from dbsession.errors import InterfaceError

__all__ = ["CursorStep", "SqliteCursor"]

_ROWS = 250  # put aside at once
_IN_MEMORY = 1 << 17  # bytes
_LENGTH = 8  # bytes in front of each piece in the file


class SqliteCursor:
    """One SELECT, read piece by piece."""

    __slots__ = ("_among", "_cursor", "_file", "_name", "_params", "_rows", "_sql")

    def __init__(self, name: str, sql: str, params: Row) -> None:
        self._name = name
        self._sql = sql
        self._params = params
        self._cursor: sqlite3.Cursor | None = None  # None: it is not half read
        self._file: SpooledTemporaryFile[bytes] | None = None  # what was put aside
        self._rows: Iterator[Row] | None = None  # None: it is not open
        self._among: set[SqliteCursor] = set()

    @property
    def params(self) -> Row:
        """The parameters of the SELECT."""
        return self._params

    def declare(self) -> Statement:
        """Return what opens it."""
        return Statement(self._sql, CursorStep(self), Kind.CURSOR)

    def fetch(self, count: int) -> Statement:
        """Return what answers with the next *count* rows; with fewer of them, there are no more."""
        return Statement(f"FETCH {count} FROM {self._name}", CursorStep(self, count), Kind.CURSOR, returns=True)

    def close(self) -> None:
        """Close it, and give up its lock."""
        self._rows = None
        self._give_up_lock()
        if self._file is not None:
            self._file.close()

    def _give_up_lock(self) -> None:
        self._among.discard(self)
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()

    # --- for the connection -----------------------------------------------------------------------

    def open(self, db: sqlite3.Connection, among: set[SqliteCursor]) -> None:
        """Run the SELECT on *db*, without reading it; until it is read, it is *among* the half-read ones."""
        cursor = self._cursor = db.cursor()
        self._rows = cursor.execute(self._sql, self._params)
        self._among = among
        among.add(self)

    def read(self, count: int) -> list[Row]:
        """Return the next *count* rows.

        Raises:
            InterfaceError: it is not open, or not any more.
        """
        if self._rows is None:
            raise InterfaceError(f"the cursor {self._name} is not open, or not any more")
        rows = list(islice(self._rows, count))
        if len(rows) < count:
            self.close()
        return rows

    def put_aside(self) -> None:
        """Read the rest, and keep it elsewhere; if that fails it is closed."""
        rows = self._rows
        if self._cursor is None or rows is None:
            return
        file: SpooledTemporaryFile[bytes] = SpooledTemporaryFile(max_size=_IN_MEMORY)  # noqa: SIM115 - see close()
        self._file = file
        try:
            while some := list(islice(rows, _ROWS)):
                text = marshal.dumps(some)  # int, float, str, bytes and None: SQLite has nothing else
                file.write(len(text).to_bytes(_LENGTH, "big"))
                file.write(text)
            file.seek(0)
        except BaseException:
            self.close()
            raise
        self._rows = _put_aside(file)
        self._give_up_lock()

    def abandon(self) -> object:
        """Return what belongs to the parent process, and forget it."""
        rows, self._rows, self._cursor = self._rows, None, None
        return rows


def _put_aside(file: SpooledTemporaryFile[bytes]) -> Iterator[Row]:
    while length := file.read(_LENGTH):
        yield from marshal.loads(file.read(int.from_bytes(length, "big")))  # noqa: S302 - written above


class CursorStep(NamedTuple):
    """What a statement of a cursor carries in the place of parameters: opening it, or reading *wanted* rows."""

    cursor: SqliteCursor
    wanted: int | None = None

    def __repr__(self) -> str:
        return repr(self.cursor.params) if self.wanted is None else "()"

    def run(self, db: sqlite3.Connection, half_read: set[SqliteCursor], *, puts_aside: bool) -> list[Row]:
        """Do it; with *puts_aside*, nothing is left half read."""
        try:
            if self.wanted is not None:
                return self.cursor.read(self.wanted)
            self.cursor.open(db, half_read)
            if puts_aside:
                self.cursor.put_aside()
        except BaseException:
            self.cursor.close()
            raise
        return []
