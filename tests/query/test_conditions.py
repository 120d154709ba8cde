"""Conditions: what each operator means, for every type, as Python would have it and with SQL's NULL."""

from __future__ import annotations

import operator
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import Json, Optional, PrimaryKey, Required, Set, db_session, desc

# --- other types ------------------------------------------------------------------------------------------------

CET = timezone(timedelta(hours=1))


class Colour(Enum):
    RED = "r"
    BLUE = "b"
    GREEN = "g"


class Level(Enum):
    LOW = 1
    HIGH = 10


def uuid(number):
    """Make a UUID of a small number."""
    return UUID(int=number)


LONG = [Decimal(number) for number in ("-123456789012345678901.5", "9", "10", "10.00001", "200")]
NEW_YEARS = [datetime(2026, 1, 1, tzinfo=CET), datetime(2026, 1, 1, tzinfo=UTC), datetime(2026, 1, 2, tzinfo=CET)]

# type and options, values in ascending order
ORDERED = [
    (int, {}, [-5, 0, 3, 20, 100]),
    (int, {"size": 64}, [-(2**63), -1, 0, 2**40, 2**63 - 1]),
    (float, {}, [float("-inf"), -1.5, 0.0, 1e-9, 1e300]),
    (Decimal, {}, [Decimal("-10.5"), Decimal("-9.99"), Decimal(0), Decimal("2.00"), Decimal("10.00")]),
    (Decimal, {"precision": 30, "scale": 5}, LONG),
    (date, {}, [date(1, 1, 1), date(999, 12, 31), date(2026, 1, 1), date(9999, 12, 31)]),
    (datetime, {}, [datetime(1, 1, 1), datetime(2026, 1, 1), datetime(2026, 1, 1, 0, 0, 0, 1), datetime(2026, 1, 2)]),
    (datetime, {"tz": True}, NEW_YEARS),
    (time, {}, [time(0), time(0, 0, 0, 1), time(1), time(23, 59, 59, 999999)]),
    (timedelta, {}, [timedelta(days=-2), timedelta(0), timedelta(microseconds=1), timedelta(30), timedelta(400)]),
    (UUID, {}, [uuid(1), uuid(2), uuid(2**100)]),
    (bytes, {}, [b"", b"\0", b"\0\xff", b"a", b"\xff"]),
    (bool, {}, [False, True]),
    (str, {"autostrip": False}, ["A", "B", "a", "b"]),
]

COMPARISONS = [operator.eq, operator.ne, operator.lt, operator.le, operator.gt, operator.ge]


@pytest.mark.parametrize(("python", "options", "values"), ORDERED, ids=lambda value: repr(value)[:25])
def test_comparisons(db, python, options, values):
    """Values compare as they do in Python, from either side; NULL compares with nothing."""

    class Thing(db.Entity):
        value = Optional(python, **options)

    db.generate_mapping(create_tables=True)
    collated = python is str  # the order of texts is the database's
    with db_session:
        for value in (*reversed(values), None):
            Thing(value=value)
    with db_session:
        for compare in COMPARISONS[:2] if collated or python is bool else COMPARISONS:
            for value in values:
                wanted = [one for one in values if compare(one, value)]
                assert sorted(thing.value for thing in Thing.select(compare(Thing.value, value))) == wanted
                turned = [one for one in values if compare(value, one)]
                assert sorted(thing.value for thing in Thing.select(compare(value, Thing.value))) == turned
        if not collated:
            ordered = [thing.value for thing in Thing.select(Thing.value != None).order_by(Thing.value)]  # noqa: E711
            assert ordered == values
            ordered = [thing.value for thing in Thing.select(Thing.value != None).order_by(desc(Thing.value))]  # noqa: E711
            assert ordered == values[::-1]
        middle = values[1:-1]
        if middle and not collated:
            between = {thing.value for thing in Thing.select(Thing.value.between(middle[0], middle[-1]))}
            assert between == set(middle)
        assert {thing.value for thing in Thing.select(Thing.value.in_(values[:2]))} == set(values[:2])
        assert {thing.value for thing in Thing.select(~Thing.value.in_(values[:2]))} == set(values[2:])
        assert {thing.value for thing in Thing.select(Thing.value.in_([values[0], None]))} == {values[0], None}
        assert [thing.value for thing in Thing.select(Thing.value.in_([]))] == []
        assert len(Thing.select(~Thing.value.in_([])).fetch()) == len(values) + 1
        assert [thing.value for thing in Thing.select(Thing.value.in_([None]))] == [None]


