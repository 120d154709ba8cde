"""Comparisons: of kinds with each other as Python compares them, of objects by their keys, of NULL with nothing."""

from __future__ import annotations

import operator
from datetime import date
from decimal import Decimal
from enum import Enum, IntEnum

import pytest

from dbsession import Optional, PrimaryKey, Required, Set, db_session
from dbsession.model.expressions import Operation, plain_expression
from dbsession.query.tree import Path, Slot, Variable
from tests.query.operating import declare, mismatches, results, sql_of

COMPARISONS = {
    "=": operator.eq,
    "<>": operator.ne,
    "<": operator.lt,
    "<=": operator.le,
    ">": operator.gt,
    ">=": operator.ge,
}
NUMBERS = ["i", "j", "small", "f", "g", "d", "e"]
VALUES = [2, 2.5, Decimal("2.5"), 0, -7, 2**70, -(2**70), Decimal("99999999999999999999.5")]


@pytest.fixture
def Thing(db):
    """Things of every kind."""
    return declare(db)


def compared(apply, left, right):
    """Compare as SQL does: with None it is unknown."""
    return None if left is None or right is None else apply(left, right)


@pytest.mark.parametrize("name", COMPARISONS)
def test_numbers(Thing, name):
    """Numbers of every kind compare with each other and with values, exactly, from either side; and their opposite."""
    apply = COMPARISONS[name]
    cases = {}
    for left in NUMBERS:
        for right in NUMBERS:
            pair = lambda o, left=left, right=right: compared(apply, getattr(o, left), getattr(o, right))
            if {left, right} & {"d", "e"} and {left, right} & {"f", "g"}:
                continue
            cases[f"{left} {name} {right}"] = Operation(name, getattr(Thing, left), getattr(Thing, right)), pair
            opposite = lambda o, pair=pair: None if pair(o) is None else not pair(o)
            cases[f"not {left} {name} {right}"] = (
                ~Operation(name, getattr(Thing, left), getattr(Thing, right)),
                opposite,
            )
        for value in VALUES:
            beside = lambda o, left=left, value=value: compared(apply, getattr(o, left), value)
            turned = lambda o, left=left, value=value: compared(apply, value, getattr(o, left))
            cases[f"{left} {name} {value!r}"] = Operation(name, getattr(Thing, left), value), beside
            cases[f"{value!r} {name} {left}"] = Operation(name, value, getattr(Thing, left)), turned
            cases[f"{left} {name} slot {value!r}"] = (
                Operation(name, getattr(Thing, left), Slot(0, value)),
                beside,
                value,
            )
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", COMPARISONS)
def test_decimals_and_floats(Thing, name):
    """A Decimal compares with a float, though it cannot be added to one."""
    apply = COMPARISONS[name]
    with db_session:
        Thing.select(Thing.i > 10**9).delete()  # more digits than a float has
    pairs = [("d", "f"), ("f", "d"), ("e", "g"), ("g", "e")]
    cases = {
        f"{left} {name} {right}": (
            Operation(name, getattr(Thing, left), getattr(Thing, right)),
            lambda o, left=left, right=right: compared(apply, getattr(o, left), getattr(o, right)),
        )
        for left, right in pairs
    }
    assert mismatches(Thing, cases) == []


