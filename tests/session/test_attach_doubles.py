"""What is attached meets objects for the same rows: what was not changed gives way, and nobody misses a change."""

import copy
import pickle

import pytest

from dbsession import (
    CacheIndexError,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Optional,
    Required,
    Session,
    db_session,
    rollback,
)
from tests.counting import counted
from tests.observing import elsewhere, rows
from tests.session.travel import attach, make_world, session_is_open, unit

ORDERS = 'SELECT total, "user" FROM purchase ORDER BY id'
LINKS = "SELECT * FROM tag_user ORDER BY 1, 2"


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


def loaded(unit_is, obj, *names):
    """Load what *unit_is* says: nothing of *obj*, its row, or the collections *names*, too."""
    if unit_is == "row":
        obj.load("name")
    elif unit_is == "everything":
        obj.load("name", *names)


def links(world):
    """Return the pairs of the many-to-many relation."""
    with db_session:
        return sorted((tag.text, user.id) for tag in world.Tag.select() for user in tag.users)


# --- references by keys --------------------------------------------------------------------------------------


@pytest.mark.parametrize("known", ["nothing", "row", "everything"])
@pytest.mark.parametrize("verb", ["add", "add_all"])
def test_new_objects_refer_by_key(world, known, verb):
    """121. New objects that refer by keys are added whatever the session knows of these rows, which are told."""
    session = Session(world.db)
    orders = [world.Order(total=total, user=2) for total in (1, 2)]
    bob = None if known == "nothing" else session.get(world.User, 2)
    if bob is not None:
        loaded(known, bob, "orders", "card")
    session.add_all(orders) if verb == "add_all" else [session.add(order) for order in orders]
    bob = session.get(world.User, 2)
    assert all(order.user is bob for order in orders)
    assert list(bob.orders) == orders
    session.rollback()
    assert list(bob.orders) == []
    session.add_all(orders)
    session.commit()
    assert rows(world.db, ORDERS)[2:] == [(1, 2), (2, 2)]
    session.close()


@pytest.mark.parametrize("known", ["nothing", "hollow", "row", "everything"])
def test_a_copy_refers_by_key(world, known):
    """123. A changed copy that refers to another key by now is attached whatever the session knows of both rows."""
    with db_session:
        order = copy.copy(world.Order[1])
    order.user = 2
    with db_session:
        ann, bob = (world.User[1], world.User[2]) if known != "nothing" else (None, None)
        if known == "everything":
            bob.load("orders")
        loaded("row" if known == "row" else "nothing", ann) if ann is not None else None
        attach(world.db, order)
        ann, bob = world.User[1], world.User[2]
        assert order.user is bob
        assert order in bob.orders and order not in ann.orders
        assert len(bob.orders) == 1 and len(ann.orders) == 1
        rollback()
        assert order in ann.orders and len(bob.orders) == 0


def test_a_copy_that_has_moved(world):
    """123. The same, saved; and in an inner scope that fails, after which both users are as they were."""
    with db_session:
        order = copy.copy(world.Order[1])
    order.user = 2
    with db_session:
        bob = world.User[2]
        assert list(bob.orders) == []
        with pytest.raises(RuntimeError), db_session:
            attach(world.db, copy.copy(order))
            assert len(bob.orders) == 1
            raise RuntimeError
        assert list(bob.orders) == []
    with db_session:
        assert list(world.User[2].orders) == []
        attach(world.db, order)
    assert rows(world.db, ORDERS) == [(10, 2), (20, 1)]


def test_one_to_one_by_key(world):
    """47. The session's object knows its new partner, and a second one is refused before anything moves."""
    session = Session(world.db)
    bob = session.get(world.User, 2)
    assert bob.card is None
    card = world.Card(number="2", owner=2)
    session.add(card)
    assert bob.card is card and card.owner is bob
    second = world.Card(number="3", owner=2)
    with pytest.raises(CacheIndexError, match=r"User\[2\] has Card"):
        session.add(second)
    assert second not in session
    with pytest.raises(CacheIndexError, match=r"has Card"):
        session.add_all([world.Card(number="4", owner=1), world.Card(number="5", owner=1)])
    session.rollback()
    assert bob.card is None
    session.close()


