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

        @property
        def is_old(self):
            return self.age > 65

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=0)

    class Card(db.Entity):
        user = Required(User)

    db.generate_mapping(create_tables=True)
    return db


# The source of a condition for a query on User, and what the error says.
WRONG = {
    "(User.age > 1) and (User.name == 'x')": "combine conditions with & | ~",
    "(User.age > 1) or (User.name == 'x')": "combine conditions with & | ~",
    "not User.active": "no truth value in Python",
    "User.age if User.active else User.name": "no truth value in Python",
    "18 < User.age < 30": "no truth value in Python",
    "User.age in [1, 2]": "no truth value in Python",
    "1 in User.orders": r"`in` cannot ask the database about User\.orders",
    "list(User.orders)": "cannot be iterated",
    "'age > 1'": r"a condition is an expression such as User.age > 18, not 'age > 1'; SQL .* as raw_sql\(",
    "1": r"a condition is an expression such as User\.age > 18, not 1; an object is found by its key as User\[7\]",
    "None": "a condition is an expression",
    "User.age": r"User\.age is no condition; compare it with something",
    "User.age + 1": r"is no condition; compare it with something",
    "~User.age": r"User\.age is no condition",
    "(User.age > 1) & User.name": r"User\.name is no condition",
    "(User.age > 1) & 5": "a condition is an expression",
    "(User.age > 1) & User.name == 'x'": r"is a condition, and 'x' is a str",
    "(User.age > 1) + 1 == 2": "is a condition, and no value",
    "Order.total > 5": r"Order\.total is no attribute of User, whose objects are queried",
    "User.age == Order.total": r"Order\.total is no attribute of User",
    "User.orders == 1": r"\.orders is a collection, and one value is wanted",
    "User.orders.total > 1": r"\.orders\.total is a collection, and one value is wanted: take sum\(\)",
    "User.age > 1 & User.age < 3": r"1 & User\.age: & binds before comparisons; put these in parentheses",
    "'x' | (User.age < 3)": r"\| binds before comparisons",
    "User.is_old": "a property or method of your own takes a lambda",
    "User.is_old == True": "Python has computed False already; what is no attribute of an entity",
    "(u for u in User)": r"write select\(u for u in User if \.\.\.\)",
    "User.orders": r"\.orders is a collection",
    "~User.orders": r"\.orders is a collection",
    "User.orders == None": r"\.orders is a collection",
    "User.friends.in_([1])": r"\.friends is a collection",
    "User.card == 'x'": r"User\.card is compared with an object of Card or its key: Card\.id must be an int",
    "User.age == 'old'": r"User\.age must be an int",
    "User.name == 5": r"User\.name must be a str",
    "User.active == 'yes'": r"User\.active must be a bool",
    "User.age.in_([1, 'x'])": r"User\.age must be an int",
    "User.name.in_('abc')": r"in_\(\) takes several values, not 'abc'",
    "User.age.in_(5)": r"in_\(\) takes several values, not 5",
    "User.age.between('a', 'b')": r"User\.age must be an int",
    "User.age >= None": "None cannot be compared with >=",
    "User.age.startswith('1')": r"startswith\(\) is for text, and User\.age is an int",
    "User.name.contains(1)": r"contains\(\) is for text, and 1 is an int",
    "User.name.endswith(b'x')": r"endswith\(\) is for text, and b'x' is bytes",
    "User.data.lower() == 'x'": r"lower\(\) is for text, and User\.data is bytes",
    "(User.name == 'x').lower() == 'x'": r"lower\(\) is for text",
    "User.name + 5 == 'y'": r"User\.name is no number: \+ takes numbers; str\(\) makes text",
    "User.age * None == 1": r"None is no number: \* takes numbers",
    "User.age + User.card == 1": r"is no number",
    "User": "a condition is an expression",
    "User.age == User": r"User\.age must be an int",
    r"User.name == 'a\0b'": "NUL",
}


@pytest.mark.parametrize("source", WRONG)
def test_wrong_conditions(shop, source):
    """A condition that cannot be one is an error that names what is wrong; nothing is sent."""
    User = shop.entities["User"]
    with db_session:
        with counted(shop) as sent:
            with pytest.raises(ValueError if "\\0" in source else TypeError, match=WRONG[source]):
                User.select(eval(source, dict(shop.entities))).fetch()
        assert sent.statements == 0


