"""The SQLite backend: transactions that do not end unnoticed, values that survive, threads and forks."""

import os
import sqlite3
import threading
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession.backends.base import RowCountMismatch, TransactionMode, ValueType
from dbsession.backends.sqlite import SqliteBackend
from dbsession.backends.statements import Kind, Statement
from dbsession.errors import (
    BindingError,
    DataError,
    InterfaceError,
    LockNotAvailable,
    OperationalError,
    ProgrammingError,
    SerializationConflict,
    SessionDoomed,
    TransactionIntegrityError,
)

COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)


@pytest.fixture(params=["memory", "file"])
def backend(request, tmp_path):
    backend = SqliteBackend(None if request.param == "memory" else tmp_path / "test.db", timeout=5)
    yield backend
    backend.close()


@pytest.fixture
def file_backend(tmp_path):
    backend = SqliteBackend(tmp_path / "test.db", timeout=0.0)
    yield backend
    backend.close()


@pytest.fixture
def connection(backend):
    connection = backend.acquire()
    raw(connection, "CREATE TABLE user (id INTEGER PRIMARY KEY AUTOINCREMENT, name TEXT UNIQUE, age INTEGER)")
    yield connection
    connection.close()


def begin(connection, **mode):
    return connection.execute((BEGIN,) if not mode else SqliteBackend().dialect.begin(TransactionMode(**mode)))


BEGIN = Statement("BEGIN IMMEDIATE", kind=Kind.BEGIN)


def raw(connection, sql, params=None):
    return connection.execute((Statement(sql, params, Kind.RAW),))[0]


def read(connection, sql, *params):
    return connection.execute((Statement(sql, params),))[0].rows


def write(sql, params=(), **options):
    return Statement(sql, params, Kind.WRITE, **options)


ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n)"
INSERT = "INSERT INTO user (name, age) VALUES (?, ?)"
UPDATE = "UPDATE user SET age = ? WHERE id = ?"


# --- results ---------------------------------------------------------------------------------------


def test_read_gives_rows_count_and_columns(connection):
    """A read answers with the driver's tuples, their number, and the names of the columns."""
    result = connection.execute((Statement("SELECT 1 AS a, 'x' AS b"),))[0]
    assert result == ([(1, "x")], 1, ("a", "b"), None)


def test_columns_follow_an_altered_table(connection):
    """The names behind SELECT * are right after the table was altered."""
    assert connection.execute((Statement("SELECT * FROM user"),))[0].columns == ("id", "name", "age")
    raw(connection, "ALTER TABLE user RENAME COLUMN age TO years")
    assert connection.execute((Statement("SELECT * FROM user"),))[0].columns == ("id", "name", "years")


def test_write_counts_rows(connection):
    """A write tells how many rows it touched."""
    connection.execute((write(INSERT, ("a", 1)),))
    assert connection.execute((write("UPDATE user SET age = 2"),))[0].rowcount == 1


def test_commit_and_rollback_say_so(connection):
    """The command of a COMMIT that has committed is COMMIT, and of a ROLLBACK it is ROLLBACK."""
    assert connection.execute((BEGIN, write(INSERT, ("a", 1)), COMMIT))[2].command == "COMMIT"
    assert not connection.in_transaction
    assert connection.execute((BEGIN, ROLLBACK))[1].command == "ROLLBACK"
    assert read(connection, "SELECT name FROM user") == [("a",)]


def test_rollback_without_a_transaction_is_nothing(connection):
    """ROLLBACK is always possible."""
    assert connection.execute((ROLLBACK,))[0].command == "ROLLBACK"


@pytest.mark.parametrize("sql, kind", [("COMMIT", Kind.COMMIT), ("SAVEPOINT a", Kind.SAVEPOINT)])
def test_no_commit_or_savepoint_outside_a_transaction(connection, sql, kind):
    """SAVEPOINT would open a transaction that RELEASE commits; a COMMIT of nothing proves nothing."""
    with pytest.raises(InterfaceError, match="outside a transaction"):
        connection.execute((Statement(sql, kind=kind),))
    assert not connection.in_transaction


def test_several_writes_need_a_transaction(connection):
    """A batch that would save some of its rows and lose others is refused."""
    with pytest.raises(InterfaceError, match="no transaction around them"):
        connection.execute((write(INSERT, ("a", 1)), write(INSERT, ("b", 1))))
    with pytest.raises(InterfaceError, match="no transaction around them"):
        connection.execute((write(INSERT, [("a", 1)], many=True),))
    assert read(connection, "SELECT * FROM user") == []


