"""Queries as values: by key, get, exists, select, order, limit, slices, delete, lock, and when they are sent."""

from __future__ import annotations

import threading
from contextlib import contextmanager

import pytest

from dbsession import (
    Database,
    LockNotAvailable,
    MultipleObjectsFoundError,
    NoScopeError,
    ObjectNotFound,
    Optional,
    Query,
    Required,
    Set,
    db_session,
    desc,
)
from tests.counting import counted


@pytest.fixture
def town(db):
    """Five people in two houses; one has none."""

    class House(db.Entity):
        street = Required(str)
        people = Set("Person")

    class Person(db.Entity):
        name = Required(str)
        age = Optional(int)
        house = Optional(House)

    db.generate_mapping(create_tables=True)
    with db_session:
        high, low = House(street="High"), House(street="Low")
        Person(name="Ann", age=30, house=high)
        Person(name="Bob", age=20, house=high)
        Person(name="Cid", age=40, house=low)
        Person(name="Dot", age=None, house=low)
        Person(name="Eve", age=20)
    return db


@pytest.fixture
def Person(town):
    """The class of the five."""
    return town.entities["Person"]


def names(objects):
    """Return the names in their order."""
    return [obj.name for obj in objects]


# --- one object -----------------------------------------------------------------------------------------


def test_by_key(town, Person):
    """18. 21. E[key] sends one statement for a row, none the second time, and is an ObjectNotFound without a row."""
    with db_session:
        with counted(town) as sent:
            ann = Person[1]
            assert ann is Person[1] is Person["1"] is Person[1.0] is Person[(1,)] and ann.name == "Ann"
        assert sent.statements == 1
        with pytest.raises(ObjectNotFound, match=r"^Person\[77\]") as caught:
            Person[77]
        assert (caught.value.entity, caught.value.key) == (Person, 77)
        with counted(town) as sent:
            for wrong in ("x", None, (1, 2), 1.5, b"1", ann):
                with pytest.raises(TypeError, match="Person"):
                    Person[wrong]
        assert sent.statements == 0


def test_get(Person):
    """21. get() gives the only object that fits, or None; of two it is an error that says what to do."""
    with db_session:
        assert Person.get(name="Cid").age == 40
        assert Person.get(Person.age > 30) is Person.get(name="Cid") is Person.get(Person.age == 40, name="Cid")
        assert Person.get(name="Zoe") is None
        assert Person.get(id=99) is None
        assert Person.get(id=3, name="Ann") is None
        with pytest.raises(MultipleObjectsFoundError, match=r"more than one Person fits, and get\(\) takes one"):
            Person.get(age=20)
        with pytest.raises(MultipleObjectsFoundError):
            Person.get()
        assert Person.select(age=20).order_by(Person.name).limit(1).get() is Person.get(name="Bob")


def test_get_by_key_uses_the_identity_map(town, Person):
    """18. get(id=...) of a known object sends nothing; other conditions ask the database."""
    with db_session:
        ann = Person[1]
        with counted(town) as sent:
            assert Person.get(id=1) is ann
        assert sent.statements == 0
        with counted(town) as sent:
            assert Person.get(id=1, name="Ann") is ann is Person.get(Person.id == 1)
        assert sent.statements == 2


def test_exists(town, Person):
    """exists() is asked of the database, and loads nothing."""
    with db_session:
        with counted(town) as sent:
            assert Person.exists() and Person.exists(age=20) and Person.select(Person.age > 30).exists()
            assert not Person.exists(Person.age > 30, name="Ann")
            assert not Person.select().limit(0).exists() and not Person.select().limit(5, offset=5).exists()
        assert sent.statements == 6


def test_first(Person):
    """first() goes by the order asked for, or by the key, and is None of nothing."""
    with db_session:
        assert Person.select().first().name == "Ann"
        assert Person.select().order_by(desc(Person.name)).first().name == "Eve"
        assert Person.select(age=20).order_by(Person.name.desc()).first().name == "Eve"
        assert Person.select(age=77).first() is None
        assert Person.select().order_by(Person.id).limit(2, offset=3).first().name == "Dot"


# --- several objects --------------------------------------------------------------------------------------


