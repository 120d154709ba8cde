"""Objects as JSON text: to_json, with every type, with related objects as keys and nested, and without hidden loads."""

from __future__ import annotations

import copy
import json
from datetime import UTC, date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    Discriminator,
    Json,
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
)
from tests.counting import counted


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Size(Enum):
    SMALL = 1


VALUES = [
    (str, 'x"y', 'x"y'),
    (int, 7, 7),
    (bool, True, True),
    (float, 1.5, 1.5),
    (float, float("-inf"), "-Infinity"),
    (Decimal, Decimal("1.50"), "1.50"),
    (date, date(2026, 11, 20), "2026-11-20"),
    (datetime, datetime(2026, 11, 20, 1, 2, 3, 4), "2026-11-20T01:02:03.000004"),
    (time, time(1, 2, 3), "01:02:03"),
    (timedelta, timedelta(0), "PT0S"),
    (timedelta, timedelta(days=2), "P2D"),
    (timedelta, timedelta(days=1, hours=2, microseconds=500_000), "P1DT7200.5S"),
    (timedelta, timedelta(microseconds=-1), "-PT0.000001S"),
    (UUID, UUID(int=7), "00000000-0000-0000-0000-000000000007"),
    (bytes, b"\x00\xff", "AP8="),
    (bytearray, bytearray(b"\x00\xff"), "AP8="),
    (Colour, Colour.RED, "r"),
    (Size, Size.SMALL, 1),
    (Json, {"a": [1, None, {"b": 1.5}]}, {"a": [1, None, {"b": 1.5}]}),
    (int, None, None),
]


@pytest.mark.parametrize("python, value, text", VALUES)
def test_every_type_as_json(db, python, value, text):
    """Each value is written as JSON has it, or as the text of its kind."""

    class Thing(db.Entity):
        value = Optional(python)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(value=value)
    with db_session:
        assert json.loads(Thing[1].to_json()) == {"id": 1, "value": text}


