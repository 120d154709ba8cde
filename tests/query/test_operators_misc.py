"""isinstance(), SQL of the user's own, random(), and what comes out of operators that have no family."""

from __future__ import annotations

from decimal import Decimal

import pytest

from dbsession import Discriminator, Optional, Required, Set, db_session
from dbsession.model.expressions import Operation
from dbsession.query.tree import RawSql, Slot
from tests.query.operating import declare, mismatches, results


@pytest.fixture
def zoo(db):
    """Animals in a hierarchy, and their keepers."""

    class Animal(db.Entity):
        kind = Discriminator(str)
        name = Required(str)
        keepers = Set("Keeper")

    class Bird(Animal):
        pass

    class Fish(Animal):
        pass

    class Owl(Bird):
        pass

    class Keeper(db.Entity):
        pet = Optional(Animal)

    db.generate_mapping(create_tables=True)
    with db_session:
        for animal in (Animal(name="a"), Bird(name="b"), Fish(name="f"), Owl(name="o"), None):
            Keeper(pet=animal)
    return db.entities


def test_isinstance(zoo):
    """isinstance() asks for the class of the row and those below it; None is no instance of anything."""
    Keeper, Animal, Bird, Fish, Owl = (zoo[name] for name in ("Keeper", "Animal", "Bird", "Fish", "Owl"))

    for classes in ((Bird,), (Fish,), (Owl,), (Fish, Owl), (Animal,), (Bird, Fish), (Keeper,), (Keeper, Owl), ()):
        with db_session:
            Animal.select().fetch()  # of which class an object is, is known once it is loaded
            node = Operation("isinstance", Keeper.pet, classes)
            wanted = {keeper.id for keeper in Keeper.select() if isinstance(keeper.pet, classes)}
            assert {keeper.id for keeper in Keeper.select(node)} == wanted
            everyone = {keeper.id for keeper in Keeper.select()}
            assert {keeper.id for keeper in Keeper.select(~node)} == everyone - wanted, classes


def instances(entity, cls):
    """Return the objects of *entity* that are instances of *cls*."""
    query = entity.select()
    selected = query.selected
    node = Operation("isinstance", selected.result, (cls,))
    return type(query)(selected.replace(conditions=(node,)), query._runner).fetch()


def test_isinstance_of_the_objects_that_are_asked_for(zoo):
    """Of a variable, and where nothing can be an instance, or everything is."""
    Animal, Bird, Owl, Fish = (zoo[name] for name in ("Animal", "Bird", "Owl", "Fish"))
    with db_session:
        names = lambda entity, cls: sorted(animal.name for animal in instances(entity, cls))
        assert names(Animal, Bird) == ["b", "o"] and names(Animal, Animal) == ["a", "b", "f", "o"]
        assert names(Bird, Owl) == ["o"] and names(Bird, Animal) == ["b", "o"] and names(Bird, Fish) == []


@pytest.fixture
def Thing(db):
    """Things of every kind."""
    return declare(db)


def test_raw_sql(Thing):
    """SQL of the user's own stands as it is, its values are parameters; it is enclosed where it stands in something."""
    raw = lambda *texts, values=(), python=None: RawSql(texts, values, python)
    cases = {
        "j * 2": (raw('"j" * 2', python=int), lambda o: o.j * 2),
        "(j + 1) * 2": (raw('"j" + 1', python=int) * 2, lambda o: (o.j + 1) * 2),
        "with a value": (raw('"j" + ', "", values=(Slot(0, 1),), python=int), lambda o: o.j + 5, 5),
        "with two": (raw("", " + ", "", values=(Thing.j, 3), python=int), lambda o: o.j + 3),
        "a condition": (
            Operation("and", raw('"j" > 2 OR "j" < 0', python=bool), Thing.c),
            lambda o: (o.j > 2 or o.j < 0) and o.c,
        ),
        "not": (Operation("not", raw('"j" > 2', python=bool)), lambda o: not o.j > 2),
        "a percent sign": (raw("'100%'", python=str), lambda _: "100%"),
        "no type": (raw('"u"'), lambda o: o.u),
        "compared": (raw('"j" - 1') == Slot(0, 1), lambda o: o.j - 1 == 4, 4),
        "Decimal": (raw('"e"', python=Decimal) + 1, lambda o: o.e + 1),
    }
    with db_session:
        Thing.select(Thing.i > 10**9).delete()
    assert mismatches(Thing, cases) == []
    with db_session:
        assert Thing.select(raw('"j" > 6')).count() == 1
        assert Thing.select(raw('"j" > ', "", values=(6,))).filter(raw('"c"') & (Thing.j > 0)).count() == 1


def test_random(Thing):
    """random() is a float from 0 to 1, another one for each row."""
    with db_session:
        found = results(Thing, Operation("random"))
        assert all(type(value) is float and 0 <= value < 1 for value in found) and len(set(found)) == len(found)
        assert Thing.select(Operation("random") < 2).count() == len(found)
        assert len(Thing.select().order_by(Operation("random")).fetch()) == len(found)


def test_paths(Thing):
    """Operators take paths like attributes; NULL along the way makes NULL."""
    owner = Thing.owner
    cases = {
        "owner.j + j": (owner.j + Thing.j, lambda o: o.owner.j + o.j if o.owner else None),
        "owner.t or u": (
            Operation("coalesce", owner.t, Thing.u),
            lambda o: o.owner.t if o.owner and o.owner.t is not None else o.u,
        ),
        "truth(owner.c)": (Operation("truth", owner.c), lambda o: bool(o.owner and o.owner.c)),
        "not truth(owner.c)": (~Operation("truth", owner.c), lambda o: not (o.owner and o.owner.c)),
        "owner.owner is None": (owner.owner == None, lambda o: not (o.owner and o.owner.owner)),  # noqa: E711
        "str(owner.c)": (Operation("str", owner.c), lambda o: str(o.owner.c) if o.owner else None),
        "max(owner.j, j)": (
            Operation("max2", owner.j, Thing.j),
            lambda o: max(o.owner.j, o.j) if o.owner else None,
        ),
    }
    assert mismatches(Thing, cases) == []
