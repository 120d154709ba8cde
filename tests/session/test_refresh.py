"""refresh: an object is loaded again at once, in one round trip, and locked if asked."""

from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    Database,
    InvalidRequestError,
    LockNotAvailable,
    ObjectNotFound,
    OptimisticCheckError,
    Optional,
    Required,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.session.recording import recorded
from tests.session.shop import make_shop


@pytest.fixture
def shop(db):
    return make_shop(db)


def change(shop, sql):
    """Let somebody else run *sql*."""
    elsewhere(db_session(lambda: shop.db.execute(sql)))


def columns(statement):
    """Return the names of the columns that a SELECT asks for."""
    return statement.sql.removeprefix("SELECT ").partition(" FROM ")[0].replace('"', "").split(", ")


# --- what is loaded ------------------------------------------------------------------------------------


def test_loads_the_row_now(shop):
    """One round trip; the values are those of the row; nothing is sent when they are read."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count) == ("a", 0)
        change(shop, "UPDATE customer SET name = 'c', count = 7 WHERE id = 1")
        with sent(shop.db) as spent:
            session.refresh(a)
        assert (spent.round_trips, spent.statements) == (1, 1)
        with sent(shop.db) as spent:
            assert (a.name, a.count) == ("c", 7)
        assert spent.round_trips == 0


def test_what_was_read_counts_as_read_no_more(shop):
    """A write behind refresh is checked against what is read behind it, and against nothing from before."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count) == ("a", 0)
        session.refresh(a)
        change(shop, "UPDATE customer SET name = 'c' WHERE id = 1")
        a.count = 5  # rests on nothing
        commit()
        assert rows(shop.db, "SELECT name, count FROM customer WHERE id = 1") == [("c", 5)]
        session.refresh(a)
        assert a.name == "c"
        change(shop, "UPDATE customer SET name = 'd' WHERE id = 1")
        a.count = 6
        with pytest.raises(OptimisticCheckError, match="name"):
            commit()
        rollback()


def test_named_attributes_alone(shop, monkeypatch):
    """Only the named columns are asked for; the others stay as they were, and are checked as before."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count) == ("a", 0)
        change(shop, "UPDATE customer SET name = 'c', count = 7, bio = 'new' WHERE id = 1")
        with recorded(monkeypatch) as sending:
            session.refresh(a, "count", shop.Customer.bio)
            assert (a.name, a.count, a.bio) == ("a", 7, "new")
        (statement,) = sending.statements
        assert columns(statement) == ["id", "count", "bio"]
        a.count = 8
        with pytest.raises(OptimisticCheckError, match="name"):
            commit()
        rollback()


def test_lazy_attributes(shop, monkeypatch):
    """A lazy attribute is loaded again with the rest if it was loaded; one that was not is not."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        assert a.bio == "bio a"
        change(shop, "UPDATE customer SET bio = 'new'")
        with recorded(monkeypatch) as sending:
            session.refresh(a)
            session.refresh(b)
            assert a.bio == "new"
        assert ["bio" in columns(statement) for statement in sending.statements] == [True, False]
        assert b.bio == "new"


def test_an_object_of_which_only_the_key_is_known(db):
    """A reference that was never followed is loaded by refresh, and may turn out to be to an object of a subclass."""

    class Animal(db.Entity):
        name = Required(str)
        toys = Set("Toy")

    class Cat(Animal):
        lives = Required(int)

    class Toy(db.Entity):
        owner = Required(Animal)

    db.generate_mapping(create_tables=True)
    with db_session:
        Toy(owner=Cat(name="Tom", lives=9))
    with db_session as session:
        tom = Toy.select().first().owner
        with sent(db) as spent:
            session.refresh(tom)
        assert spent.round_trips == 1
        with sent(db) as spent:
            assert (type(tom), tom.lives) == (Cat, 9)
        assert spent.round_trips == 0
        session.refresh(tom, "lives")
        session.refresh(tom)
        assert tom.lives == 9