def test_select_with_values_and_conditions(Person, town):
    """Conditions and values all have to hold; a value may be an object, its key, or None."""
    House = town.entities["House"]
    with db_session:
        everybody = Person.select().order_by(Person.name)
        assert names(everybody) == ["Ann", "Bob", "Cid", "Dot", "Eve"]
        assert names(everybody.filter(age=20)) == ["Bob", "Eve"]
        assert names(everybody.filter(Person.age >= 20, Person.age < 40)) == ["Ann", "Bob", "Eve"]
        assert names(everybody.filter(Person.age == 20).filter(house=House[1])) == ["Bob"]
        assert names(everybody.filter(house=2)) == ["Cid", "Dot"]
        assert names(everybody.filter(house=None)) == ["Eve"]
        assert names(everybody.filter(age=None)) == ["Dot"]
        for computed in (True, False):  # as `Order.user.name != "x"` would be, and `delete()` may follow
            with pytest.raises(TypeError, match=f"Python has computed {computed} already"):
                Person.select(computed)


def test_a_query_is_a_value(town, Person):
    """Nothing is sent until it is iterated, and each verb gives a new query; two iterations ask twice."""
    with counted(town) as sent:
        with db_session:
            query = Person.select(Person.age > 10)
            narrow = query.filter(name="Bob").order_by(Person.id).limit(3)
            assert isinstance(query, Query) and query is not narrow
            assert repr(narrow).startswith("<Query SELECT")
    assert sent.statements == 0
    with db_session:
        with counted(town) as sent:
            assert len(query.fetch()) == 4 == len(list(query)) == len(query.all())
            assert names(narrow) == ["Bob"]
        assert sent.statements == 4
        Person[5].delete()
        assert query.count() == 3
    with pytest.raises(NoScopeError, match=r"test_a_query_is_a_value\(\) uses the database outside any db_session"):
        list(query)
    with db_session:  # the same query in another scope
        assert len(query.fetch()) == 3


def test_iterating_the_class(Person):
    """``for person in Person`` is a select() of all."""
    with db_session:
        assert sorted(names(Person)) == ["Ann", "Bob", "Cid", "Dot", "Eve"]
        assert Person[2] in list(Person)


def test_order_by(Person, town):
    """By attributes, expressions, references and names, each way; a later order_by() replaces an earlier one."""
    House = town.entities["House"]
    with db_session:
        query = Person.select(Person.age != None)  # noqa: E711
        assert names(query.order_by(Person.age, Person.name)) == ["Bob", "Eve", "Ann", "Cid"]
        assert names(query.order_by(desc(Person.age), desc(Person.name))) == ["Cid", "Ann", "Eve", "Bob"]
        assert names(query.order_by("age", Person.name.desc())) == ["Eve", "Bob", "Ann", "Cid"]
        assert names(query.order_by(Person.age * -1, Person.name)) == ["Cid", "Ann", "Bob", "Eve"]
        assert names(query.order_by(desc(Person.name)).order_by(Person.name.asc())) == ["Ann", "Bob", "Cid", "Eve"]
        assert names(query.order_by(desc(desc(Person.name)))) == ["Ann", "Bob", "Cid", "Eve"]
        assert names(query.filter(Person.house != None).order_by(Person.house, "name")) == ["Ann", "Bob", "Cid"]  # noqa: E711
        assert names(query.order_by(Person.name.lower().desc())) == ["Eve", "Cid", "Bob", "Ann"]
        assert len(query.order_by().fetch()) == 4
        assert [house.street for house in House.select().order_by(House.street)] == ["High", "Low"]


