"""Rollback puts objects back: changed ones show the database's values, new ones are transient, keys are the old ones."""

import gc
import weakref

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    PrimaryKey,
    Required,
    TransactionIntegrityError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.session.shop import make_shop, snapshot


@pytest.fixture
def shop(db):
    return make_shop(db)


# Every form is tried with changes that were never sent, and with flushed ones.
flushing = pytest.mark.parametrize("send", [lambda: None, flush], ids=["unflushed", "flushed"])


# --- new objects ----------------------------------------------------------------------------------------


@flushing
def test_new_objects_become_transient(shop, send):
    """67. New objects lose what the database made, keep what the program gave, and are in no database."""
    before = snapshot(shop)
    with db_session:
        customer = shop.Customer(name="n", data={"k": 1})
        order = customer.orders.create(total=7)
        send()
        rollback()
        assert (customer.id, customer.status) == (None, None)
        assert customer.get_pk() is None
        assert (customer.name, customer.data, customer.count) == ("n", {"k": 1}, 0)
        assert (order.id, order.total, order.customer) == (None, 7, customer)
        assert repr(customer) == "Customer[transient]"
        assert shop.Customer.get(name="n") is None
        for use in (lambda: setattr(customer, "name", "m"), customer.delete, lambda: customer.orders.create(total=1)):
            with pytest.raises(DatabaseSessionIsOver, match="rolled back"):
                use()
    assert snapshot(shop) == before


@flushing
def test_a_given_key_is_kept_and_free_again(shop, send):
    """67. A key that the program gave stays a value of the transient object; another object may have it now."""
    with db_session:
        tag = shop.Tag(text="n", note="first")
        send()
        rollback()
        assert (tag.text, tag.note) == ("n", "first")
        assert shop.Tag.get(text="n") is None
        again = shop.Tag(text="n", note="second")
        assert shop.Tag["n"] is again
    assert rows(shop.db, "SELECT note FROM tag WHERE text = 'n'") == ["second"]


def test_new_objects_of_several_flushes(shop):
    """67. Saved in one flush, changed in the next: the last value that the program gave is kept."""
    with db_session:
        customer = shop.Customer(name="n")
        flush()
        assert customer.status == "fresh"
        customer.name = "m"
        customer.status = "chosen"
        flush()
        rollback()
        assert (customer.name, customer.status, customer.id) == ("m", "chosen", None)


def test_what_was_committed_before_stays(shop):
    """67. Objects made before an earlier commit() of the same scope are no new objects any more."""
    with db_session:
        customer = shop.Customer(name="n")
        commit()
        key = customer.id
        customer.name = "m"
        other = shop.Customer(name="o")
        flush()
        rollback()
        assert (customer.id, customer.name) == (key, "n")
        assert shop.Customer[key] is customer
        assert other.id is None
    assert rows(shop.db, "SELECT name FROM customer ORDER BY name") == ["a", "b", "n"]


# --- changed objects ------------------------------------------------------------------------------------


@flushing
@pytest.mark.parametrize("read", [False, True], ids=["unread", "read"])
def test_changed_objects_show_the_databases_values(shop, send, read):
    """68. Values, references and SQL expressions, read before or not."""
    before = snapshot(shop)
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        order = shop.Order.select(total=1).first()
        if read:
            assert (a.count, a.status, order.customer) == (0, "fresh", a)
        a.count = 5
        a.status = None
        b.count = shop.Customer.count + 7
        order.customer = b
        order.total = 99
        send()
        rollback()
        assert (a.count, a.status, b.count) == (0, "fresh", 0)
        assert (order.customer, order.total) == (a, 1)
    assert snapshot(shop) == before


@flushing
def test_values_changed_in_place_are_put_back(shop, send):
    """68. Json changed in place shows the database's value; a container held from before is no way to change it."""
    with db_session:
        a = shop.Customer.get(name="a")
        data = a.data
        data["list"].append(3)
        data["new"] = {}
        send()
        rollback()
        assert a.data == {"list": [1, 2]}
        assert a.data is not data
        a.data["list"].append(9)
    assert rows(shop.db, "SELECT count(*) FROM customer WHERE name = 'a'") == [1]
    with db_session:
        assert shop.Customer.get(name="a").data == {"list": [1, 2, 9]}


