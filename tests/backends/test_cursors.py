"""Cursors of both databases: pieces of a SELECT that show one state, and what becomes of them when others write."""

import sqlite3

import pytest

from dbsession.backends import sqlite_cursors
from dbsession.backends.postgres import PostgresBackend
from dbsession.backends.postgres_dialect import PostgresDialect
from dbsession.backends.sqlite import SqliteBackend
from dbsession.backends.statements import Kind, Statement
from dbsession.errors import InterfaceError, OperationalError, ProgrammingError

BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)
ROWS = 30


@pytest.fixture(params=["memory", "file"])
def sqlite_backend(request, tmp_path):
    backend = SqliteBackend(None if request.param == "memory" else tmp_path / "test.db")
    yield backend
    backend.close()


@pytest.fixture
def connection(sqlite_backend):
    connection = sqlite_backend.acquire()
    fill(connection)
    yield connection
    sqlite_backend.release(connection)


@pytest.fixture
def postgres(postgres_url):
    backend = PostgresBackend(postgres_url)
    connection = backend.acquire()
    fill(connection)
    yield connection
    backend.release(connection)
    backend.close()


def fill(connection):
    mark = "?" if hasattr(connection, "make_clean") else "%s"
    raw(connection, "CREATE TABLE item (id integer PRIMARY KEY, name text, weight double precision, picture bytea)")
    many = [(key, f"item {key}", key / 4, bytes([key])) for key in range(ROWS)]
    insert = Statement(f"INSERT INTO item VALUES ({mark}, {mark}, {mark}, {mark})", many, Kind.WRITE, many=True)
    connection.execute((BEGIN, insert, COMMIT))


def raw(connection, sql):
    return connection.execute((Statement(sql, None, Kind.RAW),))[0]


def opened(connection, backend, sql="SELECT id FROM item ORDER BY id", params=(), name="c", count=5):
    """Open a cursor, and return it with the first rows."""
    cursor = backend.dialect.cursor(name, sql, params)
    results = connection.execute((cursor.declare(), cursor.fetch(count)))
    return cursor, keys(results[-1])


def keys(result):
    return [row[0] for row in result.rows]


def rest(connection, cursor, count=7):
    """Read all that is left."""
    found = []
    while len(some := keys(connection.execute((cursor.fetch(count),))[0])) == count:
        found += some
    return found + some


# --- SQLite -----------------------------------------------------------------------------------------------


def test_pieces(sqlite_backend, connection):
    """All rows come, each once, values of every type as they are."""
    cursor, first = opened(connection, sqlite_backend)
    assert (first, rest(connection, cursor)) == (list(range(5)), list(range(5, ROWS)))
    cursor = sqlite_backend.dialect.cursor("d", "SELECT * FROM item WHERE id >= ? ORDER BY id", (ROWS - 2,))
    found = connection.execute((cursor.declare(), cursor.fetch(9)))[1]
    assert found.rows == [(key, f"item {key}", key / 4, bytes([key])) for key in (28, 29)]
    assert found.rowcount == 2


@pytest.mark.parametrize(
    "sql",
    [
        "UPDATE item SET id = id + 100",
        "DELETE FROM item",
        "INSERT INTO item SELECT id + 100, name, weight, NULL FROM item",
        "DROP TABLE item",
        "VACUUM",
    ],
)
def test_writes_meanwhile(sqlite_backend, connection, sql):
    """What its own connection writes does not show, and is not hindered."""
    cursor, first = opened(connection, sqlite_backend)
    raw(connection, sql)
    assert (first, rest(connection, cursor)) == (list(range(5)), list(range(5, ROWS)))


