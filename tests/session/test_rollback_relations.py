"""Rollback brings back deleted objects, relations, and what was seen of rows while something was uncommitted."""

import pytest

from dbsession import DatabaseSessionIsOver, db_session, flush, rollback
from tests.observing import rows
from tests.session.shop import make_shop, snapshot


@pytest.fixture
def shop(db):
    return make_shop(db)


# Every form is tried with changes that were never sent, and with flushed ones.
flushing = pytest.mark.parametrize("send", [lambda: None, flush], ids=["unflushed", "flushed"])


# --- deleted objects --------------------------------------------------------------------------------------


@flushing
def test_deleted_objects_live_again(shop, send):
    """69. Deleted objects can be read, changed and found again; collections contain them, references refer to them."""
    before = snapshot(shop)
    with db_session:
        a = shop.Customer.get(name="a")
        orders = set(a.orders)
        tags = set(a.tags)
        card = a.card
        first = min(orders, key=lambda order: order.total)
        a.delete()
        send()
        rollback()
        assert (a.name, a.card) == ("a", card)
        assert card.owner is a
        assert set(a.orders) == orders
        assert set(a.tags) == tags
        assert all(order.customer is a for order in orders)
        assert all(list(tag.customers) == [a] for tag in tags)
        assert shop.Customer[a.id] is a
        first.delete()
        send()
        assert first not in a.orders
        rollback()
        assert first in a.orders
        a.count = 1
    assert rows(shop.db, "SELECT count FROM customer WHERE name = 'a'") == [1]
    assert snapshot(shop)[1:] == before[1:]


@flushing
def test_what_the_database_cascaded_to_lives_again(shop, send):
    """69. Children that were in memory although their collection was not: they are as they were."""
    with db_session:
        a = shop.Customer.get(name="a")
        order = shop.Order.get(total=1)
        card = shop.Card.get(number="1")
        a.delete()
        send()
        rollback()
        assert order.customer is a
        assert card.owner is a
        assert a.card is card
        order.total = 10
        card.number = "2"
    assert rows(shop.db, "SELECT total FROM purchase ORDER BY total") == [2, 10]
    assert rows(shop.db, "SELECT number FROM card") == ["2"]


def test_deleted_in_bulk(shop):
    """69. Objects whose rows a bulk DELETE took are there again, and so is what hung on them."""
    with db_session:
        orders = set(shop.Customer.get(name="a").orders)
        shop.Order.select(shop.Order.total == 1).delete(bulk=True)
        assert shop.Order.select().count() == 1
        rollback()
        assert shop.Order.select().count() == 2
        assert {order.total for order in orders} == {1, 2}
        assert set(shop.Customer.get(name="a").orders) == orders


# --- collections ------------------------------------------------------------------------------------------


@flushing
@pytest.mark.parametrize("loaded", [False, True], ids=["unloaded", "loaded"])
def test_collections_are_as_loaded(shop, send, loaded):
    """70. Items added, removed, created, moved and deleted: both ends of both kinds of relations are put back."""
    before = snapshot(shop)
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        first, second = shop.Order.select().order_by(shop.Order.total).fetch()
        x, y = shop.Tag["x"], shop.Tag["y"]
        if loaded:
            for collection in (a.orders, b.orders, a.tags, b.tags, x.customers, y.customers):
                collection.load()
        b.orders.add(first)
        a.orders.create(total=3)
        second.delete()
        a.tags.remove(x)
        b.tags.add(y)
        b.tags.create(text="z")
        send()
        rollback()
        assert set(a.orders) == {first, second}
        assert list(b.orders) == []
        assert set(a.tags) == {x, y}
        assert list(b.tags) == []
        assert list(x.customers) == list(y.customers) == [a]
    assert snapshot(shop) == before


@flushing
def test_collections_loaded_after_the_change(shop, send):
    """70. A collection that was first loaded with the change in it does not keep the change."""
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        first, second = shop.Order.select().order_by(shop.Order.total).fetch()
        first.customer = b
        a.tags.remove(shop.Tag["x"])
        send()
        assert list(a.orders) == [second]
        assert list(b.orders) == [first]
        assert [tag.text for tag in a.tags] == ["y"]
        rollback()
        assert set(a.orders) == {first, second}
        assert list(b.orders) == []
        assert {tag.text for tag in a.tags} == {"x", "y"}


def test_collections_of_rows_that_raw_sql_has_changed(shop):
    """70. Loaded after the session's own uncommitted SQL: what they show goes with it."""
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        shop.db.execute("UPDATE purchase SET customer = %s WHERE total = 1", [b.id])
        shop.db.execute("INSERT INTO purchase (total, customer) VALUES (3, %s)", [a.id])
        shop.db.execute("DELETE FROM customer_tag WHERE tag = 'x'")
        shop.db.execute("DELETE FROM card")
        assert {order.total for order in a.orders} == {2, 3}
        assert {order.total for order in b.orders} == {1}
        assert [tag.text for tag in a.tags] == ["y"]
        assert a.card is None
        rollback()
        assert {order.total for order in a.orders} == {1, 2}
        assert list(b.orders) == []
        assert {tag.text for tag in a.tags} == {"x", "y"}
        assert a.card.number == "1"


