"""`db_session` as a block and as a decorator: what a scope takes, saves, undoes and gives back."""

import asyncio
from pathlib import Path

import psycopg
import pytest

from dbsession import (
    Database,
    NoScopeError,
    OperationalError,
    Required,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.backends.postgres import PostgresConnection
from dbsession.backends.sqlite import SqliteConnection
from dbsession.backends.statements import Kind
from dbsession.scope import stack
from tests.observing import elsewhere, rows, sent
from tests.wire import WireCounter


class Odd(Exception):
    pass


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    return Note


@pytest.fixture
def Note(db):
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    return Note


@pytest.fixture
def first(Note):
    """The key of a saved note."""
    with db_session:
        note = Note(text="first")
    return note.id


def texts(db):
    return sorted(rows(db, 'SELECT text FROM "note"'))


def states(server_url):
    """What the server says its other connections are doing."""
    with psycopg.connect(server_url, autocommit=True) as link:
        sql = (
            "SELECT state FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
            "AND application_name = 'dbsession'"
        )
        return [state for (state,) in link.execute(sql)]


# --- 1, 2: nothing for nothing, and a commit without a call ----------------------------------------------


def test_an_unused_scope_takes_no_connection(db_url):
    """1. A scope that does nothing takes no connection and sends nothing, also nested or decorated."""
    db = Database(db_url)
    declare(db)
    db.generate_mapping(check_tables=False)

    @db_session
    def nothing():
        with db_session:
            flush()

    with sent(db) as spent:
        with db_session as session:
            session.flush()
        nothing()
        with pytest.raises(Odd), db_session:
            raise Odd
    assert (spent.statements, spent.round_trips, spent.connections) == (0, 0, 0)
    db.close()


def test_changes_are_committed_without_a_call(db, Note, first):
    """2. A scope that ends well has saved what is new, what is changed and what is deleted."""
    with db_session:
        Note(text="second")
    with db_session:
        Note[first].text = "changed"
    assert texts(db) == ["changed", "second"]
    with db_session:
        Note[first].delete()
    assert texts(db) == ["second"]


def test_a_decorated_call_commits(db, Note):
    """2. So has a decorated function that returned."""

    @db_session
    def write(text):
        return Note(text=text)

    note = write("a")
    assert texts(db) == ["a"]
    assert (note.text, note.get_pk()) == ("a", note.id)


# --- 3, 4: an error -------------------------------------------------------------------------------------


def test_an_error_rolls_back_and_is_the_same_error(db, Note, first):
    """3. An exception that leaves the scope undoes all of it, flushed or not, and reaches the caller as it is."""
    original = Odd("why")

    @db_session
    def fail():
        Note[first].text = "changed"
        Note(text="flushed")
        flush()
        Note(text="not flushed")
        raise original

    with pytest.raises(Odd) as caught:
        fail()
    assert caught.value is original
    assert original.__cause__ is None and original.__context__ is None and not hasattr(original, "__notes__")
    assert caught.traceback[-1].name == "fail"
    assert texts(db) == ["first"]


def test_an_error_gives_the_connection_back(db, Note, first):
    """3. After an exception the connection goes back and is used again; no lock and no transaction stays."""
    with sent(db) as spent:
        for number in range(20):
            with pytest.raises(Odd), db_session:
                Note(text=f"{number}")
                flush()
                raise Odd
    assert spent.connections == 0
    elsewhere(db_session(lambda: Note(text="nobody holds a lock")))
    assert texts(db) == ["first", "nobody holds a lock"]


@pytest.mark.parametrize("allowed", [Odd, (ValueError, Odd), [Odd], Exception, lambda error: "why" in str(error)])
def test_an_allowed_exception_commits_and_goes_on(db, Note, allowed):
    """4. An exception that is listed as allowed, or said to be by a function, commits and still reaches the caller."""
    original = Odd("why")
    with pytest.raises(Odd) as caught, db_session(allowed_exceptions=allowed):
        Note(text="kept")
        raise original
    assert caught.value is original
    assert texts(db) == ["kept"]


def test_an_exception_that_is_not_allowed_rolls_back(db, Note):
    """4. Any other exception rolls back."""
    with pytest.raises(KeyError), db_session(allowed_exceptions=(Odd, ValueError)):
        Note(text="lost")
        raise KeyError
    assert texts(db) == []


def test_an_allowed_exception_does_not_hide_a_failed_commit(db, Note, first):
    """4. If the commit fails, its error is raised, with the allowed exception as what was being handled."""
    with pytest.raises(TransactionIntegrityError) as caught, db_session(allowed_exceptions=Odd):
        Note(text="first")
        raise Odd
    assert isinstance(caught.value.__context__, Odd) or isinstance(caught.value.__cause__.__context__, Odd)
    assert texts(db) == ["first"]


# --- 7: one scope after another --------------------------------------------------------------------------


def test_scopes_share_data_and_no_objects(Note, first):
    """7. A scope sees what the one before has committed, as an object of its own."""
    with db_session:
        note = Note[first]
        note.text = "changed"
    with db_session:
        again = Note[first]
        assert again is not note
        assert again.text == "changed"


# --- 8: outside -------------------------------------------------------------------------------------------


def outside(Note, db):
    """Return everything that needs a scope."""
    query = Note.select()
    return [
        lambda: Note[1],
        lambda: Note(text="a"),
        lambda: Note.get(id=1),
        lambda: Note.get(text="a"),
        lambda: Note.exists(text="a"),
        lambda: Note.get_for_update(id=1),
        query.fetch,
        query.first,
        query.count,
        lambda: list(Note),
        lambda: query.delete(bulk=True),
        lambda: query.update(text="b"),
        lambda: Note.select_by_sql("SELECT 1 AS id"),
        lambda: Note.get_by_sql("SELECT 1 AS id"),
        lambda: db.execute("SELECT 1"),
        lambda: db.select("SELECT 1"),
        lambda: db.get("SELECT 1"),
        lambda: db.exists("SELECT 1"),
        flush,
        commit,
        rollback,
    ]


def test_use_outside_a_scope_names_the_function(db, Note):
    """8. Whatever needs a scope says, without one, which function to decorate, and sends nothing."""
    with sent(db) as spent:
        for number, verb in enumerate(outside(Note, db)):

            def forgetful_function(verb=verb):
                return (verb(),)

            with pytest.raises(NoScopeError) as caught:
                forgetful_function()
            message = str(caught.value)
            assert "forgetful_function()" in message or "lambda" in message, (number, message)
            assert "@db_session" in message and "with db_session:" in message and Path(__file__).name in message
    assert spent.statements == 0


def test_use_outside_a_scope_names_the_line():
    """8. The message has the file and the line of the call."""
    with pytest.raises(NoScopeError) as caught:
        flush()
    line = caught.traceback[0].lineno + 1
    assert f"line {line} of {__file__}" in str(caught.value)


# --- 9, 10, 11: in the middle -----------------------------------------------------------------------------


def test_commit_in_the_middle(db, Note, first):
    """9. After commit() objects are the same, nothing is open, and the next write is a transaction of its own."""
    with db_session as session:
        note = Note[first]
        note.text = "changed"
        session.commit()
        assert texts(db) == ["changed"]
        elsewhere(db_session(lambda: Note(text="no lock is held")))
        assert Note[first] is note
        assert note.text == "changed"
        with sent(db) as spent:
            note.text = "again"
            flush()
        assert spent.transactions == 1
        rollback()
    assert texts(db) == ["changed", "no lock is held"]


def test_commit_in_the_middle_leaves_the_connection_idle(postgres_url):
    """9. After commit() the server sees no open transaction, until the next write."""
    db = Database(postgres_url)
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="a").flush()
        assert states(postgres_url) == ["idle in transaction"]
        commit()
        assert states(postgres_url) == ["idle"]
        Note(text="b").flush()
        assert states(postgres_url) == ["idle in transaction"]
    assert states(postgres_url) == ["idle"]
    db.close()