def test_a_transaction_begins_meanwhile(sqlite_backend, connection):
    """BEGIN IMMEDIATE gets the lock though somebody else has written since, which a half-read SELECT would hinder."""
    cursor, first = opened(connection, sqlite_backend)
    other = sqlite_backend.acquire()
    raw(other, "DELETE FROM item WHERE id = 20")
    sqlite_backend.release(other)
    delete = Statement("DELETE FROM item WHERE id = 21", None, Kind.WRITE)
    connection.execute((Statement("BEGIN IMMEDIATE", kind=Kind.BEGIN), delete))
    assert rest(connection, cursor) == list(range(5, ROWS))
    assert keys(connection.execute((Statement("SELECT count(*) FROM item", returns=True),))[0]) == [ROWS - 2]
    connection.execute((ROLLBACK,))


def test_nothing_is_half_read_where_readers_block(tmp_path):
    """Where a reader keeps writers waiting nothing is left half read: in memory, and in a file without WAL."""
    memory = SqliteBackend()
    keeper = memory.acquire()
    fill(keeper)
    cursor, _ = opened(keeper, memory)
    other = memory.acquire()
    raw(other, "DELETE FROM item")
    assert rest(keeper, cursor) == list(range(5, ROWS))
    memory.close()

    path = tmp_path / "old.db"
    sqlite3.connect(path).execute("PRAGMA journal_mode = DELETE").close()
    locked = sqlite3.connect(path, isolation_level=None)
    locked.execute("BEGIN EXCLUSIVE")
    file = SqliteBackend(path, timeout=0.01)
    connection = file.acquire()  # which cannot switch to WAL
    locked.execute("ROLLBACK")
    fill(connection)
    cursor, _ = opened(connection, file)
    locked.execute("DELETE FROM item")
    assert rest(connection, cursor) == list(range(5, ROWS))
    locked.close()
    file.release(connection)
    file.close()


@pytest.mark.parametrize("end", [COMMIT, ROLLBACK])
def test_the_end_of_the_transaction_closes(sqlite_backend, connection, end):
    """COMMIT and ROLLBACK close a cursor; what is left of it cannot be taken for its end."""
    connection.execute((Statement("BEGIN IMMEDIATE", kind=Kind.BEGIN),))
    cursor, _ = opened(connection, sqlite_backend)
    was_half_read = bool(connection._half_read)
    connection.execute((end,))
    assert not connection._half_read
    if was_half_read:
        with pytest.raises(InterfaceError, match="the cursor c is not open"):
            rest(connection, cursor)
    cursor.close()


def test_closing(sqlite_backend, connection):
    """A closed cursor holds nothing, and gives nothing."""
    for writes in (False, True):
        cursor, _ = opened(connection, sqlite_backend)
        if writes:
            raw(connection, "UPDATE item SET name = 'x'")
        assert cursor.close() is None
        assert not connection._half_read
        with pytest.raises(InterfaceError, match="is not open"):
            connection.execute((cursor.fetch(1),))
    with pytest.raises(InterfaceError, match="is not open"):
        connection.execute((sqlite_backend.dialect.cursor("d", "SELECT 1", ()).fetch(1),))


def test_a_connection_that_goes_back_has_none(sqlite_backend):
    """What the session has left open is closed when the connection goes back, or is closed."""
    connection = sqlite_backend.acquire()
    fill(connection)
    cursor, _ = opened(connection, sqlite_backend)
    sqlite_backend.release(connection)
    again = sqlite_backend.acquire()
    assert again is connection
    assert not again._half_read
    raw(again, "DROP TABLE item")
    fill(again)
    cursor.close()
    cursor, _ = opened(again, sqlite_backend)
    again.close()
    cursor.close()


def test_a_cursor_in_a_forked_child(sqlite_backend, connection):
    """A child that drops the parent's cursor touches nothing of the parent's connection."""
    cursor, _ = opened(connection, sqlite_backend)
    half_read = cursor._cursor
    connection.abandon()  # as in a child
    cursor.close()
    if half_read is not None:
        assert half_read.fetchone() == (5,)


def test_a_select_that_is_wrong(sqlite_backend, connection):
    """An error in the SELECT is that of its opening."""
    cursor = sqlite_backend.dialect.cursor("c", "SELECT nowhere FROM item", ())
    with pytest.raises(ProgrammingError, match="no such column") as caught:
        connection.execute((cursor.declare(), cursor.fetch(1)))
    assert caught.value.sql == "SELECT nowhere FROM item"
    assert not connection._half_read