def test_time_zones_as_json(db):
    """A datetime with a time zone says which."""

    class Thing(db.Entity):
        at = Required(datetime, tz=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        thing = Thing(at=datetime(2026, 11, 20, tzinfo=UTC))
        assert json.loads(thing.to_json("at")) == {"at": "2026-11-20T00:00:00+00:00"}


def test_arrays_as_json(postgres_url):
    """The items of arrays are written one by one."""
    from dbsession import Database

    db = Database(postgres_url)

    class Thing(db.Entity):
        ids = Optional(list[UUID])
        days = Optional(list[date])

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(ids=[UUID(int=1), None], days=[date(2026, 1, 2)])
    with db_session:
        document = json.loads(Thing[1].to_json())
    assert document == {"id": 1, "ids": [str(UUID(int=1)), None], "days": ["2026-01-02"]}
    db.close()


@pytest.fixture
def shop(db):
    """Ann has two orders with lines of one product, and a friend; the product has a maker, who is Ann's friend."""

    class User(db.Entity):
        name = Required(str)
        bio = Optional(str, lazy=True)
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        orders = Set("Order")
        products = Set("Product", reverse="maker")
        fans = Set("Product", reverse="fans")

    class Order(db.Entity):
        user = Required(User)
        total = Required(Decimal, default=0)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        place = Required(int)
        PrimaryKey(order, place)
        product = Required("Product")

    class Product(db.Entity):
        code = PrimaryKey(str)
        maker = Optional(User, reverse="products")
        fans = Set(User, reverse="fans")
        lines = Set(Line)

    db.generate_mapping(create_tables=True)
    with db_session:
        bob = User(name="Bob", bio="b")
        ann = User(name="Ann", bio="a", boss=bob)
        product = Product(code="p", maker=bob, fans=[ann, bob])
        for number in (1, 2):
            Line(order=Order(user=ann, total=number), place=1, product=product)
    return db


def test_related_objects_as_keys(shop):
    """Related objects stand as their keys: a composite one as a list. Options are those of to_dict."""
    User, Line = shop.entities["User"], shop.entities["Line"]
    with db_session:
        assert json.loads(Line[1, 1].to_json()) == {"order": 1, "place": 1, "product": "p"}
        ann = User[2]
        assert json.loads(ann.to_json(with_collections=True, with_lazy=True, exclude="staff")) == {
            "id": 2,
            "name": "Ann",
            "bio": "a",
            "boss": 1,
            "orders": [1, 2],
            "products": [],
            "fans": ["p"],
        }
        assert json.loads(shop.entities["Order"][1].to_json("lines")) == {"lines": [[1, 1]]}
        assert ann.to_json(only="id name") == '{"id": 2, "name": "Ann"}'
        with pytest.raises(TypeError, match="User has no attribute 'nmae'; did you mean 'name'"):
            ann.to_json("nmae")


def test_options_of_json(shop):
    """Further arguments are those of json.dumps."""
    User = shop.entities["User"]
    with db_session:
        ann = User[2]
        ann.name = "Änn"
        assert ann.to_json("name", indent=1, ensure_ascii=False) == '{\n "name": "Änn"\n}'
        assert ann.to_json("name id", sort_keys=True, separators=(",", ":")) == '{"id":2,"name":"\\u00c4nn"}'
        with pytest.raises(TypeError, match="unexpected"):
            ann.to_json(indnet=1)


def test_related_objects_nested(shop):
    """References nest all the way, and one-to-many collections of collections; nobody stands within himself."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    bob = {"id": 1, "name": "Bob", "boss": None}
    ann = {"id": 2, "name": "Ann", "boss": bob}
    product = {"code": "p", "maker": bob}
    with db_session:
        assert json.loads(Order[1].to_json(related_objects=True)) == {"id": 1, "user": ann, "total": "1.00"}
        document = json.loads(User[2].to_json(related_objects=True, with_collections=True))
        line = {"order": 1, "place": 1, "product": product}
        assert document["orders"][0] == {"id": 1, "user": 2, "total": "1.00", "lines": [line]}
        assert document["orders"][1]["lines"][0]["order"] == 2
        assert document["fans"] == [product]  # many-to-many: without its own collections
        assert document["boss"] == bob
        of_boss = json.loads(User[1].to_json("staff", related_objects=True))
        assert of_boss == {"staff": [{"id": 2, "name": "Ann", "boss": 1}]}


def test_who_refers_to_himself(shop):
    """An object that refers to itself stands in its own document as its key."""
    User = shop.entities["User"]
    with db_session:
        ann, bob = User[2], User[1]
        bob.boss = ann
        assert json.loads(ann.to_json("boss", related_objects=True)) == {"boss": {"id": 1, "name": "Bob", "boss": 2}}
        bob.boss = bob
        assert json.loads(bob.to_json("boss", related_objects=True)) == {"boss": 1}


def test_no_hidden_loads(shop):
    """124. to_dict() and to_json() of a loaded object send nothing: for the key of a related one it is not loaded."""
    Order, User, Line = (shop.entities[name] for name in ("Order", "User", "Line"))
    with db_session:
        orders, lines, users = Order.select().fetch(), Line.select().fetch(), User.select().fetch()
        with counted(shop) as sent:
            for obj in (*orders, *lines, *users):
                assert json.loads(obj.to_json()).keys() == obj.to_dict().keys()
        assert sent.statements == 0
        with counted(shop) as sent:
            assert [user.to_dict("orders")["orders"] for user in users] == [[], [1, 2]]
        assert sent.statements == 2  # what was asked for by name: the first collection alone, then all of its kind
        with counted(shop) as sent:
            users[0].to_json(with_lazy=True)
        assert sent.statements == 1


def test_after_the_scope(shop):
    """124. After the scope what was loaded is written; what was not is an error that names it, never left out."""
    Order, User = shop.entities["Order"], shop.entities["User"]
    with db_session:
        order, user = Order[1], User[2]
        loaded = User[1]
        loaded.to_dict(with_lazy=True)
    assert json.loads(order.to_json()) == {"id": 1, "user": 2, "total": "1.00"} == {**order.to_dict(), "total": "1.00"}
    assert json.loads(loaded.to_json(with_lazy=True))["bio"] == "b"
    for ask in ({"with_lazy": True}, {"only": "bio"}):
        with pytest.raises(DatabaseSessionIsOver, match=r"User\[2\]\.bio"):
            user.to_json(**ask)
    with pytest.raises(DatabaseSessionIsOver, match=r"User\[2\]\.orders"):
        user.to_json("orders")
    with pytest.raises(DatabaseSessionIsOver, match=r"User\[2\]\.name"):
        order.to_json(related_objects=True)  # of the user only the key was known


def test_copies(shop):
    """124. A copy is written as the object that it was made of: changes included, and without a statement."""
    Order, User = shop.entities["Order"], shop.entities["User"]
    with db_session:
        order, user = copy.deepcopy([Order[1], User[2]])
    order.total = 7
    with db_session, counted(shop) as sent:
        assert json.loads(order.to_json()) == {"id": 1, "user": 2, "total": "7.00"}
        assert order.to_dict() == {"id": 1, "user": 2, "total": 7}
        with pytest.raises(DatabaseSessionIsOver, match=r"User\[2\]\.bio: the object is in no session"):
            user.to_json(with_lazy=True)
    assert sent.statements == 0


def test_subclasses_nested(db):
    """A related object is written as what it is: with the attributes of its subclass, and its declared kind."""

    class Animal(db.Entity):
        kind = Discriminator(str)
        name = Required(str)
        visits = Set("Visit")

    class Dog(Animal):
        _discriminator_ = "dog"
        tricks = Required(int)

    class Visit(db.Entity):
        animal = Required(Animal)

    db.generate_mapping(create_tables=True)
    with db_session:
        Visit(animal=Dog(name="Rex", tricks=3))
    with db_session:
        document = json.loads(Visit[1].to_json(related_objects=True))
    with db_session:
        assert list(Visit[1].animal.to_dict()) == ["id", "kind", "name", "tricks"]
        with counted(db) as sent:
            assert Visit[1].to_dict() == {"id": 1, "animal": 1}
        assert sent.statements == 0
    assert document == {"id": 1, "animal": {"id": 1, "kind": "dog", "name": "Rex", "tricks": 3}}
