"""and, or, not are SQL's; the truth of a value is Python's; in doubt, a conditional expression takes its second branch."""

from __future__ import annotations

from datetime import date, datetime, time, timedelta
from decimal import Decimal
from enum import Enum
from uuid import UUID

import pytest

from dbsession import Optional, Required, db_session
from dbsession.model.expressions import Operation
from dbsession.query.tree import Slot
from tests.query.operating import NAMES, declare, mismatches, results, sql_of


@pytest.fixture
def Thing(db):
    """Things of every kind."""
    return declare(db)


def truth(node):
    """Make the truth of *node*."""
    return Operation("truth", node)


def conditional(condition, then, otherwise):
    """Make ``then if condition else otherwise``."""
    return Operation("if", condition, then, otherwise)


class Colour(Enum):
    RED = 0


# --- truth --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*NAMES, "owner"])
def test_truth_of_a_value(Thing, name):
    """NULL, 0, "" and False are false, everything else is true; never unknown, also behind `not`, also in a filter."""
    node = getattr(Thing, name)
    python = lambda thing: bool(getattr(thing, name))
    cases = {
        "truth": (truth(node), python),
        "not": (~truth(node), lambda thing: not python(thing)),
        "not not": (~~truth(node), python),
        "and": (truth(node) & (Thing.j > 2), lambda thing: python(thing) and thing.j > 2),
        "or": (truth(node) | (Thing.j > 2), lambda thing: python(thing) or thing.j > 2),
        "not (and)": (~(truth(node) & (Thing.j > 2)), lambda thing: not (python(thing) and thing.j > 2)),
        "not (or not)": (~((Thing.j > 2) | ~truth(node)), lambda thing: not (thing.j > 2 or not python(thing))),
        "if": (conditional(truth(node), 1, 2), lambda thing: 1 if python(thing) else 2),
        "if not": (
            conditional(~truth(node) & (Thing.j > 0), 1, 2),
            lambda thing: 1 if not python(thing) and thing.j > 0 else 2,
        ),
        "as a bool": (truth(node) == Thing.c, lambda thing: python(thing) is thing.c),
    }
    assert mismatches(Thing, cases) == []
    with db_session:
        ids = lambda condition: {thing.id for thing in Thing.select(condition)}
        true = {thing.id for thing in Thing.select() if python(thing)}
        everyone = {thing.id for thing in Thing.select()}
        assert ids(truth(node)) == true
        assert ids(~truth(node)) == everyone - true
        assert ids(truth(node) & ~truth(node)) == set() and ids(truth(node) | ~truth(node)) == everyone
        assert ids(~(truth(node) | (Thing.j > 2))) == {thing.id for thing in Thing.select(Thing.j <= 2)} - true


@pytest.mark.parametrize(
    ("python", "empty", "full"),
    [
        (timedelta, timedelta(0), timedelta(microseconds=1)),
        (bytes, b"", b"\0"),
        (date, None, date(1, 1, 1)),
        (datetime, None, datetime(1, 1, 1)),
        (time, None, time(0)),
        (UUID, None, UUID(int=0)),
        (Colour, None, Colour.RED),
        (Decimal, Decimal("0.00"), Decimal("0.01")),
    ],
    ids=lambda value: getattr(value, "__name__", None),
)
def test_truth_of_every_type(db, python, empty, full):
    """Of each type, what Python takes for false is false: an empty timedelta, but no date and no time."""

    class Thing(db.Entity):
        value = Optional(python)
        sure = Required(python) if python is not bytes else Optional(python, nullable=False)

    db.generate_mapping(create_tables=True)
    sure = full if empty is None else empty
    with db_session:
        Thing(sure=sure), Thing(value=full, sure=full), Thing(value=empty, sure=sure)
    cases = {}
    for name in ("value", "sure"):
        node = getattr(Thing, name)
        cases[f"truth({name})"] = truth(node), lambda thing, name=name: bool(getattr(thing, name))
        cases[f"not truth({name})"] = ~truth(node), lambda thing, name=name: not getattr(thing, name)
        cases[f"filter {name}"] = (
            conditional(truth(node), 1, 2),
            lambda thing, name=name: 1 if getattr(thing, name) else 2,
        )
    assert mismatches(Thing, cases) == []


