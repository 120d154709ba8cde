"""The language of queries: what each form of expression is translated to."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal

import pytest

from dbsession import (
    Database,
    avg,
    between,
    coalesce,
    concat,
    count,
    desc,
    distinct,
    exists,
    group_concat,
    left_join,
    random,
    raw_sql,
    select,
    sum,
)
from tests.query.office import Status, define
from tests.query.trees import condition, left_tree, narrowed, ordered, result, tree

db = define(Database("sqlite://"), create_tables=False)
Person, Manager, Team, Order, Item = map(db.entities.get, ("Person", "Manager", "Team", "Order", "Item"))


# --- comparisons and logic --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p for p in Person if p.age == 18), "=(p.age, 18)"),
        ((p for p in Person if p.age != 18), "<>(p.age, 18)"),
        ((p for p in Person if 18 < p.age), "<(18, p.age)"),
        ((p for p in Person if p.age <= 18), "<=(p.age, 18)"),
        ((p for p in Person if p.age > -18), ">(p.age, -18)"),
        ((p for p in Person if p.age >= 2 * 9), ">=(p.age, 18)"),
        ((p for p in Person if 1 < p.age <= 18 != p.height), "<(1, p.age) AND <=(p.age, 18) AND <>(18, p.height)"),
        ((p for p in Person if p.nick is None), "=(p.nick, None)"),
        ((p for p in Person if p.nick is not None), "<>(p.nick, None)"),
        ((p for p in Person if p.nick == None), "=(p.nick, None)"),
        ((p for p in Person if p.boss is p), "=(p.boss, p)"),
        ((p for p in Person if p.age > 1 and p.name == "x"), ">(p.age, 1) AND =(p.name, 'x')"),
        ((p for p in Person if p.age > 1 if p.name == "x"), ">(p.age, 1) AND =(p.name, 'x')"),
        ((p for p in Person if p.age > 1 or p.name == "x"), "or(>(p.age, 1), =(p.name, 'x'))"),
        ((p for p in Person if not p.age > 1), "not(>(p.age, 1))"),
        (
            (p for p in Person if (p.age > 1 or p.age < 0) and not (p.name == "x" or p.nick == "y")),
            "or(>(p.age, 1), <(p.age, 0)) AND not(or(=(p.name, 'x'), =(p.nick, 'y')))",
        ),
        ((p for p in Person if (p.name, p.age) == ("x", 3)), "=(p.name, 'x') AND =(p.age, 3)"),
        ((p for p in Person if (p.name, p.age) != ("x", 3)), "or(<>(p.name, 'x'), <>(p.age, 3))"),
    ],
)
def test_comparisons(expression, expected):
    """Comparisons, chained ones too, and their combinations by and, or, not."""
    assert condition(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p for p in Person if p.email), "truth(p.email)"),
        ((p for p in Person if not p.age), "not(truth(p.age))"),
        ((p for p in Person if p.is_active), "truth(p.is_active)"),
        ((p for p in Person if p.boss), "<>(p.boss, None)"),
        ((p for p in Person if not p.boss), "not(<>(p.boss, None))"),
        ((p for p in Person if p.orders), "exists(p.orders)"),
        ((p for p in Person if not p.orders.total), "not(exists(p.orders.total))"),
        ((p for p in Person if bool(p.email)), "truth(p.email)"),
    ],
)
def test_the_truth_of_values(expression, expected):
    """Where Python asks whether a value is true, its truth is asked for, which is never unknown; of a collection, whether it has anything."""
    assert condition(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p for p in Person if p.name in ("a", "b", None)), "in(p.name, ('a', 'b', None))"),
        ((p for p in Person if p.name in ["a", p.nick]), "in(p.name, ('a', p.nick))"),
        ((p for p in Person if p.age not in {3}), "not(in(p.age, (3)))"),
        ((p for p in Person if p.name in "abc"), "in(p.name, 'abc')"),
        ((p for p in Person if "a" in p.name), "in('a', p.name)"),
        ((p for p in Person if p.nick in p.name), "in(p.nick, p.name)"),
        ((p for p in Person if p in p.staff), "in(p, p.staff)"),
        ((p for p in Person if "key" in p.data), "in('key', p.data)"),
        ((p for p in Person if p in (o.person for o in Order)), "in(p, [o.person FOR o IN Order])"),
        ((p for p in Person if p in [o.person for o in Order]), "in(p, [o.person FOR o IN Order])"),
        ((p for p in Person if p in {o.person for o in Order}), "in(p, [o.person FOR o IN Order])"),
        ((p for p in Person if p in set(o.person for o in Order)), "in(p, [o.person FOR o IN Order])"),
        ((p for p in Person if p in select(o.person for o in Order)), "in(p, [o.person FOR o IN Order])"),
        ((p for p in Person if p not in Order.select().filter()), "not(in(p, [o FOR o IN Order]))"),
        ((p for p in Person if p.boss in Manager), "in(p.boss, [m FOR m IN Manager])"),
        (
            (p for p in Person if (p.name, p.age) in [("a", 1), ("b", None)]),
            "or(and(=(p.name, 'a'), =(p.age, 1)), and(=(p.name, 'b'), =(p.age, None)))",
        ),
        (
            (p for p in Person if (p.name, p.age) in ((q.nick, q.age) for q in Person)),
            "exists([q FOR q IN Person IF =(p.name, q.nick) AND =(p.age, q.age)])",
        ),
        ((p for p in Person if 3 in p.orders.total), "in(3, p.orders.total)"),
    ],
)
def test_in(expression, expected):
    """`in` looks into tuples, lists, sets, texts, JSON, collections and subqueries."""
    assert condition(expression) == expected


# --- values -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p.age + 1 for p in Person), "+(p.age, 1)"),
        ((p.age - 1 for p in Person), "-(p.age, 1)"),
        ((2 * p.age for p in Person), "*(2, p.age)"),
        ((p.age / 2 for p in Person), "/(p.age, 2)"),
        ((p.age // 2 for p in Person), "//(p.age, 2)"),
        ((p.age % 2 for p in Person), "%(p.age, 2)"),
        ((p.age**2 for p in Person), "**(p.age, 2)"),
        ((-p.age for p in Person), "neg(p.age)"),
        ((+p.age for p in Person), "p.age"),
        ((abs(p.age) for p in Person), "abs(p.age)"),
        ((round(p.height) for p in Person), "round(p.height)"),
        ((round(p.height, 2) for p in Person), "round(p.height, 2)"),
        ((round(p.height, ndigits=1) for p in Person), "round(p.height, 1)"),
        ((min(p.age, 3, p.height) for p in Person), "min2(p.age, 3, p.height)"),
        ((max((p.age, 3)) for p in Person), "max2(p.age, 3)"),
        ((int(p.height) for p in Person), "int(p.height)"),
        ((float(p.age) for p in Person), "float(p.age)"),
        ((str(p.age) for p in Person), "str(p.age)"),
        ((str(p.name) for p in Person), "p.name"),
        (("x" if p.age > 3 else p.name for p in Person), "if(>(p.age, 3), 'x', p.name)"),
        ((p.nick or p.name for p in Person), "if(truth(p.nick), p.nick, p.name)"),
        ((p.nick and p.name for p in Person), "if(truth(p.nick), p.name, p.nick)"),
        ((p.age > 3 and p.age < 9 for p in Person), "and(>(p.age, 3), <(p.age, 9))"),
        ((p.age > 3 for p in Person), ">(p.age, 3)"),
        ((coalesce(p.nick, p.name, "?") for p in Person), "coalesce(p.nick, p.name, '?')"),
        ((coalesce(p.nick) for p in Person), "p.nick"),
        ((between(p.age, 1, 9) for p in Person), "between(p.age, 1, 9)"),
        ((concat(p.name, p.age, "!") for p in Person), "concat(p.name, str(p.age), '!')"),
        ((random() for p in Person), "random()"),
        ((getattr(p, "name") for p in Person), "p.name"),
        ((p.get_pk() for p in Person), "p.id"),
        ((isinstance(p, Manager) for p in Person), "isinstance(p, (<entity Manager>))"),
        (
            (isinstance(o.person, (Manager, Person)) for o in Order),
            "isinstance(o.person, (<entity Manager>, <entity Person>))",
        ),
        ((p.bonus for p in Person if isinstance(p, Manager)), "p.bonus"),
    ],
)
def test_values(expression, expected):
    """Arithmetic, conversions, conditional expressions, and the functions of single values."""
    assert result(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p.name + "!" for p in Person), "+(p.name, '!')"),
        ((f"{p.name}" for p in Person), "p.name"),
        ((f"{p.name} is {p.age!s}, {1 + 1:03}" for p in Person), "concat(p.name, ' is ', str(p.age), ', ', '002')"),
        ((p.name[1:3] for p in Person), "slice(p.name, 1, 3)"),
        ((p.name[:-1] for p in Person), "slice(p.name, None, -1)"),
        ((p.name[p.age :] for p in Person), "slice(p.name, p.age, None)"),
        ((p.name[0] for p in Person), "item(p.name, 0)"),
        ((len(p.name) for p in Person), "len(p.name)"),
        ((p.name.upper().lower() for p in Person), "lower(upper(p.name))"),
        ((p.name.strip() for p in Person), "strip(p.name)"),
        ((p.name.lstrip("x") for p in Person), "lstrip(p.name, 'x')"),
        ((p.name.rstrip() for p in Person), "rstrip(p.name)"),
        ((p.name.startswith("a") for p in Person), "startswith(p.name, 'a')"),
        ((p.name.startswith(("a", p.nick)) for p in Person), "or(startswith(p.name, 'a'), startswith(p.name, p.nick))"),
        ((p.name.endswith(p.nick) for p in Person), "endswith(p.name, p.nick)"),
        (("abc".startswith(p.nick) for p in Person), "startswith('abc', p.nick)"),
    ],
)
def test_texts(expression, expected):
    """Texts: put together, f-strings, slices, length and methods."""
    assert result(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p.seen.year for p in Person), "year(p.seen)"),
        ((p.born.month for p in Person), "month(p.born)"),
        ((p.seen.minute for p in Person), "minute(p.seen)"),
        ((p.seen.date() for p in Person), "date(p.seen)"),
        ((p.seen.time() for p in Person), "time(p.seen)"),
        ((o.placed + o.wait for o in Order), "+(o.placed, o.wait)"),
        ((p.data["a"][0]["b c"] for p in Person), "item(item(item(p.data, 'a'), 0), 'b c')"),
    ],
)
def test_dates_and_json(expression, expected):
    """Parts and methods of dates; paths into JSON."""
    assert result(expression) == expected


def test_values_of_python_are_parameters():
    """A date that Python makes is a value, computed before the query."""
    year = 2020
    assert condition(p for p in Person if p.born > date(year, 1, 1)) == f">(p.born, {{0: {date(2020, 1, 1)!r}}})"
    assert (
        condition(p for p in Person if p.seen > datetime(year, 1, 1)) == f">(p.seen, {{0: {datetime(2020, 1, 1)!r}}})"
    )
    assert condition(o for o in Order if o.status == Status.PAID) == "=(o.status, {0: <Status.PAID: 'paid'>})"
    assert condition(o for o in Order if o.total == Decimal(5)) == "=(o.total, {0: Decimal('5')})"


# --- paths, collections, aggregates -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((o.person.boss.name for o in Order), "o.person.boss.name"),
        ((o.person for o in Order), "o.person"),
        ((sum(p.orders.total) for p in Person), "sum(p.orders.total)"),
        ((count(p.orders) for p in Person), "count(p.orders)"),
        ((len(p.orders) for p in Person), "count(p.orders)"),
        ((p.orders.count() for p in Person), "count(p.orders)"),
        ((p.orders.total.sum() for p in Person), "sum(p.orders.total)"),
        ((p.orders.is_empty() for p in Person), "not(exists(p.orders))"),
        ((exists(p.orders) for p in Person), "exists(p.orders)"),
        ((p.orders.select().count() for p in Person), "count([o FOR o IN p.orders])"),
        (
            (p.orders.select(lambda x: x.total > p.age).count() for p in Person),
            "count([o FOR o IN p.orders IF >(o.total, p.age)])",
        ),
        (
            (sum(p.orders.filter(lambda o: o.total > 1).total) for p in Person),
            "sum([o.total FOR o IN p.orders IF >(o.total, 1)])",
        ),
        ((p.orders.filter(total=3).exists() for p in Person), "exists([o FOR o IN p.orders IF =(o.total, 3)])"),
        ((p.orders.total.distinct().count() for p in Person), "count([o.total FOR o IN p.orders is_distinct])"),
        ((p.staff.without_distinct().count() for p in Person), "count([p FOR p IN p.staff keeps_duplicates])"),
        (
            (sum(o.total for o in p.orders if o.total > p.age) for p in Person),
            "sum([o.total FOR o IN p.orders IF >(o.total, p.age)])",
        ),
        (
            (max(i.price for o in p.orders for i in o.items) for p in Person),
            "max([i.price FOR o IN p.orders FOR i IN o.items])",
        ),
        (
            (exists(o for o in p.orders if o.total > 3) for p in Person),
            "exists([o FOR o IN p.orders IF >(o.total, 3)])",
        ),
        ((any(o.total > 3 for o in p.orders) for p in Person), "exists([o FOR o IN p.orders IF >(o.total, 3)])"),
        (
            (all(o.total > 3 for o in p.orders) for p in Person),
            "not(exists([o FOR o IN p.orders IF not(>(o.total, 3))]))",
        ),
        (
            (all(o.placed > p.seen for o in p.orders) for p in Person),
            "not(exists([o FOR o IN p.orders IF not(truth(>(o.placed, p.seen)))]))",
        ),
        ((count(o.person for o in Order) for p in Person), "count([o.person FOR o IN Order])"),
        ((len(select(o for o in p.orders)) for p in Person), "count([o FOR o IN p.orders])"),
        (
            (count(distinct(o.total for o in p.orders)) for p in Person),
            "count([o.total FOR o IN p.orders is_distinct])",
        ),
        (
            (Order.select(lambda o: o.person == p).count() for p in Person),
            "count([o FOR o IN Order IF =(o.person, p)])",
        ),
        (
            (exists(left_join(i for o in p.orders for i in o.items)) for p in Person),
            "exists([i LEFT FOR o IN p.orders LEFT FOR i IN o.items])",
        ),
    ],
)
def test_collections_and_subqueries(expression, expected):
    """Paths over references and collections; aggregates of collections and correlated subqueries."""
    assert result(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (((p.boss, count(p)) for p in Person), "(p.boss, count(p))"),
        (((p.boss, count()) for p in Person), "(p.boss, count())"),
        ((sum(p.age) for p in Person), "sum(p.age)"),
        ((min(p.age) for p in Person), "min(p.age)"),
        ((avg(p.age) for p in Person), "avg(p.age)"),
        ((count(p.age, distinct=True) for p in Person), "count_distinct(p.age)"),
        ((count(distinct(p.age)) for p in Person), "count_distinct(p.age)"),
        ((sum(p.age, distinct=True) for p in Person), "sum(p.age, True)"),
        ((avg(distinct(p.age)) for p in Person), "avg(p.age, True)"),
        ((sum(distinct(o.total for o in p.orders)) for p in Person), "sum([o.total FOR o IN p.orders], True)"),
        ((group_concat(distinct(p.name)) for p in Person), "group_concat(p.name, None, True)"),
        ((group_concat(p.name, "+", distinct=True) for p in Person), "group_concat(p.name, '+', True)"),
        ((group_concat(p.name) for p in Person), "group_concat(p.name)"),
        ((group_concat(p.name, "; ") for p in Person), "group_concat(p.name, '; ')"),
        ((group_concat(p.name, sep="; ") for p in Person), "group_concat(p.name, '; ')"),
    ],
)
def test_aggregates_of_rows(expression, expected):
    """An aggregate of a single value is one over the rows of the query."""
    assert result(expression) == expected


# --- loops ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((o for p in Person for o in p.orders), "o FOR p IN Person FOR o IN p.orders"),
        (
            (o for p in Person if p.age > 1 for o in p.orders if o.total > 2),
            "o FOR p IN Person FOR o IN p.orders IF >(p.age, 1) AND >(o.total, 2)",
        ),
        ((p for p in Person for q in Person if p.age == q.age), "p FOR p IN Person FOR q IN Person IF =(p.age, q.age)"),
        ((i for p in Person for i in p.orders.items), "i FOR p IN Person FOR i IN p.orders.items"),
        ((p.orders for p in Person), "o FOR p IN Person FOR o IN p.orders"),
        ((p.orders.items.name for p in Person), "i.name FOR p IN Person FOR i IN p.orders.items"),
        (
            (p.orders.filter(lambda o: o.total > 1).total for p in Person),
            "o.total FOR p IN Person FOR o IN p.orders IF >(o.total, 1)",
        ),
        (
            (t for p in Person for t in p.orders.total if t > 3),
            "o.total FOR p IN Person FOR o IN p.orders IF >(o.total, 3)",
        ),
        ((b for o in Order for b in o.person.staff), "b FOR o IN Order FOR b IN o.person.staff"),
        (
            (o for p in Person for o in p.orders.select(lambda o: o.total > 1)),
            "o FOR p IN Person FOR o IN p.orders IF >(o.total, 1)",
        ),
        (
            (o for p in Person for o in (q for q in p.orders if q.total > 1)),
            "q FOR p IN Person FOR q IN p.orders IF >(q.total, 1)",
        ),
        (
            (o for p in Person for o in select(q for q in Order if q.person == p)),
            "q FOR p IN Person FOR q IN Order IF =(q.person, p)",
        ),
        (
            (n + "!" for n in select(p.name for p in Person if p.age > 1)),
            "+(p.name, '!') FOR p IN Person IF >(p.age, 1)",
        ),
        ((a + b for a, b in select((p.age, p.height) for p in Person)), "+(p.age, p.height) FOR p IN Person"),
        (
            (x for x in Person.select().filter(Person.age > 3).order_by(Person.name) if x.nick),
            "x FOR x IN Person IF >(x.age, {0: 3}) AND truth(x.nick) ORDER BY x.name",
        ),
        ((x for x in Person.select().limit(3) if x.nick), "x FOR x IN [p FOR p IN Person] IF truth(x.nick)"),
        (
            (x for x in Person.select().filter(age=5) for y in Order.select().filter(total=3)),
            "x FOR x IN Person FOR y IN Order IF =(x.age, {0: 5}) AND =(y.total, {1: 3})",
        ),
    ],
)
def test_loops(expression, expected):
    """Several loops, over entities, collections and queries; simple queries become loops of the one around them."""
    assert tree(expression) == expected


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        ((p.orders for p in Person), "o FOR p IN Person FOR o IN p.orders"),
        (
            (p.orders.items.name for p in Person if p.age > 1),
            "i.name FOR p IN Person FOR i IN p.orders.items IF >(p.age, 1)",
        ),
        (
            (p.orders.filter(lambda o: o.total > 1).total for p in Person),
            "o.total FOR p IN Person FOR o IN p.orders IF >(o.total, 1)",
        ),
        (
            (sum(q.orders.total for q in p.staff) for p in Person),
            "sum([o.total FOR q IN p.staff FOR o IN q.orders]) FOR p IN Person",
        ),
    ],
)
def test_collections_as_results(expression, expected):
    """A collection in the result gives its items: it is one more loop."""
    assert tree(expression) == expected


def test_a_query_that_is_ranged_over_twice_has_variables_of_its_own():
    """Two loops over one query are two loops."""
    grown = Person.select().filter(age=5)
    assert (
        tree((x, y) for x in grown for y in grown if x.name == y.name)
        == "(x, y) FOR x IN Person FOR y IN Person IF =(x.age, {0: 5}) AND =(y.age, {1: 5}) AND =(x.name, y.name)"
    )


def test_a_left_join_keeps_its_loops():
    """left_join() is the same with outer joins."""
    assert left_tree((p, o) for p in Person for o in p.orders) == "(p, o) LEFT FOR p IN Person LEFT FOR o IN p.orders"


def test_a_query_as_a_value_brings_its_own_values():
    """The values of a query that stands in another one are numbered behind those that came before."""
    age, total = 18, 100
    rich = select(o.person for o in Order if o.total > total)
    query = select(p for p in Person if p.age > age and p in rich and p.age != age)
    assert condition(p for p in Person if p.age > age and p in rich and p.name is not None).startswith(
        ">(p.age, {0: 18}) AND in(p, [o.person FOR o IN Order IF >(o.total, {0: 100})]+1)"
    )
    assert query.values == (18, 100)  # age has one slot, though it is used twice


# --- raw SQL ----------------------------------------------------------------------------------------------


def test_raw_sql():
    """$name and $(expression) are Python's, wherever they are seen, $$ is a dollar sign."""
    low, person = 1, {"age": 5}
    assert condition(p for p in Person if raw_sql("p.age > $low")) == "raw<p.age > {0: 1}>"
    assert (
        condition(p for p in Person if raw_sql("p.age = $(person['age'] + (low)) || '$$'"))
        == "raw<p.age = {0: 6} || '$'>"
    )
    assert result(raw_sql("p.age * 2", result_type=int) for p in Person) == "raw<p.age * 2>:int"
    assert condition(p for p in Person if raw_sql("p.age % 2", int)) == "truth(raw<p.age % 2>:int)"
    text = "lower(p.name)"
    assert condition(p for p in Person if raw_sql(text, str) == "x") == "=(raw<lower(p.name)>:str, 'x')"


