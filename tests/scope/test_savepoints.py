"""Savepoints: what an inner scope that fails leaves of objects and rows, in each form and at each level."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Json,
    NestedScopeError,
    NoScopeError,
    OperationWithDeletedObjectError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
    savepoint,
)
from tests.observing import elsewhere, rows, sent
from tests.recording import recorded


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


# --- 75: the inner work, and only that ---------------------------------------------------------------------


def test_only_the_inner_work_is_undone(zoo, within):
    """75. What the outer scope did before, saved or not, and does after is in memory and database; nothing else is."""
    with db_session:
        leo = zoo.Animal.get(name="leo")
        leo.age = 5
        flush()
        leo.chart["outer"] = True
        heron = zoo.Animal.get(name="heron")
        heron.age = 9
        new = zoo.Animal(name="new")

        def work():
            leo.age, heron.age, new.age = 50, 90, 70
            leo.chart["inner"] = True
            new.house = leo.house
            zoo.Animal(name="inner")
            flush()
            leo.age = 51
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert (leo.age, heron.age, new.age) == (5, 9, 1)
        assert leo.chart == {"kg": [180], "outer": True}
        assert new.house is None and new not in leo.house.animals
        heron.name = "grey heron"
    found = {name: (age, house) for name, age, _, house in stored(zoo.db)["animal"]}
    assert found == {"leo": (5, "cats"), "tiger": (1, "cats"), "grey heron": (9, "birds"), "new": (1, None)}
    assert elsewhere(db_session(lambda: zoo.Animal.get(name="leo").chart)) == {"kg": [180], "outer": True}


def test_everything_at_once_is_undone(zoo, within):
    """75. Key changes, deletions, links, collections, one-to-one, Json: nothing is left of an inner scope that failed."""
    before = stored(zoo.db)
    with db_session:
        leo, tiger, fish = zoo.Animal.get(name="leo"), zoo.Animal.get(name="tiger"), zoo.Food["fish"]
        cats, birds = leo.house, zoo.House.get(name="birds")
        kim = cats.keeper
        sets = [cats.animals, birds.animals, leo.foods, tiger.foods, fish.animals]
        members = [set(each) for each in sets]

        def work():
            upheaval(zoo)
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert [set(each) for each in sets] == members
        assert (leo.name, leo.age, leo.house, leo.chart) == ("leo", 1, cats, {"kg": [180]})
        assert (cats.keeper, birds.keeper, kim.house) == (kim, None, cats)
        assert zoo.Food["fish"] is fish and fish.code == "fish"
        assert zoo.Food.get(code="herring") is None and zoo.Food.get(code="hay") is None
        assert zoo.Animal.get(name="tiger") is tiger and tiger in cats.animals
    assert stored(zoo.db) == before


def test_new_objects_of_the_inner_scope_are_transient(zoo, within):
    """75. An object that was made and saved in the inner scope is in no database, has no key, and cannot be changed."""
    made = []
    with db_session:

        def work():
            made.append(zoo.Animal(name="inner"))
            flush()
            assert made[0].id is not None
            raise Odd

        with pytest.raises(Odd):
            within(work)
        (inner,) = made
        assert (inner.name, inner.id) == ("inner", None)
        with pytest.raises(Exception, match="rolled back") as caught:
            inner.age = 2
        assert "make a new object" in str(caught.value)
        assert zoo.Animal.get(name="inner") is None
    assert len(rows(zoo.db, "SELECT name FROM animal")) == 3


def test_what_the_outer_scope_had_unsaved_is_unsaved_again(zoo, within):
    """75, 78. New, changed and deleted objects that an inner flush has saved with its own are saved again later."""
    with db_session as session:
        leo, tiger, oats = zoo.Animal.get(name="leo"), zoo.Animal.get(name="tiger"), zoo.Food["oats"]
        new = zoo.Animal(name="new", foods=[oats])
        leo.age = 3
        tiger.delete()
        oats.code = "barley"

        def work():  # so that nothing of the outer scope can go before the savepoint
            new.age, leo.age = 20, 30
            leo.foods.add(oats)
            flush()
            assert new.id is not None
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert new.id is None and (new.age, leo.age) == (1, 3)
        with sent(zoo.db) as spent:
            session.flush()
        assert spent.statements > 2
    found = stored(zoo.db)
    assert [row[:2] for row in found["animal"]] == [("heron", 1), ("leo", 3), ("new", 1)]
    assert found["links"] == [("leo", "meat"), ("new", "barley")]
    assert found["food"] == [("barley", 9), ("fish", 7), ("meat", 5)]


# --- 76, 77: levels -------------------------------------------------------------------------------------------


def test_inner_success_and_outer_failure(zoo, within):
    """76. The inner scope ended well, and the outer one fails: keys, deletions, everything is as before."""
    before = stored(zoo.db)
    with pytest.raises(Odd), db_session:
        within(lambda: upheaval(zoo))
        flush()
        raise Odd
    assert stored(zoo.db) == before


def test_inner_success_and_rollback(zoo, within):
    """76. The same by rollback(), after which the objects show what the database has, and the session goes on."""
    before = stored(zoo.db)
    with db_session:
        leo, tiger, fish = zoo.Animal.get(name="leo"), zoo.Animal.get(name="tiger"), zoo.Food["fish"]
        cats = leo.house
        within(lambda: upheaval(zoo))
        rollback()
        assert (leo.name, leo.age, leo.house, leo.chart) == ("leo", 1, cats, {"kg": [180]})
        assert set(cats.animals) == {leo, tiger} and set(tiger.foods) == {fish, zoo.Food["meat"]}
        assert zoo.Food["fish"] is fish
        assert stored(zoo.db) == before
        leo.age = 2
    assert ("leo", 2, 2, "cats") in stored(zoo.db)["animal"]


def test_inner_success_is_saved_with_the_outer_scope(zoo, within):
    """5, 76. When both end well all of it is there, and what within the scope was shown is what the database has."""
    with db_session:
        within(lambda: upheaval(zoo))
        cats, birds = zoo.House.get(name="cats"), zoo.House.get(name="birds")
        assert {each.name for each in cats.animals} == {"puma", "lynx"}
        assert {each.name for each in birds.animals} == {"heron", "lion"}
    found = stored(zoo.db)
    assert found["keeper"] == [("kim", "birds"), ("lee", None)]
    assert found["links"] == [("lion", "hay"), ("puma", "meat")]
    assert found["food"] == [("hay", None), ("herring", 7), ("meat", 5), ("oats", 9)]


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("failing", [1, 2, 3])
def test_three_levels(zoo, scope, failing, flushes):
    """77. The level that fails takes those within it along, and leaves those around it; memory agrees at each."""
    with db_session:
        leo = zoo.Animal.get(name="leo")
        seen = {}

        def level(number):
            leo.age = 10 * number
            zoo.Animal(name=f"level {number}")
            if flushes:
                flush()
            if number < 3:
                enter(number + 1)
            seen[number] = leo.age
            leo.chart[f"level {number}"] = True
            if number == failing:
                raise Odd

        def enter(number):
            try:
                with scope:
                    level(number)
            except Odd:
                assert leo.age == 10 * (number - 1) if number > 1 else leo.age == 1

        enter(1)
        kept = range(1, failing)
        assert leo.age == max([10 * number for number in kept], default=1)
        assert leo.chart == {"kg": [180], **{f"level {number}": True for number in kept}}
        # As each level saw it when those within it had ended.
        assert seen == {3: 30, 2: 20 if failing == 3 else 30, 1: {1: 30, 2: 10, 3: 20}[failing]}
    names = {name for name, *_ in stored(zoo.db)["animal"]}
    assert names == {"leo", "tiger", "heron", *[f"level {number}" for number in kept]}
    assert elsewhere(db_session(lambda: zoo.Animal.get(name="leo").age)) == leo.age


def test_scopes_that_fail_one_after_the_other(zoo, within):
    """77. The third inner scope starts where the second did, whatever the two before it have left behind."""
    with db_session:
        leo = zoo.Animal.get(name="leo")
        for number in range(4):

            def work(number=number):
                leo.age = leo.age + 1
                zoo.Animal(name=f"number {number}")
                flush()
                if number % 2:
                    raise Odd

            if number % 2:
                with pytest.raises(Odd):
                    within(work)
            else:
                within(work)
            assert leo.age == number // 2 + 2
    assert {"number 0", "number 2"} <= (names := set(rows(zoo.db, "SELECT name FROM animal")))
    assert not {"number 1", "number 3"} & names


# --- 78, 83: the outer scope's objects -------------------------------------------------------------------------


def test_outer_changes_go_before_the_savepoint(zoo, scope):
    """78. Unsaved changes of the outer scope are sent before the SAVEPOINT, in the same round trip, and stay saved."""
    with db_session:
        leo, tiger = zoo.Animal.get(name="leo"), zoo.Animal.get(name="tiger")
        leo.age = 5
        with recorded() as statements, sent(zoo.db) as spent, pytest.raises(Odd), scope:
            tiger.age = 6
            flush()
            raise Odd
        assert [each.sql.split()[0] for each in statements] == ["BEGIN", "UPDATE", "SAVEPOINT", "UPDATE"]
        assert spent.round_trips <= (1 if zoo.db.backend.dialect.name == "postgresql" else 4)
        assert (leo.age, tiger.age) == (5, 1)
        with sent(zoo.db) as spent:
            flush()
        assert spent.statements == 0  # leo is saved
    assert [row[:2] for row in stored(zoo.db)["animal"]] == [("heron", 1), ("leo", 5), ("tiger", 1)]


def test_a_circle_of_the_outer_scope_is_saved_before_the_savepoint(zoo, within):
    """45, 78. A row that refers to itself is inserted and then updated: it stays as it was saved when the inner one fails."""
    with db_session:
        new = zoo.Animal(name="new")
        new.mother = new

        def work():
            zoo.Food(code="hay")
            flush()
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert new.version == 2
        new.age = 2
    assert rows(zoo.db, "SELECT age, version, mother = id FROM animal WHERE name = 'new'") == [(2, 3, True)]


def test_what_the_outer_scope_had_flushed_stays(zoo, within):
    """78. What was sent before the inner scope was entered is neither lost nor sent again."""
    with db_session:
        zoo.Animal(name="outer")
        flush()

        def work():
            zoo.Animal(name="inner")
            flush()
            raise Odd

        with pytest.raises(Odd):
            within(work)
        with recorded() as statements:
            flush()
        assert statements == []
    assert "outer" in (names := rows(zoo.db, "SELECT name FROM animal")) and "inner" not in names


def test_untouched_objects_are_not_loaded_again(zoo, within):
    """83. Objects, references and collections that the inner scope left alone are read without any SQL afterwards."""
    with db_session:
        houses = {house.name: house for house in zoo.House.select()}
        animals = {animal.name: animal for animal in zoo.Animal.select()}
        for house in houses.values():
            house.animals.load()
        kim = houses["cats"].keeper

        def work():
            animals["leo"].age = 50
            zoo.Food(code="nuts")
            flush()
            raise Odd

        with pytest.raises(Odd):
            within(work)
        with sent(zoo.db) as spent:
            assert [animals[name].age for name in ("leo", "tiger", "heron")] == [1, 1, 1]
            assert animals["leo"] in houses["cats"].animals and len(houses["birds"].animals) == 1
            assert houses["cats"].keeper is kim and animals["leo"].house is houses["cats"]
            assert zoo.Animal[animals["tiger"].id] is animals["tiger"]
        assert spent.statements == 0


def test_rows_read_behind_an_undone_write_are_read_again(zoo, within):
    """83. What was first loaded after the inner scope had written may show what is undone: it is loaded again."""
    with db_session:
        seen = []

        def work():
            zoo.db.execute("UPDATE animal SET age = 99")
            seen.append(zoo.Animal.get(name="leo"))
            assert seen[0].age == 99
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert seen[0].age == 1
        seen[0].age = 2
    assert ("leo", 2, 2, "cats") in stored(zoo.db)["animal"]


def test_rows_read_in_a_third_level_behind_a_write_of_the_second(zoo, scope):
    """77, 83. The level that has written fails; the one within it, which only read, had ended well."""
    with db_session:
        with pytest.raises(Odd), scope:
            zoo.db.execute("UPDATE animal SET age = 99")
            with scope:
                leo = zoo.Animal.get(name="leo")
                foods = set(leo.foods)
            raise Odd
        assert leo.age == 1 and set(leo.foods) == foods


def test_a_row_that_was_known_is_as_it_was_known(zoo, within):
    """83. An object of the outer scope that took the inner one's uncommitted values with a query has its own again."""
    with db_session:
        heron = zoo.Animal.get(name="heron")

        def work():
            zoo.db.execute("UPDATE animal SET age = 99")
            assert {animal.age for animal in zoo.Animal.select()} == {99}
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert heron.age == 1
        heron.age = 2
    assert ("heron", 2, 2, "birds") in stored(zoo.db)["animal"]