def test_truth_of_values_and_conditions(Thing):
    """The truth of a value from outside is known only when it is sent; that of an unknown condition is false."""
    cases = {}
    for value in ("", "x", 0, 5, [], [1], None, True, False, 0.0, Decimal(0), date(2000, 1, 1)):
        kind = {list: [1, 2], str: "abc", int: 3, float: 1.0, Decimal: Decimal(1)}.get(type(value), value)
        cases[f"slot {value!r}"] = truth(Slot(0, kind)), lambda _, value=value: bool(value), value
        cases[f"not slot {value!r}"] = ~truth(Slot(0, kind)), lambda _, value=value: not value, value
        cases[f"{value!r}"] = truth(value) & (Thing.j > 2), lambda o, value=value: bool(value) and o.j > 2
    cases["truth(i > 3)"] = truth(Thing.i > 3), lambda o: o.i is not None and o.i > 3
    cases["not truth(i > 3)"] = ~truth(Thing.i > 3), lambda o: not (o.i is not None and o.i > 3)
    cases["truth(i + 7)"] = truth(Thing.small + 5), lambda o: bool(o.small is not None and o.small + 5)
    assert mismatches(Thing, cases) == []


# --- and, or, not -----------------------------------------------------------------------------------------------


def test_unknown_is_neither_true_nor_false(Thing):
    """and, or and not of what is unknown, as SQL has it: only what decides by itself decides."""
    one, other = Thing.i > 3, Thing.f > 0

    def known(value, compare):
        return None if value is None else compare(value)

    def both(left, right):
        return False if left is False or right is False else None if left is None or right is None else True

    def either(left, right):
        return True if left is True or right is True else None if left is None or right is None else False

    first = lambda o: known(o.i, lambda i: i > 3)
    second = lambda o: known(o.f, lambda f: f > 0)
    cases = {
        "and": (one & other, lambda o: both(first(o), second(o))),
        "or": (one | other, lambda o: either(first(o), second(o))),
        "not": (~one, lambda o: known(first(o), lambda value: not value)),
        "and c": (one & Thing.c, lambda o: both(first(o), o.c)),
        "or c": (one | Thing.c, lambda o: either(first(o), o.c)),
        "or not c": (one | ~Thing.c, lambda o: either(first(o), not o.c)),
        "b": (Thing.b & Thing.c, lambda o: both(o.b, o.c)),
        "three": (Operation("and", one, other, Thing.c), lambda o: both(both(first(o), second(o)), o.c)),
        "and True": (Operation("and", one, True), first),
        "or slot True": (Operation("or", one, Slot(0, True)), lambda _: True, True),
        "not False": (Operation("not", False) & one, first),
        "chain": (
            Operation("and", Operation("<", 0, Thing.i), Operation("<", Thing.i, 50)),
            lambda o: known(o.i, lambda i: 0 < i < 50),
        ),
    }
    cases["not slot"] = Operation("and", one, Operation("not", Slot(0, True))), lambda o: both(first(o), False), True
    assert mismatches(Thing, cases) == []


# --- one or the other -------------------------------------------------------------------------------------------


def test_conditional_expressions(Thing):
    """The first branch where the condition is true, the second where it is false or unknown; branches keep their type."""
    cases = {}
    values = {"i": 5, "j": -5, "f": 1.5, "g": 2, "d": Decimal("1.5"), "e": 3, "t": "q", "u": "r", "b": True, "c": False}
    for name, value in values.items():
        node = getattr(Thing, name)
        kind = type(getattr(Thing, name).kind.coerce(value))
        cases[f"{name} if c else {value!r}"] = (
            conditional(Thing.c, node, value),
            lambda o, name=name, value=value, kind=kind: getattr(o, name) if o.c else kind(value),
        )
        cases[f"slot if i > 3 else {name}"] = (
            conditional(Thing.i > 3, Slot(0, value), node),
            lambda o, name=name, value=value, kind=kind: (
                kind(value) if o.i is not None and o.i > 3 else getattr(o, name)
            ),
            value,
        )
        cases[f"None if c else {name}"] = (
            conditional(Thing.c, None, node),
            lambda o, name=name: None if o.c else getattr(o, name),
        )
        cases[f"{name} if c else None"] = (
            conditional(Thing.c, node, None),
            lambda o, name=name: getattr(o, name) if o.c else None,
        )
    cases["1 if .. else 2 if .. else 3"] = (
        conditional(Thing.j > 5, 1, conditional(Thing.j > 2, 2, 3)),
        lambda o: 1 if o.j > 5 else 2 if o.j > 2 else 3,
    )
    cases["numbers of two kinds"] = conditional(Thing.c, Thing.j, Thing.g) / 2, lambda o: (o.j if o.c else o.g) / 2
    cases["a float that is whole"] = (
        conditional(Thing.c, Thing.j, Thing.g) / (Thing.j * 2),
        lambda o: (o.j if o.c else o.g) / (o.j * 2),
    )
    cases["int or Decimal"] = conditional(Thing.c, Thing.j, Thing.d), lambda o: Decimal(o.j) if o.c else o.d
    cases["a condition"] = (
        conditional(Thing.c, Thing.j > 2, Thing.b),
        lambda o: o.j > 2 if o.c else o.b,
    )
    cases["as a condition"] = (
        conditional(Thing.c, Thing.j > 2, Thing.b) & (Thing.g > 1),
        lambda o: (o.j > 2) and o.g > 1 if o.c else (None if o.b is None and o.g > 1 else bool(o.b and o.g > 1)),
    )
    cases["in arithmetic"] = conditional(Thing.j > 2, 10, 20) + Thing.j, lambda o: (10 if o.j > 2 else 20) + o.j
    assert mismatches(Thing, cases) == []


