"""expire and expire_all: what was loaded is forgotten, and loaded again with the next access."""

import pytest

from dbsession import (
    ConstraintError,
    DatabaseSessionIsOver,
    InvalidRequestError,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    UnrepeatableReadError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.session.shop import make_shop


@pytest.fixture
def shop(db):
    return make_shop(db)


def change(shop, sql):
    """Let somebody else run *sql*."""
    elsewhere(db_session(lambda: shop.db.execute(sql)))


# --- values --------------------------------------------------------------------------------------------


def test_loads_again_with_the_next_access(shop):
    """Nothing is sent for it; the key stays; the first access loads the row as it is now, in one round trip."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count) == ("a", 0)
        change(shop, "UPDATE customer SET name = 'c', count = 7 WHERE id = 1")
        with sent(shop.db) as spent:
            session.expire(a)
            assert (a.id, repr(a)) == (1, "Customer[1]")
        assert spent.round_trips == 0
        with sent(shop.db) as spent:
            assert (a.name, a.count) == ("c", 7)
            assert shop.Customer[1] is a
        assert (spent.round_trips, spent.statements) == (1, 1)


def test_without_it_a_value_stays_and_a_re_read_is_an_error(shop):
    """What was read stays as it was read; a query that shows another value raises, and expire is the way out."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.name == "a"
        change(shop, "UPDATE customer SET name = 'c' WHERE id = 1")
        with pytest.raises(UnrepeatableReadError):
            shop.Customer.select().fetch()
        assert a.name == "a"
        session.expire(a)
        assert {customer.name for customer in shop.Customer.select()} == {"b", "c"}


def test_what_was_read_is_not_checked_any_more(shop):
    """A write after expire rests on nothing that was read before it; without expire it is a conflict."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.name == "a"
        change(shop, "UPDATE customer SET name = 'c' WHERE id = 1")
        session.expire(a)
        a.count = 5
        with sent(shop.db) as spent:
            commit()
        assert spent.round_trips == 1
        assert (a.name, a.count) == ("c", 5)
    with pytest.raises(OptimisticCheckError), db_session:
        a = shop.Customer[1]
        assert a.name == "c"
        change(shop, "UPDATE customer SET name = 'd' WHERE id = 1")
        a.count = 6


def test_only_the_named_attributes(shop):
    """Named attributes, by name or as Customer.name, are forgotten alone; the others are read and checked as before."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count, a.status) == ("a", 0, "fresh")
        change(shop, "UPDATE customer SET name = 'c', count = 7 WHERE id = 1")
        session.expire(a, "count", shop.Customer.status)
        with sent(shop.db) as spent:
            assert a.name == "a"
        assert spent.round_trips == 0
        with pytest.raises(UnrepeatableReadError, match="name"):  # the whole row comes, and shows it
            assert a.count
        session.expire(a, "name", "count")
        with sent(shop.db) as spent:
            assert (a.count, a.name) == (7, "c")
        assert spent.round_trips == 1


def test_a_key_is_nothing_to_forget(shop):
    """The key can be named, and stays."""
    with db_session as session:
        a = shop.Customer[1]
        session.expire(a, "id")
        with sent(shop.db) as spent:
            assert (a.id, a.name) == (1, "a")
        assert spent.round_trips == 0


def test_a_lazy_attribute_is_forgotten_too(shop):
    """A lazy attribute is loaded again by the access to it, and not with the row."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.bio == "bio a"
        change(shop, "UPDATE customer SET bio = 'new' WHERE id = 1")
        session.expire(a, "bio")
        with sent(shop.db) as spent:
            assert a.name == "a"
            assert spent.round_trips == 0
            assert a.bio == "new"
        assert spent.statements == 1


def test_a_lazy_attribute_of_an_expired_object_comes_with_its_row(shop):
    """The access to a lazy attribute of an object that is wholly expired is one round trip, like any other."""
    with db_session as session:
        a = shop.Customer[1]
        session.expire(a)
        with sent(shop.db) as spent:
            assert (a.bio, a.name) == ("bio a", "a")
        assert spent.round_trips == 1


def test_a_row_that_is_gone(shop):
    """If somebody has deleted the row, the access says so, each time; get() finds nothing."""
    with db_session as session:
        b = shop.Customer[2]
        change(shop, "DELETE FROM customer WHERE id = 2")
        assert b.name == "b"
        session.expire(b)
        for _ in range(2):
            with pytest.raises(ObjectNotFound, match=r"Customer\[2\]"):
                assert b.name
        assert shop.Customer.get(id=2) is None


def test_commit_and_the_end_of_the_scope_load_nothing(shop):
    """An expired object has nothing to save; after the scope it is one of which only the key is known."""
    with db_session as session:
        a = shop.Customer[1]
        session.expire(a)
        with sent(shop.db) as spent:
            commit()
        assert spent.round_trips == 0
        session.expire(a)
    assert a.id == 1
    with pytest.raises(DatabaseSessionIsOver, match=r"Customer\[1\].name"):
        assert a.name


def test_a_document_held_from_before_refuses_changes(shop):
    """A dict that was read before expire would take changes into nothing: it refuses them; the one read anew takes."""
    with db_session as session:
        a = shop.Customer[1]
        held = a.data
        inner = held["list"]
        session.expire(a)
        for edit in (lambda: held.update(x=1), lambda: inner.append(3)):
            with pytest.raises(ConstraintError, match=r"read .*data again"):
                edit()
        assert a.data == {"list": [1, 2]}
        a.data["list"].append(3)
        with pytest.raises(ConstraintError):
            held["x"] = 1
    assert "3" in str(rows(shop.db, "SELECT data FROM customer WHERE id = 1"))


# --- unsaved changes -----------------------------------------------------------------------------------


def test_unsaved_changes_are_not_lost_by_accident(shop):
    """An object with unsaved changes is not expired, and the error names them; they are saved as if nothing had been."""
    with db_session as session:
        a = shop.Customer[1]
        a.name, a.count = "c", 7
        with pytest.raises(InvalidRequestError, match=r"Customer\[1\]: name, count have unsaved changes.*discard=True"):
            session.expire(a)
        with pytest.raises(InvalidRequestError, match="name has an unsaved change"):
            session.expire(a, "name", "status")
        assert (a.name, a.count) == ("c", 7)
        session.expire(a, "status")
        assert (a.status, a.name) == ("fresh", "c")
    assert rows(shop.db, "SELECT name, count FROM customer WHERE id = 1") == [("c", 7)]


def test_discard_throws_changes_away(shop):
    """With discard=True the object is clean, and shows what the database has; nothing is written."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.name == "a"
        a.name, a.count, a.bio = "c", 7, "c"
        a.data["list"].append(3)
        session.expire(a, discard=True)
        with sent(shop.db) as spent:
            flush()
        assert spent.round_trips == 0
        assert (a.name, a.count, a.bio, a.data) == ("a", 0, "bio a", {"list": [1, 2]})
        a.count = 8
    assert rows(shop.db, "SELECT name, count FROM customer WHERE id = 1") == [("a", 8)]


def test_discard_of_the_named_changes_alone(shop):
    """The other unsaved changes of the object stay, and are saved."""
    with db_session as session:
        a = shop.Customer[1]
        a.name, a.count = "c", 7
        session.expire(a, "name", discard=True)
        assert (a.name, a.count) == ("a", 7)
    assert rows(shop.db, "SELECT name, count FROM customer WHERE id = 1") == [("a", 7)]


def test_sql_expressions(shop):
    """An SQL expression that is not saved yet is an unsaved change; once saved it is a value like others."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.count == 0
        a.count = shop.Customer.count + 1
        with pytest.raises(InvalidRequestError, match="count has an unsaved change"):
            session.expire(a)
        session.expire(a, "name")  # which the expression does not concern
        assert a.name == "a"
        session.expire(a, discard=True)
        assert a.count == 0
        a.count = shop.Customer.count + 1
        flush()
        session.expire(a)
        assert a.count == 1
    assert rows(shop.db, "SELECT count FROM customer WHERE id = 1") == [1]


# --- which objects -------------------------------------------------------------------------------------


def test_objects_that_have_nothing_to_be_loaded(shop):
    """New, deleted and rolled-back objects, and what is no object at all: each error says what it is."""
    with db_session as session:
        new, b = shop.Customer(name="n"), shop.Customer[2]
        for verb in (session.expire, session.refresh):
            with pytest.raises(InvalidRequestError, match=r"not saved yet.*flush"):
                verb(new)
            with pytest.raises(TypeError, match=r"no attribute 'nmae'.*name"):
                verb(b, "nmae")
        b.delete()
        for _ in ("marked", "deleted"):
            for verb in (session.expire, session.refresh):
                with pytest.raises(OperationWithDeletedObjectError, match=r"Customer\[2\].*deleted"):
                    verb(b, discard=True)
            flush()
        rollback()
        session.expire(b)
        assert b.name == "b"
        for verb in (session.expire, session.refresh):
            with pytest.raises(InvalidRequestError, match="rolled back"):
                verb(new)
            with pytest.raises(TypeError, match="Customer"):
                verb(shop.Customer)


def test_objects_of_other_sessions(shop):
    """An object whose scope is over, or which lives in another one, is refused with the way out."""
    with db_session:
        old = shop.Customer[1]
    with db_session as outer:
        a = shop.Customer[1]
        for verb in (outer.expire, outer.refresh):
            with pytest.raises(InvalidRequestError, match=r"Customer\[1\].*session is over.*session\.get"):
                verb(old)
        with db_session(nested="independent") as inner:
            for verb in (inner.expire, inner.refresh):
                with pytest.raises(InvalidRequestError, match=r"Customer\[1\].*which belongs to another live session"):
                    verb(a)
    assert old.name == "a"


# --- all of them ---------------------------------------------------------------------------------------


def test_expire_all_loads_all_alike_at_once(db):
    """After expire_all the first touch loads every object of the table, in one round trip; the rest is in memory."""
    shop = make_shop(db)
    with db_session:
        for number in range(600):
            shop.Order(total=number, customer=shop.Customer(name=f"n{number}"))
    with db_session as session:
        customers, orders = shop.Customer.select().fetch(), shop.Order.select().fetch()
        change(shop, "UPDATE customer SET count = 9")
        with sent(db) as spent:
            session.expire_all()
        assert spent.round_trips == 0
        with sent(db) as spent:
            assert {customer.count for customer in customers} == {9}
        assert (spent.round_trips, spent.statements) == (1, 2)  # 500 keys in a statement
        with sent(db) as spent:
            assert {order.customer.count for order in orders} == {9}
        assert spent.round_trips == 1


def test_expire_all_leaves_out_what_is_unsaved(shop):
    """Changed, new and deleted objects stay as they are, and are saved; the others are loaded again."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        order = shop.Order.select().first()
        assert (a.status, b.name) == ("fresh", "b")
        change(shop, "UPDATE customer SET count = 9 WHERE id = 2")
        a.name = "c"
        new = shop.Customer(name="n")
        order.delete()
        session.expire_all()
        with sent(shop.db) as spent:
            assert (a.name, a.status, new.name) == ("c", "fresh", "n")
        assert spent.round_trips == 0
        assert b.count == 9
    assert rows(shop.db, "SELECT name FROM customer ORDER BY id") == ["c", "b", "n"]
    assert len(rows(shop.db, "SELECT 1 FROM purchase")) == 1