def test_enums(db):
    """Members of an Enum compare with members and with their values; those of another Enum are refused."""

    class Thing(db.Entity):
        colour = Optional(Colour)
        level = Required(Level)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(colour=Colour.RED, level=Level.LOW), Thing(colour=Colour.BLUE, level=Level.HIGH), Thing(level=Level.LOW)
    with db_session:
        assert Thing.get(colour=Colour.RED) is Thing.get(Thing.colour == "r") is Thing[1]
        assert Thing.select(Thing.colour != Colour.RED).fetch() == [Thing[2]]
        assert Thing.select(Thing.colour.in_(list(Colour))).count() == 2
        assert Thing.select(Thing.level == 1).count() == 2 == Thing.select(level=Level.LOW).count()
        assert Thing.select(Thing.level > Level.LOW).fetch() == [Thing[2]]
        assert Thing.select(Thing.colour == "nothing").fetch() == []
        with pytest.raises(TypeError, match=r"Thing\.colour .*Level\.LOW"):
            Thing.select(Thing.colour == Level.LOW).fetch()


def test_booleans(db):
    """A bool attribute is a condition by itself."""

    class Thing(db.Entity):
        on = Optional(bool)
        rank = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(on=True, rank=1), Thing(on=False, rank=2), Thing(on=None, rank=3)
    with db_session:
        ranks = lambda *conditions: sorted(thing.rank for thing in Thing.select(*conditions))
        assert (ranks(Thing.on), ranks(~Thing.on), ranks(Thing.on == True)) == ([1], [2], [1])  # noqa: E712
        assert (ranks(Thing.on & (Thing.rank > 0)), ranks(Thing.on | (Thing.rank == 3))) == ([1], [1, 3])
        assert ranks(Thing.on == 0) == [2] == ranks(Thing.on != True)  # noqa: E712
        assert ranks(Thing.on == None) == [3]  # noqa: E711
        assert ranks(~(Thing.on & (Thing.rank > 0))) == [2]
        assert (ranks(Thing.on & True), ranks(Thing.on | True)) == ([1], [1, 2, 3])
        with pytest.raises(TypeError, match=r"Thing\.rank is no condition; compare it"):
            ranks(Thing.rank)
        with pytest.raises(TypeError, match=r"Thing\.rank is no condition"):
            ranks(~Thing.rank)


def test_json(db):
    """A Json attribute compares as a whole."""

    class Thing(db.Entity):
        data = Optional(Json)

    db.generate_mapping(create_tables=True)
    values = [{"a": 1}, [1, 2], "text", 5, None]
    with db_session:
        for value in values:
            Thing(data=value)
    with db_session:
        for number, value in enumerate(values, 1):
            assert Thing.select(Thing.data == value).fetch() == [Thing[number]], value
        assert Thing.select(Thing.data.in_([{"a": 1}, "text"])).count() == 2


# --- arithmetic ---------------------------------------------------------------------------------------------------


@pytest.fixture
def Item(db):
    """An entity with whole, exact and floating numbers."""

    class Item(db.Entity):
        count = Required(int)
        price = Required(Decimal, 12, 2)
        weight = Required(float)

    db.generate_mapping(create_tables=True)
    with db_session:
        for count, price, weight in ((1, "9.50", 0.5), (3, "10.00", 1.5), (10, "2.05", 2.25)):
            Item(count=count, price=price, weight=weight)
    return Item


def test_arithmetic(Item):
    """Sums, differences, products, quotients, signs, with values and attributes on either side."""
    with db_session:
        counts = lambda condition: sorted(item.count for item in Item.select(condition))
        assert counts(Item.count + 1 == 4) == [3] == counts(1 + Item.count == 4)
        assert counts(Item.count - 1 > 1) == [3, 10] == counts(1 - Item.count < -1)
        assert counts(Item.count * 2 >= 6) == [3, 10] == counts(2 * Item.count >= 6)
        assert counts(-Item.count < -2) == [3, 10]
        assert counts(Item.weight / 2 == 0.75) == [3] == counts(3 / Item.weight == 2)
        assert counts(Item.weight * Item.count > 4) == [3, 10]
        assert counts((Item.count + 1) * 2 - 1 == 7) == [3]
        assert counts(Item.count + Item.count == Item.count * 2) == [1, 3, 10]


def test_exact_arithmetic(Item):
    """Decimals stay exact, and compare as numbers, also where a whole number is part of it."""
    with db_session:
        counts = lambda condition: sorted(item.count for item in Item.select(condition))
        assert counts(Item.price + 1 > 9) == [1, 3]
        assert counts(Item.price + Decimal("0.5") == 10) == [1] == counts(Decimal("0.5") + Item.price == 10)
        assert counts(Item.price * 10 == Decimal("20.5")) == [10]
        assert (
            counts(Item.price * Item.count == Decimal("20.50"))
            == [10]
            == counts(Item.count * Item.price == Decimal("20.50"))
        )
        assert counts(Item.count * Item.price > 9) == [1, 3, 10]
        assert counts(Item.price / 2 > Decimal("4.9")) == [3]
        assert counts(-Item.price < -9) == [1, 3]
        assert counts(10 - Item.price < 1) == [1, 3]
        assert [item.count for item in Item.select().order_by(Item.price * 2)] == [10, 1, 3]
        assert [item.count for item in Item.select().order_by(desc(Item.count * Item.price))] == [3, 10, 1]
        assert counts((Item.price + 1).between(3, 11)) == [1, 3, 10]
        assert counts((Item.price * 2).in_([19, Decimal("4.10")])) == [1, 10]


