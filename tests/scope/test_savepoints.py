"""Savepoints: what an inner scope that fails leaves of objects and rows, in each form and at each level."""

import pytest

from dbsession import (
    NestedScopeError,
    NoScopeError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
    savepoint,
)
from tests.observing import elsewhere, rows, sent
from tests.scope.zoo import Odd, stored, upheaval

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
        assert session._core is outer._core


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
