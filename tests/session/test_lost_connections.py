"""Connections that die: before a commit nothing was saved, in the middle of one nobody knows, and both are said."""

import os
import signal
import threading

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    ConnectionLost,
    Database,
    OperationalError,
    PoolTimeout,
    Required,
    RollbackException,
    SessionDoomed,
    TransactionError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.wire import WireCounter


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    return Note


@pytest.fixture
def db(postgres_url):
    db = Database(postgres_url)
    yield db
    db.close()


@pytest.fixture
def Note(db):
    Note = declare(db)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def wire(postgres_tcp):
    with WireCounter(postgres_tcp.host, postgres_tcp.port) as wire:
        yield wire


@pytest.fixture
def wired(wire, postgres_tcp):
    """The same database through a wire that can be cut."""
    user, password, name = postgres_tcp.user, postgres_tcp.password, postgres_tcp.database
    url = f"postgresql://{user}:{password}@127.0.0.1:{wire.port}/{name}?sslmode=disable&gssencmode=disable"
    db = Database(url)
    yield db
    db.close()


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def kill(db, url):
    """Let the server end the connection of the current session, and wait until it has."""
    pid = db.get("SELECT pg_backend_pid()")
    with psycopg.connect(url, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


# --- before the commit ------------------------------------------------------------------------------------


def test_a_killed_idle_connection_is_not_noticed(db, Note, postgres_url):
    """107. Connections that the server has ended between two scopes: the next scope works, and sends nothing more."""
    with db_session:
        kill(db, postgres_url)
    with sent(db) as spent, db_session:
        assert Note[1].text == "first"
    assert (spent.statements, spent.round_trips, spent.connections) == (1, 1, 1)


@pytest.mark.parametrize("verb", ["flush", "read", "execute"])
def test_a_connection_killed_within_a_transaction(db, Note, postgres_url, verb):
    """108, 103. The next statement raises ConnectionLost, everything after it SessionDoomed, and nothing is saved."""
    with pytest.raises(SessionDoomed) as caught, db_session:
        Note(text="before").flush()
        kill(db, postgres_url)
        Note(text="after")
        with pytest.raises(ConnectionLost, match="the connection to PostgreSQL was lost") as first:
            {"flush": flush, "read": lambda: Note[99], "execute": lambda: db.execute("SELECT 1")}[verb]()
        for then in (flush, commit, lambda: Note[98], lambda: db.select("SELECT 1")):
            with pytest.raises(SessionDoomed, match="ConnectionLost"):
                then()
    assert caught.value.__cause__ is first.value
    assert texts(db) == ["first"]


@pytest.mark.parametrize("pending", [False, True], ids=["flushed", "pending"])
def test_leaving_after_the_connection_was_killed(db, Note, postgres_url, pending):
    """108. A scope whose connection was killed cannot end well, and has saved nothing."""
    with pytest.raises(TransactionError), db_session:
        Note(text="before").flush()
        kill(db, postgres_url)
        if pending:
            Note(text="after")
    assert texts(db) == ["first"]
    with db_session:
        Note(text="works")
    assert texts(db) == ["first", "works"]


def test_rollback_after_the_connection_was_killed(db, Note, postgres_url):
    """108. After rollback() the session goes on with another connection, and saves what comes later, that alone."""
    with db_session:
        note = Note[1]
        note.text = "changed"
        flush()
        kill(db, postgres_url)
        with pytest.raises(ConnectionLost):
            db.execute("SELECT 1")
        rollback()
        assert note.text == "first"
        assert Note[1] is note
        note.likes = 5
        Note(text="later")
    assert rows(db, "SELECT text, likes FROM note ORDER BY text") == [("first", 5), ("later", 0)]


def test_rollback_that_finds_the_connection_dead(db, Note, postgres_url):
    """14. If it is ROLLBACK that finds it dead, that is said; all is rolled back anyway, and the session goes on."""
    with db_session:
        note = Note[1]
        note.text = "changed"
        flush()
        kill(db, postgres_url)
        with pytest.raises(RollbackException, match="ROLLBACK failed: the connection to PostgreSQL was lost"):
            rollback()
        assert note.text == "first"
        Note(text="later")
    assert texts(db) == ["first", "later"]


def test_a_connection_killed_between_reads(db, Note, postgres_url):
    """107. Within a scope there is no silent reconnect, not even for a read; rollback() is the way to go on."""
    with db_session:
        Note[1]
        kill(db, postgres_url)
        for _ in range(2):
            with pytest.raises(ConnectionLost):
                Note[2]
        rollback()
        assert Note.select().count() == 1


def test_retry_after_a_lost_connection(db, Note, postgres_url):
    """103. A connection that was lost before COMMIT was sent is an error that retry cures, on a new connection."""
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Note(text=f"run {len(runs)}").flush()
        if len(runs) == 1:
            kill(db, postgres_url)
        Note(text="more").flush()

    work()
    assert texts(db) == ["first", "more", "run 2"]


def test_a_session_killed_while_it_waits_for_a_lock(db, Note, postgres_url):
    """108. A statement that waits for a lock when its server process is ended: an error, and nothing is saved."""
    locked, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        Note.get_for_update(id=1)
        locked.set()
        assert done.wait(30)

    @db_session
    def wait():
        Note(text="lost").flush()
        pids.append(db.get("SELECT pg_backend_pid()"))
        locked.wait(30)
        db.execute("UPDATE note SET likes = 1")

    pids = []
    holder = threading.Thread(target=hold)
    holder.start()
    failure = []

    def expect_the_loss():
        with pytest.raises(ConnectionLost) as caught:
            wait()
        failure.append(caught.value)

    waiter = threading.Thread(target=expect_the_loss)
    assert locked.wait(30)
    waiter.start()
    with psycopg.connect(postgres_url, autocommit=True) as other:
        blocked = (
            "SELECT count(*) FROM pg_stat_activity "
            "WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
        )
        while other.execute(blocked).fetchone() != (1,):
            assert waiter.is_alive()
        other.execute("SELECT pg_terminate_backend(%s, 10000)", (pids[0],))
    waiter.join(30)
    done.set()
    holder.join(30)
    assert len(failure) == 1
    assert texts(db) == ["first"]


def test_an_interrupt_in_the_middle_of_a_statement(db, Note, postgres_url):
    """13. Ctrl-C while the server works: the error is KeyboardInterrupt, nothing is saved, nothing is left open."""

    def interrupt():
        with psycopg.connect(postgres_url, autocommit=True) as other:
            busy = "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE 'SELECT pg_sleep%'"
            while other.execute(busy).fetchone() != (1,):
                pass
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)  # a job in the background ignores it
    try:
        with pytest.raises(KeyboardInterrupt), db_session:
            Note(text="lost").flush()
            thread.start()
            db.select("SELECT pg_sleep(60)")
    finally:
        signal.signal(signal.SIGINT, before)
    thread.join(30)
    assert texts(db) == ["first"]
    open_ones = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND state <> 'idle' "
        "AND pid <> pg_backend_pid()"
    )
    with psycopg.connect(postgres_url, autocommit=True) as other:
        while other.execute(open_ones).fetchone() != (0,):  # the server notices a little later
            pass
    with db_session:
        Note(text="works")
    assert texts(db) == ["first", "works"]


