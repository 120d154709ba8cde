"""References and collections in the expression form: what lies behind ``Order.user`` and ``User.orders``."""

from __future__ import annotations

import pytest

from dbsession import Optional, PrimaryKey, Required, Set, count, db_session, desc, exists, max, select, sum
from tests.counting import counted


@pytest.fixture
def shop(db):
    """Two users, one of whom is the other's boss, with their orders."""

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")
        orders = Set("Order")
        tags = Set("Tag")

    class Order(db.Entity):
        user = Optional(User)
        total = Required(int)

    class Tag(db.Entity):
        word = PrimaryKey(str)
        users = Set(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann", age=40, tags=[Tag(word="x"), Tag(word="y")])
        bob = User(name="Bob", age=20, boss=ann)
        for user, total in ((ann, 5), (ann, 9), (bob, 1), (None, 3)):
            Order(user=user, total=total)
    return db


ORDERS = {
    "Order.user.name == 'Ann'": [5, 9],
    "Order.user.name != 'Ann'": [1],
    "Order.user.boss.name == 'Ann'": [1],
    "(Order.user.boss.name == 'Ann') | (Order.total == 3)": [1, 3],
    "Order.user.boss == None": [3, 5, 9],
    "Order.user.id == 2": [1],
    "Order.user == User[1]": [5, 9],
    "Order.user.in_([User[2], None])": [1, 3],
    "Order.user.name.startswith('A')": [5, 9],
    "Order.user.age + 1 > 21": [5, 9],
    "count(Order.user.orders) > 1": [5, 9],
    "exists(Order.user.tags)": [5, 9],
    "~exists(Order.user.tags)": [1, 3],
    "Order.user.age > Order.total * 5": [1, 5],
}
USERS = {
    "count(User.orders) > 1": ["Ann"],
    "count(User.orders) == 1": ["Bob"],
    "exists(User.orders)": ["Ann", "Bob"],
    "~exists(User.staff)": ["Bob"],
    "sum(User.orders.total) == 14": ["Ann"],
    "max(User.staff.orders.total) == 1": ["Ann"],
    "count(User.tags) == 2": ["Ann"],
    "(count(User.orders) > 1) | (User.age == 20)": ["Ann", "Bob"],
}


@pytest.mark.parametrize("source", ORDERS)
def test_behind_a_reference(shop, source):
    """What lies behind a reference is written as in Python; its table is joined for the query."""
    names = {**shop.entities, "count": count, "exists": exists}
    Order = shop.entities["Order"]
    with db_session:
        query = Order.select(eval(source, names))
        assert sorted(order.total for order in query) == ORDERS[source]
        assert query.count() == len(ORDERS[source])
        assert Order.select(eval(source, names)).delete(bulk=True) == len(ORDERS[source])


@pytest.mark.parametrize("source", USERS)
def test_collections(shop, source):
    """A collection of the class is asked about with exists(), count(), sum() and their like."""
    names = {**shop.entities, "count": count, "exists": exists, "sum": sum, "max": max}
    with db_session:
        query = shop.entities["User"].select(eval(source, names)).order_by("name")
        assert [user.name for user in query] == USERS[source]


def test_keys_need_no_join(shop):
    """The key behind a reference is in the reference itself."""
    Order = shop.entities["Order"]
    assert "JOIN" not in Order.select(Order.user.id == 1).get_sql()
    assert Order.select(Order.user.name == "x", Order.user.age > 1).get_sql().count("JOIN") == 1


def test_orders_and_aggregates(shop):
    """Orders, aggregates, prefetching and lambdas take what lies behind a reference."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        orders = Order.select(Order.user != None)  # noqa: E711
        assert [order.total for order in orders.order_by(desc(Order.user.name), Order.total)] == [1, 5, 9]
        assert [user.name for user in User.select().order_by(count(User.orders).desc())] == ["Ann", "Bob"]
        assert (orders.max(Order.user.age), orders.sum(Order.user.age)) == (40, 100)
        assert orders.filter(lambda o: o.user.age > 30).count() == 2
    with db_session, counted(shop) as sent:
        found = Order.select(total=1).prefetch(Order.user.boss).get()
    assert sent.round_trips == 3
    assert found.user.boss.name == "Ann"


def test_many_queries_of_one_shape(shop):
    """The same condition with another value is the same query."""
    Order = shop.entities["Order"]
    with db_session:
        for name, totals in (("Ann", [5, 9]), ("Bob", [1]), ("Ann", [5, 9])):
            assert sorted(order.total for order in Order.select(Order.user.name == name)) == totals
        first, second = (Order.select(Order.user.name == name) for name in ("Ann", "Bob"))
        assert first.selected is second.selected


def test_wrong_names(shop):
    """A name that the entity has not is an AttributeError that says where one is; a class is not a loop variable."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with pytest.raises(AttributeError, match=r"Order\.user leads to User, which has no attribute 'nmae'"):
        Order.user.nmae
    with pytest.raises(AttributeError, match=r"User\.orders leads to Order, .* 'is_empty'; ask with exists\(\)"):
        User.orders.is_empty()
    with pytest.raises(TypeError, match=r"write the loop variable"):
        select(o for o in Order if Order.user.name == "x")


def test_an_object_knows_its_own_row_only(shop):
    """An expression assigned to an object that looks at other rows is refused at once, with the way out."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        with pytest.raises(TypeError, match=r"Order\.user\.age lies in others; update many at once"):
            Order[1].total = Order.user.age
        with pytest.raises(TypeError, match=r"count\(User\.orders\) lies in others"):
            User[1].age = count(User.orders)
        assert Order.select(Order.user != None).update(total=lambda o: o.user.age) == 3  # noqa: E711
        assert sorted(order.total for order in Order.select()) == [3, 20, 40, 40]
