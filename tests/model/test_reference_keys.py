"""Keys that are references, composite keys with references in them, and references to those."""

from __future__ import annotations

from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import (
    Database,
    ERDiagramError,
    ObjectNotFound,
    Optional,
    PrimaryKey,
    Required,
    Set,
    composite_key,
    db_session,
)


@pytest.fixture
def rooms(db):
    """Hotels, rooms with a key of a reference and a number, stays with composite foreign keys in their own key."""

    class Hotel(db.Entity):
        code = PrimaryKey(str)
        rooms = Set("Room")

    class Room(db.Entity):
        hotel = Required(Hotel)
        number = Required(int)
        PrimaryKey(hotel, number)
        stays = Set("Stay")
        key_card = Optional("Card")
        neighbour = Optional("Room", reverse="neighbour_of")
        neighbour_of = Set("Room", reverse="neighbour")

    class Stay(db.Entity):
        room = Required(Room)
        night = Required(date)
        PrimaryKey(room, night)
        guest = Required(str)
        composite_key(guest, night)

    class Card(db.Entity):
        room = PrimaryKey(Room)
        secret = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        ritz, inn = Hotel(code="ritz"), Hotel(code="inn")
        first = Room(hotel=ritz, number=1)
        second = Room(hotel=ritz, number=2, neighbour=first)
        Room(hotel=inn, number=1)
        Stay(room=first, night=date(2026, 1, 1), guest="Ann")
        Stay(room=second, night=date(2026, 1, 1), guest="Bob")
        Card(room=first, secret="x")
    return db


def test_keys_that_are_references(rooms):
    """17. Composite keys with references in them: one object, by key, by tuple, by query and by relation."""
    Hotel, Room, Stay, Card = (rooms.entities[name] for name in ("Hotel", "Room", "Stay", "Card"))
    with db_session:
        stay = Stay[Room["ritz", 1], date(2026, 1, 1)]
        assert stay is Stay[("ritz", 1), "2026-01-01"] is Stay.get(room=("ritz", 1), night=date(2026, 1, 1))
        assert (stay.guest, stay.get_pk()) == ("Ann", (("ritz", 1), date(2026, 1, 1)))
        assert stay.room is Room["ritz", 1] is Room[Hotel["ritz"], 1] is Hotel["ritz"].rooms.select(number=1).get()
        assert stay.room.hotel is Hotel["ritz"]
        assert list(stay.room.stays) == [stay]
        assert Card["ritz", 1] is stay.room.key_card is Card[stay.room] is Card.get(room=stay.room)
        assert Room["ritz", 2].key_card is None
        assert Room["ritz", 2].neighbour is Room["ritz", 1]
        assert Room["inn", 1].neighbour is None
        assert {room.get_pk() for room in Room.select(Room.hotel == "ritz")} == {("ritz", 1), ("ritz", 2)}
        with pytest.raises(ObjectNotFound, match=r"Room\['ritz', 9\]"):
            Room["ritz", 9]
        with pytest.raises(TypeError, match=r"the key of Room has 2 parts"):
            Stay["ritz", date(2026, 1, 1)]


def test_composite_references_are_changed_and_emptied(rooms):
    """A reference of several columns is written as a whole, and is None when they are NULL."""
    Room, Stay = rooms.entities["Room"], rooms.entities["Stay"]
    with db_session:
        Room["inn", 1].neighbour = "ritz", 2
        Room["ritz", 2].neighbour = None
        Room["ritz", 1].stays.create(night=date(2026, 1, 2), guest="Cid")
    with db_session:
        assert Room["inn", 1].neighbour is Room["ritz", 2]
        assert Room["ritz", 2].neighbour is None
        assert not Room["ritz", 1].neighbour_of
        assert sorted(stay.guest for stay in Room["ritz", 1].stays) == ["Ann", "Cid"]
        Room["ritz", 1].delete()
    with db_session:
        assert [stay.guest for stay in Stay] == ["Bob"]