def test_counters(backend, connection):
    """Statements, batches, transactions and connections are counted."""
    before = backend.counters.statements, backend.counters.round_trips, backend.counters.transactions
    connection.execute((BEGIN, write(INSERT, ("a", 1)), COMMIT))
    after = backend.counters.statements, backend.counters.round_trips, backend.counters.transactions
    assert [new - old for new, old in zip(after, before, strict=True)] == [3, 1, 1]
    assert backend.counters.connections == 1


# --- inserting -------------------------------------------------------------------------------------


def test_insert_answers_with_the_key_without_returning(backend, connection):
    """Where only the generated key is wanted, the connection answers with the rowid."""
    sql = backend.dialect.insert('"user"', [('"name"', "TEXT")], ['"id"'], 1, '"id"')
    assert "RETURNING" not in sql
    assert connection.execute((write(sql, ("a",), returns=True, expect=1),))[0].rows == [(1,)]
    many = write(sql, [("b",), ("c",)], many=True, returns=True, expect=1)
    assert connection.execute((BEGIN, many, COMMIT))[1].rows == [(2,), (3,)]


def test_insert_returning_other_columns(backend, connection):
    """Other columns come back with RETURNING, one row a run, in the order of the runs."""
    sql = backend.dialect.insert('"user"', [('"name"', "TEXT"), ('"age"', "INTEGER")], ['"id"', '"name"'], 1, '"id"')
    many = write(sql, [("b", 1), ("a", 2)], many=True, returns=True, expect=1)
    assert connection.execute((BEGIN, many, COMMIT))[1].rows == [(1, "b"), (2, "a")]


def test_insert_that_a_trigger_drops_is_noticed(backend, connection):
    """A row that RAISE(IGNORE) swallows has no key, and fails its expectation."""
    raw(
        connection,
        "CREATE TRIGGER drop_b BEFORE INSERT ON user WHEN new.name = 'b' BEGIN SELECT RAISE(IGNORE); END",
    )
    sql = backend.dialect.insert('"user"', [('"name"', "TEXT")], ['"id"'], 1, '"id"')
    many = write(sql, [("a",), ("b",)], many=True, returns=True, expect=1, tag=7)
    with pytest.raises(RowCountMismatch) as caught:
        connection.execute((BEGIN, many, COMMIT))
    assert (caught.value.tag, caught.value.found) == (8, 0)


def test_insert_of_no_columns_and_of_several_rows(backend, connection):
    """DEFAULT VALUES, and a VALUES list where nothing has to come back."""
    dialect = backend.dialect
    connection.execute((write(dialect.insert("user", [], ["id"], 1, "id"), returns=True),))
    connection.execute((write(dialect.insert("user", [("name", "TEXT")], [], 2, None), ("a", "b"), expect=2),))
    assert len(read(connection, "SELECT * FROM user")) == 3
    with pytest.raises(InterfaceError, match="one by one"):
        dialect.insert("user", [("name", "TEXT")], ["id"], 2, "id")


def test_keys_are_not_used_again(connection):
    """The key of a deleted row is not given out a second time."""
    connection.execute((write(INSERT, ("a", 1)),))
    connection.execute((write("DELETE FROM user"),))
    connection.execute((write(INSERT, ("a", 1)),))
    assert read(connection, "SELECT id FROM user") == [(2,)]


# --- expectations ----------------------------------------------------------------------------------


@pytest.mark.parametrize("returning", ["", " RETURNING id, age"])
def test_mismatch_names_the_run_and_forbids_commit(connection, returning):
    """A run that touches no row raises with its tag; after that the transaction can only be rolled back."""
    connection.execute((BEGIN, write(INSERT, [("a", 1), ("b", 1)], many=True), COMMIT))
    many = write(UPDATE + returning, [(5, 1), (5, 99), (5, 2)], many=True, expect=1, tag=40, returns=bool(returning))
    with pytest.raises(RowCountMismatch) as caught:
        connection.execute((BEGIN, many, COMMIT))
    assert (caught.value.tag, caught.value.found, caught.value.statement) == (41, 0, many)
    assert connection.in_transaction
    with pytest.raises(SessionDoomed, match="had to touch 1 rows, and touched 0"):
        connection.execute((COMMIT,))
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT age FROM user") == [(1,), (1,)]


def test_too_many_rows_are_a_mismatch(connection):
    """Two rows where one had to be touched."""
    connection.execute((BEGIN, write(INSERT, [("a", 1), ("b", 1)], many=True), COMMIT))
    with pytest.raises(RowCountMismatch) as caught:
        connection.execute((BEGIN, write("DELETE FROM user", expect=1), COMMIT))
    assert caught.value.found == 2


