"""Graphs of which one object is attached: whatever was changed together with it is saved, or nothing is."""

import pytest

from dbsession import db_session, flush, rollback
from tests.session.graphs import again, make_graph, picture, taken


@pytest.fixture
def world(db):
    """Ann and Bob with relations of all kinds, and Cid with nothing."""
    return make_graph(db)


def live(world, change):
    """Return what *change*, of the live persons Ann and Bob, leaves in the database; it is rolled back."""
    with db_session:
        ann, bob = world.Person.get(name="Ann"), world.Person.get(name="Bob")
        change(ann, bob)
        flush()
        found = picture(world)
        rollback()
    return found


# --- one-to-one relations: the end without a column ----------------------------------------------------------------

CHANGES = {
    "the end without a column": lambda ann, _: setattr(ann, "desk", None),
    "the end with the column": lambda ann, _: setattr(ann.desk, "person", None),
    "a version": lambda ann, _: setattr(ann.locker, "person", None),
    "delete": lambda ann, _: ann.badge.delete(),
    "delete an optional one": lambda ann, _: ann.desk.delete(),
    "another's": lambda ann, bob: setattr(ann, "desk", bob.desk),
    "to another": lambda ann, bob: setattr(bob, "desk", ann.desk),
    "swapped": lambda ann, bob: ann.set(desk=bob.desk, locker=bob.locker),
    "both columns": lambda ann, _: setattr(ann, "spouse", None),
    "both columns, from the other end": lambda ann, _: setattr(ann.spouse, "spouse", None),
    "both columns, another's": lambda ann, bob: setattr(ann, "spouse", bob.spouse),
    "delete the other": lambda ann, _: ann.spouse.delete(),
    "delete all": lambda ann, _: ann.delete(),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
@pytest.mark.parametrize("travels", [False, True], ids=["", "pickled"])
def test_whoever_left_a_one_to_one_relation_comes_along(world, change, travels):
    """123. A change of a one-to-one relation, made through either end of copies, is saved when one end is attached."""
    expected = live(world, change)
    assert picture(world) != expected
    ann, bob = taken(world, "Ann", "Bob")
    change(ann, bob)
    if travels:
        ann = again(ann)
    with db_session as session:
        session.attach(ann)
    assert picture(world) == expected


def test_whoever_left_travels_out_of_a_session_too(world):
    """121. A pickle of an object with unsaved changes has those of a one-to-one relation in it, from either end."""
    with db_session:
        ann = world.Person.get(name="Ann")
        ann.load("desk", "badge")
        ann.desk = None
        ann.badge.delete()
        copies = again([ann])
        rollback()
    with db_session as session:
        session.attach(copies[0])
        assert [repr(obj) for obj in (*session.dirty, *session.deleted)] == ["Desk[1]", "Badge[1]"]
    found = picture(world)
    assert (found["desk"], found["badge"]) == (["(1, None)", "(2, 'Bob')"], ["(2, 'Bob')"])


def test_whoever_left_is_undone_with_a_rollback(world):
    """108, 123. A rollback after the attach shows one-to-one relations as they are in the database."""
    (ann,) = taken(world, "Ann")
    ann.desk = None
    with db_session as session:
        session.attach(ann)
        assert ann.desk is None
        rollback()
        assert ann.desk is world.Desk[1]
        assert ann.desk.person is ann
