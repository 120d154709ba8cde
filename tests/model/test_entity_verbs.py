"""What an object can do: to_dict, set, load, flush, delete, get_pk, order, repr."""

from __future__ import annotations

import copy
import json
from datetime import date
from decimal import Decimal

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    Json,
    NotLoadedError,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
)
from tests.counting import counted


@pytest.fixture
def shop(db):
    """Users with a lazy biography, settings, orders, tags and a card."""

    class User(db.Entity):
        name = Required(str)
        bio = Optional(str, lazy=True)
        settings = Required(Json, default={"theme": {"dark": True}})
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")

    class Order(db.Entity):
        user = Required(User)
        total = Required(Decimal, default=0)
        day = Optional(date)

    class Tag(db.Entity):
        name = PrimaryKey(str)
        users = Set(User)

    class Card(db.Entity):
        user = PrimaryKey(User)
        number = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        user = User(name="Ann", bio="long", tags=[Tag(name="b"), Tag(name="a")])
        for number in (1, 2):
            Order(user=user, total=number, day=date(2026, 1, number))
        Card(user=user, number=7)
        User(name="Bob")
    return db


# --- to_dict --------------------------------------------------------------------------------------------


def test_to_dict(shop):
    """Values in the order of declaration; related objects as keys; without collections and lazy attributes."""
    User, Order, Card = (shop.entities[name] for name in ("User", "Order", "Card"))
    with db_session:
        assert User[1].to_dict() == {"id": 1, "name": "Ann", "settings": {"theme": {"dark": True}}, "card": 1}
        assert list(User[1].to_dict()) == ["id", "name", "settings", "card"]
        assert Order[2].to_dict() == {"id": 2, "user": 1, "total": Decimal("2.00"), "day": date(2026, 1, 2)}
        assert Card[1].to_dict() == {"user": 1, "number": 7}
        assert User[2].to_dict()["card"] is None


def test_to_dict_options(shop):
    """with_lazy, with_collections (sorted), related_objects; only and exclude, as text, names or attributes."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        user = User[1]
        assert user.to_dict(with_lazy=True)["bio"] == "long"
        assert user.to_dict(with_collections=True, exclude="settings card") == {
            "id": 1,
            "name": "Ann",
            "orders": [1, 2],
            "tags": ["a", "b"],
        }
        related = user.to_dict(with_collections=True, related_objects=True)
        assert (related["orders"], related["card"]) == ([Order[1], Order[2]], user.card)
        assert Order[1].to_dict(related_objects=True)["user"] is user
        for only in ("name, bio", "name bio", ["name", "bio"], (User.name, User.bio)):
            assert user.to_dict(only) == {"name": "Ann", "bio": "long"} == user.to_dict(only=only)
        assert user.to_dict("orders tags") == {"orders": [1, 2], "tags": ["a", "b"]}
        assert user.to_dict("id name", exclude=["name"]) == {"id": 1}
        assert user.to_dict(exclude=(User.settings, "card")) == {"id": 1, "name": "Ann"}
        for wrong in ({"only": "nmae"}, {"exclude": ["nmae"]}):
            with pytest.raises(TypeError, match="User has no attribute 'nmae'; did you mean 'name'"):
                user.to_dict(**wrong)


def test_to_dict_is_a_copy(shop):
    """124. What to_dict() gives is the caller's own: changing it changes no object, and it outlives the scope."""
    User = shop.entities["User"]
    with db_session:
        user = User[1]
        values = user.to_dict()
        values["settings"]["theme"]["dark"] = False
        values["name"] = "Eve"
        assert user.settings == {"theme": {"dark": True}}
    values["settings"]["more"] = 1
    assert json.loads(json.dumps(values)) == {**values}
    with db_session:
        assert (User[1].name, User[1].settings) == ("Ann", {"theme": {"dark": True}})


def test_to_dict_does_not_load_references(shop):
    """124. The key of a related object is known without loading it."""
    Order = shop.entities["Order"]
    with db_session:
        order = Order[1]
        with counted(shop) as sent:
            assert order.to_dict()["user"] == 1
        assert sent.statements == 0


