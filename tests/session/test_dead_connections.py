"""A pooled connection that dies just before it is used: what can do no harm is sent once more, the rest is told truly."""

import threading

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    ConnectionLost,
    Database,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.errors import OperationalError
from tests.notes import declare_note
from tests.observing import rows, sent


@pytest.fixture
def db(postgres_url):
    db = Database(postgres_url)
    yield db
    db.close()


@pytest.fixture
def Note(db):
    return declare_note(db)


@pytest.fixture
def other(postgres_url):
    with psycopg.connect(postgres_url, autocommit=True) as other:
        yield other


def notes(db):
    return rows(db, "SELECT text, likes FROM note ORDER BY text")


def end(other, pid):
    assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


@pytest.fixture
def die(db, other, monkeypatch):
    """Let the next connections be dead when they are used, though they lived when they were taken."""
    acquire = db.backend.acquire

    def die(times=1):
        left = [None] * times

        def taken():
            connection = acquire()
            if left:
                left.pop()
                end(other, connection.link.info.backend_pid)
            return connection

        monkeypatch.setattr(db.backend, "acquire", taken)

    return die


# --- dead before the batch was sent -------------------------------------------------------------------


READS = {
    "get": lambda Note: Note[1].text,
    "query": lambda Note: Note.select().first().text,
    "lock": lambda Note: Note.get_for_update(id=1).text,
}


@pytest.mark.parametrize("how", READS)
@pytest.mark.parametrize("options", [{}, {"serializable": True}, {"lock_timeout": 5}], ids=["plain", *"sl"])
def test_a_first_batch_that_saves_nothing(db, Note, die, how, options):
    """107. A read, with BEGIN or without, is sent again over another connection, and the session goes on with that."""
    die()
    with sent(db) as spent, db_session(**options):
        assert READS[how](Note) == "first"
        Note[1].likes = 5
    assert spent.connections == 1
    assert notes(db) == [("first", 5)]


def test_a_first_batch_that_writes_and_does_not_commit(db, Note, die):
    """107. BEGIN and INSERT: the server has undone what it did of it, so it is sent again, and saved once."""
    die()
    with db_session:
        note = Note(text="second")
        flush()
        note.likes = 1
        rolled_back = Note(text="third")
        assert {note.id, rolled_back.id} >= {2}
    assert notes(db) == [("first", 0), ("second", 1), ("third", 0)]


FOUND_DEAD = {
    "autocommit": lambda _, Note: Note(text="new"),
    "commit": lambda _, Note: (Note(text="new"), Note(text="newer")),
    "select": lambda db, _: db.select("SELECT 1"),
}


@pytest.mark.parametrize("how", FOUND_DEAD)
def test_a_first_batch_that_may_commit_is_not_sent_to_the_dead(db, Note, die, how):
    """107. The connection is looked at right before such a batch is sent; so it is known to have done nothing."""
    die()
    with sent(db) as spent, db_session:
        FOUND_DEAD[how](db, Note)
    assert spent.connections == 1
    saved = {"autocommit": ["new"], "commit": ["new", "newer"], "select": []}[how]
    assert [text for text, _ in notes(db)] == ["first", *saved]


def test_a_second_death(db, Note, die):
    """107. It is tried once more, not for ever: the second loss is an error."""
    die(times=2)
    with sent(db) as spent, pytest.raises(ConnectionLost), db_session:
        Note[1]
    assert spent.round_trips == 2
    with db_session:
        assert Note[1].text == "first"


def test_no_other_connection_can_be_had(db, Note, die, monkeypatch):
    """15. If the server is gone, that is the error; nothing has happened, and the scope can try again."""
    die()
    acquire, taken = db.backend.acquire, []

    def refuse():
        taken.append(None)
        if len(taken) == 2:
            raise OperationalError("cannot connect")
        return acquire()

    monkeypatch.setattr(db.backend, "acquire", refuse)
    with db_session:
        with pytest.raises(OperationalError, match="cannot connect"):
            Note(text="second").flush()
        Note(text="third")
    assert [text for text, _ in notes(db)] == ["first", "second", "third"]


def test_only_the_first_batch_of_a_connection(db, Note, other):
    """107. Where the session has used the connection, it hears of the loss, whatever is sent."""
    with sent(db) as spent, db_session:
        Note[1]
        end(other, db.get("SELECT pg_backend_pid()"))
        with pytest.raises(ConnectionLost):
            Note[2]
        rollback()
    assert (spent.statements, spent.connections) == (3, 0)