def test_mismatch_alone_outside_a_transaction(connection):
    """A single statement that touches nothing has done nothing, and the connection goes on."""
    with pytest.raises(RowCountMismatch):
        connection.execute((write(UPDATE, (1, 1), expect=1),))
    assert not connection.in_transaction
    assert read(connection, "SELECT 1") == [(1,)]


def test_mismatch_within_a_savepoint_is_undone_with_it(connection):
    """ROLLBACK TO frees the transaction from a mismatch behind the savepoint."""
    connection.execute((BEGIN, write(INSERT, ("a", 1)), Statement("SAVEPOINT s", kind=Kind.SAVEPOINT)))
    with pytest.raises(RowCountMismatch):
        connection.execute((write(UPDATE, (9, 99), expect=1),))
    connection.execute((Statement("ROLLBACK TO s", kind=Kind.ROLLBACK_TO),))
    assert connection.execute((COMMIT,))[0].command == "COMMIT"
    assert read(connection, "SELECT age FROM user") == [(1,)]


# --- transactions that SQLite ends by itself ---------------------------------------------------------


def lose_transaction(connection):
    """Let a statement fail in a way that makes SQLite roll the whole transaction back."""
    connection.execute((write(INSERT, ("a", 1)),))
    connection.execute((BEGIN, write(INSERT, ("b", 1))))
    with pytest.raises(TransactionIntegrityError, match="rolled back the whole transaction") as caught:
        connection.execute((write("INSERT OR ROLLBACK INTO user (name) VALUES ('a')"),))
    return caught.value


def test_or_rollback_leaves_no_autocommit_behind(connection):
    """After INSERT OR ROLLBACK nothing runs but ROLLBACK: the next statement would be saved alone."""
    first = lose_transaction(connection)
    assert connection.in_transaction
    for statement in (write(INSERT, ("c", 1)), Statement("SELECT 1"), COMMIT, BEGIN):
        with pytest.raises(SessionDoomed, match="UNIQUE constraint failed") as caught:
            connection.execute((statement,))
        assert caught.value.__cause__ is first
    assert connection.execute((ROLLBACK,))[0].command == "ROLLBACK"
    assert read(connection, "SELECT name FROM user") == [("a",)]


def test_full_disk(file_backend):
    """Running out of pages raises OperationalError; what follows is refused until ROLLBACK."""
    connection = file_backend.acquire()
    raw(connection, "CREATE TABLE t (b BLOB)")
    pages = read(connection, "PRAGMA page_count")[0][0]
    raw(connection, f"PRAGMA max_page_count = {pages + 5}")
    connection.execute((BEGIN, write("INSERT INTO t VALUES (?)", (b"small",))))
    with pytest.raises(OperationalError, match="full"):
        connection.execute((write("INSERT INTO t VALUES (?)", (b"x" * 100_000,)),))
    # Whether SQLite has kept the transaction depends on its cache; a COMMIT of half the work must not pass.
    if not connection._db.in_transaction:
        with pytest.raises(SessionDoomed):
            connection.execute((COMMIT,))
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT * FROM t") == []
    file_backend.release(connection)


def test_interrupted_write(connection):
    """An interrupted write has rolled the transaction back, and is not continued in autocommit."""
    connection.execute((BEGIN, write(INSERT, ("a", 1))))
    connection._db.set_progress_handler(lambda: 1, 100)
    with pytest.raises(OperationalError, match="interrupted"):
        connection.execute((write(f"INSERT INTO user (age) {ENDLESS} SELECT i FROM n"),))
    connection._db.set_progress_handler(None, 0)
    assert not connection._db.in_transaction
    with pytest.raises(SessionDoomed, match="interrupted"):
        connection.execute((write(INSERT, ("b", 1)),))
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT * FROM user") == []


def test_interrupted_read_keeps_the_transaction(connection):
    """An interrupted read is an ordinary error: the transaction goes on."""
    connection.execute((BEGIN, write(INSERT, ("a", 1))))
    connection._db.set_progress_handler(lambda: 1, 100)
    with pytest.raises(OperationalError, match="interrupted"):
        read(connection, f"{ENDLESS} SELECT count(*) FROM n")
    connection._db.set_progress_handler(None, 0)
    assert connection.execute((COMMIT,))[0].command == "COMMIT"
    assert read(connection, "SELECT name FROM user") == [("a",)]


