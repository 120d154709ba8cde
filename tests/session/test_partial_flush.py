"""Saving some objects while others give up what those want; expressions and values that move at once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from dbsession import Optional, PrimaryKey, Required, commit, db_session, flush
from tests.observing import rows


@pytest.fixture
def m(db):
    class Seat(db.Entity):
        number = Optional(int, unique=True)
        taken = Required(int, default=0)

    class Country(db.Entity):
        code = PrimaryKey(str)
        size = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Seat(number=1)
        Seat(number=2)
        Country(code="b", size=5)
    return SimpleNamespace(db=db, Seat=Seat, Country=Country)


def test_reading_an_expression_saves_what_frees_its_object_s_values_too(m):
    """37 and 46. Reading an attribute with an unsaved expression flushes its object, and what that one waits for."""
    with db_session:
        m.Seat[1].delete()
        seat = m.Seat[2]
        seat.number = 1
        seat.taken = m.Seat.taken + 1
        assert seat.taken == 1
    assert rows(m.db, "SELECT id, number, taken FROM seat") == [(2, 1, 1)]


def test_one_object_is_saved_with_what_frees_its_value(m):
    """46. obj.flush() of a new object goes after the deletion of the row that has its unique value."""
    with db_session:
        m.Seat[1].delete()
        seat = m.Seat(number=1)
        seat.flush()
        assert seat.id == 3
    assert rows(m.db, "SELECT id, number FROM seat ORDER BY id") == [(2, 2), (3, 1)]


def test_values_are_swapped_beside_an_expression_on_a_value_that_was_read(m):
    """37 and 47. Emptying a unique column for a while compares what was read before the expression was assigned."""
    with db_session:
        first, second = m.Seat[1], m.Seat[2]
        assert second.taken == 0
        second.taken = m.Seat.taken + 1
        first.number, second.number = second.number, first.number
    assert rows(m.db, "SELECT id, number, taken FROM seat ORDER BY id") == [(1, 2, 0), (2, 1, 1)]


def test_a_new_object_that_is_discarded_gives_the_key_back(m):
    """22. A deleted object whose key a new one had taken over, and gave up again, is still the deleted one."""
    with db_session:
        m.Country["b"].delete()
        m.Country(code="b").delete()
        assert m.Country.get(code="b") is None
    assert rows(m.db, "SELECT code FROM country") == []


def test_a_new_object_that_is_discarded_leaves_nothing_behind_after_a_rollback(m):
    """69. After a rollback the object that was deleted first is the one with the key."""
    with db_session as session:
        country = m.Country["b"]
        country.delete()
        m.Country(code="b").delete()
        flush()
        session.rollback()
        assert m.Country["b"] is country
        country.size += 1
        commit()
    assert rows(m.db, "SELECT code, size FROM country") == [("b", 6)]
