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
    PrimaryKey,
    Required,
    Session,
    Set,
    Version,
    db_session,
    flush,
    rollback,
)
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

    class Card(db.Entity):
        number = Required(str)
        holder = Required("Holder")

    class Holder(db.Entity):
        code = PrimaryKey(str)
        next = Optional("Holder", reverse="previous")
        previous = Optional("Holder", reverse="next", column="previous")
        card = Optional(Card)

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
    with db_session as session:
        old = shop.User[1]
    elsewhere(db_session(lambda: shop.User[1].set(name="Anna")))
    with db_session as session:
        with counted(shop.db) as sent:
            user = session.merge(old)
        assert sent.round_trips == 1
        assert user is shop.User[1]
        assert user is not old
        assert (user.name, old.name) == ("Anna", "Ann")
        assert session.merge(user) is user
        assert session.merge([old, user]) == [user, user]
        with counted(shop.db) as sent:
            flush()
        assert sent.statements == 0
    with db_session(strict=True):
        emptied = shop.User[2]
    with db_session as session:
        assert session.merge(emptied) is shop.User[2]


def test_an_object_of_a_row_that_is_gone(shop):
    """123. The row of an unchanged object may be gone: that is an error, and no new object."""
    with db_session as session:
        old = shop.User[2]
    elsewhere(db_session(lambda: shop.User[2].delete()))
    with db_session as session, pytest.raises(ObjectNotFound, match=r"User\[2\] does not exist: its row was deleted"):
        session.merge(old)


def test_an_object_of_a_live_session(shop):
    """An object that another live session has is not merged; its data can be."""
    with db_session:
        mine = shop.User[1]
        with db_session(nested="independent") as session:
            with pytest.raises(
                ConstraintError, match=r"User\[1\] cannot be merged: it belongs to another live session"
            ):
                session.merge(mine)
            assert session.merge(shop.User, mine.to_dict()) is not mine


def test_a_session_that_is_no_scope(shop):
    """123. A session that is held merges into itself, and makes new objects there, whatever scope is current."""
    held = Session(shop.db)
    try:
        with db_session:
            bob = held.merge(shop.User, {"id": 2, "name": "Bobby", "orders": [{"total": 5}]})
            new = held.merge(shop.User, {"name": "New"})
            assert (bob in held, new in held, next(iter(bob.orders)) in held) == (True, True, True)
            assert shop.User[2] is not bob
        held.commit()
    finally:
        held.close()
    assert rows(shop.db, 'SELECT name FROM "user" WHERE id > 1 ORDER BY id') == ["Bobby", "New"]
    assert rows(shop.db, 'SELECT total FROM "order" WHERE "user" = 2') == [5]


def test_a_deleted_object(shop):
    """What was deleted is not merged, neither a copy nor what its scope has deleted."""
    bob = taken(shop.User, 2)
    bob.delete()
    with db_session as session:
        gone = shop.User[2]
        gone.delete()
    for obj in (bob, gone):
        with (
            db_session as session,
            pytest.raises(OperationWithDeletedObjectError, match=r"User\[2\] cannot be merged: it was"),
        ):
            session.merge(obj)


# --- changed copies -------------------------------------------------------------------------------------------


def test_a_changed_copy(shop):
    """123. What a copy has changed is assigned to the session's own object, and nothing else."""
    bob = taken(shop.User, 2)
    bob.name, bob.settings = "Bobby", {"b": 1}
    elsewhere(db_session(lambda: shop.User[2].set(age=41)))
    with db_session as session:
        with counted(shop.db) as sent:
            user = session.merge(bob)
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
    with db_session as session:
        with pytest.raises(
            OptimisticCheckError, match=r"User\[2\] was .*\(age: 40 was expected, 41 is there\)"
        ) as caught:
            session.merge(bob)
        assert caught.value.differences == [("age", 40, 41)]
        assert (shop.User[2].name, shop.User[2].age) == ("Bob", 41)