def test_failed_statement_keeps_the_transaction(connection):
    """A constraint that fails undoes its statement alone."""
    connection.execute((BEGIN, write(INSERT, ("a", 1))))
    with pytest.raises(TransactionIntegrityError):
        connection.execute((write(INSERT, ("a", 1)),))
    assert connection.execute((COMMIT,))[0].command == "COMMIT"
    assert len(read(connection, "SELECT * FROM user")) == 1


@pytest.mark.parametrize("kind", [Kind.RAW, Kind.READ])
@pytest.mark.parametrize("sql", ["COMMIT", "ROLLBACK"])
def test_user_sql_that_ends_the_transaction(connection, sql, kind):
    """COMMIT in user-written SQL is noticed, and what follows does not run in autocommit."""
    connection.execute((BEGIN, write(INSERT, ("a", 1))))
    with pytest.raises(OperationalError, match="ended by something else"):
        connection.execute((Statement(sql, kind=kind),))
    with pytest.raises(SessionDoomed, match="ended by something else"):
        connection.execute((write(INSERT, ("b", 1)),))
    connection.execute((ROLLBACK,))
    assert ("b",) not in read(connection, "SELECT name FROM user")


def test_user_sql_that_begins_a_transaction(connection):
    """BEGIN in user-written SQL is undone and refused."""
    with pytest.raises(OperationalError, match="was begun by SQL of the user's own"):
        raw(connection, "BEGIN")
    connection.execute((write(INSERT, ("a", 1)),))
    assert read(connection, "SELECT name FROM user") == [("a",)]


def test_deferred_constraint_fails_at_commit(connection):
    """A COMMIT that a deferred foreign key stops leaves the transaction open, to be rolled back."""
    raw(connection, "CREATE TABLE pet (owner INTEGER REFERENCES user (id) DEFERRABLE INITIALLY DEFERRED)")
    with pytest.raises(TransactionIntegrityError, match="FOREIGN KEY"):
        connection.execute((BEGIN, write("INSERT INTO pet VALUES (99)"), COMMIT))
    assert connection.in_transaction
    connection.execute((ROLLBACK,))
    assert read(connection, "SELECT * FROM pet") == []


# --- errors ----------------------------------------------------------------------------------------


def test_unique_names_table_and_columns(connection):
    """A broken UNIQUE constraint is told by table and columns, never by the value."""
    connection.execute((write(INSERT, ("secret", 1)),))
    with pytest.raises(TransactionIntegrityError) as caught:
        connection.execute((write(INSERT, ("secret", 1), tag=3),))
    error = caught.value
    assert (error.table, list(error.columns), error.tag) == ("user", ["name"], 3)
    assert isinstance(error.original_exc, sqlite3.IntegrityError) and error.__cause__ is error.original_exc
    assert error.statement.sql == error.sql == INSERT
    assert "secret" not in str(error)


def test_composite_unique_not_null_check_and_foreign_key(connection):
    """Each kind of constraint gives what SQLite tells of it."""
    raw(
        connection,
        "CREATE TABLE t (a INT NOT NULL, b INT, u INT REFERENCES user, UNIQUE (a, b), CONSTRAINT pos CHECK (b > 0))",
    )
    connection.execute((write("INSERT INTO t VALUES (1, 1, NULL)"),))

    def failure(sql):
        with pytest.raises(TransactionIntegrityError) as caught:
            connection.execute((write(sql),))
        return caught.value.constraint, caught.value.table, tuple(caught.value.columns)

    assert failure("INSERT INTO t VALUES (1, 1, NULL)") == (None, "t", ("a", "b"))
    assert failure("INSERT INTO t VALUES (NULL, 1, NULL)") == (None, "t", ("a",))
    assert failure("INSERT INTO t VALUES (2, -1, NULL)") == ("pos", None, ())
    assert failure("INSERT INTO t VALUES (2, 1, 99)") == (None, None, ())


def test_a_failing_run_is_named(connection):
    """The error of a run carries its tag, whatever the error is."""
    many = write(INSERT, [("a", 1), ("b", 1), ("a", 1)], many=True, tag=10)
    with pytest.raises(TransactionIntegrityError) as caught:
        connection.execute((BEGIN, many, COMMIT))
    assert caught.value.tag == 12


@pytest.mark.parametrize(
    "sql, params, error",
    [
        ("SELEC 1", (), ProgrammingError),
        ("SELECT * FROM nowhere", (), ProgrammingError),
        ("SELECT ?", (), ProgrammingError),
        ("SELECT ?", (object(),), ProgrammingError),
        ("SELECT 1; SELECT 2", (), ProgrammingError),
        ("SELECT ?", (2**63,), DataError),
        ("SELECT ?", ("\ud800",), DataError),
        ("INSERT INTO user (id) VALUES ('x')", (), DataError),
    ],
)
def test_error_classes(connection, sql, params, error):
    """Wrong SQL is a ProgrammingError, a value that SQLite cannot hold a DataError."""
    with pytest.raises(error):
        connection.execute((Statement(sql, params, Kind.WRITE),))
    assert read(connection, "SELECT 1") == [(1,)]


