"""Two databases in one scope: both are flushed before either commits, and what is half done is said."""

from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    CommitException,
    ConnectionLost,
    Database,
    OptimisticCheckError,
    Optional,
    PartialCommitException,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent

REFERS_LATER = "CREATE TABLE child (parent INTEGER REFERENCES item (id) DEFERRABLE INITIALLY DEFERRED)"


class Odd(Exception):
    pass


def declare(db):
    """Declare `Item`, save one, and make a table whose rows can fail at COMMIT."""

    class Item(db.Entity):
        name = Required(str, unique=True)
        count = Required(int, default=0)
        data = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(name="old")
        db.execute(REFERS_LATER)
    return SimpleNamespace(db=db, Item=Item)


@pytest.fixture
def one(db):
    return declare(db)


@pytest.fixture
def two(sqlite_file_url):
    two = declare(Database(sqlite_file_url))
    yield two
    two.db.close()


@pytest.fixture(params=["one first", "two first"])
def pair(request, one, two):
    """The two databases, in the order in which a scope touches them: the first one commits first."""
    return (one, two) if request.param == "one first" else (two, one)


def names(side):
    return sorted(rows(side.db, "SELECT name FROM item"))


def fail_at_commit(side):
    """Do what the database refuses when it commits."""
    side.db.execute("INSERT INTO child VALUES (999)")


def test_both_are_saved(pair):
    """66. What was made, changed and deleted in both is committed in both."""
    first, second = pair
    with db_session:
        for side in pair:
            side.Item(name="gone").flush()
            side.Item.get(name="old").count = 5
            side.Item(name="new")
            side.Item.get(name="gone").delete()
    for side in pair:
        assert rows(side.db, "SELECT name, count FROM item ORDER BY name") == [("new", 0), ("old", 5)]


def test_an_exception_undoes_both(pair):
    """66, 3. An exception undoes all of it in both, flushed or not."""
    with pytest.raises(Odd), db_session:
        for side in pair:
            side.Item(name="flushed").flush()
            side.Item(name="not flushed")
        raise Odd
    assert [names(side) for side in pair] == [["old"], ["old"]]


@pytest.mark.parametrize("save", [commit, lambda: None], ids=["commit", "leave"])
@pytest.mark.parametrize("failing", [0, 1], ids=["the first", "the second"])
def test_a_flush_that_fails_commits_neither(pair, failing, save):
    """66. Both are flushed before either commits: if one cannot be, the other is not committed either."""
    other = pair[1 - failing]
    with sent(other.db) as spent, pytest.raises(TransactionIntegrityError), db_session:
        for side in pair:
            side.Item.get(name="old")
        for side in pair:
            side.Item(name="new")
        pair[failing].Item(name="old")
        save()
    assert [names(side) for side in pair] == [["old"], ["old"]]
    assert spent.connections == 0  # its connection went back
    for side in pair:
        elsewhere(db_session(lambda side=side: side.Item(name="no lock is held")))


@pytest.mark.parametrize("failing", [0, 1], ids=["the first", "the second"])
def test_a_conflict_in_one_commits_neither(pair, failing):
    """66, 89. The same for a row that somebody else has changed."""
    with pytest.raises(OptimisticCheckError), db_session:
        for side in pair:
            side.Item.get(name="old").count += 1
        elsewhere(db_session(lambda: pair[failing].Item[1].set(count=77)))
    assert rows(pair[failing].db, "SELECT count FROM item") == [77]
    assert rows(pair[1 - failing].db, "SELECT count FROM item") == [0]


@pytest.mark.parametrize("save", [commit, lambda: None], ids=["commit", "leave"])
def test_the_first_commit_fails(pair, save):
    """66. If the first one cannot commit, the other does not: CommitException, from the error, and nothing is saved."""
    first, second = pair
    with pytest.raises(CommitException, match="nothing was committed") as caught, db_session:
        first.Item(name="new")
        second.Item(name="new")
        fail_at_commit(first)
        save()
    assert type(caught.value) is CommitException
    assert isinstance(caught.value.__cause__, TransactionIntegrityError)
    assert [names(side) for side in pair] == [["old"], ["old"]]
    for side in pair:
        elsewhere(db_session(lambda side=side: side.Item(name="no lock is held")))


@pytest.mark.parametrize("save", [commit, lambda: None], ids=["commit", "leave"])
def test_the_second_commit_fails(pair, save):
    """66. If the second one cannot commit, the first one has: PartialCommitException, which names both."""
    first, second = pair
    with pytest.raises(PartialCommitException) as caught, db_session:
        first.Item(name="new")
        second.Item(name="new")
        fail_at_commit(second)
        save()
    error = caught.value
    assert (list(error.committed), list(error.failed)) == ([first.db], [second.db])
    assert str(first.db) in str(error) and str(second.db) in str(error)
    assert isinstance(error.__cause__, TransactionIntegrityError)
    assert (names(first), names(second)) == (["new", "old"], ["old"])
    for side in pair:
        elsewhere(db_session(lambda side=side: side.Item(name="no lock is held")))