def test_changes_of_several_flushes_are_undone_together(shop):
    """68. What counts is the value before the first flush of the transaction."""
    with db_session:
        a = shop.Customer.get(name="a")
        for count in (1, 2, 3):
            a.count = count
            flush()
        a.count = 4
        rollback()
        assert a.count == 0
        a.name = "a2"
    assert rows(shop.db, "SELECT name, count FROM customer ORDER BY id") == [("a2", 0), ("b", 0)]


def test_an_expression_that_was_flushed_and_read(shop):
    """68. n = n + 1, flushed, read, rolled back: the old value, without a query that sees the uncommitted one."""
    with db_session:
        a = shop.Customer.get(name="a")
        assert a.count == 0
        a.count = shop.Customer.count + 1
        flush()
        assert a.count == 1
        rollback()
        assert a.count == 0
        a.count = shop.Customer.count + 1
        assert a.count == 1
        rollback()
        assert a.count == 0


def test_versions_are_put_back(db):
    """68. The version in memory is that of the database, so that the next write is checked against it."""

    class Doc(db.Entity):
        text = Required(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        doc = Doc(text="a")
    with db_session:
        doc = Doc[doc.id]
        before = doc.version
        doc.text = "b"
        flush()
        doc.text = "c"
        flush()
        assert doc.version > before
        rollback()
        assert (doc.text, doc.version) == ("a", before)
        doc.text = "d"
    assert rows(db, "SELECT text FROM doc") == ["d"]


# --- keys -------------------------------------------------------------------------------------------------


@flushing
def test_key_changes_are_undone(shop, send):
    """68, 26. The object is found under its old key, and not under the new one."""
    with db_session:
        shop.Tag(text="v")
    with db_session:
        v, y = shop.Tag["v"], shop.Tag["y"]
        v.text = "z"
        y.delete()
        send()
        rollback()
        assert (v.text, y.text) == ("v", "y")
        assert shop.Tag["v"] is v
        assert shop.Tag["y"] is y
        assert shop.Tag.get(text="z") is None
        v.note = "still v"
    assert rows(shop.db, "SELECT text, note FROM tag ORDER BY text") == [("v", "still v"), ("x", None), ("y", None)]


def test_a_chain_of_key_changes_is_undone(db):
    """27. Delete 1, rename 2 to 1, flush, rename it again, flush: both return under their original keys."""

    class Item(db.Entity):
        id = PrimaryKey(int)
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(id=1, name="one")
        Item(id=2, name="two")
    with db_session:
        one, two = Item[1], Item[2]
        one.delete()
        two.id = 1
        flush()
        two.id = 3
        flush()
        new = Item(id=1, name="new")
        flush()
        rollback()
        assert (one.id, two.id) == (1, 2)
        assert Item[1] is one
        assert Item[2] is two
        assert Item.get(id=3) is None
        assert new.id == 1  # its value, as the program gave it; the row is `one`'s
        one.name = "uno"
        two.name = "due"
    assert rows(db, "SELECT id, name FROM item ORDER BY id") == [(1, "uno"), (2, "due")]


# --- and then ---------------------------------------------------------------------------------------------


def test_work_after_rollback_commits_alone(shop):
    """71. Nothing of what was undone comes back with what is done afterwards."""
    with db_session:
        a = shop.Customer.get(name="a")
        a.name = "lost"
        shop.Customer(name="lost too")
        shop.Order.get(total=2).delete()
        a.tags.clear()
        flush()
        a.count = 9
        rollback()
        shop.Order.get(total=1).total = 11
        shop.Customer(name="kept")
    assert rows(shop.db, "SELECT name, count FROM customer ORDER BY name") == [("a", 0), ("b", 0), ("kept", 0)]
    assert rows(shop.db, "SELECT total FROM purchase ORDER BY total") == [2, 11]
    assert rows(shop.db, "SELECT count(*) FROM customer_tag") == [2]


def test_rollback_after_a_failed_flush(shop):
    """71. The failed transaction is gone; objects are put back, and the scope goes on."""
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        a.count = 1
        flush()
        b.name = "a"
        new = shop.Customer(name="new")
        with pytest.raises(TransactionIntegrityError):
            flush()
        rollback()
        assert (a.count, b.name, new.id) == (0, "b", None)
        b.count = 2
    assert rows(shop.db, "SELECT name, count FROM customer ORDER BY name") == [("a", 0), ("b", 2)]


def test_rollback_twice_and_again(shop):
    """71. Rollbacks, commits and rollbacks in one scope: each undoes what came after the last of either."""
    with db_session:
        a = shop.Customer.get(name="a")
        a.count = 1
        commit()
        a.count = 2
        flush()
        rollback()
        rollback()
        assert a.count == 1
        a.count = 3
        rollback()
        assert a.count == 1
        a.count = 4
        commit()
        rollback()
        assert a.count == 4
    assert rows(shop.db, "SELECT count FROM customer WHERE name = 'a'") == [4]


def test_rollback_of_nothing_sends_nothing(shop):
    """72. Without a transaction, rollback() is free: in an untouched scope, after reads, after a commit."""
    with db_session:
        with sent(shop.db) as spent:
            rollback()
        assert spent.statements == 0
        a = shop.Customer.get(name="a")
        with sent(shop.db) as spent:
            rollback()
            a.count = 7
            rollback()
            assert a.count == 0
        assert spent.statements == 0
        a.count = 8
        commit()
        with sent(shop.db) as spent:
            rollback()
        assert spent.statements == 0
        assert a.count == 8


@flushing
def test_dropped_references(shop, send):
    """73, 25. New and changed objects that the program no longer holds are undone, or saved, like the others."""
    with db_session:
        shop.Customer(name="n", orders=[shop.Order(total=5)])
        shop.Customer.get(name="a").count = 6
        shop.Order.get(total=2).delete()
        gc.collect()
        send()
        gc.collect()
        rollback()
        shop.Customer(name="m")
        shop.Customer.get(name="b").count = 7
        gc.collect()
    assert rows(shop.db, "SELECT name, count FROM customer ORDER BY name") == [("a", 0), ("b", 7), ("m", 0)]
    assert rows(shop.db, "SELECT count(*) FROM purchase") == [2]


def test_what_was_rolled_back_is_let_go(shop):
    """73. The session keeps nothing of new objects that were undone."""
    with db_session:
        customer = shop.Customer(name="n", tags=[shop.Tag["x"]])
        customer.orders.create(total=1)
        flush()
        rollback()
        gone = weakref.ref(customer)
        del customer
        gc.collect()
        assert gone() is None


# --- after the scope ----------------------------------------------------------------------------------------


@flushing
def test_objects_of_a_failed_scope(shop, send):
    """74. They are detached, with the last values known to be committed; one that was never saved says so."""
    with pytest.raises(ZeroDivisionError):
        with db_session:
            a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
            tags, orders, card = set(a.tags), set(a.orders), a.card
            a.count = 5
            a.tags.clear()
            a.orders.create(total=3)
            card.delete()
            new = shop.Customer(name="n")
            send()
            a.name = "changed"
            b.delete()
            1 / 0
    assert (a.name, a.count, b.name, a.card) == ("a", 0, "b", card)
    assert set(a.tags) == tags
    assert set(a.orders) == orders
    assert (new.id, new.name) == (None, "n")
    for obj, reason in ((a, "ZeroDivision"), (b, "ZeroDivision"), (card, "ZeroDivision"), (new, "in no database")):
        with pytest.raises(DatabaseSessionIsOver, match=reason):
            obj.set()


def test_objects_of_a_scope_whose_commit_failed(shop):
    """74. The error comes from the COMMIT at the end of the scope: nothing of it is left in the objects."""
    with pytest.raises(TransactionIntegrityError):
        with db_session:
            a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
            a.count = 5
            new = shop.Customer(name="n")
            b.name = "a"
    assert (a.count, b.name, new.id) == (0, "b", None)