def test_a_row_that_is_gone(shop):
    """ObjectNotFound; the object, its values and its unsaved changes stay as they were."""
    with db_session as session:
        b = shop.Customer[2]
        assert b.name == "b"
        b.count = 3
        change(shop, "DELETE FROM customer WHERE id = 2")
        with pytest.raises(ObjectNotFound, match=r"Customer\[2\] cannot be refreshed"):
            session.refresh(b, discard=True)
        assert (b.name, b.count) == ("b", 3)
        session.expire(b, discard=True)


def test_a_version(db):
    """The version comes with the row, so that the next write is checked against it."""

    class Doc(db.Entity):
        title = Required(str)
        version = Version()

    db.generate_mapping(create_tables=True)
    with db_session:
        Doc(title="a")
    with db_session as session:
        doc = Doc[1]
        change(SimpleNamespace(db=db), "UPDATE doc SET title = 'b', version = 5")
        session.refresh(doc)
        doc.title = "c"
        commit()
        assert doc.version == 6
        change(SimpleNamespace(db=db), "UPDATE doc SET version = 9")
        doc.title = "d"
        with pytest.raises(OptimisticCheckError):
            commit()
        rollback()


# --- unsaved changes -----------------------------------------------------------------------------------


def test_unsaved_changes(shop):
    """They are refused before anything is sent, and thrown away with discard=True; other attributes are no matter."""
    with db_session as session:
        a = shop.Customer[1]
        order = min(a.orders)
        a.count, order.customer = 7, shop.Customer[2]
        with sent(shop.db) as spent:
            with pytest.raises(InvalidRequestError, match=r"refresh object Customer\[1\]: count has.*discard=True"):
                session.refresh(a)
            with pytest.raises(InvalidRequestError, match="customer has"):
                session.refresh(order, "customer", "total")
        assert spent.round_trips == 0
        change(shop, "UPDATE customer SET count = 5, name = 'c' WHERE id = 1")
        session.refresh(a, "name")
        assert (a.name, a.count) == ("c", 7)
        session.refresh(a, discard=True)
        session.refresh(order, discard=True)
        with sent(shop.db) as spent:
            assert (a.count, order.customer) == (5, a)
            flush()
        assert spent.round_trips == 0
        assert order in a.orders


def test_nothing_else_is_saved_for_it(shop):
    """55. Unsaved changes of other objects do not concern the row of this one, and wait."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        b.count = 7
        shop.Customer(name="n")
        with sent(shop.db) as spent:
            session.refresh(a)
            session.refresh(a, "orders", "card", "tags")
        assert (spent.round_trips, spent.transactions) == (2, 0)
    assert rows(shop.db, "SELECT count FROM customer ORDER BY id") == [0, 7, 0]


# --- relations -----------------------------------------------------------------------------------------


def test_collections_are_loaded_when_they_are_touched(shop):
    """A collection that was loaded is forgotten by refresh, with its unsaved changes kept."""
    with db_session as session:
        a = shop.Customer[1]
        assert (len(a.orders), len(a.tags), a.card.number) == (2, 2, "1")
        a.tags.add(shop.Tag(text="z"))
        change(shop, "INSERT INTO purchase (total, customer) VALUES (3, 1)")
        change(shop, "DELETE FROM card")
        with sent(shop.db) as spent:
            session.refresh(a)
        assert spent.statements == 1
        assert (len(a.orders), len(a.tags), a.card) == (3, 3, None)


def test_named_relations_come_along(shop):
    """Collections and one-to-one ends that are named are loaded in the same round trip as the row."""
    with db_session as session:
        a = shop.Customer[1]
        first, second = sorted(a.orders)
        assert (len(a.tags), a.card.number, first.total, second.total) == (2, "1", 1, 2)
        change(shop, "UPDATE purchase SET total = 7 WHERE id = 1")
        change(shop, "DELETE FROM customer_tag WHERE tag = 'x'")
        change(shop, "UPDATE card SET number = '7', owner = 2")
        with sent(shop.db) as spent:
            session.refresh(a, "name", "orders", "tags", "card")
        assert (spent.round_trips, spent.statements) == (1, 4)
        with sent(shop.db) as spent:
            assert [tag.text for tag in a.tags] == ["y"]
            assert a.card is None
            assert {order.total for order in a.orders} == {2, 7}  # the items are new, too
        assert spent.round_trips == 0


def test_items_that_came_from_elsewhere(shop):
    """Whom an item belonged to was read; that it belongs here now is what refresh was to find out, and no error."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        assert (len(b.orders), first.customer) == (0, a)
        change(shop, "UPDATE purchase SET customer = 2 WHERE id = 1")
        session.refresh(b, "orders")
        assert (set(b.orders), first.customer) == ({first}, b)
        session.refresh(a, "orders")
        assert set(a.orders) == {second}


