"""The order in which transient objects are added is that in which they are inserted."""

from __future__ import annotations

from dbsession import Session
from tests.session.shop import make_shop


def test_objects_are_inserted_in_the_order_in_which_they_are_added(db):
    """add_all(), add() and collections: keys that the database makes follow the order of the program."""
    shop = make_shop(db)
    session = Session(db)
    customers = [shop.Customer(name=f"c{number}") for number in (5, 3, 4)]
    last = shop.Customer(name="c1")
    session.add_all(customers)
    session.add(last)
    session.commit()
    assert [customer.id for customer in (*customers, last)] == [3, 4, 5, 6]

    orders = [shop.Order(total=total, customer=last) for total in (9, 8, 7)]
    session.add_all(orders)
    session.commit()
    assert [order.id for order in orders] == [3, 4, 5]

    owner = shop.Customer(name="c2")
    items = [shop.Order(total=total, customer=owner) for total in (6, 5, 4)]
    session.add(owner)
    session.commit()
    assert [order.id for order in items] == [6, 7, 8]
    session.close()
