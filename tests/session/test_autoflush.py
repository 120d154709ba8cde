"""Queries see unsaved changes, and send them only where they concern what is asked for."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.session.recording import recorded


@pytest.fixture
def shop(db):
    class Customer(db.Entity):
        name = Required(str, unique=True)
        orders = Set("Order")
        labels = Set("Label")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        customer = Optional(Customer)

    class Label(db.Entity):
        text = PrimaryKey(str)
        customers = Set(Customer)

    class Island(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        customer = Customer(name="a")
        Order(total=1, customer=customer)
        Label(text="x", customers=[customer])
        Island(name="i")
    return SimpleNamespace(db=db, Customer=Customer, Order=Order, Label=Label, Island=Island)


# --- queries see what is unsaved ----------------------------------------------------------------------


def test_queries_include_new_changed_and_deleted_objects(shop):
    """55. select, get, exists and count see what the scope has changed before."""
    with db_session:
        a = shop.Customer.get(name="a")
        b = shop.Customer(name="b")
        assert shop.Customer.get(name="b") is b
        b.name = "c"
        assert shop.Customer.get(name="b") is None
        assert shop.Customer.exists(name="c")
        a.delete()
        assert shop.Customer.select().fetch() == [b]
        assert shop.Customer.select().count() == 1


def test_raw_sql_sees_what_is_unsaved(shop):
    """55. Raw SQL may read any table, so everything is sent before it; `db.execute` and the readers alike."""
    with db_session:
        shop.Customer(name="b")
        assert shop.db.select("SELECT name FROM customer ORDER BY name") == ["a", "b"]
        shop.Customer(name="c")
        assert shop.db.get("SELECT count(*) FROM customer") == 3
        shop.Customer(name="d")
        assert shop.db.exists("SELECT 1 FROM customer WHERE name = %s", ["d"])
        shop.Customer(name="e")
        assert shop.db.execute("UPDATE customer SET name = name || '!' WHERE name = 'e'").rowcount == 1


def test_queries_of_a_collection_see_what_is_unsaved(shop):
    """55. `count`, `is_empty` and `select` of a collection that is not loaded."""
    with db_session:
        a = shop.Customer.get(name="a")
        a.orders.create(total=5)
        assert a.orders.count() == 2
        assert [order.total for order in a.orders.select(shop.Order.total > 3)] == [5]
        a.orders.clear()
        assert a.orders.is_empty()
        assert shop.Order.select(customer=a).count() == 0
        label = shop.Label(text="y")
        a.labels.add(label)
        assert a.labels.count() == 2
        assert shop.Label.get(text="y").customers.count() == 1


def test_a_query_by_a_new_object_saves_it(shop):
    """55. A condition with an object that has no key yet: it is saved first, so that the condition means something."""
    with db_session:
        b = shop.Customer(name="b")
        assert shop.Order.select(customer=b).fetch() == []
        order = shop.Order(total=2, customer=b)
        assert shop.Order.select(shop.Order.customer == b).fetch() == [order]
    with db_session:
        c = shop.Customer(name="c")
        assert shop.Order.select(shop.Order.customer == c).count() == 0
        d = shop.Customer(name="d")
        assert d.orders.select().fetch() == []
        assert d.labels.select().fetch() == []


# --- and nothing else is sent -------------------------------------------------------------------------


def test_a_query_of_another_table_sends_nothing(shop):
    """55. A pending change of one table does not concern a query of another."""
    with db_session:
        shop.Customer(name="b")
        island = shop.Island.get(name="i")
        with sent(shop.db) as spent:
            shop.Order.select().fetch()
            shop.Label.select().count()
            island.name = "j"
            shop.Order.exists(total=7)
        assert spent.statements == 3
    assert rows(shop.db, "SELECT name FROM customer ORDER BY name") == ["a", "b"]


def test_identity_map_hits_send_nothing(shop):
    """55. What is found in memory needs no flush: by key, by reference, in a loaded collection."""
    with db_session:
        a = shop.Customer.get(name="a")
        order = next(iter(a.orders))
        a.name = "b"
        shop.Customer(name="c")
        with sent(shop.db) as spent:
            assert shop.Customer[a.id] is a
            assert order.customer is a
            assert len(a.orders) == 1
        assert spent.statements == 0


def test_loading_by_key_sends_nothing_unsaved(shop, monkeypatch):
    """55. A row of the same table that is loaded by key, and a collection, need no flush of other rows."""
    with db_session:
        other = shop.Customer(name="z")
    with recorded(monkeypatch) as batches:
        with db_session:
            a = shop.Customer.get(name="a")
            a.name = "b"
            assert shop.Customer[other.id].name == "z"
            assert len(a.orders) == 1
            assert batches.writes == []
    assert batches.writes == ["UPDATE customer"]


def test_a_deleted_parent_concerns_its_children(shop):
    """55. The database takes the customer's reference away: a query of orders must see it, one of islands need not."""
    with db_session:
        shop.Customer.get(name="a").delete()
        with sent(shop.db) as spent:
            shop.Island.select().fetch()
        assert spent.statements == 1
        assert shop.Order.select(customer=None).count() == 1


