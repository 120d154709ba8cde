"""Entities that can be pickled, and what stands for an open session, for the tests of objects without a session."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from types import SimpleNamespace
from typing import Any

from dbsession import Database, Json, Optional, PrimaryKey, Required, Session, Set, Version, db_session
from dbsession.session import attaching
from dbsession.session.unit_of_work import UnitOfWork

__all__ = ["add", "attach", "make_world", "session_is_open", "unit"]


def unit(db: Database) -> UnitOfWork:
    """Return the unit of work of the current scope."""
    return db.gateway.unit()


def add(db: Database, *objects: Any) -> None:
    """Do as ``session.add_all(objects)`` in the current scope."""
    attaching.add(unit(db), objects)


def attach(db: Database, obj: Any) -> Any:
    """Do as ``session.attach(obj)`` in the current scope."""
    return attaching.attach(unit(db), obj)


@contextmanager
def session_is_open(db: Database) -> Iterator[Session]:
    """Let a session be open in this thread, without being the current scope."""
    session = Session(db)
    try:
        yield session
    finally:
        session.close()


def make_world(db: Database) -> SimpleNamespace:
    """Declare the entities in *db*, under names that pickle finds, and save some objects of each."""

    class User(db.Entity):
        name = Required(str)
        bio = Optional(str, lazy=True)
        data = Optional(Json)
        blob = Optional(bytes)
        height = Optional(float)
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        user = Required(User)

    class Tag(db.Entity):
        text = PrimaryKey(str)
        note = Optional(str)
        users = Set(User)

    class Card(db.Entity):
        number = Required(str)
        owner = Required(User)

    class Page(db.Entity):
        text = Required(str)
        version = Version()

    class Animal(db.Entity):
        name = Required(str)

    class Dog(Animal):
        breed = Optional(str)

    class Seat(db.Entity):
        row = Required(int)
        place = Required(str)
        note = Optional(str)
        user = Optional("Guest")
        PrimaryKey(row, place)

    class Guest(db.Entity):
        name = Required(str)
        seats = Set(Seat)
        stays = Set("Stay")

    class Stay(db.Entity):
        guest = Required(Guest)
        night = Required(int)
        note = Optional(str)
        PrimaryKey(guest, night)

    class Node(db.Entity):
        value = Required(int, default=0)
        parent = Optional("Node", reverse="children")
        children = Set("Node", reverse="parent")

    class Hooked(db.Entity):
        name = Required(str)
        parts = Set("Part")

    class Part(db.Entity):
        name = Required(str)
        whole = Required(Hooked)

        def before_delete(self) -> None:
            pass

    entities = (User, Order, Tag, Card, Page, Animal, Dog, Seat, Guest, Stay, Node, Hooked, Part)
    for entity in entities:
        entity.__qualname__ = entity.__name__
        globals()[entity.__name__] = entity
    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann", bio="long", data={"list": [1, 2]}, blob=b"\0\1", height=1.5)
        User(name="Bob")
        ann.tags = [Tag(text="x"), Tag(text="y")]
        Tag(text="z")
        for total in (10, 20):
            Order(total=total, user=ann)
        Card(number="1", owner=ann)
        Page(text="one")
        Dog(name="Rex", breed="Beagle")
        guest = Guest(name="Cid", seats=[Seat(row=1, place="a"), Seat(row=1, place="b")])
        Stay(guest=guest, night=1)
        Part(name="p", whole=Hooked(name="h"))
    return SimpleNamespace(db=db, **{entity.__name__: entity for entity in entities})
