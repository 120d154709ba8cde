"""Locks: what a lock brings along, what it refuses, and which errors say so."""

import threading
from contextlib import contextmanager

import psycopg
import pytest

from dbsession import (
    Database,
    DeadlockDetected,
    Json,
    LockNotAvailable,
    OperationalError,
    OptimisticCheckError,
    Optional,
    Required,
    SerializationConflict,
    SessionDoomed,
    Set,
    TransactionError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent


def declare(db):
    class Team(db.Entity):
        name = Required(str)
        members = Set("Person")

    class Person(db.Entity):
        name = Required(str)
        age = Optional(int)
        bio = Optional(str, lazy=True)
        notes = Optional(Json, lazy=True)
        score = Optional(float)
        team = Optional(Team)

    class Worker(Person):
        wage = Optional(int)
        diary = Optional(str, lazy=True)

    class Doc(db.Entity):
        title = Required(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        Person(name="Ann", age=30, bio="long", notes={"a": 1}, score=0.5, team=Team(name="a"))
        Person(name="Bob", age=40, bio="short")
        Worker(name="Cid", wage=5, diary="dear", bio="b")
        Team(name="b")
        Doc(title="doc")
    return db.entities


@pytest.fixture
def entities(db):
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


LOCKS = pytest.mark.parametrize(
    "lock",
    [
        lambda Person: Person.get_for_update(id=1),
        lambda Person: Person.get_for_update(lambda p: p.name == "Ann"),
        lambda Person: Person.select(name="Ann").for_update().first(),
        lambda Person: Person.select().order_by(Person.id).for_update().fetch()[0],
    ],
    ids=["get_for_update", "by a lambda", "a query", "a query for many"],
)


# --- promise 7: what a lock returns is what the locked row holds -----------------------------------------------


@LOCKS
def test_every_loaded_attribute_is_that_of_the_locked_row(db, entities, lock):
    """93. Whatever was read before, lazy attributes, float and Json too, has the value of the locked row."""
    Person, Team = entities["Person"], entities["Team"]
    with db_session:
        person = Person[1]
        assert (person.age, person.bio, person.notes, person.score) == (30, "long", {"a": 1}, 0.5)
        assert person.team.name == "a"
        elsewhere(
            db_session(lambda: Person[1].set(age=31, bio="new", notes={"a": 2}, score=0.75, team=Team.get(name="b")))
        )
        assert lock(Person) is person
        assert (person.age, person.bio, person.notes, person.score) == (31, "new", {"a": 2}, 0.75)
        assert person.team.name == "b"
        person.bio += "er"
    with db_session:
        assert Person[1].bio == "newer"


@LOCKS
def test_lazy_attributes_cost_a_statement_only_where_they_were_loaded(db, entities, lock):
    """93. What was never loaded is not loaded by the lock, which is one round trip then."""
    Person = entities["Person"]
    with db_session:
        Person[1]
        with sent(db) as spent:
            lock(Person)
        assert spent.round_trips == 1
        assert Person[1].bio == "long"
    with db_session:
        assert Person[1].bio == "long"
        with sent(db) as spent:
            lock(Person)
        assert spent.round_trips == 2


def test_lazy_attributes_of_many_classes(db, entities):
    """93. Objects of a hierarchy, each with lazy attributes of its own: one statement for all of them."""
    Person = entities["Person"]
    with db_session:
        ann, bob, cid = Person.select().order_by(Person.id)
        assert (ann.bio, bob.name, cid.diary, cid.bio) == ("long", "Bob", "dear", "b")
        change(Person, 1, bio="x")
        change(Person, 2, bio="y")
        change(Person, 3, diary="z")
        with sent(db) as spent:
            Person.select().for_update().fetch()
        assert spent.round_trips == 2
        assert (ann.bio, bob.bio, cid.diary, cid.bio) == ("x", "y", "z", "b")


def test_an_unsaved_change_of_a_lazy_attribute_that_rests_on_an_old_value(db, entities):
    """93. As for any attribute: an unsaved change that rests on what the locked row has no more is a conflict."""
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError, match=r"Person\[1\]\.bio has an unsaved change"), db_session as session:
        person = Person[1]
        person.bio += "er"
        change(Person, bio="new")
        with session.no_autoflush():
            Person.get_for_update(id=1)
    with db_session:
        assert Person[1].bio == "new"


def test_a_row_that_is_gone_cannot_be_locked(db, entities):
    """93, 92. The lock of a row that was deleted meanwhile gives None; what is written to it then is a conflict."""
    Person = entities["Person"]
    with pytest.raises(OptimisticCheckError, match=r"Person\[2\] was deleted by somebody else"), db_session:
        person = Person[2]
        elsewhere(db_session(lambda: Person[2].delete()))
        assert Person.get_for_update(id=2) is None
        assert Person.select(name="Bob").for_update().fetch() == []
        person.age = 5


def test_a_version_is_that_of_the_locked_row(db, entities):
    """90, 93. The version comes with the lock, so that the change behind it is none of a stale object."""
    Doc = entities["Doc"]
    with db_session:
        doc = Doc[1]
        assert doc.version == 1
        change(Doc, title="changed")
        Doc.get_for_update(id=1)
        assert (doc.version, doc.title) == (2, "changed")
        doc.title += "!"
    assert rows(db, "SELECT title, version FROM doc") == [("changed!", 3)]


def test_locking_twice(db, entities):
    """93. What this session has changed since the first lock stays, saved or not."""
    Person = entities["Person"]
    with db_session as session:
        person = Person.get_for_update(id=1)
        person.age += 1
        flush()
        assert Person.get_for_update(id=1) is person and person.age == 31
        person.bio = "mine"
        with session.no_autoflush():
            Person.get_for_update(id=1)
        assert (person.age, person.bio) == (31, "mine")
    with db_session:
        assert (Person[1].age, Person[1].bio) == (31, "mine")


# --- the errors ---------------------------------------------------------------------------------------------------


@contextmanager
def locked_by_somebody(url):
    """Hold the lock of Ann's row."""
    with psycopg.connect(url) as link:
        link.execute("SELECT 1 FROM person WHERE id = 1 FOR UPDATE")
        yield link


WAYS = {
    "nowait": ({}, lambda e: e["Person"].get_for_update(id=1, nowait=True)),
    "lock_timeout, lock": ({"lock_timeout": 0.01}, lambda e: e["Person"].get_for_update(id=1)),
    "lock_timeout, flush": ({"lock_timeout": 0.01}, lambda e: (e["Person"][1].set(age=5), flush())),
    "lock_timeout, flush of many": (
        {"lock_timeout": 0.01},
        lambda e: ([person.set(age=5) for person in e["Person"].select()], flush()),
    ),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("swallow", [False, True], ids=["raised", "swallowed"])
def test_a_lock_that_is_not_had(pg, postgres_url, way, swallow):
    """94, 62. LockNotAvailable, a TransactionError with the driver's error; swallowed, nothing of the scope is saved."""
    options, run = WAYS[way]
    e = pg.entities
    with locked_by_somebody(postgres_url):
        with pytest.raises((LockNotAvailable, SessionDoomed)) as caught, db_session(**options):
            e["Team"](name="lost").flush()
            if swallow:
                with pytest.raises(LockNotAvailable):
                    run(e)
            else:
                run(e)
    error = caught.value.__cause__ if swallow else caught.value
    assert isinstance(caught.value, SessionDoomed) is swallow
    assert isinstance(error, LockNotAvailable) and isinstance(error, TransactionError)
    assert isinstance(error, OperationalError)
    assert (error.sqlstate, error.original_exc.sqlstate) == ("55P03", "55P03")
    assert rows(pg, "SELECT name FROM team ORDER BY name") == ["a", "b"]
    with db_session:
        assert pg.get("SHOW lock_timeout") == "0"
        e["Person"].get_for_update(id=1, nowait=True).age = 6
    assert rows(pg, "SELECT age FROM person WHERE id = 1") == [6]


def test_a_lock_that_is_not_had_is_worth_a_retry(pg, postgres_url):
    """94, 97. With retry the work runs again until the other one has let go."""
    Person = pg.entities["Person"]
    runs = []

    with psycopg.connect(postgres_url) as link:
        link.execute("UPDATE person SET age = 50 WHERE id = 1")

        @db_session(retry=3)
        def work():
            runs.append(1)
            if len(runs) == 3:
                link.commit()
            Person.get_for_update(id=1, nowait=True).age += 1

        work()
    assert len(runs) == 3
    assert rows(pg, "SELECT age FROM person WHERE id = 1") == [51]


def test_skip_locked_gives_fewer(pg, postgres_url):
    """94. What is locked elsewhere is left out, loaded or not, and everything else is locked here."""
    Person = pg.entities["Person"]
    with locked_by_somebody(postgres_url), db_session:
        ann = Person[1]
        people = Person.select().order_by(Person.id).for_update(skip_locked=True).fetch()
        assert [person.name for person in people] == ["Bob", "Cid"]
        assert ann not in people
        for person in people:
            person.age = 60
        flush()
        with pytest.raises(LockNotAvailable), psycopg.connect(postgres_url) as third:
            third.execute("SET lock_timeout = '10ms'")
            try:
                third.execute("SELECT 1 FROM person WHERE id = 2 FOR UPDATE")
            except psycopg.errors.LockNotAvailable as error:
                raise LockNotAvailable from error
    assert rows(pg, "SELECT age FROM person ORDER BY id") == [30, 60, 60]


def test_a_queue_of_work(pg):
    """94. Four threads that take rows with skip_locked get each of them once, and none waits for another."""
    Team = pg.entities["Team"]
    with db_session:
        for number in range(40):
            Team(name=f"job {number}")
    begin = threading.Barrier(4)
    taken = []

    @db_session
    def take():
        job = Team.select(Team.name.startswith("job")).order_by(Team.id).for_update(skip_locked=True).first()
        if job is None:
            return False
        taken.append(job.name)
        job.delete()
        return True

    def work():
        begin.wait(30)
        while take():
            pass

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    left = rows(pg, "SELECT count(*) FROM team WHERE name LIKE 'job%'")[0]
    assert len(taken) == len(set(taken)) == 40 - left
    assert left == 0


def test_a_deadlock(pg, postgres_url):
    """94. Two scopes that lock two rows in opposite orders: one gets DeadlockDetected, and with retry both are saved."""
    Person = pg.entities["Person"]
    both_hold_one = threading.Barrier(2)
    runs, errors = [], []

    def work(first, second, wait):
        runs.append(1)
        db_options = pg.execute("SET LOCAL deadlock_timeout = '10ms'")
        Person.get_for_update(id=first).age += 1
        flush()
        if wait:
            both_hold_one.wait(30)
        try:
            Person.get_for_update(id=second).age += 1
        except DeadlockDetected as error:
            errors.append(error)
            raise

    def run(first, second):
        attempts = []

        @db_session(retry=5)
        def attempt():
            attempts.append(1)
            work(first, second, wait=len(attempts) == 1)

        attempt()

    threads = [threading.Thread(target=run, args=pair) for pair in ((1, 2), (2, 1))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert len(errors) >= 1 and errors[0].sqlstate == "40P01"
    assert isinstance(errors[0], TransactionError)
    assert len(runs) == 2 + len(errors)
    assert rows(pg, "SELECT age FROM person WHERE id <= 2 ORDER BY id") == [32, 42]


def test_a_serialization_conflict(pg):
    """94, 97. A row that was changed since a serializable transaction began: SerializationConflict, swallowed or not."""
    Person = pg.entities["Person"]
    for swallow in (False, True):
        with pytest.raises((SerializationConflict, SessionDoomed)) as caught, db_session(serializable=True):
            person = Person[1]
            age = person.age
            change(Person, age=age + 10)
            person.age = age + 1
            if swallow:
                with pytest.raises(SerializationConflict):
                    flush()
        error = caught.value.__cause__ if swallow else caught.value
        assert (type(error), error.sqlstate) == (SerializationConflict, "40001")
    assert rows(pg, "SELECT age FROM person WHERE id = 1") == [50]


# --- SQLite, where the database is what is locked -----------------------------------------------------------------


@pytest.mark.parametrize("db_url", ["sqlite", "sqlite-file"], indirect=True)
@pytest.mark.parametrize("write", ["flush", "lock", "raw", "immediate", "serializable"])
def test_the_write_lock_of_sqlite(db, entities, write):
    """94. Somebody else writes: LockNotAvailable after lock_timeout, nothing began, and the same scope can do it later."""
    Person = entities["Person"]
    options = {"immediate": {"immediate": True}, "serializable": {"serializable": True}}.get(write, {})
    verbs = {
        "lock": lambda: Person.get_for_update(id=1),
        "raw": lambda: db.execute("UPDATE person SET age = 31 WHERE id = 1"),
    }
    holds, done = threading.Event(), threading.Event()

    @db_session
    def hold():
        Person[2].age = 77
        flush()
        holds.set()
        assert done.wait(30)

    holder = threading.Thread(target=hold)
    holder.start()
    assert holds.wait(30)
    with db_session(lock_timeout=0.01, **options):
        verb = verbs.get(write, lambda: (Person[1].set(age=31), flush()))
        for _ in range(2):
            with pytest.raises(LockNotAvailable, match="another connection holds the lock") as caught:
                verb()
            assert caught.value.original_exc.sqlite_errorname == "SQLITE_BUSY"
        done.set()
        holder.join(30)
        verb()
        Person.get_for_update(id=1).age = 31
        commit()
    assert rows(db, "SELECT age FROM person WHERE id <= 2 ORDER BY id") == [31, 77]
    with db_session:
        assert db.get("PRAGMA busy_timeout") == 5000


@pytest.mark.parametrize("db_url", ["sqlite-file"], indirect=True)
def test_a_reader_of_sqlite_is_not_locked_out(db, entities):
    """94. While somebody writes a file others read what was committed, without waiting."""
    Person = entities["Person"]
    with db_session:
        Person[1].age = 99
        flush()
        assert elsewhere(db_session(lambda: Person[1].age)) == 30
        rollback()