def test_coalesce(Thing):
    """The first that is not NULL; whole numbers become Decimals or floats where others are."""
    first = lambda *values: next((value for value in values if value is not None), None)
    cases = {
        "i, 5": (Operation("coalesce", Thing.i, 5), lambda o: first(o.i, 5)),
        "i, small, slot": (
            Operation("coalesce", Thing.i, Thing.small, Slot(0, 1)),
            lambda o: first(o.i, o.small, 9),
            9,
        ),
        "t, ''": (Operation("coalesce", Thing.t, ""), lambda o: first(o.t, "")),
        "None, b, None": (Operation("coalesce", None, Thing.b, None), lambda o: o.b),
        "i, None": (Operation("coalesce", Thing.i, Slot(0, None)), lambda o: o.i, None),
        "i, d, e": (Operation("coalesce", Thing.i, Thing.d, Thing.e), lambda o: Decimal(first(o.i, o.d, o.e))),
        "i, g": (Operation("coalesce", Thing.i, Thing.g), lambda o: float(first(o.i, o.g))),
        "f, 1": (Operation("coalesce", Thing.f, 1) / 2, lambda o: first(o.f, 1) / 2),
        "d, 0 = 0": (Operation("coalesce", Thing.d, 0) == 0, lambda o: not o.d),
        "i > 3, False": (Operation("coalesce", Thing.i > 3, False), lambda o: o.i is not None and o.i > 3),
        "owner": (Operation("coalesce", Thing.owner, 1) == 1, lambda o: o.owner is None or o.owner.id == 1),
    }
    assert mismatches(Thing, cases) == []
    with db_session:
        found = Thing.select(Operation("coalesce", Thing.d, Thing.e) > 5).count()
        assert found == sum(1 for thing in Thing.select() if first(thing.d, thing.e) > 5)


def test_decimals_that_are_chosen_are_ordered_as_numbers(Thing):
    """What a conditional expression, coalesce() or max() gives sorts and compares as a number."""
    for node in (
        Operation("coalesce", Thing.d, Thing.e),
        conditional(Thing.c, Thing.e, Thing.d),
        Operation("max2", Thing.e, Thing.d),
        Operation("max2", Thing.e, 5),
    ):
        with db_session:
            values = [value for value in results(Thing, node) if value is not None]
            ordered = [results(Thing, node)[thing.id - 1] for thing in Thing.select(node != None).order_by(node)]  # noqa: E711
            assert ordered == sorted(values)


# --- how it is written --------------------------------------------------------------------------------------------


def test_truth_is_written_shortly(Thing):
    """In a filter, the truth of a value is a plain comparison; behind `not` as much as is needed."""

    def where(condition):
        return Thing.select(condition).get_sql().partition(" WHERE ")[2].replace("%s", "?")

    is_sqlite = Thing._mapping_.dialect.name == "sqlite"
    assert where(truth(Thing.i)) == '"i" <> 0'
    assert where(truth(Thing.t)) == "\"t\" <> ''"
    assert where(truth(Thing.b)) == '"b"'
    assert where(truth(Thing.owner)) == '"owner" IS NOT NULL'
    assert where(~truth(Thing.j)) == '"j" = 0'
    assert where(~truth(Thing.i)) == 'coalesce("i", 0) = 0'
    assert where(~truth(Thing.t)) == "coalesce(\"t\", '') = ''"
    assert where(~truth(Thing.b)) == '"b" IS NOT TRUE'
    assert where(~truth(Thing.c)) == 'NOT "c"'
    assert where(~truth(Thing.owner)) == '"owner" IS NULL'
    zero = "(\"d\" <> '0') IS NOT TRUE" if is_sqlite else 'coalesce("d", 0) = 0'
    assert where(~truth(Thing.d)) == zero
    assert where(truth(Thing.i) & (truth(Thing.t) | truth(Thing.b))) == '"i" <> 0 AND ("t" <> \'\' OR "b")'
    assert where(~(truth(Thing.i) & truth(Thing.b))) == 'NOT (coalesce("i", 0) <> 0 AND "b" IS TRUE)'
    with db_session:
        text = sql_of(Thing, conditional(truth(Thing.t), 1, conditional(Thing.b, 2, 3))).replace("%s", "?")
        assert text.startswith('SELECT CASE WHEN "t" <> \'\' THEN ? WHEN "b" THEN ? ELSE ? END FROM')