def test_to_dict_after_the_scope(shop):
    """124. After the scope what is loaded is given, and what is not is an error that names it."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        order, user = Order[1], User[2]
    assert order.to_dict()["user"] == 1
    assert user.to_dict("id name") == {"id": 2, "name": "Bob"}
    with pytest.raises(DatabaseSessionIsOver, match=r"User\[2\]\.bio"):
        user.to_dict(with_lazy=True)


def test_to_dict_of_what_is_not_saved(shop):
    """A new object gives what it has; what the database will make is None."""
    Order, User = shop.entities["Order"], shop.entities["User"]
    with db_session:
        user = User(name="Cid")
        order = Order(user=user)
        assert order.to_dict() == {"id": None, "user": None, "total": Decimal(0), "day": None}
        assert order.to_dict(related_objects=True)["user"] is user


# --- set ----------------------------------------------------------------------------------------------------


def test_set_assigns_several(shop):
    """set() assigns values, references and collections, and saves them with one UPDATE."""
    User, Order, Tag = (shop.entities[name] for name in ("User", "Order", "Tag"))
    with db_session:
        Order[1].set(user=2, total="9.5", day=None)
        User[2].set(name="Bea", tags=[Tag["a"]])
    with db_session:
        order = Order[1]
        assert (order.user.name, order.total, order.day) == ("Bea", Decimal("9.50"), None)
        assert list(order.user.tags) == [Tag["a"]]
        order.set()
        order.set(total=Order.total + 1)
        assert order.total == Decimal("10.50")


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        ({"total": "x"}, TypeError),
        ({"user": None}, ValueError),
        ({"user": "Ann"}, TypeError),
        ({"nope": 1}, TypeError),
        ({"day": 5}, TypeError),
    ],
)
def test_set_is_atomic(shop, wrong, error):
    """41. If one value is refused, none is assigned, whatever the order."""
    Order = shop.entities["Order"]
    for values in ({"day": date(2020, 1, 1), **wrong}, {**wrong, "total": 5}):
        with db_session as session:
            order = Order[1]
            before = order.to_dict()
            with pytest.raises(error):
                order.set(**{**values, **wrong})
            assert order.to_dict() == before
            with counted(shop) as sent:
                session.flush()
            assert sent.statements == 0


@pytest.mark.parametrize("wrong", [{"tags": ["x"]}, {"orders": [1]}, {"card": "x"}, {"id": 1}])
def test_set_is_atomic_for_relations_and_keys(shop, wrong):
    """41. Collections, one-to-one relations and a key that is taken are checked before anything is assigned."""
    User = shop.entities["User"]
    with db_session:
        ann, bob = User[1], User[2]
        with pytest.raises(Exception, match=r"User|Tag|Card"):
            bob.set(name="Bea", **wrong)
        assert (bob.name, bob.id, len(bob.tags), len(bob.orders)) == ("Bob", 2, 0, 0)
    with db_session:
        assert [user.name for user in User.select().order_by(User.id)] == ["Ann", "Bob"]


# --- load -----------------------------------------------------------------------------------------------------


def test_load(shop):
    """load() brings what is missing, lazy attributes too, with one statement; what is there costs nothing."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        user, other = User[1], Order[1].user
        with counted(shop) as sent:
            user.load()
            user.load()
            user.load(User.bio, "name")
        assert (sent.statements, user.bio) == (1, "long")
        with counted(shop) as sent:
            user.load("orders", "tags")
            assert len(user.orders) == 2 and len(user.tags) == 2
        assert sent.statements == 2
        with pytest.raises(TypeError, match="User has no attribute 'nope'"):
            user.load("nope")
    assert (user.bio, len(user.orders)) == ("long", 2)
    with pytest.raises(DatabaseSessionIsOver, match=r"load object User\[1\]"):
        user.load()


def test_load_of_a_row_that_is_gone(shop):
    """A row that is not there is an ObjectNotFound that names it."""
    Order = shop.entities["Order"]
    with db_session as session:
        order = Order(user=77)
        with pytest.raises(ObjectNotFound, match=r"User\[77\]"):
            order.user.load()
        session.rollback()


# --- flush of one object --------------------------------------------------------------------------------------


