"""expire and refresh while a stream is open: what its cursor has is older than what the program asked for."""

import gc
import weakref

import pytest

from dbsession import Discriminator, Optional, Required, db_session
from tests.observing import elsewhere, rows, sent


@pytest.fixture
def Item(db):
    class Item(db.Entity):
        name = Required(str)
        count = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(6):
            Item(name=f"n{number}")
    return Item


def test_an_object_that_was_let_go(db, Item):
    """What a stream has let go of, and the program holds, can be expired and refreshed, and is one object still."""
    with db_session as session:
        first, second = [item for item in Item.select().order_by(Item.id).stream(2) if item.id <= 2]
        assert first.name == "n0"
        elsewhere(db_session(lambda: db.execute("UPDATE item SET count = 7")))
        session.expire(first)
        session.refresh(second)
        with sent(db) as spent:
            assert (first.count, second.count) == (7, 7)
        assert spent.round_trips == 1
        assert (Item[1], Item[2]) == (first, second)
        session.expire(first)
        session.expire_all()
        assert Item.select().order_by(Item.id).first() is first
        first.count = 8
    assert rows(db, "SELECT count FROM item WHERE id < 3 ORDER BY id") == [8, 7]


def test_expiring_holds_nothing(db, Item):
    """126. An object that a stream has let go of lives no longer for having been expired."""
    with db_session as session:
        seen = []
        for item in Item.select().order_by(Item.id).stream(2):
            seen.append(weakref.ref(item))
            session.expire(item)
            session.expire_all()
        item = None
        gc.collect()
        assert [reference() for reference in seen] == [None] * 6


@pytest.mark.parametrize("refreshed", [False, True])
def test_rows_of_an_open_cursor_are_older(db, Item, refreshed):
    """What was expired, or refreshed, when a stream was open does not take the values that the cursor has of it."""
    with db_session as session:
        last, other = Item[6], Item[5]
        assert (last.count, other.count) == (0, 0)
        seen = {}
        for item in Item.select().order_by(Item.id).stream(2):
            if item.id == 1:
                db.execute("UPDATE item SET count = 7, name = 'new'")
                for obj in (last, other):
                    session.refresh(obj) if refreshed else session.expire(obj)
                Item[4].count += 1  # loaded first since then
            seen[item.id] = item.count
        assert (seen[6], seen[5], seen[4]) == (7, 7, 8)
        assert last.name == "new"


def test_rows_of_a_hierarchy(db):
    """The class of an expired object is taken from its row all the same."""

    class Animal(db.Entity):
        kind = Discriminator(str)
        name = Optional(str)

    class Cat(Animal):
        lives = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(4):
            Cat(name=f"c{number}", lives=9)
    with db_session as session:
        last = Animal[4]
        found = []
        for animal in Animal.select().order_by(Animal.id).stream(2):
            if animal.id == 1:
                db.execute("UPDATE animal SET lives = 8")
                session.expire(last)
            found.append((type(animal), animal.id))
        assert found == [(Cat, 1), (Cat, 2), (Cat, 3), (Cat, 4)]
        assert last.lives == 8
