"""Failures inside inner scopes: which of them a savepoint cures, and which take the whole session along."""

import threading
from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    ConnectionLost,
    Database,
    DeadlockDetected,
    OptimisticCheckError,
    Optional,
    Required,
    SerializationConflict,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
    savepoint,
)
from tests.observing import elsewhere, rows, sent, wait_until_blocked


class Odd(Exception):
    pass


def declare(db):
    class Account(db.Entity):
        name = Required(str, unique=True)
        balance = Required(int, default=0)
        note = Optional(str)
        entries = Set("Entry")

    class Entry(db.Entity):
        text = Required(str)
        account = Required(Account)

    db.generate_mapping(create_tables=True)
    with db_session:
        for name in ("ann", "bob", "cat"):
            Account(name=name, balance=10)
    return SimpleNamespace(db=db, Account=Account, Entry=Entry)


@pytest.fixture
def bank(db):
    return declare(db)


@pytest.fixture
def pg_bank(postgres_url):
    db = Database(postgres_url)
    yield declare(db)
    db.close()


def balances(db):
    return dict(rows(db, "SELECT name, balance FROM account"))


FORMS = {"join": db_session, "savepoint": savepoint()}


@pytest.fixture(params=FORMS)
def scope(request):
    return FORMS[request.param]


def change_elsewhere(bank, name, balance):
    """Change a row and commit, as somebody else."""
    sql = "UPDATE account SET balance = %s WHERE name = %s"
    elsewhere(db_session(lambda: bank.db.execute(sql, [balance, name])))


# --- what no savepoint cures ------------------------------------------------------------------------------


def test_a_serialization_failure_dooms_the_session(pg_bank, scope):
    """40001 in an inner scope: the snapshot is the transaction's, so nothing but rollback() works in the outer one."""
    bank = pg_bank
    with pytest.raises(SessionDoomed) as caught, db_session(serializable=True):
        cat = bank.Account.get(name="cat")
        cat.balance = 99
        ann = bank.Account.get(name="ann")
        change_elsewhere(bank, "ann", 50)
        with pytest.raises(SerializationConflict), scope:
            ann.balance = 20
            flush()
        with pytest.raises(SessionDoomed):
            bank.Account.get(name="bob")
    assert isinstance(caught.value.__cause__, SerializationConflict)
    assert balances(bank.db) == {"ann": 50, "bob": 10, "cat": 10}


def test_a_session_doomed_from_within_can_be_rolled_back(pg_bank, scope):
    """71. After rollback() the outer scope goes on in a new transaction."""
    bank = pg_bank
    with db_session(serializable=True):
        ann, cat = bank.Account.get(name="ann"), bank.Account.get(name="cat")
        cat.balance = 99
        change_elsewhere(bank, "ann", 50)
        with pytest.raises(SerializationConflict), scope:
            ann.balance = 20
            flush()
        rollback()
        assert (ann.balance, cat.balance) == (10, 10)  # as they were read
        cat.balance = 11
    assert balances(bank.db) == {"ann": 50, "bob": 10, "cat": 11}


def test_the_outermost_scope_retries_what_failed_within(pg_bank, scope):
    """97, 101. A conflict in an inner scope runs the outermost function again, with fresh objects."""
    bank = pg_bank
    seen = []

    @db_session(serializable=True, retry=2)
    def work():
        ann = bank.Account.get(name="ann")
        seen.append(ann.balance)
        if len(seen) == 1:
            change_elsewhere(bank, "ann", 50)
        with scope:
            ann.balance += 1
            flush()

    work()
    assert seen == [10, 50]
    assert balances(bank.db)["ann"] == 51


