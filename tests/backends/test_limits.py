"""What is asked for one transaction, beyond BEGIN: it holds in that transaction, and is gone after it."""

import itertools
import sqlite3
import threading

import pytest

from dbsession import Database
from dbsession.backends import sqlite_limits
from dbsession.backends.base import TransactionMode, milliseconds
from dbsession.backends.postgres_dialect import PostgresDialect
from dbsession.backends.statements import Kind, Statement
from dbsession.errors import IntegrityError, LockNotAvailable, OperationalError, SessionDoomed

BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) "

# What each database calls the settings that a transaction may change.
SETTINGS = {
    "postgresql": [
        "SELECT current_setting('statement_timeout')",
        "SELECT current_setting('lock_timeout')",
        "SELECT current_setting('transaction_read_only')",
    ],
    "sqlite": ["PRAGMA busy_timeout", "PRAGMA query_only", "PRAGMA foreign_keys"],
}


def settings(connection, name):
    return [connection.execute((Statement(sql, returns=True),))[0].rows[0][0] for sql in SETTINGS[name]]


def raw(connection, sql, params=None):
    return connection.execute((Statement(sql, params, Kind.RAW),))[0]


def read(connection, sql, *params):
    return connection.execute((Statement(sql, params, returns=True),))[0].rows


def write(sql, *params):
    return Statement(sql, params, Kind.WRITE)


@pytest.fixture
def backend(db):
    return db.backend


@pytest.fixture
def connection(backend):
    connection = backend.acquire()
    raw(connection, "CREATE TABLE item (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES item)")
    yield connection
    connection.close()


@pytest.fixture
def sqlite_backend(sqlite_file_url):
    db = Database(sqlite_file_url, timeout=3600)  # a test that waits for a lock does not end
    yield db.backend
    db.close()


@pytest.fixture
def sqlite(sqlite_backend):
    connection = sqlite_backend.acquire()
    raw(connection, "CREATE TABLE item (id INTEGER PRIMARY KEY, parent INTEGER REFERENCES item)")
    yield connection
    connection.close()


def begin(connection, backend, **mode):
    return connection.execute(backend.dialect.begin(TransactionMode(**mode)))


# --- both databases -----------------------------------------------------------------------------------


@pytest.mark.parametrize("end", [COMMIT, ROLLBACK], ids=["commit", "rollback"])
@pytest.mark.parametrize(
    "mode",
    [
        {"statement_timeout": 20.0},
        {"lock_timeout": 1.5},
        {"statement_timeout": 20.0, "lock_timeout": 1.5},
        {"read_only": True, "write": False},
        {"read_only": True, "write": False, "statement_timeout": 20.0, "lock_timeout": 1.5},
        {"foreign_keys": False},
        {"nowait": True},
    ],
    ids=lambda mode: "+".join(mode),
)
def test_nothing_is_left_of_a_mode(backend, connection, mode, end):
    """110. After COMMIT and after ROLLBACK the connection has its own settings again, and is handed on."""
    name = backend.dialect.name
    before = settings(connection, name)
    begin(connection, backend, **mode)
    changes = set(mode) - ({"foreign_keys", "nowait"} if name == "postgresql" else {"nowait"})
    assert (settings(connection, name) != before) is bool(changes)
    connection.execute((end,))
    assert settings(connection, name) == before
    connection.execute((write("INSERT INTO item VALUES (1, NULL)"),))
    backend.release(connection)
    assert backend.acquire() is connection


def test_a_statement_that_takes_too_long(backend, connection):
    """94. Each statement has its own time; one that runs longer is an error that names statement_timeout."""
    slow = {"sqlite": ENDLESS + "SELECT max(i) FROM n", "postgresql": "SELECT pg_sleep(60)"}[backend.dialect.name]
    begin(connection, backend, statement_timeout=0.05)
    with pytest.raises(OperationalError, match="statement_timeout") as caught:
        read(connection, slow)
    assert caught.value.statement.sql == slow
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT 1") == [(1,)]


def test_limits_hold_in_every_transaction_of_a_connection(backend, connection):
    """They come with each BEGIN, however often it was sent."""
    name = backend.dialect.name
    plain = settings(connection, name)
    for _ in range(8):  # PostgreSQL's driver prepares what it has seen five times
        begin(connection, backend, lock_timeout=1.5, statement_timeout=20.0)
        inside = settings(connection, name)
        assert inside[:2] == (["20s", "1500ms"] if name == "postgresql" else [1500, 0])
        connection.execute((COMMIT,))
        assert settings(connection, name) == plain


@pytest.mark.parametrize(
    ("seconds", "expected"), [(1.5, 1500), (0.0001, 1), (1e12, 2**31 - 1)], ids=["usual", "tiny", "huge"]
)
def test_milliseconds(seconds, expected):
    """A timeout that is very short does not become none at all, and one that is very long no error."""
    assert milliseconds(seconds) == expected


