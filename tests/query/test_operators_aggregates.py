"""Aggregates leave NULLs out; the sum of nothing is 0, its count 0, and everything else of nothing is None."""

from __future__ import annotations

from datetime import date, datetime, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import Optional, PrimaryKey, Required, Set, db_session
from dbsession.model.expressions import Operation
from dbsession.query.query import Query
from dbsession.query.selected import Selected
from dbsession.query.tree import Path, Slot, Variable
from tests.query.operating import declare


class Colour(Enum):
    RED = "r"
    BLUE = "b"


@pytest.fixture
def Thing(db):
    """Things of every kind."""
    Thing = declare(db)
    with db_session:
        Thing.select(Thing.i > 10**9).delete()
    return Thing


def asked(Thing, node, *conditions, values=()):
    """Return the one value of the aggregate *node* over the things that fit *conditions*."""
    selected = Selected.of(Thing._mapping_, *conditions).replace(result=node)
    (value,) = Query(selected, Thing.select()._runner, values).fetch()
    return value


def aggregate(name, *operands):
    """Make an aggregate."""
    return Operation(name, *operands)


NUMBERS = ["i", "j", "small", "f", "g", "d", "e"]


@pytest.mark.parametrize("name", NUMBERS)
def test_numbers(Thing, name):
    """sum(), avg(), min(), max() and count() of every kind of number, NULLs left out; avg() is a float."""
    node = getattr(Thing, name)
    with db_session:
        values = [getattr(thing, name) for thing in Thing.select() if getattr(thing, name) is not None]
        python = type(values[0])
        total = asked(Thing, aggregate("sum", node))
        assert (type(total), total) == (python, sum(values))
        mean = asked(Thing, aggregate("avg", node))
        assert type(mean) is float and mean == pytest.approx(float(sum(values)) / len(values), rel=1e-12)
        for each, choose in (("min", min), ("max", max)):
            found = asked(Thing, aggregate(each, node))
            assert (type(found), found) == (python, choose(values)), each
        assert asked(Thing, aggregate("count", node)) == len(values)
        assert asked(Thing, aggregate("count_distinct", node)) == len(set(values))
        assert asked(Thing, aggregate("sum", node * 2)) == sum(value * 2 for value in values)
        assert asked(Thing, aggregate("max", node + 1)) == max(values) + 1
        assert asked(Thing, aggregate("sum", node) + 1) == sum(values) + 1
        assert asked(Thing, aggregate("max", node) - aggregate("min", node)) == max(values) - min(values)


@pytest.mark.parametrize("name", NUMBERS)
def test_nothing(Thing, name):
    """Of no rows, and of nothing but NULLs: 0 of the same type for sum(), 0 for count(), None for the rest."""
    node = getattr(Thing, name)
    nothing = Thing.j > 10**6
    nulls = node == None  # noqa: E711
    with db_session:
        python = type(next(value for value in (getattr(thing, name) for thing in Thing.select()) if value is not None))
        for condition in (nothing, nulls):
            total = asked(Thing, aggregate("sum", node), condition)
            assert (type(total), total) == (python, 0)
            assert asked(Thing, aggregate("sum", node) / 2, condition) == 0
            assert asked(Thing, aggregate("sum", node) == 0, condition) is True
            for each in ("avg", "min", "max"):
                assert asked(Thing, aggregate(each, node), condition) is None
            assert asked(Thing, aggregate("count", node), condition) == 0
            assert asked(Thing, aggregate("count_distinct", node), condition) == 0
            assert asked(Thing, aggregate("group_concat", node, "-"), condition) is None
        assert asked(Thing, aggregate("count"), nothing) == 0


def test_counting(Thing):
    """count() counts rows, count(x) what is not NULL, count(object) objects; with True, different values."""
    with db_session:
        assert asked(Thing, aggregate("count")) == 5
        assert asked(Thing, aggregate("count", Thing.j)) == 5 and asked(Thing, aggregate("count", Thing.i)) == 4
        assert asked(Thing, aggregate("count", Thing.owner)) == 3
        assert asked(Thing, aggregate("count_distinct", Thing.owner)) == 2
        assert asked(Thing, aggregate("count", Thing.owner, True)) == 2
        assert asked(Thing, aggregate("count", Thing.c, Slot(0, True)), values=(True,)) == 2
        assert asked(Thing, aggregate("count_distinct", Thing.b)) == 2
        assert asked(Thing, aggregate("count_distinct", Thing.i > 0)) == 2