def test_the_other_ends_follow(shop):
    """An object that somebody else has moved: old and new owner are loaded again when they are touched."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        card = a.card
        assert (len(b.orders), b.card) == (0, None)
        change(shop, "UPDATE purchase SET customer = 2 WHERE id = 1")
        change(shop, "UPDATE card SET owner = 2")
        session.refresh(first)
        session.refresh(card)
        assert (first.customer, set(a.orders), set(b.orders)) == (b, {second}, {first})
        assert (card.owner, a.card, b.card) == (b, None, card)


def test_named_collections_keep_what_is_unsaved(shop):
    """What was added and removed is merged into the items that come."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        first.customer = b
        a.tags.remove(shop.Tag["x"])
        change(shop, "INSERT INTO purchase (total, customer) VALUES (3, 1)")
        session.refresh(a, "orders", "tags")
        assert {order.total for order in a.orders} == {2, 3}
        assert [tag.text for tag in a.tags] == ["y"]
        session.refresh(a, "tags", discard=True)
        assert {tag.text for tag in a.tags} == {"x", "y"}
    assert rows(shop.db, "SELECT tag FROM customer_tag ORDER BY tag") == ["x", "y"]


# --- locks ---------------------------------------------------------------------------------------------


def test_for_update_takes_the_row_and_exempts_it(shop, monkeypatch):
    """The values are those of the locked row, in one round trip; what is read of it is not compared any more."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.bio) == ("a", "bio a")
        change(shop, "UPDATE customer SET name = 'c', bio = 'new' WHERE id = 1")
        with sent(shop.db) as spent:
            session.refresh(a, "count", for_update=True)  # and all the rest, since it is locked
        assert spent.round_trips == 1
        assert (a.name, a.bio) == ("c", "new")
        a.count = a.count + 1
        with recorded(monkeypatch) as sending:
            commit()
        (update,) = [statement for statement in sending.statements if "UPDATE" in statement.sql]
        assert "name" not in update.sql
        a.count = a.count + 1  # in the next transaction the lock is gone
        with recorded(monkeypatch) as sending:
            commit()
        (update,) = [statement for statement in sending.statements if "UPDATE" in statement.sql]
        assert "name" in update.sql


def test_for_update_checks_unsaved_changes_that_are_not_named(shop):
    """A change that rests on a value which the locked row has no more is a conflict, as with get_for_update."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        a.count, b.count = a.count + 1, b.count + 1
        change(shop, "UPDATE customer SET count = 5 WHERE id = 2")
        session.refresh(a, "name", for_update=True)
        with pytest.raises(OptimisticCheckError, match=r"Customer\[2\].count"):
            session.refresh(b, "name", for_update=True)
        session.refresh(b, for_update=True, discard=True)
        assert b.count == 5
        b.count = b.count + 1
    assert rows(shop.db, "SELECT count FROM customer ORDER BY id") == [1, 6]


def test_nowait_needs_a_lock(shop):
    """To ask for nowait without for_update is a mistake."""
    with db_session as session:
        with pytest.raises(TypeError, match="for_update=True"):
            session.refresh(shop.Customer[1], nowait=True)


def test_somebody_else_waits(postgres_url):
    """The row is locked until the transaction ends; nowait=True raises where somebody else has it."""
    db = Database(postgres_url)
    shop = make_shop(db)
    with psycopg.connect(postgres_url) as other:
        with db_session as session:
            a = shop.Customer[1]
            session.refresh(a, for_update=True)
            with pytest.raises(psycopg.errors.LockNotAvailable):
                other.execute("SELECT * FROM customer WHERE id = 1 FOR UPDATE NOWAIT")
            other.rollback()
            commit()
            other.execute("SELECT * FROM customer WHERE id = 1 FOR UPDATE NOWAIT")
            with pytest.raises(LockNotAvailable):
                session.refresh(a, for_update=True, nowait=True)
            rollback()
            assert a.name == "a"
    db.close()