def test_limit_and_slices(Person):
    """A slice is sent as LIMIT and OFFSET; limits within limits only narrow."""
    with db_session:
        query = Person.select().order_by(Person.id)
        assert names(query[:2]) == ["Ann", "Bob"] == names(query.limit(2))
        assert names(query[1:3]) == ["Bob", "Cid"] == names(query.limit(2, offset=1))
        assert names(query[3:]) == ["Dot", "Eve"] == names(query.limit(None, offset=3))
        assert names(query[:]) == names(query) and query[2:2] == [] == query[4:2] == query[9:] == query.limit(0).fetch()
        assert names(query.limit(4)[1:]) == ["Bob", "Cid", "Dot"]
        assert names(query.limit(4, offset=1).limit(9, offset=2)) == ["Dot", "Eve"]
        assert names(query.limit(2).limit(None)) == ["Ann", "Bob"]
        assert query.limit(2).limit(5, offset=3).fetch() == []
        assert (query.limit(2).count(), query.limit(9, offset=3).count(), query.limit(None, offset=1).count()) == (
            2,
            2,
            4,
        )
        for wrong in (lambda: query[-1:], lambda: query[:-1], lambda: query[::2], lambda: query[0], lambda: query["a"]):
            with pytest.raises(TypeError, match="slice"):
                wrong()
        for wrong in ((-1,), (1, -1)):
            with pytest.raises(ValueError, match="cannot be negative"):
                query.limit(*wrong)
        for wrong in ("1", 1.5, None):
            with pytest.raises(TypeError, match="limit and offset are whole numbers"):
                query.limit(1, wrong)
        with pytest.raises(TypeError, match=r"filter\(\) behind limit\(\)"):
            query.limit(2).filter(age=20)


def test_count(town, Person):
    """count() asks the database; it goes by what is in it after what is unsaved has been sent."""
    with db_session:
        with counted(town) as sent:
            assert (Person.select().count(), Person.select(age=20).count(), Person.select(age=7).count()) == (5, 2, 0)
        assert sent.statements == 3
        Person(name="Fay")
        assert Person.select().count() == 6


# --- changes in memory ----------------------------------------------------------------------------------------


def test_autoflush(town, Person):
    """55. A query sees unsaved changes of its table; where there are none, nothing is sent before it."""
    House = town.entities["House"]
    with db_session as session:
        ann = Person[1]
        ann.age = 77
        with counted(town) as sent:
            House.select().fetch()
        assert sent.statements == 1
        assert Person.get(age=77) is ann
        House(street="New")
        assert [house.street for house in House.select(House.street.startswith("N"))] == ["New"]
        with session.no_autoflush():
            Person(name="Fay", age=77)
            assert Person.select(age=77).count() == 1
        assert Person.select(age=77).count() == 2


def test_a_query_does_not_overwrite_changes(Person):
    """127. What is changed here stays, whatever a query brings."""
    with db_session as session:
        bob = Person[2]
        with session.no_autoflush():
            bob.age = 99
            assert [person.age for person in Person.select(Person.age == 20).order_by(Person.id)] == [99, 20]
        assert bob in Person.select(age=99).fetch()


def test_new_objects_in_conditions(town, Person):
    """55. An object that is not saved yet can be compared with: it is saved first."""
    House = town.entities["House"]
    with db_session:
        house = House(street="New")
        assert Person.select(Person.house == house).fetch() == []
        Person[1].house = house
        assert names(Person.select(house=house)) == ["Ann"] == names(house.people.select())
        assert Person.select(Person.house.in_([house, House[2]])).count() == 3


# --- delete -----------------------------------------------------------------------------------------------------


def test_delete_loads_and_deletes_each(town, Person):
    """delete() marks each object, runs hooks and cascades, and says how many there were."""
    with db_session:
        assert Person.select(age=20).delete() == 2
        assert Person.select(age=20).delete() == 0
        assert Person.select().order_by(Person.name).limit(1).delete() == 1
    with db_session:
        assert names(Person.select().order_by(Person.name)) == ["Cid", "Dot"]


def test_delete_in_bulk(town, Person):
    """125. delete(bulk=True) is one statement; objects in memory that went with it are deleted, not stale."""
    House = town.entities["House"]
    with db_session:
        bob, ann = Person[2], Person[1]
        with counted(town) as sent:
            assert Person.select(age=20).delete(bulk=True) == 2
        assert sent.round_trips == 1
        assert Person.get(id=2) is None and bob.name == "Bob"
        assert ann.name == "Ann"
        assert Person.select().order_by(desc(Person.age)).filter(Person.age != None).limit(1).delete(bulk=True) == 1  # noqa: E711
    with db_session:
        assert names(Person.select().order_by(Person.name)) == ["Ann", "Dot"]
        assert House[2].people.select().delete(bulk=True) == 1
        assert Person.select().delete(bulk=True) == 1
        assert Person.select().count() == 0