def test_a_changed_link_concerns_both_ends_beside_a_deletion(shop):
    """55. A pending link is seen, also where something else is about to be deleted."""
    with db_session:
        a = shop.Customer.get(name="a")
        y = shop.Label(text="y")
        flush()
        shop.Island.get(name="i").delete()
        a.labels.add(y)
        assert sorted(label.text for label in a.labels.select()) == ["x", "y"]
        assert y.customers.select().fetch() == [a]


def test_a_link_that_was_taken_away_is_seen(shop):
    """55. A removed link is no longer found from either side."""
    with db_session:
        a, x = shop.Customer.get(name="a"), shop.Label["x"]
        a.labels.remove(x)
        assert x.customers.select().count() == 0
        assert a.labels.select().fetch() == []


def test_a_changed_key_is_found_by_get(db):
    """55. An unsaved change of a key is sent before a row is looked for by key, and the old key finds nothing."""

    class Item(db.Entity):
        code = PrimaryKey(str)
        name = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(code="a")
        Item(code="b")
    with db_session:
        a, b = Item["a"], Item["b"]
        a.code = "c"
        b.name = "n"
        b.flush()
        assert Item["c"] is a
        assert Item.get(code="a") is None


# --- suspended ----------------------------------------------------------------------------------------


def test_no_autoflush(shop):
    """55. In the block queries see what is flushed only; behind it everything again, and nothing is lost."""
    with db_session as session:
        with session.no_autoflush():  # before anything else: the database is first touched inside
            b = shop.Customer(name="b")
            assert shop.Customer.get(name="b") is None
            assert shop.db.select("SELECT name FROM customer") == ["a"]
            with session.no_autoflush():
                assert shop.Customer.select().count() == 1
            assert shop.Customer.select().count() == 1
            session.flush()
            assert shop.Customer.get(name="b") is b
            b.name = "c"
        assert shop.Customer.get(name="c") is b
    assert rows(shop.db, "SELECT name FROM customer ORDER BY name") == ["a", "c"]


def test_no_autoflush_ends_with_its_block(shop):
    """55. An error in the block does not leave the session without autoflush."""
    with db_session as session:
        shop.Customer.select().fetch()
        with pytest.raises(ZeroDivisionError):
            with session.no_autoflush():
                1 / 0
        shop.Customer(name="b")
        assert shop.Customer.exists(name="b")


def test_an_error_of_an_autoflush_names_the_object(shop):
    """55, 87. The query fails because of an unsaved object, and the error says which."""
    with db_session:
        shop.Customer(name="a")
        with pytest.raises(TransactionIntegrityError) as caught:
            shop.Customer.select().fetch()
        assert "Customer[new]" in "".join([str(caught.value), *getattr(caught.value, "__notes__", ())])
        rollback()
    assert rows(shop.db, "SELECT name FROM customer") == ["a"]


# --- objects that never were --------------------------------------------------------------------------


def test_a_new_object_deleted_before_the_flush_sends_nothing(shop):
    """56. Added, changed, linked and deleted again before anything was sent: no SQL, no key used up."""
    with sent(shop.db) as spent, db_session:
        customer = shop.Customer(name="n")
        customer.name = "m"
        order = customer.orders.create(total=1)
        customer.labels.create(text="l")
        order.delete()
        for label in list(customer.labels):
            label.delete()
        customer.delete()
    assert (spent.statements, spent.transactions, spent.connections) == (0, 0, 0)


def test_a_new_object_that_was_deleted_leaves_the_others(shop):
    """56. Its children, its place in collections and its key are free again."""
    with db_session:
        a = shop.Customer.get(name="a")
        old = len(a.orders)
        order = a.orders.create(total=1)
        label = shop.Label(text="l", customers=[a])
        order.delete()
        label.delete()
        assert len(a.orders) == old
        assert label not in a.labels
        again = shop.Label(text="l")
        flush()
        assert shop.Label["l"] is again
    assert rows(shop.db, "SELECT count(*) FROM purchase") == [1]
    assert rows(shop.db, "SELECT text FROM label ORDER BY text") == ["l", "x"]


def test_a_saved_object_that_refers_to_a_deleted_new_one(shop):
    """56. A new customer is given to an old order and deleted: the order belongs to nobody, and that is saved."""
    with db_session:
        order = shop.Order.get(total=1)
        order.customer = shop.Customer(name="n")
        order.customer.delete()
        assert order.customer is None
    assert rows(shop.db, "SELECT total, customer FROM purchase") == [(1, None)]
    assert rows(shop.db, "SELECT name FROM customer") == ["a"]
