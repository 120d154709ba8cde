"""Copies and objects of ended scopes become objects of a session again, with their changes, checked when saved."""

import copy
import pickle

import pytest

from dbsession import (
    CacheIndexError,
    ConstraintError,
    Database,
    DatabaseSessionIsOver,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Required,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.model.state import Status
from dbsession.scope.stack import current_session
from tests.counting import counted
from tests.observing import elsewhere, left_behind, rows, sent
from tests.session.travel import add, attach, make_world, unit


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


def taken(world, entity="User", key=1, *load):
    """Return an object of an ended scope, with what *load* says loaded, and its name or the like read."""
    with db_session:
        obj = getattr(world, entity)[key]
        for name in load:
            obj.load(name)
        obj.to_dict()
    return obj


def change_elsewhere(world, entity, key, **values):
    """Change an object in another session."""

    @db_session
    def change():
        getattr(world, entity)[key].set(**values)

    elsewhere(change)


# --- a copy ---------------------------------------------------------------------------------------------------


def test_a_copy_can_be_changed_and_attached(world):
    """121, 123. Changes of a copy are recorded, and saved by one UPDATE after it was attached; no SELECT is needed."""
    ann = copy.copy(taken(world))
    ann.name = "Eve"
    ann.data["list"].append(3)
    assert ann._state_.label == "detached, dirty" and repr(ann) == "User[1]"
    with counted(world.db) as spent, db_session:
        assert attach(world.db, ann) is ann
        assert ann is world.User[1] and list(unit(world.db).dirty) == [ann]
    assert spent.statements == 1
    with db_session:
        assert (world.User[1].name, world.User[1].data) == ("Eve", {"list": [1, 2, 3]})


def test_an_object_of_an_ended_scope_can_be_attached(world):
    """120. An object of a scope that has ended is an object of the session from then on: it loads and may be changed."""
    ann = taken(world)
    with pytest.raises(DatabaseSessionIsOver):
        ann.name = "Eve"
    with db_session:
        with counted(world.db) as spent:
            attach(world.db, ann)
        assert spent.statements == 0
        assert ann.bio == "long" and len(ann.orders) == 2
        ann.name = "Eve"
    assert rows(world.db, f"SELECT name FROM {world.User._mapping_.quoted} ORDER BY id") == ["Eve", "Bob"]


def test_attaching_twice(world):
    """Attaching what belongs to the session already changes nothing; add does the same for what is persistent."""
    ann = copy.copy(taken(world))
    ann.name = "Eve"
    with db_session:
        add(world.db, ann)
        assert attach(world.db, ann) is ann and attach(world.db, ann) is ann
        assert list(unit(world.db).dirty) == [ann]


def test_the_graph_comes_along(world):
    """Everything that is reached in memory is attached too: changed, removed, deleted and new objects."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags", "card")
        tag = next(tag for tag in ann.tags if tag.text == "x")
    ann, tag = pickle.loads(pickle.dumps((ann, tag)))
    first, second = ann.orders
    first.total = 11
    second.delete()
    ann.orders.create(total=30)
    ann.tags.remove(tag)
    ann.tags.add(world.Tag(text="new", users=[ann]))
    ann.card.number = "1a"
    with sent(world.db) as spent, db_session:
        attach(world.db, ann.card)
        assert ann.card._state_.unit is ann._state_.unit is tag._state_.unit is unit(world.db)
        assert len(unit(world.db).new) == 2 and list(unit(world.db).deleted) == [second]
    assert spent.statements > 0
    with db_session:
        ann = world.User[1]
        assert sorted(order.total for order in ann.orders) == [11, 30]
        assert {tag.text for tag in ann.tags} == {"new", "y"} and ann.card.number == "1a"


def test_only_what_is_reached_comes_along(world):
    """What the object does not lead to stays where it is."""
    with db_session:
        order = world.Order[1]
        order.user
        ann, bob = world.User[1], world.User[2]
    order, bob = pickle.loads(pickle.dumps((order, bob)))
    with db_session:
        attach(world.db, order.user)
        assert order._state_.label == bob._state_.label == "detached, clean"
        assert order.user is world.User[1]
        attach(world.db, order)
        assert order is world.Order[1]


def test_a_key_change_and_inheritance_travel(world):
    """26. A changed key is saved after the attach; an object of a subclass comes as what it is."""
    tag = copy.copy(taken(world, "Tag", "z"))
    tag.text = "renamed"
    dog = copy.copy(taken(world, "Dog", 1))
    dog.breed = "Poodle"
    with db_session:
        attach(world.db, tag)
        attach(world.db, dog)
        assert world.Animal[1] is dog
    assert rows(world.db, "SELECT text FROM tag ORDER BY text") == ["renamed", "x", "y"]
    with db_session:
        assert world.Dog[1].breed == "Poodle"


def test_composite_keys(world):
    """19. Keys of several parts, also where one is a reference, work in copies."""
    with db_session:
        guest = world.Guest[1]
        guest.load("seats", "stays")
    guest = pickle.loads(pickle.dumps(guest))
    assert {seat.get_pk() for seat in guest.seats} == {(1, "a"), (1, "b")}
    (stay,) = guest.stays
    assert stay.get_pk() == (1, 1) and stay.guest is guest
    stay.note = "late"
    world.Stay(guest=guest, night=2)
    with pytest.raises(CacheIndexError):
        world.Stay(guest=guest, night=1)
    with db_session:
        attach(world.db, guest)
        assert world.Stay[1, 1] is stay
    assert rows(world.db, "SELECT night, note FROM stay ORDER BY night") == [(1, "late"), (2, None)]


def test_nothing_is_left_of_copies(world):
    """30. Objects that were copied, changed, attached and saved are gone with the last reference of the program."""
    ann = taken(world, "User", 1, "orders", "tags")
    with left_behind(world.User, world.Order, world.Tag) as left:
        for way in (copy.copy, copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))):
            twin = way(ann)
            twin.height = 3.0
            way(twin)
            with db_session:
                attach(world.db, twin)
        del twin
    assert left == []


# --- the optimistic check ---------------------------------------------------------------------------------------


def test_what_was_read_is_checked(world):
    """123. What the copy had read, and somebody has changed since, makes the save fail; the error names it."""
    ann = copy.copy(taken(world))
    ann.height = 2.0
    change_elsewhere(world, "User", 1, name="Eve")
    with pytest.raises(OptimisticCheckError, match=r"User\[1\].*name: 'Ann' was seen, 'Eve' is there now"), db_session:
        attach(world.db, ann)


def test_the_old_value_of_a_changed_attribute_is_checked(world):
    """123. In a copy every changed attribute is checked, also one that was written without having been read."""
    with db_session:
        bob = world.User.get(name="Bob")
    bob = copy.copy(bob)
    bob.name = "Rob"
    change_elsewhere(world, "User", 2, name="Eve")
    with pytest.raises(OptimisticCheckError, match=r"User\[2\].*'Bob' was seen, 'Eve' is there now"), db_session:
        attach(world.db, bob)
    assert rows(world.db, f"SELECT name FROM {world.User._mapping_.quoted} ORDER BY id") == ["Ann", "Eve"]


def test_what_was_not_read_is_not_checked(world):
    """95. Columns that the copy has neither read nor changed may have changed; float and Json are never compared."""
    with db_session:
        world.User[1].height
        ann = world.User[1]
    ann = copy.copy(ann)
    ann.data = {"mine": True}
    ann.height = 3.0
    change_elsewhere(world, "User", 1, name="Eve", height=9.0, data={"theirs": True})
    with db_session:
        attach(world.db, ann)
    assert rows(world.db, f"SELECT name, height FROM {world.User._mapping_.quoted} WHERE id = 1") == [("Eve", 3.0)]


def test_a_version_is_always_checked(world):
    """90. With a version any change of the row by somebody else is a conflict, and the version goes up by one."""
    page = copy.copy(taken(world, "Page"))
    page.text = "mine"
    with db_session:
        attach(world.db, page)
    assert rows(world.db, "SELECT text, version FROM page") == [("mine", 2)]
    page = copy.copy(taken(world, "Page"))
    page.text = "again"
    change_elsewhere(world, "Page", 1, text="theirs")
    with pytest.raises(OptimisticCheckError, match=r"Page\[1\]"), db_session:
        attach(world.db, page)


def test_a_delete_is_checked(world):
    """92. A deleted copy is deleted only if what was read is as it was; a row that is gone is a conflict."""
    order = copy.copy(taken(world, "Order", 1))
    order.delete()
    assert order._state_.label == "detached, marked for deletion"
    change_elsewhere(world, "Order", 1, total=99)
    with pytest.raises(OptimisticCheckError, match=r"Order\[1\]"), db_session:
        attach(world.db, order)
    order = copy.copy(taken(world, "Order", 1))
    order.delete()
    with db_session:
        attach(world.db, order)
    assert rows(world.db, "SELECT id FROM purchase") == [2]
    gone = copy.copy(taken(world, "Order", 2))
    gone.total = 5
    elsewhere(db_session(lambda: world.Order[2].delete()))
    with pytest.raises(OptimisticCheckError, match=r"Order\[2\] was deleted"), db_session:
        attach(world.db, gone)


def test_a_newer_row_replaces_what_was_read(world):
    """A row that the session loads later counts, for what was not changed: that is no unrepeatable read."""
    ann = copy.copy(taken(world))
    assert ann.name == "Ann"
    change_elsewhere(world, "User", 1, name="Eve")
    with db_session:
        kept = world.User[2]
        attach(world.db, ann)
        assert ann.name == "Ann"
        assert world.User.select(name="Eve").first() is ann and ann.name == "Eve"
        assert kept in unit(world.db).fresh and ann in unit(world.db).fresh


def test_a_newer_row_against_a_change(world):
    """123. If the row that the session loads differs in what the copy has changed, that is a conflict."""
    with db_session:
        ann = copy.copy(world.User[1])
    ann.name = "mine"
    change_elsewhere(world, "User", 1, name="theirs")
    with db_session:
        attach(world.db, ann)
        with pytest.raises(OptimisticCheckError, match=r"User\[1\]\.name has an unsaved change that rests on 'Ann'"):
            with current_session().no_autoflush():
                world.User.select().fetch()
        rollback()


# --- refusals, all or nothing -------------------------------------------------------------------------------------


def test_the_session_has_the_object_already(world):
    """If the session has another object for a row of the graph, the error names both ways out, and nothing has moved."""
    with db_session:
        order = world.Order[1]
        order.user.name
    order = pickle.loads(pickle.dumps(order))
    order.total = 99
    order.user.name = "Eve"
    with db_session:
        ann = world.User[1]
        with pytest.raises(CacheIndexError, match=r"Cannot attach User\[1\].*session\.merge\(obj\).*attach it before"):
            attach(world.db, order)
        assert order._state_.label == "detached, dirty" and not unit(world.db).has_pending()
        assert ann is world.User[1] and unit(world.db).find(world.Order._mapping_, 1) is None


def test_what_is_known_by_its_key_alone_gives_way(world):
    """A reference that is known by its key alone leads to the session's object after the attach."""
    with db_session:
        order = world.Order[1]
    order = copy.copy(order)
    hollow = order.user
    order.total = 99
    with db_session:
        ann = world.User[1]
        attach(world.db, order)
        assert order.user is ann
        with pytest.raises(DatabaseSessionIsOver, match="another object stands for its row"):
            hollow.name
    order = copy.copy(order)
    with db_session:
        ann = world.User[1]
        assert attach(world.db, order.user) is ann


def test_key_only_references_of_an_ended_scope(world):
    """References that were not read in their scope are known by keys alone, and one object stands for each."""
    with db_session:
        first, second = world.Order.select().order_by(world.Order.id)
    assert first.user is not second.user
    with db_session:
        world.Order(total=1, user=2)
        attach(world.db, first)
        attach(world.db, second)
        assert first.user is second.user and first.user.name == "Ann"


def test_an_object_of_another_live_session(world):
    """23. An object of another live session is refused."""
    with db_session:
        ann = world.User[1]
        with db_session(nested="independent"):
            with pytest.raises(ConstraintError, match=r"Cannot attach User\[1\]: it belongs to another live session"):
                attach(world.db, ann)
        assert ann._state_.unit is unit(world.db)


def test_objects_that_cannot_come_back(world):
    """An emptied object of a strict scope, and one that was deleted, say why they cannot be attached."""
    with db_session(strict=True):
        ann = world.User[1]
    with db_session:
        order = world.Order[1]
        order.delete()
    with db_session:
        with pytest.raises(DatabaseSessionIsOver, match=r"Cannot attach User\[1\]: .*strict.*get it again"):
            attach(world.db, ann)
        with pytest.raises(OperationWithDeletedObjectError, match=r"Cannot attach Order\[1\]: it was deleted"):
            attach(world.db, order)


def test_links_to_a_copy_are_refused(world):
    """A copy is no value for an object of a session, and the other way round, until it is attached."""
    ann = copy.copy(taken(world))
    tag = copy.copy(taken(world, "Tag", "z"))
    with db_session:
        order = world.Order[1]
        why = r"User\[1\], which is in no session; session\.attach\(\.\.\.\) it first"
        for use in (
            lambda: setattr(order, "user", ann),
            lambda: world.Order(total=1, user=ann),
            lambda: world.Tag["x"].users.add(ann),
            lambda: ann in world.Tag["x"].users,
        ):
            with pytest.raises(ConstraintError, match=why):
                use()
        for use in (lambda: tag.users.add(world.User[2]), lambda: ann.orders.add(order)):
            with pytest.raises(ConstraintError, match=r"which is of a session, while .* session\.attach\(\.\.\.\)"):
                use()
        assert not unit(world.db).has_pending()
        attach(world.db, ann)
        order.user = ann


def test_another_database(world, tmp_path):
    """An object of another database is refused."""
    other = Database(f"sqlite:///{tmp_path / 'other.db'}")

    class Thing(other.Entity):
        name = Required(str)

    other.generate_mapping(create_tables=True)
    with db_session:
        thing = Thing(name="t")
    with db_session, pytest.raises(ConstraintError, match=r"Cannot attach Thing\[1\]: its entity belongs to another"):
        attach(world.db, thing)
    other.close()


# --- what a copy may do alone --------------------------------------------------------------------------------------


def test_what_a_copy_lacks(world):
    """116. What was not loaded before the copy is refused with what would have loaded it; nothing has changed then."""
    with db_session:
        ann = copy.copy(world.User[1])
    with sent(world.db) as spent:
        for use, what in (
            (lambda: ann.bio, r"attribute User\[1\]\.bio.*query\.prefetch\(User\.bio\)"),
            (lambda: ann.card, r"attribute User\[1\]\.card"),
            (lambda: list(ann.orders), r"collection User\[1\]\.orders"),
            (lambda: ann.orders.count(), r"collection User\[1\]\.orders"),
            (lambda: ann.orders.select(), r"collection User\[1\]\.orders"),
            (ann.orders.load, r"collection User\[1\]\.orders"),
            (ann.load, r"attribute User\[1\]\.bio"),
            (ann.orders.clear, r"collection User\[1\]\.orders"),
            (lambda: setattr(ann, "card", None), r"attribute User\[1\]\.card"),
        ):
            with pytest.raises(DatabaseSessionIsOver, match=f"Cannot (load |query ).*{what}") as caught:
                use()
            assert "session.attach(obj) first" in str(caught.value) or "in no session" in str(caught.value)
        assert ann._state_.label == "detached, clean"
        ann.name = "Eve"
        with pytest.raises(DatabaseSessionIsOver, match=r"flush object User\[1\].*session\.attach\(obj\) first"):
            ann.flush()
    assert spent.statements == 0 and ann._state_.status is Status.DIRTY


def test_a_delete_that_would_have_to_load(world):
    """52. Deleting a copy whose unloaded items have hooks to run is refused, and nothing is marked."""
    with db_session:
        hooked = copy.copy(world.Hooked[1])
    with pytest.raises(DatabaseSessionIsOver, match=r"Cannot load collection Hooked\[1\]\.parts"):
        hooked.delete()
    assert hooked._state_.label == "detached, clean"


def test_a_change_that_is_taken_back(world):
    """32. A copy whose change was taken back is saved by no UPDATE."""
    ann = copy.copy(taken(world))
    ann.name = "Eve"
    ann.name = "Ann"
    with counted(world.db) as spent, db_session:
        attach(world.db, ann)
    assert spent.statements == 0


# --- the ends of the transaction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("send", [flush, lambda: None], ids=["flushed", "unflushed"])
def test_rollback_after_attach(world, send):
    """68. A rollback gives attached objects the rows that they came with, and their collections as they were loaded."""
    with db_session:
        ann, bob, z = world.User[1], world.User[2], world.Tag["z"]
        for each in (ann, bob):
            each.load("orders", "tags", "card")
        world.Order[1].user
    ann, bob, z = pickle.loads(pickle.dumps((ann, bob, z)))
    first, second = ann.orders
    ann.name = "Eve"
    first.user = bob
    second.delete()
    new = ann.orders.create(total=9)
    ann.tags.remove(list(ann.tags))
    ann.tags.add(z)
    ann.card.delete()
    with db_session:
        attach(world.db, ann)
        send()
        rollback()
        assert (ann.name, first.user, new._state_.status) == ("Ann", ann, Status.TRANSIENT)
        assert set(ann.orders) == {first, second} and list(bob.orders) == []
        assert {tag.text for tag in ann.tags} == {"x", "y"} and ann.card.number == "1"
        second.total = 21
        commit()
    assert rows(world.db, "SELECT total FROM purchase ORDER BY id") == [10, 21]


@pytest.mark.parametrize("send", [flush, lambda: None], ids=["flushed", "unflushed"])
def test_attach_in_an_inner_scope_that_fails(world, send):
    """75. After the failure of the inner scope that attached it, the object is the session's, with its row as it came."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags")
    ann = pickle.loads(pickle.dumps(ann))
    ann.name = "Eve"
    ann.tags.clear()
    ann.orders.create(total=5)
    with db_session:
        with pytest.raises(RuntimeError), db_session:
            attach(world.db, ann)
            ann.name = "Eve"
            send()
            raise RuntimeError
        assert (ann.name, len(ann.orders), len(ann.tags)) == ("Ann", 2, 2)
        assert ann is world.User[1] and not unit(world.db).has_pending()