def test_a_deadlock_dooms_the_session(pg_bank, postgres_url, scope):
    """40P01 in an inner scope: the server has given up on this transaction, and its outer scope cannot go on."""
    bank = pg_bank
    with psycopg.connect(postgres_url) as other, psycopg.connect(postgres_url, autocommit=True) as watcher:
        other.execute("SET deadlock_timeout = '1h'")  # the session is the one to notice
        other.execute("UPDATE account SET balance = 1 WHERE name = 'bob'")
        blocked = threading.Thread(
            target=lambda: other.execute("UPDATE account SET balance = 1 WHERE name = 'ann'"), daemon=True
        )
        with pytest.raises(SessionDoomed) as caught, db_session:
            ann, bob = bank.Account.get(name="ann"), bank.Account.get(name="bob")
            ann.note = "mine"
            flush()
            blocked.start()
            wait_until_blocked(watcher, 1)
            with pytest.raises(DeadlockDetected), scope:
                bob.note = "mine too"
                flush()
        assert isinstance(caught.value.__cause__, DeadlockDetected)
        blocked.join(60)
        assert not blocked.is_alive()
        other.rollback()
    assert rows(bank.db, "SELECT note FROM account WHERE note IS NOT NULL") == []


def kill(bank, postgres_url):
    """End the connection of the current session, from another one."""
    (pid,) = bank.db.select("SELECT pg_backend_pid()")
    with psycopg.connect(postgres_url, autocommit=True) as other:
        assert other.execute("SELECT pg_terminate_backend(%s, 10000)", (pid,)).fetchone() == (True,)


def test_a_connection_lost_inside(pg_bank, postgres_url, scope):
    """81, 108. The connection ends in an inner scope: the error, then SessionDoomed; nothing is saved, and all is clean."""
    bank = pg_bank
    with pytest.raises(SessionDoomed) as caught, db_session:
        ann = bank.Account.get(name="ann")
        ann.balance = 99
        flush()
        with pytest.raises(ConnectionLost), scope:
            bank.Entry(text="inner", account=ann)
            flush()
            kill(bank, postgres_url)
            bank.Account.get(name="bob")
        assert ann.balance == 99
    assert isinstance(caught.value.__cause__, ConnectionLost)
    assert balances(bank.db)["ann"] == 10
    with db_session, scope:
        bank.Account.get(name="ann").balance = 11
    assert balances(bank.db)["ann"] == 11


def test_rollback_after_a_connection_was_lost_inside(pg_bank, postgres_url, scope):
    """81. The savepoint is gone with the connection: rollback() works all the same, and the scope goes on with another."""
    bank = pg_bank
    with db_session:
        ann = bank.Account.get(name="ann")
        ann.balance = 99
        flush()
        with pytest.raises(ConnectionLost), scope:
            ann.balance = 98
            flush()
            kill(bank, postgres_url)
            bank.Account.get(name="bob")
        rollback()
        assert ann.balance == 10
        ann.balance = 12
    assert balances(bank.db)["ann"] == 12


@pytest.mark.parametrize("db_url", ["sqlite-file"], indirect=True)
def test_a_trigger_that_rolls_back_everything(bank, scope):
    """81. SQLite: RAISE(ROLLBACK) takes the savepoint along; the session is doomed, and rollback() still succeeds."""
    with db_session(ddl=True):
        bank.db.execute(
            "CREATE TRIGGER no_entries BEFORE INSERT ON entry BEGIN SELECT RAISE(ROLLBACK, 'no entries'); END"
        )
    with db_session:
        ann = bank.Account.get(name="ann")
        ann.balance = 99
        flush()
        with pytest.raises(Exception, match="no entries"), scope:
            bank.Entry(text="inner", account=ann)
            flush()
        with pytest.raises(SessionDoomed):
            commit()
        rollback()
        ann.balance = 12
    assert balances(bank.db)["ann"] == 12


# --- an inner scope that goes on after its failure ------------------------------------------------------------


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_an_inner_scope_that_swallowed_the_failure(bank, scope, form):
    """84. Its work is lost, so that it must not end as if nothing were: SessionDoomed at its end; the outer one goes on."""

    def work():
        bank.Entry(text="inner", account=bank.Account.get(name="bob"))
        with pytest.raises(TransactionIntegrityError):
            bank.Account(name="ann").flush()

    def block():
        with scope:
            work()

    with db_session:
        bank.Account(name="outer")
        flush()
        with pytest.raises(SessionDoomed, match="the outer one can go on") as caught:
            block() if form == "block" else scope(work)()
        assert isinstance(caught.value.__cause__, TransactionIntegrityError)
        bank.Account(name="later")
    assert set(balances(bank.db)) == {"ann", "bob", "cat", "outer", "later"}
    assert rows(bank.db, "SELECT text FROM entry") == []


