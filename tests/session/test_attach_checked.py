"""What was attached is checked in every transaction: its row was read before, whatever isolation that has."""

import copy

import pytest

from dbsession import OptimisticCheckError, db_session, flush
from tests.observing import elsewhere, rows
from tests.session.recording import recorded
from tests.session.travel import attach, make_world


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


def copied(world):
    """Return a copy of the first order, changed, and change the order in the database."""
    with db_session:
        order = copy.copy(world.Order[1])
        seen = order.total
    order.total = 11
    elsewhere(db_session(lambda: world.Order[1].set(total=50)))
    return order, seen


@pytest.mark.parametrize("options", [{"serializable": True}, {"immediate": True}, {}], ids=str)
def test_somebody_has_changed_the_row(world, options):
    """123. An update of somebody else, after the copy was made, is not overwritten under any isolation."""
    order, seen = copied(world)
    with pytest.raises(OptimisticCheckError, match=f"total: {seen} was seen, 50 is there now"), db_session(**options):
        attach(world.db, order)
    with db_session:
        order = copy.copy(world.Order[1])
        order.total
    order.delete()
    elsewhere(db_session(lambda: world.Order[1].set(total=60)))
    with pytest.raises(OptimisticCheckError), db_session(**options):
        attach(world.db, order)
    assert rows(world.db, "SELECT total FROM purchase ORDER BY id") == [60, 20]


def test_checks_that_are_switched_off(world):
    """optimistic=False is the wish of the program, and holds for what is attached, too."""
    order, _ = copied(world)
    with db_session(optimistic=False):
        attach(world.db, order)
    assert rows(world.db, "SELECT total FROM purchase ORDER BY id") == [11, 20]


def test_nothing_else_is_checked_in_a_serializable_transaction(world, monkeypatch):
    """64. What the transaction reads itself needs no checks, also when something was attached; a locked row neither."""
    with db_session:
        first, second = copy.copy(world.Order[1]), copy.copy(world.Order[2])
        bob = copy.copy(world.User[2])
    with db_session(serializable=True):
        attach(world.db, bob)
        attach(world.db, first)
        attach(world.db, second)
        assert world.Order.select(id=1).for_update().first() is first
        page = world.Page[1]
        new = world.Order(total=1, user=bob)
        flush()
        for order in (first, second, new):
            order.total += 1
        world.User[1].name += "!"
        page.text += "!"
        with recorded(monkeypatch) as log:
            flush()
    wheres = [sql.partition(" WHERE ")[2] for sql in (each.sql for each in log.statements) if sql.startswith("UPDATE")]
    checks = [where.partition(" AND ")[2].split(" ")[0].strip('"') for where in wheres]
    assert checks == ["version", "", "", "total", ""]  # a version in any case, and the second order
    assert rows(world.db, "SELECT total FROM purchase ORDER BY id") == [11, 21, 2]
