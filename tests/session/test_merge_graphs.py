"""Objects merged that are linked to others: what was changed of a link is compared, and saved, where the column is."""

import pytest

from dbsession import OperationWithDeletedObjectError, OptimisticCheckError, Session, db_session
from tests.observing import elsewhere
from tests.session.graphs import ONE_TO_ONE, live, make_graph, picture, taken


@pytest.fixture
def world(db):
    """Ann and Bob with relations of all kinds, and Cid with nothing."""
    return make_graph(db)


def first(collection):
    """Return the first object of *collection*."""
    return min(collection, key=lambda obj: obj.get_pk())


CHANGES = {what: change for what, change in ONE_TO_ONE.items() if "delete" not in what} | {
    "a note comes": lambda ann, bob: ann.notes.add(first(bob.notes)),
    "a note refers": lambda ann, bob: setattr(first(bob.notes), "person", ann),
    "a note goes": lambda ann, _: ann.notes.remove(first(ann.notes)),
    "a note moves on": lambda ann, bob: bob.notes.add(first(ann.notes)),
    "an order comes": lambda ann, bob: ann.orders.add(first(bob.orders)),
    "an order moves on": lambda ann, bob: bob.orders.add(first(ann.orders)),
    "all notes": lambda ann, bob: setattr(ann, "notes", list(bob.notes)),
    "tags": lambda ann, bob: setattr(ann, "tags", [first(ann.tags), *bob.tags]),
    "boss": lambda ann, bob: setattr(ann, "boss", bob),
    "staff": lambda ann, bob: ann.staff.add(bob),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_link_is_merged_from_either_end(world, change):
    """125. Whatever was changed of the relations of an object is what merge() brings, whoever has the column."""
    expected = live(world, change)
    assert picture(world) != expected
    ann, bob = taken(world, "Ann", "Bob")
    change(ann, bob)
    with db_session as session:
        session.merge(ann)
    assert picture(world) == expected


def to_cid(world, entity):
    """Let the first object of *entity* belong to Cid, in another session."""

    @db_session
    def change():
        first(getattr(world, entity).select().fetch()).set(person=world.Person.get(name="Cid"))

    elsewhere(change)


@pytest.mark.parametrize(
    ("entity", "change"),
    [
        ("Note", lambda ann, bob: bob.notes.add(first(ann.notes))),
        ("Note", lambda ann, _: ann.notes.remove(first(ann.notes))),
        ("Order", lambda ann, bob: bob.orders.add(first(ann.orders))),
        ("Desk", lambda ann, bob: setattr(bob, "desk", ann.desk)),
        ("Desk", lambda ann, _: setattr(ann, "desk", None)),
        ("Locker", lambda ann, _: setattr(ann, "locker", None)),
    ],
)
@pytest.mark.parametrize("verb", ["merge", "attach"])
def test_the_owner_before_is_compared(world, entity, change, verb):
    """125. An item that somebody else has moved since is a conflict, and stays where it is, whatever end is merged."""
    ann, bob = taken(world, "Ann", "Bob")
    change(ann, bob)
    to_cid(world, entity)
    expected = picture(world)
    with pytest.raises(OptimisticCheckError, match=entity), db_session as session:
        getattr(session, verb)(ann)
    assert picture(world) == expected


@pytest.mark.parametrize("what", ["notes", "orders", "desk", "locker"])
@pytest.mark.parametrize("verb", ["merge", "attach"])
def test_the_owner_before_of_what_came_is_compared(world, what, verb):
    """125. What came to the object from another one, and was moved by somebody else since, stays where it is."""
    ann, bob = taken(world, "Ann", "Bob")
    item = getattr(bob, what) if what in {"desk", "locker"} else first(getattr(bob, what))
    item.person = ann
    name, key = type(item).__name__, item.get_pk()

    @db_session
    def change():
        getattr(world, name)[key].person = world.Person.get(name="Cid")

    elsewhere(change)
    expected = picture(world)
    with pytest.raises(OptimisticCheckError, match=name), db_session as session:
        getattr(session, verb)(ann)
    assert picture(world) == expected


def test_an_item_that_moved_to_a_new_object_brings_it_along(world):
    """125. Items that have left for a new object are saved with it, as they refer to it."""
    (ann,) = taken(world, "Ann")
    session = Session(world.db)
    new = world.Person(name="new")
    new.orders.add(first(ann.orders))
    session.merge(ann)
    session.commit()
    session.close()
    assert picture(world)["purchase"] == ["(10, 'new')", "(11, 'Ann')", "(20, 'Bob')", "(21, 'Bob')"]


@pytest.mark.parametrize(
    "change",
    [
        lambda ann: first(ann.notes).delete(),
        lambda ann: first(ann.orders).delete(),
        lambda ann: ann.orders.remove(first(ann.orders)),
        lambda ann: first(ann.tags).delete(),
        lambda ann: ann.badge.delete(),
        lambda ann: ann.desk.delete(),
        lambda ann: ann.spouse.delete(),
    ],
    ids=["note", "order", "required", "tag", "badge", "desk", "spouse"],
)
def test_a_deleted_item_is_refused(world, change):
    """125. Merging the owner of what was deleted in a copy names attach(), and unlinks nothing."""
    (ann,) = taken(world, "Ann")
    change(ann)
    ann.name = "Eve"
    before = picture(world)
    with db_session as session:
        with pytest.raises(OperationWithDeletedObjectError, match=r"deletes nothing; session\.attach"):
            session.merge(ann)
        assert not session.dirty | session.deleted
    assert picture(world) == before


def test_what_was_new_and_is_deleted_again_is_no_part_of_it(world):
    """125. An item that was made and deleted, or taken out again, before it was saved, is not merged."""
    (ann,) = taken(world, "Ann")
    session = Session(world.db)
    world.Note(text="gone", person=ann).delete()
    world.Note(text="left", person=ann).person = None
    tag = world.Tag(text="left", persons=[ann])
    ann.tags.remove(tag)
    world.Desk(number=9, person=ann).delete()
    before = picture(world)
    session.merge(ann)
    session.commit()
    session.close()
    before["desk"][0] = "(1, None)"
    assert picture(world) == before
