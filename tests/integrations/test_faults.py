"""The n-th statement or commit fails, or the connection breaks; what follows is what follows in production."""

from __future__ import annotations

import pytest

from dbsession import (
    CommitOutcomeUnknown,
    ConnectionLost,
    DatabaseError,
    DataError,
    DeadlockDetected,
    InternalError,
    LockNotAvailable,
    NotSupportedError,
    OperationalError,
    OptimisticCheckError,
    ProgrammingError,
    SerializationConflict,
    SessionDoomed,
    TransactionIntegrityError,
    db_session,
    flush,
    on_commit,
    on_rollback,
    rollback,
    savepoint,
)
from dbsession.backends.statements import Kind, Statement
from dbsession.integrations.testing import fail_commit, fail_statement, lose_connection, recorded, rolled_back
from dbsession.session.taps import tapped
from dbsession.session.transaction import COMMIT, ROLLBACK
from tests.observing import rows, sent

ERRORS = [
    SerializationConflict,
    DeadlockDetected,
    LockNotAvailable,
    TransactionIntegrityError,
    DataError,
    ProgrammingError,
    NotSupportedError,
    OperationalError,
    InternalError,
]


@pytest.fixture(params=["plain", "rolled back"])
def block(request, db, Account):
    """Faults are tried without and within rolled_back, which is to make no difference."""
    with rolled_back(*[db] * (request.param == "rolled back")):
        yield


def names(Account):
    with db_session:
        return sorted(account.name for account in Account.select())


def on_postgres(db):
    return db.backend.dialect.name == "postgresql"


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_statements(db, Account, block, error):
    """129. The statement fails with an error of that class, as the database would raise it, and its scope is undone."""
    with pytest.raises(error) as caught, fail_statement(db, error=error), db_session:
        Account(name="a")
        flush()
    assert type(caught.value) is error
    assert caught.value.sql.split()[0] in {"INSERT", "WITH"}
    if on_postgres(db):
        assert caught.value.sqlstate or caught.value.original_exc.sqlstate
    assert names(Account) == []


@pytest.mark.parametrize("error", ERRORS)
def test_errors_of_commits(db, Account, block, error):
    """129. The commit fails with an error of that class: nothing was saved, on_rollback hooks run."""
    ran = []
    with pytest.raises(error) as caught, fail_commit(db, error=error), db_session:
        on_commit(lambda: ran.append("committed"))
        on_rollback(lambda: ran.append("rolled back"))
        Account(name="a")
        flush()
        Account(name="b")
    assert type(caught.value) is error
    assert ran == ["rolled back"]
    assert names(Account) == []


def test_a_single_write_is_a_commit(db, Account, block):
    """129. A scope that saves by one statement in autocommit commits with it."""
    with pytest.raises(SerializationConflict), fail_commit(db), db_session:
        Account(name="a")
    assert names(Account) == []


def test_the_nth_statement(db, Account, block):
    """129. BEGIN, COMMIT and savepoints are not counted; what came before is done, what comes after is not sent."""
    with recorded(db) as recording, fail_statement(db, n=3) as fault, db_session:
        Account(name="a")
        flush()
        Account(name="b")
        flush()
        Account(name="c")
        with pytest.raises(SerializationConflict) as caught:
            flush()
        with pytest.raises(SessionDoomed):
            Account.select().count()
        rollback()
        Account(name="d")
    assert "made by fail_statement(): statement 3" in caught.value.__notes__
    assert fault.times_reached == 1
    assert len(recording.queries) == 4
    assert names(Account) == ["d"]


def test_a_pattern(db, Account, block):
    """129. With matching= only statements whose SQL has the pattern are counted."""
    with fail_statement(db, matching=r"^update\b"), db_session:
        account = Account(name="a")
        flush()
        Account.select().count()
        account.balance = 1
        with pytest.raises(SerializationConflict):
            flush()
        rollback()
    assert names(Account) == []


def test_each_from_the_nth_on(db, Account, block):
    """129. Times= says how many in a row fail; None means all of them."""
    outcomes = []
    with fail_statement(db, n=2, times=2, error=LockNotAvailable):
        for name in "abcd":
            try:
                with db_session:
                    Account(name=name)
                    flush()
            except LockNotAvailable:
                outcomes.append(name)
    with fail_commit(db, times=None) as fault:
        for name in "efg":
            with pytest.raises(SerializationConflict), db_session:
                Account(name=name)
                flush()
    assert outcomes == ["b", "c"]
    assert fault.times_reached == 3
    assert names(Account) == ["a", "d"]


@pytest.mark.parametrize("fault", [fail_statement, fail_commit])
def test_retries_go_through(db, Account, block, fault):
    """129. With retry= a scope survives the fault, and its work is saved once."""
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        Account(name="a")
        flush()
        Account(name="b")

    with fault(db, times=2):
        work()
    assert len(runs) == 3
    assert names(Account) == ["a", "b"]


