"""The evaluator itself: the plain rows are those of the database, the rules are those of SQL, and the loops Python's."""

from __future__ import annotations

import sqlite3
from datetime import date
from decimal import Decimal

import pytest

from dbsession import db_session
from tests.differential.evaluator import Evaluator
from tests.differential.loops import Loops
from tests.differential.programs import GLOBALS
from tests.differential.rows import fill, world
from tests.differential.running import difference, identity, same
from tests.differential.schema import TABLES, attributes, declare
from tests.differential.values import Undefined, Untyped

WORLD = world()


def evaluate(text, **names):
    """Return what *text* gives: a value, or a list of results, objects as texts."""
    found = Evaluator(WORLD, GLOBALS | names, nulls_first=True).run(text)
    return plain(found.results() if isinstance(found, Loops) else found)


def plain(value):
    """Return *value* with the names of objects instead of them."""
    if isinstance(value, list | tuple):
        return type(value)(map(plain, value))
    return value if not hasattr(value, "entity") else repr(value)


def test_the_plain_rows_are_those_of_the_database(db):
    """Every object has the same attributes, references and collections in both worlds."""
    entities = declare(db)
    fill(entities)
    for entity, rows in WORLD.items():
        with db_session:
            found = {identity(obj): obj for obj in getattr(entities, entity).select()}
            assert set(found) == set(map(identity, rows)), entity
            for row in rows:
                obj = found[identity(row)]
                for name in [*attributes(entity, "values"), *attributes(entity, "references")]:
                    assert same(getattr(row, name), getattr(obj, name)), (row, name)
                for name in attributes(entity, "collections"):
                    expected, actual = getattr(row, name), getattr(obj, name)
                    assert sorted(map(identity, expected)) == sorted(map(identity, actual)), (row, name)


def test_the_plain_model_is_that_of_the_entities(db):
    """The model that is declared twice is declared alike."""
    entities = declare(db)
    for entity in TABLES:
        mapping = getattr(entities, entity)._mapping_
        assert set(mapping.attributes) - {"classtype"} == {
            *attributes(entity, "values"),
            *attributes(entity, "references"),
        }, entity


# --- NULL rules, against SQLite -------------------------------------------------------------------------

# What is asked for, and how it is written in SQL by hand.
RULES = [
    ("u.age > 17", "age > 17"),
    ("not u.age > 17", "NOT age > 17"),
    ("u.age != 17", "age <> 17"),
    ("not (u.age == 17 and u.score > 0)", "NOT (age = 17 AND score > 0)"),
    ("not (u.age == 17 or u.score > 0)", "NOT (age = 17 OR score > 0)"),
    ("u.age == 17 or u.score is None", "age = 17 OR score IS NULL"),
    ("u.age == none", "age IS NULL"),
    ("u.age != none", "age IS NOT NULL"),
    ("u.age == u.points", "age = points"),
    ("u.age != u.points", "age <> points"),
    ("u.age in (17, 40)", "age IN (17, 40)"),
    ("u.age not in (17, 40)", "age NOT IN (17, 40)"),
    ("u.age in (17, None)", "age IN (17) OR age IS NULL"),
    ("u.age not in (17, None)", "NOT (age IN (17) OR age IS NULL)"),
    ("u.age in ages", "age IN (0, 40) OR age IS NULL"),
    ("u.age not in nothing", "NOT 1 = 0"),
    ("u.points in (u.age, 7)", "points IN (age, 7)"),
    ("u.points not in (u.age, 7)", "points NOT IN (age, 7)"),
    ("u.points not in (x.age for x in User)", "points NOT IN (SELECT age FROM user WHERE age IS NOT NULL)"),
    ("u.points in (x.age for x in User)", "points IN (SELECT age FROM user)"),
    ("-1 < u.age < 40", "-1 < age AND age < 40"),
    ("not -1 < u.age < 40", "NOT (-1 < age AND age < 40)"),
    ("between(u.age, 0, 40)", "age BETWEEN 0 AND 40"),
    ("u.age", "age IS NOT NULL AND age <> 0"),
    ("not u.age", "NOT (age IS NOT NULL AND age <> 0)"),
    ("u.email", "coalesce(email <> '', 0)"),
    ("not u.email", "NOT coalesce(email <> '', 0)"),
    ("not (u.email and u.age > 17)", "NOT (coalesce(email <> '', 0) AND age > 17)"),
    ("u.age + u.score > 17", "age + score > 17"),
    ("(u.age if u.score > 0 else u.points) > 0", "CASE WHEN score > 0 THEN age ELSE points END > 0"),
    ("coalesce(u.age, u.points) > 6", "coalesce(age, points) > 6"),
    ("min(u.age, u.points) < 7", "min(age, points) < 7"),
    ("max(u.age, u.points) >= 7", "max(age, points) >= 7"),
    ("u.email + 'x' == 'x'", "email || 'x' = 'x'"),
    ("u.name.startswith('A')", "substr(name, 1, 1) = 'A'"),
    ("'@' not in u.email", "NOT instr(email, '@') > 0"),
    ("u.boss.age > 39", "(SELECT age FROM user AS b WHERE b.id = user.boss) > 39"),
    ("not u.boss.age > 39", "NOT (SELECT age FROM user AS b WHERE b.id = user.boss) > 39"),
    ("count(u.orders) == 0", "(SELECT count(*) FROM orders AS o WHERE o.user = user.id) = 0"),
    ("sum(u.orders.total) == 0", "coalesce((SELECT sum(total) FROM orders AS o WHERE o.user = user.id), 0) = 0"),
    ("max(u.orders.total) > 0", "(SELECT max(total) FROM orders AS o WHERE o.user = user.id) > 0"),
    ("not max(u.orders.total) > 0", "NOT (SELECT max(total) FROM orders AS o WHERE o.user = user.id) > 0"),
    ("exists(o for o in u.orders if o.total > 0)", "EXISTS (SELECT 1 FROM orders AS o WHERE user = user.id AND total > 0)"),
    ("not exists(o for o in u.orders if o.total > 0)", "NOT EXISTS (SELECT 1 FROM orders AS o WHERE o.user = user.id AND total > 0)"),
]  # fmt: skip


