"""97. Real conflicts, at a statement and at COMMIT: the work runs again, with a fresh map, and nothing is lost."""

import sqlite3
import threading

import psycopg
import pytest

from dbsession import (
    Database,
    DatabaseSessionIsOver,
    DeadlockDetected,
    LockNotAvailable,
    OptimisticCheckError,
    PrimaryKey,
    Required,
    SerializationConflict,
    Set,
    TransactionIntegrityError,
    db_session,
    flush,
)
from dbsession.scope import retry as retry_module
from dbsession.scope import stack
from tests.observing import rows, wait_until_blocked


def as_function(work, **options):
    """Run *work* as a decorated function; return the errors of the runs that failed, and its result."""
    errors = []

    def noting():
        try:
            return work()
        except Exception as error:
            errors.append(error)
            raise

    return errors, db_session(**options)(noting)()


def as_loop(work, **options):
    """Run *work* as a block in a loop; return the same, with the errors of COMMIT."""
    errors = []
    for attempt in db_session.attempts(**options):
        errors += [attempt.last_error] if attempt.last_error else []
        with attempt:
            result = work()
    return errors, result


FORMS = pytest.mark.parametrize("run", [as_function, as_loop])


def declare(db):
    class Account(db.Entity):
        id = PrimaryKey(int)
        balance = Required(int)
        entries = Set("Entry")

    class Entry(db.Entity):
        account = Required(Account)
        amount = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for id in (1, 2):
            Account(id=id, balance=100)
    return Account, Entry


@pytest.fixture
def bank(postgres_url):
    """A database, two of its entities, a connection that is nobody's session, and one that looks on."""
    with psycopg.connect(postgres_url, autocommit=True) as watcher:
        # Who waits for longer than that is the victim of a deadlock; the partner waits for an hour.
        watcher.execute(f"ALTER DATABASE {watcher.info.dbname} SET deadlock_timeout = '10ms'")
        db = Database(postgres_url)
        Account, Entry = declare(db)
        with psycopg.connect(postgres_url) as partner:
            partner.execute("SET deadlock_timeout = '1h'")
            partner.commit()
            yield db, Account, Entry, partner, watcher
    db.close()


def in_background(partner, watcher, sql):
    """Start *sql* on the connection *partner*, and return its thread when it waits for a lock."""
    thread = threading.Thread(target=partner.execute, args=(sql,))
    thread.start()
    wait_until_blocked(watcher, 1)
    return thread


class Work:
    """Counts its runs, and knows what each one has loaded."""

    def __init__(self):
        self.runs = 0
        self.sessions = set()
        self.objects = []

    def begin(self, *objects):
        """Note a run, and that the objects of the run before are not those of this one, and are over."""
        self.runs += 1
        self.sessions.add(id(stack.current_session()))
        for old in self.objects:
            assert not any(old is new for new in objects)
            with pytest.raises(DatabaseSessionIsOver):
                old.balance = 0
        self.objects += objects


# --- 40001 -----------------------------------------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("options", [{"serializable": True}, {"isolation": "repeatable read"}], ids=str)
def test_a_serialization_conflict_at_a_statement(bank, run, options):
    """97, 102. 40001 at an UPDATE, as somebody else was faster: the second run sees what is there now."""
    db, Account, _, partner, _ = bank
    work = Work()

    def withdraw():
        account = Account[1]
        work.begin(account)
        if work.runs == 1:
            partner.execute("UPDATE account SET balance = 50 WHERE id = 1")
            partner.commit()
        account.balance -= 10
        flush()
        return account.balance

    errors, balance = run(withdraw, retry=3, **options)
    assert (work.runs, balance) == (2, 40)
    assert [(type(error), error.sqlstate) for error in errors] == [(SerializationConflict, "40001")]
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [40, 100]


def test_a_serialization_conflict_at_commit(bank):
    """97, 104. 40001 at COMMIT itself, for a write skew, in both forms: the work runs again and sees the other's."""
    db, Account, _, partner, _ = bank
    for run in (as_function, as_loop):
        with db_session:
            Account[1].balance = Account[2].balance = 100
        work = Work()

        def withdraw(work=work):
            accounts = Account[1], Account[2]
            work.begin(*accounts)
            both = sum(account.balance for account in accounts)
            if work.runs == 1:
                partner.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
                partner.execute("SELECT sum(balance) FROM account")
                partner.execute("UPDATE account SET balance = balance - 150 WHERE id = 2")
            if both >= 150:
                accounts[0].balance -= 150
            flush()
            if work.runs == 1:
                partner.commit()
            return both

        errors, both = run(withdraw, retry=3, serializable=True)
        assert (work.runs, both) == (2, 50)
        if run is as_loop:
            assert [(type(error), error.sql) for error in errors] == [(SerializationConflict, "COMMIT")]
        assert rows(db, "SELECT balance FROM account ORDER BY id") == [100, -50]


# --- 40P01 -------------------------------------------------------------------------------------------------------