def test_commit_of_nothing_sends_nothing(db, Note, first):
    """10. commit() with no changes and no transaction sends nothing, also after reads, and twice."""
    with db_session:
        commit()
        assert Note[first].text == "first"
        with sent(db) as spent:
            commit()
            commit()
        assert spent.statements == 0
        Note(text="second")
        commit()
        with sent(db) as spent:
            commit()
        assert spent.statements == 0


def test_a_reading_scope_opens_no_transaction(postgres_url):
    """11. A scope that reads is not "idle in transaction", neither within nor after it."""
    db = Database(postgres_url)
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    with db_session:
        assert Note.select().fetch() == []
        assert states(postgres_url) == ["idle"]
    assert states(postgres_url) == ["idle"]
    with db_session(serializable=True):
        assert Note.select().fetch() == []
        assert states(postgres_url) == ["idle in transaction"]
    assert states(postgres_url) == ["idle"]
    db.close()


# --- 13, 14, 15: what can go wrong ------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit, GeneratorExit, asyncio.CancelledError])
def test_base_exceptions_roll_back(db, Note, first, kind):
    """13. KeyboardInterrupt, SystemExit and cancellation roll back and give the connection back, too."""
    with sent(db) as spent:
        with pytest.raises(kind), db_session:
            Note[first].text = "changed"
            flush()
            raise kind
        assert stack.current_frame() is None
        assert texts(db) == ["first"]
    assert spent.connections <= 1  # that of texts()


