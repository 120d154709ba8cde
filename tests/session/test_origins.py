"""The error of a flush says where the refused object was made."""

import pytest

from dbsession import Required, Set, TransactionIntegrityError, db_session, flush


@pytest.fixture
def entities(db):
    class User(db.Entity):
        email = Required(str, unique=True)
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)
        number = Required(int, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Order(user=User(email="first"), number=1)
    return db.entities


def made_by_hand(Order, user):
    Order(user=user, number=1)


def made_by_the_collection(Order, user):
    user.orders.create(number=1)


@pytest.mark.parametrize("make", [made_by_hand, made_by_the_collection])
@pytest.mark.parametrize("send", [flush, "query"])
def test_the_line_that_made_the_object_is_named(entities, make, send):
    """87. A refused new object: the error, which comes from another line, names the line and function that made it."""
    User, Order = entities["User"], entities["Order"]
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        make(Order, User.get(email="first"))
        if send == "query":
            User.select(email="other").fetch()
            Order.select().fetch()
        else:
            flush()
    line = make.__code__.co_firstlineno + 1
    assert f"saving Order[new] (made in line {line} of {__file__}, in {make.__name__})" in str(caught.value)
    notes = getattr(caught.value, "__notes__", [])
    assert any("flush ahead of a query" in note for note in notes) is (send == "query")