@FORMS
def test_a_deadlock_at_a_statement(bank, run):
    """97. 40P01 at an UPDATE: the victim's locks are gone, so that the other one goes on, and the work runs again."""
    db, Account, _, partner, watcher = bank
    work = Work()

    def transfer():
        accounts = Account[1], Account[2]
        work.begin(*accounts)
        if work.runs == 1:
            partner.execute("UPDATE account SET balance = balance + 1 WHERE id = 2")
        accounts[0].balance -= 10
        flush()
        if work.runs == 1:
            waiting.append(in_background(partner, watcher, "UPDATE account SET balance = balance + 1 WHERE id = 1"))
        else:
            waiting.pop().join(30)
        accounts[1].balance += 10
        flush()

    def transfer_when_the_partner_is_done():
        if work.runs == 1:
            waiting[0].join(30)
            partner.commit()
        transfer()

    waiting = []
    errors, _ = run(transfer_when_the_partner_is_done, retry=3)
    assert work.runs == 2
    assert [(type(error), error.sqlstate) for error in errors] == [(DeadlockDetected, "40P01")]
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [91, 111]


@FORMS
def test_a_deadlock_at_commit(bank, run):
    """97. 40P01 at COMMIT, where a deferred foreign key is checked: the row is locked only there; the work runs again."""
    db, Account, Entry, partner, watcher = bank
    (key,) = watcher.execute("SELECT conname FROM pg_constraint WHERE contype = 'f'").fetchone()
    watcher.execute(f'ALTER TABLE entry ALTER CONSTRAINT "{key}" DEFERRABLE INITIALLY DEFERRED')
    work = Work()
    waiting = []

    def book():
        if work.runs == 1:
            waiting.pop().join(30)
            partner.commit()
        account = Account[1]
        work.begin(account)
        if work.runs == 1:
            partner.execute("SELECT FROM account WHERE id = 2 FOR UPDATE")
        account.balance -= 10
        Entry(account=2, amount=10)
        flush()
        if work.runs == 1:
            waiting.append(in_background(partner, watcher, "UPDATE account SET balance = balance + 1 WHERE id = 1"))

    errors, _ = run(book, retry=3)
    assert work.runs == 2
    if run is as_loop:
        assert [(type(error), error.sqlstate, error.sql) for error in errors] == [(DeadlockDetected, "40P01", "COMMIT")]
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [91, 100]
    assert rows(db, "SELECT amount FROM entry") == [10]


# --- 55P03 and BUSY ------------------------------------------------------------------------------------------------


def test_a_lock_that_was_not_free(bank):
    """97. 55P03 of a lock with nowait: it is free when the work runs again."""
    _, Account, _, partner, _ = bank
    runs = []

    @db_session(retry=1)
    def work():
        runs.append(1)
        if len(runs) == 1:
            partner.execute("SELECT FROM account WHERE id = 1 FOR UPDATE")
        try:
            return Account.get_for_update(id=1, nowait=True).balance
        finally:
            partner.rollback()

    assert work() == 100
    assert len(runs) == 2


@FORMS
@pytest.mark.parametrize("flushes", [True, False], ids=["statement", "commit"])
def test_a_busy_sqlite(tmp_path, monkeypatch, run, flushes):
    """97. SQLITE_BUSY, at the first write or at the end of the scope: the work runs again when the lock is free."""
    db = Database(f"sqlite:///{tmp_path / 'bank.db'}?timeout=0.01")
    Account, _ = declare(db)
    other = sqlite3.connect(tmp_path / "bank.db", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    other.execute("UPDATE account SET balance = 50 WHERE id = 1")
    released = []
    monkeypatch.setattr(retry_module.time, "sleep", lambda _: released.append(other.execute("COMMIT")))
    work = Work()

    def withdraw():
        account = Account[1]
        work.begin(account)
        account.balance -= 10
        if flushes:
            flush()

    errors, _ = run(withdraw, retry=3)
    assert (work.runs, len(released)) == (2, 1)
    if flushes or run is as_loop:
        assert [type(error) for error in errors] == [LockNotAvailable]
    other.close()
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [40, 100]
    db.close()


# --- conflicts that every database has ---------------------------------------------------------------------------------


@FORMS
def test_a_conflict_that_stays_is_raised_at_last(db, run):
    """97, 99. A conflict in each of the runs: at most retry + 1 of them, and the last error has the others."""
    Account, _ = declare(db)
    work = Work()

    def always_too_late():
        account = Account[1]
        work.begin(account)
        account.balance -= 10
        thread = threading.Thread(target=db_session(lambda: setattr(Account[1], "balance", 1000 + work.runs)))
        thread.start()
        thread.join(30)

    with pytest.raises(OptimisticCheckError, match=r"1002 was seen, 1003 is there now") as caught:
        run(always_too_late, retry=2)
    assert work.runs == 3
    assert [type(error) for error in caught.value.attempts] == [OptimisticCheckError] * 2
    assert "after 3 attempts" in caught.value.__notes__
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [1003, 100]


@FORMS
def test_an_error_outside_the_list_is_not_retried(db, run):
    """98. A real integrity error, where only conflicts were asked for, leaves at once; a KeyboardInterrupt in any case."""
    Account, _ = declare(db)
    work = Work()

    def twice():
        work.begin()
        Account(id=1, balance=0)

    with pytest.raises(TransactionIntegrityError) as caught:
        run(twice, retry=3, retry_exceptions=(OptimisticCheckError, SerializationConflict))
    assert work.runs == 1 and not hasattr(caught.value, "attempts")

    def interrupted():
        work.begin()
        Account[1].balance = 0
        flush()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run(interrupted, retry=3, retry_exceptions=BaseException)
    assert work.runs == 2
    assert rows(db, "SELECT balance FROM account ORDER BY id") == [100, 100]