@pytest.mark.parametrize("name", COMPARISONS)
def test_computed_values(Thing, name):
    """What is computed compares like what is stored."""
    apply = COMPARISONS[name]
    cases = {}
    with db_session:
        Thing.select(Thing.i > 10**9).delete()
    for value in (2, 3.5, Decimal("3.5")):
        for each in NUMBERS:
            if each in "de" and isinstance(value, float):
                continue
            wanted = lambda o, each=each, value=value: compared(
                apply, None if getattr(o, each) is None else getattr(o, each) + 1, value
            )
            cases[f"{each} + 1 {name} {value!r}"] = Operation(name, getattr(Thing, each) + 1, value), wanted
            cases[f"{each} + 1 {name} slot"] = Operation(name, getattr(Thing, each) + 1, Slot(0, value)), wanted, value
    cases[f"d * 2 {name} i + 1"] = (
        Operation(name, Thing.d * 2, Thing.i + 1),
        lambda o: compared(apply, None if o.d is None else o.d * 2, None if o.i is None else o.i + 1),
    )
    cases[f"i + 1 {name} d"] = (
        Operation(name, Thing.i + 1, Thing.d),
        lambda o: compared(apply, None if o.i is None else o.i + 1, o.d),
    )
    cases[f"len(t) {name} j"] = (
        Operation(name, Operation("len", Thing.t), Thing.j),
        lambda o: compared(apply, None if o.t is None else len(o.t), o.j),
    )
    assert mismatches(Thing, cases) == []


def test_bools(Thing):
    """A bool, and a condition, compare with bools; False is less than True."""
    cases = {}
    for name, apply in COMPARISONS.items():
        cases[f"b {name} c"] = Operation(name, Thing.b, Thing.c), lambda o, apply=apply: compared(apply, o.b, o.c)
        for value in (True, False):
            cases[f"b {name} {value}"] = (
                Operation(name, Thing.b, value),
                lambda o, apply=apply, value=value: compared(apply, o.b, value),
            )
            cases[f"(j > 2) {name} {value}"] = (
                Operation(name, Thing.j > 2, value),
                lambda o, apply=apply, value=value: apply(o.j > 2, value),
            )
            cases[f"{value} {name} slot c"] = (
                Operation(name, Slot(0, value), Thing.c),
                lambda o, apply=apply, value=value: apply(value, o.c),
                value,
            )
        cases[f"(j > 2) {name} c"] = Operation(name, Thing.j > 2, Thing.c), lambda o, apply=apply: apply(o.j > 2, o.c)
        cases[f"(j > 2) {name} (g > 1)"] = (
            Operation(name, Thing.j > 2, Thing.g > 1),
            lambda o, apply=apply: apply(o.j > 2, o.g > 1),
        )
    assert mismatches(Thing, cases) == []


def test_null(Thing):
    """None is NULL: IS NULL for = and <>, whichever side it stands on; isnull(), and its opposite."""
    cases = {}
    for each in ("i", "j", "t", "b", "d", "owner"):
        attribute = getattr(Thing, each)
        is_null = lambda o, each=each: getattr(o, each) is None
        is_there = lambda o, each=each: getattr(o, each) is not None
        cases[f"{each} == None"] = attribute == None, is_null  # noqa: E711
        cases[f"None == {each}"] = Operation("=", None, attribute), is_null
        cases[f"{each} == slot"] = Operation("=", attribute, Slot(0, None)), is_null, None
        cases[f"slot != {each}"] = Operation("<>", Slot(0, None), attribute), is_there, None
        cases[f"not {each} == None"] = ~(attribute == None), is_there  # noqa: E711
        cases[f"isnull({each})"] = Operation("isnull", attribute), is_null
        cases[f"not isnull({each})"] = ~Operation("isnull", attribute), is_there
        cases[f"{each}.is_null()"] = attribute.is_null(), is_null
        cases[f"{each}.is_not_null()"] = attribute.is_not_null(), is_there
    cases["None == None"] = Operation("=", None, None), lambda _: True
    cases["None != None"] = Operation("<>", Slot(0, None), None), lambda _: False, None
    cases["i + j == None"] = Thing.i + 1 == None, lambda o: o.i is None  # noqa: E711
    cases["(i > 1) == None"] = (Thing.i > 1) == None, lambda o: o.i is None  # noqa: E711
    assert mismatches(Thing, cases) == []


