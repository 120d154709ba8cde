"""What a scope asks of its transactions: timeouts, no writes. It holds in the scope, and the next one has none of it."""

import threading
from contextlib import contextmanager

import pytest

from dbsession import (
    Database,
    LockNotAvailable,
    OperationalError,
    Required,
    SessionDoomed,
    commit,
    db_session,
    rollback,
)
from dbsession.errors import OrmError
from tests.conftest import SELECTED
from tests.observing import rows

ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n"
SLOW = {"sqlite": ENDLESS, "postgresql": "SELECT pg_sleep(60)"}
SETTINGS = {
    "postgresql": ["SHOW statement_timeout", "SHOW lock_timeout", "SHOW default_transaction_read_only"],
    "sqlite": ["PRAGMA busy_timeout", "PRAGMA query_only", "PRAGMA foreign_keys"],
}


def declare(db):
    class Note(db.Entity):
        text = Required(str)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def Note(db):
    return declare(db)


def slow(db):
    return db.select(SLOW[db.backend.dialect.name])


def settings(db):
    with db_session:
        return [db.get(sql) for sql in SETTINGS[db.backend.dialect.name]]


@contextmanager
def holding(Note):
    """Another scope holds the lock of the row, and on SQLite that of the database."""
    has_it, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        Note.get_for_update(id=1)
        has_it.set()
        assert done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    assert has_it.wait(60)
    try:
        yield
    finally:
        done.set()
        thread.join(60)


@pytest.fixture
def locked(Note):
    with holding(Note):
        yield


def test_statement_timeout(db, Note):
    """94. A statement that takes longer is an error that names the option; nothing of the scope is saved."""
    with pytest.raises(OperationalError, match="statement_timeout"), db_session(statement_timeout=0.05):
        Note(text="second").flush()
        slow(db)
    assert rows(db, "SELECT text FROM note") == ["first"]


def test_statement_timeout_in_each_transaction(db, Note):
    """94. It is there again after commit() and after rollback()."""
    with db_session(statement_timeout=0.05):
        for end in (commit, rollback):
            Note(text="another").flush()
            end()
            with pytest.raises(OperationalError, match="statement_timeout"):
                slow(db)
            rollback()


def test_statement_timeout_of_a_write(db, Note):
    """94. SQLite rolls back all when it interrupts a write: the session is doomed, and rollback() frees it."""
    if db.backend.dialect.name != "sqlite":
        write = "INSERT INTO note (text, likes) SELECT 'slow', 0 FROM pg_sleep(60)"
    else:
        write = f"INSERT INTO note (text, likes) SELECT 'slow', ({ENDLESS})"
    with db_session(statement_timeout=0.05):
        Note(text="lost").flush()
        with pytest.raises(OperationalError, match="statement_timeout"):
            db.execute(write)
        with pytest.raises(SessionDoomed):
            Note.select().count()
        rollback()
        Note(text="second")
    assert rows(db, "SELECT text FROM note ORDER BY text") == ["first", "second"]


def test_lock_timeout(db, Note, locked):
    """94. Who waits longer for a lock gets LockNotAvailable."""
    with pytest.raises(LockNotAvailable), db_session(lock_timeout=0.05):
        Note.get_for_update(id=1)


def test_lock_timeout_of_a_flush(db, Note, locked):
    """94. The same where it is a change that has to wait, when it is saved."""
    with pytest.raises(LockNotAvailable), db_session(lock_timeout=0.05):
        Note[1].likes = 5


def test_read_only(db, Note):
    """The database itself refuses to write; reading is one transaction."""
    with db_session(read_only=True):
        assert Note[1].text == "first"
        assert Note.select().count() == 1
    with pytest.raises(OrmError, match=r"read[-_]?only"), db_session(read_only=True):
        db.execute("UPDATE note SET likes = 5")
    with pytest.raises(OrmError, match=r"read[-_]?only"), db_session(read_only=True):
        Note(text="second")
    with db_session:
        Note[1].likes = 1
    assert rows(db, "SELECT text, likes FROM note") == [("first", 1)]


class Leave(Exception):
    pass


@pytest.mark.parametrize("end", ["commit", "rollback", "doomed"])
@pytest.mark.parametrize(
    "options",
    [{"statement_timeout": 20}, {"lock_timeout": 2}, {"read_only": True}, {"ddl": True}],
    ids=lambda options: next(iter(options)),
)
def test_nothing_is_left(db, Note, options, end):
    """110. However the scope ends, the connection has its own settings again when the next one gets it."""
    before = settings(db)
    connections = db.counters.connections
    try:
        with db_session(**options):
            assert Note[1].text == "first"
            if end == "rollback":
                raise Leave
            if end == "doomed":
                db.execute("SELECT a FROM nowhere")
    except (Leave, OrmError):
        pass
    assert settings(db) == before
    assert db.counters.connections == connections


@pytest.fixture
def patient(db_url):
    """A database in which whoever waits for a lock waits longer than a test may take."""
    db = Database(db_url, **({"timeout": 3600} if db_url.startswith("sqlite") else {}))
    yield db
    db.close()


@pytest.mark.parametrize("db_url", ["sqlite-file", *SELECTED], indirect=True)
def test_nowait(patient):
    """94. Who does not want to wait for a lock hears at once that it is taken; the scope can go on without it."""
    Note = declare(patient)
    with holding(Note), db_session:
        with pytest.raises(LockNotAvailable):
            Note.get_for_update(id=1, nowait=True)
        rollback()
    with db_session:
        assert Note.get_for_update(id=1, nowait=True).text == "first"
        Note(text="second")
    assert rows(patient, "SELECT text FROM note ORDER BY text") == ["first", "second"]