def test_what_the_second_level_had_unsaved_is_sent_in_the_third(zoo, scope):
    """77, 83. It stays sent when the third level fails: what the second one reads then is undone with the second one."""
    with db_session:
        with pytest.raises(Odd), scope:
            zoo.House.get(name="cats").delete()
            with pytest.raises(Odd), scope:
                zoo.Food(code="hay")
                flush()
                raise Odd
            leo = zoo.Animal.get(name="leo")
            assert leo.house is None
            raise Odd
        assert leo.house is zoo.House.get(name="cats")
        leo.age = 2
    assert ("leo", 2, 2, "cats") in stored(zoo.db)["animal"]


def test_a_version_is_that_of_the_row(zoo, within):
    """75, 90. The version goes back with the savepoint, so that the next write is not refused."""
    with db_session:
        leo = zoo.Animal.get(name="leo")
        leo.age = 2
        flush()
        assert leo.version == 2

        def work():
            leo.age = 3
            flush()
            assert leo.version == 3
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert leo.version == 2
        leo.age = 4
    assert ("leo", 4, 3, "cats") in stored(zoo.db)["animal"]


# --- deletions, keys and links, which are easily left behind -----------------------------------------------------


def test_a_link_that_was_removed_is_there_again(zoo, within):
    """75. A link of a many-to-many relation is removed behind the savepoint, not before it."""
    with db_session:

        def work():
            leo = zoo.Animal.get(name="leo")
            leo.foods.remove(zoo.Food["meat"])
            flush()
            raise Odd

        with pytest.raises(Odd):
            within(work)
    assert ("leo", "meat") in stored(zoo.db)["links"]


