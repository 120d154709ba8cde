"""However a scope ends, its connection goes back with no transaction, no lock and no setting of its own."""

import threading
import time
from contextlib import suppress
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
    rollback,
    savepoint,
)
from dbsession.errors import OrmError
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent


class Odd(Exception):
    pass


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


# --- the ways to use a scope, and to leave it ---------------------------------------------------------------------


def unused(db, Note):
    with db_session:
        pass


def read(db, Note):
    with db_session:
        assert Note[1].text == "first"


def missed(db, Note):
    with db_session:
        assert Note.get(id=77) is None


def written(db, Note):
    with db_session:
        Note[1].likes += 1
        Note(text="new")


def one_statement(db, Note):
    with db_session:
        Note(text="new")


def one_refused_statement(db, Note):
    with db_session:
        Note(text="first")


def flushed(db, Note):
    with db_session:
        Note(text="new").flush()


def raised(db, Note):
    with db_session:
        Note(text="new")
        raise Odd


def raised_after_a_flush(db, Note):
    with db_session:
        Note(text="new").flush()
        raise Odd


def interrupted(db, Note):
    with db_session:
        Note(text="new").flush()
        raise KeyboardInterrupt


def allowed(db, Note):
    with db_session(allowed_exceptions=Odd):
        Note(text="new").flush()
        raise Odd


def refused_at_the_end(db, Note):
    with db_session:
        Note[1].likes = 5
        Note(text="first")


def refused_and_swallowed(db, Note):
    with db_session:
        Note(text="new").flush()
        with suppress(TransactionIntegrityError):
            Note(text="first").flush()


def refused_and_rolled_back(db, Note):
    with db_session:
        try:
            Note(text="first").flush()
        except TransactionIntegrityError:
            rollback()
        Note(text="new")


def conflict(db, Note):
    with db_session:
        Note[1].likes += 1
        Note(text="new")
        elsewhere(db_session(lambda: Note[1].set(likes=50)))


def wrong_sql(db, Note):
    with db_session:
        db.select("SELECT no_such")


def wrong_sql_in_a_transaction(db, Note):
    with db_session:
        db.execute("UPDATE note SET likes = 1")
        db.execute("UPDATE no_such SET likes = 1")


def wrong_sql_swallowed(db, Note):
    with db_session:
        Note(text="new").flush()
        with suppress(OrmError):
            db.execute("UPDATE no_such SET likes = 1")


def failed_at_commit(db, Note):
    with db_session:
        Note(text="new")
        db.execute("INSERT INTO child VALUES (99)")


def failed_at_commit_and_swallowed(db, Note):
    with db_session:
        db.execute("INSERT INTO child VALUES (99)")
        with suppress(OrmError):
            commit()


def hook_failed(db, Note):
    with db_session:
        Note(text="new", hook="fail")


def committed(db, Note):
    with db_session:
        Note(text="new")
        commit()
        Note[1].likes += 1
        flush()
        commit()


def rolled_back(db, Note):
    with db_session:
        Note(text="new").flush()
        rollback()


def serializable_read(db, Note):
    with db_session(serializable=True):
        Note.select().fetch()


def serializable_write(db, Note):
    with db_session(serializable=True):
        Note[1].likes += 1


def serializable_raised(db, Note):
    with db_session(serializable=True):
        Note[1].likes += 1
        flush()
        raise Odd


def immediate(db, Note):
    with db_session(immediate=True):
        Note[1]


def not_optimistic(db, Note):
    with db_session(optimistic=False):
        Note[1].likes += 1


def locked(db, Note):
    with db_session:
        Note.get_for_update(id=1)


def locked_and_raised(db, Note):
    with db_session:
        Note.select().for_update().fetch()
        raise Odd


def nested(db, Note):
    with db_session:
        Note(text="outer").flush()
        with db_session:
            Note(text="new").flush()


def nested_and_raised(db, Note):
    with db_session, db_session:
        Note(text="new").flush()
        raise Odd


def nested_and_refused(db, Note):
    with db_session:
        Note(text="new").flush()
        with db_session(serializable=True):
            pass


def inner_failed(db, Note):
    with db_session:
        Note(text="outer")
        with suppress(Odd), db_session:
            Note(text="new").flush()
            raise Odd


