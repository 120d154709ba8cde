"""The public functions: what makes queries of generator expressions, and what they are for everything else."""

from __future__ import annotations

import builtins
import math
from datetime import date, datetime
from decimal import Decimal
from typing import Any

import pytest

import dbsession
from dbsession import (
    Database,
    MultipleObjectsFoundError,
    NoScopeError,
    Query,
    avg,
    between,
    coalesce,
    concat,
    count,
    db_session,
    delete,
    desc,
    distinct,
    exists,
    flush,
    get,
    group_concat,
    left_join,
    max,
    min,
    random,
    raw_sql,
    select,
    sum,
)
from tests.query.office import define


@pytest.fixture
def office(db: Database) -> Any:
    """Ann (40, no boss), Bob (17) and Cid (no age), who have Ann for their boss; three orders."""
    define(db)
    entities = db.entities
    with db_session:
        Person, Order = entities["Person"], entities["Order"]
        ann = Person(name="Ann", age=40, nick="A")
        bob = Person(name="Bob", age=17, boss=ann)
        cid = Person(name="Cid", boss=ann)
        for person, total in ((ann, 5), (ann, 20), (bob, 7)):
            Order(person=person, total=total)
        del ann, bob, cid
    return entities


def test_select(office):
    """select() makes a query, which is sent when it is read, and as often as it is read."""
    Person = office["Person"]
    least = 18
    query = select(p for p in Person if p.age > least)
    assert isinstance(query, Query)
    with db_session:
        assert [p.name for p in query] == ["Ann"]
        assert select(p.name for p in Person).order_by(lambda name: desc(name)).fetch() == ["Cid", "Bob", "Ann"]
        assert select((p.name, o.total) for p in Person for o in p.orders if o.total > 6).order_by(1).fetch() == [
            ("Ann", Decimal(20)),
            ("Bob", Decimal(7)),
        ]
        assert query.count() == 1
    with pytest.raises(NoScopeError):
        query.fetch()


def test_select_of_entities_queries_and_collections(office):
    """What a generator may range over can be given to select() itself, too."""
    Person = office["Person"]
    with db_session:
        ann = Person.get(name="Ann")
        assert select(Person).count() == 3
        assert select(ann.staff).count() == 2
        assert select(p.name for p in ann.staff if p.age).fetch() == ["Bob"]
        young = Person.select(lambda p: p.age < 18)
        assert select(young) is young
        assert select(p.boss for p in young).fetch() == [ann]
        assert select(p for p in Person if p in ann.staff and p.age is None).get().name == "Cid"


def test_left_join(office):
    """left_join() keeps those who have nothing."""
    Person = office["Person"]
    with db_session:
        rows = left_join((p.name, count(o)) for p in Person for o in p.orders).order_by(1).fetch()
        assert rows == [("Ann", 2), ("Bob", 1), ("Cid", 0)]
        assert left_join(p.name for p in Person for o in p.orders if o is None).fetch() == ["Cid"]


def test_get_and_exists(office):
    """get() gives the only result or None, exists() whether there is any."""
    Person = office["Person"]
    with db_session:
        assert get(p for p in Person if p.name == "Bob").age == 17
        assert get(p for p in Person if p.name == "Dan") is None
        with pytest.raises(MultipleObjectsFoundError):
            get(p for p in Person if p.boss is not None)
        assert exists(p for p in Person if p.age is None)
        assert not exists(p for p in Person if p.age > 99)
        assert exists(Person)


def test_delete(office):
    """delete() deletes what the query gives: object by object, or at once."""
    Person, Order = office["Person"], office["Order"]
    with db_session:
        assert delete(o for o in Order if o.total > 6) == 2
        flush()
        assert select(o.total for o in Order).fetch() == [Decimal(5)]
        assert delete((o for o in Order if o.person.name == "Ann"), bulk=True) == 1
        assert count(Order) == 0
        assert delete(p for p in Person if p.boss is not None and p.boss.name == "Ann") == 2
        assert count(Person) == 1