def test_a_select_that_fails_on_the_way(sqlite_backend, connection):
    """An error in the middle closes the cursor; where the rest is put aside, it is raised by who made that necessary."""
    sql = "SELECT CASE WHEN id < 20 THEN id ELSE json('broken') END FROM item ORDER BY id"
    if not connection._readers_block:
        cursor, first = opened(connection, sqlite_backend, sql)
        assert first == list(range(5))
        with pytest.raises(ProgrammingError, match="malformed JSON"):
            rest(connection, cursor)
        assert not connection._half_read
        cursor, _ = opened(connection, sqlite_backend, sql)
    with pytest.raises(ProgrammingError, match="malformed JSON"):
        if connection._readers_block:
            opened(connection, sqlite_backend, sql)
        else:
            raw(connection, "DELETE FROM item")
    assert raw(connection, "SELECT count(*) FROM item").rows == [(ROWS,)]


def test_no_room_to_put_it_aside(sqlite_backend, connection, monkeypatch):
    """If there is no room for the rest, the statement that made it necessary is not run."""

    class Full:
        def write(self, _data):
            raise OSError(28, "No space left on device")

        def close(self):
            pass

    with monkeypatch.context() as patch:
        patch.setattr(sqlite_cursors, "SpooledTemporaryFile", lambda **_: Full())
        with pytest.raises(OperationalError, match="No space left"):
            opened(connection, sqlite_backend)
            raw(connection, "DELETE FROM item")
    assert not connection._half_read
    assert raw(connection, "SELECT count(*) FROM item").rows == [(ROWS,)]


def test_what_is_large_goes_to_a_file(sqlite_backend, connection, monkeypatch):
    """What is put aside stays in memory only while it is small."""
    monkeypatch.setattr(sqlite_cursors, "_ROWS", 4)
    monkeypatch.setattr(sqlite_cursors, "_IN_MEMORY", 100)
    cursor, first = opened(connection, sqlite_backend, "SELECT id, name FROM item ORDER BY id")
    raw(connection, "DELETE FROM item")
    assert cursor._file._rolled
    assert first + rest(connection, cursor) == list(range(ROWS))
    cursor.close()
    assert cursor._file.closed


# --- PostgreSQL -------------------------------------------------------------------------------------------


def test_pieces_on_postgresql(postgres):
    """All rows come, each once; nothing of it is prepared, as the name never comes again."""
    dialect = PostgresDialect()
    sql = "SELECT id, picture FROM item WHERE id >= %s ORDER BY id"
    cursor = dialect.cursor("c", sql, (3,))
    found = keys(postgres.execute((BEGIN, cursor.declare(), cursor.fetch(5)))[-1])
    for _ in range(6):
        found += keys(postgres.execute((cursor.fetch(2),))[0])
    postgres.execute((Statement("DELETE FROM item", None, Kind.WRITE), cursor.fetch(1)))
    found += keys(postgres.execute((cursor.fetch(1),))[0])
    found += keys(postgres.execute((Statement("SELECT 1", returns=True), cursor.fetch(100), cursor.close()))[1])
    assert found == [*range(3, 20), *range(21, ROWS)]  # 20 came with the DELETE
    prepared = raw(postgres, "SELECT statement FROM pg_prepared_statements").rows
    assert not any("DECLARE" in text or "FETCH" in text for (text,) in prepared)
    assert raw(postgres, "SELECT count(*) FROM pg_cursors WHERE name = 'c'").rows == [(0,)]
    postgres.execute((ROLLBACK,))


def test_a_cursor_needs_a_transaction_on_postgresql(postgres):
    """Outside a transaction the server refuses."""
    cursor = PostgresDialect().cursor("c", "SELECT 1", ())
    with pytest.raises(Exception, match="DECLARE CURSOR can only be used in transaction blocks"):
        postgres.execute((cursor.declare(),))
    assert PostgresDialect.cursors_need_transaction
