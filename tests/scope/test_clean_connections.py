"""However a scope ends, its connection goes back with no transaction, no lock and no setting of its own."""

import threading
import time
from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    Database,
    NestedScopeError,
    OptimisticCheckError,
    Optional,
    PoolTimeout,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
)
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent
from tests.scope.ways_out import (
    WAYS,
    Odd,
    conflict,
    leave,
    read_only_refused,
    refused_and_rolled_back,
    retried,
    savepoint_undone,
    settings_of_the_session,
)


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        hook = Optional(str)

        def before_insert(self):
            if self.hook:
                raise Odd

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
        db.execute("CREATE TABLE child (parent INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)")
    return Note


# --- what the next one finds ------------------------------------------------------------------------------------


def settings_of(db):
    """Return everything that a connection can be set to."""
    with db_session:
        if db.backend.dialect.name == "postgresql":
            found = db.select("SELECT name, setting FROM pg_settings ORDER BY name")
            extras = [
                db.select("SELECT listening FROM pg_listening_channels() AS listening"),
                db.select("SELECT name FROM pg_cursors"),
                db.select("SELECT name FROM pg_prepared_statements WHERE from_sql"),
                db.select("SELECT relname FROM pg_class WHERE relpersistence = 't'"),
                db.select("SELECT classid FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()"),
            ]
            return list(map(tuple, found)), extras
        names = ("foreign_keys", "query_only", "busy_timeout", "defer_foreign_keys", "recursive_triggers")
        return [db.get(f"PRAGMA {name}") for name in (*names, "read_uncommitted", "synchronous")]


def held(url):
    """Return what sessions of other connections hold on a PostgreSQL server: transactions and locks."""
    with psycopg.connect(url, autocommit=True) as link:
        busy = link.execute(
            "SELECT state, query FROM pg_stat_activity "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() AND state NOT IN ('idle', 'starting')"
        ).fetchall()
        locks = link.execute(
            "SELECT locktype, mode, relation::regclass::text FROM pg_locks JOIN pg_database ON oid = database "
            "WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND (relation >= 16384 OR locktype IN ('advisory', 'transactionid'))"  # a new one looks at the catalogs
        ).fetchall()
    return busy + locks


@pytest.mark.parametrize("way", WAYS)
def test_the_connection_goes_back_clean(db, db_url, Note, way):
    """110, 85. No transaction, no lock, no setting stays; the next scope reads and writes, and nobody tidies up."""
    before = settings_of(db)
    for _ in range(2):
        leave(way, db, Note)
        assert stack.current_frame() is None
        if db.backend.dialect.name == "postgresql":
            deadline = time.monotonic() + 10  # the server's end of a connection that was closed lives a little longer
            while held(db_url) and time.monotonic() < deadline:
                pass
            assert held(db_url) == []
        assert settings_of(db) == before
        elsewhere(db_session(lambda: Note.select(text="new").delete(bulk=True)))
        with db_session:
            for note in Note.select(text="outer"):
                note.delete()
            Note[1].likes += 1
            Note(text="new")
        with db_session:
            Note.get(text="new").delete()
    assert len(getattr(db.backend, "_holders", ())) == 0


AT_A_COST = (refused_and_rolled_back, retried, savepoint_undone, read_only_refused)


@pytest.mark.parametrize("way", [way for way in WAYS if way not in (settings_of_the_session, conflict)])
def test_the_connection_is_used_again(db, Note, way):
    """110. No scope that fails, or is left in the middle, costs the next one a connection, but after a failed pipeline."""
    with db_session:
        Note[1]
    with sent(db) as spent:
        error = leave(way, db, Note)
        with db_session:
            Note[1]
    failed = (TransactionIntegrityError, SessionDoomed, OptimisticCheckError)
    is_refused = isinstance(error, failed) or way in AT_A_COST
    if db.backend.dialect.name == "sqlite" or not is_refused:
        assert spent.connections == 0
    else:
        assert spent.connections <= 3  # one for each failure: psycopg's cache of prepared statements is not trusted


# --- a pool of one ------------------------------------------------------------------------------------------------


@pytest.fixture
def narrow(postgres_url):
    """A database with one connection."""
    db = Database(postgres_url, max_size=1)

    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        hook = Optional(str)

        def before_insert(self):
            if self.hook:
                raise Odd

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
        db.execute("CREATE TABLE child (parent INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)")
    yield SimpleNamespace(db=db, Note=Note)
    db.close()


@pytest.mark.parametrize("way", [way for way in WAYS if way is not conflict])
def test_one_connection_is_enough(narrow, way):
    """109, 110. No way to use a scope, or to leave it, needs a second connection, or keeps the only one."""
    error = leave(way, narrow.db, narrow.Note)
    assert not isinstance(error, PoolTimeout) and not isinstance(getattr(error, "__cause__", None), PoolTimeout)
    with db_session:
        assert narrow.Note[1].text == "first"


def test_an_exhausted_pool_names_who_holds_it(narrow):
    """109. The error has the size of the pool, who holds its connections and what to do; the holder is not disturbed."""
    db, Note = narrow.db, narrow.Note
    taken, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        Note(text="held").flush()
        with db_session:  # joined: the same connection
            Note[1].likes += 1
            flush()
        taken.set()
        assert done.wait(30)

    holder = threading.Thread(target=hold, name="the slow report")
    holder.start()
    assert taken.wait(30)
    patience, db.backend._timeout = db.backend._timeout, 0.05
    for scope in (db_session, db_session(immediate=True), db_session(serializable=True)):
        with pytest.raises(PoolTimeout) as caught, scope:
            Note.select().fetch()
        message = str(caught.value)
        assert "became free in 0.05 seconds" in message
        assert "all 1 are in use, by: the slow report" in message
        assert "raise max_size" in message
    db.backend._timeout = patience
    done.set()
    holder.join(30)
    assert rows(db, "SELECT text, likes FROM note ORDER BY text") == [("first", 1), ("held", 0)]


def test_deeply_nested_scopes_share_a_connection(narrow):
    """109. Scopes that join take no connection of their own, however deep, in whatever form."""
    Note = narrow.Note

    @db_session
    def deeper(depth):
        Note(text=f"depth {depth}").flush()
        assert Note.select().count() == 2 + depth
        if depth < 20:
            deeper(depth + 1)
        else:
            with pytest.raises(NestedScopeError), db_session:
                commit()

    with sent(narrow.db) as spent:
        deeper(0)
    assert spent.connections == 0
    assert len(rows(narrow.db, "SELECT text FROM note")) == 22