def test_between(Thing):
    """between() includes both ends; its opposite leaves both out."""

    def inside(value, low, high):
        """Return what SQL makes of ``low <= value and value <= high``."""
        ends = compared(operator.le, low, value), compared(operator.le, value, high)
        return False if False in ends else None if None in ends else True

    cases = {}
    for each in NUMBERS:
        wanted = lambda o, each=each: inside(getattr(o, each), -7, 9)
        cases[f"{each} between"] = getattr(Thing, each).between(-7, 9), wanted
        cases[f"{each} not between"] = (
            ~getattr(Thing, each).between(-7, 9),
            lambda o, wanted=wanted: None if wanted(o) is None else not wanted(o),
        )
        cases[f"{each} between slots"] = (
            Operation("between", getattr(Thing, each), Slot(0, 1), Slot(1, 2)),
            wanted,
            -7,
            9,
        )
    cases["i between small and j"] = Thing.i.between(Thing.small, Thing.j), lambda o: inside(o.i, o.small, o.j)
    cases["d between i and 9.5"] = Thing.d.between(Thing.i, 9.5), lambda o: inside(o.d, o.i, 9.5)
    cases["5 between small and j"] = Operation("between", 5, Thing.small, Thing.j), lambda o: inside(5, o.small, o.j)
    assert mismatches(Thing, cases) == []


# --- Enums ----------------------------------------------------------------------------------------------------


class Colour(Enum):
    RED = "r"
    BLUE = "b"


class Level(IntEnum):
    LOW = 1
    HIGH = 10


def test_enums(db):
    """Members of an Enum compare with members, also computed ones, and come back as members."""

    class Car(db.Entity):
        colour = Optional(Colour)
        second = Optional(Colour)
        level = Required(Level)

    db.generate_mapping(create_tables=True)
    with db_session:
        Car(colour=Colour.RED, level=Level.LOW), Car(second=Colour.BLUE, level=Level.HIGH)
        Car(colour=Colour.BLUE, second=Colour.BLUE, level=Level.HIGH)
    either = Operation("coalesce", Car.colour, Car.second)
    cases = {
        "=": (Car.colour == Car.second, lambda car: compared(operator.eq, car.colour, car.second)),
        "slot": (
            Car.colour == Slot(0, Colour.RED),
            lambda car: compared(operator.eq, car.colour, Colour.BLUE),
            Colour.BLUE,
        ),
        "coalesce": (either, lambda car: car.colour or car.second),
        "coalesce = member": (either == Colour.BLUE, lambda car: (car.colour or car.second) is Colour.BLUE),
        "if": (
            Operation("if", Car.level > 5, Car.colour, Colour.RED),
            lambda car: car.colour if car.level > 5 else Colour.RED,
        ),
        "coalesce of an IntEnum": (Operation("coalesce", Car.level, Level.LOW), lambda car: car.level),
        "if of an IntEnum": (Operation("if", Car.level > 5, Car.level, 1), lambda car: int(car.level)),
        "level + 1": (Car.level + 1, lambda car: car.level + 1),
    }
    cases["in"] = (
        Operation("in", Car.colour, Slot(0, [Colour.BLUE])),
        lambda car: None if car.colour is None else car.colour is Colour.RED,
        [Colour.RED],
    )
    assert mismatches(Car, cases) == []
    with db_session:
        with pytest.raises(TypeError, match=r"Car\.colour is a Colour, and Car\.level is a Level"):
            results(Car, Car.colour == Car.level)
        with pytest.raises(TypeError, match=r"Car\.colour .*Level\.LOW"):
            results(Car, Car.colour == Level.LOW)


# --- objects --------------------------------------------------------------------------------------------------


@pytest.fixture
def town(db):
    """Houses with a key of two parts, people in them, and letters from person to person."""

    class House(db.Entity):
        street = Required(str)
        number = Required(int)
        PrimaryKey(street, number)
        people = Set("Person", reverse="home")
        guests = Set("Person", reverse="visits")

    class Person(db.Entity):
        name = Required(str)
        home = Optional(House)
        visits = Optional(House)
        sent = Set("Letter", reverse="sender")
        got = Set("Letter", reverse="receiver")

    class Letter(db.Entity):
        sender = Required(Person)
        receiver = Optional(Person)
        day = Optional(date)

    db.generate_mapping(create_tables=True)
    with db_session:
        one, two = House(street="a", number=1), House(street="a", number=2)
        ann, bob = Person(name="Ann", home=one, visits=two), Person(name="Bob", home=two, visits=two)
        cid = Person(name="Cid", visits=one)
        Letter(sender=ann, receiver=bob), Letter(sender=bob, receiver=bob), Letter(sender=cid)
    return House, Person, Letter