def test_busy_is_lock_not_available(file_backend):
    """A write lock that somebody else holds, when the timeout is over."""
    one, two = file_backend.acquire(), file_backend.acquire()
    one.execute((BEGIN,))
    with pytest.raises(LockNotAvailable, match="another connection holds the lock"):
        two.execute((BEGIN,))
    assert not two.in_transaction
    for connection in (one, two):
        file_backend.release(connection)


def test_stale_snapshot_is_a_conflict(file_backend):
    """A transaction that has read before somebody else wrote cannot write: it has to run again."""
    one, two = file_backend.acquire(), file_backend.acquire()
    raw(one, "CREATE TABLE t (a)")
    one.execute((Statement("BEGIN", kind=Kind.BEGIN), Statement("SELECT * FROM t")))
    two.execute((write("INSERT INTO t VALUES (1)"),))
    with pytest.raises(SerializationConflict):
        one.execute((write("INSERT INTO t VALUES (2)"),))
    for connection in (one, two):
        file_backend.release(connection, discard=True)


# --- modes -----------------------------------------------------------------------------------------


def test_begin_takes_the_write_lock_only_for_writers():
    """Writers begin IMMEDIATE, readers deferred."""
    dialect = SqliteBackend().dialect
    assert dialect.begin(TransactionMode())[-1].sql == "BEGIN IMMEDIATE"
    assert dialect.begin(TransactionMode(isolation="serializable"))[-1].sql == "BEGIN IMMEDIATE"
    assert dialect.begin(TransactionMode(write=False))[-1].sql == "BEGIN"


@pytest.mark.parametrize("end", [COMMIT, ROLLBACK])
def test_read_only_refuses_writes_until_it_ends(connection, end):
    """A read-only transaction cannot write; after it the connection can."""
    begin(connection, read_only=True)
    with pytest.raises(OperationalError, match="readonly"):
        connection.execute((write(INSERT, ("a", 1)),))
    connection.execute((end,))
    connection.execute((write(INSERT, ("a", 1)),))


def test_foreign_keys_are_on(connection):
    """Foreign keys are enforced on every connection."""
    assert read(connection, "PRAGMA foreign_keys") == [(1,)]


def test_files_use_wal(file_backend):
    """A file's readers see the old snapshot while a writer works."""
    writer, reader = file_backend.acquire(), file_backend.acquire()
    raw(writer, "CREATE TABLE t (a)")
    writer.execute((BEGIN, write("INSERT INTO t VALUES (1)")))
    assert read(reader, "PRAGMA journal_mode") == [("wal",)]
    assert read(reader, "SELECT * FROM t") == []
    writer.execute((COMMIT,))
    assert read(reader, "SELECT * FROM t") == [(1,)]
    file_backend.release(writer)
    file_backend.release(reader)


def test_no_read_lock_is_left_behind(backend):
    """A read that was answered holds no lock: another connection may write at once."""
    one, two = backend.acquire(), backend.acquire()
    raw(one, "CREATE TABLE t (a)")
    one.execute((BEGIN, write("INSERT INTO t VALUES (?)", [(1,), (2,), (3,)], many=True), COMMIT))
    read(one, "SELECT * FROM t")
    two.execute((BEGIN, write("DELETE FROM t"), COMMIT))
    backend.release(one)
    backend.release(two)


# --- connections -----------------------------------------------------------------------------------


def test_released_connection_is_used_again(backend):
    """A clean connection goes to the free list, and its changed settings are put back."""
    for run in (raw, read):
        connection = backend.acquire()
        run(connection, "PRAGMA foreign_keys = OFF")
        run(connection, "PRAGMA busy_timeout = 1")
        backend.release(connection)
        again = backend.acquire()
        assert again is connection
        assert read(again, "PRAGMA foreign_keys") == [(1,)]
        assert read(again, "PRAGMA busy_timeout") == [(5000,)]
        backend.release(again)


@pytest.mark.parametrize("discard", [False, True])
def test_open_transaction_is_rolled_back_at_release(backend, discard):
    """A connection that comes back inside a transaction is closed, and nothing of it is saved."""
    connection = backend.acquire()
    raw(connection, "CREATE TABLE t (a)")
    connection.execute((BEGIN, write("INSERT INTO t VALUES (1)")))
    backend.release(connection, discard=discard)
    other = backend.acquire()
    assert other is not connection
    assert read(other, "SELECT * FROM t") == []
    backend.release(other)


