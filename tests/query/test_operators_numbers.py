"""Arithmetic in the database gives what Python's gives: values, types, signs; NULL where an operand is."""

from __future__ import annotations

import operator
from decimal import Decimal

import pytest

from dbsession import DatabaseError, Optional, Required, db_session
from dbsession.model.expressions import Operation
from dbsession.query.tree import Slot
from tests.query.operating import declare, mismatches, results

NUMBERS = ["i", "j", "small", "f", "g", "d", "e"]
ARITHMETIC = {
    "+": operator.add,
    "-": operator.sub,
    "*": operator.mul,
    "/": operator.truediv,
    "//": operator.floordiv,
    "%": operator.mod,
}


@pytest.fixture
def Thing(db):
    """Things with numbers of every kind."""
    return declare(db)


def mixes(*names):
    """Tell whether a Decimal would meet a float."""
    return bool({*names} & {"d", "e", Decimal}) and bool({*names} & {"f", "g", float})


def small(Thing):
    """Keep the things whose numbers are small enough for every product."""
    with db_session:
        Thing.select(Thing.i > 10**9).delete()


@pytest.mark.parametrize("name", ARITHMETIC)
def test_two_attributes(Thing, name):
    """Every pair of numbers gives what Python gives: int, float and Decimal stay what they are, / makes floats."""
    small(Thing)
    apply = ARITHMETIC[name]
    divisors = ["j", "g", "e"] if name in ("/", "//", "%") else NUMBERS
    cases = {
        f"{left} {name} {right}": (
            Operation(name, getattr(Thing, left), getattr(Thing, right)),
            lambda thing, left=left, right=right: apply(getattr(thing, left), getattr(thing, right)),
        )
        for left in NUMBERS
        for right in divisors
        if not mixes(left, right)
    }
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", ARITHMETIC)
@pytest.mark.parametrize("value", [2, -3, 2.5, Decimal("1.5"), Decimal("-0.3")], ids=repr)
def test_an_attribute_and_a_value(Thing, name, value):
    """A value on either side, written in the query or known only when it is sent."""
    apply = ARITHMETIC[name]
    small(Thing)
    cases = {}
    for each in NUMBERS:
        if not mixes(each, type(value)):
            attribute = getattr(Thing, each)
            right = lambda thing, each=each: apply(getattr(thing, each), value)
            left = lambda thing, each=each: apply(value, getattr(thing, each))
            cases[f"{each} {name} value"] = Operation(name, attribute, value), right
            cases[f"{each} {name} slot"] = Operation(name, attribute, Slot(0, value)), right, value
            if each in "jge":
                cases[f"value {name} {each}"] = Operation(name, value, attribute), left
                cases[f"slot {name} {each}"] = Operation(name, Slot(0, value), attribute), left, value
    assert mismatches(Thing, cases) == []


def test_signs_and_rounding(Thing):
    """-, abs() and round() of every number; halves go to even, as in Python."""
    cases = {}
    for each in NUMBERS:
        attribute = getattr(Thing, each)
        cases[f"- {each}"] = -attribute, lambda thing, each=each: -getattr(thing, each)
        cases[f"abs({each})"] = abs(attribute), lambda thing, each=each: abs(getattr(thing, each))
        if each != "e":  # one of them is beyond 64 bits
            cases[f"round({each})"] = round(attribute), lambda thing, each=each: round(getattr(thing, each))
        for digits in (-1, 0, 1, 2):
            wanted = lambda thing, each=each, digits=digits: round(getattr(thing, each), digits)
            cases[f"round({each}, {digits})"] = round(attribute, digits), wanted
            slot = Operation("round", attribute, Slot(0, digits))
            cases[f"round({each}, slot {digits})"] = slot, wanted, digits
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("python", [float, Decimal])
def test_halves_are_rounded_to_even(db, python):
    """0.5, 1.5, 2.5, ... at any digit: to the even neighbour, below and above zero."""

    class Number(db.Entity):
        value = Required(python, 20, 5) if python is Decimal else Required(python)

    db.generate_mapping(create_tables=True)
    values = [python(number) / 8 for number in range(-40, 41)] + [python(number) * 5 for number in range(-9, 10)]
    with db_session:
        for value in values:
            Number(value=value)
    with db_session:
        assert results(Number, round(Number.value)) == [round(value) for value in values]
        for digits in (-1, 0, 1, 2):
            assert results(Number, round(Number.value, digits)) == [round(value, digits) for value in values], digits