def test_objects(town):
    """An object compares with an object by its key: references, values from outside, keys; NULL with nothing."""
    _, Person, Letter = town
    with db_session:
        bob = Person.get(name="Bob")
        same = lambda letter: compared(operator.eq, letter.receiver, bob)
        cases = {
            "receiver == bob": (Letter.receiver == bob, same),
            "bob == receiver": (Operation("=", bob, Letter.receiver), same),
            "receiver == slot": (Operation("=", Letter.receiver, Slot(0, bob)), same, bob),
            "receiver == key": (Letter.receiver == bob.id, same),
            "receiver == slot key": (Operation("=", Letter.receiver, Slot(0, 1)), same, bob.id),
            "receiver != bob": (Letter.receiver != bob, lambda letter: compared(operator.ne, letter.receiver, bob)),
            "sender == receiver": (
                Letter.sender == Letter.receiver,
                lambda letter: compared(operator.eq, letter.sender, letter.receiver),
            ),
            "receiver in slot": (Operation("in", Letter.receiver, Slot(0, [bob])), same, [bob]),
            "not receiver in slot": (
                ~Operation("in", Letter.receiver, Slot(0, [bob])),
                lambda letter: compared(operator.ne, letter.receiver, bob),
                [bob],
            ),
            "bob in (sender, receiver)": (
                Operation("in", bob, (plain_expression(Letter.sender), plain_expression(Letter.receiver))),
                lambda letter: (
                    True if bob in (letter.sender, letter.receiver) else None if letter.receiver is None else False
                ),
            ),
            "receiver in (bob, None)": (
                Operation("in", Letter.receiver, (bob, None)),
                lambda letter: letter.receiver in (bob, None),
            ),
            "coalesce(receiver, sender) == bob": (
                Operation("coalesce", Letter.receiver, Letter.sender) == bob,
                lambda letter: (letter.receiver or letter.sender) is bob,
            ),
            "(sender if day else receiver) == slot": (
                Operation("=", Operation("if", Letter.day == None, Letter.sender, Letter.receiver), Slot(0, bob)),  # noqa: E711
                lambda letter: letter.sender is bob,
                bob,
            ),
        }
        assert mismatches(Letter, cases) == []
        with pytest.raises(TypeError, match="are objects, which have no order"):
            results(Letter, Letter.sender < Letter.receiver)
        with pytest.raises(TypeError, match="are objects, which have no order"):
            results(Letter, Letter.sender < bob)


def test_objects_with_keys_of_several_parts(town):
    """All parts of a key count: for one object to be another, to be among others, to be none."""
    House, Person, _ = town
    with db_session:
        one, two = House["a", 1], House["a", 2]
        is_one = lambda person: compared(operator.eq, person.home, one)
        cases = {
            "home == one": (Person.home == one, is_one),
            "home == slot": (Operation("=", Person.home, Slot(0, two)), is_one, one),
            "home == key": (Person.home == ("a", 1), is_one),
            "home == slot key": (Operation("=", Person.home, Slot(0, ("a", 2))), is_one, ("a", 1)),
            "home != one": (Person.home != one, lambda person: compared(operator.ne, person.home, one)),
            "not home == one": (~(Person.home == one), lambda person: compared(operator.ne, person.home, one)),
            "home == visits": (
                Person.home == Person.visits,
                lambda person: compared(operator.eq, person.home, person.visits),
            ),
            "home in (one,)": (Operation("in", Person.home, (one,)), is_one),
            "home in slot": (
                Operation("in", Person.home, Slot(0, [two, two])),
                lambda p: compared(operator.contains, [one, two], p.home),
                [one, two],
            ),
            "home in slot of keys": (Operation("in", Person.home, Slot(0, [("a", 1)])), is_one, [("a", 1)]),
            "home not in (one, None)": (
                ~Operation("in", Person.home, (one, None)),
                lambda person: person.home not in (one, None),
            ),
            "home in (visits, slot)": (
                Operation("in", Person.home, (plain_expression(Person.visits), Slot(0, one))),
                lambda person: None if person.home is None else person.home in (person.visits, one),
                one,
            ),
            "home is None": (Person.home == None, lambda person: person.home is None),  # noqa: E711
        }
        assert mismatches(Person, cases) == []
        with pytest.raises(TypeError, match=r"Person\.home has a key of several parts, which < cannot compare"):
            results(Person, Person.home < one)
        with pytest.raises(TypeError, match="has a key of 2 columns; it can be compared, and nothing else"):
            results(Person, Operation("coalesce", Person.home, Person.visits) == one)


