"""SQLite rolls back a whole transaction on its own: no scope reports success then, and nothing of it is saved alone."""

import re
import threading

import pytest

from dbsession import (
    OperationalError,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent

pytestmark = pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)

ACCIDENT = (OperationalError, TransactionIntegrityError)
BIG = "x" * 2_000_000


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str)
        likes = Required(int, default=0)

    class Refused(db.Entity):
        likes = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
        db.execute(
            "CREATE TRIGGER refuse BEFORE INSERT ON refused BEGIN SELECT RAISE(ROLLBACK, 'refused by a trigger'); END"
        )
    return Note


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def driver_of(session):
    """Return the driver's own connection."""
    (unit,) = session._core._units.values()
    return unit.link._connection._db


def interrupt_the_next(verb, driver):
    """Let another thread interrupt the next statement of *driver* that begins with *verb*, when it is at work."""
    begun, at_work, interrupted = threading.Event(), threading.Event(), threading.Event()

    def interrupt():
        assert at_work.wait(30)
        driver.interrupt()
        interrupted.set()

    def wait():
        if begun.is_set():
            driver.set_trace_callback(None)
            driver.set_progress_handler(None, 1)
            at_work.set()
            assert interrupted.wait(30)

    driver.set_trace_callback(lambda sql: begun.set() if sql.startswith(verb) else None)
    driver.set_progress_handler(wait, 1)
    threading.Thread(target=interrupt).start()


# --- what happens to the next INSERT of the scope ----------------------------------------------------------------


def _full(db, Note, session):
    pages = db.get("PRAGMA page_count")
    db.select(f"PRAGMA max_page_count = {pages}")
    return Note(text=BIG)


def _refused(db, Note, session):
    return db.entities["Refused"]()


def _interrupted(db, Note, session):
    interrupt_the_next("INSERT", driver_of(session))
    return Note(text="after the interrupt")


ACCIDENTS = pytest.mark.parametrize("accident", [_full, _refused, _interrupted])
WORDS = "full|refused by a trigger|interrupted"
VERBS = pytest.mark.parametrize(
    "verb",
    [flush, commit, lambda: None],
    ids=["flush", "commit", "leave"],
)


@ACCIDENTS
@VERBS
def test_a_flush_that_sqlite_rolls_back(db, Note, accident, verb):
    """84. The flush fails with what happened, nothing is saved, and the next scope reads, writes and commits."""
    with pytest.raises(ACCIDENT, match=rf"({WORDS}).*has rolled back the whole transaction"), db_session as session:
        Note(text="before").flush()
        accident(db, Note, session)
        verb()
    assert texts(db) == ["first"]
    with db_session:
        Note(text=BIG)
        Note[1].likes += 1
    assert texts(db) == ["first", BIG]


@ACCIDENTS
@pytest.mark.parametrize("verb", [flush, commit], ids=["flush", "commit"])
def test_swallowing_it_saves_nothing(db, Note, accident, verb):
    """84, 62. Swallowed: whatever follows is refused, and not run in autocommit; leaving the scope is an error."""
    with pytest.raises(SessionDoomed, match=WORDS), db_session as session:
        Note(text="before").flush()
        accident(db, Note, session)
        with pytest.raises(ACCIDENT):
            verb()
        with sent(db) as spent:
            for then in (
                lambda: db.execute("INSERT INTO note (text, likes) VALUES ('alone', 0)"),
                lambda: Note(text="alone, too").flush(),
                lambda: db.select("SELECT 1"),
                flush,
                commit,
            ):
                with pytest.raises(SessionDoomed, match=WORDS):
                    then()
        assert spent.statements == 0
        assert not driver_of(session).in_transaction
    assert texts(db) == ["first"]


@ACCIDENTS
def test_rollback_goes_on_in_a_transaction(db, Note, accident):
    """84, 71. After rollback() the session goes on: what it writes then is in a transaction, and can be undone."""
    with pytest.raises(ZeroDivisionError), db_session as session:
        note = Note[1]
        note.likes = 7
        Note(text="before").flush()
        accident(db, Note, session)
        with pytest.raises(ACCIDENT):
            flush()
        rollback()
        assert note.likes == 0
        db.select("PRAGMA max_page_count = 1000000")
        Note(text="saved")
        commit()
        Note(text="undone").flush()
        assert driver_of(session).in_transaction
        1 / 0
    assert texts(db) == ["first", "saved"]