def test_a_change_that_rests_on_what_is_stale(shop):
    """123. What a copy has changed counts as read: the flush finds what was changed after this session has loaded it."""
    bob = taken(shop.User, 2)
    bob.name = "Bobby"
    for loads_before in (True, False):
        with pytest.raises(OptimisticCheckError, match=r"User\[2\] .*name: 'Bob' was seen, 'Rob' is there now"):
            with db_session as session:
                shop.User.select().fetch() if loads_before else session.merge(bob)
                elsewhere(db_session(lambda: shop.User[2].set(name="Rob")))
                assert session.merge(bob).name == "Bobby"
        with db_session:
            shop.User[2].name = "Bob"


def test_a_change_of_a_row_that_is_gone(shop):
    """123. A change of a row that somebody else has deleted is a conflict."""
    bob = taken(shop.User, 2)
    bob.name = "Bobby"
    elsewhere(db_session(lambda: shop.User[2].delete()))
    with db_session as session, pytest.raises(OptimisticCheckError, match=r"User\[2\] was deleted by somebody else"):
        session.merge(bob)


def test_what_is_never_checked(shop):
    """123. Attributes that optimistic checks leave out (floats, Json) are left out here, too."""
    ann = taken(shop.User, 1)
    ann.score, ann.settings = 2.5, {"a": 2}
    elsewhere(db_session(lambda: shop.User[1].set(score=9.5, settings={})))
    with db_session as session:
        user = session.merge(ann)
        assert (user.score, user.settings) == (2.5, {"a": 2})


def test_the_version_of_a_copy(shop):
    """123. A Version is of the whole row: whatever has changed there, a changed copy conflicts."""
    document = taken(shop.Document, 1)
    document.text = "mine"
    with db_session as session:
        assert session.merge(taken(shop.Document, 1)).version == 1
        assert session.merge(document).text == "mine"
        rollback()
    elsewhere(db_session(lambda: shop.Document[1].set(note="theirs")))
    with db_session as session, pytest.raises(OptimisticCheckError, match=r"\(version: 1 was expected, 2 is there\)"):
        session.merge(document)


def test_lazy_attributes(shop):
    """123. A lazy attribute that a copy has changed without having it assigns; one that it had is compared."""
    blind, seen = taken(shop.User, 1), None
    blind.bio = "new"
    with db_session as session:
        user = shop.User[1]
        user.load("bio")
        seen = copy.copy(user)
    seen.bio = "newer"
    with db_session as session:
        assert session.merge(blind).bio == "new"
        rollback()
        assert session.merge(seen).bio == "newer"
    with db_session as session, pytest.raises(OptimisticCheckError, match="bio: 'long' was expected, 'newer' is there"):
        session.merge(seen)


def test_expressions(shop):
    """An SQL expression that was assigned to a copy is worked out by the flush."""
    bob = taken(shop.User, 2)
    bob.age = shop.User.age + 2
    read = taken(shop.User, 2)
    assert read.age == 40
    read.age = shop.User.age + 2
    for _ in range(2):  # it rests on whatever is there
        with db_session as session:
            session.merge(bob)
    assert rows(shop.db, 'SELECT age FROM "user" WHERE id = 2') == [44]
    with db_session as session, pytest.raises(OptimisticCheckError, match="age: 40 was expected, 44 is there"):
        session.merge(read)


def test_several_copies(shop):
    """A list of objects is merged at once: their rows come in one round trip, and it is all or nothing."""
    ann, bob = taken(shop.User, 1), taken(shop.User, 2)
    ann.name, bob.name = "Anna", "Bobby"
    with db_session as session:
        with counted(shop.db) as sent:
            found = session.merge([ann, bob])
        assert sent.round_trips == 1
        assert [user.name for user in found] == ["Anna", "Bobby"]
        rollback()
    elsewhere(db_session(lambda: shop.User[2].set(name="x")))
    with db_session as session:
        with pytest.raises(OptimisticCheckError):
            session.merge([ann, bob])
        assert shop.User[1].name == "Ann"