def test_numbers_between_the_steps_of_a_column(Item):
    """A number that the column cannot hold still has a place among those that it can."""
    with db_session:
        counts = lambda condition: sorted(item.count for item in Item.select(condition))
        assert counts(Item.price == Decimal("2.054")) == [] == counts(Item.price == 2.0501)
        assert counts(Item.price < Decimal("2.054")) == [10] == counts(Item.price < 2.051)
        assert counts(Item.price < Decimal("2.046")) == [] and counts(Item.price <= Decimal("2.05")) == [10]
        assert counts(Item.price >= Decimal("10.001")) == [] and counts(Item.price > Decimal("9.999")) == [3]
        assert counts(Item.count > 2.5) == [3, 10] == counts(Item.count > Decimal("2.5"))
        assert counts(Item.count == 3.0) == [3] == counts(Item.count == Decimal(3))
        assert counts(Item.count.in_([2.5, 3])) == [3] and counts(Item.count.between(0.5, Decimal("3.5"))) == [1, 3]
        assert counts(Item.count < 2**70) == [1, 3, 10] and counts(Item.count == 2**70) == [] == counts(
            Item.count > 2**40
        )
        assert counts(Item.price < 10**20) == [1, 3, 10] and counts(Item.price == Decimal(10) ** 20) == []
        assert counts(Item.weight == Decimal("1.5")) == [3] == counts(Item.weight == 1.5)


def test_expressions_are_assigned_exactly(Item):
    """37. What the database computes is stored as the column holds it, and read back with the same statement."""
    with db_session:
        Item[1].price = Item.price * Decimal("1.5")
        Item[2].price = Item.price / 3
        Item[3].set(count=Item.count + 1, price=Item.price * Item.count)
        assert Item[1].price == Decimal("14.25")
        assert Item[2].price == Decimal("3.33")
    with db_session:
        assert [str(item.price) for item in Item.select().order_by(Item.id)] == ["14.25", "3.33", "20.50"]
        assert Item.select(Item.price == Decimal("3.33")).count() == 1
        assert Item[3].count == 11


# --- references -------------------------------------------------------------------------------------------------------