def test_a_fault_in_an_inner_scope(db, Account, block):
    """129. A statement that fails in an inner scope is undone alone, where its savepoint was set before."""
    with db_session:
        Account(name="outer")
        flush()
        with pytest.raises(TransactionIntegrityError), savepoint():
            with fail_statement(db, matching="account", error=TransactionIntegrityError):
                Account(name="inner")
                flush()
        Account(name="after")
    assert names(Account) == ["after", "outer"]


def test_a_read_that_fails(db, Account, block):
    """129. A read that fails dooms a transaction on PostgreSQL, as any failed statement; SQLite's goes on."""
    with db_session:
        Account(name="a")
        flush()
        with fail_statement(db, matching="^select", error=OperationalError), pytest.raises(OperationalError):
            Account.select().count()
        if on_postgres(db):
            with pytest.raises(SessionDoomed):
                Account.select().count()
            rollback()
        else:
            assert Account.select().count() == 1
    assert names(Account) == ([] if on_postgres(db) else ["a"])


def test_errors_of_ones_own(db, Account, block):
    """129. An error that no database raises is raised as it is; the transaction is lost all the same on PostgreSQL."""
    mine = OptimisticCheckError("somebody was faster")
    with pytest.raises(OptimisticCheckError) as caught, fail_statement(db, error=mine), db_session:
        Account(name="a")
        flush()
    assert caught.value is mine
    with pytest.raises(ZeroDivisionError), fail_statement(db, error=ZeroDivisionError), db_session:
        Account.select().count()
    assert names(Account) == []


def test_an_interrupt(db, Account, block):
    """129. A KeyboardInterrupt can be tried out; nothing is saved, and the database works afterwards."""
    with pytest.raises(KeyboardInterrupt), fail_statement(db, n=2, error=KeyboardInterrupt), db_session:
        Account(name="a")
        flush()
        Account(name="b")
        flush()
    assert names(Account) == []


def test_sqlite_that_rolls_back_by_itself(db, Account):
    """129. An error with transaction_lost=True, as of a full disk, leaves no transaction behind."""
    full = OperationalError("the disk is full", transaction_lost=True)
    with pytest.raises(OperationalError) as caught, fail_statement(db, n=2, error=full), db_session:
        Account(name="a")
        flush()
        Account(name="b")
        flush()
    assert caught.value is full
    assert names(Account) == []


def test_the_object_of_the_statement_is_named(db, Account, block):
    """129. The error names the object whose statement it was, as that of a real one does."""
    with db_session:
        first, second = Account(name="a"), Account(name="b")
        flush()
        first.balance, second.name = 1, "c"
        with fail_statement(db, n=2, matching="^update"), pytest.raises(SerializationConflict) as caught:
            flush()
        assert f"while saving {second!r}" in str(caught.value) and repr(first) not in str(caught.value)
        rollback()
    with db_session:
        first, second = Account(name="a"), Account(name="b")
        flush()
        first.balance, second.balance = 1, 1  # one statement for both, which fails at its first run
        with fail_statement(db, matching="^update"), pytest.raises(SerializationConflict) as caught:
            flush()
        assert f"while saving {first!r}" in str(caught.value) and repr(second) not in str(caught.value)
        rollback()


BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
INSERT = Statement("INSERT INTO account (name, balance) VALUES ('a', 1)", kind=Kind.WRITE)
COUNT = Statement("SELECT count(*) FROM account", returns=True)


@pytest.mark.parametrize("is_mine", [False, True])
@pytest.mark.parametrize("is_commit", [False, True])
def test_what_a_failure_leaves_of_a_connection(db, Account, block, is_commit, is_mine):
    """129. The replies of what was done before are there; a failed COMMIT leaves no transaction on PostgreSQL."""
    error = SerializationConflict("of my own") if is_mine else SerializationConflict
    connection = db.backend.acquire()
    fault = fail_commit(db, error=error) if is_commit else fail_statement(db, n=3, error=error)
    with fault, pytest.raises(SerializationConflict) as caught:
        tapped(db.backend, connection).execute((BEGIN, INSERT, COUNT, COMMIT if is_commit else COUNT))
    assert [reply.rows for reply in caught.value.results] == [[], [], [(1,)]]
    if is_mine:
        assert caught.value is error
    else:
        assert caught.value.statement is (COMMIT if is_commit else COUNT)
    assert connection.in_transaction is not (is_commit and on_postgres(db))
    connection.execute((ROLLBACK,))
    db.backend.release(connection)
    assert names(Account) == []