# --- relations ------------------------------------------------------------------------------------------------


def test_references(shop):
    """123. A changed reference becomes one to the session's own object; one to a new object brings that along."""
    with db_session as session:
        order, other = copy.deepcopy([shop.Order[1], shop.User[2]])
    order.user = other
    with db_session as session:
        mine = session.merge(order)
        assert mine.user is shop.User[2]
        rollback()
    elsewhere(db_session(lambda: shop.Order[1].set(user=None)))
    with db_session as session, pytest.raises(OptimisticCheckError, match=r"user: 1 was expected, None is there"):
        session.merge(order)


def test_collections_of_a_copy(shop):
    """123. What was added to and removed from collections of a copy is, of those of the session's object."""
    with db_session as session:
        user, new_tag = shop.User[1], shop.Tag[2]
        user.orders.load(), user.tags.load()
        ann, tag = copy.deepcopy([user, new_tag])
    ann.tags.add(tag)
    ann.tags.remove([each for each in ann.tags if each.name == "x"])
    ann.orders.remove([order for order in ann.orders if order.total == 1])
    ann.orders.create(total=7)
    elsewhere(db_session(lambda: shop.Order(user=1, total=3)))
    with db_session as session:
        user = session.merge(ann)
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
    with db_session as session:
        merged = session.merge(order)
        assert merged is not order
        assert (merged.user.name, sorted(line.text for line in merged.lines)) == ("New", ["a", "b"])
    assert rows(shop.db, 'SELECT COUNT(*) FROM "user"') == [3]
    assert rows(shop.db, "SELECT text FROM line ORDER BY text") == ["a", "b", "l"]


def test_an_object_that_was_rolled_back(shop):
    """123. An object whose creation was rolled back is merged as a new one."""
    with db_session as session:
        undone = shop.User(name="Undone", tags=[])
        rollback()
    with db_session as session:
        assert session.merge(undone).name == "Undone"
    assert rows(shop.db, """SELECT COUNT(*) FROM "user" WHERE name = 'Undone'""") == [1]


def test_a_new_object_with_the_key_of_a_row(shop):
    """123. An object that was never saved is not merged onto the row of its key: defaults would replace values."""
    held = Session(shop.db)
    try:
        user = shop.User(id=2, name="Bobby")
    finally:
        held.close()
    with db_session as session:
        with pytest.raises(CacheIndexError, match=r"merge User\[2\], which was never saved: User\[2\] exists already"):
            session.merge(user)
        assert shop.User[2].to_dict("name age") == {"name": "Bob", "age": 40}


def test_a_long_chain_of_new_objects(shop):
    """123. New objects that refer to each other, a thousand in a row or in a circle, come with each other."""
    held = Session(shop.db)
    try:
        chain = [shop.Holder(code="0")]
        for number in range(1, 1000):
            chain.append(shop.Holder(code=str(number), previous=chain[-1]))
        ring = shop.Holder(code="a")
        ring.previous = shop.Holder(code="b", previous=ring)
        shop.Card(number="1", holder=ring)
    finally:
        held.close()
    with db_session as session:
        with counted(shop.db) as sent:
            merged = session.merge(chain[500])
        assert sent.round_trips == 1
        assert (merged.previous.code, merged.next.code) == ("499", "501")
        one = session.merge(ring)
        assert one.previous.previous is one
        assert one.card.number == "1"
    assert rows(shop.db, "SELECT COUNT(*) FROM holder") == [1002]


def test_a_copy_with_another_key(shop):
    """123. A key that a copy has changed is changed here, too."""
    with db_session:
        shop.Holder(code="old")
    holder = taken(shop.Holder, "old")
    holder.code = "new"
    with db_session as session:
        assert session.merge(holder).code == "new"
    assert rows(shop.db, "SELECT code FROM holder") == ["new"]
