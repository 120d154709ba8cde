"""Corners that random queries have found: NULL owners, aliases, Decimals of subqueries, conditions of groups."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dbsession import Json, Optional, Required, Set, count, db_session, desc, group_concat, max, min, select, sum


@pytest.fixture
def shop(db):
    """Two owners, one of them a boss, with three items; a fourth item has no owner."""

    class Owner(db.Entity):
        name = Required(str)
        code = Optional(str)
        data = Optional(Json)
        boss = Optional("Boss", reverse="people")
        items = Set("Item")

    class Boss(Owner):
        people = Set(Owner, reverse="boss")

    class Item(db.Entity):
        price = Required(Decimal, 10, 2)
        owner = Optional(Owner)

    db.generate_mapping(create_tables=True)
    with db_session:
        bob = Boss(name="Bob", code=" x", data={"s": "", "n": 1, "f": False})
        ann = Owner(name="Ann", code="x", boss=bob, data={"s": "a", "n": 0, "f": True})
        Item(price=9, owner=ann)
        Item(price=20, owner=ann)
        Item(price=100, owner=bob)
        Item(price=1)
    return db.entities


def test_what_has_no_owner_is_in_no_collection(shop):
    """`x not in y.items` is true where x has no owner, or y is None, whether it is a condition, a part of one or a value."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        ann = select(o for o in Owner if o.name == "Ann").first()
        assert select(i.price for i in Item if i not in ann.items).order_by(1).fetch() == [1, 100]
        assert select(i.price for i in Item if i not in i.owner.items).fetch() == [1]
        assert select(i.price for i in Item if not (i in i.owner.items and i.price > 0)).fetch() == [1]
        assert select((i.price, i in i.owner.items) for i in Item if i.price < 10).order_by(1).fetch() == [
            (1, False),
            (9, True),
        ]
        assert select(o.name for o in Owner if o not in o.boss.people).fetch() == ["Bob"]
        in_filter = select(i for i in Item if i in i.owner.boss.items).get_sql()
        assert "IN (" not in in_filter
        assert "IS NOT NULL" not in in_filter


def test_a_generated_alias_is_none_of_a_variable(shop):
    """A second `o` within a query that has a variable called o2 is called neither."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        found = select((o.name, o2.name, count(o2.items)) for o in Owner for o2 in Owner if o.boss == o2)
        assert found.fetch() == [("Ann", "Bob", 1)]
        found = select(
            (i.price, i2.price, count(i2.owner.items)) for i in Item for i2 in i.owner.items if i.price < i2.price
        )
        assert found.fetch() == [(9, 20, 2)]


def test_decimals_of_subqueries_compare_as_numbers(shop):
    """100 is more than 20, also where SQLite has both as texts that a subquery gives."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        assert select(o.name for o in Owner if sum(o.items.price) > 50).fetch() == ["Bob"]
        assert select(
            o.name for o in Owner if max(o.items.price) > max(i.price for i in Item if i.price < 100)
        ).fetch() == ["Bob"]
        assert [o.name for o in select(o for o in Owner).order_by(lambda o: sum(o.items.price))] == ["Ann", "Bob"]
        assert select(max(sum(o.items.price)) for o in Owner).first() == 100
        assert select(min(max(i.price for i in o.items)) for o in Owner).first() == 20
        assert select(o.name for o in Owner if max(o.items.price) in (20, 100)).count() == 2


def test_a_condition_of_groups_may_be_of_any_variable(shop):
    """HAVING needs the variables in its aggregates, whether or not the result has them."""
    Owner = shop["Owner"]
    with db_session:
        found = select((o.name, group_concat(o.code)) for o in Owner for i in o.items if count(i) > 1)
        assert found.fetch() == [("Ann", "x,x")]


def test_the_truth_of_json_in_a_condition(shop):
    """A JSON value is true as Python has it: "", 0 and false are not."""
    Owner = shop["Owner"]
    with db_session:
        for key in ("s", "f"):
            assert select(o.name for o in Owner if o.data[key]).fetch() == ["Ann"]
            assert select(o.name for o in Owner if not o.data[key]).fetch() == ["Bob"]
        assert select(o.name for o in Owner if o.data["n"] and not o.data["none"]).fetch() == ["Bob"]


def test_only_the_truth_of_a_conditional_condition_counts(shop):
    """`if a if c else b` takes branches of different types, since it asks for no value."""
    Owner = shop["Owner"]
    with db_session:
        assert select(o.name for o in Owner if (o.boss if o.name == "Ann" else o.id < 0)).fetch() == ["Ann"]
        assert select(o.name for o in Owner if not (o.code if o.boss is None else o.id < 0)).fetch() == ["Ann"]


def test_a_text_is_compared_with_all_its_blanks(shop):
    """An attribute strips what is assigned to it; what it is compared with is what it is."""
    Owner = shop["Owner"]
    with db_session:
        given, listed = " x", [" x"]
        assert select(o.name for o in Owner if o.code == given).fetch() == []
        assert select(o.name for o in Owner if o.code not in listed).count() == 2
        assert Owner.select(code=" x").count() == 0
        assert Owner.select(code="x").count() == 2


def test_none_is_no_instance(shop):
    """isinstance() is False for None, in a condition, in the opposite of one, and as a value."""
    Owner, Boss = shop["Owner"], shop["Boss"]
    with db_session:
        assert select(o.name for o in Owner if isinstance(o.boss, Boss)).fetch() == ["Ann"]
        assert select(o.name for o in Owner if not isinstance(o.boss, Boss)).fetch() == ["Bob"]
        Item = shop["Item"]
        assert select(i.price for i in Item if not isinstance(i.owner, Boss)).order_by(1).fetch() == [1, 9, 20]
        values = select((i.price, isinstance(i.owner, Boss)) for i in Item if i.price != 9).order_by(1)
        assert values.fetch() == [(1, False), (20, False), (100, True)]