@pytest.fixture
def houses(db):
    """Houses with a key of two parts, people who live in them, and pets with a plain key of their owner."""

    class House(db.Entity):
        street = Required(str)
        number = Required(int)
        PrimaryKey(street, number)
        people = Set("Person", reverse="home")
        visitors = Set("Person", reverse="visits")

    class Person(db.Entity):
        name = Required(str)
        home = Optional(House)
        visits = Optional(House)
        pets = Set("Pet")

    class Pet(db.Entity):
        owner = Optional(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        one, two = House(street="a", number=1), House(street="a", number=2)
        (
            Person(name="Ann", home=one, visits=two),
            Person(name="Bob", home=two, visits=two),
            Person(name="Cid", visits=one),
        )
        Pet(owner=1), Pet(owner=2), Pet()
    return db


def test_references_in_conditions(houses):
    """A reference compares with an object, its key, None, or another reference."""
    House, Person, Pet = (houses.entities[name] for name in ("House", "Person", "Pet"))
    with db_session:
        ann, bob = Person[1], Person[2]
        pets = lambda condition: [pet.id for pet in Pet.select(condition).order_by(Pet.id)]
        assert pets(Pet.owner == ann) == [1] == pets(Pet.owner == 1) == pets(Pet.owner == "1")
        assert pets(Pet.owner != ann) == [2] and pets(Pet.owner == None) == [3]  # noqa: E711
        assert pets(Pet.owner.in_([ann, 2])) == [1, 2] and pets(Pet.owner.in_([bob, None])) == [2, 3]
        assert pets(~(Pet.owner == ann)) == [2] and pets(Pet.owner.in_([])) == []
        for wrong in (House["a", 1], Pet[1], "Ann", 1.5, (1, 2)):
            with pytest.raises(TypeError, match=r"Pet\.owner|Person"):
                Pet.select(Pet.owner == wrong).fetch()
        with pytest.raises(TypeError, match=r"Person\.name"):
            Person.select(Person.name == ann).fetch()


def test_composite_references_in_conditions(houses):
    """A reference of several columns compares as a whole, with = and <> and in_()."""
    House, Person = houses.entities["House"], houses.entities["Person"]
    with db_session:
        one, two = House["a", 1], House["a", 2]
        people = lambda condition: sorted(person.name for person in Person.select(condition))
        assert people(Person.home == one) == ["Ann"] == people(Person.home == ("a", 1))
        assert people(Person.home != one) == ["Bob"]
        assert people(Person.home == None) == ["Cid"] and people(Person.home != None) == ["Ann", "Bob"]  # noqa: E711
        assert people(Person.home.in_([one, ("a", 2)])) == ["Ann", "Bob"]
        assert people(Person.home.in_([two, None])) == ["Bob", "Cid"] and people(Person.home.in_([])) == []
        assert people(~Person.visits.in_([two])) == ["Cid"]
        assert people(Person.home == Person.visits) == ["Bob"] and people(Person.home != Person.visits) == ["Ann"]
        assert [p.name for p in Person.select(Person.home != None).order_by(desc(Person.home))] == ["Bob", "Ann"]  # noqa: E711
        for wrong in (lambda: Person.home < one, lambda: Person.home.between(one, two), lambda: Person.home + 1 == 2):
            with pytest.raises(TypeError, match=r"Person\.home"):
                Person.select(wrong()).fetch()
        with pytest.raises(TypeError, match="the key of House has 2 parts"):
            Person.select(Person.home == "a").fetch()


# --- any condition ----------------------------------------------------------------------------------------


@pytest.fixture
def Row(db):
    """Rows with every combination of small numbers and NULL."""

    class Row(db.Entity):
        a = Optional(int)
        b = Optional(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for a in (None, 0, 1, 2):
            for b in (None, 0, 1, 2):
                Row(a=a, b=b)
    return Row


OPERAND = st.one_of(st.sampled_from("ab"), st.integers(-1, 3))
TERM = st.one_of(OPERAND, st.tuples(st.sampled_from("+-*"), st.sampled_from("ab"), OPERAND))
LEAF = st.one_of(
    st.tuples(st.sampled_from(["=", "<>", "<", "<=", ">", ">="]), st.sampled_from("ab"), TERM),
    st.tuples(st.just("in"), st.sampled_from("ab"), st.lists(st.one_of(st.none(), st.integers(0, 2)), max_size=3)),
    st.tuples(st.just("null"), st.sampled_from("ab")),
)
TREE = st.recursive(
    LEAF,
    lambda inner: st.one_of(st.tuples(st.sampled_from(["and", "or"]), inner, inner), st.tuples(st.just("not"), inner)),
    max_leaves=6,
)
PYTHON = {"=": operator.eq, "<>": operator.ne, "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge}
PYTHON |= {"+": operator.add, "-": operator.sub, "*": operator.mul}


def expression(Row, node):
    """Make the expression of *node*."""
    if not isinstance(node, tuple):
        return getattr(Row, node) if isinstance(node, str) else node
    kind, *operands = node
    if kind == "null":
        return expression(Row, operands[0]) == None  # noqa: E711
    if kind == "in":
        return expression(Row, operands[0]).in_(operands[1])
    if kind == "not":
        return ~expression(Row, operands[0])
    left, right = (expression(Row, operand) for operand in operands)
    return left & right if kind == "and" else left | right if kind == "or" else PYTHON[kind](left, right)


def value(row, node):
    """Say what *node* is for *row*, with None for unknown, as SQL has it."""
    if not isinstance(node, tuple):
        return row[node] if isinstance(node, str) else node
    kind, *operands = node
    if kind == "null":
        return row[operands[0]] is None
    if kind == "in":
        mine, listed = row[operands[0]], operands[1]
        if None in listed:
            return mine is None or (mine in listed or (None if mine is None else False))
        return False if not listed else None if mine is None else mine in listed
    if kind == "not":
        inner = value(row, operands[0])
        return None if inner is None else not inner
    left, right = (value(row, operand) for operand in operands)
    if kind in ("and", "or"):
        decides = kind == "or"
        return decides if decides in (left, right) else None if None in (left, right) else not decides
    return None if left is None or right is None else PYTHON[kind](left, right)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(tree=TREE)
def test_any_condition(Row, tree):
    """Whatever conditions are combined, with parentheses where Python has them, the rows are those that SQL means."""
    with db_session:
        found = {(row.a, row.b) for row in Row.select(expression(Row, tree))}
    rows = [(a, b) for a in (None, 0, 1, 2) for b in (None, 0, 1, 2)]
    assert found == {(a, b) for a, b in rows if value({"a": a, "b": b}, tree) is True}


def test_many_values_in_one_condition(db):
    """in_() takes thousands of values."""

    class Thing(db.Entity):
        number = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(number=1), Thing(number=9_999)
    with db_session:
        assert Thing.select(Thing.number.in_(range(10_000))).count() == 2
        assert Thing.select(Thing.number.in_(range(2, 9_000))).count() == 0
