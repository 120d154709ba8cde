"""What is in memory may be older than the lock that the session holds: it is checked all the same, or loaded again."""

import pytest

from dbsession import (
    Discriminator,
    Json,
    OptimisticCheckError,
    Optional,
    Required,
    commit,
    db_session,
    flush,
)
from tests.observing import elsewhere, rows, sent


@pytest.fixture
def User(db):
    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        logins = Required(int, default=0)
        bio = Optional(str, lazy=True)
        data = Optional(Json, lazy=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        User(name="Ann", age=30, bio="old", data={"a": 1})
        User(name="Bob", age=40, bio="old", data={"a": 1})
        User(name="Eve", age=50, bio="old", data={"a": 1})
    return User


def change(entity, key=1, **values):
    """Let somebody else change an object and commit."""
    elsewhere(db_session(lambda: entity[key].set(**values)))


# --- after an UPDATE of the session's own ---------------------------------------------------------------

WRITES = {
    "value": lambda user: user.set(name="Anna"),
    "expression": lambda user: user.set(logins=type(user).logins + 1),
    "after a read": lambda user: user.set(name=user.name + "!"),
}
VERBS = {
    "update": lambda user: user.set(age=user.age + 1),
    "another column": lambda user: user.set(bio=f"{user.age} years old"),
    "delete": lambda user: user.delete() if user.age == 30 else None,
}


@pytest.mark.parametrize("write", WRITES.values(), ids=WRITES)
@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_what_an_update_has_not_compared_is_checked_by_the_next_one(db, User, write, verb):
    """89. The row is locked by the first UPDATE, but had changed before: a value read after it, from memory, is checked."""
    with pytest.raises(OptimisticCheckError) as caught, db_session:
        user = User[1]
        change(User, age=60)
        write(user)
        flush()
        assert user.age == 30
        verb(user)
    assert caught.value.differences == [("age", 30, 60)]
    assert "age: 30 was seen, 60 is there now" in str(caught.value)
    assert rows(db, 'SELECT name, age, logins FROM "user" WHERE id = 1') == [("Ann", 60, 0)]


def test_what_an_update_has_set_or_compared_is_not_checked_again(db, User):
    """89. Nobody else can have changed that: not even the session's own SQL, or a trigger, is a conflict."""
    with db_session:
        user = User[1]
        assert user.age == 30
        user.name = "Anna"
        user.logins = User.logins + 1
        flush()
        assert user.logins == 1
        db.execute("UPDATE \"user\" SET age = age + 100, logins = logins + 100, name = name || '!'")
        user.bio = "new"
        flush()
        user.delete()
    assert rows(db, 'SELECT id FROM "user" ORDER BY id') == [2, 3]


def test_what_an_earlier_transaction_has_loaded_is_checked_after_an_update(db, User):
    """65, 89. The same in the second transaction of a serializable scope, whose values are from before its snapshot."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 60 is there now"), db_session(serializable=True):
        user = User[1]
        commit()
        change(User, age=60)
        user.name = "Anna"
        flush()
        user.age += 1
    assert rows(db, 'SELECT name, age FROM "user" WHERE id = 1') == [("Ann", 60)]


# --- while a change is unsaved ----------------------------------------------------------------------------


def test_an_expression_after_a_read_is_checked_though_the_row_was_read_again(db, User):
    """89. What was read before an SQL expression was assigned is compared with the row, whatever was loaded in between."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 60 is there now"), db_session as session:
        user = User[1]
        if user.age == 30:
            user.age = User.age + 1
        change(User, age=60)
        with session.no_autoflush():
            User.select().fetch()
    with pytest.raises(OptimisticCheckError, match="age has an unsaved change that rests on 60"):
        with db_session as session:
            user = User[1]
            if user.age == 60:
                user.age = User.age + 1
            change(User, age=70)
            with session.no_autoflush():
                User.get_for_update(id=1)
    with db_session as session:
        user = User[1]
        user.age = User.age + 1  # nothing was read: it adds to whatever is there
        change(User, age=80)
        with session.no_autoflush():
            User.get_for_update(id=1)
    assert rows(db, 'SELECT age FROM "user" WHERE id = 1') == [81]