@pytest.fixture(scope="module")
def by_hand():
    """A SQLite database of our own with the users and orders, made without dbsession."""
    connection = sqlite3.connect(":memory:")
    connection.execute("CREATE TABLE user (id, name, email, age, points, score, boss)")
    connection.execute("CREATE TABLE orders (id, total, user)")
    for user in WORLD["User"]:
        values = [user.id, user.name, user.email, user.age, user.points, user.score, user.boss and user.boss.id]
        connection.execute(f"INSERT INTO user VALUES ({', '.join('?' * len(values))})", values)
    for order in WORLD["Order"]:
        total = None if order.total is None else float(order.total)
        connection.execute("INSERT INTO orders VALUES (?, ?, ?)", (order.id, total, order.user and order.user.id))
    yield connection
    connection.close()


@pytest.mark.parametrize("text, sql", RULES)
def test_conditions_follow_sql(by_hand, text, sql):
    """A condition keeps the rows for which it is true, and NULL is as it is in SQL."""
    expected = [row[0] for row in by_hand.execute(f"SELECT id FROM user WHERE {sql} ORDER BY id")]
    query = f"select(u.id for u in User if {text}).order_by(1)"
    assert evaluate(query, none=None, ages=[0, None, 40], nothing=[]) == expected


# --- what it gives --------------------------------------------------------------------------------------

RESULTS = [
    ("select(o.status for o in Order if o.quantity == 3)", ["Open", "lost"]),
    ("select(o.user for o in Order if o.quantity == 1)", ["Chief[1]", "User[8]"]),
    ("select(o.user.name for o in Order if o.quantity == 3)", ["Zoë", None]),
    # duplicates of one loop stay, and a loop whose variable is not in the result is a condition
    ("select(p.price for p in Product if p.price < 2)", [Decimal("1.20"), Decimal("1.20"), Decimal("0.00")]),
    ("select(p.price for p in Product if p.price < 2).distinct()", [Decimal("1.20"), Decimal("0.00")]),
    ("select(u.name for u in User for o in u.orders)", ["Ann", "bob", "Zoë", "Ann"]),
    ("select(u.name for u in User for o in u.orders).without_distinct()", ["Ann", "Ann", "bob", "Zoë", "Ann"]),
    ("select(t for p in Product for t in p.tags if p.stock == 7)", ["Tag['Old']", "Tag['new']", "Tag['50%']"]),
    ("select((u.id, o.id) for u in User for o in u.orders if o.total)", [(1, 1), (5, 4)]),
    ("select((p.id, q.id) for p in Product for q in Product if p.name == q.name and p.id < q.id)", [(1, 6)]),
    # grouping
    ("select((c.city, count(c)) for c in Company)", [("Köln", 2), (None, 1), ("", 1)]),
    ("select((c.city, count()) for c in Company if count() > 1)", [("Köln", 2)]),
    ("select((o.user, sum(o.total), count(o.total)) for o in Order if o.user is not None)",
     [("Chief[1]", Decimal("21.19"), 1), ("Manager[3]", Decimal("0.00"), 1), ("User[5]", Decimal("250.00"), 1), ("User[8]", 0, 0)]),
    ("select((sum(o.weight), min(o.due), max(o.total), avg(o.quantity)) for o in Order if o.id > 90)", [(0, None, None, None)]),
    ("select(avg(c.rating) for c in Company)", [3.25 / 3]),
    ("select((u.name, count(o)) for u in User for o in u.orders)", [("Ann", 3), ("bob", 1), ("Zoë", 1)]),
    ("select(count(distinct(p.price)) for p in Product)", [5]),
    # functions and verbs
    ("count(u for u in User)", 9),
    ("sum(o.quantity for o in Order)", 18),
    ("exists(o for o in Order if o.total < -5)", False),
    ("select(u for u in User if u.age == 17).count()", 2),
    ("select(p.stock for p in Product).order_by(1)", [None, -3, 0, 7, 7, 100]),
    ("select(p.stock for p in Product).order_by(-1)[1:4]", [7, 7, 0]),
    ("select(p for p in Product).order_by(desc(Product.price), Product.id).limit(2, 3)", ["Product[1]", "Product[2]"]),
    ("select(p for p in Product).order_by(lambda p: p.id).page(2, 4)", ["Product[5]", "Product[6]"]),
    ("select(p for p in Product).filter(lambda p: p.stock == 0)", ["Product[2]"]),
    ("select(p for p in Product).where(Product.stock == 0).first()", "Product[2]"),
    # expressions
    ("select(u.name[1:3] for u in User if u.id == 7)", ["%b"]),
    ("select(u.name[20] for u in User if u.id == 7)", [""]),
    ("select(u.name[-2:].upper() for u in User if u.id == 2)", ["LE"]),
    ("select(f'{u.name}-{u.age}' for u in User if u.points == 0)", [None, None]),
    ("select(u.born + timedelta(1) for u in User if u.id == 1)", [date(1960, 3, 1)]),
    ("select(-u.age // 2 for u in User if u.id == 6)", [-9]),
    ("select(-u.age % 5 for u in User if u.id == 6)", [3]),
    ("select(u.data['deep']['k'] for u in User if u.id in (1, 2, 4, 5))", ["a", None, None, None]),
    ("select(u.label for u in User if u.id in (2, 3))", ["Émile/-", "bob/"]),
    ("sum(sum(m.reports.points) for m in Manager)", 39),
    ("select(c.id for c in Company if 'x' in c.staff.name)", []),
    ("select(k for k in Chief if isinstance(k, Manager) and not isinstance(k.boss, Chief))", ["Chief[1]"]),
    ("select(b.id for b in Booking if b.seat == s)", [1, 2]),
]  # fmt: skip


