"""Entities with relations of all kinds, for the tests of graphs of which one object is attached, pickled or merged."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

from dbsession import Database, Optional, PrimaryKey, Required, Set, Version, db_session, flush, rollback

__all__ = ["ONE_TO_ONE", "again", "live", "make_graph", "picture", "taken"]

# Changes of one-to-one relations, through either end; of two persons with everything loaded.
ONE_TO_ONE: dict[str, Callable[[Any, Any], None]] = {
    "the end without a column": lambda ann, _: setattr(ann, "desk", None),
    "the end with the column": lambda ann, _: setattr(ann.desk, "person", None),
    "a version": lambda ann, _: setattr(ann.locker, "person", None),
    "delete": lambda ann, _: ann.badge.delete(),
    "delete an optional one": lambda ann, _: ann.desk.delete(),
    "another's": lambda ann, bob: setattr(ann, "desk", bob.desk),
    "to another": lambda ann, bob: setattr(bob, "desk", ann.desk),
    "swapped": lambda ann, bob: ann.set(desk=bob.desk, locker=bob.locker),
    "both columns": lambda ann, _: setattr(ann, "spouse", None),
    "both columns, from the other end": lambda ann, _: setattr(ann.spouse, "spouse", None),
    "both columns, another's": lambda ann, bob: setattr(ann, "spouse", bob.spouse),
    "delete the other": lambda ann, _: ann.spouse.delete(),
    "delete all": lambda ann, _: ann.delete(),
}


def make_graph(db: Database) -> SimpleNamespace:
    """Declare the entities in *db*, under names that pickle finds; save Ann, who has everything, and Bob, who has too."""

    class Person(db.Entity):
        name = Required(str)
        desk = Optional("Desk")
        badge = Optional("Badge")
        locker = Optional("Locker")
        spouse = Optional("Person", reverse="spouse")
        boss = Optional("Person", reverse="staff")
        staff = Set("Person", reverse="boss")
        orders = Set("Order")
        notes = Set("Note")
        tags = Set("Tag")

    class Desk(db.Entity):
        number = Required(int)
        person = Optional(Person)

    class Badge(db.Entity):
        number = Required(int)
        person = Required(Person)

    class Locker(db.Entity):
        number = Required(int)
        person = Optional(Person)
        version = Version()

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        person = Required(Person)

    class Note(db.Entity):
        text = Required(str)
        person = Optional(Person)

    class Tag(db.Entity):
        text = PrimaryKey(str)
        persons = Set(Person)

    entities = (Person, Desk, Badge, Locker, Order, Note, Tag)
    for entity in entities:
        entity.__qualname__ = entity.__name__
        globals()[entity.__name__] = entity
    db.generate_mapping(create_tables=True)
    with db_session:
        for number, name in enumerate(("Ann", "Bob"), 1):
            person = Person(
                name=name,
                desk=Desk(number=number),
                locker=Locker(number=number),
                spouse=Person(name=f"{name}'s"),
                tags=[Tag(text=f"{name} {i}") for i in range(2)],
            )
            Badge(number=number, person=person)
            for i in range(2):
                Order(total=10 * number + i, person=person)
                Note(text=f"{name} {i}", person=person)
        Person(name="Cid")
    return SimpleNamespace(db=db, **{entity.__name__: entity for entity in entities})


def taken(world: SimpleNamespace, *names: str) -> list[Any]:
    """Return copies, in no session, of the persons *names* with everything loaded that they lead to."""
    with db_session:
        persons = [world.Person.get(name=name) for name in names]
        for person in persons:
            person.to_dict(with_collections=True)
            person.load("desk", "badge", "locker", "staff")
            for part in (person.desk, person.badge, person.locker, person.spouse, *person.orders, *person.notes):
                if part is not None:
                    part.to_dict()
    return again(persons)


def again(what: Any) -> Any:
    """Return *what* as it comes out of a pickle."""
    return pickle.loads(pickle.dumps(what))


def picture(world: SimpleNamespace) -> dict[str, list[str]]:
    """Return what is in the database, as a scope of its own sees it, or the current one; by values instead of keys."""
    person = world.Person._mapping_.quoted
    asked = {
        "persons": f"SELECT p.name, s.name, b.name FROM {person} p LEFT JOIN {person} s ON s.id = p.spouse "
        f"LEFT JOIN {person} b ON b.id = p.boss",
        "tags": f"SELECT p.name, l.tag FROM person_tag l JOIN {person} p ON p.id = l.person",
        "all tags": "SELECT text FROM tag",
    }
    for table, column in (
        ("desk", "number"),
        ("badge", "number"),
        ("locker", "number"),
        ("purchase", "total"),
        ("note", "text"),
    ):
        asked[table] = f"SELECT t.{column}, p.name FROM {table} t LEFT JOIN {person} p ON p.id = t.person"
    with db_session:
        return {what: sorted([repr(tuple(row)) for row in world.db.select(sql)]) for what, sql in asked.items()}


def live(world: SimpleNamespace, change: Callable[[Any, Any], None]) -> dict[str, list[str]]:
    """Return what *change*, of the live persons Ann and Bob, leaves in the database; it is rolled back."""
    with db_session:
        ann, bob = world.Person.get(name="Ann"), world.Person.get(name="Bob")
        change(ann, bob)
        flush()
        found = picture(world)
        rollback()
    return found