@flushing
def test_one_to_one_partners_are_put_back(shop, send):
    """70. A new partner, a changed one, a deleted one: both ends are as they were."""
    with db_session:
        a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
        card = a.card
        other = shop.Card(number="n", owner=b)
        assert b.card is other
        send()
        rollback()
        assert b.card is None
        assert other.id is None
        card.owner = b
        send()
        assert (a.card, b.card) == (None, card)
        rollback()
        assert (a.card, b.card, card.owner) == (card, None, a)
        card.delete()
        send()
        assert a.card is None
        rollback()
        assert a.card is card


def test_a_link_that_was_there_before(shop):
    """70. Added from the side that is not loaded although it is there: the side that is loaded keeps it."""
    with db_session:
        a, x = shop.Customer.get(name="a"), shop.Tag["x"]
        assert list(x.customers) == [a]
        a.tags.add(x)
        rollback()
        assert list(x.customers) == [a]
        a.tags.remove(x)
        flush()
        a.tags.add(x)
        rollback()
        assert list(x.customers) == [a]
        assert x in a.tags
    assert rows(shop.db, "SELECT count(*) FROM customer_tag") == [2]


# --- rows seen while something was uncommitted --------------------------------------------------------------


def test_rows_loaded_after_an_uncommitted_write(shop):
    """68. Rows that raw SQL had changed before they were loaded show the database's values after rollback()."""
    with db_session:
        shop.db.execute("UPDATE customer SET count = 50")
        a = shop.Customer.get(name="a")
        assert a.count == 50
        rollback()
        assert a.count == 0
        a.count += 1
    assert rows(shop.db, "SELECT count FROM customer WHERE name = 'a'") == [1]


def test_rows_loaded_again_after_an_uncommitted_write(shop):
    """68. Rows that were known before and re-read in the transaction have the values from before it."""
    with db_session:
        a = shop.Customer.get(name="a")
        assert a.count == 0
        shop.db.execute("UPDATE customer SET count = 50, bio = 'new'")
        shop.Customer.select().fetch()
        assert (a.count, a.bio) == (50, "new")
        rollback()
        assert (a.count, a.bio) == (0, "bio a")


def test_lazy_attributes_loaded_after_an_uncommitted_write(shop):
    """68. A lazy attribute, loaded while its row was changed, is loaded again."""
    with db_session:
        a = shop.Customer.get(name="a")
        a.bio = "changed"
        flush()
        shop.db.execute("UPDATE customer SET bio = 'changed again'")
        b = shop.Customer.get(name="b")
        assert b.bio == "changed again"
        rollback()
        assert (a.bio, b.bio) == ("bio a", "bio b")


def test_rows_that_never_were(shop):
    """68. A row that raw SQL had inserted, loaded and rolled back: whoever reads it is told that it is not there."""
    with db_session:
        shop.db.execute("INSERT INTO tag (text, note) VALUES ('raw', 'note')")
        raw = shop.Tag["raw"]
        assert raw.note == "note"
        rollback()
        assert shop.Tag.get(text="raw") is None
        with pytest.raises(Exception, match="raw"):
            raw.note


def test_a_row_inserted_elsewhere_with_the_key_of_a_deleted_object(shop):
    """28. A row with the key of an object deleted here is inserted by raw SQL and loaded: rollback() brings back the first."""
    with db_session:
        x = shop.Tag["x"]
        x.delete()
        flush()
        shop.db.execute("INSERT INTO tag (text, note) VALUES ('x', 'other')")
        other = shop.Tag["x"]
        assert other is not x
        rollback()
        assert shop.Tag["x"] is x
        assert x.note is None
        x.note = "mine"
        with pytest.raises(DatabaseSessionIsOver):
            other.note = "lost"
    assert rows(shop.db, "SELECT note FROM tag WHERE text = 'x'") == ["mine"]


def test_values_known_before_the_transaction_survive_the_scope(shop):
    """74. After a failed scope, objects have the last values known to be committed, also if they were re-read meanwhile."""
    with pytest.raises(ZeroDivisionError):
        with db_session:
            a, b = shop.Customer.get(name="a"), shop.Customer.get(name="b")
            orders = list(a.orders)
            b.count = 3
            flush()
            shop.Customer.select().fetch()
            shop.db.execute("UPDATE customer SET count = 50")
            shop.Customer.select().fetch()
            assert a.count == 50
            1 / 0
    assert (a.name, a.count, b.name, b.count) == ("a", 0, "b", 0)
    assert list(a.orders) == orders