# What an attribute of a class has not, and what to write instead.
MISSING = {
    "User.name.like('A%')": r'User\.name has no \'like\' in the expression form; write startswith\("\.\.\."\)',
    "User.name.title()": r"write a lambda, such as User\.select\(lambda x: x\.name\.title \.\.\.\)",
    "User.age.nothing": r"User\.age has no 'nothing' in the expression form$",
}


@pytest.mark.parametrize("source", MISSING)
def test_what_the_expression_form_has_not(shop, source):
    """A method that only a lambda has, or none, is an AttributeError that says which."""
    with pytest.raises(AttributeError, match=MISSING[source]):
        eval(source, dict(shop.entities))


@pytest.mark.parametrize("verb", ["select", "get", "exists", "get_for_update"])
def test_unknown_names(shop, verb):
    """A name that no attribute has is corrected; a collection is not compared by name."""
    User = shop.entities["User"]
    with db_session:
        call = getattr(User, verb)
        with pytest.raises(TypeError, match="User has no attribute 'nmae' to compare; did you mean 'name'"):
            call(nmae="x")
        with pytest.raises(TypeError, match=r"'orders' to compare; it is a collection: ask exists\(User\.orders\)"):
            call(orders=[])
        with pytest.raises(TypeError, match=r"'card__user'.*; write User\.card\.user == "):
            call(card__user=1)
        with pytest.raises(TypeError, match="a condition is an expression"):
            call(5)


def test_wrong_orders(shop):
    """What cannot be ordered by is refused."""
    User, Order = shop.entities["User"], shop.entities["Order"]
    with db_session:
        for wrong in (5.0, b"name", [User.name]):
            with pytest.raises(TypeError, match=r"order_by\(\) takes attributes such as User\.name"):
                User.select().order_by(wrong)
        with pytest.raises(TypeError, match="the result has 1 item; 1, or -1, is a place"):
            User.select().order_by(5)
        with pytest.raises(TypeError, match="User has no attribute 'nmae'"):
            User.select().order_by("nmae")
        with pytest.raises(TypeError, match=r"\.orders is a collection"):
            User.select().order_by(User.orders).fetch()
        with pytest.raises(TypeError, match=r"Order\.total is no attribute of User"):
            User.select().order_by(Order.total).fetch()
        with pytest.raises(TypeError, match=r"desc\(\) takes an attribute or an expression"):
            User.select().order_by(desc("name"))
        with pytest.raises(TypeError, match=r"a place has a sign: order_by\(-1\)"):
            User.select().order_by(desc(1))
        with pytest.raises(TypeError, match=r"'-age' to compare; write desc\(User\.age\)"):
            User.select().order_by("-age")


def test_conditions_as_values(shop):
    """Where a bool is wanted, a condition is a value: in an order, an assignment, a comparison with a bool."""
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
        with pytest.raises(
            NoScopeError, match=r"put @db_session on the function, or `with db_session:` around the code"
        ):
            use()
    with pytest.raises(NoScopeError, match=r"helper\(\) uses the database outside any db_session \(line \d+ of "):
        helper()
    assert User.select(User.age > 5).get_sql().startswith("SELECT")  # a value needs no scope


def test_a_query_has_no_truth_value(db):
    """``if User.select(...):`` would always be true, so it says what to ask instead."""

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session, pytest.raises(TypeError, match=r"ask with exists\(\) or count\(\)"):
        bool(User.select(name="x"))


def test_the_end_without_a_column(shop):
    """A one-to-one reference whose column is on the other side is compared like any other."""
    User, Card = shop.entities["User"], shop.entities["Card"]
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        card = Card(user=ann)
        assert User.get(card=card) is ann
        assert User.select(User.card == card).fetch() == [ann]
        assert User.select(User.card == card.id).fetch() == [ann]
        assert User.select(User.card == None).fetch() == [bob]  # noqa: E711
        assert User.select(User.card != None).count() == 1  # noqa: E711
