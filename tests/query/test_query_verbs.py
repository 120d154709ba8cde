"""The verbs of a query: order by place, pages, chance, duplicates, aggregates, and the table that show() prints."""

from __future__ import annotations

from datetime import date
from decimal import Decimal

import pytest

from dbsession import (
    Database,
    NoScopeError,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Query,
    Required,
    Set,
    db_session,
    desc,
    flush,
    select,
)
from dbsession.model.expressions import Operation
from dbsession.query.selected import For, Selected
from dbsession.query.tree import Path, Variable
from tests.counting import counted


@pytest.fixture
def w(db):
    """Five people in two houses, with cars of two of them; one person has neither age nor house."""

    class House(db.Entity):
        street = Required(str)
        number = Required(int)
        PrimaryKey(street, number)
        people = Set("Person")

    class Person(db.Entity):
        name = Required(str)
        age = Optional(int)
        wage = Required(Decimal, 8, 2)
        born = Optional(date)
        bio = Optional(str, lazy=True)
        house = Optional(House)
        cars = Set("Car")

    class Car(db.Entity):
        seats = Required(int)
        owner = Required(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        high, low = House(street="High", number=1), House(street="High", number=2)
        for name, age, wage, house in (
            ("Ann", 30, "10.50", low),
            ("Bob", 20, "20.00", high),
            ("Cid", 40, "5.25", low),
            ("Dot", None, "1.00", None),
            ("Eve", 20, "0.10", high),
        ):
            Person(name=name, age=age, wage=Decimal(wage), house=house, born=date(2000, 1, age) if age == 20 else None)
            flush()  # keys in the order of the lines
        for seats, owner in ((4, 1), (5, 1), (2, 3)):
            Car(seats=seats, owner=owner)
    return db


@pytest.fixture
def Person(w):
    """The class of the five."""
    return w.entities["Person"]


def query(db, fors, result):
    """Return the query for *result* over *fors*, as a generator expression would give it."""
    return Query(Selected(tuple(fors), result), db.entities["Person"]._mapping_.gateway)


def values(Person, *names):
    """Return the query for attributes of people: one value, or tuples of several."""
    person = Variable(Person._mapping_, "p")
    found = tuple(Path(person, getattr(Person, name)) if name else person for name in names)
    return query(Person._mapping_.catalog, [For(person)], found if len(found) > 1 else found[0])


def owners(Person):
    """Return the query for people, one loop over them and one over their cars."""
    person, Car = Variable(Person._mapping_, "p"), Person._mapping_.catalog.entities["Car"]
    car = Variable(Car._mapping_, "c")
    return query(Person._mapping_.catalog, [For(person), For(car, Path(person, Person.cars))], person)


def names(objects):
    """Return the names in their order."""
    return [obj.name for obj in objects]


# --- order ----------------------------------------------------------------------------------------------


def test_order_by_place(Person):
    """A number is a place in the result, from 1 on; a negative one turns the order round."""
    rows = values(Person, "age", "name")
    with db_session:
        rows = rows.filter(Person.age > 0)
        assert rows.order_by(2).fetch() == [(30, "Ann"), (20, "Bob"), (40, "Cid"), (20, "Eve")]
        assert rows.order_by(-2)[:2] == [(20, "Eve"), (40, "Cid")]
        assert rows.order_by(1, -2).fetch() == [(20, "Eve"), (20, "Bob"), (30, "Ann"), (40, "Cid")]
        assert values(Person, "name").order_by(-1).first() == "Eve"


def test_the_place_of_an_object_is_that_of_its_key(Person, w):
    """Objects are ordered by all parts of their key."""
    House = w.entities["House"]
    with db_session:
        assert names(Person.select().order_by(-1)) == ["Eve", "Dot", "Cid", "Bob", "Ann"]
        assert [house.number for house in House.select().order_by(-1)] == [2, 1]
        assert [row[1].name for row in values(Person, "age", "").filter(Person.age > 0).order_by(1, -2)] == [
            *("Eve", "Bob", "Ann", "Cid")
        ]


def test_order_by_name_and_none(Person):
    """A text is the name of an attribute; None takes the order away."""
    with db_session:
        assert names(Person.select().order_by("name").limit(2)) == ["Ann", "Bob"]
        assert names(Person.select().order_by("age", desc(Person.name)).filter(Person.age < 40)) == [
            "Eve",
            "Bob",
            "Ann",
        ]
    ordered = Person.select().order_by(Person.name)
    assert "ORDER BY" in ordered.get_sql() and "ORDER BY" not in ordered.order_by(None).get_sql()
    assert "ORDER BY" not in ordered.order_by().get_sql()


@pytest.mark.parametrize(
    "wrong, message",
    [
        (0, r"order_by\(0\): the result has 1 item; 1, or -1, is a place"),
        (2, r"order_by\(2\): the result has 1 item; 1, or -1, is a place"),
        (True, "order_by.* takes attributes such as User.name"),
        (1.5, "order_by.* takes attributes such as User.name"),
        ("nam", "has no attribute 'nam' to compare; did you mean 'name'"),
    ],
)
def test_wrong_orders(Person, wrong, message):
    """What is nothing to order by is told at once."""
    with pytest.raises(TypeError, match=message):
        Person.select().order_by(wrong)
    with pytest.raises(TypeError, match=r"order_by\(None\) takes the order away, and stands alone"):
        Person.select().order_by(None, Person.name)
    with pytest.raises(TypeError, match=r"order_by\(3\): the result has 2 items; 1 to 2, or -1 to -2 is a place"):
        values(Person, "name", "age").order_by(3)


def test_first_without_an_order(Person):
    """first() goes by the key of objects, and by the items of tuples in their order."""
    with db_session:
        assert Person.select().first().name == "Ann"
        assert values(Person, "name", "age").first() == ("Ann", 30)
        assert values(Person, "wage").first() == Decimal("0.10")
        assert values(Person, "name", "age").order_by(-1).first() == ("Eve", 20)
        assert values(Person, "name").filter(name="x").first() is None


# --- pages and chance --------------------------------------------------------------------------------------


def test_pages(Person, w):
    """Pages are counted from 1; what is behind the last one is empty."""
    ordered = Person.select().order_by(Person.name)
    with db_session:
        assert names(ordered.page(1, 2)) == ["Ann", "Bob"]
        assert names(ordered.page(3, pagesize=2)) == ["Eve"]
        assert ordered.page(4, 2).fetch() == [] and names(ordered.page(1)) == ["Ann", "Bob", "Cid", "Dot", "Eve"]
        with counted(w) as sent:
            page = ordered.page(2, 2)
            assert sent.statements == 0
            assert (page.count(), page.exists(), names(page)) == (2, True, ["Cid", "Dot"])


@pytest.mark.parametrize(
    "given, error, message",
    [
        ((0,), ValueError, r"page\(\): number is counted from 1, and cannot be 0"),
        ((1, 0), ValueError, r"page\(\): pagesize is counted from 1, and cannot be 0"),
        (("1",), TypeError, r"page\(\): number is a whole number, not '1'"),
        ((1, 2.0), TypeError, r"page\(\): pagesize is a whole number, not 2.0"),
        ((True,), TypeError, r"page\(\): number is a whole number, not True"),
    ],
)
def test_wrong_pages(Person, given, error, message):
    """A page that there cannot be is told at once."""
    with pytest.raises(error, match=message):
        Person.select().page(*given)


def test_random(Person, w):
    """random() gives so many different results in one statement, not the same ones each time."""
    with db_session:
        with counted(w) as sent:
            found = Person.select(Person.age > 0).random(3)
        assert sent.statements == 1
        assert len(set(found)) == 3 and {person.name for person in found} <= {"Ann", "Bob", "Cid", "Eve"}
        assert len({tuple(names(Person.select().random(5))) for _ in range(50)}) > 1
        assert len(Person.select().random(77)) == 5 and Person.select().random(0) == []
        assert set(values(Person, "name").order_by(1).random(5)) == {"Ann", "Bob", "Cid", "Dot", "Eve"}
        (person,) = Person.select(name="Ann").prefetch(Person.house).random(1)
    assert person.house.street == "High"


def test_random_of_what_is_chosen_already(Person):
    """Behind a limit, or of distinct values, the database would choose from something else: an error."""
    with pytest.raises(TypeError, match=r"random\(\) behind limit\(\) would not choose from its results"):
        Person.select().limit(3).random(1)
    with pytest.raises(TypeError, match=r"random\(\) behind distinct\(\) would not choose from its results"):
        values(Person, "age").distinct().random(1)


# --- duplicates ---------------------------------------------------------------------------------------------


def test_distinct_values(Person):
    """Values come as often as there are objects; distinct() lets each come once, NULL too."""
    ages = values(Person, "age")
    with db_session:
        assert sorted(ages.filter(Person.age > 0)) == [20, 20, 30, 40]
        assert sorted(ages.distinct().filter(Person.age > 0)) == [20, 30, 40]
        assert ages.distinct().count() == 4 and ages.distinct().without_distinct().count() == 5
        assert ages.distinct().order_by(-1)[0:4].count(None) == 1


def test_distinct_objects(Person):
    """Several loops give each object once; without_distinct() one for each way to it."""
    with db_session:
        assert sorted(names(owners(Person))) == ["Ann", "Cid"]
        assert sorted(names(owners(Person).without_distinct())) == ["Ann", "Ann", "Cid"]
        assert sorted(names(owners(Person).without_distinct().distinct())) == ["Ann", "Cid"]
        assert owners(Person).without_distinct().count() == 3
    assert "DISTINCT" not in owners(Person).distinct().get_sql()
    assert Person.select().distinct().get_sql() == Person.select().get_sql()


def test_distinct_values_have_no_other_order(Person, w):
    """What comes once is ordered by what it consists of: of all else each may have several. On every database."""
    found = select((p.age, p.wage * 2) for p in Person if p.age > 0).distinct()
    with db_session:
        assert [age for age, _ in found.order_by(-1, 2)] == [40, 30, 20, 20]
        assert [age for age, _ in found.order_by(2).order_by(Person.age, -2)] == [20, 20, 30, 40]
        with (
            counted(w) as sent,
            pytest.raises(TypeError, match=r"that come once cannot be ordered by .*name.* distinct"),
        ):
            found.order_by(Person.name).fetch()
        assert sent.statements == 0


def test_locks_are_of_objects(Person):
    """93. Only objects have rows to lock."""
    with pytest.raises(TypeError, match=r"for_update\(\) locks the rows of objects, and this query gives p.age"):
        select(p.age for p in Person).for_update()


# --- aggregates ---------------------------------------------------------------------------------------------


def test_aggregates_of_objects(Person, w):
    """116. Aggregates of an attribute or an expression are asked of the database, in one statement each."""
    people = Person.select()
    with db_session:
        with counted(w) as sent:
            assert (people.sum(Person.age), people.min(Person.age), people.max(Person.age)) == (110, 20, 40)
            assert people.avg(Person.age) == 27.5 and type(people.avg(Person.age)) is float
            assert (people.sum(Person.wage), people.max(Person.wage)) == (Decimal("36.85"), Decimal("20.00"))
            assert (people.min(Person.name), people.max(Person.born)) == ("Ann", date(2000, 1, 20))
        assert sent.statements == 9
        assert people.filter(Person.age > 20).sum(Person.age * 2 + 1) == 142
        assert (people.max("age"), people.filter(age=20).sum("age")) == (40, 40)
        assert people.group_concat(expression=Person.name) is not None


def test_aggregates_of_what_a_lambda_gives(Person, w):
    """A lambda says of what an aggregate is, as in filter(), references and values from outside included."""
    plus, people = 3, Person.select(Person.age > 1)
    with db_session:
        assert people.max(lambda p: p.age + plus) == 43
        plus = 4
        assert people.filter(lambda p: p.age > plus).max(lambda p: p.age + plus) == 44
        assert people.sum(lambda p: p.house.number, distinct=True) == 3
        assert select(c.owner for c in w.entities["Car"]).filter(lambda o: o.age < 40).sum(lambda o: o.age) == 60
        for wrong in (lambda p: (p.age, p.name), lambda p: desc(p.age)):
            with pytest.raises(TypeError, match=r"max\(\) takes a lambda that gives one value"):
                people.max(wrong)


def test_aggregates_of_values(Person):
    """Aggregates of a query for values need no more; those that are NULL are left out."""
    with db_session:
        ages = values(Person, "age")
        assert (ages.sum(), ages.min(), ages.max(), ages.avg(), ages.count()) == (110, 20, 40, 27.5, 5)
        assert (ages.sum(distinct=True), ages.distinct().sum(), ages.avg(distinct=True)) == (90, 90, 30.0)
        assert values(Person, "wage").sum() == Decimal("36.85")


def test_aggregates_of_nothing(Person):
    """The sum of nothing is 0, all else None."""
    none = Person.select(name="x")
    with db_session:
        assert none.sum(Person.age) == 0 and none.sum(Person.wage) == 0
        assert [none.min(Person.age), none.max(Person.name), none.avg(Person.age)] == [None] * 3
        assert none.group_concat(expression=Person.name) is None


def test_group_concat(Person):
    """group_concat() puts texts together in the order of the query."""
    found = values(Person, "name").order_by(-1)
    with db_session:
        assert found.group_concat() == "Eve,Dot,Cid,Bob,Ann"
        assert found.group_concat("") == "EveDotCidBobAnn" and found.group_concat(sep="'; --") is not None
        assert sorted(values(Person, "age").group_concat(";", distinct=True).split(";")) == ["20", "30", "40"]
        assert Person.select(age=20).order_by(Person.name).group_concat("/", expression=Person.name) == "Bob/Eve"


def test_aggregates_of_a_part(Person):
    """Behind a limit, the aggregate is that of the results that are left."""
    with db_session:
        assert Person.select().order_by(Person.wage).limit(2).sum(Person.wage) == Decimal("1.10")
        assert values(Person, "name").order_by(1).limit(2, offset=1).max() == "Cid"
        assert Person.select().order_by(Person.name).page(2, 2).group_concat("", expression=Person.name) == "CidDot"
        assert Person.select().for_update().prefetch(Person.house).max(Person.age) == 40


def test_aggregates_over_several_loops(Person, w):
    """Each object counts once, or, without_distinct(), once for each way to it; its own attributes are meant."""
    with db_session:
        assert owners(Person).sum(Person.age) == 70
        assert owners(Person).without_distinct().sum(Person.age) == 100
        assert owners(Person).max(Person.name) == "Cid"
    Car = w.entities["Car"]
    person, car = Variable(Person._mapping_, "p"), Variable(Car._mapping_, "c")
    cars = query(w, [For(person), For(car, Path(person, Person.cars))], car)
    with db_session:
        assert (cars.sum(Car.seats), cars.max(Car.seats), cars.filter(Car.seats > 2).sum("seats")) == (11, 5, 9)
        with pytest.raises(TypeError, match=r"Person.age is no attribute of Car, whose objects are queried"):
            cars.max(Person.age)
        assert select(c.owner for c in Car).max(Person.wage * 2) == 21
        with pytest.raises(TypeError, match=r"Car.seats is no attribute of Person, whose objects"):
            select(c.owner for c in Car).max(Car.seats)


def test_bare_attributes_beside_loops(Person, w):
    """Attributes of the class mean those of the objects that the query gives, or else of its first loop."""
    Car = w.entities["Car"]
    with db_session:
        seats = select(c.seats for p in Person for c in p.cars)
        assert sorted(seats.filter(Person.age < 40)) == [4, 5]
        assert seats.order_by(Person.name, -1).fetch() == [5, 4, 2]
        pairs = select(c.seats for p in Person for c in Car if c.owner == p or p.age > 35)
        assert sorted(pairs.filter(Person.age < 40)) == [4, 5]
        assert owners(Person).filter(Person.age > 30).order_by(Person.name).group_concat(expression="name") == "Cid"


WRONG = [
    (lambda P: P.select().sum(), r"sum\(\) of objects: say of what, for instance query.sum\(Person.age\)"),
    (lambda P: P.select().max(), r"max\(\) of objects: say of what"),
    (lambda P: values(P, "name", "age").min(), r"min\(\) of tuples: select the one value"),
    (lambda P: values(P, "age").sum(P.wage), r"sum\(Person.wage\): the query gives values of its own"),
    (lambda P: P.select().avg(3), r"avg\(\) takes an attribute or an expression such as User.age, not 3"),
    (lambda P: P.select().max("agee"), r"Person has no attribute 'agee' to compare; did you mean 'age'"),
]


@pytest.mark.parametrize("wrong, message", WRONG, ids=[row[1][:20] for row in WRONG])
def test_wrong_aggregates(Person, w, wrong, message):
    """What an aggregate cannot be of is told before anything is sent."""
    with db_session, counted(w) as sent, pytest.raises(TypeError, match=message):
        wrong(Person)
    assert sent.statements == 0


def test_aggregates_see_what_is_unsaved(Person):
    """55. Unsaved changes are sent before an aggregate of their table is asked for."""
    with db_session:
        Person(name="Flo", age=50, wage=1)
        assert Person.select().max(Person.age) == 50


def test_outside_of_a_scope(Person):
    """8. Aggregates need a scope, as all that is sent does."""
    with pytest.raises(NoScopeError):
        Person.select().max(Person.age)


# --- to look at ------------------------------------------------------------------------------------------


def test_show_objects(Person, capsys):
    """show() prints the attributes of objects as a table of plain text; NULL is None, references are keys."""
    with db_session:
        assert Person.select(Person.name.in_(["Ann", "Dot"])).order_by(Person.name).show(width=80) is None
    assert capsys.readouterr().out == (
        "id  name  age   wage   born  house\n"
        "--  ----  ----  -----  ----  ----------------\n"
        "1   Ann   30    10.50  None  House['High', 2]\n"
        "4   Dot   None  1.00   None  None\n"
    )


def test_show_values(Person, capsys):
    """Tuples have a column for each item, objects in them stand as they are; a single value is one column."""
    with db_session:
        values(Person, "name", "").filter(age=20).order_by(1).show(80)
        values(Person, "age").filter(age=30).show(80)
        values(Person, "age").filter(age=77).show(80)
    assert capsys.readouterr().out == (
        "p.name  p\n------  ---------\nBob     Person[2]\nEve     Person[5]\np.age\n-----\n30\np.age\n-----\n"
    )


def test_show_fits_the_terminal(Person, capsys, monkeypatch):
    """The widest columns give way until the table fits; line breaks do not tear it."""
    with db_session:
        Person(name="x" * 100, wage=1)
        Person(name="a\nb\t\x1b[31m", wage=1)
        monkeypatch.setenv("COLUMNS", "50")
        Person.select(wage=1).order_by(-1).show()
        found = capsys.readouterr().out.splitlines()
        assert max(map(len, found)) <= 50 and f"{'x' * 11}…" in found[3] and r"a\nb\t\x1b[31m" in found[2]
        Person.select(wage=1).order_by(-1).show(width=1)
    assert len(capsys.readouterr().out.splitlines()) == 5


def test_show_does_not_read(Person):
    """89. Looking at objects does not count as reading: others may change what was shown."""
    with db_session:
        Person.select().show()
        with db_session(nested="independent"):
            Person[1].set(name="Other", age=99)
        Person[1].wage = 7
    with pytest.raises(OptimisticCheckError), db_session:
        assert Person[1].name == "Other"
        Person.select().show()
        with db_session(nested="independent"):
            Person[1].name = "Third"
        Person[1].wage = 8


def test_show_what_is_unsaved(Person, capsys):
    """127. Unsaved values are those that are shown."""
    with db_session as session:
        Person[1].set(name="New", house=None)
        with session.no_autoflush():
            Person.select(id=1).show(80)
    assert "1   New   30   10.50  None  None" in capsys.readouterr().out


def test_repr(Person, w):
    """The text of a query is its SQL, and sends nothing, with a scope or without."""
    with counted(w) as sent:
        found = repr(Person.select(Person.age > 18).order_by(-1).prefetch(Person.house))
        wrong = repr(Person.select().order_by(w.entities["Car"].seats))
    assert found.startswith("<Query SELECT ") and "18" not in found and sent.statements == 0
    assert wrong.startswith("<Query of Person, which cannot be written: Car.seats is no attribute of Person")


def test_verbs_are_values(Person, w):
    """Each verb gives a new query, and leaves the one that it was asked of as it was."""
    people = Person.select()
    before = people.get_sql()
    with counted(w) as sent:
        for verb in (
            lambda q: q.order_by(1),
            lambda q: q.page(2),
            lambda q: q.without_distinct(),
            lambda q: q.prefetch(Person.bio),
            lambda q: q.where(age=3),
        ):
            assert isinstance(verb(people), Query) and verb(people) is not people
    assert people.get_sql() == before and sent.statements == 0


def test_where(Person):
    """where() narrows a query as filter() does."""
    with db_session:
        assert names(Person.select().where(Person.age > 30).where(name="Cid")) == ["Cid"]
        assert names(Person.select().order_by(1).where(Person.age == 20)) == ["Bob", "Eve"]


def test_lambdas(Person, w):
    """filter() and order_by() give a lambda the items of the result, where() the loop variables by their names."""
    least = 20
    with db_session:
        found = select((p.name, p.age) for p in Person if p.age >= least)
        assert found.filter(lambda name, age: age > least and name != "Cid").fetch() == [("Ann", 30)]
        assert found.where(lambda p: p.wage > 10, age=20).fetch() == [("Bob", 20)]
        assert found.order_by(lambda name, age: (age, desc(name))).page(1, 3).fetch() == [
            *(("Eve", 20), ("Bob", 20), ("Ann", 30))
        ]
        assert names(Person.select(lambda x: x.age == least).order_by(lambda x: desc(x.name))) == ["Eve", "Bob"]
        assert names(Person.select().filter(lambda x: x.age > 20, Person.wage > 6, house=("High", 2))) == ["Ann"]


def test_operations_are_left_alone(Person):
    """An order by a place uses the very expression of the result, so that DISTINCT takes it."""
    person = Variable(Person._mapping_, "p")
    twice = query(Person._mapping_.catalog, [For(person)], Operation("*", Path(person, Person.age), 2))
    with db_session:
        assert twice.filter(Person.age > 0).distinct().order_by(-1).fetch() == [80, 60, 40]


def test_databases_do_not_mix(Person):
    """The expressions of another database have no place in an aggregate."""
    other = Database("sqlite://")

    class Person2(other.Entity):
        age = Required(int)

    other.generate_mapping(create_tables=True)
    with pytest.raises(TypeError, match=r"Person2.age is no attribute of Person, whose objects are queried"):
        Person.select().max(Person2.age)
    other.close()