def test_the_middle_scope_goes_on(bank, scope):
    """77, 84. The third level fails in the database: the second one is not touched by it, and is saved."""
    with db_session:
        with scope:
            bank.Account(name="second level")
            with pytest.raises(TransactionIntegrityError), scope:
                bank.Account(name="third level")
                bank.Account(name="ann").flush()
            bank.Account(name="second level again")
            flush()
    assert {"second level", "second level again"} <= set(names := balances(bank.db))
    assert "third level" not in names


def test_a_middle_scope_whose_change_is_refused_below(bank, scope):
    """77. What the second level has changed is refused in the third one's flush: the second is lost, not the first."""
    with db_session:
        bank.Account(name="first level")
        with pytest.raises(SessionDoomed), scope:
            bank.Account(name="ann")  # there is one
            with pytest.raises(TransactionIntegrityError), scope:
                bank.Account(name="third level")
                flush()
        bank.Account(name="first level again")
    names = set(balances(bank.db))
    assert {"first level", "first level again"} <= names and "third level" not in names


def test_a_refused_change_of_the_outer_scope_behind_the_savepoint(bank, scope):
    """A change of the outer scope had to go behind the savepoint and is refused: there is nothing to go back to."""
    before = balances(bank.db)
    with pytest.raises(SessionDoomed) as caught, db_session:
        bob, cat = bank.Account.get(name="bob"), bank.Account.get(name="cat")
        bob.name = "ann"  # there is one
        cat.balance = 11
        with pytest.raises(TransactionIntegrityError), scope:
            cat.balance = 12  # so that nothing can be sent before the savepoint
            flush()
        with pytest.raises(SessionDoomed):
            bank.Account.get(name="nobody")
    assert isinstance(caught.value.__cause__, TransactionIntegrityError)
    assert balances(bank.db) == before


def test_an_inner_scope_entered_in_a_doomed_session(bank, scope):
    """84. In a session that is lost, an inner scope cannot end as if it had done something."""
    with pytest.raises(SessionDoomed), db_session:
        with pytest.raises(TransactionIntegrityError):
            bank.Account(name="ann").flush()
        with pytest.raises(SessionDoomed), scope:
            pass
        with pytest.raises(Odd), scope:
            raise Odd


# --- allowed exceptions ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("nested", ["join", "savepoint"])
def test_an_allowed_exception_keeps_the_work(bank, nested):
    """4. An exception that the inner scope allows leaves its work to the outer one, and goes on."""
    with db_session:
        with pytest.raises(Odd), db_session(nested=nested, allowed_exceptions=Odd):
            bank.Account(name="inner")
            raise Odd
        with sent(bank.db) as spent:
            flush()
        assert (spent.statements == 0) is (nested == "savepoint")
    assert "inner" in balances(bank.db)


def test_an_allowed_exception_and_work_that_is_refused(bank):
    """4, 80. The end of a savepoint scope fails for another reason: that error is raised, and its work is undone."""
    with db_session:
        bank.Account(name="outer")
        with pytest.raises(TransactionIntegrityError), db_session(nested="savepoint", allowed_exceptions=Odd):
            bank.Account(name="ann")
            raise Odd
    assert "outer" in balances(bank.db)


def test_what_the_outer_scope_allows_undoes_the_inner_work(bank, scope):
    """4, 75. The outer scope allows the exception, the inner one does not: only what the inner one did is undone."""
    with pytest.raises(Odd), db_session(allowed_exceptions=Odd):
        bank.Account(name="outer")
        with scope:
            bank.Account(name="inner")
            raise Odd
    assert "outer" in (names := balances(bank.db)) and "inner" not in names