def test_flush_of_one_object(shop):
    """flush() saves the object and the new objects that it needs; the rest waits."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        needed, later, order = User(name="Cid"), User(name="Dot"), Order(user=User(name="Eve"))
        order.user = needed
        User[1].name = "Amy"
        order.flush()
        assert (order.id, needed.id, later.id) == (3, 3, None)
        assert shop.select('SELECT count(*) FROM "' + User._mapping_.table + '"') == [5]  # raw SQL saves the rest
        assert later.id is not None
        with counted(shop) as sent:
            order.flush()
        assert sent.statements == 0
    with pytest.raises(DatabaseSessionIsOver, match=r"flush object Order\[3\]"):
        order.flush()


# --- delete ---------------------------------------------------------------------------------------------------


def test_delete(shop):
    """delete() works at the next flush; the object reads on, is not changed any more, and is deleted once."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        order = Order[1]
        order.delete()
        order.delete()
        assert order.total == 1 and order not in User[1].orders
        with pytest.raises(OperationWithDeletedObjectError, match=r"Order\[1\] was deleted in this session"):
            order.total = 2
        with pytest.raises(OperationWithDeletedObjectError, match=r"Order\[1\]"):
            order.set(total=2)
        assert Order.get(id=1) is None
        with pytest.raises(ObjectNotFound):
            Order[1]
    with pytest.raises(DatabaseSessionIsOver, match=r"delete object Order\[1\]"):
        order.delete()
    with db_session:
        assert Order.select().count() == 1


def test_delete_of_what_was_never_saved(shop):
    """56. A new object that is deleted is not sent at all."""
    User = shop.entities["User"]
    with counted(shop) as sent:
        with db_session:
            user = User(name="Cid")
            user.delete()
            assert "User" in repr(user)
    assert sent.statements == 0


def test_a_deleted_object_has_what_it_had(shop):
    """Reading what was loaded goes on after the flush; what was not is a NotLoadedError."""
    User = shop.entities["User"]
    with db_session as session:
        user = User[2]
        user.delete()
        session.flush()
        assert (user.name, user.id, user.get_pk(), repr(user)) == ("Bob", 2, 2, "User[2]")
        with pytest.raises(NotLoadedError, match=r"User\[2\]\.bio: the object was deleted"):
            user.bio


# --- keys, order, repr ------------------------------------------------------------------------------------------


def test_get_pk_and_repr(shop):
    """get_pk() is the key as Python has it; repr() shows it, and needs no scope."""
    User, Tag, Card = (shop.entities[name] for name in ("User", "Tag", "Card"))
    with db_session:
        new, user, tag, card = User(name="Cid"), User[1], Tag["a"], Card[1]
        assert (new.get_pk(), user.get_pk(), tag.get_pk(), card.get_pk()) == (None, 1, "a", 1)
        assert list(map(repr, (new, user, tag, card))) == ["User[new]", "User[1]", "Tag['a']", "Card[1]"]
        assert repr(Tag(name="qu\"o'te")) == "Tag['qu\"o\\'te']"
    assert list(map(repr, (new, user, tag, card))) == ["User[3]", "User[1]", "Tag['a']", "Card[1]"]
    assert repr(User) == "<entity User>" and repr(User.name) == "User.name" and repr(User.orders) == "User.orders"


def test_objects_are_ordered_by_key(shop):
    """sorted(), min() and max() go by the key; two objects are equal only if they are one."""
    User, Tag = shop.entities["User"], shop.entities["Tag"]
    with db_session:
        users = list(User.select().order_by(User.id.desc()))
        assert sorted(users) == users[::-1] == [User[1], User[2]]
        assert (min(users), max(users)) == (User[1], User[2])
        assert User[1] < User[2] and User[2] > User[1] and User[1] <= User[1] and User[2] >= User[1]
        assert User[1] == User[1] != User[2] and len({User[1], User[1], User[2]}) == 2
        with pytest.raises(TypeError):
            assert User[1] < 5
        with pytest.raises(TypeError):
            assert User[1] < Tag["a"]
        first, second = User(name="Cid"), User(name="Dot")
        with pytest.raises(TypeError, match=r"User\[new\] has no key yet"):
            sorted([first, second])


def test_objects_can_be_keys_of_dicts(shop):
    """The hash of an object does not change when it is saved."""
    User = shop.entities["User"]
    with db_session as session:
        user = User(name="Cid")
        known = {user: 1}
        session.flush()
        assert known[user] == 1


def test_a_copied_value_is_plain(shop):
    """124. A copy of a Json value belongs to no object."""
    User = shop.entities["User"]
    with db_session:
        settings = copy.deepcopy(User[1].settings)
        settings["theme"]["dark"] = 5
        assert type(settings) is dict and User[1].settings == {"theme": {"dark": True}}
