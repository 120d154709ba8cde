"""Connections that the server ends, at every place of a scope: the same error from then on, and a clean end."""

import threading

import psycopg
import pytest

from dbsession import (
    ConnectionLost,
    Database,
    LockNotAvailable,
    OperationalError,
    SessionDoomed,
    TransactionError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.scope import stack
from tests.notes import declare_note
from tests.observing import rows, sent

pytestmark = pytest.mark.usefixtures("Note")


class Odd(Exception):
    pass


@pytest.fixture
def db(postgres_url):
    db = Database(postgres_url)
    yield db
    db.close()


@pytest.fixture
def Note(db):
    return declare_note(db)


@pytest.fixture
def server(postgres_url):
    """A connection of somebody else's, who ends other connections and looks at them."""
    with psycopg.connect(postgres_url, autocommit=True) as link:
        yield link


def pid(db):
    return db.get("SELECT pg_backend_pid()")


def kill(number, server):
    """End the server's process *number*, and wait until it has ended."""
    assert server.execute("SELECT pg_terminate_backend(%s, 10000)", (number,)).fetchone() == (True,)


def wait_for_the_end_of(number, server):
    """Wait until the server has ended its process *number* by itself."""
    while server.execute("SELECT 1 FROM pg_stat_activity WHERE pid = %s", (number,)).fetchone():
        pass


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def assert_clean(db, Note, server, kept=("first",)):
    """Nobody holds a transaction or a lock, and the next scope reads and writes, with nothing done for it."""
    assert stack.current_frame() is None
    held = server.execute(
        "SELECT state, query FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid() "
        "AND state NOT IN ('idle', 'starting')"
    )
    assert held.fetchall() == []
    locks = "SELECT count(*) FROM pg_locks WHERE pid <> pg_backend_pid() AND locktype IN ('relation', 'tuple')"
    assert server.execute(locks + " AND relation = 'note'::regclass").fetchone() == (0,)
    with db_session:
        Note[1].likes += 1
        Note(text="works")
    assert texts(db) == sorted([*kept, "works"])


# --- before the kill, at it, after it --------------------------------------------------------------------------


def _in_autocommit(db, Note):
    assert Note[1].text == "first"


def _in_a_transaction(db, Note):
    Note(text="lost").flush()


def _with_a_lock(db, Note):
    Note.get_for_update(id=1)


def _with_unsaved_changes(db, Note):
    Note(text="lost").flush()
    Note(text="lost, too")


STAGES = [
    ({}, _in_autocommit),
    ({}, _in_a_transaction),
    ({}, _with_a_lock),
    ({}, _with_unsaved_changes),
    ({"serializable": True}, _in_autocommit),
    ({"immediate": True}, _in_autocommit),
    ({"optimistic": False}, _in_a_transaction),
]
AT_EVERY_STAGE = pytest.mark.parametrize(
    "options, before", STAGES, ids=[f"{''.join(options) or 'plain'}{before.__name__}" for options, before in STAGES]
)


@AT_EVERY_STAGE
def test_every_call_says_the_same(db, Note, server, options, before):
    """108. After the kill each call says what happened, in the same words; then an error of the program leaves cleanly."""
    with pytest.raises(Odd) as caught, db_session(**options):
        number = pid(db)
        before(db, Note)
        kill(number, server)
        with pytest.raises(ConnectionLost, match="the connection to PostgreSQL was lost: ") as first:
            db.execute("SELECT 1")
        with sent(db) as spent:
            for verb in (
                lambda: Note[7],
                lambda: db.select("SELECT 1"),
                lambda: Note.select().count(),
                lambda: pid(db),
            ):
                with pytest.raises((ConnectionLost, SessionDoomed)) as again:
                    verb()
                assert str(first.value) in str(again.value)
                assert "call rollback() or leave the scope" in str(again.value)
        assert (spent.round_trips, spent.connections) == (0, 0)
        raise Odd
    assert getattr(caught.value, "__notes__", []) == []  # ROLLBACK was not tried in vain
    assert_clean(db, Note, server)


@AT_EVERY_STAGE
def test_swallowed_and_left(db, Note, server, options, before):
    """108, 62. Swallowing the loss does not save what was lost with it, nor what came after: the scope ends in an error."""
    with pytest.raises((ConnectionLost, SessionDoomed), match="administrator command"), db_session(**options):
        number = pid(db)
        before(db, Note)
        kill(number, server)
        with pytest.raises(ConnectionLost):
            db.select("SELECT 1")
        Note(text="after")
    assert_clean(db, Note, server)


@AT_EVERY_STAGE
@pytest.mark.parametrize("noticed", [True, False], ids=["noticed", "unnoticed"])
def test_an_exception_after_the_kill(db, Note, server, options, before, noticed):
    """108, 3. An exception that leaves the scope afterwards reaches the caller as it is."""
    odd = Odd()
    with pytest.raises(Odd) as caught, db_session(**options):
        number = pid(db)
        before(db, Note)
        kill(number, server)
        if noticed:
            with pytest.raises(ConnectionLost):
                db.select("SELECT 1")
        raise odd
    assert caught.value is odd
    assert_clean(db, Note, server)


@AT_EVERY_STAGE
def test_rollback_goes_on(db, Note, server, options, before):
    """108. rollback() is the way to go on: with another connection, in the same mode, and with what comes after alone."""
    with db_session(**options):
        dead = pid(db)
        before(db, Note)
        kill(dead, server)
        with pytest.raises(ConnectionLost):
            db.select("SELECT 1")
        rollback()
        assert pid(db) != dead
        isolation = "serializable" if options.get("serializable") else "read committed"
        assert db.get("SHOW transaction_isolation") == isolation
        assert Note[1].text == "first"
        Note(text="after")
    assert_clean(db, Note, server, kept=("after", "first"))


@AT_EVERY_STAGE
def test_retry_starts_over(db, Note, server, options, before):
    """103, 108. A function with retry runs again on a new connection, and is saved once."""
    runs = []

    @db_session(retry=1, **options)
    def work():
        runs.append(pid(db))
        before(db, Note)
        if len(runs) == 1:
            kill(runs[0], server)
            db.select("SELECT 1")
        Note(text="after")

    work()
    assert len(set(runs)) == 2
    with db_session:
        for note in Note.select(Note.likes == 0):
            if note.text.startswith("lost"):  # what the second run has saved
                note.delete()
    assert_clean(db, Note, server, kept=("after", "first"))


def test_a_write_after_a_loss_between_reads_is_not_unknown(db, Note, server):
    """63, 107. The loss was noticed by a read, so that the commit sends nothing: that is no unknown outcome, and retried."""
    runs = []

    @db_session(retry=1)
    def work():
        runs.append(1)
        Note[1]
        if len(runs) == 1:
            kill(pid(db), server)
            with pytest.raises(ConnectionLost):
                Note[2]
        Note(text="after")

    work()
    assert runs == [1, 1]
    assert_clean(db, Note, server, kept=("after", "first"))


@pytest.mark.parametrize("verb", [flush, commit, lambda: None], ids=["flush", "commit", "leave"])
@pytest.mark.parametrize("number", [1, 2], ids=["single statement", "transaction"])
def test_nothing_is_sent_over_a_link_that_has_broken(db, Note, server, verb, number):
    """63, 107. Whatever is saved after a noticed loss fails before it is sent, and the error says so by its class."""
    with sent(db) as spent, pytest.raises(ConnectionLost, match="nothing more can be sent") as caught, db_session:
        kill(pid(db), server)
        with pytest.raises(ConnectionLost):
            Note[1]
        for index in range(number):
            Note(text=f"after {index}")
        verb()
    assert spent.round_trips == 2  # pg_backend_pid(), and the read that found out
    assert type(caught.value) is ConnectionLost
    assert_clean(db, Note, server)


def test_a_kill_within_an_inner_scope(db, Note, server):
    """5, 108. The inner scope's connection is the outer one's: both are lost, and the next scope works."""
    with pytest.raises(SessionDoomed, match="ConnectionLost"), db_session:
        Note(text="outer").flush()
        with pytest.raises(ConnectionLost), db_session:
            Note(text="inner").flush()
            kill(pid(db), server)
            db.execute("SELECT 1")
        with pytest.raises(SessionDoomed, match="administrator command"):
            Note[1]
    assert_clean(db, Note, server)


# --- the server's own time limits --------------------------------------------------------------------------------

# The limit and what the transaction does until it is over; each ends the connection.
LIMITS = ["idle_in_transaction_session_timeout", "transaction_timeout"]


@pytest.mark.parametrize("limit", LIMITS)
def test_a_transaction_that_the_server_has_ended(db, Note, server, limit):
    """108. A transaction that was idle, or open, for too long is lost with its connection: said, and retried."""
    if not server.execute("SELECT 1 FROM pg_settings WHERE name = %s", (limit,)).fetchone():
        pytest.skip("this setting came with PostgreSQL 17")
    runs = []

    @db_session(retry=1)
    def work():
        Note(text="after").flush()
        runs.append(pid(db))
        if len(runs) == 1:
            db.execute(f"SET LOCAL {limit} = '10ms'")
            wait_for_the_end_of(runs[0], server)
            with pytest.raises(ConnectionLost) as caught:
                Note[7]
            assert caught.value.sqlstate in ("25P03", "25P04")
            raise caught.value
        assert db.get(f"SHOW {limit}") == "0"

    work()
    assert len(set(runs)) == 2
    assert_clean(db, Note, server, kept=("after", "first"))


def test_a_connection_that_was_idle_in_the_pool_for_too_long(db, Note, server):
    """107. idle_session_timeout ends a pooled connection: the next scope takes another one and sends nothing more."""
    with db_session as session:
        number = pid(db)
        (unit,) = session._core._units.values()
        unit.link._connection.link.execute("SET idle_session_timeout = '10ms'")
    wait_for_the_end_of(number, server)
    with sent(db) as spent, db_session:
        assert Note[1].text == "first"
    assert (spent.statements, spent.round_trips, spent.connections) == (1, 1, 1)
    assert_clean(db, Note, server)


@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "swallowed"])
def test_a_statement_that_takes_too_long(db, Note, server, swallow):
    """62, 94. statement_timeout and lock_timeout lose the transaction, not the connection; swallowed, nothing is saved."""
    for limit, sql, error in (
        ("statement_timeout", "SELECT pg_sleep(60)", OperationalError),
        ("lock_timeout", "UPDATE note SET likes = 5", LockNotAvailable),
    ):
        with server.transaction(), sent(db) as spent:
            server.execute("LOCK TABLE note IN EXCLUSIVE MODE") if limit == "lock_timeout" else None
            with pytest.raises((SessionDoomed, error)) as caught, db_session:
                db.execute(f"SET LOCAL {limit} = '10ms'")
                if swallow:
                    with pytest.raises(error):
                        db.execute(sql)
                else:
                    db.execute(sql)
            assert isinstance(caught.value, SessionDoomed) is swallow
            assert not isinstance(caught.value, ConnectionLost)
        assert spent.connections == 0
        with db_session:
            assert db.get(f"SHOW {limit}") == "0"
    assert_clean(db, Note, server)


