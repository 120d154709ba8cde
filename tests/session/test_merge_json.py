"""What JSON has is merged as what it stands for: every type of attribute, and every class of a hierarchy."""

from __future__ import annotations

import json
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace
from uuid import UUID

import pytest

from dbsession import Database, Discriminator, Json, Optional, PrimaryKey, Required, Set, db_session, flush
from tests.counting import counted


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Size(Enum):
    SMALL = 1
    LARGE = 2


VALUES = [
    (str, "x"),
    (int, 7),
    (bool, False),
    (float, 1.5),
    (float, float("inf")),
    (float, float("-inf")),
    (Decimal, Decimal("1.50")),
    (date, date(2026, 11, 20)),
    (datetime, datetime(2026, 11, 20, 1, 2, 3, 4)),
    (time, time(1, 2, 3, 4)),
    (timedelta, timedelta(0)),
    (timedelta, timedelta(days=400, hours=30, microseconds=7)),
    (timedelta, timedelta(days=-1, microseconds=-1)),
    (UUID, UUID(int=7)),
    (bytes, b"\x00\xff"),
    (bytearray, bytearray(b"\x00\xff")),
    (Colour, Colour.BLUE),
    (Size, Size.LARGE),
    (Json, {"a": [1, None, "2026-11-20"]}),
    (int, None),
]


@pytest.mark.parametrize("python, value", VALUES)
def test_every_type_comes_back_from_json(db, python, value):
    """What to_json() writes is merged as the value that it was written from: on a new object, and changing nothing."""

    class Thing(db.Entity):
        value = Optional(python)

    db.generate_mapping(create_tables=True)
    with db_session as session:
        text = Thing(value=value).to_json("value")
    with db_session as session:
        data = json.loads(text)
        made = session.merge(Thing, data)
        assert made.value == Thing[1].value == value
        flush()
        session.merge(Thing, {"id": 1, **data})
        assert made.value == value
        with counted(db) as sent:
            flush()
        assert sent.statements == 0


@pytest.mark.parametrize(
    "python, text, value",
    [
        (timedelta, "P1W2DT3H4M5.5S", timedelta(weeks=1, days=2, hours=3, minutes=4, seconds=5.5)),
        (timedelta, 90.5, timedelta(seconds=90.5)),
        (datetime, "2026-11-20 01:02", datetime(2026, 11, 20, 1, 2)),
        (time, "01:02", time(1, 2)),
        (Decimal, 1.5, Decimal("1.50")),
        (int, "7", 7),
    ],
)
def test_other_spellings(db, python, text, value):
    """ISO 8601 has more than one spelling, and a timedelta may be a number of seconds."""

    class Thing(db.Entity):
        value = Optional(python)

    db.generate_mapping(create_tables=True)
    with db_session as session:
        assert session.merge(Thing, {"value": text}).value == value


@pytest.mark.parametrize(
    "python, text, message",
    [
        (timedelta, "P", "cannot be read from 'P': which is no duration of ISO 8601"),
        (timedelta, "P1DT", "cannot be read from 'P1DT'"),
        (timedelta, float("inf"), "cannot be read from inf"),
        (bytes, "\u00e4", "cannot be read from .*: which is no base64"),
        (float, "1.5", "cannot be read from '1.5': which is none of NaN, Infinity, -Infinity"),
        (time, "noon", "cannot be read from 'noon'"),
        (Colour, "g", "is 'g', and must be one of 'r', 'b'"),
    ],
)
def test_wrong_spellings(db, python, text, message):
    """What cannot be read is refused, with attribute and text."""

    class Thing(db.Entity):
        value = Optional(python)

    db.generate_mapping(create_tables=True)
    with db_session as session:
        with pytest.raises(ValueError, match=f"Thing.value {message}"):
            session.merge(Thing, {"value": text})
        with pytest.raises((TypeError, ValueError)):
            Thing(value=text)  # an ordinary assignment takes no text at all


def test_hierarchies(db):
    """A row of a subclass is merged with its own attributes; the declared kind says what is new."""

    class Animal(db.Entity):
        kind = Discriminator(str)
        name = Required(str)

    class Dog(Animal):
        _discriminator_ = "dog"
        tricks = Optional(int)

    class Cat(Animal):
        lives = Optional(int)

    db.generate_mapping(create_tables=True)
    with db_session as session:
        Dog(name="Rex"), Cat(name="Tom")
    with db_session as session:
        rex = session.merge(Animal, {"id": 1, "tricks": 3, "kind": "dog"})
        assert (type(rex), rex.tricks) == (Dog, 3)
        made = session.merge(Animal, {"kind": "dog", "name": "Max", "tricks": 1})
        assert type(made) is Dog
        for data, message in (
            ({"id": 2, "tricks": 3}, "unexpected attribute 'tricks' of Cat"),
            ({"id": 2, "kind": "dog"}, r"Cannot merge what is of Dog into Cat\[2\]"),
            ({"name": "x", "kind": "cow"}, "Animal.kind is 'cow', which is no Animal"),
            ({"name": "x", "tricks": 1}, "unexpected attribute 'tricks' of Animal"),
        ):
            with pytest.raises(TypeError, match=message):
                session.merge(Animal, data)
        with pytest.raises(TypeError, match="which is none"):
            session.merge(Dog, {"id": 2, "name": "x"})


def declare(db):
    """Declare people with orders of lines, and tags; keys of each kind."""

    class Person(db.Entity):
        name = Required(str)
        born = Optional(date)
        boss = Optional("Person", reverse="staff")
        staff = Set("Person", reverse="boss")
        orders = Set("Order")
        tags = Set("Tag")

    class Order(db.Entity):
        number = PrimaryKey(UUID)
        person = Required(Person)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        place = Required(int)
        PrimaryKey(order, place)
        price = Required(Decimal, 8, 2)
        tag = Optional("Tag")

    class Tag(db.Entity):
        name = PrimaryKey(str)
        picture = Optional(bytes)
        people = Set(Person)
        lines = Set(Line)

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(**db.entities)


def dump(entities):
    """Return all that the database has."""
    return {
        name: sorted(obj.to_json(with_collections=True) for obj in entity.select())
        for name, entity in vars(entities).items()
    }


def test_from_one_database_to_another(db):
    """123. A graph written as nested JSON, object by object, is the same in another database; and again onto itself."""
    here = declare(db)
    with db_session:
        tags = [here.Tag(name=name, picture=name.encode()) for name in "xyz"]
        boss = here.Person(name="Boss", tags=tags)
        for number in range(1, 4):
            person = here.Person(
                name=f"p{number}", born=date(2000, 1, number), boss=boss, tags=tags[number - 1 : number]
            )
            order = here.Order(number=UUID(int=number), person=person)
            for place in range(number):
                here.Line(order=order, place=place, price=Decimal(place) / 4, tag=tags[place])
    with db_session:
        texts = [p.to_json(with_collections=True, related_objects=True) for p in here.Person.select()]
        before = dump(here)
    documents = [json.loads(text) for text in texts]
    other = Database("sqlite://")
    there = declare(other)
    with db_session as session:
        session.merge(there.Person, documents)
    with db_session as session:
        assert dump(there) == before
        session.merge(there.Person, documents)
        session.merge(here.Person, documents)
        with counted(db) as sent_here, counted(other) as sent_there:
            flush()
        assert (sent_here.statements, sent_there.statements) == (0, 0)
    with db_session:
        assert dump(here) == before
    other.close()
