"""Graphs of which one object is attached: whatever was changed together with it is saved, or nothing is."""

import pytest

from dbsession import InvalidRequestError, Session, db_session, rollback
from tests.session.graphs import ONE_TO_ONE, again, live, make_graph, picture, taken


@pytest.fixture
def world(db):
    """Ann and Bob with relations of all kinds, and Cid with nothing."""
    return make_graph(db)


# --- one-to-one relations: the end without a column ----------------------------------------------------------------


@pytest.mark.parametrize("change", ONE_TO_ONE.values(), ids=ONE_TO_ONE)
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


@pytest.mark.parametrize("change", [lambda ann: setattr(ann, "desk", None), lambda ann: ann.badge.delete()])
@pytest.mark.parametrize("is_inner", [False, True])
def test_whoever_left_is_not_lost_in_silence(world, change, is_inner):
    """103, 123. An object whose one-to-one partner had left it in a copy is undone by a rollback, like its partner."""
    (ann,) = taken(world, "Ann")
    change(ann)
    before = picture(world)
    with db_session as session:
        if is_inner:
            with pytest.raises(ZeroDivisionError), db_session as inner:
                inner.attach(ann)
                raise ZeroDivisionError
        else:
            session.attach(ann)
            rollback()
        with pytest.raises(InvalidRequestError, match="rolled back"):
            session.attach(ann)
    with db_session as session, pytest.raises(InvalidRequestError, match="rolled back"):
        session.attach(ann)
    assert picture(world) == before


# --- what was made, and is linked no more ---------------------------------------------------------------------------


def discard(world, ann):
    """Link new objects to *ann*, and delete them, or take them out again, before anything is saved."""
    world.Note(text="deleted", person=ann).delete()
    world.Note(text="left", person=ann).person = None
    world.Order(total=99, person=ann).delete()
    world.Person(name="deleted", boss=ann).delete()
    world.Person(name="left", boss=ann).boss = None
    world.Tag(text="deleted", persons=[ann]).delete()
    ann.tags.remove(world.Tag(text="left", persons=[ann]))


@pytest.mark.parametrize("verb", ["attach", "add"])
@pytest.mark.parametrize("travels", [False, True], ids=["", "pickled"])
def test_what_was_deleted_before_it_was_saved_stays_deleted(world, verb, travels):
    """124. New objects that were deleted, or unlinked, do not come along with what they were linked to."""
    before = picture(world)
    (ann,) = taken(world, "Ann")
    session = Session(world.db)
    discard(world, ann)
    ann = again(ann) if travels else ann
    getattr(session, verb)(ann)
    assert not session.new
    session.close()
    assert picture(world) == before


def test_what_is_new_does_not_bring_back_what_was_deleted(world):
    """124. The same where all of them are transient; an explicit add() brings one back."""
    before = picture(world)
    session = Session(world.db)
    new = world.Person(name="new")
    discard(world, new)
    boss = world.Person(name="boss", staff=[new])
    boss.delete()
    session.add(new)
    assert session.new == {new}
    session.add(boss)
    assert session.new == {new, boss}
    session.rollback()
    session.close()
    assert picture(world) == before


def test_a_pickle_out_of_a_session_has_nothing_that_was_discarded(world):
    """121. What was made and deleted within a session is not in a pickle of what it was linked to."""
    before = picture(world)
    with db_session:
        ann = world.Person.get(name="Ann")
        ann.load("orders", "notes", "tags", "staff")
        discard(world, ann)
        twin = again(ann)
        rollback()
    assert [len(items) for items in (twin.orders, twin.notes, twin.tags, twin.staff)] == [2, 2, 2, 0]
    with db_session as session:
        session.attach(twin)
        assert not session.new
    assert picture(world) == before
