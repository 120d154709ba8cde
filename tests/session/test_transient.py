"""Transient objects: built outside of any scope while a session is open, added to a session with what they reach."""

import contextvars
import gc

import pytest

from dbsession import (
    CacheIndexError,
    ConstraintError,
    DatabaseSessionIsOver,
    InvalidRequestError,
    NoScopeError,
    OperationWithDeletedObjectError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.model.state import Status
from tests.observing import elsewhere, left_behind, rows, sent
from tests.session.travel import add, make_world, session_is_open, unit


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


# --- building ---------------------------------------------------------------------------------------------


def test_an_object_built_without_scope_or_session(world):
    """8. With neither a scope nor an open session, building an object is an error that names both ways out."""
    with pytest.raises(NoScopeError, match=r"test_an_object_built.*with db_session.*session\.add\(\.\.\.\)"):
        world.User(name="n")


def test_an_object_built_while_a_session_is_open(world):
    """It is transient: it may be read and changed, is in no database, and nothing is sent for it."""
    with session_is_open(world.db), sent(world.db) as spent:
        user = world.User(name="n", data={"k": []})
        user.name = "m"
        user.data["k"].append(1)
        order = world.Order(total=1, user=user)
        assert repr(user) == "User[transient]" and user._state_.label == "transient"
        assert (user.get_pk(), user.id, user.bio, user.card) == (None, None, None, None)
        assert user.to_dict() == {
            "id": None, "name": "m", "data": {"k": [1]}, "blob": None, "height": None, "card": None,
        }  # fmt: skip
        assert list(user.orders) == [order] and order in user.orders and order.user is user
        assert user != order and len({user, order}) == 2
        user.load()
        with pytest.raises(TypeError, match=r"User\[transient\] has no key yet"):
            sorted([user, world.User(name="o")])
    assert spent.statements == 0
    assert rows(world.db, "SELECT count(*) FROM purchase") == [2]


def test_an_open_session_of_another_thread_does_not_count(world):
    """8. A session that is open in one thread lets no other thread build objects."""
    with session_is_open(world.db), pytest.raises(NoScopeError):
        elsewhere(lambda: world.User(name="n"))


def test_the_current_scope_comes_first(world):
    """In a scope, what is built is new there, whatever else is open."""
    with session_is_open(world.db), db_session:
        user = world.User(name="n")
        assert user._state_.unit is unit(world.db) and repr(user) == "User[new]"


def test_what_would_need_the_database_is_refused(world):
    """Saving a transient object, or querying its items, says that it has to be added; nothing has changed then."""
    with session_is_open(world.db):
        user = world.User(name="n")
        for use in (user.flush, user.orders.select):
            with pytest.raises(DatabaseSessionIsOver, match=r"User\[transient\].*transient.*session\.add\(obj\) first"):
                use()
        assert user._state_.is_new and list(user.orders) == [] and user.orders.count() == 0


def test_a_transient_object_is_garbage_like_any_other(world):
    """30. Nothing holds transient objects that the program has let go."""
    with left_behind(world.User) as left, session_is_open(world.db):
        for _ in range(10):
            world.Order(total=1, user=world.User(name="n"))
        gc.collect()
    assert left == []


# --- links between them -------------------------------------------------------------------------------------


def test_linking_two_graphs_makes_them_one(world):
    """39. Objects of two graphs that are linked share one unit of work, whichever is larger, and both ends agree."""
    with session_is_open(world.db):
        for few_first in (True, False):
            small = world.User(name="small")
            large = world.User(name="large")
            orders = [world.Order(total=i, user=large) for i in range(20)]
            tag = world.Tag(text=f"t{few_first}")
            if few_first:
                small.tags.add(tag)
                tag.users.add(large)
            else:
                large.tags.add(tag)
                orders[0].user = small
                tag.users.add(small)
            units = {obj._state_.unit for obj in (small, large, tag, *orders)}
            assert len(units) == 1
            assert len(units.pop().new) == 23
            assert set(tag.users) == {small, large}
            orders[1].user = small
            assert orders[1] in small.orders and orders[1] not in large.orders


def test_one_to_one_between_transient_objects(world):
    """Both ends of a one-to-one relation agree at once, from either end."""
    with session_is_open(world.db):
        user, other = world.User(name="n"), world.User(name="o")
        card = world.Card(number="2", owner=user)
        assert user.card is card
        other.card = world.Card(number="3", owner=world.User(name="p"))
        assert other.card.owner is other
        with pytest.raises(CacheIndexError):
            world.Card(number="4", owner=user)
    with db_session:
        add(world.db, user, other)
    assert rows(world.db, "SELECT number FROM card ORDER BY number") == ["1", "2", "3"]


def test_a_failed_constructor_takes_nobody_along(world):
    """41. What is refused because of one value has not linked the others."""
    with session_is_open(world.db):
        user = world.User(name="n")
        with pytest.raises(ValueError, match="total"):
            world.Order(user=user)
        assert user.orders.is_empty()
    with db_session:
        with pytest.raises(ValueError, match="total"):
            world.Order(user=user)
        assert user._state_.unit is not unit(world.db) and not unit(world.db).has_pending()


# --- add ----------------------------------------------------------------------------------------------------


def test_add_takes_along_what_is_reached(world):
    """Adding one object adds every transient one that it reaches through references and collections, and no other."""
    with session_is_open(world.db):
        user = world.User(name="n", tags=[world.Tag(text="t")])
        order = world.Order(total=1, user=user)
        world.Order(total=2, user=user)
        apart = world.User(name="apart")
    with db_session:
        with sent(world.db) as spent:
            add(world.db, order)
            add(world.db, order, user)  # again: nothing
        assert spent.statements == 0
        assert len(unit(world.db).new) == 4
        assert repr(apart) == "User[transient]"
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [1, 2, 10, 20]
    assert rows(world.db, "SELECT name FROM " + world.User._mapping_.quoted + " ORDER BY id") == ["Ann", "Bob", "n"]
    with db_session:
        assert [tag.text for tag in world.User.get(name="n").tags] == ["t"]


def test_add_remembers_where_the_object_was_made(world):
    """87. An error of the flush names the line that constructed the object, not the one that added it."""
    with session_is_open(world.db):
        tag = world.Tag(text="x")
    with pytest.raises(Exception, match=r"made in line \d+ of .*test_transient.py, in test_add_remembers"), db_session:
        add(world.db, tag)


def test_add_of_a_key_that_is_there(world):
    """29. A key that another object of the session has is an error at once, and nothing has moved."""
    with session_is_open(world.db):
        user = world.User(name="n", tags=[world.Tag(text="fresh"), world.Tag(text="x")])
    with db_session:
        world.Tag["x"]
        with pytest.raises(CacheIndexError, match=r"Cannot add Tag\['x'\]: Tag\['x'\] exists in this session already"):
            add(world.db, user)
        assert not unit(world.db).has_pending()
        assert user._state_.label == "transient" and len(user.tags) == 2


def test_two_transient_objects_of_one_key(world):
    """29. Two graphs that have an object for one key cannot be linked, and stay as they are."""
    with session_is_open(world.db):
        one = world.User(name="one", tags=[world.Tag(text="t")])
        two = world.Tag(text="t")
        with pytest.raises(CacheIndexError, match=r"Tag\['t'\] exists among the objects that it is linked to already"):
            one.tags.add(two)
        assert two.users.is_empty() and two not in one.tags and two._state_.unit is not one._state_.unit


def test_a_reference_to_an_object_of_a_session(world):
    """A transient object may refer to one of a session, which does not know of it until it is added."""
    with db_session:
        ann = world.User[1]
        ann.orders.load()
        x = world.Tag["x"]
        held = {}

        def build():
            with session_is_open(world.db):
                held["order"] = world.Order(total=5, user=ann)
                held["user"] = world.User(name="n", tags=[x])

        outside(build)
        order, user = held["order"], held["user"]
        assert order.user is ann and len(ann.orders) == 2 and x in user.tags
        assert not unit(world.db).has_pending()
        add(world.db, order, user)
        assert order in ann.orders and user in x.users
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [5, 10, 20]
    with db_session:
        assert {user.name for user in world.Tag["x"].users} == {"Ann", "n"}


def test_changing_a_reference_to_an_object_of_a_session(world):
    """A transient object may change its mind about whom of a session it refers to; nobody else is told."""
    with db_session:
        ann, bob = world.User[1], world.User[2]
        ann.orders.load(), bob.orders.load()
        held = {}

        def build():
            with session_is_open(world.db):
                order = held["order"] = world.Order(total=5, user=ann)
                order.user = bob
                user = held["user"] = world.User(name="n", tags=[world.Tag(text="t")])
                user.tags.remove(list(user.tags))

        outside(build)
        assert len(ann.orders) == 2 and len(bob.orders) == 0
        add(world.db, held["order"])
        assert len(ann.orders) == 2 and list(bob.orders) == [held["order"]]


def test_a_reference_to_an_object_of_a_session_that_is_not_the_one(world):
    """23. An object that refers to one of another live session cannot be added; the error names what is in the way."""
    held = {}

    def build():
        with session_is_open(world.db):
            held["order"] = world.Order(total=5, user=held["ann"])

    with db_session:
        held["ann"] = world.User[1]
        outside(build)
        with db_session(nested="independent"):
            with pytest.raises(ConstraintError, match=r"Cannot add User\[1\]: it belongs to another live session"):
                add(world.db, held["order"])
            assert held["order"]._state_.is_new


def test_the_other_end_cannot_be_told_before_add(world):
    """Where only an object of a session could note the link, the transient one has to be added first."""
    with db_session:
        order, card = world.Order[1], world.Card[1]

        def build():
            with session_is_open(world.db):
                for values in ({"orders": [order]}, {"card": card}):
                    with pytest.raises(ConstraintError, match=r"which is of a session.*session\.add\(\.\.\.\)"):
                        world.User(name="n", **values)

        outside(build)
        assert not unit(world.db).has_pending()


def test_a_required_end_that_is_taken(world):
    """29. A one-to-one relation that needs both ends has no room for a second one: an error before anything moves."""
    with db_session:
        ann = world.User[1]
        held = {}

        def build():
            with session_is_open(world.db):
                held["card"] = world.Card(number="2", owner=ann)

        outside(build)
        world.Card[1].owner
        with pytest.raises(CacheIndexError, match=r"User\[1\] has Card\[1\] as its card already"):
            add(world.db, held["card"])
        assert held["card"]._state_.label == "transient"


# --- what a session's object is linked to ------------------------------------------------------------------


def test_a_session_takes_in_what_its_objects_are_linked_to(world):
    """Assigning a transient object to one of a session adds it, and all that it reaches."""
    with session_is_open(world.db):
        new = world.User(name="new", tags=[world.Tag(text="t")])
        third = world.Order(total=30, user=world.User(name="third"))
        tag = world.Tag(text="u")
    with db_session:
        order, ann = world.Order[1], world.User[1]
        order.user = new
        assert new._state_.unit is unit(world.db) and order in new.orders
        ann.orders.add(third)
        assert third.user is ann and third in ann.orders
        ann.tags.add(tag)
        assert ann in tag.users
        assert len(unit(world.db).new) == 5
    with db_session:
        assert {user.name for user in world.User.select()} == {"Ann", "Bob", "new", "third"}
        assert world.Order[1].user.name == "new" and world.Order.get(total=30).user.name == "Ann"
        assert {tag.text for tag in world.User[1].tags} == {"x", "y", "u"}


def test_an_object_built_in_a_scope_takes_in_what_it_is_given(world):
    """An object that is built in a scope with transient ones brings them along."""
    with session_is_open(world.db):
        user = world.User(name="new")
        tag = world.Tag(text="t")
        card_owner = world.User(name="owner")
        card = world.Card(number="5", owner=world.User(name="was"))
    with db_session:
        order = world.Order(total=1, user=user)
        other = world.User(name="other", tags=[tag], card=card)
        assert order in user.orders and other in tag.users and card.owner is other
        assert card_owner._state_.label == "transient"
    assert rows(world.db, "SELECT count(*) FROM " + world.User._mapping_.quoted) == [5]


def test_a_link_to_a_transient_object_whose_graph_does_not_fit(world):
    """29. If something in the graph cannot be added, the assignment is refused, and neither side has changed."""
    with session_is_open(world.db):
        user = world.User(name="new", tags=[world.Tag(text="x")])
    with db_session:
        world.Tag["x"]
        order = world.Order[1]
        with pytest.raises(CacheIndexError):
            order.user = user
        with pytest.raises(CacheIndexError):
            world.Order(total=1, user=user)
        assert order.user is world.User[1] and not unit(world.db).has_pending()
        assert user.orders.is_empty() and user._state_.label == "transient"


def test_an_object_that_brings_along_one_of_its_own_key(world):
    """29, 41. If what a new object is given reaches another one with its key, none of them is in the session."""
    with session_is_open(world.db):
        user = world.User(name="new", tags=[world.Tag(text="t")])
    with db_session:
        with pytest.raises(CacheIndexError, match=r"Cannot add Tag\['t'\]"):
            world.Tag(text="t", users=[user])
        assert not unit(world.db).has_pending() and len(user.tags) == 1
        world.Tag(text="t")


# --- objects that were transient for another reason ----------------------------------------------------------


def test_add_after_a_rollback(world):
    """67. A rolled-back object is added again with the values that the program gave it, and gets another key."""
    with db_session:
        user = world.User(name="n", data={"k": 1})
        order = world.Order(total=7, user=user)
        tag = world.Tag(text="t", users=[user])
        flush()
        rollback()
        assert (user.id, order.id) == (None, None)
        add(world.db, order, tag)
        assert order in user.orders and user in tag.users
        user.name = "m"
        commit()
        assert user.id is not None
    with db_session:
        user = world.User.get(name="m")
        assert (user.data, [order.total for order in user.orders]) == ({"k": 1}, [7])
        assert [tag.text for tag in user.tags] == ["t"]


def test_add_after_an_inner_scope_has_failed(world):
    """67, 75. What an inner scope has made keeps its relations when it is undone, and comes back with them."""
    with db_session:
        with pytest.raises(RuntimeError), db_session:
            user = world.User(name="n", tags=[world.Tag(text="t"), world.Tag["x"]])
            order = world.Order(total=7, user=user)
            moved = world.Order[1]
            moved.user = user
            flush()
            raise RuntimeError
        assert list(user.orders) == [order] and moved.user is world.User[1] and len(user.tags) == 2
        add(world.db, user)
        assert order._state_.is_new and user in world.Tag["x"].users
    with db_session:
        user = world.User.get(name="n")
        assert ([order.total for order in user.orders], {tag.text for tag in user.tags}) == ([7], {"t", "x"})


def test_add_after_its_scope_has_failed(world):
    """67, 74. A new object of a scope that has failed is added in a later one."""
    with pytest.raises(RuntimeError), db_session:
        user = world.User(name="n")
        order = world.Order(total=7, user=user)
        raise RuntimeError
    with db_session:
        add(world.db, order)
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [7, 10, 20]


def test_add_after_it_was_deleted_unsaved(world):
    """56. An object that was deleted before it was saved can be added again; its relations agree."""
    with db_session:
        ann = world.User[1]
        order = world.Order(total=7, user=ann)
        order.delete()
        assert order not in ann.orders
        add(world.db, order)
        assert order in ann.orders
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [7, 10, 20]
    with session_is_open(world.db):
        user = world.User(name="n")
        user.delete()
    assert user._state_.status is Status.TRANSIENT
    with db_session:
        add(world.db, user)
        assert repr(user) == "User[new]"


def test_add_of_what_is_deleted_here(world):
    """42. An object that the session deletes cannot be added to it."""
    with db_session:
        order = world.Order[1]
        order.delete()
        with pytest.raises(OperationWithDeletedObjectError, match=r"Cannot add Order\[1\]: it was deleted in this"):
            add(world.db, order)
        flush()
        with pytest.raises(OperationWithDeletedObjectError):
            add(world.db, order)
        rollback()


def test_add_takes_objects_only(world):
    """What is no object of an entity is a TypeError that says so."""
    with db_session, pytest.raises(TypeError, match=r"session\.add\(\) takes objects of entities, not 'x'"):
        add(world.db, "x")


def test_rollback_after_add(world):
    """67. A rollback makes added objects transient again; they can be added once more."""
    with session_is_open(world.db):
        order = world.Order(total=7, user=world.User(name="n"))
    with db_session:
        add(world.db, order)
        flush()
        rollback()
        assert order._state_.status is Status.TRANSIENT and order.id is None
        add(world.db, order)
    assert rows(world.db, "SELECT total FROM purchase ORDER BY total") == [7, 10, 20]


def test_add_in_an_inner_scope_that_fails(world):
    """75. What an inner scope has added is transient after its failure, and the outer one goes on without it."""
    with session_is_open(world.db):
        order = world.Order(total=7, user=world.User(name="n"))
    with db_session:
        ann = world.User[1]
        ann.orders.load()
        with pytest.raises(RuntimeError), db_session:
            add(world.db, order)
            ann.orders.add(world.Order(total=8, user=ann))
            raise RuntimeError
        assert order._state_.status is Status.TRANSIENT and len(ann.orders) == 2
        assert not unit(world.db).has_pending()


def test_add_in_an_inner_scope_that_only_reads(world):
    """An inner scope that has promised to change nothing adds nothing."""
    with session_is_open(world.db):
        user = world.User(name="n")
    with db_session:
        with pytest.raises(InvalidRequestError, match="read_only"), db_session(read_only=True):
            add(world.db, user)
        assert user._state_.label == "transient"


def outside(build):
    """Run *build* in this thread, outside of the current scope."""
    contextvars.Context().run(build)