def test_closed(backend):
    """A closed backend hands nothing out; a connection in use is closed when it comes back."""
    connection = backend.acquire()
    backend.close()
    with pytest.raises(InterfaceError, match="is closed"):
        backend.acquire()
    assert read(connection, "SELECT 1") == [(1,)]
    backend.release(connection)
    with pytest.raises(InterfaceError, match="closed"):
        read(connection, "SELECT 1")
    assert not connection.usable


def test_memory_databases_are_apart():
    """Two databases in memory share nothing; two connections of one share all."""
    one, two = SqliteBackend(), SqliteBackend()
    connection = one.acquire()
    raw(connection, "CREATE TABLE t (a)")
    one.release(connection, discard=True)  # the keeper keeps the database
    same, other = one.acquire(), two.acquire()
    assert read(same, "SELECT count(*) FROM t") == [(0,)]
    with pytest.raises(ProgrammingError, match="no such table"):
        read(other, "SELECT count(*) FROM t")
    one.release(same)
    two.release(other)
    one.close()
    two.close()


def test_threads_lose_no_update(backend):
    """Four threads, each with its own connection, 100 increments each: none is lost."""
    setup = backend.acquire()
    raw(setup, "CREATE TABLE t (n)")
    setup.execute((write("INSERT INTO t VALUES (0)"),))
    backend.release(setup)
    errors = []

    def work():
        try:
            for _ in range(100):
                connection = backend.acquire()
                connection.execute((BEGIN,))
                ((n,),) = read(connection, "SELECT n FROM t")
                connection.execute((write("UPDATE t SET n = ?", (n + 1,), expect=1), COMMIT))
                backend.release(connection)
        except BaseException as exc:
            errors.append(exc)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    connection = backend.acquire()
    assert read(connection, "SELECT n FROM t") == [(400,)]
    backend.release(connection)


def in_child(check):
    """Fork, run *check* in the child, and return what it returned, as text."""
    source, sink = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            answer = str(check())
        except BaseException as exc:
            answer = f"{type(exc).__name__}: {exc}"
        os.write(sink, answer.encode())
        os._exit(0)
    os.close(sink)
    os.waitpid(pid, 0)
    with os.fdopen(source) as pipe:
        return pipe.read()


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_forked_child_is_refused(file_backend):
    """Connection and pool of the parent raise in the child, and are unharmed in the parent."""
    connection = file_backend.acquire()
    raw(connection, "CREATE TABLE t (a)")
    connection.execute((BEGIN, write("INSERT INTO t VALUES (1)")))
    assert in_child(lambda: read(connection, "SELECT 1")).startswith("SessionForkError: this connection was opened by")
    assert in_child(lambda: connection.execute((ROLLBACK,))).startswith("SessionForkError")
    assert in_child(file_backend.acquire).startswith("SessionForkError: sqlite:///")
    assert in_child(lambda: (connection.close(), file_backend.close(), connection.usable)[-1]) == "False"
    assert connection.execute((COMMIT,))[0].command == "COMMIT"
    assert read(connection, "SELECT * FROM t") == [(1,)]
    file_backend.release(connection)


@pytest.mark.filterwarnings("ignore:This process.*is multi-threaded:DeprecationWarning")
def test_a_pool_that_was_never_used_serves_the_child(tmp_path):
    """A database that was bound before the fork, and not used, belongs to whoever uses it."""
    backend = SqliteBackend(tmp_path / "test.db")
    assert in_child(lambda: read(backend.acquire(), "SELECT 1")) == "[(1,)]"
    backend.close()


def test_wrong_files(tmp_path):
    """Folders that are missing, files that are folders, and files that have to exist are told at bind."""
    with pytest.raises(BindingError, match="does not exist"):
        SqliteBackend(tmp_path / "no" / "x.db")
    with pytest.raises(BindingError, match="is a folder"):
        SqliteBackend(tmp_path)
    with pytest.raises(BindingError, match="create_db=True"):
        SqliteBackend(tmp_path / "x.db", create=False)


def test_a_file_that_is_no_database(tmp_path):
    """Garbage is told when it is opened."""
    (tmp_path / "x.db").write_bytes(b"garbage" * 200)
    backend = SqliteBackend(tmp_path / "x.db", create=False)
    with pytest.raises(OperationalError, match="not a database"):
        backend.acquire()