# --- while it waits ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["flush", "lock", "raw"])
def test_killed_while_it_waits_for_a_lock(db, Note, server, how):
    """108. A flush, a lock or raw SQL waits behind somebody else when it is killed: lost, and the other one goes on."""
    waits = {
        "flush": lambda: flush(),
        "lock": lambda: Note.get_for_update(id=1),
        "raw": lambda: db.execute("DELETE FROM note"),
    }
    numbers, failures = [], []
    ready = threading.Event()

    def work():
        with pytest.raises(ConnectionLost) as caught, db_session:
            Note(text="lost").flush()
            Note.select().fetch()
            numbers.append(pid(db))
            ready.set()
            if how == "flush":
                Note[1].likes = 9
                Note(text="lost, too")
            waits[how]()
        failures.append(caught.value)

    with server.transaction():
        server.execute("SELECT 1 FROM note WHERE id = 1 FOR UPDATE")
        thread = threading.Thread(target=work)
        thread.start()
        assert ready.wait(30)
        with psycopg.connect(server.info.dsn, autocommit=True) as other:
            while other.execute("SELECT cardinality(pg_blocking_pids(%s))", (numbers[0],)).fetchone() == (0,):
                assert thread.is_alive()
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (numbers[0],))
        thread.join(30)
        server.execute("UPDATE note SET likes = 3 WHERE id = 1")
    assert len(failures) == 1
    assert rows(db, "SELECT text, likes FROM note") == [("first", 3)]
    assert_clean(db, Note, server)


def test_many_scopes_whose_connections_are_killed(db, Note, server):
    """107, 108. Killed again and again, in and between scopes: no connection is left over, and none is missing."""
    for number in range(30):
        try:
            with db_session:
                Note[1]
                if number % 3 == 0:
                    Note(text="lost").flush()
                if number % 2 == 0:
                    kill(pid(db), server)
                    db.execute("SELECT 1")
                raise Odd
        except (Odd, TransactionError):
            pass
    count = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'dbsession'"
    )
    assert server.execute(count).fetchone()[0] <= 2
    assert len(db.backend._holders) == 0
    assert_clean(db, Note, server)
