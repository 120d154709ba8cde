"""Objects whose commit has an unknown outcome: no verb saves them a second time, and no message says how to."""

import copy
import pickle
import sys
from types import SimpleNamespace

import pytest

from dbsession import (
    CommitOutcomeUnknown,
    ConstraintError,
    DatabaseSessionIsOver,
    Optional,
    Required,
    Session,
    Set,
    db_session,
    rollback,
)
from dbsession.integrations.testing import lose_connection
from tests.observing import rows


@pytest.fixture
def world(db):
    """A user, saved, with an order."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        note = Optional(str)
        user = Required(User)

    for entity in (User, Order):
        entity.__qualname__, entity.__module__ = entity.__name__, __name__
        setattr(sys.modules[__name__], entity.__name__, entity)
    db.generate_mapping(create_tables=True)
    with db_session:
        Order(total=1, user=User(name="Ann"))
    return SimpleNamespace(db=db, User=User, Order=Order)


@pytest.fixture(params=["scope", "session", "rolled back"])
def lost(request, world):
    """A user who was changed, and a new order of hers, of a commit of which nobody knows; it was done."""
    if request.param == "scope":
        with pytest.raises(CommitOutcomeUnknown), lose_connection(world.db, done=True), db_session:
            user = world.User[1]
            order = world.Order(total=2, user=user)
            user.name = "Eve"
        return user, order
    session = Session(world.db)
    user = session.get(world.User, 1)
    order = world.Order(total=2, user=user)
    session.add(order)
    user.name = "Eve"
    with pytest.raises(CommitOutcomeUnknown), lose_connection(world.db, done=True):
        session.commit()
    if request.param == "rolled back":
        session.rollback()
        session.close()
        return None, order
    with pytest.warns(RuntimeWarning, match="nobody knows"):
        session.close()
    return user, order


VERBS = {
    "add": lambda session, obj: session.add(obj),
    "attach": lambda session, obj: session.attach(obj),
    "merge": lambda session, obj: session.merge(obj),
    "copy": lambda _, obj: copy.copy(obj),
    "deepcopy": lambda _, obj: copy.deepcopy(obj),
    "pickle": lambda _, obj: pickle.dumps(obj),
    "pickle, in a list": lambda _, obj: pickle.dumps([obj]),
}


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
def test_nothing_saves_a_lost_object_again(world, lost, verb):
    """63. Neither a verb of a session nor a copy brings back what may be saved already; nor what it was changed to."""
    for obj in lost:
        if obj is None:
            continue
        with db_session as session:
            with pytest.raises(DatabaseSessionIsOver, match="nobody knows whether it") as caught:
                verb(session, obj)
            assert not session.new | session.dirty
        assert "session.add" not in str(caught.value)
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [1, 2]


def test_no_message_names_add(world, lost):
    """63. What cannot be done with a lost new object is explained by what is to be done: to look for it."""
    _, order = lost
    with db_session:
        user = world.User[1]
        for use, error in (
            (lambda: setattr(order, "total", 3), DatabaseSessionIsOver),
            (order.delete, DatabaseSessionIsOver),
            (lambda: user.orders.add(order), ConstraintError),
            (lambda: world.User(name="x", orders=[order]), ConstraintError),
        ):
            with pytest.raises(error, match="look for it in the database") as caught:
                use()
            assert "session.add" not in str(caught.value)
        rollback()


def test_what_leads_to_a_lost_object_is_not_copied_either(world):
    """63. A copy of an object that has a lost one in a collection would bring it along."""
    with pytest.raises(CommitOutcomeUnknown), lose_connection(world.db, done=True), db_session:
        user = world.User[1]
        user.orders.load()
        world.Order(total=2, user=user)
    for way in (copy.deepcopy, pickle.dumps):
        with pytest.raises(DatabaseSessionIsOver, match="look for it in the database"):
            way(user)
    assert copy.copy(user).name == "Ann"  # alone
