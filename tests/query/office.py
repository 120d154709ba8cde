"""The entities of the tests of translation: people, their orders, teams and notes."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from typing import Any

from dbsession import Database, Json, Optional, PrimaryKey, Required, Set


class Status(Enum):
    NEW = "new"
    PAID = "paid"


LIMIT = 18


def is_adult(person):
    """A function of the module, with a name from the module."""
    return person.age >= LIMIT


def define(db: Database, *, create_tables: bool = True) -> Any:
    """Declare the entities in *db*, and return it."""

    class Person(db.Entity):
        MINIMUM = 18

        name = Required(str)
        nick = Optional(str)
        email = Optional(str)
        age = Optional(int)
        height = Optional(float)
        is_active = Required(bool, default=True)
        born = Optional(date)
        seen = Optional(datetime)
        data = Optional(Json)
        boss = Optional("Person", reverse="staff")
        staff = Set("Person", reverse="boss")
        teams = Set("Team")
        orders = Set("Order")

        @property
        def is_adult(self):
            """Whether of age."""
            return self.age >= 18

        @property
        def label(self):
            if self.nick is None:
                return self.name
            return self.nick

        def is_older(self, than, *, by=0):
            limit = than + by
            return self.age > limit

        def spent_more(self, amount):
            return sum(o.total for o in self.orders) > amount

        @staticmethod
        def young(person, below=10):
            return person.age < below

        def forever(self):
            return self.forever()

        def shout(self):
            for _ in range(3):
                pass
            return self.name

    class Manager(Person):
        bonus = Optional(int)
        grade = Required(int, default=1)

    class Team(db.Entity):
        name = PrimaryKey(str)
        members = Set(Person)

    class Order(db.Entity):
        person = Required(Person)
        total = Required(Decimal, 10, 2)
        status = Required(Status, default=Status.NEW)
        placed = Optional(datetime)
        wait = Optional(timedelta)
        items = Set("Item")

    class Item(db.Entity):
        order = Required(Order)
        name = Required(str)
        price = Required(Decimal, 10, 2)

    db.generate_mapping(create_tables=create_tables, check_tables=create_tables)
    return db