@ACCIDENTS
def test_a_query_that_flushes_meets_it(db, Note, accident):
    """87. The flush before a query fails in the same way, and the query is not sent."""
    with pytest.raises(SessionDoomed, match=WORDS), db_session as session:
        Note(text="before").flush()
        new = accident(db, Note, session)
        for error, words in ((ACCIDENT, re.escape(repr(new))), (SessionDoomed, WORDS)):
            with pytest.raises(error, match=words):
                type(new).select(likes=5).fetch()
    assert texts(db) == ["first"]


@ACCIDENTS
def test_within_an_inner_scope(db, Note, accident):
    """5, 84. The inner scope's statement has taken the outer transaction with it: the outer scope cannot commit."""
    with pytest.raises(SessionDoomed), db_session as session:
        Note(text="outer").flush()
        with pytest.raises(ACCIDENT), db_session:
            accident(db, Note, session)
            flush()
        Note(text="outer, later")
    assert texts(db) == ["first"]


@pytest.mark.parametrize("accident", [_full, _refused])
def test_a_single_statement(db, Note, accident):
    """84. The same where the commit is that one statement, without BEGIN: nothing is saved, and the next scope works."""
    for _ in range(2):
        with sent(db) as spent, pytest.raises(ACCIDENT, match=WORDS), db_session as session:
            accident(db, Note, session)
        assert spent.transactions == 0
    assert texts(db) == ["first"]
    with db_session:
        Note(text=BIG)
    assert texts(db) == ["first", BIG]


def test_a_commit_that_meets_a_full_disk_among_other_changes(db, Note):
    """84. Changes, deletions and the INSERT that does not fit are one transaction: none of them is saved."""
    with db_session:
        Note(text="second")
    with pytest.raises(OperationalError, match="full"), db_session as session:
        Note[1].likes = 5
        Note[2].delete()
        Note(text="third")
        _full(db, Note, session)
    assert rows(db, "SELECT text, likes FROM note ORDER BY id") == [("first", 0), ("second", 0)]


# --- an interrupt of a read ---------------------------------------------------------------------------------------


def test_an_interrupted_read_loses_nothing(db, Note):
    """62. A read that another thread interrupts is an error of its own; what was written before it is committed."""
    with db_session as session:
        Note(text="before").flush()
        interrupt_the_next("SELECT", driver_of(session))
        with pytest.raises(OperationalError, match="interrupted"):
            db.select("SELECT count(*) FROM note AS a, note AS b")
        Note(text="after")
    assert texts(db) == ["after", "before", "first"]


def test_an_interrupt_between_two_statements(db, Note):
    """62. An interrupt while nothing runs harms nothing."""
    with db_session as session:
        Note(text="before").flush()
        driver_of(session).interrupt()
        Note(text="after")
    assert texts(db) == ["after", "before", "first"]


# --- what the next scope finds ------------------------------------------------------------------------------------


@ACCIDENTS
@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "swallowed"])
def test_no_lock_and_no_setting_stays(db, Note, accident, swallow):
    """110, 85. Afterwards nobody holds a lock, and the next session has the settings of every other one."""
    settings = ("foreign_keys", "query_only", "busy_timeout", "max_page_count")
    with db_session:
        before = [db.get(f"PRAGMA {name}") for name in settings]
    with pytest.raises((*ACCIDENT, SessionDoomed)), db_session as session:
        Note(text="before").flush()
        accident(db, Note, session)
        if swallow:
            with pytest.raises(ACCIDENT):
                flush()
    elsewhere(db_session(lambda: Note(text="no lock is held")))
    with db_session:
        assert [db.get(f"PRAGMA {name}") for name in settings] == before
    assert texts(db) == ["first", "no lock is held"]


def test_a_constraint_alone_is_not_such_an_accident(db, Note):
    """62. An ordinary refusal undoes its own statement: the program may go on, and everything else is saved."""
    with db_session:
        Note(text="before").flush()
        with pytest.raises(TransactionIntegrityError) as caught:
            db.execute("INSERT INTO note (text, likes) VALUES (NULL, 0)")
        assert "rolled back" not in str(caught.value)
        Note(text="after")
    assert texts(db) == ["after", "before", "first"]