def test_an_error_of_rollback_is_attached(db, Note, first, monkeypatch):
    """14. If ROLLBACK fails the first error is raised, the second is a note of it, and the connection is discarded."""
    link = SqliteConnection if db.backend.dialect.name == "sqlite" else PostgresConnection
    execute = link.execute

    def fail_at_rollback(self, batch):
        if batch[0].kind is Kind.ROLLBACK:
            raise OperationalError("the line is dead")
        return execute(self, batch)

    with pytest.raises(Odd) as caught, db_session:
        Note[first].text = "changed"
        flush()
        monkeypatch.setattr(link, "execute", fail_at_rollback)
        raise Odd("first")
    monkeypatch.undo()
    assert str(caught.value) == "first"
    assert "rollback failed" in caught.value.__notes__[0] and "the line is dead" in caught.value.__notes__[0]
    with sent(db) as spent, db_session:
        assert Note[first].text == "first"
    assert spent.connections == 1


def test_a_killed_connection_does_not_hide_the_error(postgres_url):
    """14. The same with a connection that the server has ended: the user's error, and a next scope that works."""
    db = Database(postgres_url)
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    with pytest.raises(Odd) as caught, db_session:
        Note(text="lost").flush()
        with psycopg.connect(postgres_url, autocommit=True) as other:
            pid = db.get("SELECT pg_backend_pid()")
            other.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
        raise Odd
    assert "rollback failed" in caught.value.__notes__[0]
    with db_session:
        Note(text="works")
    assert texts(db) == ["works"]
    db.close()


def test_a_server_that_is_not_there_leaves_the_scope_clean(postgres_tcp):
    """15. If the first connection fails the error says so, nothing stays behind, and the next scope works."""
    with WireCounter(postgres_tcp.host, postgres_tcp.port) as wire:
        user, password, name = postgres_tcp.user, postgres_tcp.password, postgres_tcp.database
        db = Database(f"postgresql://{user}:{password}@127.0.0.1:{wire.port}/{name}?sslmode=disable&gssencmode=disable")
        Note = declare(db)
        db.generate_mapping(check_tables=False)
        wire.refuse = True
        for scope in (db_session, db_session(immediate=True), db_session(serializable=True)):
            with pytest.raises(OperationalError, match="cannot connect to"), scope:
                Note.select().fetch()
            with pytest.raises(OperationalError, match="cannot connect to"), scope:
                Note(text="a")
            assert stack.current_frame() is None
        wire.refuse = False
        db.create_tables()
        with db_session:
            Note(text="works")
        assert texts(db) == ["works"]
        db.close()


def test_the_scope_goes_on_after_a_failed_connect(tmp_path):
    """15. Nothing was sent, so nothing is lost: the scope can try again, in a transaction as it should be."""
    folder = tmp_path / "data"
    folder.mkdir()
    db = Database(f"sqlite:///{folder}/notes.db")
    Note = declare(db)
    db.generate_mapping(create_tables=True)
    db.close()
    db = Database(f"sqlite:///{folder}/notes.db")
    Note = declare(db)
    db.generate_mapping(check_tables=False)
    with pytest.raises(Odd), db_session:
        note = Note(text="a")
        folder.rename(tmp_path / "away")
        with pytest.raises(OperationalError, match=r"cannot open sqlite:///.*notes\.db"):
            flush()
        (tmp_path / "away").rename(folder)
        flush()
        assert note.id == 1
        raise Odd
    assert texts(db) == []
    with db_session:
        Note(text="b")
    assert texts(db) == ["b"]
    db.close()
