"""Before COMMIT is sent, the connection is known to be alive: what died while it was idle is no unknown commit."""

import select

import psycopg
import pytest

from dbsession.backends.postgres import PostgresBackend
from dbsession.backends.statements import Kind, Statement
from dbsession.errors import ConnectionLost
from tests.wire import WireCounter

BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)
INSERT = Statement("INSERT INTO item VALUES (%s)", (1,), Kind.WRITE)


@pytest.fixture
def backend(postgres_url):
    backend = PostgresBackend(postgres_url)
    yield backend
    backend.close()


@pytest.fixture
def other(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as other:
        yield other


@pytest.fixture
def connection(backend, other):
    other.execute("CREATE TABLE item (id integer)")
    connection = backend.acquire()
    yield connection
    backend.release(connection, discard=True)


def raw(connection, sql):
    return connection.execute((Statement(sql, None, Kind.RAW),))[0]


def kill(connection, other):
    pid = connection.link.info.backend_pid
    assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


def wait_for_arrival(connection):
    assert select.select([connection.link.pgconn.socket], [], [], 30)[0]


BATCHES = {
    "transaction": ((BEGIN,), (INSERT, COMMIT)),
    "commit alone": ((BEGIN, INSERT), (COMMIT,)),
    "all in one": ((), (BEGIN, INSERT, COMMIT)),
    "autocommit": ((), (INSERT,)),
    "raw": ((), (Statement("INSERT INTO item VALUES (1)", None, Kind.RAW),)),
}


@pytest.mark.parametrize("name", BATCHES)
def test_a_connection_that_died_before_a_commit(backend, connection, other, name):
    """103. Nothing of the batch is sent, so nothing can have been committed, and the error says so."""
    before, batch = BATCHES[name]
    connection.execute(before)
    kill(connection, other)
    with pytest.raises(ConnectionLost, match="the connection to PostgreSQL was lost: terminating connection") as caught:
        connection.execute(batch)
    assert caught.value.commit_sent is False
    assert caught.value.sqlstate == "57P01"
    assert caught.value.statement is batch[0]
    assert isinstance(caught.value.original_exc, psycopg.errors.AdminShutdown)
    assert caught.value.__cause__ is caught.value.original_exc
    assert not connection.usable
    assert other.execute("SELECT count(*) FROM item").fetchone() == (0,)


def test_a_closed_connection(backend, connection, other):
    """The same for every later batch: it was not sent."""
    kill(connection, other)
    for _ in range(2):
        with pytest.raises(ConnectionLost) as caught:
            connection.execute((BEGIN, INSERT, COMMIT))
        assert caught.value.commit_sent is False


def test_a_batch_that_is_sent_and_lost(backend, connection, other):
    """What does not commit is not looked after first, and its error claims nothing."""
    connection.execute((BEGIN,))
    kill(connection, other)
    with pytest.raises(ConnectionLost) as caught:
        connection.execute((INSERT,))
    assert caught.value.commit_sent is True


def test_idle_in_transaction_session_timeout(backend, connection, other):
    """103. The server ends a session that sleeps in its transaction; its last word is read before COMMIT is sent."""
    raw(connection, "SET idle_in_transaction_session_timeout = 20")
    connection.execute((BEGIN,))
    connection.execute(
        (INSERT,)
    )  # not with BEGIN: psycopg ends a pipeline with a Flush, which stops the server's clock
    wait_for_arrival(connection)
    with pytest.raises(ConnectionLost, match="idle-in-transaction timeout") as caught:
        connection.execute((INSERT, COMMIT))
    assert (caught.value.sqlstate, caught.value.commit_sent) == ("25P03", False)
    assert other.execute("SELECT count(*) FROM item").fetchone() == (0,)


@pytest.mark.parametrize("name", BATCHES)
def test_a_notification_is_no_death(backend, connection, other, name):
    """What LISTEN brings is taken in, kept for whoever asks for it, and the commit goes on."""
    before, batch = BATCHES[name]
    raw(connection, "LISTEN channel")
    other.execute("NOTIFY channel, 'hello'")
    wait_for_arrival(connection)
    connection.execute(before)
    other.execute("NOTIFY channel, 'again'")
    if not before:
        wait_for_arrival(connection)
    connection.execute(batch)
    assert other.execute("SELECT count(*) FROM item").fetchone() == (1,)
    assert not connection.in_transaction
    if not before:
        heard = [notify.payload for notify in connection.link.notifies(timeout=0)]
        assert heard == ["hello", "again"]


def test_the_servers_last_word_is_enough(postgres_tcp, other):
    """103. The server says FATAL first and closes then; between the two the connection is dead already."""
    other.execute("CREATE TABLE item (id integer)")
    with WireCounter(postgres_tcp.host, postgres_tcp.port) as wire:
        wire.keep_open = True
        backend = PostgresBackend(
            f"host=127.0.0.1 port={wire.port} user={postgres_tcp.user} password={postgres_tcp.password} "
            f"dbname={postgres_tcp.database} sslmode=disable gssencmode=disable"
        )
        connection = backend.acquire()
        connection.execute((BEGIN, INSERT))
        kill(connection, other)
        wait_for_arrival(connection)
        with wire.trips() as trips, pytest.raises(ConnectionLost) as caught:
            connection.execute((INSERT, COMMIT))
        assert (caught.value.sqlstate, caught.value.commit_sent) == ("57P01", False)
        assert trips.count == 0
        backend.release(connection)
        backend.close()