def test_a_key_that_is_a_new_object(rooms):
    """43. A key may be a reference to an object that is saved in the same flush."""
    Hotel, Room, Card = (rooms.entities[name] for name in ("Hotel", "Room", "Card"))
    with db_session:
        card = Card(room=Room(number=5, hotel=Hotel(code="new")), secret="s")
        assert card.get_pk() == ("new", 5)
        assert Card["new", 5] is card
    with db_session:
        assert Card["new", 5].secret == "s"


class Size(Enum):
    S = "s"
    XL = "xl"


@pytest.mark.parametrize(
    ("python", "options", "keys"),
    [
        (str, {}, ["a", "B'\"%"]),
        (int, {"size": 64}, [-1, 2**62]),
        (Decimal, {"precision": 10, "scale": 3}, [Decimal("1.500"), Decimal(20)]),
        (date, {}, [date(2026, 1, 1), date(1999, 12, 31)]),
        (datetime, {"tz": True}, [datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=UTC)]),
        (UUID, {}, [UUID(int=1), UUID(int=2**100)]),
        (bytes, {}, [b"\0", b"\xff"]),
        (bool, {}, [False, True]),
        (Size, {}, [Size.S, Size.XL]),
    ],
    ids=lambda value: repr(value)[:20],
)
@pytest.mark.parametrize("composite", [False, True])
def test_keys_of_any_type(db, python, options, keys, composite):
    """17. A key may have any type, alone or with others: by key, by reference, by collection, it is one object."""

    class Owner(db.Entity):
        if composite:
            first = Required(python, **options)
            second = Required(int)
            PrimaryKey(first, second)
        else:
            first = PrimaryKey(python, **options)
        name = Required(str)
        items = Set("Item")
        tags = Set("Tag")

    class Item(db.Entity):
        owner = Required(Owner)

    class Tag(db.Entity):
        owners = Set(Owner)

    db.generate_mapping(create_tables=True)
    more = {"second": 5} if composite else {}
    wanted = [(key, 5) if composite else key for key in keys]
    with db_session:
        for key in keys:
            owner = Owner(first=key, name=repr(key), **more)
            assert Owner[owner.get_pk()] is owner
            Item(owner=owner), Tag(owners=[owner])
    with db_session:
        items = list(Item.select().order_by(Item.id))
        assert [item.owner.get_pk() for item in items] == wanted
        assert [item.owner.name for item in items] == list(map(repr, keys))
        for item, key in zip(items, wanted, strict=True):
            owner = Owner[key]
            assert item.owner is owner is Owner.get(first=owner.first, **more)
            assert (list(owner.items), len(owner.tags)) == ([item], 1)
            assert Item.select(Item.owner == owner).fetch() == [item] == Item.select(owner=key).fetch()
            assert next(iter(owner.tags)).owners.select().fetch() == [owner]
        items[0].owner = wanted[1]
        items[1].delete()
    with db_session:
        assert len(Owner[wanted[1]].items) == 1
        Owner[wanted[0]].name = "changed"
        Owner[wanted[1]].delete()
    with db_session:
        assert [(owner.get_pk(), owner.name) for owner in Owner] == [(wanted[0], "changed")]
        assert Item.select().count() == 0


def test_a_key_that_depends_on_itself(db):
    """A key that refers to its own entity has no columns to be made of: an error that shows the circle."""

    class A(db.Entity):
        b = PrimaryKey("B")
        b_back = Optional("B", reverse="a")

    class B(db.Entity):
        a = PrimaryKey("A", reverse="b_back")
        a_back = Optional("A", reverse="b")

    with pytest.raises(ERDiagramError, match="depends on itself: "):
        db.generate_mapping()


def test_relations_of_two_databases_do_not_mix(db):
    """A relation stays within one database."""
    other = Database("sqlite://")

    class User(other.Entity):
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)

    with pytest.raises(ERDiagramError, match=r"Order\.user refers to User, which belongs to another database"):
        db.generate_mapping()
    with pytest.raises(ERDiagramError, match=r"User\.orders refers to Order, and there is no such entity"):
        other.generate_mapping()
    other.close()
