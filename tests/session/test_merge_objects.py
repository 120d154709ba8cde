"""Objects merged: copies, those of scopes that are over, and those that no session has, onto a session's own."""

from __future__ import annotations

import copy
from types import SimpleNamespace

import pytest

from dbsession import (
    CacheIndexError,
    ConstraintError,
    Json,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Optional,
    Required,
    Session,
    Set,
    Version,
    db_session,
    flush,
    rollback,
)
from dbsession.session import merging
from tests.counting import counted
from tests.observing import elsewhere, rows


@pytest.fixture
def shop(db):
    """Ann with two orders and a tag; Bob with nothing."""

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        score = Optional(float)
        bio = Optional(str, lazy=True)
        settings = Optional(Json)
        orders = Set("Order")
        tags = Set("Tag")

    class Order(db.Entity):
        user = Optional(User)
        total = Required(int)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        text = Required(str)

    class Tag(db.Entity):
        name = Required(str)
        users = Set(User)

    class Document(db.Entity):
        text = Required(str)
        note = Optional(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann", age=30, score=1.5, bio="long", settings={"a": [1]}, tags=[Tag(name="x")])
        User(name="Bob", age=40)
        Tag(name="y")
        Line(order=Order(user=ann, total=1), text="l")
        Order(user=ann, total=2)
        Document(text="first")
    return SimpleNamespace(**db.entities, db=db)


def merge(shop, what):
    unit = shop.db.gateway.unit()
    return unit.run(merging.merge(unit, what))


@db_session
def taken(entity, key, *loaded):
    """Return a copy of an object, with collections *loaded*."""
    obj = entity[key]
    for name in loaded:
        getattr(obj, name).load()
    return copy.copy(obj)


# --- of scopes that are over --------------------------------------------------------------------------------


def test_an_object_of_a_scope_that_is_over(shop):
    """123. An unchanged object says nothing but that it exists: the session's own comes, with the row's values."""
    with db_session:
        old = shop.User[1]
    elsewhere(db_session(lambda: shop.User[1].set(name="Anna")))
    with db_session:
        with counted(shop.db) as sent:
            user = merge(shop, old)
        assert sent.round_trips == 1
        assert user is shop.User[1]
        assert user is not old
        assert (user.name, old.name) == ("Anna", "Ann")
        assert merge(shop, user) is user
        assert merge(shop, [old, user]) == [user, user]
        with counted(shop.db) as sent:
            flush()
        assert sent.statements == 0
    with db_session(strict=True):
        emptied = shop.User[2]
    with db_session:
        assert merge(shop, emptied) is shop.User[2]


def test_an_object_of_a_row_that_is_gone(shop):
    """123. The row of an unchanged object may be gone: that is an error, and no new object."""
    with db_session:
        old = shop.User[2]
    elsewhere(db_session(lambda: shop.User[2].delete()))
    with db_session, pytest.raises(ObjectNotFound, match=r"User\[2\] does not exist: its row was deleted"):
        merge(shop, old)


def test_an_object_of_a_live_session(shop):
    """An object that another live session has is not merged; its data can be."""
    with db_session:
        mine = shop.User[1]
        with db_session(nested="independent"):
            with pytest.raises(
                ConstraintError, match=r"User\[1\] cannot be merged: it belongs to another live session"
            ):
                merge(shop, mine)


def test_a_deleted_object(shop):
    """What was deleted is not merged, neither a copy nor what its scope has deleted."""
    bob = taken(shop.User, 2)
    bob.delete()
    with db_session:
        gone = shop.User[2]
        gone.delete()
    for obj in (bob, gone):
        with db_session, pytest.raises(OperationWithDeletedObjectError, match=r"User\[2\] cannot be merged: it was"):
            merge(shop, obj)


# --- changed copies -------------------------------------------------------------------------------------------


def test_a_changed_copy(shop):
    """123. What a copy has changed is assigned to the session's own object, and nothing else."""
    bob = taken(shop.User, 2)
    bob.name, bob.settings = "Bobby", {"b": 1}
    elsewhere(db_session(lambda: shop.User[2].set(age=41)))
    with db_session:
        with counted(shop.db) as sent:
            user = merge(shop, bob)
        assert sent.round_trips == 1
        assert user is shop.User[2]
        assert (user.name, user.age, user.settings) == ("Bobby", 41, {"b": 1})
        user.settings["c"] = 2
        assert bob.settings == {"b": 1}
    assert rows(shop.db, 'SELECT name, age FROM "user" WHERE id = 2') == [("Bobby", 41)]


def test_a_change_that_rests_on_what_was(shop):
    """123. If the row has another value in a changed attribute, both are named, and nothing is assigned."""
    bob = taken(shop.User, 2)
    bob.name, bob.age = "Bobby", 50
    elsewhere(db_session(lambda: shop.User[2].set(age=41)))
    with db_session:
        with pytest.raises(
            OptimisticCheckError, match=r"User\[2\] was .*\(age: 40 was expected, 41 is there\)"
        ) as caught:
            merge(shop, bob)
        assert caught.value.differences == [("age", 40, 41)]
        assert (shop.User[2].name, shop.User[2].age) == ("Bob", 41)


def test_a_change_of_a_row_that_is_gone(shop):
    """123. A change of a row that somebody else has deleted is a conflict."""
    bob = taken(shop.User, 2)
    bob.name = "Bobby"
    elsewhere(db_session(lambda: shop.User[2].delete()))
    with db_session, pytest.raises(OptimisticCheckError, match=r"User\[2\] was deleted by somebody else"):
        merge(shop, bob)


def test_what_is_never_checked(shop):
    """123. Attributes that optimistic checks leave out (floats, Json) are left out here, too."""
    ann = taken(shop.User, 1)
    ann.score, ann.settings = 2.5, {"a": 2}
    elsewhere(db_session(lambda: shop.User[1].set(score=9.5, settings={})))
    with db_session:
        user = merge(shop, ann)
        assert (user.score, user.settings) == (2.5, {"a": 2})


def test_the_version_of_a_copy(shop):
    """123. A Version is of the whole row: whatever has changed there, a changed copy conflicts."""
    document = taken(shop.Document, 1)
    document.text = "mine"
    with db_session:
        assert merge(shop, taken(shop.Document, 1)).version == 1
        assert merge(shop, document).text == "mine"
        rollback()
    elsewhere(db_session(lambda: shop.Document[1].set(note="theirs")))
    with db_session, pytest.raises(OptimisticCheckError, match=r"\(version: 1 was expected, 2 is there\)"):
        merge(shop, document)


def test_lazy_attributes(shop):
    """123. A lazy attribute that a copy has changed without having it assigns; one that it had is compared."""
    blind, seen = taken(shop.User, 1), None
    blind.bio = "new"
    with db_session:
        user = shop.User[1]
        user.load("bio")
        seen = copy.copy(user)
    seen.bio = "newer"
    with db_session:
        assert merge(shop, blind).bio == "new"
        rollback()
        assert merge(shop, seen).bio == "newer"
    with db_session, pytest.raises(OptimisticCheckError, match="bio: 'long' was expected, 'newer' is there"):
        merge(shop, seen)


def test_expressions(shop):
    """An SQL expression that was assigned to a copy is worked out by the flush."""
    bob = taken(shop.User, 2)
    bob.age = shop.User.age + 2
    with db_session:
        merge(shop, bob)
    assert rows(shop.db, 'SELECT age FROM "user" WHERE id = 2') == [42]


def test_several_copies(shop):
    """A list of objects is merged at once: their rows come in one round trip, and it is all or nothing."""
    ann, bob = taken(shop.User, 1), taken(shop.User, 2)
    ann.name, bob.name = "Anna", "Bobby"
    with db_session:
        with counted(shop.db) as sent:
            found = merge(shop, [ann, bob])
        assert sent.round_trips == 1
        assert [user.name for user in found] == ["Anna", "Bobby"]
        rollback()
    elsewhere(db_session(lambda: shop.User[2].set(name="x")))
    with db_session:
        with pytest.raises(OptimisticCheckError):
            merge(shop, [ann, bob])
        assert shop.User[1].name == "Ann"


# --- relations ------------------------------------------------------------------------------------------------


def test_references(shop):
    """123. A changed reference becomes one to the session's own object; one to a new object brings that along."""
    with db_session:
        order, other = copy.deepcopy([shop.Order[1], shop.User[2]])
    order.user = other
    with db_session:
        mine = merge(shop, order)
        assert mine.user is shop.User[2]
        rollback()
    elsewhere(db_session(lambda: shop.Order[1].set(user=None)))
    with db_session, pytest.raises(OptimisticCheckError, match=r"user: 1 was expected, None is there"):
        merge(shop, order)


def test_collections_of_a_copy(shop):
    """123. What was added to and removed from collections of a copy is, of those of the session's object."""
    with db_session:
        user, new_tag = shop.User[1], shop.Tag[2]
        user.orders.load(), user.tags.load()
        ann, tag = copy.deepcopy([user, new_tag])
    ann.tags.add(tag)
    ann.tags.remove([each for each in ann.tags if each.name == "x"])
    ann.orders.remove([order for order in ann.orders if order.total == 1])
    ann.orders.create(total=7)
    elsewhere(db_session(lambda: shop.Order(user=1, total=3)))
    with db_session:
        user = merge(shop, ann)
        assert sorted(order.total for order in user.orders) == [2, 3, 7]
        assert [tag.name for tag in user.tags] == ["y"]
    assert rows(shop.db, 'SELECT total FROM "order" WHERE "user" = 1 ORDER BY total') == [2, 3, 7]
    assert rows(shop.db, "SELECT tag FROM tag_user") == [2]


# --- new ones -------------------------------------------------------------------------------------------------


def test_transient_objects(shop):
    """123. What was built outside any scope becomes a new object, with what it refers to and what it has collected."""
    held = Session(shop.db)
    try:
        user = shop.User(name="New", age=1)
        order = shop.Order(user=user, total=5)
        shop.Line(order=order, text="a")
        shop.Line(order=order, text="b")
    finally:
        held.close()
    with db_session:
        merged = merge(shop, order)
        assert merged is not order
        assert (merged.user.name, sorted(line.text for line in merged.lines)) == ("New", ["a", "b"])
    assert rows(shop.db, 'SELECT COUNT(*) FROM "user"') == [3]
    assert rows(shop.db, "SELECT text FROM line ORDER BY text") == ["a", "b", "l"]


def test_an_object_that_was_rolled_back(shop):
    """123. An object whose creation was rolled back is merged as a new one."""
    with db_session:
        undone = shop.User(name="Undone", tags=[])
        rollback()
    with db_session:
        assert merge(shop, undone).name == "Undone"
    assert rows(shop.db, """SELECT COUNT(*) FROM "user" WHERE name = 'Undone'""") == [1]


def test_a_new_object_with_the_key_of_a_row(shop):
    """123. An object that was never saved is not merged onto the row of its key: defaults would replace values."""
    held = Session(shop.db)
    try:
        user = shop.User(id=2, name="Bobby")
    finally:
        held.close()
    with db_session:
        with pytest.raises(CacheIndexError, match=r"merge User\[2\], which was never saved: User\[2\] exists already"):
            merge(shop, user)
        assert shop.User[2].to_dict("name age") == {"name": "Bob", "age": 40}