def test_a_partial_commit_is_never_run_again(pair):
    """66, 98. retry does not run again what one database has committed; what neither has, it does."""
    first, second = pair
    runs = []

    @db_session(retry=3, retry_exceptions=Exception)
    def work(failing):
        runs.append(1)
        first.Item(name=f"new {len(runs)}")
        second.Item(name=f"new {len(runs)}")
        if failing is second or len(runs) < 3:
            fail_at_commit(failing)

    work(first)
    assert len(runs) == 3
    assert [names(side) for side in pair] == [["new 3", "old"]] * 2
    runs.clear()
    with pytest.raises(PartialCommitException):
        work(second)
    assert len(runs) == 1
    assert (names(first), names(second)) == (["new 1", "new 3", "old"], ["new 3", "old"])


def test_objects_after_a_partial_commit(pair):
    """66, 74. Objects of both show what their own database has, and the next scope works on both."""
    first, second = pair
    with pytest.raises(PartialCommitException), db_session:
        kept, lost = first.Item.get(name="old"), second.Item.get(name="old")
        kept.count, lost.count = 5, 5
        fail_at_commit(second)
    assert (kept.count, lost.count) == (5, 0)
    with db_session:
        for side in pair:
            side.Item[1].count += 1
    assert [rows(side.db, "SELECT count FROM item") for side in pair] == [[6], [1]]


def test_going_on_after_a_partial_commit(pair):
    """66. A program that goes on after a failed commit() has to roll back first; what was committed stays."""
    first, second = pair
    with db_session:
        first.Item(name="new")
        second.Item(name="new")
        fail_at_commit(second)
        with pytest.raises(PartialCommitException):
            commit()
        with pytest.raises(SessionDoomed):
            second.Item.select().fetch()
        rollback()
        second.Item(name="again")
    assert (names(first), names(second)) == (["new", "old"], ["again", "old"])


def test_one_that_was_only_read_takes_no_part(pair):
    """66. A database that was only read cannot fail to commit, and costs nothing at the end."""
    first, second = pair
    with sent(first.db) as spent, db_session:
        first.Item.get(name="old")
        second.Item(name="new")
    assert (spent.statements, spent.transactions) == (1, 0)
    with sent(second.db) as spent, pytest.raises(TransactionIntegrityError), db_session:
        second.Item.get(name="new")
        first.Item(name="old")
    assert (spent.statements, spent.transactions) == (1, 0)


def test_a_failed_statement_in_one_dooms_both(one, two):
    """62, 66. On PostgreSQL a swallowed error loses its transaction; then neither commits. On SQLite both do."""
    is_postgres = one.db.backend.dialect.name == "postgresql"

    def work():
        with db_session:
            two.Item(name="new")
            one.Item(name="new").flush()
            with pytest.raises(Exception, match="no_such"):
                one.db.execute("UPDATE no_such SET x = 1")

    if is_postgres:
        with pytest.raises(SessionDoomed):
            work()
    else:
        work()
    wanted = ["old"] if is_postgres else ["new", "old"]
    assert [names(one), names(two)] == [wanted, wanted]


def test_a_connection_that_is_lost_commits_neither(postgres_url, two):
    """66, 108. The connection to one is lost before the end: nothing is committed in the other."""
    one = declare(Database(postgres_url))
    with pytest.raises((ConnectionLost, SessionDoomed)), db_session:
        two.Item(name="new").flush()
        one.Item(name="new").flush()
        number = one.db.get("SELECT pg_backend_pid()")
        with psycopg.connect(postgres_url, autocommit=True) as other:
            other.execute("SELECT pg_terminate_backend(%s, 10000)", (number,))
        one.Item(name="more")
    assert [names(one), names(two)] == [["old"], ["old"]]
    one.db.close()


def test_rollback_of_both(pair):
    """66, 71. rollback() undoes both, commit() saves both, and what comes later is another transaction of each."""
    with db_session:
        for side in pair:
            side.Item(name="undone").flush()
        rollback()
        for side in pair:
            side.Item(name="saved")
        flush()
        commit()
        for side in pair:
            side.Item(name="later")
    assert [names(side) for side in pair] == [["later", "old", "saved"]] * 2


@pytest.mark.parametrize("swallows", [True, False], ids=["swallowed", "wrapped"])
def test_work_is_not_run_again_behind_a_partial_commit_in_its_middle(pair, swallows):
    """66, 98. commit() in the middle has saved a part: whatever error leaves then, the work is not run again."""
    first, second = pair
    runs = []

    @db_session(retry=3)
    def work():
        runs.append(1)
        first.Item(name="new")
        second.Item(name="new")
        fail_at_commit(second)
        try:
            commit()
        except PartialCommitException as error:
            if not swallows:
                raise OptimisticCheckError("wrapped") from error

    with pytest.raises(SessionDoomed if swallows else OptimisticCheckError):
        work()
    assert len(runs) == 1
    assert (names(first), names(second)) == (["new", "old"], ["old"])