def test_a_value_that_python_chooses_is_asked_for_none_by_python(shop):
    """What a conditional expression leaves is a value, and whether it is None is no question for the database."""
    Owner = shop["Owner"]
    with db_session:
        for is_first, first in ((True, "x"), (False, "x"), (True, None)):
            found = select(o.name for o in Owner if (first if is_first else o.name) in ("Ann", None))
            assert sorted(found) == (["Ann", "Bob"] if first is None else [] if is_first else ["Ann"])
            found = select(o.name for o in Owner if (first if is_first else o.code) == None)  # noqa: E711
            assert sorted(found) == (["Ann", "Bob"] if first is None else [])


def test_a_choice_of_conditions_is_a_condition(shop):
    """`not (a if c else b)` is unknown where the chosen condition is, whether the database or Python chooses."""
    Owner = shop["Owner"]
    with db_session:
        for is_first in (True, False):
            chosen = "Ann" if is_first else "Bob"
            found = select(o.name for o in Owner if not (o.boss.name == "x" if is_first else o.boss.name == "y"))
            assert found.fetch() == ["Ann"]
            found = select(
                o.name for o in Owner if not (o.boss.name == "x" if o.name == chosen else o.boss.name == "y")
            )
            assert found.fetch() == ["Ann"]
            found = select(o.name for o in Owner if not (o.boss if o.name == chosen else o.boss.name == "y"))
            assert sorted(found) == ([] if is_first else ["Ann", "Bob"])


def test_an_aggregate_of_what_is_outside_its_query(shop):
    """`sum(o.x for i in o.items)` adds o.x up once for each item, and is no aggregate of the query around it."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        found = select(
            (o.name, sum(o.id for i in o.items), max(o.code for i in o.items if i.price > 50)) for o in Owner
        )
        assert sorted(found) == [("Ann", 4, None), ("Bob", 1, "x")]
        assert select(o.name for o in Owner if count(o.boss for i in o.items) == 2).fetch() == ["Ann"]
        assert select(i.price for i in Item if i.price == max(i.price for o in Owner)).count() == 4


def test_none_is_left_out_of_what_in_looks_into(shop):
    """`x not in ...` is not unknown because of a None among the groups or the first results of a query."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        ids = select(o.id for o in Owner if o.id not in (max(i.id for i in o.items if i.price > 50) for x in Owner))
        assert ids.count() == 2
        assert select(i.price for i in Item if i.price not in (min(x.price) for x in i.owner.items)).order_by(
            1
        ).fetch() == [1, 20]
        first = select(i.owner for i in Item).order_by(desc(Item.price)).limit(4)
        assert select(o.name for o in Owner if o not in first).fetch() == []
        bosses = select(o.boss for o in Owner).limit(5)
        assert select(o.name for o in Owner if o not in bosses).fetch() == ["Ann"]


def test_a_collection_may_be_a_branch_of_which_the_truth_counts(shop):
    """`if x.items if c else x.people` asks whether there is something in the one or in the other."""
    Boss = shop["Boss"]
    with db_session:
        for code in ("x", "y"):
            found = select(b.name for b in Boss if (b.items if b.code == code else b.people))
            assert found.fetch() == ["Bob"]
        assert select(b.name for b in Boss if not (b.people.items if b.code == "x" else b.code)).fetch() == []


def test_decimals_that_are_written_differently_are_equal(shop):
    """9 finds 9.00 in a column, in the inner loop of a join too, where SQLite may look for equal texts by their length."""
    Owner, Item = shop["Owner"], shop["Item"]
    with db_session:
        for nine in (9, Decimal(9), Decimal("9.000"), 9.0):
            assert select((o.name, i.price) for o in Owner for i in Item if i.price == nine).count() == 2
            assert select((o.name, i.price) for o in Owner for i in Item if i.price in [nine]).count() == 2  # noqa: FURB171
            assert select((o.name, i.price) for o in Owner for i in Item if i.price in (nine, o.id * 1000)).count() == 2
        found = select((o.name, i.price) for o in Owner for i in Item if i.price == o.id * 20)
        assert found.fetch() == [("Bob", 20)]
        found = select((o.name, i.price) for o in Owner for i in Item if i.price in (o.id * 20,))  # noqa: FURB171
        assert found.fetch() == [("Bob", 20)]
        assert select((i.price, x.price) for i in Item for x in Item if i.price == x.price * 5).fetch() == [(100, 20)]


def test_small_ints_are_computed_with_as_ints(db):
    """What is computed of ints that the columns hold in 16 or 32 bits has 64 bits, as every other int."""

    class Small(db.Entity):
        tiny = Required(int, size=16)
        less = Required(int, size=32)

    db.generate_mapping(create_tables=True)
    with db_session:
        Small(tiny=-32768, less=2**31 - 1)
        one = 1
        found = select(
            (s.tiny + s.tiny, s.less * s.less, -s.tiny, abs(s.tiny), s.less + one, s.tiny * s.id) for s in Small
        )
        assert found.first() == (-65536, (2**31 - 1) ** 2, 32768, 32768, 2**31, -32768)
        assert select(max(s.tiny, s.tiny) * 2 - s.less for s in Small).first() == -65536 - 2**31 + 1
        assert select(s for s in Small if s.less + s.less > s.less and s.tiny - one < s.tiny).count() == 1