def test_relative_path_is_kept_when_the_folder_changes(tmp_path, monkeypatch):
    """A relative file is where it was when the database was bound."""
    monkeypatch.chdir(tmp_path)
    backend = SqliteBackend("x.db")
    (tmp_path / "other").mkdir()
    monkeypatch.chdir(tmp_path / "other")
    backend.release(backend.acquire())
    backend.close()
    assert (tmp_path / "x.db").exists()


# --- values ----------------------------------------------------------------------------------------

VALUES = [
    (ValueType(int), -(2**63)),
    (ValueType(bool), True),
    (ValueType(str, max_len=10), "é\0ü"),
    (ValueType(float), 1e308),
    (ValueType(float), float("-inf")),
    (ValueType(Decimal), Decimal("123456789012345678901234567890.123456789")),
    (ValueType(Decimal, precision=30, scale=2), Decimal("1234567890123456789012345678.10")),
    (ValueType(Decimal, precision=12, scale=2), Decimal("-0.50")),
    (ValueType(datetime), datetime(1, 2, 3, 4, 5)),
    (ValueType(datetime), datetime(9999, 12, 31, 23, 59, 59, 999999)),
    (ValueType(datetime, tz=True), datetime(2024, 2, 29, 1, 2, 3, 4, tzinfo=timezone(timedelta(hours=5, minutes=30)))),
    (ValueType(date), date(24, 2, 29)),
    (ValueType(time), time(1, 2, 3)),
    (ValueType(timedelta), timedelta(days=-3, microseconds=7)),
    (ValueType(UUID), UUID(int=7)),
    (ValueType(bytes), b"\0\xff"),
    (ValueType(dict), {"b": [1, 2.5, None, "ü"], "a": {}}),
]


@pytest.mark.parametrize("value_type, value", VALUES, ids=lambda item: getattr(item, "__name__", None))
def test_values_survive(connection, value_type, value):
    """What is stored comes back equal, from a column of its type."""
    codec = SqliteBackend().dialect.codec(value_type)
    raw(connection, f"CREATE TABLE v (a {codec.sql_type})")
    encode, decode = codec.encode or (lambda x: x), codec.decode or (lambda x: x)
    connection.execute((write("INSERT INTO v VALUES (?)", (encode(value),)),))
    ((stored,),) = read(connection, "SELECT a FROM v")
    assert decode(stored) == value and type(decode(stored)) is type(value)
    assert stored == encode(value)


@pytest.mark.parametrize(
    "value_type, values",
    [
        (ValueType(Decimal), ["-20", "-3.5", "0", "1e-3", "2", "10", "1e20"]),
        (ValueType(Decimal, precision=12, scale=2), ["-20", "-3.5", "0", "0.01", "2", "10"]),
    ],
)
def test_decimals_sort_and_add_exactly(connection, value_type, values):
    """Texts of decimals order by value, and their aggregates are exact."""
    codec = SqliteBackend().dialect.codec(value_type)
    numbers = [Decimal(value) for value in values]
    raw(connection, f"CREATE TABLE v (a {codec.sql_type} UNIQUE)")
    rows = [(codec.encode(number),) for number in reversed(numbers)]
    connection.execute((BEGIN, write("INSERT INTO v VALUES (?)", rows, many=True), COMMIT))
    assert [Decimal(a) for (a,) in read(connection, "SELECT a FROM v ORDER BY a")] == numbers
    assert read(connection, "SELECT count(*) FROM v WHERE a < ?", codec.encode(Decimal("9.9"))) == [(5,)]
    ((total, mean, low, high),) = read(connection, "SELECT dbs_sum(a), dbs_avg(a), dbs_min(a), dbs_max(a) FROM v")
    assert Decimal(total) == sum(numbers)
    assert abs(Decimal(mean) - sum(numbers) / len(numbers)) < Decimal("1e-6") * abs(sum(numbers)) + 1
    assert (Decimal(low), Decimal(high)) == (numbers[0], numbers[-1])
    with pytest.raises(TransactionIntegrityError):
        connection.execute((write("INSERT INTO v VALUES ('2.000')"),))


def test_aggregates_of_nothing_are_null(connection):
    """As in SQL, an aggregate over no rows is NULL."""
    assert read(connection, "SELECT dbs_sum(a), dbs_avg(a), dbs_min(a), dbs_max(a) FROM (SELECT 1 AS a WHERE 0)") == [
        (None, None, None, None)
    ]


