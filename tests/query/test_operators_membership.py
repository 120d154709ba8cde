"""`in`: among listed values, however many; among expressions, in arrays; None among them matches NULL."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from dbsession import Optional, Required, db_session
from dbsession.model.expressions import Operation
from dbsession.query.tree import Slot
from tests.query.operating import declare, mismatches, results, sql_of

NUMBERS = ["i", "j", "small", "f", "g", "d", "e"]


@pytest.fixture
def Thing(db):
    """Things of every kind."""
    return declare(db)


def among(value, values):
    """Tell what SQL says of a value among *values*, of which None matches NULL."""
    if value is None:
        return True if None in values else None if values else False
    return value in values


LISTS = {
    "nothing": [],
    "None": [None],
    "one": [7],
    "one and None": [7, None],
    "two Nones": [None, 7, None],
    "mixed": [7, 2.5, Decimal("10.5"), 0.25, Decimal("0.125")],
    "written out": list(range(-50, 50)),
    "long": list(range(-200, 200)),
    "beyond a smallint": [*range(-200, 200), 40_000],
    "very long": [*range(-1000, 1000), None, 2.5, 0.25, Decimal("10.50"), 40_000, 2**40, 2**70, -(2**70), float("inf")],
}


@pytest.mark.parametrize("name", LISTS)
def test_numbers(Thing, name):
    """Numbers among numbers of whatever kind; short lists are written out, long ones travel as one parameter."""
    values = LISTS[name]
    cases = {}
    for each in NUMBERS:
        wanted = lambda o, each=each: among(getattr(o, each), values)
        opposite = lambda o, each=each: (
            None if among(getattr(o, each), values) is None else not among(getattr(o, each), values)
        )
        attribute = getattr(Thing, each)
        cases[f"{each} in"] = Operation("in", attribute, tuple(values)), wanted
        cases[f"{each} not in"] = ~Operation("in", attribute, tuple(values)), opposite
        for kind in (list, set, frozenset, tuple):
            given = kind(values)
            cases[f"{each} in slot {kind.__name__}"] = Operation("in", attribute, Slot(0, given)), wanted, given
        cases[f"{each} not in slot"] = ~Operation("in", attribute, Slot(0, values)), opposite, values
        cases[f"{each} + 0 in slot"] = Operation("in", attribute + 0, Slot(0, values)), wanted, values
    cases["in_"] = Thing.j.in_(values), lambda o: among(o.j, values)
    cases["not_in"] = Thing.j.not_in(values), lambda o: not among(o.j, values)
    assert mismatches(Thing, cases) == []


def test_other_values_of_the_same_shape(Thing):
    """What is written for one list serves every list of its shape, wherever the None in it stands."""
    node = Operation("in", Thing.j, Slot(0, [1, None, 2]))
    long = Operation("in", Thing.j, Slot(0, list(range(2000))))
    cases = {
        "None behind": (node, lambda thing: thing.j in (3, 5), [3, 5, None]),
        "None in front": (node, lambda thing: thing.j in (7, 2), [None, 7, 2]),
        "long": (long, lambda thing: thing.j == 3, [3] * 2000),
    }
    assert mismatches(Thing, cases) == []


LONG = {
    str: [f"x{number}" for number in range(1500)] + ["it's", 'a"b\\c', "", "{,}", "null", "NULL", "é\U0001f600"],
    bool: [True] * 1200,
    float: [number / 8 for number in range(1500)] + [float("inf"), float("-inf"), 1e300],
    Decimal: [Decimal(number) / 100 for number in range(1500)],
    date: [date(2000, 1, 1) + timedelta(number) for number in range(1500)],
    datetime: [datetime(2000, 1, 1) + timedelta(microseconds=number) for number in range(1500)],
    time: [time(1, 2, 3, number) for number in range(1500)],
    timedelta: [timedelta(microseconds=number) for number in range(1500)],
    UUID: [UUID(int=number) for number in range(1500)],
    bytes: [bytes([number % 256, number // 256]) for number in range(1500)],
}


@pytest.mark.parametrize("python", LONG, ids=lambda python: python.__name__)
def test_long_lists_of_every_type(db, python):
    """Many values of each type, from 1 to thousands of them, find what is among them and nothing else."""

    class Thing(db.Entity):
        value = Optional(python, **({"autostrip": False} if python is str else {}))
        number = Required(int)

    db.generate_mapping(create_tables=True)
    values = LONG[python]
    present = [values[0], values[1], values[-1], values[len(values) // 2]]
    with db_session:
        for number, value in enumerate([*present, None]):
            Thing(value=value, number=number)
    with db_session:
        for some in (values[:1], values[:90], values[:600], values):
            found = {thing.number for thing in Thing.select(Thing.value.in_(some))}
            assert found == {number for number, value in enumerate(present) if value in some}
            others = {thing.number for thing in Thing.select(Thing.value.not_in([*some, None]))}
            assert others == set(range(4)) - found
            slot = results(Thing, Operation("in", Thing.value, Slot(0, some)), (some,))
            assert slot == [*[value in some for value in present], None]


def test_more_values_than_a_statement_has_parameters(Thing):
    """A hundred thousand values are asked for with one statement."""
    with db_session:
        assert Thing.select(Thing.j.in_(range(100_000))).count() == 4
        assert Thing.select(Thing.u.in_([str(number) for number in range(70_000)] + ["x"])).count() == 1


def test_expressions_among_the_values(Thing):
    """What is looked for among may be computed; so may be what is looked for."""

    def found(value, values):
        known = [one for one in values if one is not None]
        return True if value in known else None if value is None or None in values else False

    cases = {
        "i in (j, 7)": (Operation("in", Thing.i, (Thing.j, 7)), lambda o: found(o.i, (o.j, 7))),
        "i in (j, slot, None)": (
            Operation("in", Thing.i, (Thing.j, Slot(0, 1), None)),
            lambda o: o.i is None or o.i in (o.j, -7),
            -7,
        ),
        "7 in (i, small)": (Operation("in", 7, (Thing.i, Thing.small)), lambda o: found(7, (o.i, o.small))),
        "slot in (i, small)": (Operation("in", Slot(0, 1), (Thing.i, Thing.j)), lambda o: found(5, (o.i, o.j)), 5),
        "not j in (i, small)": (
            ~Operation("in", Thing.j, (Thing.small, 5)),
            lambda o: None if found(o.j, (o.small, 5)) is None else not found(o.j, (o.small, 5)),
        ),
        "e in (i, d)": (Operation("in", Thing.e, (Thing.j, Thing.d, 3)), lambda o: found(o.e, (o.j, o.d, 3))),
        "u in (t, 'x')": (Operation("in", Thing.u, (Thing.t, "x")), lambda o: found(o.u, (o.t, "x"))),
        "j > 2 in (c,)": (Operation("in", Thing.j > 2, (Thing.c,)), lambda o: (o.j > 2) is o.c),
    }
    assert mismatches(Thing, cases) == []


def test_arrays(db):
    """`in` looks into arrays, where there are any."""

    class Post(db.Entity):
        tags = Optional(list[str])
        counts = Optional(list[int])

    if db.backend.dialect.name == "sqlite":
        pytest.skip("SQLite has no arrays")
    db.generate_mapping(create_tables=True)
    with db_session:
        Post(tags=["a", "b"], counts=[1, 2]), Post(tags=[], counts=[]), Post()
    cases = {
        "'a' in tags": (Operation("in", "a", Post.tags), lambda post: None if post.tags is None else "a" in post.tags),
        "slot in counts": (
            Operation("in", Slot(0, 1), Post.counts),
            lambda post: None if post.counts is None else 2 in post.counts,
            2,
        ),
        "'a' not in tags": (
            ~Operation("in", "a", Post.tags),
            lambda post: None if post.tags is None else "a" not in post.tags,
        ),
        "len(tags)": (Operation("len", Post.tags), lambda post: None if post.tags is None else len(post.tags)),
        "truth(tags)": (Operation("truth", Post.tags), lambda post: bool(post.tags)),
    }
    assert mismatches(Post, cases) == []


def test_how_lists_are_written(Thing):
    """Short lists are written out, long ones are one parameter; the length of those does not show in the SQL."""
    is_sqlite = Thing._mapping_.dialect.name == "sqlite"
    with db_session:
        short = sql_of(Thing, Thing.j.in_([1, 2, None]))
        assert '"j" IN (?, ?) OR "j" IS NULL' in short.replace("%s", "?")
        one, other = (sql_of(Thing, Thing.j.in_(range(count))) for count in (1500, 1501))
        assert one == other
        assert ('"j" IN (SELECT value FROM json_each(?))' if is_sqlite else '"j" = ANY(%s)') in one
        assert ("NOT IN" if is_sqlite else '"j" <> ALL(%s)') in sql_of(Thing, Thing.j.not_in(range(1500)))
