"""What is kept of queries: their SQL, and nothing that they were asked with."""

from __future__ import annotations

import gc
import weakref

import pytest

from dbsession import DataError, Optional, Required, Set, db_session, select
from tests.counting import counted


@pytest.fixture
def shop(db):
    """Users and their orders."""

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        orders = Set("Order")
        tags = Set("Tag")

    class Order(db.Entity):
        user = Required(User)

    class Tag(db.Entity):
        users = Set(User)

    db.generate_mapping(create_tables=True)
    return db


FORMS = {
    "keyword": lambda db, user: db.entities["Order"].select(user=user).fetch(),
    "expression": lambda db, user: db.entities["Order"].select(db.entities["Order"].user == user).fetch(),
    "among": lambda db, user: db.entities["Order"].select(db.entities["Order"].user.in_([user])).fetch(),
    "generator": lambda db, user: select(o for o in db.entities["Order"] if o.user == user).fetch(),
    "lambda": lambda db, user: db.entities["Order"].select(lambda o: o.user == user).fetch(),
    "collection": lambda _, user: user.tags.select().fetch(),
    "items": lambda _, user: select(t for t in user.tags).fetch(),
    "order": lambda db, user: db.entities["Order"].select().order_by(db.entities["Order"].user == user).fetch(),
}


@pytest.mark.parametrize("form", FORMS)
def test_no_object_is_kept(shop, form):
    """30. A query that compares with an object is kept for the next time, and the object is not."""
    with db_session:
        user = shop.entities["User"](name="Ann")
        FORMS[form](shop, user)
        gone = weakref.ref(user)
    del user
    gc.collect()
    assert gone() is None


@pytest.mark.parametrize("form", FORMS)
def test_the_values_are_those_of_each_time(shop, form):
    """The second time a query is asked with another object, it compares with that."""
    User, Order, Tag = (shop.entities[name] for name in ("User", "Order", "Tag"))
    with db_session:
        users = [User(name=name) for name in "ab"]
        orders = [Order(user=user) for user in users]
        tags = [Tag(users=[user]) for user in users]
        for user, order, tag in zip(users, orders, tags, strict=True):
            found = FORMS[form](shop, user)
            if form == "order":
                assert found[-1] is order
            else:
                assert found == [tag if form in ("collection", "items") else order]


def test_none_is_another_query(shop):
    """Where a value may be None, the SQL for None is another one than that for values, and neither is mistaken."""
    User = shop.entities["User"]
    with db_session:
        User(name="a", age=1), User(name="b")
        names = lambda age: [
            [user.name for user in User.select(User.age == age)],
            [user.name for user in User.select(age=age)],
            select(u.name for u in User if u.age == age).fetch(),
            [user.name for user in User.select(lambda u: u.age == age)],
            [user.name for user in User.select(User.age.in_([age]))],
        ]
        for age, name in ((1, "a"), (None, "b"), (1, "a"), (None, "b")):
            assert names(age) == [[name]] * 4 + [[name]]


def test_a_wrong_value_is_refused_each_time(shop):
    """A query that was right with one value is an error with a value of another type, and right again afterwards."""
    User = shop.entities["User"]
    with db_session, counted(shop) as sent:
        for ask in (
            lambda age: User.select(User.age == age).fetch(),
            lambda age: User.select(age=age).fetch(),
            lambda age: select(u for u in User if u.age == age).fetch(),
        ):
            assert ask(1) == []
            with pytest.raises(TypeError, match=r"User\.age|u\.age"):
                ask("old")
            assert ask(2) == []
    assert sent.statements == 6


def test_integers_do_not_become_floats(shop):
    """A whole number beyond 64 bits is an error on both databases, and never a float that has lost digits."""
    User = shop.entities["User"]
    with db_session:
        User(name="a", age=3)
        factor = 2**62
        assert select(u.age * (factor // 4) for u in User).fetch() == [3 * 2**60]
    with pytest.raises(DataError), db_session:
        select(u.age * factor for u in User).fetch()