def test_a_card_that_moves_to_another_owner(world):
    """47. A copy that has moved in a one-to-one relation: its new owner in the session is told."""
    with db_session:
        card = copy.copy(world.Card[1])
    card.owner = 2
    with db_session:
        bob = world.User[2]
        assert bob.card is None
        attach(world.db, card)
        assert bob.card is card
        assert world.User[1].card is None
    assert rows(world.db, "SELECT number, owner FROM card") == [("1", 2)]


@pytest.mark.parametrize("is_new", [True, False])
def test_a_relation_with_a_column_at_both_ends_by_key(db, is_new):
    """47. Where both ends have a column, the session's object takes its new partner, and leaves the one before."""

    class Person(db.Entity):
        name = Required(str)
        spouse = Optional("Person", reverse="spouse")

    db.generate_mapping(create_tables=True)
    with db_session:
        a, b, c = [Person(name=name) for name in "abc"]
        a.spouse = b
    with db_session:
        third = copy.copy(Person[c.id])
    session = Session(db)
    if is_new:
        third = Person(name="d", spouse=a.id)
    else:
        third.spouse = a.id
    first = session.get(Person, a.id)
    second = first.spouse
    session.add(third)
    assert first.spouse is third and third.spouse is first and second.spouse is None
    session.rollback()
    assert first.spouse is second and second.spouse is first
    if is_new:  # it has kept its values
        session.add(third)
    third.spouse = first
    session.commit()
    session.close()
    with db_session:
        assert [Person[each.id].spouse for each in (first, third, second)] == [Person[third.id], Person[first.id], None]


@pytest.mark.parametrize("known", ["nothing", "row", "everything"])
def test_links_by_key(world, known):
    """48. New objects and copies with links to what is known by its key alone: both ends are told, and both are saved."""
    session = Session(world.db)
    with db_session:
        order, x, z = copy.copy(world.Order[1]), copy.copy(world.Tag["x"]), copy.copy(world.Tag["z"])
    z.users.add(order.user)  # which has nothing but its key
    x.users.remove(order.user)
    new = world.Tag(text="new", users=[copy.copy(order).user])
    if known != "nothing":
        loaded(known, session.get(world.User, 1), "tags")
    session.add(new)
    session.attach(z)
    if known == "everything":  # x has changed, and stands in the collection
        with pytest.raises(CacheIndexError):
            session.attach(x)
        session.get(world.Tag, "x").users.clear()
    else:
        session.attach(x)
        assert list(x.users) == []
    ann = session.get(world.User, 1)
    assert list(new.users) == list(z.users) == [ann]
    assert {each.text for each in ann.tags} == {"y", "z", "new"}
    session.commit()
    assert links(world) == [("new", 1), ("y", 1), ("z", 1)]
    session.close()


# --- copies of rows that the session has ------------------------------------------------------------------------


def cached(world, number):
    """Return an order that was pickled together with its user."""
    with db_session:
        order = world.Order[number]
        order.user.load("name", "data")
        data = pickle.dumps(order)
    return pickle.loads(data)


def test_a_hollow_object_takes_the_row(world):
    """125. What the session knows by its key alone has the row of the copy then, and nothing is sent to read it."""
    with db_session:
        ann = copy.copy(world.User[1])
        assert (ann.name, ann.data) == ("Ann", {"list": [1, 2]})
    elsewhere(db_session(lambda: world.User[1].set(name="Eve")))
    with pytest.raises(OptimisticCheckError, match="name: 'Ann' was seen, 'Eve' is there now"), db_session:
        mine = world.Order[1].user
        with counted(world.db) as spent:
            assert attach(world.db, ann) is mine
            assert (mine.name, mine.height, mine.data) == ("Ann", 1.5, {"list": [1, 2]})
        assert spent.statements == 0 and mine is world.User[1] and not unit(world.db).has_pending()
        mine.data["list"].append(3)
        assert ann.data == {"list": [1, 2]} and list(unit(world.db).dirty) == [mine]


