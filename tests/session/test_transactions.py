"""Transactions: what is sent when, and that a scope which ended well has committed, whatever was swallowed."""

import threading

import psycopg
import pytest

from dbsession import (
    Database,
    DataError,
    LockNotAvailable,
    OperationalError,
    OptimisticCheckError,
    Optional,
    Required,
    SerializationConflict,
    SessionDoomed,
    TransactionError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.errors import OrmError
from tests.observing import elsewhere, rows, sent

SQLITE = pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        after = Optional("Note", reverse="before")
        before = Optional("Note", reverse="after")

    db.generate_mapping(create_tables=True)
    return Note


@pytest.fixture
def Note(db):
    Note = declare(db)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def pg(postgres_url):
    db = Database(postgres_url)
    yield db
    db.close()


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def driver_of(session):
    """Return the driver's own connection: what the session does not know of can be done with it."""
    (unit,) = session._core._units.values()
    connection = unit.link._connection
    return connection._db if hasattr(connection, "_db") else connection.link


# --- what is sent -----------------------------------------------------------------------------------------


def test_reads_are_in_autocommit(db, Note):
    """Reads before the first write are one round trip each, and no transaction is begun."""
    with sent(db) as spent, db_session:
        note = Note[1]
        assert Note.get(text="first") is note
        assert Note.select().count() == 1
        assert db.select("SELECT likes FROM note") == [0]
    assert (spent.statements, spent.round_trips, spent.transactions) == (4, 4, 0)


def test_the_first_write_begins(db, Note):
    """The first write brings BEGIN along; what follows is in that transaction, reads too."""
    with db_session:
        note = Note[1]
        note.likes = 1
        with sent(db) as spent:
            flush()
        assert (spent.statements, spent.round_trips, spent.transactions) == (2, 1, 1)
        Note(text="second")
        with sent(db) as spent:
            flush()
            assert Note.select().count() == 2
        assert spent.transactions == 0
        rollback()
    assert texts(db) == ["first"]


@pytest.mark.parametrize("number", [2, 100])
def test_commit_rides_with_the_changes(db, Note, number):
    """Changes and COMMIT are one round trip: reading, changing and saving is two, making and saving is one."""
    with sent(db) as spent, db_session:
        for index in range(number):
            Note(text=f"{index}")
    assert (spent.round_trips, spent.transactions) == (1, 1)
    with sent(db) as spent, db_session:
        for note in Note.select():
            note.likes += 1
    assert (spent.round_trips, spent.transactions) == (2, 1)


def test_a_single_statement_commits_itself(db, Note):
    """A commit that is one statement for one row needs no BEGIN and no COMMIT, and is a commit all the same."""
    with sent(db) as spent:
        with db_session:
            Note(text="second")
        with db_session:
            Note[1].likes = 1
        with db_session:
            Note[2].delete()
    assert (spent.statements, spent.transactions) == (5, 0)
    assert rows(db, "SELECT text, likes FROM note") == [("first", 1)]


def test_a_single_statement_that_fails_saves_nothing(db, Note):
    """The same statement, refused: the error is raised, the session is doomed, and nothing is saved."""
    with pytest.raises(SessionDoomed), db_session:
        Note(text="first")
        with pytest.raises(TransactionIntegrityError):
            commit()
    with pytest.raises(OptimisticCheckError), db_session:
        note = Note[1]
        assert note.likes == 0
        elsewhere(db_session(lambda: setattr(Note[1], "likes", 5)))
        note.likes = 6
    assert rows(db, "SELECT text, likes FROM note") == [("first", 5)]


def test_a_retrying_session_writes_in_a_transaction(db, Note):
    """Where a retry may follow, a commit whose reply is lost must be found out: so there is always a BEGIN."""
    with sent(db) as spent, db_session(retry=1):
        Note(text="second")
    assert (spent.round_trips, spent.transactions) == (1, 1)


# --- modes ------------------------------------------------------------------------------------------------

EAGER = [{"immediate": True}, {"serializable": True}, {"optimistic": False}]


@pytest.mark.parametrize("options", EAGER, ids=str)
def test_modes_that_begin_with_the_first_statement(db, Note, options):
    """immediate, serializable and optimistic=False begin with the first statement, a read too, in its round trip."""
    with db_session(**options):
        with sent(db) as spent:
            note = Note[1]
        assert (spent.statements, spent.round_trips, spent.transactions) == (2, 1, 1)
        note.likes = 3
        with sent(db) as spent:
            commit()
        assert (spent.round_trips, spent.transactions) == (1, 0)
        with sent(db) as spent:
            assert Note.select().count() == 1
        assert spent.transactions == 1
    assert rows(db, "SELECT likes FROM note") == [3]


@pytest.mark.parametrize("options", EAGER, ids=str)
def test_modes_that_begin_end_with_a_commit(db, Note, options):
    """A scope of theirs that only read ends its transaction, with COMMIT; an unused one sends nothing."""
    with sent(db) as spent, db_session(**options):
        pass
    assert spent.statements == 0
    with sent(db) as spent, db_session(**options):
        Note[1]
    assert (spent.statements, spent.round_trips) == (3, 2)
    elsewhere(db_session(lambda: Note(text="no lock is held")))


def test_serializable_is_asked_of_the_server(pg):
    """106. The first statement of a serializable scope is serializable, and the connection goes back at its default."""
    declare(pg)
    with db_session(serializable=True):
        assert pg.get("SHOW transaction_isolation") == "serializable"
    for options in ({}, {"immediate": True}):
        with db_session(**options):
            assert pg.get("SHOW transaction_isolation") == "read committed"


@SQLITE
@pytest.mark.parametrize("options", EAGER, ids=str)
def test_modes_that_begin_take_the_write_lock_of_sqlite(db, Note, options):
    """On SQLite they hold the write lock from the first read on: nobody else can write."""
    with db_session(**options):
        Note[1]
        other = elsewhere(try_to_write, db)
        assert isinstance(other, LockNotAvailable)
    assert texts(db) == ["first"]


def try_to_write(db):
    """Write at once or not at all, and return the error."""
    with db_session as session:
        db.select("SELECT 1")
        driver_of(session).execute("PRAGMA busy_timeout = 0")
        with pytest.raises(LockNotAvailable) as caught:
            db.execute("UPDATE note SET likes = 99")
        driver_of(session).execute("PRAGMA busy_timeout = 5000")
    return caught.value


@SQLITE
def test_a_lock_that_is_not_had_loses_nothing(db, Note):
    """A BEGIN that the database refuses has begun nothing: the changes stay, and can be saved later in the scope."""
    locked, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        db.execute("UPDATE note SET likes = 1")
        locked.set()
        assert done.wait(30)

    holder = threading.Thread(target=hold)
    with db_session as session:
        note = Note[1]
        holder.start()
        assert locked.wait(30)
        driver_of(session).execute("PRAGMA busy_timeout = 0")
        note.text = "changed"
        Note(text="new")
        for verb in (flush, commit):
            with pytest.raises(LockNotAvailable, match="another connection holds the lock"):
                verb()
        done.set()
        holder.join(30)
        commit()
        driver_of(session).execute("PRAGMA busy_timeout = 5000")
    assert rows(db, "SELECT text, likes FROM note") == [("changed", 1), ("new", 0)]


# --- promise 1: errors that the program swallows -------------------------------------------------------------


@pytest.mark.parametrize("pending", [False, True], ids=["flushed", "pending"])
@pytest.mark.parametrize("verb", ["execute", "select", "get", "exists"])
def test_a_swallowed_error_commits_nothing(pg, verb, pending):
    """62. PostgreSQL: a statement failed within the transaction, and nobody cared: SessionDoomed, nothing saved."""
    Note = declare(pg)
    with pytest.raises(SessionDoomed, match="rolled back because of DataError: division by zero") as caught, db_session:
        Note(text="before").flush()
        with pytest.raises(DataError):
            getattr(pg, verb)("SELECT 1 / 0")
        if pending:
            Note(text="after")
    assert isinstance(caught.value.__cause__, DataError)
    assert texts(pg) == []
    with db_session:
        Note(text="works")
    assert texts(pg) == ["works"]


def test_a_first_statement_that_fails_commits_nothing(pg):
    """62. The same where the failing statement was the first one, and brought BEGIN along."""
    Note = declare(pg)
    with pytest.raises(SessionDoomed), db_session:
        with pytest.raises(DataError):
            pg.execute("SELECT 1 / 0")
        Note(text="lost")
    assert texts(pg) == []


def test_a_failed_read_in_autocommit_harms_nothing(db, Note):
    """62. A read that fails before anything was written was a transaction of its own: the rest is saved."""
    with db_session:
        with pytest.raises(OrmError, match="no_such"):
            db.select("SELECT no_such FROM note")
        Note(text="saved")
    assert texts(db) == ["first", "saved"]


@SQLITE
def test_sqlite_survives_a_failed_statement_of_the_user(db, Note):
    """62. SQLite undoes the failed statement alone, and its transaction goes on: everything else is committed."""
    with db_session:
        Note(text="before").flush()
        with pytest.raises(TransactionIntegrityError):
            db.execute("INSERT INTO note (text, likes) VALUES ('new', 0), ('first', 0)")
        with pytest.raises(OrmError, match="no_such"):
            db.execute("UPDATE no_such SET x = 1")
        Note(text="after")
    assert texts(db) == ["after", "before", "first"]


@pytest.mark.parametrize("pending", [False, True], ids=["flushed", "pending"])
def test_an_error_behind_the_back_of_the_session(pg, pending):
    """62. Even if the session never heard of the failed statement, COMMIT's tag (or the next statement) tells."""
    Note = declare(pg)
    with pytest.raises(SessionDoomed) as caught, db_session as session:
        Note(text="before").flush()
        with pytest.raises(psycopg.errors.DivisionByZero):
            driver_of(session).execute("SELECT 1 / 0")
        if pending:
            Note(text="after")
    if pending:
        assert "the transaction is already lost" in str(caught.value)
    else:
        assert "nothing was committed: the server answered COMMIT with ROLLBACK" in str(caught.value)
    assert texts(pg) == []
    with db_session:
        Note(text="works")
    assert texts(pg) == ["works"]


@SQLITE
@pytest.mark.parametrize("end", ["ROLLBACK", "COMMIT"])
def test_a_transaction_that_was_ended_behind_the_back(db, Note, end):
    """SQLite: a transaction that is gone for whatever reason is noticed before the next statement, or COMMIT."""
    for pending in (False, True):
        with pytest.raises(SessionDoomed, match="ended by something else than this session"), db_session as session:
            db.execute("UPDATE note SET likes = 1")
            driver_of(session).execute(end)
            if pending:
                Note(text="after")
    assert texts(db) == ["first"]


# --- SQLite rolls back on its own -----------------------------------------------------------------------------


def _disk_full(db, session):
    pages = driver_of(session).execute("PRAGMA page_count").fetchone()[0]
    driver_of(session).execute(f"PRAGMA max_page_count = {pages + 1}")
    db.execute("INSERT INTO note (text, likes) VALUES (%s, 0)", ["x" * 100_000])


def _or_rollback(db, session):
    db.execute("INSERT OR ROLLBACK INTO note (text, likes) VALUES ('first', 0)")


def _interrupt(db, session):
    driver = driver_of(session)
    driver.create_function("interrupt", 0, lambda: driver.interrupt() or 5)
    db.execute("UPDATE note SET likes = interrupt()")


@SQLITE
@pytest.mark.parametrize("pending", [False, True], ids=["flushed", "pending"])
@pytest.mark.parametrize("accident", [_disk_full, _or_rollback, _interrupt])
def test_a_rollback_of_sqlite_itself_is_noticed(db, Note, accident, pending):
    """SQLite has rolled back all of it (disk full, OR ROLLBACK, interrupt): what follows is not saved alone."""
    first = r"was rolled back because of .*(full|UNIQUE|interrupted)"
    with pytest.raises(SessionDoomed, match=first), db_session as session:
        Note(text="before").flush()
        with pytest.raises(
            (OperationalError, TransactionIntegrityError), match="has rolled back the whole transaction"
        ):
            accident(db, session)
        if pending:
            Note(text="after")
        driver_of(session).execute("PRAGMA max_page_count = 1073741823")
    assert texts(db) == ["first"]
    with db_session:
        Note(text="works")
    assert texts(db) == ["first", "works"]


@SQLITE
@pytest.mark.parametrize("accident", [_disk_full, _or_rollback, _interrupt])
def test_rollback_cures_a_rollback_of_sqlite_itself(db, Note, accident):
    """After such an accident only rollback() helps; then the session goes on, in a transaction again."""
    with pytest.raises(ZeroDivisionError), db_session as session:
        Note(text="before").flush()
        with pytest.raises(OrmError):
            accident(db, session)
        for verb in (lambda: db.select("SELECT 1"), lambda: db.execute("DELETE FROM note"), lambda: Note[1], commit):
            with pytest.raises(SessionDoomed):
                verb()
        rollback()
        driver_of(session).execute("PRAGMA max_page_count = 1073741823")
        Note(text="saved")
        commit()
        Note(text="undone").flush()
        raise ZeroDivisionError
    assert texts(db) == ["first", "saved"]


# --- a constraint that waits for COMMIT -------------------------------------------------------------------------

UNIQUE_LATER = "ALTER TABLE note ADD CONSTRAINT one_of_each UNIQUE (likes) DEFERRABLE INITIALLY DEFERRED"
REFERS_LATER = "CREATE TABLE child (parent INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)"


def test_a_deferred_constraint_fails_at_commit(db, Note):
    """61. COMMIT itself fails: the error is raised, all is rolled back, and nothing is left open."""
    with db_session:
        db.execute(REFERS_LATER)
    with pytest.raises(TransactionIntegrityError), db_session:
        Note(text="lost")
        db.execute("INSERT INTO child VALUES (999)")
    assert texts(db) == ["first"]
    assert rows(db, "SELECT * FROM child") == []
    elsewhere(db_session(lambda: Note(text="no lock is held")))


def test_objects_after_a_failure_at_commit(pg):
    """61, 84. Where the constraint names objects of ours: they are put back by rollback(), and the session goes on."""
    Note = declare(pg)
    with db_session:
        pg.execute(UNIQUE_LATER)
        Note(text="first")
    with db_session:
        note = Note[1]
        note.text = "changed"
        new = Note(text="second")
        flush()
        with pytest.raises(TransactionIntegrityError) as caught:
            commit()
        assert (caught.value.constraint, caught.value.table, caught.value.columns) == (
            "one_of_each",
            "note",
            ("likes",),
        )
        with pytest.raises(SessionDoomed, match="TransactionIntegrityError"):
            commit()
        assert note.text == "changed"
        rollback()
        assert note.text == "first"
        assert new.id is None
        note.likes = 7
    assert rows(pg, "SELECT text, likes FROM note") == [("first", 7)]


def test_a_deferred_constraint_of_a_single_statement(pg):
    """61. The same for a commit that is one statement: the error keeps its SQLSTATE, and nothing is saved."""
    Note = declare(pg)
    with db_session:
        pg.execute(UNIQUE_LATER)
        Note(text="first")
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        Note(text="second")
    assert caught.value.sqlstate == "23505"
    assert texts(pg) == ["first"]


# --- serializable ------------------------------------------------------------------------------------------


def write_skew(Note, run):
    """Two transactions read both rows, and each changes another one, so that one of them must not have been."""
    both_have_read = threading.Barrier(2)
    waits = {0: True, 1: True}
    errors = {}

    def work(mine):
        first, second = Note[1], Note[2]
        total = first.likes + second.likes
        if waits.pop(mine, False):
            both_have_read.wait(30)
        (first if mine == 0 else second).likes -= total

    def guarded(mine):
        try:
            run(lambda: work(mine))
        except TransactionError as error:
            errors[mine] = error

    threads = [threading.Thread(target=guarded, args=(number,)) for number in (0, 1)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    return errors


def test_write_skew_at_serializable(pg):
    """104. Write skew: exactly one commits, the other gets a conflict and none of its work is saved."""
    Note = declare(pg)
    with db_session:
        Note(text="a", likes=1)
        Note(text="b", likes=1)
    errors = write_skew(Note, lambda work: db_session(serializable=True)(work)())
    assert len(errors) == 1
    assert isinstance(next(iter(errors.values())), SerializationConflict)
    assert sorted(rows(pg, "SELECT likes FROM note")) == [-1, 1]


def test_write_skew_with_retry(pg):
    """104. With retry the other one runs again, sees what the first has done, and both end as if one after another."""
    Note = declare(pg)
    with db_session:
        Note(text="a", likes=1)
        Note(text="b", likes=1)
    errors = write_skew(Note, lambda work: db_session(serializable=True, retry=5)(work)())
    assert errors == {}
    assert sorted(rows(pg, "SELECT likes FROM note")) == [-1, 1]
