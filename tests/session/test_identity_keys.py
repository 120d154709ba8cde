"""Keys that change, and keys that are taken (scenarios 26-29): what finds an object before and after a rollback."""

from __future__ import annotations

import pytest

from dbsession import (
    CacheIndexError,
    Database,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent


class World:
    """Countries with natural keys, cities with composite ones, and users with generated ones."""

    def __init__(self, db: Database) -> None:
        class Country(db.Entity):
            code = PrimaryKey(str)
            name = Optional(str)
            cities = Set("City")

        class City(db.Entity):
            country = Required(Country)
            name = Required(str)
            people = Required(int, default=0)
            PrimaryKey(country, name)

        class User(db.Entity):
            name = Required(str)
            passport = Optional("Passport")
            notes = Set("Note")

        class Passport(db.Entity):
            number = PrimaryKey(str)
            user = Required(User)

        class Note(db.Entity):
            user = Required(User)
            text = Required(str)

        db.generate_mapping(create_tables=True)
        self.db = db
        self.Country, self.City, self.User, self.Passport, self.Note = Country, City, User, Passport, Note
        with db_session:
            for code in "abc":
                Country(code=code, name=code.upper())
            City(country="a", name="x", people=1)
            City(country="b", name="y", people=2)
            for name in ("Ann", "Bob"):
                User(name=name)

    def countries(self) -> list[tuple[str, str]]:
        """Return what others see of the countries."""
        return rows(self.db, f'SELECT code, name FROM "{self.Country._mapping_.table}" ORDER BY code')


@pytest.fixture
def world(db):
    return World(db)


ORIGINAL = [("a", "A"), ("b", "B"), ("c", "C")]


# --- 26: a key is changed ------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [True, False])
def test_the_new_key_finds_the_object(world, flushes):
    """26. After a key change the new key finds the object and the old one nothing, flushed by hand or by a look-up."""
    with db_session:
        country = world.Country["c"]
        country.code = "z"
        if flushes:
            flush()
        assert world.Country["z"] is country and world.Country.get(code="c") is None
        assert world.Country.select(code="z").get() is country and country.get_pk() == "z"
        assert repr(country) == "Country['z']"
    assert world.countries() == [*ORIGINAL[:2], ("z", "C")]


@pytest.mark.parametrize("flushes", [True, False])
def test_a_rollback_gives_the_old_key_back(world, flushes):
    """26. After a rollback the old key finds the object again, and the new one nothing."""
    with db_session:
        country = world.Country["c"]
        country.code = "z"
        if flushes:
            flush()
        rollback()
        assert country.code == "c" and country.get_pk() == "c"
        with sent(world.db) as spent:
            assert world.Country["c"] is country
        assert spent.statements == 0
        assert world.Country.get(code="z") is None
        country.name = "see"
    assert world.countries() == [*ORIGINAL[:2], ("c", "see")]


def test_part_of_a_composite_key_is_changed(world):
    """26. A part of a composite key, also one that is a reference, is changed as a single key is."""
    with db_session:
        city = world.City["a", "x"]
        city.country = world.Country["b"]
        flush()
        assert world.City["b", "x"] is city and world.City.get(country="a", name="x") is None
        assert city in world.Country["b"].cities and city not in world.Country["a"].cities
        city.name = "xx"
        assert world.City["b", "xx"] is city and city.people == 1
        rollback()
        assert world.City["a", "x"] is city and city.country is world.Country["a"] and city.name == "x"
        assert world.City.get(country="b", name="x") is None


def test_a_key_change_is_committed_and_changed_again(world):
    """26. The key of one transaction is the old key of the next."""
    with db_session:
        country = world.Country["c"]
        country.code = "d"
        commit()
        country.code = "e"
        flush()
        rollback()
        assert world.Country["d"] is country and country.code == "d"
        country.name = "D"
    assert world.countries() == [*ORIGINAL[:2], ("d", "D")]


def test_an_object_with_nothing_but_its_key_gets_another(world):
    """26. The key of an object that was never loaded is changed without loading it."""
    with db_session:
        world.City["b", "y"].delete()
        flush()
        country = world.City["a", "x"].country
        assert country is world.City["a", "x"].country
        world.City["a", "x"].delete()
        flush()
        with sent(world.db) as spent:
            country.code = "z"
            flush()
        assert spent.statements == 1
        assert world.Country["z"] is country and country.name == "A" and world.Country.get(code="a") is None
    assert world.countries() == [*ORIGINAL[1:], ("z", "A")]


def test_a_key_is_changed_and_changed_back(world):
    """26, 32. A key that has its old value again at the flush is no change."""
    with db_session:
        country = world.Country["c"]
        country.code = "z"
        country.code = "c"
        with sent(world.db) as spent:
            flush()
            assert world.Country["c"] is country
        assert spent.statements == 0


# --- 27, 28: chains -----------------------------------------------------------------------------------


def test_a_chain_of_keys_is_rolled_back(world):
    """27. Delete a, rename b to a, flush, rename it again: after a rollback both are back under their first keys."""
    with db_session:
        first, second = world.Country["a"], world.Country["b"]
        for city in world.City.select():
            city.delete()
        first.delete()
        second.code = "a"
        flush()
        assert world.Country["a"] is second
        second.code = "q"
        flush()
        assert world.Country["q"] is second and world.Country.get(code="a") is None
        rollback()
        with sent(world.db) as spent:
            assert world.Country["a"] is first and world.Country["b"] is second
            assert (first.code, second.code, second.name) == ("a", "b", "B")
        assert spent.statements == 0
        assert world.Country.get(code="q") is None
        first.name, second.name = "1", "2"
    assert world.countries() == [("a", "1"), ("b", "2"), ("c", "C")]


def test_a_swap_of_keys_is_rolled_back(world):
    """27. Two keys that went round over a third one are back after a rollback."""
    with db_session:
        b, c = world.Country["b"], world.Country["c"]
        world.City["b", "y"].delete()
        flush()
        c.code = "t"
        flush()
        b.code = "c"
        flush()
        c.code = "b"
        flush()
        assert world.Country["b"] is c and world.Country["c"] is b
        rollback()
        assert world.Country["b"] is b and world.Country["c"] is c and (b.name, c.name) == ("B", "C")


def test_a_deleted_key_is_used_again_and_rolled_back(world):
    """27. Delete c, insert a new c, delete that one and rename b to c: the rollback knows each of them."""
    with db_session:
        old = world.Country["c"]
        old.delete()
        new = world.Country(code="c", name="new")
        flush()
        assert world.Country["c"] is new and world.Country.select(name="new").get() is new
        new.delete()
        flush()
        third = world.Country(code="c")
        flush()
        assert world.Country["c"] is third
        rollback()
        assert world.Country["c"] is old and old.name == "C"
        old.name = "again"
    assert world.countries() == [*ORIGINAL[:2], ("c", "again")]


def test_a_row_that_others_inserted_under_a_deleted_key(world):
    """28. A row inserted past the session under the key of an object deleted here gives way to it at the rollback."""
    table = world.Country._mapping_.table
    with db_session:
        old = world.Country["c"]
        old.delete()
        flush()
        world.db.execute(f"""INSERT INTO "{table}" (code, name) VALUES ('c', 'other')""")
        other = world.Country["c"]
        assert other is not old and other.name == "other"
        rollback()
        assert world.Country["c"] is old and old.name == "C"
        assert world.Country.select(code="c").get() is old
        old.name = "mine"
    assert world.countries() == [*ORIGINAL[:2], ("c", "mine")]


# --- 29: a key that is taken --------------------------------------------------------------------------


def test_a_new_object_with_the_key_of_a_loaded_one(world):
    """29. A new object with a key that another object of the session has is refused at once, and leaves no trace."""
    with db_session:
        country = world.Country["a"]
        with pytest.raises(CacheIndexError, match=r"Country\['a'\].*exists in this session"):
            world.Country(code="a", name="other")
        assert world.Country["a"] is country and country.name == "A"
    assert world.countries() == ORIGINAL


def test_a_new_object_with_the_key_of_a_new_one(world):
    """29. The same for two new objects, and for a key that both get as a reference."""
    with db_session:
        first = world.Country(code="z")
        with pytest.raises(CacheIndexError, match=r"Country\['z'\]"):
            world.Country(code="z")
        city = world.City(country=first, name="x")
        with pytest.raises(CacheIndexError, match=r"City\['z', 'x'\]"):
            world.City(country="z", name="x")
        assert list(first.cities) == [city] and world.City["z", "x"] is city
    assert rows(world.db, f'SELECT count(*) FROM "{world.City._mapping_.table}"') == [3]


def test_a_new_object_with_the_key_of_a_row(world):
    """29. A key that only the database has is refused by it, with the constraint, the table and the object."""
    with pytest.raises(TransactionIntegrityError) as caught:
        with db_session:
            world.Country(code="a")
    assert "Country['a']" in str(caught.value)
    assert caught.value.table == world.Country._mapping_.table
    assert world.countries() == ORIGINAL


def test_a_key_is_assigned_that_another_object_has(world):
    """29, 41. A key that another object has is refused, and the object keeps its own, saved or new."""
    with db_session:
        a, c = world.Country["a"], world.Country["c"]
        with pytest.raises(CacheIndexError, match=r"Country\['a'\]"):
            c.code = "a"
        assert c.code == "c" and world.Country["c"] is c and world.Country["a"] is a
        with sent(world.db) as spent:
            flush()
        assert spent.statements == 0
        new = world.Country(code="n", name="N")
        with pytest.raises(CacheIndexError):
            new.code = "a"
        assert new.code == "n" and world.Country["n"] is new
        with pytest.raises(CacheIndexError):
            c.set(name="changed", code="a")
        assert (c.code, c.name) == ("c", "C")
    assert world.countries() == [*ORIGINAL, ("n", "N")]


def test_a_key_part_is_assigned_that_makes_the_key_of_another(world):
    """29, 41. The same for a part of a composite key that is a reference: both ends stay as they were."""
    with db_session:
        a, b = world.Country["a"], world.Country["b"]
        city = world.City(country=a, name="y")
        assert list(b.cities) == [world.City["b", "y"]]
        with pytest.raises(CacheIndexError, match=r"City\['b', 'y'\]"):
            city.country = b
        assert city.country is a and city in a.cities and city not in b.cities and len(b.cities) == 1
        saved = world.City["a", "x"]
        saved.name = "z"
        with pytest.raises(CacheIndexError):
            saved.name = "y"
        assert saved.name == "z"
    table = world.City._mapping_.table
    assert rows(world.db, f'SELECT country, name FROM "{table}" ORDER BY 1, 2') == [("a", "y"), ("a", "z"), ("b", "y")]


def test_a_refused_object_is_in_no_collection(world):
    """29, 41. An object that was refused while it was made is in no collection of those that it was to refer to."""
    with db_session:
        a, ann = world.Country["a"], world.User[1]
        before = list(a.cities)
        with pytest.raises(CacheIndexError):
            world.City(country=a, name="x")
        assert list(a.cities) == before
        world.Passport(number="1", user=ann)
        with pytest.raises(CacheIndexError, match=r"User\[1\].*Passport\['1'\]"):
            world.Passport(number="2", user=ann)
        assert ann.passport.number == "1" and world.Passport.get(number="2") is None
        with pytest.raises(TypeError, match=r"User\[new\]\.notes"):
            world.User(name="Carl", notes=[ann])
    assert rows(world.db, f'SELECT number FROM "{world.Passport._mapping_.table}"') == ["1"]
    assert rows(world.db, f'SELECT name FROM "{world.User._mapping_.table}" ORDER BY id') == ["Ann", "Bob"]


def test_a_reference_to_somebody_who_is_taken(world):
    """29, 41. Of a one-to-one relation that both ends need, the second claim is refused and changes nothing."""
    with db_session:
        ann, bob = world.User[1], world.User[2]
        first, second = world.Passport(number="1", user=ann), world.Passport(number="2", user=bob)
        flush()
        with pytest.raises(CacheIndexError, match=r"User\[1\].*Passport\['1'\]"):
            second.user = ann
        assert second.user is bob and bob.passport is second and ann.passport is first
        with sent(world.db) as spent:
            flush()
        assert spent.statements == 0