@pytest.mark.parametrize("text, expected", RESULTS)
def test_results(text, expected):
    """Each form of query has the results that the language gives it."""
    seat = next(row for row in WORLD["Seat"] if row.key == ("A", 1))
    found = evaluate(text, s=seat)
    assert sorted(map(repr, found)) == sorted(map(repr, expected)) if isinstance(found, list) else found == expected
    if ".order_by" in text:
        assert found == expected


UNDEFINED = [
    "select(u.points / (u.points - 7) for u in User)",
    "select(u.points % 0 for u in User)",
    "select(u.points ** 30 for u in User)",
    "select(str(u.score) for u in User)",
    "select(round(u.score * 0.5, 1) for u in User)",
    "select(u for u in User if u.score + 0.1 + 0.2 == u.score + 0.3)",
    "select(p for p in Product).order_by(Product.price)[:2].sum()",
]


@pytest.mark.parametrize("text", UNDEFINED)
def test_what_databases_may_do_as_they_like_is_not_compared(text):
    """Where the databases differ by what is documented, nothing is expected of them."""
    with pytest.raises(Undefined):
        evaluate(text)


# --- comparing results ----------------------------------------------------------------------------------


def loops(text):
    """Return the query *text*, evaluated."""
    return Evaluator(WORLD, GLOBALS, nulls_first=True).run(text)


def test_differences_are_found():
    """A result too many, too few, of another type, or in another order is a difference."""
    prices = loops("select(p.stock for p in Product)")
    assert difference(prices, [7, 100, None, 7, -3, 0]) == ""
    for wrong in (
        [7, 100, None, -3, 0],
        [7, 100, None, 7, 7, -3, 0],
        [7, 100, 0, 7, -3, 0],
        [7.0, 100, None, 7, -3, 0],
    ):
        assert difference(prices, wrong)
    ordered = loops("select(p.id for p in Product).order_by(lambda p: p.price)")
    assert difference(ordered, [4, 1, 2, 6, 3, 5]) == difference(ordered, [4, 2, 1, 6, 3, 5]) == ""
    assert difference(ordered, [1, 4, 2, 6, 3, 5])
    cut = loops("select(p.id for p in Product).order_by(lambda p: p.price)[:2]")
    assert difference(cut, [4, 1]) == difference(cut, [4, 2]) == ""
    assert difference(cut, [4, 6])
    assert difference(cut, [4])


@pytest.mark.parametrize(
    "expected, actual, alike",
    [
        (1, 1, True),
        (1, True, False),
        (1, 1.0, False),
        (0, Decimal(0), False),
        (Untyped(0), Decimal(0), True),
        (0, False, False),
        (0.1 + 0.2, 0.3, True),
        (Decimal("1.20"), Decimal("1.2"), True),
        (Decimal("1.20"), Decimal("1.21"), False),
        (Decimal(1), 1, False),
        (None, "", False),
        (date(2026, 1, 1), "2026-01-01", False),
        ((1, None), (1, None), True),
        ((1, None), [1, None], False),
    ],
)
def test_types_count(expected, actual, alike):
    """Values are the same if their types are; only the sum of nothing has no type of its own."""
    assert same(expected, actual) is alike