# --- transactions and scopes ---------------------------------------------------------------------------


def test_an_inner_scope_that_fails(shop):
    """75. What it has refreshed is as the outer scope had read it, which its writes are checked against."""
    with db_session as session:
        a = shop.Customer[1]
        first, second = sorted(a.orders)
        card = a.card
        assert (a.name, a.count, first.customer, shop.Customer[2].card) == ("a", 0, a, None)
        a.count = 4
        with pytest.raises(ZeroDivisionError), db_session:
            change(shop, "UPDATE purchase SET customer = 2 WHERE id = 1")
            change(shop, "UPDATE card SET owner = 2")
            session.refresh(card)
            session.refresh(a, discard=True)
            session.refresh(first)
            assert (a.card, shop.Customer[2].card) == (None, card)
            assert (a.count, first.customer, set(a.orders)) == (0, shop.Customer[2], {second})
            raise ZeroDivisionError
        assert (a.count, first.customer, set(a.orders)) == (4, a, {first, second})
        with sent(shop.db) as spent:
            assert (a.card, shop.Customer[2].card, card.owner) == (card, None, a)
        assert spent.statements == 0
        first.total = 5
        with pytest.raises(OptimisticCheckError, match="customer"):
            flush()
        rollback()


def test_a_lock_of_an_inner_scope_that_fails_is_gone(shop, monkeypatch):
    """75. The outer scope checks what it writes again."""
    with db_session as session:
        a = shop.Customer[1]
        assert a.name == "a"
        with pytest.raises(ZeroDivisionError), db_session:
            session.refresh(a, for_update=True)
            raise ZeroDivisionError
        a.count = 1
        with recorded(monkeypatch) as sending:
            flush()
        (update,) = [statement for statement in sending.statements if "UPDATE" in statement.sql]
        assert "name" in update.sql


def test_rollback_behind_refresh(shop):
    """68. What was saved, or changed by SQL, and refreshed in the transaction is not there behind a rollback."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        a.name, first.customer = "c", b
        flush()
        shop.db.execute("UPDATE customer SET count = 9, bio = 'x'")
        session.refresh(a)
        session.refresh(b, "count", "bio")
        session.refresh(first)
        assert (a.name, a.count, b.count, b.bio, first.customer) == ("c", 9, 9, "x", b)
        rollback()
        assert (a.name, a.count, b.count, b.bio, first.customer) == ("a", 0, 0, "bio b", a)
        assert (set(a.orders), set(b.orders)) == ({first, second}, set())


def test_a_doomed_session(shop):
    """84. Nothing can be loaded; after rollback() it can."""
    with db_session as session:
        a = shop.Customer[1]
        shop.Customer(name="b")
        with pytest.raises(TransactionIntegrityError):
            flush()
        with pytest.raises(SessionDoomed):
            session.refresh(a)
        assert a.name == "a"
        rollback()
        session.refresh(a)
        assert a.name == "a"


def test_within_a_hook(db):
    """Hooks may refresh what is saved, though a flush is under way."""

    class Stock(db.Entity):
        left = Required(int)
        note = Optional(str)

    class Sale(db.Entity):
        stock = Required(int)

        def before_insert(self):
            stock = Stock[self.stock]
            session.refresh(stock, for_update=True)
            stock.left -= 1

    db.generate_mapping(create_tables=True)
    with db_session:
        Stock(left=5)
    with db_session as session:
        assert Stock[1].left == 5
        change(SimpleNamespace(db=db), 'UPDATE stock SET "left" = 2')
        Sale(stock=1)
    assert rows(db, 'SELECT "left" FROM stock') == [1]


def test_what_was_read_in_an_earlier_transaction(shop):
    """Behind a commit others may change what was read; to refresh one attribute does not make the rest a re-read."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, a.count) == ("a", 0)
        commit()
        change(shop, "UPDATE customer SET name = 'c', count = 7 WHERE id = 1")
        session.refresh(a, "count")
        assert (a.name, a.count) == ("a", 7)
        assert [customer.name for customer in shop.Customer.select(id=1)] == ["c"]
