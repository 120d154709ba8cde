"""Queries, round trips, transactions and retries can be counted and asserted, and the SQL is seen."""

from __future__ import annotations

import pytest

from dbsession import Database, Required, TransactionIntegrityError, commit, db_session, flush
from dbsession.integrations.testing import (
    assert_queries,
    assert_round_trips,
    fail_commit,
    recorded,
    rolled_back,
)
from dbsession.scope import retry
from dbsession.session.taps import taps
from tests.observing import elsewhere, sent


def verbs(recording):
    return [sql.split()[0] for sql in recording.sql]


def test_what_is_sent_is_recorded(db, Account):
    """129. SQL, queries, statements, round trips and transactions of a block are known when it has ended."""
    with recorded(db) as recording, sent(db) as spent:
        with db_session:
            account = Account(name="a")
        with db_session:
            Account[account.id].balance = 1
            Account(name="b")
            commit()
            Account.select().count()
    assert [word for word in verbs(recording) if word != "WITH"][-1] == "SELECT"
    assert len(recording.queries) == 5
    assert len(recording.statements) == spent.statements
    assert len(recording.round_trips) == spent.round_trips == 4
    assert recording.transactions == spent.transactions == 1
    assert recording.retries == 0


def test_sessions_that_are_open_already_are_recorded(db, Account):
    """129. A block within a scope that has used its connection already records what is sent in it."""
    with db_session:
        Account.select().count()
        with recorded(db) as recording:
            Account.select().first()
        Account.select().count()
    assert verbs(recording) == ["SELECT"]


def test_recordings_within_each_other(db, Account):
    """129. Each of two blocks has what was sent in it, and nothing of another database."""
    other = Database("sqlite://")

    class Note(other.Entity):
        text = Required(str)

    other.generate_mapping(create_tables=True)
    with recorded(db) as outer, db_session:
        Account.select().count()
        with recorded(db) as inner, recorded(other) as elsewhere:
            Account.select().first()
            Note.select().count()
    assert (len(outer.queries), len(inner.queries), len(elsewhere.queries)) == (2, 1, 1)
    other.close()


def test_other_threads_and_the_schema_are_recorded(db, Account):
    """129. What other threads send, and what makes tables, is recorded, too."""

    @db_session
    def count():
        return Account.select().count()

    with recorded(db) as recording, sent(db) as spent:
        elsewhere(count)
        db.create_tables()
    assert len(recording.statements) == spent.statements
    assert "SELECT count(*)" in recording.sql[0]


def test_values_are_shown_only_where_asked_for(db, Account):
    """129. The text has a line for each statement, by round trips, and values with show_values=True only."""
    texts = []
    for show_values in (False, True):
        with recorded(db, show_values=show_values) as recording, db_session:
            Account(name=f"secret{show_values}")
            flush()
            Account(name=f"other{show_values}")
        texts.append(str(recording))
    assert "secret" not in texts[0] and "secret" not in repr(recording) and "secret" not in repr(recording.round_trips)
    assert "secretTrue" in texts[1]
    lines = texts[0].splitlines()
    assert [line[:5].strip() for line in lines] == ["1.", "", "2.", ""]
    assert lines[0][6:].startswith("BEGIN") and lines[1][6:].startswith("INSERT") and lines[3][6:] == "COMMIT"


def test_errors_are_recorded(db, Account):
    """129. The text says with which error a round trip has ended."""
    with db_session:
        Account(name="a")
    with recorded(db) as recording, pytest.raises(TransactionIntegrityError), db_session:
        Account(name="b")
        flush()
        Account(name="a")
    assert "-- TransactionIntegrityError: " in str(recording)
    assert [type(trip.error) for trip in recording.round_trips] == [type(None), TransactionIntegrityError, type(None)]


def test_retries_are_counted(db, Account):
    """129. Each run that was followed by another one counts as a retry: of functions, and of blocks in a loop."""
    runs = []

    @db_session(retry=5)
    def work():
        runs.append(1)
        Account(name=f"a{len(runs)}")
        flush()

    with recorded(db) as recording, fail_commit(db, times=3):
        work()
    assert (recording.retries, len(runs)) == (3, 4)
    with recorded(db) as recording, fail_commit(db):
        for attempt in db_session.attempts(2):
            with attempt:
                Account(name="b")
    assert recording.retries == 1
    assert "fail_commit" in str(recording.retried[0])
    with recorded(db) as recording, fail_commit(db, times=2), pytest.raises(Exception, match="fail_commit"):
        for attempt in db_session.attempts(1):
            with attempt:
                Account(name="c")
    assert recording.retries == 1  # the last run was followed by none


@pytest.mark.parametrize("within", [False, True])
def test_numbers_that_are_right(db, Account, within):
    """129. Assert_queries and assert_round_trips let blocks pass that keep to them, within rolled_back, too."""
    with rolled_back(*[db] * within):
        with assert_queries(db, 0), assert_round_trips(db, 0), db_session:
            pass
        with assert_queries(db, 1), assert_round_trips(db, 1), db_session:
            Account(name="a")
            Account(name="b")
        with assert_queries(db, at_most=2), assert_round_trips(db, at_least=1, at_most=2), db_session:
            Account.get(name="a").balance = 1
        with assert_queries(db, 1), assert_round_trips(db, 1), db_session(statement_timeout=10):
            Account(name="c")
        with db_session, assert_queries(db, at_least=1) as recording:
            Account.select().count()
    assert len(recording.queries) == 1


def test_a_wrong_number_shows_the_sql(db, Account):
    """129. The error says what was expected and what was sent, one line for a statement, by round trips."""
    with pytest.raises(AssertionError) as caught, assert_queries(db, 1), db_session:
        Account.select().count()
        Account.get(name="secret")
    lines = str(caught.value).splitlines()
    assert lines[0] == "1 query expected, 2 made; this was sent, by round trips:"
    assert lines[1].startswith("   1. SELECT count(*)") and lines[2].startswith('   2. SELECT "id", "name", "balance"')
    assert "secret" not in str(caught.value)
    with pytest.raises(AssertionError, match=r"^2 round trips expected, 1 made"), assert_round_trips(db, 2):
        with db_session:
            Account.select().count()
    with pytest.raises(AssertionError, match=r"^at least 1 queries expected, 0 made: nothing was sent$"):
        with assert_queries(db, at_least=1):
            pass
    with pytest.raises(AssertionError, match=r"(?s)^at least 2 and at most 3 queries expected, 1 made.*'secret'"):
        with assert_queries(db, at_least=2, at_most=3, show_values=True), db_session:
            Account.get(name="secret")


def test_an_error_of_the_block_is_not_hidden(db, Account):
    """129. A block that fails with an error of its own raises that, not that too little was sent."""
    with pytest.raises(ZeroDivisionError), assert_queries(db, 7), assert_round_trips(db, 7):
        raise ZeroDivisionError


@pytest.mark.parametrize("arguments", [{}, {"number": 1, "at_most": 2}, {"number": 1, "at_least": 0}])
def test_one_kind_of_number_is_needed(db, arguments):
    """129. No number at all, and two kinds of them, are mistakes."""
    with pytest.raises(TypeError, match="how many"), assert_queries(db, **arguments):
        pass


def test_nothing_watches_behind_the_block(db, Account):
    """129. Behind the block, however it ends, sessions send as if it had never been."""
    with pytest.raises(ZeroDivisionError), recorded(db), fail_commit(db):
        raise ZeroDivisionError
    assert taps == [] and retry.listeners == []
