"""What an inner scope that failed leaves of objects, rows, keys, links and collections."""

import pytest

from dbsession import (
    OperationWithDeletedObjectError,
    db_session,
    flush,
)
from tests.observing import rows, sent
from tests.recording import recorded
from tests.scope.zoo import Odd, stored

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
