"""Transient objects that are added: the order of their INSERTs, and references by keys."""

from __future__ import annotations

import pytest

from dbsession import CacheIndexError, Session
from tests.observing import rows
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


@pytest.mark.parametrize("is_loaded", [True, False])
@pytest.mark.parametrize("in_scope", [True, False])
def test_a_transient_object_refers_by_a_key(db, is_loaded, in_scope):
    """A new object that was built with a key for a reference is added to the object of that key, loaded or not."""
    shop = make_shop(db)
    session = Session(db)
    order, card = shop.Order(total=7, customer=2), shop.Card(number="9", owner=2)
    if in_scope:
        session.__enter__()
    customer = session.get(shop.Customer, 2) if is_loaded else None
    if customer is not None:
        assert len(customer.orders) == 0
        assert customer.card is None
    session.add_all([order, card])
    if customer is None:
        customer = session.get(shop.Customer, 2)
    assert order.customer is card.owner is customer
    assert list(customer.orders) == [order]
    assert customer.card is card
    assert session.new == {order, card}
    session.rollback()
    assert list(customer.orders) == []
    session.add(order)
    session.commit()
    assert rows(db, "SELECT customer FROM purchase WHERE total = 7") == [2]
    if in_scope:
        session.__exit__(None, None, None)
    session.close()


def test_a_taken_place_is_refused_before_anything_moves(db):
    """A card by the key of a customer who has one: it is refused as it would be within a session, and stays transient."""
    shop = make_shop(db)
    session = Session(db)
    card = shop.Card(number="9", owner=1)
    customer = session.get(shop.Customer, 1)
    held = customer.card
    with pytest.raises(CacheIndexError):
        session.add(card)
    assert card not in session
    assert customer.card is held
    session.close()