# --- in the middle of the commit ------------------------------------------------------------------------------


def test_a_lost_reply_to_commit(db, Note, wire, wired):
    """63. COMMIT was done and its reply was lost: the error says that nobody knows; the row is there, once."""
    Wired = declare(wired)
    runs = []

    @db_session(retry=5, retry_exceptions=Exception)
    def work():
        runs.append(1)
        Wired(text="saved")
        wire.lose_reply_to("COMMIT")

    with pytest.raises(CommitOutcomeUnknown, match="look at the data before doing it again") as caught:
        work()
    assert isinstance(caught.value.__cause__, ConnectionLost)
    assert runs == [1]
    assert texts(db) == ["first", "saved"]
    with db_session:
        Wired(text="works")
    assert texts(db) == ["first", "saved", "works"]


def test_a_lost_reply_to_a_single_statement(db, Note, wire, wired):
    """63. The same for a commit that is one statement without BEGIN and COMMIT."""
    Wired = declare(wired)
    with pytest.raises(CommitOutcomeUnknown), db_session:
        Wired(text="saved")
        wire.lose_reply_to("INSERT")
    assert texts(db) == ["first", "saved"]


DIE = """
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    IF NEW.text LIKE '%die%' THEN
        PERFORM pg_terminate_backend(pg_backend_pid());
        PERFORM pg_sleep(10);
    END IF;
    RETURN NULL;
END $$
"""
AT_COMMIT = """
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON note DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION die()
"""


@pytest.mark.parametrize("number", [1, 2], ids=["single statement", "transaction"])
def test_a_server_that_dies_within_commit(db, Note, number):
    """63. The server ends the connection while COMMIT runs: the outcome is unknown; here nothing was saved."""
    with db_session:
        db.execute(DIE)
        db.execute(AT_COMMIT)
    with pytest.raises(CommitOutcomeUnknown), db_session:
        Note(text="die")
        if number == 2:
            Note[1].likes = 5
    assert rows(db, "SELECT text, likes FROM note") == [("first", 0)]


