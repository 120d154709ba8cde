"""What a rollback leaves behind, and what can be read afterwards, in sessions that the program makes itself."""

import copy
import gc
import weakref

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    InvalidRequestError,
    OptimisticCheckError,
    Session,
    TransactionIntegrityError,
    db_session,
    select,
)
from tests.observing import elsewhere, rows, sent
from tests.session.shop import make_shop, snapshot


@pytest.fixture
def shop(db):
    return make_shop(db)


@pytest.fixture(params=["held", "in a block"])
def session(request, shop):
    """A session without `with`, and the same in a block."""
    if request.param == "held":
        session = Session(shop.db)
        yield session
        session.close()
    else:
        with Session(shop.db) as session:
            yield session


flushing = pytest.mark.parametrize("flushes", [False, True], ids=["unflushed", "flushed"])


@flushing
def test_added_objects(shop, session, flushes):
    """67. They lose what the database made, keep what the program gave, are not in the session, and can be added."""
    new = shop.Customer(name="n", data={"a": 1})
    session.add(new)
    order = shop.Order(total=7, customer=new)
    session.add(order)
    if flushes:
        session.flush()
        assert None not in (new.id, order.id)
    session.rollback()
    assert (new.id, new.name, new.data, new.status) == (None, "n", {"a": 1}, None)
    assert new not in session
    assert session.get(shop.Customer, name="n") is None
    session.add(new)
    session.commit()
    assert (new.id is not None, new.status) == (True, "fresh")
    assert rows(shop.db, "SELECT name FROM customer ORDER BY id") == ["a", "b", "n"]


@flushing
def test_changed_objects(shop, session, flushes):
    """68. They show the database's values, without a query for them."""
    a = session.get(shop.Customer, 1)
    assert (a.name, a.count) == ("a", 0)
    a.name, a.bio, a.count = "c", "new", shop.Customer.count + 1
    a.data["list"].append(3)
    if flushes:
        session.flush()
    session.rollback()
    with sent(shop.db) as spent:
        assert (a.name, a.count, a.data) == ("a", 0, {"list": [1, 2]})
    assert spent.statements == 0
    assert a.bio == "bio a"
    session.commit()
    assert rows(shop.db, "SELECT name, count FROM customer WHERE id = 1") == [("a", 0)]


@flushing
def test_deleted_objects_and_their_collections(shop, session, flushes):
    """69, 70. They can be used again; collections hold what they held, and both ends of every relation agree."""
    before = snapshot(shop)
    a, b = session.get(shop.Customer, 1), session.get(shop.Customer, 2)
    first, second = sorted(a.orders)
    x, card = session.get(shop.Tag, "x"), a.card
    session.delete(second)
    session.delete(card)
    session.delete(x)
    first.customer = b
    b.tags.add(session.get(shop.Tag, "y"))
    a.orders.create(total=9)
    if flushes:
        session.flush()
    session.rollback()
    assert (set(a.orders), set(b.orders), a.card, b.card) == ({first, second}, set(), card, None)
    assert ({tag.text for tag in a.tags}, set(b.tags), set(x.customers)) == ({"x", "y"}, set(), {a})
    second.total, x.note = 5, "alive"
    session.commit()
    after = snapshot(shop)
    assert rows(shop.db, "SELECT total FROM purchase ORDER BY id") == [1, 5]
    assert [part for place, part in enumerate(after) if place not in {1, 3}] == [
        part for place, part in enumerate(before) if place not in {1, 3}
    ]


def test_work_behind_a_rollback(shop, session):
    """71. What is done behind it is committed alone."""
    a, b = session.get(shop.Customer, 1), session.get(shop.Customer, 2)
    a.count = 5
    session.flush()
    session.rollback()
    b.count = 6
    session.commit()
    assert rows(shop.db, "SELECT count FROM customer ORDER BY id") == [0, 6]


def test_a_rollback_of_nothing(shop, session):
    """72. Without a transaction nothing is sent: at first, behind reads, behind a commit; nothing is forgotten."""
    with sent(shop.db) as spent:
        session.rollback()
    assert spent.statements == 0
    a = session.get(shop.Customer, 1)
    with sent(shop.db) as spent:
        session.rollback()
        session.rollback()
        assert (a.name, session.get(shop.Customer, 1)) == ("a", a)
    assert spent.statements == 0