# --- others at the same time ----------------------------------------------------------------------------------


def test_the_optimistic_check_knows_what_was_read_before(pg_bank, scope):
    """89. The inner scope's write is undone, somebody else writes: the outer scope's write is checked, not exempt."""
    bank = pg_bank
    with pytest.raises(OptimisticCheckError, match="balance"), db_session:
        ann = bank.Account.get(name="ann")
        assert ann.balance == 10
        with pytest.raises(Odd), scope:
            ann.balance = 20
            flush()
            raise Odd
        assert bank.db.select("SELECT 1") == [1]  # carries ROLLBACK TO, which gives the row back
        change_elsewhere(bank, "ann", 50)
        ann.balance += 1
        flush()
    assert balances(bank.db)["ann"] == 50


def test_what_was_read_in_an_undone_scope_counts_as_read(pg_bank, scope):
    """89. The program may remember what it has read there, and write what rests on it: it is checked."""
    bank = pg_bank
    with pytest.raises(OptimisticCheckError, match="balance"), db_session:
        ann = bank.Account.get(id=1)
        with pytest.raises(Odd), scope:
            ann.note = "inner"
            seen = ann.balance
            flush()
            raise Odd
        assert bank.db.select("SELECT 1") == [1]
        change_elsewhere(bank, "ann", 50)
        ann.note = f"had {seen}"
        flush()


def test_a_lock_taken_in_an_undone_scope_is_not_held(pg_bank, scope):
    """89, 93. A row that was locked in an inner scope is no longer locked when that is undone, and checked again."""
    bank = pg_bank
    with pytest.raises(OptimisticCheckError, match="balance"), db_session:
        bank.Account.get(name="cat").balance = 11
        flush()
        with pytest.raises(Odd), scope:
            ann = bank.Account.get_for_update(name="ann")
            assert ann.balance == 10
            raise Odd
        assert bank.db.select("SELECT 1") == [1]
        assert ann.balance == 10
        change_elsewhere(bank, "ann", 50)
        ann.balance += 1
        flush()


def test_a_lock_of_the_outer_scope_is_held(pg_bank, postgres_url, scope):
    """93. A row that the outer scope has locked stays locked when an inner one is undone."""
    bank = pg_bank
    with psycopg.connect(postgres_url, autocommit=True) as other, db_session:
        ann = bank.Account.get_for_update(name="ann")
        with pytest.raises(Odd), scope:
            ann.balance = 20
            flush()
            raise Odd
        assert bank.db.select("SELECT 1") == [1]
        with pytest.raises(psycopg.errors.LockNotAvailable):
            other.execute("SELECT * FROM account WHERE name = 'ann' FOR UPDATE NOWAIT")
        ann.balance += 1
    assert balances(bank.db)["ann"] == 11


# --- several databases ---------------------------------------------------------------------------------------------


@pytest.fixture
def second(sqlite_file_url):
    db = Database(sqlite_file_url)
    yield declare(db)
    db.close()


def test_several_databases(bank, second, scope):
    """66, 75. An inner scope is undone in each database, also in one that was first used in it."""
    with db_session:
        bank.Account(name="outer")
        with pytest.raises(Odd), scope:
            bank.Account(name="inner")
            second.Account(name="inner")
            flush()
            raise Odd
        second.Account(name="outer")
        with scope:
            bank.Account(name="good")
            second.Account(name="good")
    for db in (bank.db, second.db):
        assert set(balances(db)) == {"ann", "bob", "cat", "outer", "good"}


def test_one_of_several_databases_refuses(bank, second):
    """66, 80. The end of a savepoint scope is refused by one database: its work in the other one is undone as well."""
    with db_session:
        bank.Account(name="outer")
        second.Account(name="outer")
        with pytest.raises(TransactionIntegrityError), savepoint():
            bank.Account(name="inner")
            second.Account(name="ann")
        bank.Account(name="later")
        second.Account(name="later")
    for db in (bank.db, second.db):
        assert set(balances(db)) == {"ann", "bob", "cat", "outer", "later"}