def test_what_the_outer_scope_deletes_is_followed(zoo, within):
    """52, 75. The inner scope finds an object that refers to one that the outer one has deleted, and not yet flushed."""
    with db_session:
        zoo.House.get(name="cats").delete()
        leo = []

        def work():
            leo.append(zoo.Animal.get(id=1))
            leo[0].age = 7
            flush()
            assert leo[0].house is None
            raise Odd

        with pytest.raises(Odd):
            within(work)
        flush()
        assert leo[0].house is None
        leo[0].age = 8
    assert ("leo", 8, 3, None) in stored(zoo.db)["animal"]


def test_a_key_that_was_taken_over_is_given_back(zoo, within):
    """22, 75. The new object that had the key of a deleted one is gone: the deleted one is not found in its place."""
    with db_session:
        zoo.Food["fish"].delete()

        def work():
            zoo.Food(code="fish", price=1)
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert zoo.Food.get(code="fish") is None
        zoo.Food(code="fish", price=2)
    assert ("fish", 2) in stored(zoo.db)["food"]


def test_a_key_that_a_new_object_had_taken_over(zoo, within):
    """26, 75. A key has moved, a new object has it: the inner scope, which deleted that one, puts it in its place again."""
    with db_session:
        oats = zoo.Food["oats"]
        oats.code = "barley"
        new = zoo.Food(code="oats", price=1)
        oats.delete()

        def work():
            new.delete()
            raise Odd

        with pytest.raises(Odd):
            within(work)
        with pytest.raises(OperationWithDeletedObjectError):
            oats.price = 3
        assert zoo.Food["oats"] is new
    assert stored(zoo.db)["food"] == [("fish", 7), ("meat", 5), ("oats", 1)]