def test_aggregates(office):
    """count, sum, min, max, avg, group_concat of a query; nothing is 0 for sum and count, else None."""
    Person, Order = office["Person"], office["Order"]
    with db_session:
        assert count(p for p in Person) == 3
        assert count(o.person for o in Order) == 3
        assert count((o.person for o in Order), distinct=True) == 2
        assert sum(o.total for o in Order) == Decimal(32)
        assert sum(p.age for p in Person if p.age > 99) == 0
        assert (min(p.age for p in Person), max(p.age for p in Person)) == (17, 40)
        assert max(p.age for p in Person if p.age > 99) is None
        assert avg(p.age for p in Person) == 28.5
        assert sorted(group_concat((p.name for p in Person), "+").split("+")) == ["Ann", "Bob", "Cid"]
        assert group_concat(p.nick for p in Person) == "A"
        assert (
            sum((o.total // 20 for o in Order), distinct=True),
            avg((o.total // 20 for o in Order), distinct=True),
        ) == (1, 0.5)
        assert group_concat((o.person.name for o in Order if o.person.name == "Ann"), distinct=True) == "Ann"
        assert select((p.name, sum(distinct(o.total // 20 for o in p.orders))) for p in Person).order_by(1).first() == (
            "Ann",
            1,
        )
        assert distinct(o.person for o in Order).count() == 2
        pairs = select((p.name, count((o, i) for o in p.orders for i in Person if i.age)) for p in Person).order_by(1)
        assert pairs.fetch() == [("Ann", 4), ("Bob", 2), ("Cid", 0)]
        assert select(len(distinct((o.person, 1) for o in Order)) for p in Person).limit(1).get() == 2


def test_everything_else_is_the_builtin():
    """On what is not the database's, the functions are the builtins, with all their arguments."""
    numbers = [3, 1, 2]
    assert sum(numbers) == 6
    assert sum(n for n in numbers) == 6
    assert sum(numbers, 10) == sum(numbers, start=10) == 16
    assert sum([[1], [2]], []) == [1, 2]
    assert (min(numbers), max(numbers)) == (1, 3)
    assert (min(3, 1), max(3, 1, key=lambda n: -n)) == (1, 1)
    assert (min([], default=7), max((n for n in numbers), key=lambda n: -n)) == (7, 1)
    with pytest.raises(ValueError, match="empty"):
        min([])
    with pytest.raises(TypeError):
        sum(3)
    with pytest.raises(TypeError):
        max()
    assert count(n for n in numbers) == 3
    assert count([1, 1, 2], distinct=True) == 2
    assert avg([1, None, 2]) == 1.5
    assert avg([]) is None
    assert (sum([1, 1, 2], distinct=True), avg([1, 1, 2], distinct=True)) == (3, 1.5)
    assert exists([0])
    assert not exists(n for n in numbers if n > 9)
    assert list(distinct([1, 2, 1])) == [1, 2]
    assert group_concat([1, None, "x"], "; ") == "1; x"
    assert group_concat([]) is None
    assert math.isclose(sum([0.1] * 10), builtins.sum([0.1] * 10))


def test_functions_of_values():
    """coalesce, between, concat and random outside of queries."""
    assert coalesce(None, 0, 1) == 0
    assert coalesce(None) is None
    assert between(2, 1, 3)
    assert not between(4, 1, 3)
    assert concat("a", 1, None) == "a1None"
    assert 0 <= random() < 1


def test_the_expression_form(office):
    """Of the attributes of a class, the functions are expressions."""
    Person, Order = office["Person"], office["Order"]
    low = 10
    with db_session:
        assert Person.select(coalesce(Person.nick, Person.name) == "Bob").get().age == 17
        assert Person.select(between(Person.age, low, 20)).count() == 1
        assert Person.select(raw_sql("age > $low + $(low * 2)")).get().name == "Ann"
        assert Person.select(concat(Person.name, "!") == "Cid!").exists()
        assert repr(sum(Order.total)) == "sum(Order.total)"
        assert repr(max(Person.age, 3)) == "max2(Person.age, 3)"
        assert repr(count(Person.orders)) == "count(Person.orders)"
        assert repr(avg(Person.age)) == "avg(Person.age)"
        assert repr(group_concat(Person.name)) == "group_concat(Person.name, ',')"


def test_lambdas_of_classes_and_queries(office):
    """select(), filter(), where() and order_by() take lambdas; get() and exists() of a class, too."""
    Person = office["Person"]
    age = 18
    with db_session:
        assert Person.select(lambda p: p.age > age).get().name == "Ann"
        assert Person.get(lambda p: p.name.startswith("B")).age == 17
        assert Person.exists(lambda p: p.boss.name == "Ann")
        query = select((p.name, o.total) for p in Person for o in p.orders)
        assert query.filter(lambda name, total: total > 6 and name != "Bob").fetch() == [("Ann", Decimal(20))]
        assert query.where(lambda o: o.total < 6).fetch() == [("Ann", Decimal(5))]
        assert query.where(lambda: p.age < age and o.total > 1).fetch() == [("Bob", Decimal(7))]  # noqa: F821
        ordered = query.order_by(lambda name, total: (desc(name), total))
        assert [total for _, total in ordered] == [Decimal(7), Decimal(5), Decimal(20)]
        assert Person.select().order_by(lambda: desc(p.age)).filter(lambda p: p.age).first().name == "Ann"  # noqa: F821


def test_conditions_on_aggregates_choose_among_groups(office):
    """A condition on the rows of a loop groups by the result, whether that has an aggregate or not."""
    Person = office["Person"]
    with db_session:
        assert [p.name for p in select(p for p in Person for o in p.orders if sum(o.total) > 20)] == ["Ann"]
        assert select(p.name for p in Person for o in p.orders if count(o) == 1).fetch() == ["Bob"]
        assert select(p.name for p in Person for o in p.orders if count(o) == 1).count() == 1


def test_tuples_in_queries(office):
    """(a, b) in a query of tuples asks whether there is such a row; values of that query come along."""
    Person, Order = office["Person"], office["Order"]
    low, name = 6, "Ann"
    rich = select((o.person.name, o.person.age) for o in Order if o.total > low)
    with db_session:
        found = select(p.name for p in Person if p.name != name and (p.name, p.age) in rich and p.age > low)
        assert found.fetch() == ["Bob"]
        assert select(p.name for p in Person if (p.name, 17) in rich).fetch() == ["Bob"]
        assert select(p.name for p in Person if (p, 5) not in ((o.person, o.total) for o in Order)).order_by(
            1
        ).fetch() == ["Bob", "Cid"]


def test_raw_sql_names_loop_variables(office):
    """SQL of one's own calls columns by the loop variables, wherever it stands; its values are parameters."""
    Person = office["Person"]
    name, low = "ann'; --", 5
    with db_session:
        assert select(p for p in Person if raw_sql("p.age > $low")).count() == 2
        assert select(raw_sql("p.age + $low", int) for p in Person if p.name == "Bob").get() == 22
        assert select(p for p in Person if raw_sql("lower(p.name) = $name")).fetch() == []
        assert select(p for p in Person if raw_sql("$(name)") == name).count() == 3
        assert (
            select(p.name for p in Person if p.age > 1).filter(lambda n: raw_sql("p.age < $(low * 4)")).get() == "Bob"
        )
        assert select(p for p in Person if raw_sql("p.name = '$$' or p.name = $(name[0:3].title())")).count() == 1


def test_queries_made_outside_of_any_scope(office):
    """A query may be made anywhere, and read in any scope."""
    Person = office["Person"]
    names = ["Ann", "Bob"]
    query = select(p for p in Person if p.name in names).filter(lambda p: p.age < 20)
    for _ in range(2):
        with db_session:
            assert [p.name for p in query] == ["Bob"]


def test_a_generator_that_is_under_way_is_no_query(office):
    """What was iterated is a generator like others."""
    Person = office["Person"]
    with db_session:
        people = (p.name for p in Person)
        next(people)
        with pytest.raises(TypeError, match="takes a generator expression"):
            select(people)
        assert len(list(people)) == 2
        assert sum(len(name) for name in ["a", "bc"]) == 3


def test_star_import():
    """`from dbsession import *` brings the functions, in place of the builtins of these names."""
    for name in ("select", "left_join", "get", "exists", "delete", "count", "sum", "min", "max", "avg", "group_concat"):
        assert name in dbsession.__all__
    for name in ("distinct", "desc", "coalesce", "between", "concat", "raw_sql", "random"):
        assert name in dbsession.__all__


def test_attributes_of_subclasses(office):
    """An attribute of a subclass is None where the object is of another class."""
    Person, Manager = office["Person"], office["Manager"]
    with db_session:
        Manager(name="Eve", grade=3, bonus=1)
        assert select(p.name for p in Person if p.grade > 2).get() == "Eve"
        assert select(p.name for p in Person if isinstance(p, Manager) and p.bonus == 1).get() == "Eve"
        assert select(count(p.grade) for p in Person).get() == 1
        assert select(p for p in Person if p.grade is None).count() == 3


def test_dates_beside_datetimes(office):
    """A value that is a date stands for the beginning of its day where it is compared with a datetime."""
    Order = office["Order"]
    cutoff = date(2020, 1, 2)
    with db_session:
        for order, placed in zip(Order.select().order_by(Order.id), (1, 2, 3), strict=True):
            order.placed = datetime(2020, 1, placed)
        flush()
        assert select(o for o in Order if o.placed < cutoff).count() == 1
        assert select(o for o in Order if o.placed >= date(2020, 1, 2)).count() == 2
        assert select(o for o in Order if o.placed in [cutoff]).count() == 1
        assert Order.select(Order.placed > cutoff).count() == 1
        assert delete(o for o in Order if o.placed < date(2020, 1, 3)) == 2