def test_pending_objects_that_nobody_holds(shop, session):
    """73. They are undone like the others, and nothing of them is kept."""
    new = shop.Customer(name="n")
    session.add(new)
    session.add(shop.Order(total=7, customer=new))
    session.get(shop.Customer, 1).count = 5
    kept = weakref.ref(new)
    new = None
    gc.collect()
    session.rollback()
    gc.collect()
    assert kept() is None
    session.commit()
    assert rows(shop.db, "SELECT count FROM customer ORDER BY id") == [0, 0]


def test_objects_of_a_session_that_failed(shop):
    """74. Behind its end they have the last values known to be committed; one that was never saved says so."""
    with pytest.raises(TransactionIntegrityError), Session(shop.db) as session:
        a = session.get(shop.Customer, 1)
        new = shop.Customer(name="b")
        a.count = 5
        session.flush()
    held = Session(shop.db)
    b = held.get(shop.Customer, 2)
    other = shop.Customer(name="a")
    held.add(other)
    b.count = 5
    with pytest.raises(TransactionIntegrityError):
        held.commit()
    held.rollback()
    held.close()
    assert (a.name, a.count, b.count, new.name, new.id, other.id) == ("a", 0, 0, "b", None, None)
    for obj, why in ((a, "IntegrityError"), (b, "is over"), (new, "in no database"), (other, "in no database")):
        with pytest.raises(DatabaseSessionIsOver, match=why):
            obj.count = 1


def test_objects_behind_the_end(shop):
    """120, 121. What is loaded reads, what is not says how it could have been, and a change is refused, not ignored."""
    held = Session(shop.db)
    a, order = held.get(shop.Customer, 1), held.get(shop.Order, 1)
    orders = a.orders
    assert (a.name, len(orders)) == ("a", 2)
    held.close()
    with sent(shop.db) as spent:
        assert (a.name, len(orders), order.total) == ("a", 2, 1)
        for read, text in (
            (lambda: a.bio, r"Customer\[1\].bio.*load\(\"bio\"\).*prefetch"),
            (lambda: list(a.tags), r"Customer\[1\].tags.*prefetch"),
            (lambda: setattr(a, "name", "c"), r"Customer\[1\].name"),
            (lambda: a.data.update(x=1), r"Customer\[1\].data"),
            (lambda: orders.clear(), r"Customer\[1\].orders"),
            (a.delete, r"Customer\[1\]"),
        ):
            with pytest.raises(DatabaseSessionIsOver, match=text):
                read()
    assert spent.statements == 0
    assert (a.name, len(orders)) == ("a", 2)
    assert rows(shop.db, "SELECT name FROM customer ORDER BY id") == ["a", "b"]


# --- expire and refresh of what came from elsewhere -------------------------------------------------------


def test_a_copy_that_was_attached(shop, session):
    """123. A copy can be expired and refreshed once it is attached, and its changes are unsaved changes till then."""
    with db_session(nested="independent"):
        a = shop.Customer[1]
        assert a.name == "a"
        changed = copy.copy(a)
    changed.count = 7
    with pytest.raises(InvalidRequestError, match=r"session\.attach"):
        session.refresh(changed)
    session.attach(changed)
    with pytest.raises(InvalidRequestError, match="count has an unsaved change"):
        session.refresh(changed)
    elsewhere(db_session(lambda: shop.db.execute("UPDATE customer SET name = 'c', count = 5 WHERE id = 1")))
    session.refresh(changed, "name")
    with pytest.raises(OptimisticCheckError, match="count"):
        session.commit()  # the change rests on the row that the copy was made from
    session.rollback()
    session.expire_all()
    found = session.get(shop.Customer, 1)
    assert (found.name, found.count) == ("c", 5)


def test_verbs_of_the_session_are_not_those_of_the_scope(shop):
    """expire_all() of a session leaves the objects of a scope beside it alone."""
    held = Session(shop.db)
    mine = held.get(shop.Customer, 1)
    with db_session as scope:
        theirs = shop.Customer[1]
        assert (mine.name, theirs.name) == ("a", "a")
        elsewhere(db_session(lambda: shop.db.execute("UPDATE customer SET name = 'c' WHERE id = 1")))
        held.expire_all()
        assert (mine.name, theirs.name) == ("c", "a")
        with pytest.raises(InvalidRequestError, match="another live session"):
            scope.refresh(mine)
        assert held.query(shop.Customer).count() == 2
        scope.refresh(theirs)
        assert theirs.name == "c"
        assert len(select(c for c in shop.Customer).fetch()) == 2
    held.close()
