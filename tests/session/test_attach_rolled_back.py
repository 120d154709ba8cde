"""What was changed before an object was attached is saved, or its loss is reported: a rollback never hides it."""

import copy
import pickle
from types import SimpleNamespace

import pytest

from dbsession import (
    InvalidRequestError,
    OptimisticCheckError,
    Session,
    TransactionError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.model.state import Status
from tests.observing import elsewhere, rows
from tests.session.travel import add, attach, make_world, session_is_open, unit

LOST = r"Cannot attach {}: it was attached with unsaved changes .* rolled back"


@pytest.fixture
def world(db):
    """Entities, and some objects of each."""
    return make_world(db)


def changed(world):
    """Return a changed copy."""
    with db_session:
        ann = copy.copy(world.User[1])
    ann.name = "Eve"
    return ann


def names(world):
    """Return the names of all users."""
    return rows(world.db, f"SELECT name FROM {world.User._mapping_.quoted} ORDER BY id")


def give_up(*_):
    """Fail as a transaction does that can be tried again."""
    raise TransactionError("a deadlock, say")


@pytest.mark.parametrize("send", [flush, lambda: None], ids=["flushed", "unflushed"])
@pytest.mark.parametrize("verb", [add, attach])
@pytest.mark.parametrize("change", [lambda obj: setattr(obj, "name", "Eve"), lambda obj: obj.delete()])
def test_a_retry_does_not_save_nothing(world, verb, send, change):
    """121. A function that attaches a changed copy and is run again raises, where nothing would be saved otherwise."""
    with db_session:
        tag = copy.copy(world.User[2])
    change(tag)
    attempts = []

    @db_session(retry=2)
    def save():
        verb(world.db, tag)
        attempts.append(tag)
        send()
        give_up()

    with pytest.raises(InvalidRequestError, match=r"User\[2\]: it was attached with.*\(.*rolled back because of Tr"):
        save()
    assert len(attempts) == 1
    assert names(world) == ["Ann", "Bob"]


def test_a_retry_of_a_copy(world):
    """121. What the message says works: a copy of it is attached in each attempt, or it is merged."""
    for name, bring in (
        ("Eve", lambda session, obj: session.attach(copy.copy(obj))),
        ("Evi", lambda session, obj: session.merge(obj)),
    ):
        ann, attempts = changed(world), []
        ann.name = name

        @db_session(retry=2)
        def save(bring=bring, ann=ann, attempts=attempts):
            with db_session as session:
                bring(session, ann)
            attempts.append(ann)
            if len(attempts) == 1:
                give_up()

        save()
        assert len(attempts) == 2
        assert names(world) == [name, "Bob"]


def test_a_conflict(world):
    """123. After a conflict the copy is as it was loaded: neither merge nor attach takes it for the changed one."""
    ann = changed(world)
    elsewhere(db_session(lambda: world.User[1].set(name="Ida")))
    with pytest.raises(OptimisticCheckError), db_session:
        attach(world.db, ann)
    assert ann.name == "Ann"
    with db_session as session:
        for verb in (session.merge, session.attach, session.add):
            with pytest.raises(InvalidRequestError, match="rolled back because of OptimisticCheckError"):
                verb(ann)
        assert session.get(type(ann), 1).name == "Ida"


def test_a_session_that_goes_on(world):
    """68. After a rollback the object is an ordinary one of the session, and only attaching it again is refused."""
    ann = changed(world)
    session = Session(world.db)
    session.attach(ann)
    session.rollback()
    assert ann.name == "Ann" and ann in session
    with pytest.raises(InvalidRequestError, match=LOST.format(r"User\[1\]") + " here"):
        session.attach(ann)
    session.commit()
    session.close()
    with db_session as other, pytest.raises(InvalidRequestError, match=LOST.format(r"User\[1\]")):
        other.attach(ann)


@pytest.mark.parametrize("settle", ["change", "refresh", "expire", "expire_all"])
def test_what_settles_it(world, settle):
    """What was changed again and saved, or loaded again, is an object like any other."""
    ann = changed(world)
    session = Session(world.db)
    session.attach(ann)
    session.rollback()
    if settle == "change":
        ann.name = "Ida"
        session.flush()
        session.rollback()
        with pytest.raises(InvalidRequestError):
            session.attach(ann)
        ann.name = "Ida"
        session.commit()
    elif settle == "expire_all":
        session.expire_all()
    else:
        getattr(session, settle)(ann)
    assert ann.name == ("Ida" if settle == "change" else "Ann")
    session.rollback()
    session.attach(ann)
    session.close()
    with db_session as other:
        other.attach(ann)
        ann.name = "Eva"
    assert names(world)[0] == "Eva"


def test_what_was_committed_is_no_loss(world):
    """69. A rollback behind the commit undoes nothing of what was attached."""
    ann = changed(world)
    with db_session:
        attach(world.db, ann)
        commit()
        ann.name = "Ida"
        rollback()
        assert attach(world.db, ann).name == "Eve"
    with db_session as other:
        assert other.attach(ann) is ann


@pytest.mark.parametrize("copied", [copy.copy, copy.deepcopy, lambda obj: pickle.loads(pickle.dumps(obj))])
def test_a_copy_that_comes_too_late(world, copied):
    """121. A copy that is made behind the rollback has lost the changes, too: it is refused until it is changed."""
    ann = changed(world)
    with db_session as session:
        session.attach(ann)
        rollback()
    late = copied(ann)
    assert late.name == "Ann" and late._state_.label == "detached, clean"
    with db_session as session:
        for verb in (session.attach, session.merge):
            with pytest.raises(
                InvalidRequestError, match=r"User\[1\]: it was attached with .*, which were rolled back, "
            ):
                verb(late)
    with session_is_open(world.db):
        world.Order(total=1, user=late)
    with db_session as session, pytest.raises(InvalidRequestError):
        session.attach(late)
    late.name = "Ida"
    with db_session as session:
        session.attach(late)
    assert names(world)[0] == "Ida"


@pytest.mark.parametrize("send", [flush, lambda: None], ids=["flushed", "unflushed"])
def test_an_inner_scope_that_fails(world, send):
    """75. What an inner scope attached, and its failure undid, is clean in the outer one, and refused from then on."""
    ann = changed(world)
    with db_session as session:
        world.User[2].name = "Bea"
        with pytest.raises(RuntimeError), db_session:
            session.attach(ann)
            send()
            raise RuntimeError
        assert (ann.name, ann._state_.status) == ("Ann", Status.CLEAN)
        with pytest.raises(InvalidRequestError, match=LOST.format(r"User\[1\]")):
            session.attach(ann)
        commit()
        with pytest.raises(InvalidRequestError):
            session.attach(ann)
    with db_session as session, pytest.raises(InvalidRequestError):
        session.attach(ann)
    assert names(world) == ["Ann", "Bea"]


def test_an_inner_scope_that_fails_for_another_reason(world):
    """75. An inner scope that fails undoes nothing of what the outer one has attached."""
    ann = changed(world)
    with db_session as session:
        session.attach(ann)
        with pytest.raises(RuntimeError), db_session:
            ann.height = 9.0
            flush()
            raise RuntimeError
        assert session.attach(ann).name == "Eve"
    assert names(world)[0] == "Eve"


def relations(world):
    """Return a user with everything loaded, another one, a tag that the first has not, in one graph."""
    with db_session:
        ann, bob, tag = world.User[1], world.User[2], world.Tag["z"]
        for each in (ann, bob):
            each.load("orders", "tags", "card")
        world.Order[1].user
    return pickle.loads(pickle.dumps((ann, bob, tag)))


@pytest.mark.parametrize(
    "change",
    [
        lambda w: w.ann.tags.add(w.tag),
        lambda w: w.ann.tags.remove(next(iter(w.ann.tags))),
        lambda w: w.ann.tags.add(w.Tag(text="new")),
        lambda w: w.ann.orders.create(total=9),
        lambda w: w.bob.orders.add(w.ann.orders),
        lambda w: next(iter(w.ann.orders)).delete(),
        lambda w: w.ann.card.set(number="2"),
        lambda w: w.ann.card.set(owner=w.bob),
        lambda w: w.ann.card.delete(),
        lambda w: w.Card(number="3", owner=w.bob),
    ],
    ids=[
        "link",
        "unlink",
        "new tag",
        "new order",
        "moved",
        "deleted",
        "partner",
        "partner moves",
        "partner deleted",
        "new partner",
    ],
)
def test_relations(world, change):
    """47. What an object led to by changes of others is lost with the rollback as well: the object itself says so."""
    with session_is_open(world.db):
        ann, bob, tag = relations(world)
        change(SimpleNamespace(**vars(world), ann=ann, bob=bob, tag=tag))

    def save():
        for each in (ann, bob):
            attach(world.db, each)

    with db_session:
        save()
        rollback()
    with db_session, pytest.raises(InvalidRequestError, match=r"Cannot attach .*rolled back"):
        save()


def test_an_object_to_be_inserted_is_added_again(world):
    """121. A transient object keeps its values, so that the work can be run again, with the copies that it refers to."""
    with session_is_open(world.db):
        ann, _, tag = relations(world)
        order = world.Order(total=9, user=ann)
        new = world.Tag(text="new", users=[ann])
    attempts = []

    @db_session(retry=2)
    def save():
        add(world.db, order, new)
        assert order in unit(world.db).new
        flush()
        attempts.append(order)
        if len(attempts) == 1:
            give_up()

    save()
    assert len(attempts) == 2
    with db_session:
        assert {order.total for order in world.User[1].orders} == {10, 20, 9}
        assert {tag.text for tag in world.User[1].tags} == {"x", "y", "new"}


def test_the_clean_ones_of_a_graph(world):
    """What came along, and was neither changed nor led to something changed, can be attached again."""
    with db_session:
        order = world.Order[1]
        order.user.name
    order = pickle.loads(pickle.dumps(order))
    order.total = 11
    with db_session:
        attach(world.db, order)
        rollback()
    with db_session:
        with pytest.raises(InvalidRequestError, match=r"Cannot attach Order\[1\]"):
            attach(world.db, order)
        assert attach(world.db, order.user) is world.User[1]


def test_what_has_given_way(world):
    """121. An unchanged copy that has given way to the session's object brings its new items in each attempt."""
    ann, _, _ = relations(world)
    ann.orders.create(total=9)
    attempts = []

    @db_session(retry=2)
    def save():
        mine = world.User[1]
        mine.name
        assert attach(world.db, ann) is mine
        flush()
        attempts.append(len(mine.orders))
        if len(attempts) == 1:
            give_up()

    save()
    assert attempts == [3, 3]
    assert rows(world.db, "SELECT total FROM purchase ORDER BY id") == [10, 20, 9]
    ann, bob, _ = relations(world)
    bob.orders.add(list(ann.orders))
    for error in (TransactionError, InvalidRequestError):
        with pytest.raises(error), db_session:
            mine = world.User[2]
            mine.name
            assert attach(world.db, bob) is mine
            flush()
            give_up()


def test_links_in_a_read_only_scope(world):
    """A copy with unsaved links is a change, which a read-only scope refuses before anything has moved."""
    ann, _, tag = relations(world)
    ann.tags.add(tag)
    with db_session, db_session(read_only=True):
        with pytest.raises(InvalidRequestError, match="read_only"):
            attach(world.db, ann)
        assert ann._state_.label == "detached, clean"
