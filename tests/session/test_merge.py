"""Dictionaries merged onto the objects of a session: found or made, checked, all or nothing."""

from __future__ import annotations

import json
from decimal import Decimal
from types import SimpleNamespace

import pytest

from dbsession import (
    ConstraintError,
    EntityProxy,
    Json,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    Version,
    db_session,
    flush,
)
from tests.counting import counted
from tests.observing import elsewhere, rows


@pytest.fixture
def shop(db):
    """Ann with two orders of two lines, a card and a tag; Bob with nothing."""

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        bio = Optional(str, lazy=True)
        settings = Optional(Json)
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")
        version = Version()

    class Order(db.Entity):
        user = Optional(User)
        total = Required(Decimal, default=0)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        place = Required(int)
        PrimaryKey(order, place)
        text = Optional(str)

    class Card(db.Entity):
        owner = Required(User)
        number = Required(str)

    class Tag(db.Entity):
        name = PrimaryKey(str)
        users = Set(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann", age=30, bio="long", settings={"theme": "dark"}, tags=[Tag(name="x")])
        User(name="Bob")
        Tag(name="y")
        Card(owner=ann, number="1")
        for _ in range(2):
            order = Order(user=ann, total=5)
            for place in (1, 2):
                Line(order=order, place=place)
    return SimpleNamespace(**db.entities, db=db)


# --- found or made --------------------------------------------------------------------------------------------


def test_onto_a_row(shop):
    """123. The row of the key is loaded in one round trip, what is given is assigned, and what is not stays."""
    with db_session as session:
        with counted(shop.db) as sent:
            user = session.merge(shop.User, {"id": 1, "name": "Anna", "settings": {"theme": "light"}})
        assert sent.round_trips == 1
        assert user is shop.User[1]
        assert (user.name, user.age, user.settings) == ("Anna", 30, {"theme": "light"})
    assert rows(shop.db, 'SELECT name, age, bio FROM "user" WHERE id = 1') == [("Anna", 30, "long")]


def test_onto_an_object_in_memory(shop):
    """123. An object that the session has is taken as it is, with its unsaved changes, without any SQL."""
    with db_session as session:
        user = shop.User[1]
        user.age = 31
        with counted(shop.db) as sent:
            assert session.merge(shop.User, {"id": "1", "name": "Anna"}) is user
            assert session.merge(shop.User, {"id": 1}) is user
        assert sent.statements == 0
    assert rows(shop.db, 'SELECT name, age, version FROM "user" WHERE id = 1') == [("Anna", 31, 2)]


def test_equal_values_change_nothing(shop):
    """123. What to_dict() and to_json() give, merged again, saves nothing."""
    with db_session as session:
        user = shop.User[1]
        whole = user.to_dict(with_collections=True, with_lazy=True)
        text = user.to_json(with_collections=True, with_lazy=True)
        nested = user.to_json(with_collections=True, related_objects=True)
        objects = user.to_dict(with_collections=True, related_objects=True)
    for data in (whole, objects, json.loads(text), json.loads(nested)):
        with db_session as session:
            user = session.merge(shop.User, data)
            with counted(shop.db) as sent:
                flush()
            assert sent.statements == 0
            assert user.to_dict(with_collections=True, with_lazy=True) == whole


def test_no_savepoint_is_sent(shop):
    """Within a transaction, too, a merge sends what it loads and nothing else, whether or not it is refused."""
    with db_session as session:
        shop.Tag(name="new")
        flush()
        with counted(shop.db) as sent:
            session.merge(shop.User, {"id": 1, "name": "Anna"})
        assert sent.statements == 1
        with counted(shop.db) as sent:
            session.merge(shop.User, {"id": 1, "name": "Anne"})
            with pytest.raises(ValueError, match="is empty"):
                session.merge(shop.User, [{"id": 1, "name": "Annette"}, {"name": ""}])
        assert sent.statements == 0
        with counted(shop.db) as sent:
            flush()
        assert sent.statements == 1
    assert rows(shop.db, 'SELECT name FROM "user" WHERE id = 1') == ["Anne"]


def test_a_missing_row(shop):
    """123. A key that is in no row makes a new object, and so do data without the key that the database makes."""
    with db_session as session:
        with_key = session.merge(shop.User, {"id": 77, "name": "Sue", "version": 5})
        without = session.merge(shop.User, {"name": "Tim", "id": None})
        plain = session.merge(shop.User, {"name": "Uma"})
        assert with_key.id == 77
        assert (without.id, plain.id) == (None, None)
        flush()
        assert None not in (without.id, plain.id)
    assert rows(shop.db, 'SELECT name, version FROM "user" WHERE id > 2 ORDER BY name') == [
        ("Sue", 1),
        ("Tim", 1),
        ("Uma", 1),
    ]


def test_a_missing_row_without_what_is_required(shop):
    """A new object needs what it always needs; the session is as before."""
    with db_session as session:
        with pytest.raises(ValueError, match=r"User.name is required, and was not given"):
            session.merge(shop.User, {"id": 77, "age": 3})
        assert shop.User.get(id=77) is None


def test_a_deleted_object(shop):
    """What was deleted in this session is not brought back by a merge."""
    with db_session as session:
        shop.Order[1].delete()
        with pytest.raises(OperationWithDeletedObjectError, match=r"merge into Order\[1\]: it was deleted in this"):
            session.merge(shop.Order, {"id": 1, "total": 3})


def test_many_at_once(shop):
    """A list gives a list; all rows come in one round trip, and one that is named twice is one object."""
    with db_session as session:
        data = [{"id": 2, "age": 1}, {"id": 1, "age": 2}, {"name": "New"}, {"id": 2, "name": "Bobby"}]
        with counted(shop.db) as sent:
            found = session.merge(shop.User, data)
        assert sent.round_trips == 1
        assert [user.name for user in found] == ["Bobby", "Ann", "New", "Bobby"]
        assert found[0] is found[3] is shop.User[2]
        assert session.merge(shop.User, []) == []
        twice = session.merge(shop.User, [{"id": 9, "name": "a"}, {"id": 9, "name": "b"}])
        assert twice[0] is twice[1]
        assert twice[0].name == "b"


def test_composite_keys(shop):
    """A key of several parts is found by all of them; a reference in it by key or object."""
    with db_session as session:
        lines = [{"order": 1, "place": 2, "text": "a"}, {"order": 2, "place": 9, "text": "b"}]
        with counted(shop.db) as sent:
            found = session.merge(shop.Line, lines)
        assert sent.round_trips == 1
        assert found[0] is shop.Line[1, 2]
        assert session.merge(shop.Line, {"order": shop.Order[1], "place": 2}) is found[0]
        assert session.merge(shop.Line, {"order": {"id": 1, "total": 9}, "place": 2}) is found[0]
        assert shop.Order[1].total == 9
        with pytest.raises(ValueError, match=r"Line.order is required"):
            session.merge(shop.Line, {"place": 2})
    assert rows(shop.db, "SELECT * FROM line WHERE text <> '' ORDER BY text") == [(1, 2, "a"), (2, 9, "b")]


# --- versions -------------------------------------------------------------------------------------------------


def test_the_version_is_checked(shop):
    """123. A Version that is not that of the row is a conflict that names both; an equal one is fine, and stays."""
    with db_session as session:
        data = shop.User[1].to_dict()
    elsewhere(db_session(lambda: shop.User[1].set(age=40)))
    with db_session as session:
        with pytest.raises(
            OptimisticCheckError, match=r"User\[1\] .* \(version: 1 was expected, 2 is there\)"
        ) as caught:
            session.merge(shop.User, {**data, "name": "Anna"})
        assert caught.value.obj is shop.User[1]
        assert caught.value.differences == [("version", 1, 2)]
        assert shop.User[1].name == "Ann"
        session.merge(shop.User, {**data, "version": 2, "name": "Anna"})
    assert rows(shop.db, 'SELECT name, age, version FROM "user" WHERE id = 1') == [("Anna", 30, 3)]
    with db_session as session:
        session.merge(shop.User, {"id": 1, "name": "without", "version": None})
    assert rows(shop.db, 'SELECT name, version FROM "user" WHERE id = 1') == [("without", 4)]


def test_a_version_within(shop):
    """123. The versions of nested objects are checked as well, before anything is assigned."""
    with db_session as session:
        with pytest.raises(OptimisticCheckError, match=r"User\[1\] .*version: 7 was expected, 1 is there"):
            session.merge(shop.Order, {"id": 1, "total": 1, "user": {"id": 1, "version": 7}})
        assert shop.Order[1].total == 5


# --- references -----------------------------------------------------------------------------------------------


def test_references(shop):
    """A reference takes a key, an object, a proxy, None, and a dict, which is merged in its turn."""
    with db_session as session:
        order = shop.Order[1]
        for given in (2, shop.User[2], EntityProxy(shop.User, 2), {"id": 2, "age": 9}):
            order.user = 1
            assert session.merge(shop.Order, {"id": 1, "user": given}).user is shop.User[2]
        assert shop.User[2].age == 9
        assert session.merge(shop.Order, {"id": 1, "user": None}).user is None
        made = session.merge(shop.Order, {"id": 1, "user": {"name": "New", "boss": {"name": "Newer"}}})
        assert (made.user.name, made.user.boss.name) == ("New", "Newer")
        assert session.merge(shop.Order, {"user": 2, "total": 3}).user is shop.User[2]


def test_references_load_nothing(shop):
    """A reference by key is a reference: its row is not loaded."""
    with db_session as session:
        order = shop.Order[1]
        with counted(shop.db) as sent:
            session.merge(shop.Order, {"id": 1, "user": 2})
        assert sent.statements == 0
        assert order.user.id == 2


def test_one_to_one(shop):
    """The end without a column takes a key, or a dict, which refers back by itself."""
    with db_session as session:
        assert session.merge(shop.User, {"id": 1, "card": {"id": 1, "number": "2"}}).card is shop.Card[1]
        assert shop.Card[1].number == "2"
        bob = session.merge(shop.User, {"id": 2, "card": {"number": "3"}})
        assert (bob.card.number, bob.card.owner) == ("3", bob)
        new = session.merge(shop.User, {"name": "New", "card": {"number": "4"}})
        assert new.card.owner is new
    assert rows(shop.db, "SELECT number FROM card ORDER BY number") == ["2", "3", "4"]


def test_nested_objects_come_in_one_round_trip(shop):
    """All rows that are named, at whatever depth, are loaded at once, and the collections that are given in one more."""
    data = {
        "id": 1,
        "user": {"id": 2, "boss": {"id": 1, "name": "Boss"}},
        "lines": [{"order": 1, "place": 1, "text": "one"}, {"place": 3, "text": "three"}],
    }
    with db_session as session:
        with counted(shop.db) as sent:
            order = session.merge(shop.Order, data)
        assert sent.round_trips == 2
        assert [line.text for line in sorted(order.lines)] == ["one", "three"]
        assert order.user.boss.name == "Boss"
    assert rows(shop.db, 'SELECT place, text FROM line WHERE "order" = 1 ORDER BY place') == [(1, "one"), (3, "three")]


# --- collections ----------------------------------------------------------------------------------------------


def test_collections(shop):
    """A collection gets the items that are given, by key, dict, object or proxy; the others leave it."""
    with db_session as session:
        other = shop.Order(total=1)
        flush()
        given = [1, {"total": 7}, other, EntityProxy(shop.Order, 2)]
        user = session.merge(shop.User, {"id": 1, "orders": given, "tags": ["y"]})
        assert sorted(order.total for order in user.orders) == [1, 5, 5, 7]
        assert [tag.name for tag in user.tags] == ["y"]
        session.merge(shop.User, {"id": 1, "orders": [2], "tags": [{"name": "z"}, "x"]})
        assert [order.id for order in user.orders] == [2]
        assert shop.Order[1].user is None
    assert rows(shop.db, "SELECT tag FROM tag_user ORDER BY tag") == ["x", "z"]
    with db_session as session:
        session.merge(shop.User, {"id": 1, "orders": [], "tags": []})
    assert rows(shop.db, 'SELECT COUNT(*) FROM "order" WHERE "user" = 1') == [0]


def test_items_that_must_have_an_owner(shop):
    """Items that leave where the reference back is required are deleted, as by an assignment."""
    with db_session as session:
        session.merge(shop.Order, {"id": 1, "lines": [{"place": 2, "text": "kept"}]})
    assert rows(shop.db, 'SELECT place, text FROM line WHERE "order" = 1') == [(2, "kept")]


def test_items_of_new_objects(shop):
    """A new object with new items, at any depth."""
    data = {"name": "New", "orders": [{"total": 1, "lines": [{"place": 1}, {"place": 2}]}, {"total": 2}], "tags": ["x"]}
    with db_session as session:
        user = session.merge(shop.User, data)
        assert [len(order.lines) for order in sorted(user.orders, key=lambda order: order.total)] == [2, 0]
    assert rows(shop.db, 'SELECT COUNT(*) FROM line WHERE "order" > 2') == [2]
    assert rows(shop.db, "SELECT COUNT(*) FROM tag_user WHERE tag = 'x'") == [2]


def test_items_that_are_not_there(shop):
    """An item by a key that is in no row is refused: there is nothing to be changed."""
    with (
        db_session as session,
        pytest.raises(ObjectNotFound, match=r"Order\[99\] does not exist, and cannot be an item"),
    ):
        session.merge(shop.User, {"id": 1, "orders": [1, 99]})


def test_items_that_name_another_owner(shop):
    """An item's own data may name the owner that they stand in, and no other."""
    with db_session as session:
        order = {"id": 1, "user": 1}
        assert session.merge(shop.User, {"id": 1, "orders": [order]}).orders.count() == 1
        for wrong in ({"id": 2, "orders": [order]}, {"name": "New", "orders": [order]}):
            with pytest.raises(ValueError, match=r"Order.user is User\[1\] in data that stand within those of"):
                session.merge(shop.User, wrong)


# --- all or nothing -------------------------------------------------------------------------------------------

REFUSED = [
    ({"id": 1, "age": 5, "nmae": "x"}, TypeError, "unexpected attribute 'nmae' of User; did you mean 'name'"),
    ({"id": 1, "age": 5, "orders": [{"totl": 1}]}, TypeError, "unexpected attribute 'totl' of Order; did you mean"),
    ({"id": 1, "age": 5, "name": ""}, ValueError, "User.name is required, and '' is empty"),
    ({"id": 1, "age": "x"}, TypeError, "User.age must be an int"),
    ({"id": 1, "age": 5, "tags": ["x"], "orders": [{"total": "x"}]}, TypeError, "Order.total must be a Decimal"),
    ({"id": 1, "age": 5, "boss": "x"}, TypeError, "User.boss refers to User"),
    ({"id": 1, "age": 5, "orders": 7}, TypeError, "User.orders takes a list of dicts, keys or objects, not 7"),
    ({"id": 1, "age": 5, "orders": [None]}, TypeError, "User.orders holds Order, not None"),
    ({"id": 1, "age": 5, "orders": [{"lines": [{}]}]}, ValueError, "Line.place is required"),
    ({"id": 1, "age": 5, "card": None}, (ConstraintError, ValueError), "Card"),
    ({"id": [1, 2]}, TypeError, "User.id"),
    ("x", TypeError, "a dict of its attributes, not 'x'"),
    (None, TypeError, "a dict of its attributes, not None"),
]


@pytest.mark.parametrize("data, error, message", REFUSED)
def test_all_or_nothing(shop, data, error, message):
    """If anything is refused, nothing is assigned, made or removed, at whatever depth."""
    with db_session as session:
        with pytest.raises(error, match=message):
            session.merge(shop.User, data)
        user = shop.User[1]
        assert (user.age, user.name, len(user.orders), len(user.tags)) == (30, "Ann", 2, 1)
        with counted(shop.db) as sent:
            flush()
        assert sent.statements == 0


def test_what_is_no_data(shop):
    """merge() takes an entity and data, or objects."""
    with db_session as session:
        for wrong in ((7, None), ("User", {}), (shop.db, {}), ([7], None)):
            with pytest.raises(TypeError, match=r"merge\(\) takes"):
                session.merge(*wrong)
