"""Reading a row again: what was read must still be so, unless the caller asked for the row, or a transaction ended."""

import threading

import psycopg
import pytest

from dbsession import (
    Database,
    Json,
    LockNotAvailable,
    OptimisticCheckError,
    Optional,
    Required,
    SessionDoomed,
    UnrepeatableReadError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent


def declare(db):
    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        nick = Optional(str)
        score = Optional(float)
        data = Optional(Json)
        seen = Optional(int, volatile=True)
        clicks = Optional(int, optimistic=False)

    class Doc(db.Entity):
        title = Required(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        User(name="Ann", age=30, score=0.5, data={"a": 1}, seen=1, clicks=1)
        User(name="Bob", age=40)
        Doc(title="doc")
    return User


@pytest.fixture
def User(db):
    return declare(db)


@pytest.fixture
def pg(postgres_url):
    db = Database(postgres_url)
    declare(db)
    yield db
    db.close()


def change(entity, key=1, **values):
    """Let somebody else change an object and commit."""
    elsewhere(db_session(lambda: entity[key].set(**values)))


def column(db, name):
    return rows(db, f'SELECT {name} FROM "user" WHERE id = 1')[0]


# --- UnrepeatableReadError ----------------------------------------------------------------------------------


@pytest.mark.parametrize("reread", ["select", "get", "raw condition"])
def test_a_value_that_was_read_has_changed(User, reread):
    """A second read shows that an attribute which the code has read was changed elsewhere: an error that names it."""
    read = {
        "select": lambda: User.select().fetch(),
        "get": lambda: User.get(name="Ann"),
        "raw condition": lambda: User.select(User.id < 2).first(),
    }[reread]
    with db_session:
        user = User[1]
        assert user.age == 30
        change(User, age=50)
        with pytest.raises(UnrepeatableReadError) as caught:
            read()
        message = str(caught.value)
        assert "User[1].age was read as 30, but the row has 50 now: somebody else has changed it" in message
        assert "@db_session(retry=...)" in message and "isolation=" not in message
        assert caught.value.obj is user
        assert user.age == 30


def test_what_was_not_read_takes_the_new_value(User):
    """Attributes that nobody has looked at just take the newer value; so do those that are not checked."""
    with db_session:
        user = User[1]
        assert (user.name, user.score, user.data, user.seen, user.clicks) == ("Ann", 0.5, {"a": 1}, 1, 1)
        change(User, age=50, score=1.5, data={"b": 2}, seen=2, clicks=2)
        assert User.select().count() == 2
        User.select().fetch()
        assert (user.age, user.score, user.data, user.seen, user.clicks) == (50, 1.5, {"b": 2}, 2, 2)


def test_the_identity_map_is_not_a_reread(User):
    """By key the object is in the session already: nothing is sent, and nothing is compared."""
    with db_session:
        user = User[1]
        assert user.age == 30
        change(User, age=50)
        assert User[1] is user and User.get(id=1) is user
        assert user.age == 30


def test_an_unsaved_change_is_not_overwritten(db, User):
    """127. What this session has changed stays as it is when the row is read again; the save finds the conflict."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 50 is there now"), db_session as session:
        user = User[1]
        user.age += 1
        change(User, age=50)
        with session.no_autoflush():
            User.select().fetch()
        assert user.age == 31
    with db_session as session:
        user = User[1]
        user.age = 7  # not read: it replaces whatever is there
        change(User, age=60)
        with session.no_autoflush():
            User.select().fetch()
        assert user.age == 7
    assert column(db, "age") == 7


# --- a reread that was asked for ----------------------------------------------------------------------------


def test_a_lock_refreshes(db, User):
    """93. get_for_update() and for_update() return the values of the locked row, whatever was read before."""
    for lock in (
        lambda: User.get_for_update(id=1),
        lambda: User.select(name="Ann").for_update().get(),
        lambda: User.select().order_by(User.id).for_update().fetch()[0],
    ):
        change(User, age=30, nick=None)
        with db_session:
            user = User[1]
            assert (user.name, user.age, user.nick) == ("Ann", 30, None)
            change(User, age=50, nick="x")
            assert lock() is user
            assert (user.age, user.nick) == (50, "x")
            user.age += 1
        assert column(db, "age") == 51


def test_a_lock_does_not_lose_an_unsaved_change(db, User):
    """93. If an unsaved change rests on a value that the locked row has no more, that is a conflict."""
    with pytest.raises(OptimisticCheckError), db_session:
        user = User[1]
        user.age += 1
        change(User, age=50)
        User.get_for_update(id=1)
    with pytest.raises(OptimisticCheckError, match="has an unsaved change that rests on 50"), db_session as session:
        user = User[1]
        user.age += 1
        change(User, age=60)
        with session.no_autoflush():
            User.get_for_update(id=1)
    with db_session as session:
        user = User[1]
        user.age = 7
        change(User, age=70)
        with session.no_autoflush():
            assert User.get_for_update(id=1) is user
        assert user.age == 7
    assert column(db, "age") == 7


def test_own_statements_change_what_was_read(db, User):
    """SQL of this session itself may change what was read: read again, the object shows it, and that is no error."""
    with db_session:
        user = User[1]
        assert user.age == 30
        db.execute('UPDATE "user" SET age = age + 1')
        User.select().fetch()
        assert user.age == 31
        user.age += 1
    assert column(db, "age") == 32


def test_own_changes_are_read_again(User):
    """Nor is it one to read again what was flushed."""
    with db_session:
        user = User[1]
        user.age += 1
        flush()
        assert User.get(age=31) is user
        user.age = User.age + 1
        assert User.select(User.age == 32).fetch() == [user]
        assert user.age == 32


# --- after a transaction has ended ----------------------------------------------------------------------------


@pytest.mark.parametrize("end", [commit, rollback])
@pytest.mark.parametrize("options", [{}, {"serializable": True}, {"immediate": True}], ids=str)
def test_a_new_transaction_reads_anew(User, end, options):
    """After commit() or rollback() a reread takes the row's values, and forgets what was read before."""
    with db_session(**options):
        user = User[1]
        assert user.age == 30
        end()
        change(User, age=50)
        assert user.age == 30
        User.select().fetch()
        assert user.age == 50
        user.age += 1
        commit()
        assert user.age == 51


def test_what_was_read_in_the_new_transaction_counts_again(User):
    """What has been read again since the commit is held to it, as at first."""
    with db_session:
        user = User[1]
        assert user.age == 30
        commit()
        User.select().fetch()
        change(User, age=50)
        with pytest.raises(UnrepeatableReadError, match="was read as 30, but the row has 50 now"):
            User.select().fetch()


@pytest.mark.parametrize("options", [{}, {"serializable": True}, {"immediate": True}], ids=str)
def test_checks_go_on_after_commit(db, User, options):
    """65. A value that was read before commit() is checked by the next write, in serializable scopes too."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 50 is there now"), db_session(**options):
        user = User[1]
        old = user.age
        commit()
        change(User, age=50)
        assert user.age == 30
        user.age = old + 1
    assert column(db, "age") == 50


@pytest.mark.parametrize("options", [{}, {"serializable": True}], ids=str)
def test_checks_go_on_after_rollback(db, User, options):
    """65. The same after rollback()."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 50 is there now"), db_session(**options):
        user = User[1]
        user.age += 1
        flush()
        rollback()
        change(User, age=50)
        user.age += 1
    assert column(db, "age") == 50


def test_locks_and_new_objects_are_exempt_until_commit(db, User):
    """65, 93. What was locked, written or made in this transaction is not checked in it, and is checked after it."""
    with db_session:
        locked, made, written = User.get_for_update(id=1), User(name="new", age=1), User[2]
        written.age += 1
        flush()
        assert (locked.age, made.age, written.age) == (30, 1, 41)
        db.execute('UPDATE "user" SET age = age + 100')
        for user in (locked, made, written):
            user.name += "!"
        commit()
        db.execute("UPDATE \"user\" SET nick = 'x'")
    assert rows(db, 'SELECT name, age FROM "user" ORDER BY id') == [("Ann!", 130), ("Bob!", 141), ("new!", 101)]
    for number in (1, 2, 3):
        with pytest.raises(OptimisticCheckError), db_session:
            locked, made, written = User.get_for_update(id=1), User(name="new", age=1), User[2]
            written.age += 1
            flush()
            objects = {1: locked, 2: written, 3: made}
            assert locked.age and made.age and written.age
            commit()
            change(User, key=objects[number].id, age=number)
            objects[number].name += "?"


def test_a_version_is_checked_after_commit(db, User):
    """65, 90. So is a version."""
    Doc = db.entities["Doc"]
    with pytest.raises(OptimisticCheckError, match="version: 2 was seen, 3 is there now"), db_session:
        doc = Doc[1]
        doc.title = "mine"
        commit()
        change(Doc, title="theirs")
        doc.title = "mine again"
    assert rows(db, "SELECT title, version FROM doc") == [("theirs", 3)]


def test_an_unsaved_change_across_a_commit(User):
    """65. A change made after commit() to a value that was read before it: the reread finds the conflict."""
    with pytest.raises(OptimisticCheckError, match="an unsaved change that rests on 30"), db_session as session:
        user = User[1]
        assert user.age == 30
        commit()
        change(User, age=50)
        user.age += 1
        with session.no_autoflush():
            User.select().fetch()


# --- locks --------------------------------------------------------------------------------------------------


class Holder:
    """Another thread that holds the lock of a row until it is told to let go."""

    def __init__(self, User, key=1):
        self._locked, self._done = threading.Event(), threading.Event()

        @db_session
        def hold():
            User.get_for_update(id=key)
            self._locked.set()
            assert self._done.wait(30)
            User[key].age = 99

        self._thread = threading.Thread(target=hold)

    def __enter__(self):
        self._thread.start()
        assert self._locked.wait(30)
        return self

    def __exit__(self, *exc_info):
        self._done.set()
        self._thread.join(30)


def test_nowait(pg):
    """94. nowait: a row that somebody else has locked is LockNotAvailable at once; without the other one it is had."""
    User = pg.entities["User"]
    with Holder(User):
        for lock in (
            lambda: User.get_for_update(id=1, nowait=True),
            lambda: User.select().for_update(nowait=True).fetch(),
        ):
            with pytest.raises(LockNotAvailable, match="could not obtain lock on row"), db_session:
                lock()
        with db_session:
            assert User.get_for_update(id=2, nowait=True).name == "Bob"
    with db_session:
        assert User.get_for_update(id=1, nowait=True).age == 99


def test_a_refused_lock_dooms_the_session(pg):
    """94, 62. On PostgreSQL a refused lock is a failed statement: nothing can be saved until rollback()."""
    User = pg.entities["User"]
    with Holder(User), db_session:
        User[2].name = "lost"
        flush()
        with pytest.raises(LockNotAvailable):
            User.get_for_update(id=1, nowait=True)
        with pytest.raises(SessionDoomed, match="LockNotAvailable"):
            commit()
        rollback()
        User[2].age = 41
    assert rows(pg, 'SELECT name, age FROM "user" ORDER BY id') == [("Ann", 99), ("Bob", 41)]


def test_skip_locked(pg):
    """94. skip_locked gives the rows that nobody has locked, and None where the only one is."""
    User = pg.entities["User"]
    with Holder(User), db_session:
        assert [user.name for user in User.select().for_update(skip_locked=True)] == ["Bob"]
        assert User.get_for_update(id=1, skip_locked=True) is None


def test_nowait_and_skip_locked_exclude_each_other(User):
    """94. Asking for both is an error, before anything is sent."""
    with db_session:
        with pytest.raises(TypeError, match="nowait and skip_locked exclude each other"):
            User.select().for_update(nowait=True, skip_locked=True)
        with pytest.raises(TypeError, match="exclude each other"):
            User.get_for_update(id=1, nowait=True, skip_locked=True)


def test_a_lock_waits_and_then_shows_what_the_other_has_done(pg, postgres_url):
    """93. A lock that has to wait shows the values that the other one has committed, and nothing is lost."""
    User = pg.entities["User"]

    def wait():
        with db_session:
            user = User[1]
            ages.append(user.age)
            user = User.get_for_update(id=1)
            ages.append(user.age)
            user.age += 1

    ages = []
    waiter = threading.Thread(target=wait)
    with Holder(User), psycopg.connect(postgres_url, autocommit=True) as other:
        waiter.start()
        blocked = "SELECT count(*) FROM pg_stat_activity WHERE cardinality(pg_blocking_pids(pid)) > 0"
        while other.execute(blocked).fetchone() != (1,):
            assert waiter.is_alive()
    waiter.join(30)
    assert ages == [30, 99]
    assert column(pg, "age") == 100


def test_a_lock_costs_one_round_trip(db, User):
    """93. Locking, changing and saving are two round trips; BEGIN goes with the lock, COMMIT with the change."""
    Doc = db.entities["Doc"]
    with sent(db) as spent, db_session:
        doc = Doc.get_for_update(id=1)
        doc.title += "!"
    assert (spent.round_trips, spent.transactions) == (2, 1)
    assert rows(db, "SELECT title FROM doc") == ["doc!"]