def test_after_a_rollback_the_next_connection_is_new(db, Note, other, die):
    """107. rollback() gave the lost connection up; the first batch of the next one is a first batch again."""
    with db_session:
        Note[1]
        end(other, db.get("SELECT pg_backend_pid()"))
        with pytest.raises(ConnectionLost):
            Note[2]
        rollback()
        die()
        assert Note.select().count() == 1


# --- dead while the batch was under way -----------------------------------------------------------------


def blocked(other):
    """Wait until a session waits for a lock, and return its process."""
    waiting = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND cardinality(pg_blocking_pids(pid)) > 0"
    )
    while (found := other.execute(waiting).fetchone()) is None:
        pass
    return found[0]


def run_blocked(postgres_url, other, work):
    """Run *work* in a thread against a locked table, and end its server process; then unlock the table."""
    outcome = []

    def target():
        try:
            outcome.append(work())
        except Exception as error:
            outcome.append(error)

    with psycopg.connect(postgres_url) as holder:
        holder.execute("LOCK TABLE note IN ACCESS EXCLUSIVE MODE")
        thread = threading.Thread(target=target)
        thread.start()
        end(other, blocked(other))
        holder.rollback()
    thread.join(60)
    assert not thread.is_alive()
    return outcome[0]


@pytest.mark.parametrize("how", READS)
def test_lost_in_the_middle_of_a_read(db, Note, postgres_url, other, how):
    """107. The server died while it worked on the first batch of a session: a read is sent again."""

    @db_session
    def work():
        return READS[how](Note)

    with sent(db) as spent:
        assert run_blocked(postgres_url, other, work) == "first"
    assert (spent.round_trips, spent.connections) == ({"lock": 3}.get(how, 2), 1)


def test_lost_in_the_middle_of_a_flush(db, Note, postgres_url, other):
    """107. So is what has begun a transaction and not asked to commit it; it is saved once."""

    @db_session
    def work():
        Note(text="second")
        flush()

    run_blocked(postgres_url, other, work)
    assert notes(db) == [("first", 0), ("second", 0)]


ONCE = {
    "autocommit": (CommitOutcomeUnknown, lambda _, Note: (Note(text="new"), commit())),
    "commit": (CommitOutcomeUnknown, lambda _, Note: (Note(text="new"), Note(text="newer"), commit())),
    "select": (ConnectionLost, lambda db, _: db.select("SELECT likes FROM note")),
}


@pytest.mark.parametrize("how", ONCE)
def test_lost_in_the_middle_of_what_could_have_committed(db, Note, postgres_url, other, how):
    """107, 63. That is never sent twice: nobody here knows what it has done."""
    error, verb = ONCE[how]

    @db_session
    def work():
        verb(db, Note)

    with sent(db) as spent:
        assert type(run_blocked(postgres_url, other, work)) is error
    assert (spent.round_trips, spent.connections) == (1, 0)
    assert notes(db) == [("first", 0)]


# --- dead before the commit ---------------------------------------------------------------------------


def test_dead_before_the_commit_of_an_open_transaction(db, Note, other):
    """103. The transaction is lost, and known to be: an ordinary error, which is no unknown commit."""
    with pytest.raises(ConnectionLost) as caught, db_session:
        Note(text="second").flush()
        end(other, db.get("SELECT pg_backend_pid()"))
        Note(text="third")
    assert caught.value.commit_sent is False
    assert notes(db) == [("first", 0)]


@pytest.mark.parametrize("number", [1, 2], ids=["autocommit", "transaction"])
def test_dead_before_a_commit_behind_reads(db, Note, other, number):
    """103. The same where nothing but reads came before it."""
    with pytest.raises(ConnectionLost) as caught, db_session:
        Note[1].likes = 1
        end(other, db.get("SELECT pg_backend_pid()"))
        if number == 2:
            Note(text="second")
    assert caught.value.commit_sent is False
    assert notes(db) == [("first", 0)]


def test_retry_after_a_death_before_the_commit(db, Note, other):
    """103, 97. It is retried like any conflict, in a new session on a new connection; the work is saved once."""
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Note(text="second").flush()
        if len(runs) == 1:
            end(other, db.get("SELECT pg_backend_pid()"))

    work()
    assert len(runs) == 2
    assert notes(db) == [("first", 0), ("second", 0)]