# --- lambdas ----------------------------------------------------------------------------------------------


def test_lambdas_take_the_items_by_position():
    """The parameters of a lambda for filter() are the items of the result, whatever they are called."""
    age = 7
    assert narrowed(Person.select(), lambda someone: someone.age > age) == ">(p.age, {0: 7})"
    pairs = select((p.name, o.total) for p in Person for o in p.orders)
    assert narrowed(pairs, lambda name, total: name == "x" and total > 3) == "=(p.name, 'x') AND >(o.total, 3)"


def test_lambdas_take_loop_variables_by_name():
    """The parameters of a lambda for where() are loop variables; without parameters they are all seen."""
    pairs = select((p.name, o.total) for p in Person for o in p.orders)
    assert narrowed(pairs, lambda o: o.total > 3, by_name=True) == ">(o.total, 3)"
    assert narrowed(pairs, lambda: o.total > p.age) == ">(o.total, p.age)"  # noqa: F821
    assert narrowed(Person.select(), lambda someone: someone.age > 1, by_name=True) == ">(p.age, 1)"


def test_defaults_of_lambdas_are_values():
    """A parameter with a default is a value of Python, as in every loop that makes lambdas."""
    query = Person.select()
    made = [lambda p, age=age: p.age > age for age in (1, 2)]
    assert [narrowed(query, function) for function in made] == [">(p.age, {0: 1})", ">(p.age, {0: 1})"]


def test_slots_are_numbered_behind_the_values_of_the_query():
    """A lambda for a query that has values already takes the next numbers."""
    age = 3
    assert narrowed(Person.select().filter(name="x"), lambda p: p.age > age) == ">(p.age, {1: 3})"


def test_orderings():
    """A lambda orders by an expression, or several; desc() turns one round."""
    query = Person.select()
    assert ordered(query, lambda p: p.name) == "p.name"
    assert (
        ordered(query, lambda p: (p.boss.name, desc(p.age + 1), desc(desc(p.id))))
        == "p.boss.name, +(p.age, 1) DESC, p.id"
    )