def savepoint_kept(db, Note):
    with db_session:
        Note(text="outer")
        with savepoint():
            Note(text="new")


def savepoint_undone(db, Note):
    with db_session:
        Note(text="outer")
        with suppress(TransactionIntegrityError), savepoint():
            Note(text="first")
        with suppress(OrmError), db_session(nested="savepoint"):
            db.execute("UPDATE no_such SET likes = 1")


def savepoint_undone_at_last(db, Note):
    with db_session, suppress(Odd), savepoint():
        Note(text="new").flush()
        raise Odd


def outer_failed_behind_a_savepoint(db, Note):
    with db_session:
        with savepoint():
            Note(text="new")
        raise Odd


def read_only(db, Note):
    with db_session(read_only=True):
        Note[1]


def read_only_refused(db, Note):
    with db_session(read_only=True):
        db.execute("UPDATE note SET likes = 1")


def repeatable_read(db, Note):
    with db_session(isolation="repeatable read"):
        Note[1].likes += 1


def limited(db, Note):
    with db_session(statement_timeout=30, lock_timeout=20):
        Note[1].likes += 1


def limited_and_raised(db, Note):
    with db_session(statement_timeout=30, lock_timeout=20):
        Note[1].likes += 1
        flush()
        raise Odd


def too_late(db, Note):
    with db_session(statement_timeout=0.02):
        Note[1].likes += 1
        flush()
        if db.backend.dialect.name == "postgresql":
            db.execute("SELECT pg_sleep(60)")
        numbers = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"
        db.execute(numbers)


def retried(db, Note):
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Note[1].likes += 1
        if len(runs) < 3:
            Note(text="first")

    work()


def retried_in_vain(db, Note):
    db_session(retry=2)(lambda: Note(text="first"))()


def bulk_delete(db, Note):
    with db_session:
        Note(text="new")
        Note.select(text="new").delete(bulk=True)


def settings_of_the_transaction(db, Note):
    with db_session:
        db.execute("UPDATE note SET likes = 1")
        if db.backend.dialect.name == "postgresql":
            db.execute("SET LOCAL search_path = pg_catalog")
            db.execute("SET CONSTRAINTS ALL IMMEDIATE")
            db.execute("SET TRANSACTION READ ONLY")
        else:
            db.execute("PRAGMA defer_foreign_keys = ON")


def settings_of_the_session(db, Note):
    with db_session:
        if db.backend.dialect.name == "postgresql":
            db.execute("SET search_path = pg_catalog, public")
            db.execute("SET default_transaction_isolation = 'serializable'")
            db.execute("SELECT pg_advisory_lock(42)")
            db.execute("LISTEN news")
            db.execute("CREATE TEMP TABLE scratch (a int)")
            db.execute("PREPARE plan AS SELECT 1")
            db.execute("DECLARE held CURSOR WITH HOLD FOR SELECT 1")
        else:
            for pragma in ("foreign_keys = OFF", "query_only = ON", "busy_timeout = 1", "recursive_triggers = ON"):
                db.select(f"PRAGMA {pragma}")


WAYS = [
    *(unused, read, missed, written, one_statement, one_refused_statement, flushed, raised, raised_after_a_flush),
    *(interrupted, allowed, refused_at_the_end, refused_and_swallowed, refused_and_rolled_back, conflict),
    *(wrong_sql, wrong_sql_in_a_transaction, wrong_sql_swallowed, failed_at_commit, failed_at_commit_and_swallowed),
    *(hook_failed, committed, rolled_back, serializable_read, serializable_write, serializable_raised, immediate),
    *(not_optimistic, locked, locked_and_raised, nested, nested_and_raised, nested_and_refused, retried),
    *(inner_failed, savepoint_kept, savepoint_undone, savepoint_undone_at_last, outer_failed_behind_a_savepoint),
    *(read_only, read_only_refused, repeatable_read, limited, limited_and_raised, too_late),
    *(retried_in_vain, bulk_delete, settings_of_the_transaction, settings_of_the_session),
]
EXPECTED = (Odd, KeyboardInterrupt, OrmError)


def leave(way, db, Note):
    """Go the *way*, and return the error that came out of it."""
    try:
        way(db, Note)
    except EXPECTED as error:
        return error
    return None


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
