"""Conditions on groups, and what can be done with a query whose rows are put into groups."""

# ruff: noqa: ARG005, F821 (lambdas name what they are given, and see the loop variables of a query)

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from dbsession import Database, count, db_session, desc, exists, max, rollback, select, sum
from tests.query.office import define


@pytest.fixture
def office(db: Database) -> Any:
    """Ann (40) with two orders, Bob (17) with one, Cid (17) with none; Ann is their boss."""
    define(db)
    entities = db.entities
    with db_session:
        Person, Order = entities["Person"], entities["Order"]
        ann = Person(name="Ann", age=40)
        bob = Person(name="Bob", age=17, boss=ann)
        Person(name="Cid", age=17, boss=ann)
        for person, total in ((ann, 5), (ann, 20), (bob, 7)):
            Order(person=person, total=total)
    return entities


def names(query):
    """Return the names of the persons that a query gives."""
    return sorted([person.name for person in query])


def test_a_condition_chooses_objects_by_their_groups(office):
    """Objects can be counted, aggregated, ordered and looked for in what a condition with an aggregate has left."""
    Person, Order = office["Person"], office["Order"]
    with db_session:
        buyers = select(p for p in Person for o in p.orders if count(o) > 0)
        regulars = select(p for p in Person for o in p.orders if count(o) > 1)
        assert names(buyers) == ["Ann", "Bob"]
        assert names(regulars) == ["Ann"]
        assert buyers.count() == 2
        assert regulars.exists()
        assert not select(p for p in Person for o in p.orders if count(o) > 2).exists()
        assert buyers.sum(Person.age) == 57
        assert names(buyers.order_by(desc(Person.age)).limit(1)) == ["Ann"]
        assert names(select(p for p in Person if p not in buyers)) == ["Cid"]
        assert names(select(p for p in Person if p.boss in regulars)) == ["Bob", "Cid"]
        assert names(select(o.person for o in Order if sum(o.total) > 10)) == ["Ann"]
        assert len(select(p for p in Person for o in p.orders if count(o) > 1).prefetch(Order).fetch()) == 1


def test_equal_ages_stay_two_persons(office):
    """The aggregate of a query for objects is one over objects, whatever the query groups by."""
    Person = office["Person"]
    with db_session:
        office["Order"](person=Person.get(name="Cid"), total=1)
        assert select(p for p in Person for o in p.orders if count(o) > 0).sum(Person.age) == 74


def test_groups_are_changed_in_bulk(office):
    """125. UPDATE and DELETE take the objects of a query whose conditions have aggregates, and no others."""
    Person, Order = office["Person"], office["Order"]
    with db_session:
        regulars = select(p for p in Person for o in p.orders if count(o) > 1)
        assert regulars.update(age=Person.age + 1) == 1
        assert regulars.update(age=lambda p: p.age + count(p.staff)) == 1
        assert regulars.order_by(Person.name).limit(1).update(nick="A") == 1
        assert select((p.name, p.age, p.nick) for p in Person).order_by(1).fetch() == [
            ("Ann", 43, "A"),
            ("Bob", 17, None),
            ("Cid", 17, None),
        ]
        Order.select().update(person=Person.get(name="Bob"))
        assert select(p for p in Person for o in p.orders if count(o) > 2).delete(bulk=True) == 1
        assert names(Person.select()) == ["Ann", "Cid"]
        rollback()


def test_a_group_has_one_value_of_what_it_is_grouped_by(office):
    """Conditions and orders may use what the rows are grouped by, the attributes of an object among that, aggregates."""
    Person, Order = office["Person"], office["Order"]
    with db_session:
        assert names(select(o.person for o in Order if o.person.age > 20 * count())) == []
        assert names(select(o.person for o in Order if o.person.age > 10 * count())) == ["Ann", "Bob"]
        assert select((p.name, count()) for p in Person if p.name != max(p.name)).fetch() == []
        groups = select((o.person, count()) for o in Order)
        assert [n for _, n in groups.order_by(lambda person, n: person.name)] == [2, 1]
        assert [n for _, n in groups.order_by(lambda person, n: desc(n))] == [2, 1]
        assert [n for _, n in groups.order_by(lambda: max(o.total))] == [1, 2]
        by_length = select((len(p.name) + 1, count()) for p in Person)
        assert by_length.order_by(lambda: len(p.name) + 1).fetch() == [(4, 3)]
        assert select((len(p.name), count()) for p in Person if len(p.name) < 2 * count()).fetch() == [(3, 3)]


@pytest.mark.parametrize(
    ("query", "error"),
    [
        (
            lambda person, _: select(p.name for p in person if p.age == max(p.age)),
            "p.age has many values in a group of p.name",
        ),
        (
            lambda _, order: select((o.person, count()) for o in order).order_by(lambda: o.total),
            "o.total has many values",
        ),
        (
            lambda person, _: select((p.age, count()) for p in person).order_by(lambda: p.name),
            "aggregate it, or make it an item",
        ),
        (
            lambda person, _: select(p for p in person if p.age == max(p.age)),
            "of which there is one; of all it is a subquery",
        ),
        (
            lambda person, _: person.select(person.age == max(person.age)),
            "of which there is one; of all it is a subquery",
        ),
        (
            lambda person, _: select(p for p in person for o in p.orders if count(o) > 1).for_update(),
            "puts them into groups",
        ),
    ],
)
def test_what_a_group_has_not_is_refused(office, query, error):
    """What has many values in a group, which SQLite would take one of, and locks of groups are refused before sending."""
    with db_session, pytest.raises(TypeError, match=error):
        query(office["Person"], office["Order"]).fetch()


def test_a_query_in_groups_exists(office):
    """exists() of groups asks whether there is one that fits, whatever the groups are made by."""
    Person = office["Person"]
    with db_session:
        twice = select(p for p in Person if exists((o.total > 1, count()) for o in p.orders if count() > 1))
        assert names(twice) == ["Ann"]
        cheap = select(p for p in Person if exists((o.total > 10, count()) for o in p.orders if count() > 1))
        assert names(cheap) == []


def test_collections_in_the_expression_form(office):
    """count() and exists() take the collection of a class: it is that of each object."""
    Person = office["Person"]
    with db_session:
        assert names(Person.select(count(Person.orders) > 1)) == ["Ann"]
        assert names(Person.select(exists(Person.orders))) == ["Ann", "Bob"]
        assert names(Person.select(~exists(Person.orders))) == ["Cid"]
        assert [person.name for person in Person.select().order_by(desc(count(Person.orders)))] == ["Ann", "Bob", "Cid"]


def test_a_collection_as_the_result_is_a_loop(office):
    """select(p.orders.total for p in Person) has the totals of all orders, each once, as a second loop would."""
    Person = office["Person"]
    with db_session:
        assert sorted(select(p.orders.total for p in Person)) == [Decimal(5), Decimal(7), Decimal(20)]
        assert len(select(p.orders for p in Person).fetch()) == 3
        assert sorted(select(p.orders.total for p in Person if p.age < 20)) == [Decimal(7)]
        assert sum(p.orders.total for p in Person) == 32