@pytest.mark.parametrize(
    "expression, value",
    [
        ("dbs_add('0.1', '0.2')", "0.3"),
        ("dbs_sub('0.3', 1)", "-0.7"),
        ("dbs_mul('1.5', '1.5')", "2.25"),
        ("dbs_div('1', '8')", "0.125"),
        ("dbs_neg('1.50')", "-1.5"),
        ("dbs_abs('-7')", "7"),
        ("dbs_round('2.345', 2)", "2.35"),
        ("dbs_round('-2.345', 2)", "-2.35"),
        ("dbs_add(NULL, '1')", None),
        ("dbs_round(NULL, 1)", None),
        ("dbs_lower('ÄB')", "äb"),
        ("dbs_upper('äb')", "ÄB"),
    ],
)
def test_functions(connection, expression, value):
    """Exact arithmetic on decimal texts, and the case of letters beyond ASCII."""
    assert read(connection, f"SELECT {expression}") == [(value,)]


def test_a_function_that_fails_is_an_operational_error(connection):
    """A function that fails is no mistake in the SQL."""
    with pytest.raises(OperationalError):
        read(connection, "SELECT dbs_int('x')")


@pytest.mark.parametrize(
    "value_type, value",
    [
        (ValueType(float), float("nan")),
        (ValueType(Decimal), Decimal("NaN")),
        (ValueType(Decimal, scale=2), Decimal("Infinity")),
        (ValueType(datetime), datetime(2024, 1, 1, tzinfo=UTC)),
        (ValueType(datetime, tz=True), datetime(2024, 1, 1)),
        (ValueType(time), time(1, tzinfo=UTC)),
        (ValueType(dict), {"a": float("nan")}),
    ],
)
def test_values_that_cannot_be_stored(value_type, value):
    """What SQLite would change or lose is refused with ValueError."""
    with pytest.raises(ValueError):
        SqliteBackend().dialect.codec(value_type).encode(value)


def test_equal_values_have_equal_texts():
    """1.5 and 1.50, or one moment in two zones, are one value."""
    dialect = SqliteBackend().dialect
    for value_type in (ValueType(Decimal), ValueType(Decimal, scale=3)):
        encode = dialect.codec(value_type).encode
        assert encode(Decimal("1.5")) == encode(Decimal("1.50")) and encode(Decimal("-0")) == encode(Decimal("0.00"))
    encode = dialect.codec(ValueType(datetime, tz=True)).encode
    assert encode(datetime(2024, 1, 1, 12, tzinfo=UTC)) == encode(
        datetime(2024, 1, 1, 13, tzinfo=timezone(timedelta(hours=1)))
    )


@pytest.mark.parametrize(
    "value_type", [ValueType(list, item=ValueType(int)), ValueType(int, size=64, unsigned=True), ValueType(complex)]
)
def test_types_that_do_not_exist(value_type):
    """A type that SQLite cannot hold is told when the mapping is made."""
    with pytest.raises(BindingError):
        SqliteBackend().dialect.codec(value_type)


# --- user-written SQL --------------------------------------------------------------------------------


class Colour(Enum):
    RED = "red"


def test_raw_translates_placeholders_and_values(connection):
    """%s and %(name)s work as in psycopg, and values are stored as columns of their type store them."""
    dialect = SqliteBackend().dialect
    sql, params = dialect.raw("SELECT %s, '100%%', %s", [Decimal("1.50"), Colour.RED])
    assert raw(connection, sql, params).rows == [("1.5", "100%", "red")]
    sql, params = dialect.raw("SELECT %(a)s, %(b)s, %(a)s", {"a": date(2024, 1, 2), "b": True, "c": 0})
    assert raw(connection, sql, params).rows == [("2024-01-02", 1, "2024-01-02")]
    assert dialect.raw("SELECT 'a%'", None) == ("SELECT 'a%'", None)


@pytest.mark.parametrize(
    "sql, params, message",
    [
        ("SELECT %s", [], "1 placeholders"),
        ("SELECT 1", [1], "0 placeholders"),
        ("SELECT %(a)s", {}, r"no parameter is given for %\(a\)s"),
        ("SELECT %(a)s", [1], "must be a dictionary"),
        ("SELECT %s", {"a": 1}, "must be a list or a tuple"),
        ("SELECT %s", "a", "must be a list, a tuple or a dictionary, not str"),
        ("SELECT %s, %(a)s", [1], "cannot be mixed"),
        ("SELECT 'a%'", [], "%% for a percent sign"),
    ],
)
def test_raw_refuses_what_does_not_fit(sql, params, message):
    """Placeholders and parameters that do not fit are told before anything is sent."""
    with pytest.raises(ProgrammingError, match=message):
        SqliteBackend().dialect.raw(sql, params)
