"""What a query cannot be: each mistake is an error that says what was meant, before anything is sent."""

from __future__ import annotations

import pytest

from dbsession import NoScopeError, Optional, Required, Set, db_session, desc
from tests.counting import counted


@pytest.fixture
def shop(db):
    """Users, their orders and cards."""

    class User(db.Entity):
        name = Required(str)
        age = Optional(int)
        active = Required(bool, default=True)
        data = Optional(bytes)
        orders = Set("Order")
        friends = Set("User", reverse="friends")
        card = Optional("Card")

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=0)

    class Card(db.Entity):
        user = Required(User)

    db.generate_mapping(create_tables=True)
    return db


# The condition of a wrong query on User, with what the error says.
WRONG = {
    "and": (lambda U, O: (U.age > 1) and (U.name == "x"), "combine conditions with & | ~"),
    "or": (lambda U, O: (U.age > 1) or (U.name == "x"), "combine conditions with & | ~"),
    "not": (lambda U, O: not U.active, "no truth value in Python"),
    "if": (lambda U, O: U.age if U.active else U.name, "no truth value in Python"),
    "chain": (lambda U, O: 18 < U.age < 30, "no truth value in Python"),
    "in a list": (lambda U, O: U.age in [1, 2], "no truth value in Python"),
    "in a collection": (lambda U, O: 1 in U.orders, r"`in` cannot ask the database about User\.orders"),
    "iterate": (lambda U, O: list(U.orders), "cannot be iterated"),
    "lambda": (lambda U, O: lambda user: user.age > 1, "a condition is an expression such as User.age > 18"),
    "text": (lambda U, O: "age > 1", "a condition is an expression such as User.age > 18, not 'age > 1'"),
    "number": (lambda U, O: 1, "a condition is an expression"),
    "None": (lambda U, O: None, "a condition is an expression"),
    "attribute": (lambda U, O: U.age, r"User\.age is no condition; compare it with something"),
    "arithmetic": (lambda U, O: U.age + 1, r"is no condition; compare it with something"),
    "negated attribute": (lambda U, O: ~U.age, r"User\.age is no condition"),
    "half a condition": (lambda U, O: (U.age > 1) & U.name, r"User\.name is no condition"),
    "and a value": (lambda U, O: (U.age > 1) & 5, "a condition is an expression"),
    "compared condition": (lambda U, O: (U.age > 1) == (U.name == "x"), "is a condition, and no value"),
    "precedence": (lambda U, O: (U.age > 1) & U.name == "x", r"is a condition, and no value|no condition"),
    "sum of a condition": (lambda U, O: (U.age > 1) + 1 == 2, "is a condition, and no value"),
    "another entity": (lambda U, O: O.total > 5, r"Order\.total is no attribute of User, whose objects are queried"),
    "another entity beside": (lambda U, O: U.age == O.total, r"Order\.total is no attribute of User"),
    "collection": (lambda U, O: U.orders == 1, r"User\.orders is a collection, which cannot stand in a condition"),
    "collection alone": (lambda U, O: U.orders, r"User\.orders is a collection"),
    "no collection": (lambda U, O: ~U.orders, r"User\.orders is a collection"),
    "empty collection": (lambda U, O: U.orders == None, r"User\.orders is a collection"),  # noqa: E711
    "collection in": (lambda U, O: U.friends.in_([1]), r"User\.friends is a collection"),
    "no column": (lambda U, O: U.card == 1, r"User\.card has no column; query Card instead"),
    "no column is None": (lambda U, O: U.card == None, r"User\.card has no column; query Card instead"),  # noqa: E711
    "type of a number": (lambda U, O: U.age == "old", r"User\.age must be an int"),
    "type of a text": (lambda U, O: U.name == 5, r"User\.name must be a str"),
    "type of a bool": (lambda U, O: U.active == "yes", r"User\.active must be a bool"),
    "type in a list": (lambda U, O: U.age.in_([1, "x"]), r"User\.age must be an int"),
    "a text for a list": (lambda U, O: U.name.in_("abc"), r"in_\(\) takes several values, not 'abc'"),
    "a number for a list": (lambda U, O: U.age.in_(5), r"in_\(\) takes several values, not 5"),
    "between": (lambda U, O: U.age.between("a", "b"), r"User\.age must be an int"),
    "order of None": (lambda U, O: U.age >= None, "None cannot be compared with >="),
    "text of a number": (lambda U, O: U.age.startswith("1"), r"startswith\(\) is for text, and User\.age is none"),
    "number in a text": (lambda U, O: U.name.contains(1), r"contains\(\) is for text, and 1 is none"),
    "bytes in a text": (lambda U, O: U.name.endswith(b"x"), r"endswith\(\) is for text, and b'x' is none"),
    "text of bytes": (lambda U, O: U.data.lower() == "x", r"lower\(\) is for text, and User\.data is none"),
    "text of a condition": (lambda U, O: (U.name == "x").lower() == "x", r"lower\(\) is for text"),
    "sum of texts": (lambda U, O: U.name + "x" == "y", r"User\.name is no number: \+ takes numbers"),
    "product with None": (lambda U, O: U.age * None == 1, r"None is no number: \* takes numbers"),
    "sum of references": (lambda U, O: U.age + U.card == 1, r"is no number"),
    "a class": (lambda U, O: U, "a condition is an expression"),
    "compared class": (lambda U, O: U.age == U, r"User\.age must be an int"),
    "NUL": (lambda U, O: U.name == "a\0b", "NUL"),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_conditions(shop, name):
    """A condition that cannot be one is an error that names what is wrong; nothing is sent."""
    condition, message = WRONG[name]
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        with counted(shop) as sent:
            with pytest.raises(ValueError if name == "NUL" else TypeError, match=message):
                User.select(condition(User, Order)).fetch()
        assert sent.statements == 0


@pytest.mark.parametrize("verb", ["select", "get", "exists", "get_for_update"])
def test_unknown_names(shop, verb):
    """A name that no attribute has is corrected; a collection, and one without a column, is not compared by name."""
    User = shop.entities["User"]
    with db_session:
        call = getattr(User, verb)
        with pytest.raises(TypeError, match="User has no attribute 'nmae' to compare; did you mean 'name'"):
            call(nmae="x")
        with pytest.raises(TypeError, match="'orders'"):
            call(orders=[])
        with pytest.raises(TypeError, match=r"User\.card has no column"):
            call(card=1).fetch() if verb == "select" else call(card=1)
        with pytest.raises(TypeError, match="a condition is an expression"):
            call(5)


def test_wrong_orders(shop):
    """What cannot be ordered by is refused."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        for wrong in (5, None, lambda user: user.name, [User.name]):
            with pytest.raises(TypeError, match=r"order_by\(\) takes attributes such as User\.name"):
                User.select().order_by(wrong)
        with pytest.raises(TypeError, match="User has no attribute 'nmae'"):
            User.select().order_by("nmae")
        with pytest.raises(TypeError, match=r"User\.orders is a collection"):
            User.select().order_by(User.orders).fetch()
        with pytest.raises(TypeError, match=r"Order\.total is no attribute of User"):
            User.select().order_by(Order.total).fetch()
        with pytest.raises(TypeError, match=r"desc\(\) takes an attribute or an expression"):
            User.select().order_by(desc("name"))


def test_conditions_as_values(shop):
    """Where a bool is wanted, a condition is a value: in an order, an assignment, a comparison with a bool attribute."""
    User = shop.entities["User"]
    with db_session:
        User(name="a", age=3, active=False), User(name="b", age=1)
    with db_session:
        assert [user.name for user in User.select().order_by(User.age > 2, User.name)] == ["b", "a"]
        assert [user.name for user in User.select(User.active == (User.age > 2))] == []
        User[1].active = User.age > 2
        assert User[1].active is True


def test_outside_a_scope(shop):
    """8. A verb outside any scope names the function that used it, and the way out."""
    User = shop.entities["User"]

    def helper():
        return User.get(name="x")

    for use in (helper, lambda: User[1], lambda: User.select().fetch(), lambda: User.exists(), lambda: User(name="x")):
        with pytest.raises(NoScopeError, match=r"put @db_session on the function, or `with db_session:` around the code"):
            use()
    with pytest.raises(NoScopeError, match=r"helper\(\) uses the database outside any db_session \(line \d+ of "):
        helper()
    assert User.select(User.age > 5).get_sql().startswith("SELECT")  # a value needs no scope
