"""A shop, declared for one database; nothing is ever stored in it."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any

from dbsession import Database, Discriminator, Json, Optional, PrimaryKey, Required, Set


class Kind(Enum):
    BOOK = "book"
    FILM = "film"


def declare(db: Database) -> dict[str, Any]:
    """Declare the entities of the shop, and return the names that the forms use."""

    class User(db.Entity):
        name = Required(str)
        email = Optional(str)
        age = Optional(int)
        active = Required(bool, default=True)
        balance = Required(Decimal, 12, 2, default=0)
        born = Optional(date)
        seen = Optional(datetime)
        data = Optional(Json)
        bio = Optional(str, lazy=True)
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        orders = Set("Order")
        tags = Set("Tag")
        card = Optional("Card")

        @property
        def is_adult(self):
            """Whether the user is of age."""
            return self.age >= 18

        def owes(self, limit):
            """Return whether more than *limit* is owed."""
            return sum(o.total for o in self.orders if not o.paid) > limit

    class Card(db.Entity):
        user = Required(User)
        number = Required(str)

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=0)
        paid = Required(bool, default=False)
        day = Required(date)
        lines = Set("Line")

    class Product(db.Entity):
        name = Required(str)
        kind = Required(Kind)
        price = Required(float)
        lines = Set("Line")

    class Line(db.Entity):
        order = Required(Order)
        product = Required(Product)
        PrimaryKey(order, product)
        amount = Required(int, default=1)

    class Tag(db.Entity):
        word = PrimaryKey(str)
        users = Set(User)

    class Animal(db.Entity):
        species = Discriminator(str)
        name = Required(str)

    class Dog(Animal):
        tricks = Required(int, default=0)

    db.generate_mapping(check_tables=False)
    return dict(db.entities)