# --- PostgreSQL ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "texts"),
    [
        ({"statement_timeout": 0.25}, ["BEGIN", "SET LOCAL statement_timeout = 250"]),
        ({"lock_timeout": 2}, ["BEGIN", "SET LOCAL lock_timeout = 2000"]),
        (
            {"isolation": "serializable", "read_only": True, "deferrable": True, "statement_timeout": 1e12},
            ["BEGIN ISOLATION LEVEL SERIALIZABLE READ ONLY DEFERRABLE", "SET LOCAL statement_timeout = 2147483647"],
        ),
        ({"nowait": True, "foreign_keys": False}, ["BEGIN"]),
    ],
    ids=["statement", "lock", "all", "sqlite only"],
)
def test_the_statements_of_a_mode(mode, texts):
    """Timeouts travel behind BEGIN, in the same batch, and are local to the transaction."""
    assert [statement.sql for statement in PostgresDialect().begin(TransactionMode(**mode))] == texts


def test_a_rollback_of_limits_costs_one_round_trip(postgres_url):
    """SET LOCAL is ours: the prepared statements stay, and ROLLBACK needs no second trip for them."""
    db = Database(postgres_url)
    connection = db.backend.acquire()
    begin(connection, db.backend, statement_timeout=20.0)
    for _ in range(8):
        read(connection, "SELECT 1")
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT count(*) > 0 FROM pg_prepared_statements") == [(True,)]
    assert connection.clean
    db.backend.release(connection)
    db.close()


def test_lock_timeout(postgres_url):
    """94. Who waits for a row lock longer than lock_timeout gets LockNotAvailable, which names it."""
    db = Database(postgres_url)
    holder, waiter = db.backend.acquire(), db.backend.acquire()
    raw(holder, "CREATE TABLE item (id integer)")
    raw(holder, "INSERT INTO item VALUES (1)")
    holder.execute((BEGIN, write("UPDATE item SET id = 2")))
    begin(waiter, db.backend, lock_timeout=0.05)
    with pytest.raises(LockNotAvailable, match="lock_timeout"):
        waiter.execute((write("UPDATE item SET id = 3"),))
    for connection in (holder, waiter):
        connection.execute((ROLLBACK,))
        db.backend.release(connection)
    db.close()


# --- SQLite -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", [{"lock_timeout": 0.01}, {"nowait": True}, {"statement_timeout": 0.01}], ids=str)
def test_begin_waits_for_the_write_lock_no_longer_than_it_may(sqlite_backend, sqlite, mode):
    """94. The lock of the database stands for all locks: LockNotAvailable, long before the usual timeout."""
    other = sqlite_backend.acquire()
    begin(other, sqlite_backend)
    with pytest.raises(LockNotAvailable):
        begin(sqlite, sqlite_backend, **mode)
    assert settings(sqlite, "sqlite") == [3600_000, 0, 1]
    assert not sqlite.in_transaction
    other.execute((ROLLBACK,))
    other.close()
    begin(sqlite, sqlite_backend)


def test_nowait_is_for_begin_only(sqlite_backend, sqlite):
    """Behind BEGIN statements wait as usual, or as lock_timeout says."""
    begin(sqlite, sqlite_backend, nowait=True)
    assert settings(sqlite, "sqlite") == [3600_000, 0, 1]
    sqlite.execute((ROLLBACK,))
    begin(sqlite, sqlite_backend, nowait=True, lock_timeout=0.25)
    assert settings(sqlite, "sqlite") == [250, 0, 1]


def test_reads_take_no_write_lock(sqlite_backend, sqlite):
    """A read-only transaction begins while somebody writes."""
    other = sqlite_backend.acquire()
    begin(other, sqlite_backend)
    begin(sqlite, sqlite_backend, read_only=True)
    assert read(sqlite, "SELECT * FROM item") == []
    other.close()


@pytest.mark.parametrize("end", [COMMIT, ROLLBACK], ids=["commit", "rollback"])
def test_foreign_keys_off(sqlite_backend, sqlite, end):
    """Rows may refer to nothing until the end; the check before COMMIT says which do; then keys are enforced again."""
    begin(sqlite, sqlite_backend, foreign_keys=False)
    assert read(sqlite, "PRAGMA foreign_key_check") == []
    sqlite.execute((write("INSERT INTO item VALUES (1, 7)"),))
    assert read(sqlite, "PRAGMA foreign_key_check") == [("item", 1, "item", 0)]
    sqlite.execute((end,))
    with pytest.raises(IntegrityError, match="FOREIGN KEY"):
        sqlite.execute((write("INSERT INTO item VALUES (2, 7)"),))