def test_powers(Thing):
    """** of an int by a whole number stays an int; where the exponent may be negative it is a float."""
    small(Thing)
    cases = {}
    for each in NUMBERS:
        for exponent in (1, 2, 3) if each in "de" else (0, 1, 2, 3):  # Python has no Decimal(0) ** 0
            wanted = lambda thing, each=each, exponent=exponent: getattr(thing, each) ** exponent
            cases[f"{each} ** {exponent}"] = getattr(Thing, each) ** exponent, wanted
            cases[f"{each} ** slot"] = (
                Operation("**", getattr(Thing, each), Slot(0, 2)),
                lambda thing, each=each: getattr(thing, each) ** 2,
                2,
            )
    cases["j ** -1"] = Thing.j**-1, lambda thing: thing.j**-1
    cases["j ** small"] = Thing.j**Thing.small, lambda thing: float(thing.j**thing.small)
    cases["2 ** small"] = 2**Thing.small, lambda thing: float(2**thing.small)
    cases["g ** 2.0"] = Thing.g**2.0, lambda thing: thing.g**2.0
    with db_session:
        Thing.select(Thing.small > 20).delete()
    assert mismatches(Thing, cases) == []


def test_a_negative_exponent_that_was_not_before(Thing):
    """An int to a power from outside is an int; a negative one, which would make a float of it, is refused."""
    with db_session:
        node = Operation("**", Thing.j, Slot(0, 2))
        assert results(Thing, node, (2,))[0] == 9
        with pytest.raises(ValueError, match=r"\*\* -2: a negative exponent makes a float"):
            results(Thing, node, (-2,))


def test_the_smallest_and_the_largest(Thing):
    """min() and max() of several: NULL if one of them is, on both databases."""
    cases = {}
    for left in NUMBERS:
        for right in NUMBERS:
            if not mixes(left, right):
                python = Decimal if {left, right} & {*"de"} else float if {left, right} & {*"fg"} else int
                for name, choose in (("min2", min), ("max2", max)):
                    cases[f"{name}({left}, {right}, 3)"] = (
                        Operation(name, getattr(Thing, left), getattr(Thing, right), 3),
                        lambda thing, left=left, right=right, choose=choose, python=python: python(
                            choose(getattr(thing, left), getattr(thing, right), 3)
                        ),
                    )
    cases["min(t, u)"] = Operation("min2", Thing.t, Thing.u), lambda thing: min(thing.t, thing.u)
    cases["max(b, c)"] = (
        Operation("max2", Thing.b, Thing.c),
        lambda thing: None if thing.b is None else thing.b | thing.c,
    )
    assert mismatches(Thing, cases) == []