def test_nothing_is_done_on_top_of_an_unknown_commit(db, Note, wire, wired):
    """63. A program that swallows the error can read what is loaded, and nothing more: no second commit is tried."""
    Wired = declare(wired)
    with pytest.raises(SessionDoomed, match="nobody knows whether the last commit") as caught, db_session:
        note = Wired[1]
        note.likes = 5
        Wired(text="saved")
        wire.lose_reply_to("COMMIT")
        with pytest.raises(CommitOutcomeUnknown) as unknown:
            commit()
        assert note.text == "first"
        for verb in (flush, commit, lambda: Wired[2], lambda: wired.execute("DELETE FROM note")):
            with pytest.raises(SessionDoomed, match="nobody knows"):
                verb()
    assert caught.value.__cause__ is unknown.value
    assert rows(db, "SELECT text, likes FROM note ORDER BY text") == [("first", 5), ("saved", 0)]


def test_rollback_after_an_unknown_commit(db, Note, wire, wired):
    """63. After rollback() the session goes on with another connection, and sees what there is."""
    Wired = declare(wired)
    with db_session:
        Wired(text="saved")
        Wired(text="too")
        wire.lose_reply_to("COMMIT")
        with pytest.raises(CommitOutcomeUnknown):
            commit()
        rollback()
        assert Wired.select().count() == 3
        Wired(text="later")
    assert texts(db) == ["first", "later", "saved", "too"]


def test_objects_of_an_unknown_commit(db, Note, wire, wired):
    """63. Objects of a scope that ended so say it; they do not claim that it was rolled back."""
    Wired = declare(wired)
    with pytest.raises(CommitOutcomeUnknown), db_session:
        note = Wired[1]
        note.likes = 5
        Wired(text="saved")
        wire.lose_reply_to("COMMIT")
    with pytest.raises(TransactionError, match="its commit ended in CommitOutcomeUnknown"):
        note.likes = 6


# --- no connection to begin with ------------------------------------------------------------------------------


@pytest.fixture
def limited_url(postgres_tcp, Note):
    """The URL with a role that may have one connection at a time."""
    role = f"limited_{postgres_tcp.database}"
    with psycopg.connect(postgres_tcp.url, autocommit=True) as link:
        link.execute(f'CREATE ROLE "{role}" LOGIN CONNECTION LIMIT 1')
        link.execute(f'GRANT USAGE ON SCHEMA public TO "{role}"')
        link.execute(f'GRANT ALL ON note, note_id_seq TO "{role}"')
        yield postgres_tcp.url.replace("postgres@", f"{role}@", 1)
        link.execute(f'DROP OWNED BY "{role}"')
        link.execute(f'DROP ROLE "{role}"')


@pytest.mark.parametrize("number", [1, 2], ids=["single statement", "transaction"])
def test_a_commit_that_gets_no_connection_is_not_unknown(db, limited_url, number):
    """15, 63. A commit for which there was no connection has not happened: that is known, and worth a retry."""
    holder, other = Database(limited_url), Database(limited_url)
    for database in (holder, other):
        database.bound = declare_only(database)
    runs = []

    @db_session(retry=100)
    def work():
        runs.append(1)
        if len(runs) == 2:
            holder.close()  # which the server notices a little later
        for index in range(number):
            other.bound(text=f"saved {index}")

    with db_session:
        holder.bound[1]
    work()
    assert len(runs) >= 2
    assert texts(db) == ["first", *[f"saved {index}" for index in range(number)]]
    other.close()


def declare_only(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)

    db.generate_mapping(check_tables=False)
    return Note


def test_a_scope_can_try_again_to_get_a_connection(db, Note, postgres_url):
    """15. Without a connection nothing was sent, so nothing is lost: the same scope can commit later."""
    db = Database(postgres_url, max_size=1)
    Note = declare_only(db)
    taken, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        Note[1]
        taken.set()
        assert done.wait(30)

    holder = threading.Thread(target=hold, name="the holder")
    holder.start()
    assert taken.wait(30)
    patience, db.backend._timeout = db.backend._timeout, 0.01
    with db_session:
        Note(text="second")
        for verb in (flush, commit, lambda: db.execute("SELECT 1"), lambda: Note[1]):
            with pytest.raises(PoolTimeout, match="all 1 are in use, by: the holder"):
                verb()
        done.set()
        holder.join(30)
        db.backend._timeout = patience
        commit()
        Note(text="third")
    assert texts(db) == ["first", "second", "third"]
    db.close()


def test_a_refused_connection_in_the_middle_is_an_error_of_the_statement(wire, wired, db, Note):
    """15. A server that cannot be reached for the first statement of a scope is an OperationalError that says where."""
    Wired = declare(wired)
    wired.close()
    assert elsewhere(lambda: texts(db)) == ["first"]
    wire.refuse = True
    fresh = Database(f"postgresql://nobody:x@127.0.0.1:{wire.port}/none?sslmode=disable&gssencmode=disable")
    Fresh = declare_only(fresh)
    with (
        pytest.raises(OperationalError, match=rf"cannot connect to postgresql://nobody@127.0.0.1:{wire.port}/none"),
        db_session,
    ):
        Fresh(text="x")
    assert Wired is not Fresh
    fresh.close()