def test_a_slow_write_loses_its_transaction(sqlite_backend, sqlite):
    """An interrupt makes SQLite roll back: what follows is refused, and after ROLLBACK nothing is left of the limits."""
    begin(sqlite, sqlite_backend, statement_timeout=0.05, foreign_keys=False, lock_timeout=0.5)
    sqlite.execute((write("INSERT INTO item VALUES (1, NULL)"),))
    with pytest.raises(OperationalError, match=r"statement_timeout of 0\.05 seconds .*rolled back"):
        sqlite.execute((write(ENDLESS + "INSERT INTO item SELECT i + 1, NULL FROM n"),))
    with pytest.raises(SessionDoomed):
        sqlite.execute((write("INSERT INTO item VALUES (2, NULL)"),))
    sqlite.execute((ROLLBACK,))
    assert settings(sqlite, "sqlite") == [3600_000, 0, 1]
    assert read(sqlite, "SELECT * FROM item") == []


def test_each_run_of_many_has_its_own_time(sqlite_backend, sqlite, monkeypatch):
    """The time is that of a run, not of all runs; and it begins anew with each."""
    clock = itertools.count()
    monkeypatch.setattr(sqlite_limits, "monotonic", lambda: next(clock))  # a second passes with each look
    begin(sqlite, sqlite_backend, statement_timeout=100.0)
    count = ENDLESS + "INSERT INTO item SELECT ? + max(i), NULL FROM (SELECT i FROM n LIMIT 2000)"
    sqlite.execute((Statement(count, [(n,) for n in range(20)], Kind.WRITE, many=True),))
    assert next(clock) > 200
    sqlite.execute((COMMIT,))
    assert read(sqlite, "SELECT count(*) FROM item") == [(20,)]


def test_an_interrupt_by_somebody_else_is_not_called_a_timeout(sqlite_backend, sqlite):
    """Only a statement whose time is over is told about statement_timeout."""
    begin(sqlite, sqlite_backend, statement_timeout=3600.0)
    started = threading.Event()
    sqlite._db.create_function("started", 0, started.set)
    thread = threading.Thread(target=lambda: (started.wait(30), sqlite._db.interrupt()))
    thread.start()
    with pytest.raises(OperationalError, match="interrupted") as caught:
        read(sqlite, ENDLESS + "SELECT max(i) FROM n WHERE started() IS NULL")
    thread.join(30)
    assert "statement_timeout" not in str(caught.value)
    assert caught.value.original_exc.sqlite_errorcode == sqlite3.SQLITE_INTERRUPT


def test_a_limited_connection_that_is_given_back_within_its_transaction(sqlite_backend, sqlite):
    """It is closed, like any with an open transaction, and nothing is saved."""
    begin(sqlite, sqlite_backend, statement_timeout=3600.0, foreign_keys=False)
    sqlite.execute((write("INSERT INTO item VALUES (1, NULL)"),))
    sqlite_backend.release(sqlite)
    other = sqlite_backend.acquire()
    assert settings(other, "sqlite") == [3600_000, 0, 1]
    assert read(other, "SELECT * FROM item") == []
    other.close()


@pytest.mark.parametrize("end", [COMMIT, ROLLBACK], ids=["commit", "rollback"])
def test_nothing_is_interrupted_after_the_end(sqlite_backend, sqlite, monkeypatch, end):
    """110. When the transaction has ended, a statement may take as long as it wants."""
    begin(sqlite, sqlite_backend, statement_timeout=100.0)
    read(sqlite, "SELECT 1")
    sqlite.execute((end,))
    monkeypatch.setattr(sqlite_limits, "monotonic", lambda: 1e12)
    assert read(sqlite, ENDLESS + "SELECT max(i) FROM (SELECT i FROM n LIMIT 20000)") == [(20000,)]


def test_each_piece_of_a_cursor_has_its_own_time(sqlite_backend, sqlite, monkeypatch):
    """What a loop takes between the pieces does not count; a piece that takes too long is interrupted."""
    now = [0.0]
    monkeypatch.setattr(sqlite_limits, "monotonic", lambda: now[0])
    sqlite._readers_block = False  # or all of it is read at once
    begin(sqlite, sqlite_backend, statement_timeout=100.0)
    cursor = sqlite_backend.dialect.cursor("c", ENDLESS + "SELECT i FROM n", ())
    found = sqlite.execute((cursor.declare(), cursor.fetch(2000)))[1].rows
    for _ in range(3):
        now[0] += 1000.0
        found += sqlite.execute((cursor.fetch(2000),))[0].rows
    assert len(found) == 8000
    ticks = itertools.count(5000.0)
    monkeypatch.setattr(sqlite_limits, "monotonic", lambda: next(ticks))  # a second passes with each look
    with pytest.raises(OperationalError, match="statement_timeout of 100 seconds"):
        sqlite.execute((cursor.fetch(10**9),))
    sqlite.execute((ROLLBACK,))