def test_nested(Thing):
    """Parentheses stand where the tree has them, whatever binds how strongly."""
    small(Thing)
    i, j, e = Thing.i, Thing.j, Thing.e
    trees = {
        "(i + j) * j - i": ((i + j) * j - i, lambda o: (o.i + o.j) * o.j - o.i),
        "i + j * j - i": (i + j * j - i, lambda o: o.i + o.j * o.j - o.i),
        "i - (j - i)": (i - (j - i), lambda o: o.i - (o.j - o.i)),
        "i - j - i": (i - j - i, lambda o: o.i - o.j - o.i),
        "i * (j // 2)": (i * (j // 2), lambda o: o.i * (o.j // 2)),
        "i * j // 2": (i * j // 2, lambda o: o.i * o.j // 2),
        "-(i + j)": (-(i + j), lambda o: -(o.i + o.j)),
        "-i - -j": (-i - -j, lambda o: -o.i - -o.j),
        "-(-i)": (Operation("neg", -i), lambda o: o.i),
        "i / (j / 2)": (i / (j / 2), lambda o: o.i / (o.j / 2)),
        "i / j / 2": (i / j / 2, lambda o: o.i / o.j / 2),
        "(i % j) % 2": ((i % j) % 2, lambda o: (o.i % o.j) % 2),
        "i % (j % 2 + 1)": (i % (j % 2 + 1), lambda o: o.i % (o.j % 2 + 1)),
        "(i + j) ** 2": ((i + j) ** 2, lambda o: (o.i + o.j) ** 2),
        "-(i ** 2)": (-(i**2), lambda o: -(o.i**2)),
        "(e + 1) * (e - 1)": ((e + 1) * (e - 1), lambda o: (o.e + 1) * (o.e - 1)),
        "abs(i - j) * 2": (abs(i - j) * 2, lambda o: abs(o.i - o.j) * 2),
        "round(i / 3, 2) + 1": (round(i / 4, 2) + 1, lambda o: round(o.i / 4, 2) + 1),
        "round(i / j) % 3": (round(i / j) % 3, lambda o: round(o.i / o.j) % 3),
        "(i // j) // 2 % 3": ((i // j) // 2 % 3, lambda o: (o.i // o.j) // 2 % 3),
        "(i // 2) / 2": ((i // 2) / 2, lambda o: (o.i // 2) / 2),
    }
    assert mismatches(Thing, trees) == []


def test_dividing_by_zero(db):
    """Dividing by zero is an error on PostgreSQL and NULL on SQLite, whatever the numbers."""

    class Number(db.Entity):
        i = Required(int)
        f = Required(float)
        d = Required(Decimal)

    db.generate_mapping(create_tables=True)
    with db_session:
        Number(i=0, f=0.0, d=Decimal(0))
    for attribute in (Number.i, Number.f, Number.d):
        for name in ("/", "//", "%"):
            with db_session:
                node = Operation(name, 1, attribute)
                if db.backend.dialect.name == "sqlite":
                    assert results(Number, node) == [None]
                else:
                    with pytest.raises(DatabaseError, match="division by zero"):
                        results(Number, node)


def test_decimals_are_exact(db):
    """Sums, products and remainders of long Decimals keep every digit."""

    class Long(db.Entity):
        a = Required(Decimal, 60, 20)
        b = Optional(Decimal, 60, 20)

    db.generate_mapping(create_tables=True)
    a, b = Decimal("123456789012345678901234567890.12345678901234567890"), Decimal("-0.00000000000000000007")
    with db_session:
        Long(a=a, b=b)
    with db_session:
        for name in ("+", "-"):
            (found,) = results(Long, Operation(name, Long.a, Long.b))
            assert found == Decimal(str(found))
            assert found - Decimal("123456789012345678901234567890.1234567890") != 0
        assert results(Long, Long.a + Long.b) == [Decimal("123456789012345678901234567890.12345678901234567883")]
        assert results(Long, Long.b * 3) == [Decimal("-0.00000000000000000021")]
        assert results(Long, abs(Long.b)) == [-b]
        assert results(Long, Long.a % 1) == [Decimal("0.12345678901234567890")]
        assert results(Long, Long.a // 1) == [Decimal(123456789012345678901234567890)]
        assert Long.select(Long.a + Long.b < Long.a).count() == 1
        assert Long.select(Long.a - Long.b > a).count() == 1


def test_bools_as_numbers(Thing):
    """int() and float() of a bool or a condition are 1 and 0."""
    cases = {
        "int(b)": (Operation("int", Thing.b), lambda thing: None if thing.b is None else int(thing.b)),
        "int(j > 2) + 1": (Operation("int", Thing.j > 2) + 1, lambda thing: int(thing.j > 2) + 1),
        "float(c)": (Operation("float", Thing.c), lambda thing: float(thing.c)),
    }
    assert mismatches(Thing, cases) == []


def test_conversions(Thing):
    """int() cuts towards zero, float() makes floats, str() writes as Python does."""
    cases = {}
    for each in NUMBERS:
        attribute = getattr(Thing, each)
        if each != "e":  # one of them is beyond 64 bits
            cases[f"int({each})"] = Operation("int", attribute), lambda thing, each=each: int(getattr(thing, each))
        cases[f"float({each})"] = Operation("float", attribute), lambda thing, each=each: float(getattr(thing, each))
        if each not in "fg":
            text = lambda thing, each=each: None if getattr(thing, each) is None else str(getattr(thing, each))
            cases[f"str({each})"] = Operation("str", attribute), text
    cases["int(str(j)) + 1"] = Operation("int", Operation("str", Thing.j)) + 1, lambda thing: thing.j + 1
    cases["float(str(e))"] = Operation("float", Operation("str", Thing.e)), lambda thing: float(thing.e)
    cases["str(b)"] = Operation("str", Thing.b), lambda thing: None if thing.b is None else str(thing.b)
    cases["str(c)"] = Operation("str", Thing.c), lambda thing: str(thing.c)
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", ["int", "float"])
def test_a_text_that_is_no_number(Thing, name):
    """int() or float() of such a text is an error, as in Python."""
    with db_session, pytest.raises(DatabaseError):
        results(Thing, Operation(name, Thing.u))
