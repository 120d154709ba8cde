"""A zoo with everything that a savepoint has to put back, and the forms of an inner scope to put it back in."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Json,
    Optional,
    PrimaryKey,
    Required,
    Set,
    Version,
    db_session,
    flush,
    savepoint,
)
from tests.observing import rows


class Odd(Exception):
    pass


@pytest.fixture
def zoo(db):
    class House(db.Entity):
        name = Required(str, unique=True)
        animals = Set("Animal")
        keeper = Optional("Keeper")

    class Keeper(db.Entity):
        name = Required(str)
        house = Optional(House, column="house")

    class Animal(db.Entity):
        name = Required(str)
        age = Required(int, default=1)
        chart = Optional(Json)
        house = Optional(House)
        mother = Optional("Animal", reverse="young")
        young = Set("Animal", reverse="mother")
        version = Version()
        foods = Set("Food")

    class Food(db.Entity):
        code = PrimaryKey(str)
        price = Optional(int)
        animals = Set(Animal)

    db.generate_mapping(create_tables=True)
    with db_session:
        cats, birds = House(name="cats"), House(name="birds")
        Keeper(name="kim", house=cats)
        Keeper(name="lee")
        meat, fish = Food(code="meat", price=5), Food(code="fish", price=7)
        Food(code="oats", price=9)  # no animal's
        Animal(name="leo", chart={"kg": [180]}, house=cats, foods=[meat])
        Animal(name="tiger", house=cats, foods=[meat, fish])
        Animal(name="heron", house=birds)
    return SimpleNamespace(db=db, House=House, Keeper=Keeper, Animal=Animal, Food=Food)


FORMS = {
    "join": db_session,
    "nested": db_session(nested="savepoint"),
    "savepoint": savepoint,
}


@pytest.fixture(params=FORMS)
def scope(request):
    """An inner scope in each of its forms."""
    return FORMS[request.param]


@pytest.fixture(params=["block", "decorator"])
def within(request, scope):
    """A function that runs another one in an inner scope of each form."""

    def block(work):
        with scope:
            return work()

    return block if request.param == "block" else lambda work: scope(work)()


def stored(db):
    """Everything in the database."""
    tables = {
        "house": "SELECT name FROM house",
        "keeper": "SELECT k.name, h.name FROM keeper k LEFT JOIN house h ON h.id = k.house",
        "animal": "SELECT a.name, a.age, a.version, h.name FROM animal a LEFT JOIN house h ON h.id = a.house",
        "chart": "SELECT name FROM animal WHERE chart IS NOT NULL",
        "food": "SELECT code, price FROM food",
        "links": 'SELECT a.name, l.food FROM "animal_food" l JOIN animal a ON a.id = l.animal',
    }
    return {name: sorted(rows(db, sql), key=repr) for name, sql in tables.items()}


def upheaval(zoo):
    """Change everything that there is, and let the database see it."""
    leo, tiger = zoo.Animal.get(name="leo"), zoo.Animal.get(name="tiger")
    cats, birds = leo.house, zoo.House.get(name="birds")
    leo.age += 10
    leo.chart["kg"].append(200)
    birds.animals.add(leo)
    tiger.foods.clear()
    leo.foods.create(code="hay")
    zoo.Food["fish"].code = "herring"
    flush()
    tiger.delete()
    birds.keeper = cats.keeper
    zoo.Animal(name="puma", house=cats, foods=[zoo.Food["meat"]])
    flush()
    leo.name = "lion"
    cats.animals.create(name="lynx")
    leo.foods.remove(zoo.Food["meat"])