@pytest.mark.parametrize("count", [3, 150, 1500])
def test_many_objects(town, count):
    """Any number of objects, or of keys of several parts, in one `in`."""
    House, Person, Letter = town
    with db_session:
        for number in range(3, count):
            House(street="b", number=number)
        keys = [("a", 1), *[("b", number) for number in range(3, count)]]
        assert [p.name for p in Person.select(Person.home.in_(keys))] == ["Ann"]
        assert [p.name for p in Person.select(Person.home.not_in(keys))] == ["Bob"]
        houses = House.select(House.street == "b").fetch()
        found = Person.select(Person.visits.in_([*houses, House["a", 1], None])).fetch()
        assert [person.name for person in found] == ["Cid"]
        people = [Person.get(name="Bob").id, *range(1000, 1000 + count)]
        assert Letter.select(Letter.receiver.in_(people)).count() == 2
        assert Letter.select(Operation("in", Letter.receiver, tuple(Person.select()))).count() == 2
        unsaved = Person(name="Dan")
        assert Letter.select(Operation("in", Letter.receiver, (unsaved, *Person.select()))).count() == 2


def test_variables_and_paths(town):
    """A variable is its object, a path leads to one: both compare by key, without a join for the key alone."""
    _, Person, Letter = town
    letter = Variable(Letter._mapping_, "letter")
    with db_session:
        bob = Person.get(name="Bob")
        query = Letter.select()
        assert [each.id for each in query.filter(Operation("=", Letter.receiver.name, "Bob"))] == [1, 2]
        home = Letter.receiver.home
        assert query.filter(Operation("=", home, bob.home)).count() == 2
        assert query.filter(Operation("=", home, Letter.sender.home)).count() == 1
        assert query.filter(Operation("=", home, None)).count() == 1
        assert "JOIN" not in query.filter(Operation("=", Letter.receiver.id, bob.id)).get_sql()
        with pytest.raises(TypeError, match="are objects of different entities, a House and a Person"):
            query.filter(Operation("=", home, bob)).fetch()
    assert repr(Path(letter, Letter.sender)) == "letter.sender"


def test_conditions_are_written_shortly(Thing):
    """NOT goes into what it negates; what both databases know needs no function."""
    with db_session:
        end = lambda node: sql_of(Thing, node)[len("SELECT ") :].partition(" FROM")[0].replace("%s", "?")
        assert end(~(Thing.j > 1)) == '"j" <= ?'
        assert end(~(Thing.j == None)) == '"j" IS NOT NULL'  # noqa: E711
        assert end(~Thing.j.in_([1, 2])) == '"j" NOT IN (?, ?)'
        assert end(~Thing.j.between(1, 2)) == '"j" NOT BETWEEN ? AND ?'
        assert end(~~(Thing.j > 1)) == '"j" > ?'
        assert end(~((Thing.j > 1) & Thing.c)) == 'NOT ("j" > ? AND "c")'
        assert end(~Thing.c) == 'NOT "c"'
