"""SQL that runs outside any transaction, in a scope that was opened for schema changes."""

import threading

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    Database,
    NestedScopeError,
    ProgrammingError,
    Required,
    TransactionError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


ONLY_OUTSIDE = {
    "sqlite": ["VACUUM"],
    "postgresql": ["VACUUM note", "CREATE INDEX CONCURRENTLY by_likes ON note (likes)"],
}


def test_what_runs_in_no_transaction(db, Note):
    """These are refused by the database in a transaction, and work so; each is one round trip."""
    for sql in ONLY_OUTSIDE[db.backend.dialect.name]:
        with pytest.raises(Exception, match="transaction"), db_session(ddl=True):
            db.execute(sql)
        with sent(db) as spent, db_session(ddl=True):
            db.execute(sql, autocommit=True)
        assert (spent.round_trips, spent.statements, spent.transactions) == (1, 1, 0)


def test_it_answers_as_execute_does(db, Note):
    """Parameters, rows, columns and numbers of rows."""
    with db_session(ddl=True):
        assert db.execute("UPDATE note SET likes = %s", (3,), autocommit=True).rowcount == 1
        result = db.execute("SELECT text, likes FROM note WHERE likes = %(n)s", {"n": 3}, autocommit=True)
    assert (result.rows, result.columns) == ([("first", 3)], ("text", "likes"))


def test_no_rollback_takes_it_back(db, Note):
    """It is committed when it returns, whatever becomes of the scope."""
    with pytest.raises(ZeroDivisionError), db_session(ddl=True):
        db.execute("UPDATE note SET likes = 3", autocommit=True)
        assert rows(db, "SELECT likes FROM note") == [3]
        1 / 0
    assert rows(db, "SELECT likes FROM note") == [3]


def test_before_and_after_a_transaction(db, Note):
    """The same scope may do both: one after the other, on one connection."""
    with sent(db) as spent, db_session(ddl=True):
        db.execute("UPDATE note SET likes = 1", autocommit=True)
        Note(text="second")
        commit()
        db.execute("UPDATE note SET likes = likes + 1", autocommit=True)
        db.execute("UPDATE note SET likes = likes + 1")
        rollback()
        db.execute("UPDATE note SET likes = likes * 10", autocommit=True)
    assert rows(db, "SELECT text, likes FROM note ORDER BY text") == [("first", 20), ("second", 10)]
    assert (spent.connections, spent.transactions) == (0, 2)


def test_loaded_objects_take_what_it_did(db, Note):
    """It may have changed anything, as any SQL of the session's own: that is no unrepeatable read."""
    with db_session(ddl=True):
        note = Note[1]
        assert note.likes == 0
        commit()
        db.execute("UPDATE note SET likes = 3", autocommit=True)
        assert Note.get(text="first") is note
        assert note.likes == 3


IN_THE_WAY = {
    "unsaved": lambda Note: Note(text="second"),
    "flushed": lambda Note: (Note(text="second"), flush()),
    "read": lambda Note: Note.select().count(),  # a scope for schema changes begins with its first statement
    "locked": lambda Note: Note.get_for_update(id=1),
}


@pytest.mark.parametrize("how", IN_THE_WAY)
def test_refused_while_something_waits_to_be_committed(db, Note, how):
    """It would run apart from that, or wait for its locks for ever. The scope goes on, and commit() is the way out."""
    with db_session(ddl=True):
        IN_THE_WAY[how](Note)
        with pytest.raises(TransactionError, match=r"call commit\(\) first"):
            db.execute("UPDATE note SET likes = 5", autocommit=True)
        commit()
        db.execute("UPDATE note SET likes = likes + 5", autocommit=True)
    assert rows(db, "SELECT likes FROM note WHERE text = 'first'") == [5]


def test_refused_in_other_scopes(db, Note):
    """What no rollback takes back has to be asked for by the scope."""
    with db_session, pytest.raises(ProgrammingError, match=r"db_session\(ddl=True\)"):
        db.execute("UPDATE note SET likes = 5", autocommit=True)
    assert rows(db, "SELECT likes FROM note") == [0]


def test_refused_in_inner_scopes(db, Note):
    """9. An inner scope that fails leaves nothing behind, and this could not be undone with it."""
    with db_session(ddl=True):
        with db_session, pytest.raises(NestedScopeError, match="outermost"):
            db.execute("UPDATE note SET likes = 5", autocommit=True)
        db.execute("UPDATE note SET likes = likes + 1", autocommit=True)
    assert rows(db, "SELECT likes FROM note") == [1]


@pytest.mark.parametrize("sql", ["COMMIT", "BEGIN", "", "  -- nothing"])
def test_refused_like_any_other_sql(db, Note, sql):
    """Transactions are the session's business here, too."""
    with db_session(ddl=True), pytest.raises(ProgrammingError):
        db.execute(sql, autocommit=True)


def test_a_failure_dooms_nothing(db, Note):
    """It was a transaction of its own: the error is raised, and the scope goes on."""
    with db_session(ddl=True):
        with pytest.raises(TransactionIntegrityError):
            db.execute("INSERT INTO note (id, text, likes) VALUES (1, 'again', 0)", autocommit=True)
        Note(text="second")
    assert rows(db, "SELECT text FROM note ORDER BY text") == ["first", "second"]


def test_a_connection_lost_in_the_middle(postgres_url):
    """63. Nobody here knows whether it was done, and it is not sent again."""
    db = Database(postgres_url)
    with db_session:
        db.execute("CREATE TABLE note (likes integer)")
    failure = []

    def work():
        with pytest.raises(CommitOutcomeUnknown, match="while the statement ran") as caught, db_session(ddl=True):
            db.execute("UPDATE note SET likes = 1", autocommit=True)
        failure.append(caught.value)

    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    with psycopg.connect(postgres_url) as holder, psycopg.connect(postgres_url, autocommit=True) as other:
        holder.execute("LOCK TABLE note")
        thread = threading.Thread(target=work)
        with sent(db) as spent:
            thread.start()
            while (found := other.execute(blocked).fetchone()) is None:
                assert thread.is_alive()
            other.execute("SELECT pg_terminate_backend(%s, 10000)", found)
            thread.join(60)
    assert len(failure) == 1
    assert spent.round_trips == 1
    db.close()