def test_conditions_and_bools(Thing):
    """sum() of a condition counts the rows where it is true; min() and max() of a bool are `all` and `any`."""
    with db_session:
        things = Thing.select().fetch()
        assert asked(Thing, aggregate("sum", Thing.j > 2)) == sum(thing.j > 2 for thing in things)
        assert asked(Thing, aggregate("sum", Thing.i > 2)) == sum(
            thing.i > 2 for thing in things if thing.i is not None
        )
        assert asked(Thing, aggregate("sum", Thing.b)) == 2 and asked(Thing, aggregate("sum", Thing.c)) == 3
        assert asked(Thing, aggregate("sum", Thing.c), Thing.j > 10**6) == 0
        assert asked(Thing, aggregate("min", Thing.b)) is False and asked(Thing, aggregate("max", Thing.b)) is True
        assert asked(Thing, aggregate("min", Thing.j > -5)) is True
        assert asked(Thing, aggregate("max", Thing.b), Thing.j > 10**6) is None


def test_different_values(db):
    """Equal values count once where that is asked for; Decimals are equal as numbers."""

    class Sale(db.Entity):
        count = Required(int)
        price = Required(Decimal, 12, 4)
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        for count, price, name in ((1, "1.5", "a"), (1, "1.50", "b"), (2, "2", "a"), (2, "1.5000", "c,d")):
            Sale(count=count, price=Decimal(price), name=name)
    with db_session:
        assert asked(Sale, aggregate("sum", Sale.count, True)) == 3 == asked(Sale, aggregate("sum", Sale.count)) / 2
        assert asked(Sale, aggregate("sum", Sale.price, True)) == Decimal("3.5")
        assert asked(Sale, aggregate("sum", Sale.price * 2, True)) == 7
        assert (
            asked(Sale, aggregate("avg", Sale.price, True)) == 1.75
            and asked(Sale, aggregate("avg", Sale.count, True)) == 1.5
        )
        assert (
            asked(Sale, aggregate("count_distinct", Sale.price))
            == 2
            == asked(Sale, aggregate("count", Sale.price * 2, True))
        )
        joined = asked(Sale, aggregate("group_concat", Sale.name, "-", True))
        assert sorted(joined.split("-")) == ["a", "b", "c,d"]
        assert sorted(asked(Sale, aggregate("group_concat", Sale.count, None, True)).split(",")) == ["1", "2"]


def test_group_concat(Thing):
    """group_concat() puts what str() makes of the values together, with a comma or another text between."""
    with db_session:
        things = Thing.select().fetch()
        for name, text in (("u", str), ("i", str), ("c", str), ("d", str)):
            values = sorted(text(getattr(thing, name)) for thing in things if getattr(thing, name) is not None)
            assert sorted(asked(Thing, aggregate("group_concat", getattr(Thing, name))).split(",")) == values
            assert sorted(asked(Thing, aggregate("group_concat", getattr(Thing, name), " | ")).split(" | ")) == values
            slot = aggregate("group_concat", getattr(Thing, name), Slot(0, ";"))
            assert sorted(asked(Thing, slot, values=("%s",)).split("%s")) == values
        texts = asked(Thing, aggregate("group_concat", Thing.u.upper() + "!", ""))
        assert sorted(texts.split("!")[:-1]) == sorted(thing.u.upper() for thing in things)


def test_the_smallest_and_largest_of_every_type(db):
    """min() and max() of dates, times, UUIDs, Enums and texts give values of that type."""

    class Event(db.Entity):
        day = Optional(date)
        at = Optional(datetime)
        length = Optional(timedelta)
        key = Optional(UUID)
        colour = Optional(Colour)
        name = Optional(str)

    db.generate_mapping(create_tables=True)
    low, high = date(2026, 1, 9), date(2026, 1, 10)
    with db_session:
        Event(day=high, at=datetime(2026, 1, 1), length=timedelta(1), key=UUID(int=9), colour=Colour.RED, name="b")
        Event(day=low, at=datetime(1, 1, 1), length=timedelta(-3), key=UUID(int=10), colour=Colour.BLUE, name="a")
        Event()
    with db_session:
        ends = lambda name: (
            asked(Event, aggregate("min", getattr(Event, name))),
            asked(Event, aggregate("max", getattr(Event, name))),
        )
        assert ends("day") == (low, high) and ends("at") == (datetime(1, 1, 1), datetime(2026, 1, 1))
        assert ends("length") == (timedelta(-3), timedelta(1)) and ends("key") == (UUID(int=9), UUID(int=10))
        assert ends("colour") == (Colour.BLUE, Colour.RED) and ends("name") == ("a", "b")
        assert asked(Event, aggregate("sum", Event.length)) == timedelta(-2)
        assert asked(Event, aggregate("sum", Event.length), Event.name == "?") == timedelta(0)
        assert asked(Event, aggregate("count_distinct", Event.key)) == 2