def test_the_key_of_a_new_object(zoo, within):
    """26, 75. The inner scope has given another key to the outer one's new object: it is found by its own again."""
    with db_session:
        new = zoo.Food(code="rice", price=1)

        def work():
            new.code = "corn"
            assert zoo.Food["corn"] is new
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert zoo.Food["rice"] is new and zoo.Food.get(code="corn") is None
    assert ("rice", 1) in stored(zoo.db)["food"]


def test_a_moved_key_is_found_after_the_inner_scope(zoo, within):
    """26, 75. An unsaved change of a key was sent in the inner scope, and undone: the object is found by its new key."""
    with db_session:
        oats = zoo.Food["oats"]
        oats.code = "barley"

        def work():
            oats.price = 1
            flush()
            raise Odd

        with pytest.raises(Odd):
            within(work)
        assert zoo.Food["barley"] is oats
        assert zoo.Food.get(code="oats") is None
        assert oats.price == 9


def test_a_collection_of_a_new_object_is_still_complete(zoo, within):
    """75. The inner scope saved the outer one's new object, and looked at its collection: it is new again, and empty."""
    with db_session:
        new = zoo.Animal(name="new")

        def work():
            new.age = 2
            flush()
            assert not new.foods
            raise Odd

        with pytest.raises(Odd):
            within(work)
        with sent(zoo.db) as spent:
            assert not new.foods and list(new.foods) == []
        assert spent.statements == 0
        new.foods.add(zoo.Food["fish"])
    assert ("new", "fish") in stored(zoo.db)["links"]