def test_delete_in_bulk_of_linked_items(db):
    """125. The items of a many-to-many collection can be deleted in bulk, and nothing else goes."""

    class Tag(db.Entity):
        posts = Set("Post")

    class Post(db.Entity):
        tags = Set(Tag)
        text = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        tag = Tag(posts=[Post(text="a"), Post(text="b")])
        Post(text="c"), Tag(posts=[Post(text="d")])
    with db_session:
        assert Tag[1].posts.select(Post.text == "a").delete(bulk=True) == 1
        assert Tag[1].posts.select().count() == 1
    with db_session:
        assert Tag[1].posts.select().delete(bulk=True) == 1
        assert sorted(post.text for post in Post) == ["c", "d"]


# --- locks ---------------------------------------------------------------------------------------------------------


def test_for_update_reads_the_locked_row(Person):
    """93. What for_update() returns is what the locked row holds, and is exempt from checks until the commit."""
    with db_session:
        bob = Person.get_for_update(name="Bob")
        assert bob.age == 20 and Person.get_for_update(id=77) is None
        assert names(Person.select(age=20).for_update().order_by(Person.id)) == ["Bob", "Eve"]
        assert Person.select().order_by(Person.id).for_update().first().name == "Ann"
        with pytest.raises(MultipleObjectsFoundError):
            Person.get_for_update(age=20)
        with pytest.raises(TypeError, match="nowait and skip_locked exclude each other"):
            Person.select().for_update(nowait=True, skip_locked=True)
        for stranger in (int, "person"):
            with pytest.raises(TypeError, match="this query has rows of Person only"):
                Person.select().for_update(of=stranger)
        assert names(Person.select(name="Bob").for_update(of=Person)) == ["Bob"]
        bob.age += 1
    with db_session:
        assert Person[2].age == 21


@contextmanager
def locked(url, name):
    """Hold the lock of the person called *name* on a connection of another thread."""
    held, done = threading.Event(), threading.Event()
    db, Person = people_at(url)

    def hold():
        with db_session:
            Person.get_for_update(name=name)
            held.set()
            done.wait(30)

    thread = threading.Thread(target=hold)
    thread.start()
    assert held.wait(30)
    yield
    done.set()
    thread.join()
    db.close()


def people_at(url):
    """Declare people in a database of its own on *url*."""
    db = Database(url, timeout=0.0) if url.startswith("sqlite") else Database(url)
    Person = type(db.Entity)("Person", (db.Entity,), {"name": Required(str), "age": Optional(int)})
    db.generate_mapping(create_tables=True)
    return db, Person


def test_nowait_and_skip_locked(postgres_url):
    """94. A row that is locked elsewhere: nowait is an error at once, skip_locked leaves it out."""
    db, Person = people_at(postgres_url)
    with db_session:
        Person(name="Ann", age=1), Person(name="Bob", age=2)
    with locked(postgres_url, "Ann"):
        with db_session:
            everybody = Person.select().order_by(Person.id)
            assert names(everybody.for_update(skip_locked=True)) == ["Bob"]
            assert Person.get_for_update(name="Ann", skip_locked=True) is None
            assert names(everybody) == ["Ann", "Bob"]
        with pytest.raises(LockNotAvailable):
            with db_session:
                Person.get_for_update(name="Ann", nowait=True)
        with db_session:
            assert Person.get_for_update(name="Bob", nowait=True).age == 2
    with db_session:
        assert Person.get_for_update(name="Ann", nowait=True).age == 1
    db.close()


def test_locks_on_sqlite(sqlite_file_url):
    """94. SQLite locks the database: a second lock is refused in time, and skip_locked skips nothing."""
    db, Person = people_at(sqlite_file_url)
    with db_session:
        Person(name="Ann"), Person(name="Bob")
    with locked(sqlite_file_url, "Ann"):
        for options in ({}, {"nowait": True}, {"skip_locked": True}):
            with pytest.raises(LockNotAvailable, match="another connection holds the lock"):
                with db_session:
                    Person.get_for_update(name="Bob", **options)
        with db_session:
            assert Person.get(name="Bob") is not None
    with db_session:
        assert len(Person.select().for_update(skip_locked=True).fetch()) == 2
    db.close()