def test_sums_beyond_64_bits(Thing):
    """Sums of Decimals have any number of digits; so have sums of ints on PostgreSQL."""
    with db_session:
        for _ in range(3):
            Thing(i=2**62, j=1, g=1.0, e=Decimal("1e20"), u="x", c=True)
        large = Thing.i > 10**9
        assert asked(Thing, aggregate("sum", Thing.e), large) == 3 * 10**20
        if Thing._mapping_.dialect.name == "postgresql":
            assert asked(Thing, aggregate("sum", Thing.i), large) == 3 * 2**62


# --- over collections -------------------------------------------------------------------------------------------


@pytest.fixture
def shop(db):
    """Users with orders."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)
        total = Optional(Decimal, 12, 2)
        count = Required(int)
        paid = Required(bool, default=False)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob, cid = (User(name=name) for name in ("Ann", "Bob", "Cid"))
        for user, total, count, paid in ((ann, "9.50", 1, True), (ann, "10.50", 3, False), (bob, None, 2, True)):
            Order(user=user, total=None if total is None else Decimal(total), count=count, paid=paid)
        assert cid
    return User, Order


def test_over_collections(shop):
    """An aggregate over a collection is asked for each object, and follows the same rules."""
    User, Order = shop
    user = Variable(User._mapping_, "u")

    def of(name, *options):
        path = Path(user, User.orders)
        return lambda attribute=None: Operation(name, path if attribute is None else Path(path, attribute), *options)

    with db_session:

        def each(node, values=()):
            selected = Selected.of(User._mapping_)
            variable = selected.result
            selected = selected.replace(result=(variable, _with(node, user, variable)))
            rows = Query(selected, User.select()._runner, values).fetch()
            return [value for _, value in sorted(rows, key=lambda row: row[0].id)]

        assert each(of("count")()) == [2, 1, 0]
        assert each(of("sum")(Order.total)) == [Decimal(20), Decimal(0), Decimal(0)]
        assert each(of("sum")(Order.count)) == [4, 2, 0]
        assert each(of("avg")(Order.total)) == [10.0, None, None]
        assert each(of("min")(Order.total)) == [Decimal("9.50"), None, None]
        assert each(of("max")(Order.count)) == [3, 2, None]
        assert each(of("sum")(Order.paid)) == [1, 1, 0]
        assert each(of("count")(Order.total)) == [2, 0, 0]
        assert sorted(each(of("group_concat", "+")(Order.count))[0].split("+")) == ["1", "3"]
        assert each(of("exists")()) == [True, True, False]
        assert each(~of("exists")()) == [False, False, True]
        assert each(Operation("truth", Path(user, User.orders))) == [True, True, False]
        assert each(~Operation("truth", Path(user, User.orders))) == [False, False, True]
        assert each(of("sum")(Order.total) > 5) == [True, False, False]
        assert each(of("count")() * 2 + 1) == [5, 3, 1]
        assert each(Operation("coalesce", of("max")(Order.count), Slot(0, 1)), (7,)) == [3, 2, 7]


def _with(node, old, new):
    """Return *node* with another variable."""
    if node is old:
        return new
    if isinstance(node, Operation):
        return Operation(node.operator, *[_with(operand, old, new) for operand in node.operands])
    if isinstance(node, Path):
        return Path(_with(node.base, old, new), node.attribute)
    return node


def test_counting_objects_with_keys_of_several_parts(db):
    """Different objects are told apart by all parts of their keys; no object does not count."""

    class House(db.Entity):
        street = Required(str)
        number = Required(int)
        PrimaryKey(street, number)
        people = Set("Person")

    class Person(db.Entity):
        home = Optional(House)

    db.generate_mapping(create_tables=True)
    with db_session:
        one, two, three = House(street="a", number=1), House(street="a", number=2), House(street="a1", number=1)
        for home in (one, one, two, three, None, None):
            Person(home=home)
    with db_session:
        assert asked(Person, aggregate("count_distinct", Person.home)) == 3
        assert asked(Person, aggregate("count", Person.home)) == 4
        assert asked(Person, aggregate("count_distinct", Person.home), Person.home == None) == 0  # noqa: E711