def test_an_expression_survives_the_failure_of_an_inner_scope(db, User):
    """5, 89. The object is not loaded again after it, and what had been read before is compared."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 60 is there now"), db_session:
        user = User[1]
        assert user.age == 30
        user.age = User.age + 1
        with pytest.raises(KeyError), db_session:
            user.name = "Anna"
            raise KeyError
        change(User, age=60)
        with sent(db) as spent:
            assert User[1] is user
        assert spent.round_trips == 0
    assert rows(db, 'SELECT name, age FROM "user" WHERE id = 1') == [("Ann", 60)]


def test_a_lock_exempts_nothing_that_has_unsaved_changes(db, User):
    """89, 93. After SQL of the session's own a reread says nothing; a change that rests on an older value is checked all the same."""
    with pytest.raises(OptimisticCheckError, match="age: 30 was seen, 60 is there now"), db_session as session:
        user = User[1]
        user.age += 1
        change(User, age=60)
        with session.no_autoflush():
            db.execute("UPDATE \"user\" SET name = 'Bert' WHERE id = 2")
            User.get_for_update(id=1)
    assert rows(db, 'SELECT name, age FROM "user" WHERE id < 3 ORDER BY id') == [("Ann", 60), ("Bob", 40)]


# --- lazy attributes of what is locked --------------------------------------------------------------------


def test_a_lock_refreshes_lazy_attributes_too(db, User):
    """93. What was loaded of a lazy attribute before the lock is loaded again with it, and stays readable."""
    with db_session:
        user = User[1]
        assert (user.bio, user.data) == ("old", {"a": 1})
        change(User, bio="theirs", data={"b": 2})
        assert User.get_for_update(id=1) is user
        assert (user.bio, user.data) == ("theirs", {"b": 2})
        user.bio += ", mine"
        user.data["c"] = 3
    assert (user.bio, user.data) == ("theirs, mine", {"b": 2, "c": 3})
    with db_session:
        assert (User[1].bio, User[1].data) == ("theirs, mine", {"b": 2, "c": 3})


def test_lazy_attributes_are_refreshed_for_all_at_once(db, User):
    """93. One more round trip for all objects of which a lazy attribute was loaded, and none for the others."""
    with db_session:
        users = User.select().order_by(User.id).fetch()
        with sent(db) as spent:
            User.select().for_update().fetch()
        assert spent.round_trips == 1
        assert [user.bio for user in users[:2]] == ["old", "old"]
        with sent(db) as spent:
            User.select().for_update().fetch()
        assert spent.round_trips == 2
        with sent(db) as spent:
            assert [user.bio for user in users[:2]] == ["old", "old"]
        assert spent.round_trips == 0


def test_an_unsaved_change_of_a_lazy_attribute_conflicts_with_the_locked_row(db, User):
    """93. A change that rests on a lazy value which the locked row does not have any more is a conflict; a blind one wins."""
    with pytest.raises(OptimisticCheckError, match="bio has an unsaved change that rests on 'old'"):
        with db_session as session:
            user = User[1]
            user.bio += "!"
            change(User, bio="theirs")
            with session.no_autoflush():
                User.get_for_update(id=1)
    with db_session as session:
        user = User[1]
        user.bio = "mine"
        change(User, bio="theirs, again")
        with session.no_autoflush():
            User.get_for_update(id=1)
        assert user.bio == "mine"
    assert rows(db, 'SELECT bio FROM "user" WHERE id = 1') == ["mine"]


def test_lazy_attributes_of_subclasses_are_refreshed(db):
    """93. Also where the query asks for the base class."""

    class Person(db.Entity):
        kind = Discriminator(str)
        name = Required(str)
        notes = Optional(str, lazy=True)

    class Author(Person):
        essay = Optional(str, lazy=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Person(name="p", notes="old")
        Author(name="a", notes="old", essay="old")
    with db_session:
        person, author = Person[1], Person[2]
        assert (person.notes, author.notes, author.essay) == ("old", "old", "old")
        change(Person, 1, notes="new")
        change(Author, 2, notes="new", essay="new")
        assert set(Person.select().for_update().fetch()) == {person, author}
        assert (person.notes, author.notes, author.essay) == ("new", "new", "new")
        author.essay += "er"
    assert rows(db, "SELECT essay FROM person WHERE id = 2") == ["newer"]