# --- 79, 80: what may be done inside and around ---------------------------------------------------------------


@pytest.mark.parametrize("verb", [commit, rollback])
def test_only_the_outermost_scope_ends_the_transaction(zoo, scope, verb):
    """79. commit() and rollback() in an inner scope of any form are errors, and do nothing."""
    with db_session:
        zoo.Animal(name="outer")
        with scope:
            zoo.Animal(name="inner")
            with pytest.raises(NestedScopeError, match="only the outermost scope"):
                verb()
            with sent(zoo.db) as spent, pytest.raises(NestedScopeError):
                getattr(db_session, verb.__name__)()
            assert spent.statements == 0
    assert {"outer", "inner"} <= set(rows(zoo.db, "SELECT name FROM animal"))


def test_savepoint_needs_a_scope():
    """savepoint() is for a part of a scope; where there is none it says so, and nested="savepoint" opens one."""
    with pytest.raises(NoScopeError, match="put @db_session on the function"), savepoint():
        pass
    with pytest.raises(NoScopeError):
        savepoint()(lambda: None)()
    with db_session(nested="savepoint") as session:
        assert session is not None
    with db_session as outer, savepoint() as session:
        assert session is outer


def test_get_or_create(zoo, within):
    """80. Somebody else was faster: the unique violation is caught around the inner scope, and the get works."""

    def make():
        return zoo.House(name="fish")

    def get_or_create(meanwhile):
        found = zoo.House.get(name="fish")
        meanwhile()
        if found is not None:
            return found

        def create():
            house = make()
            flush()
            return house

        try:
            return within(create)
        except TransactionIntegrityError:
            return zoo.House.get(name="fish")

    with db_session:
        leo = zoo.Animal.get(name="leo")
        leo.age = 5
        house = get_or_create(lambda: elsewhere(db_session(make)))
        leo.house = house
        assert get_or_create(lambda: None) is house
    found = stored(zoo.db)
    assert found["house"].count("fish") == 1
    assert ("leo", 5, 3, "fish") in found["animal"]


def test_a_savepoint_scope_raises_at_its_own_end(zoo):
    """80. savepoint() flushes at its end, so that what the database refuses is raised where it can be handled."""
    with db_session:
        leo = zoo.Animal.get(name="leo")
        leo.age = 5
        with pytest.raises(TransactionIntegrityError), savepoint():
            leo.name = "lion"
            zoo.House(name="cats")
        assert (leo.name, leo.age) == ("leo", 5)
    assert ("leo", 5, 2, "cats") in stored(zoo.db)["animal"]