def test_a_newer_row_is_not_overwritten(world):
    """A copy gives way to what the session has loaded, or written, which stays as it is."""
    with db_session:
        ann = copy.copy(world.User[1])
    elsewhere(db_session(lambda: world.User[1].set(name="Eve")))
    with db_session as session:
        mine = world.User[1]
        assert mine.name == "Eve"
        assert attach(world.db, ann) is mine and mine.name == "Eve"
        mine.name = "Ida"
        assert attach(world.db, copy.copy(ann)) is mine and mine.name == "Ida"
        session.flush()
        session.expire(mine)
        assert attach(world.db, copy.copy(ann)).name == "Ida"


def test_two_cached_graphs(world):
    """125. Two graphs that share an unchanged user can both be attached; the second one is given the session's."""
    first, second = cached(world, 1), cached(world, 2)
    first.total, second.total = 11, 21
    with db_session:
        attach(world.db, first)
        attach(world.db, second)
        assert first.user is second.user is world.User[1]
    first, second = cached(world, 1), cached(world, 2)
    second.user.name = "Eve"
    with db_session as session:
        session.add_all([first, second])
        assert first.user is second.user is world.User[1]
    assert rows(world.db, ORDERS) == [(11, 1), (21, 1)]
    with db_session:
        assert world.User[1].name == "Eve"


def test_what_was_changed_of_its_collections(world):
    """An unchanged copy that gives way hands on who has come and gone; one with unsaved links is refused."""
    with db_session:
        ann = world.User[1]
        ann.load("orders", "tags")
    ann = pickle.loads(pickle.dumps(ann))
    first, _ = ann.orders
    first.delete()
    new = ann.orders.create(total=9)
    with db_session:
        mine = world.User[1]
        mine.name
        assert attach(world.db, ann) is mine
        assert new.user is mine and new in mine.orders and first not in mine.orders and len(mine.orders) == 2
    assert [total for total, _ in rows(world.db, ORDERS)] == [20, 9]
    with db_session:
        ann = world.User[1]
        ann.load("tags")
    ann = pickle.loads(pickle.dumps(ann))
    ann.tags.clear()
    with db_session:
        mine = world.User[1]
        mine.name
        with pytest.raises(CacheIndexError, match=r"session\.merge\(obj\)"):
            attach(world.db, ann)
    assert links(world) == [("x", 1), ("y", 1)]


def test_a_changed_copy_is_refused(world):
    """123. A changed copy cannot stand beside the session's object, whatever is loaded of that; merge brings it in."""
    with db_session:
        ann = copy.copy(world.User[1])
    ann.name = "Eve"
    for get in (lambda: world.User[1], lambda: world.Order[1].user):
        with db_session:
            mine = get()
            with pytest.raises(CacheIndexError, match=r"in this session already.*merge\(obj\).*knows the row"):
                attach(world.db, ann)
            assert ann._state_.label == "detached, dirty" and mine._state_.label == "clean"
    with db_session as session:
        mine = world.User[1]
        assert session.merge(ann) is mine and mine.name == "Eve"


@pytest.mark.parametrize("turn", [1, -1])
def test_a_new_object_with_the_key_of_a_deleted_one(world, turn):
    """43. A deleted copy and a new object with its key come in either order: one row goes, and the other comes."""
    with db_session:
        old = copy.copy(world.Tag["z"])
    old.delete()
    with session_is_open(world.db):
        new = world.Tag(text="z", note="new")
    with db_session as session:
        session.add_all([old, new][::turn])
        assert session.get(world.Tag, "z") is new
    assert rows(world.db, "SELECT note FROM tag WHERE text = 'z'") == ["new"]


def test_a_row_that_is_deleted_here(world):
    """A copy of a row that the session deletes is refused by what has happened to it."""
    with db_session:
        tag = copy.copy(world.Tag["z"])
        tag.note
    with db_session:
        world.Tag["z"].delete()
        with pytest.raises(
            OperationWithDeletedObjectError, match=r"Cannot attach Tag\['z'\]: its row was deleted in th"
        ):
            attach(world.db, tag)
        rollback()


def test_a_subclass(world):
    """26. An object that is known by its key as one of a base class turns out to be what the copy is."""
    with db_session:
        dog = copy.copy(world.Dog[1])
        assert dog.breed == "Beagle"
    with db_session:
        known = unit(world.db).reference(world.Animal._mapping_, 1)
        assert attach(world.db, dog) is known
        assert type(known) is world.Dog and known.breed == "Beagle"