@pytest.mark.parametrize("done", [False, True])
def test_what_a_loss_leaves_of_a_connection(db, Account, block, done):
    """129. A lost connection is closed, with its transaction; replies are none."""
    connection = db.backend.acquire()
    with lose_connection(db, at="statement", done=done), pytest.raises(ConnectionLost) as caught:
        tapped(db.backend, connection).execute((BEGIN, INSERT, COUNT))
    assert (connection.usable, connection.in_transaction, list(caught.value.results)) == (False, False, [])
    db.backend.release(connection)
    assert names(Account) == []


@pytest.mark.parametrize("done", [False, True])
@pytest.mark.parametrize("alone", [False, True])
def test_a_reply_to_commit_that_is_lost(db, Account, block, done, alone):
    """129. Nobody knows whether it was committed; it was, or was not, as the test wants it. It is not run again."""
    runs = []
    ran = []

    @db_session(retry=3)
    def work():
        runs.append(1)
        on_commit(lambda: ran.append("committed"))
        on_rollback(lambda: ran.append("rolled back"))
        Account(name="a")
        if not alone:
            flush()
            Account(name="b")

    with pytest.raises(CommitOutcomeUnknown), lose_connection(db, done=done):
        work()
    assert (len(runs), ran) == (1, [])
    assert names(Account) == ((["a"] if alone else ["a", "b"]) if done else [])


def test_a_connection_that_was_dead_before_the_commit(db, Account, block):
    """129. If nothing was sent over the dead connection it is an ordinary loss, and a retry goes through."""

    @db_session(retry=1)
    def work():
        Account(name="a")
        flush()
        Account(name="b")

    with pytest.raises(ConnectionLost), lose_connection(db, sent=False), db_session:
        Account(name="lost")
        flush()
    with lose_connection(db, sent=False):
        work()
    assert names(Account) == ["a", "b"]


@pytest.mark.parametrize("done", [False, True])
def test_a_connection_lost_in_the_middle(db, Account, block, done):
    """129. All that was not committed is gone with the connection; the session says so, and goes on after rollback()."""
    with db_session:
        Account(name="a")
        flush()
        with lose_connection(db, at="statement", done=done):
            Account(name="b")
            with pytest.raises(ConnectionLost):
                flush()
        with pytest.raises(SessionDoomed):
            Account.select().count()
        rollback()
        Account(name="c")
    assert names(Account) == ["c"]


def test_a_first_read_is_sent_again(db, Account, block):
    """129. A scope whose first read finds its connection lost reads over another one, as always."""
    with recorded(db) as recording, lose_connection(db, at="statement"), db_session:
        assert Account.select().count() == 0
    assert len(recording.round_trips) == 2


def test_the_counters_are_those_of_production(db, Account, block):
    """129. A statement that fails counts as sent, once, and nothing else does."""
    with sent(db) as spent, fail_statement(db, n=2), pytest.raises(SerializationConflict), db_session:
        Account(name="a")
        flush()
        Account(name="b")
        flush()
    assert (spent.statements, spent.round_trips, spent.transactions) == (4, 3, 1)


@pytest.mark.parametrize("fault", [fail_statement, fail_commit, lose_connection])
def test_a_fault_that_is_never_reached(db, Account, fault):
    """129. A block in which the fault never strikes fails, unless that is allowed, or it fails by itself."""
    with pytest.raises(AssertionError, match=r"to strike at \w+ 2, and only 1 came"), fault(db, n=2), db_session:
        Account(name="a")
    with fault(db, n=2, must_happen=False), db_session:
        Account(name="b")
    with pytest.raises(ZeroDivisionError), fault(db):
        raise ZeroDivisionError
    assert rows(db, "SELECT name FROM account ORDER BY name") == ["a", "b"]


def test_wrong_arguments(db):
    """129. What cannot be made to fail is a mistake."""
    for wrong in ({"error": ConnectionLost}, {"error": "broken"}, {"error": int}):
        with pytest.raises(TypeError), fail_statement(db, **wrong):
            pass
    for wrong in ({"matching": "insert"}, {"done": True, "sent": False}):
        with pytest.raises(TypeError), lose_connection(db, **wrong):
            pass
    for wrong in ({"n": 0}, {"times": 0}):
        with pytest.raises(ValueError, match="counts from 1"), fail_commit(db, **wrong):
            pass
    with pytest.raises(ValueError, match="begin"), lose_connection(db, at="begin"):
        pass


def test_the_connection_is_not_used_again_where_it_may_not(db, Account):
    """129. Behind faults of every kind the pool gives out connections that work."""
    for fault in (fail_statement(db), fail_commit(db), lose_connection(db), lose_connection(db, done=True)):
        with pytest.raises((DatabaseError, CommitOutcomeUnknown)), fault, db_session:
            Account(name=f"{fault!r}")
            flush()
        connection = db.backend.acquire()
        assert connection.usable and not connection.in_transaction
        db.backend.release(connection)
