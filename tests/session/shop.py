"""Customers with orders, cards and tags, for the tests of rollback."""

from __future__ import annotations

from types import SimpleNamespace

from dbsession import Database, Json, Optional, PrimaryKey, Required, Set, db_session
from tests.observing import rows

__all__ = ["make_shop", "snapshot"]


def make_shop(db: Database) -> SimpleNamespace:
    """Declare the entities in *db*, and save two customers, one with everything and one with nothing."""

    class Customer(db.Entity):
        name = Required(str, unique=True)
        status = Optional(str, sql_default="'fresh'")
        data = Optional(Json)
        count = Required(int, default=0)
        bio = Optional(str, lazy=True)
        orders = Set("Order")
        card = Optional("Card")
        tags = Set("Tag")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        customer = Optional(Customer)

    class Card(db.Entity):
        number = Required(str)
        owner = Required(Customer)

    class Tag(db.Entity):
        text = PrimaryKey(str)
        note = Optional(str)
        customers = Set(Customer)

    db.generate_mapping(create_tables=True)
    with db_session:
        a = Customer(name="a", data={"list": [1, 2]}, bio="bio a", tags=[Tag(text="x"), Tag(text="y")])
        Customer(name="b", bio="bio b")
        Order(total=1, customer=a)
        Order(total=2, customer=a)
        Card(number="1", owner=a)
    return SimpleNamespace(db=db, Customer=Customer, Order=Order, Card=Card, Tag=Tag)


def snapshot(shop: SimpleNamespace) -> list[list[str]]:
    """Return everything that is in the database."""
    tables = ("customer", "purchase", "card", "tag", "customer_tag")
    return [sorted(map(repr, rows(shop.db, f"SELECT * FROM {table}"))) for table in tables]
