"""The model of the differential test, declared twice: for dbsession, and as plain data for what is compared with it."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from types import SimpleNamespace

import dbsession
from dbsession import Json, Optional, PrimaryKey, Required, Set


class Level(Enum):
    """What a user may do."""

    LOW = "low"
    MID = "mid"
    HIGH = "high"


def declare(db):
    """Declare the entities on *db*, create the tables, and return the classes by name."""

    class Company(db.Entity):
        name = Required(str)
        city = Optional(str)
        founded = Optional(date)
        rating = Optional(float)
        staff = Set("User")

    class User(db.Entity):
        name = Required(str, autostrip=False)
        email = Optional(str, autostrip=False)
        age = Optional(int)
        points = Required(int, size=16)
        score = Optional(float)
        balance = Optional(Decimal, 12, 2)
        active = Optional(bool)
        born = Optional(date)
        seen = Optional(datetime)
        shift = Optional(timedelta)
        level = Optional(Level)
        data = Optional(Json)
        company = Optional(Company)
        boss = Optional("Manager", reverse="reports")
        orders = Set("Order", reverse="user")
        bookings = Set("Booking")

        @property
        def label(self):
            return self.name + "/" + dbsession.coalesce(self.email, "-")

        def older_than(self, years):
            return self.age > years

    class Manager(User):
        bonus = Optional(int)
        reports = Set(User, reverse="boss")
        approved = Set("Order", reverse="approver")

    class Chief(Manager):
        car = Optional(str)

    class Order(db.Entity):
        quantity = Required(int)
        total = Optional(Decimal, 12, 2)
        weight = Optional(float)
        placed = Optional(datetime)
        due = Optional(date)
        status = Optional(str)
        paid = Required(bool)
        user = Optional(User, reverse="orders")
        approver = Optional(Manager, reverse="approved")
        products = Set("Product")

    class Product(db.Entity):
        name = Required(str)
        price = Required(Decimal, 10, 2)
        stock = Optional(int)
        category = Optional("Category")
        orders = Set(Order)
        tags = Set("Tag")

    class Tag(db.Entity):
        word = PrimaryKey(str)
        products = Set(Product)

    class Category(db.Entity):
        name = Required(str)
        parent = Optional("Category", reverse="children")
        children = Set("Category", reverse="parent")
        products = Set(Product)

    class Seat(db.Entity):
        hall = Required(str)
        number = Required(int)
        PrimaryKey(hall, number)
        price = Optional(Decimal, 8, 2)
        bookings = Set("Booking")

    class Booking(db.Entity):
        seat = Optional(Seat)
        user = Required(User)
        day = Optional(date)
        note = Optional(str, autostrip=False)

    db.generate_mapping(create_tables=True)
    return SimpleNamespace(**db.entities)


# --- the same as plain data -----------------------------------------------------------------------------


@dataclass(frozen=True)
class Table:
    """What the objects of one entity have. Attributes of its parents are not repeated."""

    values: dict[str, str]  # name -> type
    references: dict[str, str] = field(default_factory=dict)  # name -> entity
    collections: dict[str, tuple[str, str]] = field(
        default_factory=dict
    )  # name -> entity, its attribute for the way back
    key: tuple[str, ...] = ("id",)
    parent: str | None = None


TABLES = {
    "Company": Table(
        {"id": "int", "name": "text", "city": "text", "founded": "date", "rating": "float"},
        collections={"staff": ("User", "company")},
    ),
    "User": Table(
        {
            "id": "int", "name": "text", "email": "text", "age": "int", "points": "int", "score": "float",
            "balance": "decimal", "active": "bool", "born": "date", "seen": "datetime", "shift": "delta",
            "level": "level", "data": "json",
        },
        {"company": "Company", "boss": "Manager"},
        {"orders": ("Order", "user"), "bookings": ("Booking", "user")},
    ),
    "Manager": Table(
        {"bonus": "int"},
        collections={"reports": ("User", "boss"), "approved": ("Order", "approver")},
        parent="User",
    ),
    "Chief": Table({"car": "text"}, parent="Manager"),
    "Order": Table(
        {
            "id": "int", "quantity": "int", "total": "decimal", "weight": "float", "placed": "datetime",
            "due": "date", "status": "text", "paid": "bool",
        },
        {"user": "User", "approver": "Manager"},
        {"products": ("Product", "orders")},
    ),
    "Product": Table(
        {"id": "int", "name": "text", "price": "decimal", "stock": "int"},
        {"category": "Category"},
        {"orders": ("Order", "products"), "tags": ("Tag", "products")},
    ),
    "Tag": Table({"word": "text"}, collections={"products": ("Product", "tags")}, key=("word",)),
    "Category": Table(
        {"id": "int", "name": "text"},
        {"parent": "Category"},
        {"children": ("Category", "parent"), "products": ("Product", "category")},
    ),
    "Seat": Table(
        {"hall": "text", "number": "int", "price": "decimal"},
        collections={"bookings": ("Booking", "seat")},
        key=("hall", "number"),
    ),
    "Booking": Table({"id": "int", "day": "date", "note": "text"}, {"seat": "Seat", "user": "User"}),
}  # fmt: skip


def lineage(entity):
    """Return *entity* and its parents, the eldest last."""
    found = [entity]
    while (parent := TABLES[found[-1]].parent) is not None:
        found.append(parent)
    return found


def attributes(entity, kind):
    """Return what the objects of *entity* have of one kind ("values", "references", "collections"), inherited ones first."""
    return {name: what for table in reversed(lineage(entity)) for name, what in getattr(TABLES[table], kind).items()}


def key_of(entity):
    """Return the names of the key's attributes."""
    return TABLES[lineage(entity)[-1]].key
