"""What counts as a change, and what of it is written (scenarios 31-33, 36, 41 and 42)."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal

import pytest

from dbsession import (
    ConstraintError,
    Database,
    DatabaseSessionIsOver,
    Json,
    ObjectNotFound,
    OperationWithDeletedObjectError,
    OptimisticCheckError,
    Optional,
    Required,
    Set,
    Version,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent
from tests.recording import recorded, set_columns, verbs


class Shop:
    """Customers with ten columns of their own, and orders."""

    def __init__(self, db: Database) -> None:
        class Customer(db.Entity):
            name = Required(str)
            email = Optional(str, unique=True)
            age = Required(int, default=18, min=0, max=150)
            balance = Required(Decimal, 10, 2, default=0)
            active = Required(bool, default=True)
            rating = Optional(float)
            seen = Optional(datetime)
            settings = Optional(Json)
            biography = Optional(str, lazy=True, max_len=40)
            points = Optional(int, sql_default="7")
            friend = Optional("Customer", reverse="friends")
            friends = Set("Customer", reverse="friend")
            orders = Set("Order")

        class Order(db.Entity):
            customer = Required(Customer)
            total = Required(int, default=0)

        db.generate_mapping(create_tables=True)
        self.db, self.Customer, self.Order = db, Customer, Order
        self.table = Customer._mapping_.table
        with db_session:
            ann = Customer(name="Ann", email="a@x", age=30, settings={"a": 1}, biography="born", friend=None)
            bob = Customer(name="Bob", email="b@x", age=40, friend=ann)
            Order(customer=ann, total=5)
            Order(customer=bob, total=6)

    def column(self, name: str) -> list[object]:
        """Return what others see of one column of the customers."""
        return rows(self.db, f'SELECT {name} FROM "{self.table}" ORDER BY id')


@pytest.fixture
def shop(db):
    return Shop(db)


# --- 31, 32: what is written -----------------------------------------------------------------------------


def test_an_update_sets_what_was_changed(shop):
    """31. Of ten columns the UPDATE sets the one that was changed."""
    with db_session:
        ann = shop.Customer[1]
        ann.to_dict()
        with recorded() as statements:
            ann.age = 31
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["age"]
        with recorded() as statements:
            ann.name, ann.balance = "Anna", 5
            flush()
        assert set_columns(statements[-1]) == ["name", "balance"]
    assert shop.column("name") == ["Anna", "Bob"] and shop.column("age") == [31, 40]


def test_each_flush_writes_what_is_new(shop):
    """31. A column that was saved by one flush is not written by the next."""
    with db_session:
        ann = shop.Customer[1]
        ann.age = 31
        flush()
        ann.name = "Anna"
        with recorded() as statements:
            flush()
        assert set_columns(statements[-1]) == ["name"]
        with sent(shop.db) as spent:
            flush()
        assert spent.statements == 0


EQUAL = {
    "name": ["Ann", " Ann "],
    "age": [30, 30.0, "30", Decimal(30)],
    "balance": [0, "0.00", Decimal("0.000"), 0.0],
    "active": [True, 1],
    "rating": [None],
    "settings": [{"a": 1}],
    "friend": [None],
    "email": ["a@x"],
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("name", EQUAL)
def test_an_equal_value_changes_nothing(shop, name, reads):
    """32. A value that equals what the row has, in any spelling, is no change: nothing is sent."""
    with sent(shop.db) as spent:
        with db_session:
            ann = shop.Customer[1]
            before = getattr(ann, name) if reads else None
            for value in EQUAL[name]:
                setattr(ann, name, value)
            flush()
            if reads:
                assert getattr(ann, name) == before and type(getattr(ann, name)) is type(before)
    assert (spent.statements, spent.transactions) == (1, 0)


CHANGES = {
    "name": "Eve",
    "age": 99,
    "balance": Decimal("9.99"),
    "active": False,
    "rating": 2.5,
    "seen": datetime(2024, 1, 1),
    "settings": {"b": 2},
    "biography": "died",
    "friend": 2,
    "email": None,
}


@pytest.mark.parametrize("reads", [True, False])
@pytest.mark.parametrize("name", CHANGES)
def test_changed_and_changed_back(shop, name, reads):
    """32. A value that is as loaded again at the flush is no change, whether it was read before or not."""
    with db_session:
        ann = shop.Customer[1]
        ann.load("biography")
        before = {"name": "Ann", "email": "a@x", "settings": {"a": 1}, "biography": "born", "age": 30}.get(name)
        before = {"balance": Decimal(0), "active": True}.get(name, before)
        if reads:
            assert getattr(ann, name) == before
        setattr(ann, name, CHANGES[name])
        setattr(ann, name, before)
        with sent(shop.db) as spent:
            flush()
        assert spent.statements == 0
        assert getattr(ann, name) == before


def test_one_of_two_is_changed_back(shop):
    """32. Of two changed columns the one that is as before is not written."""
    with db_session:
        ann = shop.Customer[1]
        ann.name, ann.age = "Eve", 5
        ann.name = "Ann"
        with recorded() as statements:
            flush()
        assert set_columns(statements[-1]) == ["age"]


def test_the_last_value_is_written_once(shop):
    """32. However often a value is assigned, one UPDATE writes the last one."""
    with db_session:
        ann = shop.Customer[1]
        for age in range(40, 60):
            ann.age = age
        with recorded() as statements:
            flush()
        assert verbs(statements) == ["UPDATE"]
    assert shop.column("age") == [59, 40]


# --- 33: None, and nothing -------------------------------------------------------------------------------


def test_none_is_null_and_nothing_is_the_default(shop):
    """33. None is written as NULL; what was not given is left to the database, and comes back with the INSERT."""
    with sent(shop.db) as spent:
        with db_session:
            with_default, with_null = shop.Customer(name="C"), shop.Customer(name="D", points=None)
            flush()
            assert with_default.points == 7 and with_null.points is None
    assert shop.column("points") == [7, 7, 7, None]
    assert spent.round_trips <= 2
    assert with_default.points == 7 and with_null.points is None


def test_an_update_to_none_is_null(shop):
    """33. None that is assigned later is NULL too, and no default comes in its place."""
    with db_session:
        shop.Customer[1].points = None
        shop.Customer[2].friend = None
    assert shop.column("points") == [None, 7] and shop.column("friend") == [None, None]


# --- 36: blind writes ------------------------------------------------------------------------------------


def test_a_lazy_column_is_written_without_loading(shop):
    """36. A column that was not loaded is set without a SELECT, and is not checked against what it held."""
    with db_session:
        ann = shop.Customer[1]
        elsewhere(db_session(lambda: setattr(shop.Customer[1], "biography", "moved")))
        with recorded() as statements:
            ann.biography = "died"
            assert ann.biography == "died"
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["biography"]
    assert shop.column("biography") == ["died", None]


def test_an_object_that_was_never_loaded_is_written(shop):
    """36. An object of which only the key is known is changed with one UPDATE; the rest is loaded when it is read."""
    with db_session:
        customer = shop.Order[2].customer
        with recorded() as statements:
            customer.age, customer.settings = 41, {"new": True}
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["age", "settings"]
        assert customer.age == 41
        with sent(shop.db) as spent:
            assert (customer.name, customer.settings, customer.friend.id) == ("Bob", {"new": True}, 1)
        assert spent.statements == 1
    assert shop.column("age") == [30, 41]


def test_a_versioned_object_that_was_never_loaded_is_written(db):
    """36, 90. Of an object of which only the key is known the database counts the version; it is checked from then on."""

    class Owner(db.Entity):
        name = Required(str)
        version = Version()
        things = Set("Thing")

    class Thing(db.Entity):
        owner = Required(Owner)

    db.generate_mapping(create_tables=True)
    with db_session:
        Thing(owner=Owner(name="a")), Thing(owner=Owner(name="b"))
    with db_session:
        owner = Thing[1].owner
        with recorded() as statements:
            owner.name = "A"
            flush()
            assert owner.version == 2
        assert verbs(statements) == ["UPDATE"]
        commit()
        elsewhere(db_session(lambda: setattr(Owner[1], "name", "other")))
        owner.name = "AA"
        with pytest.raises(OptimisticCheckError, match=r"Owner\[1\]"):
            flush()
        rollback()
        Thing[2].owner.delete()
    assert rows(db, "SELECT name, version FROM owner") == [("other", 3)]


def test_what_is_loaded_later_does_not_undo_a_blind_write(shop):
    """36. A value written before the object was loaded stays when it is loaded, and is saved."""
    with db_session:
        customer = shop.Order[2].customer
        customer.age = 41
        assert customer.name == "Bob" and customer.age == 41
        assert shop.Customer.select(name="Bob").get() is customer and customer.age == 41
        with db_session() as session, session.no_autoflush():
            customer.age = 42
            assert customer in shop.Customer.select().fetch() and customer.age == 42
    assert shop.column("age") == [30, 42]


def test_a_blind_write_is_rolled_back(shop):
    """36. After a rollback a column that was written unread is loaded when it is read."""
    with db_session:
        ann, bob = shop.Customer[1], shop.Order[2].customer
        for flushes in (False, True):
            ann.biography, bob.age = "x", 1
            if flushes:
                flush()
            rollback()
            assert ann.biography == "born" and bob.age == 40
    assert shop.column("biography") == ["born", None]


def test_a_blind_write_to_a_row_that_is_gone(shop):
    """36. A blind write to a row that does not exist is an error that names it, not a silent nothing."""
    with pytest.raises(OptimisticCheckError, match=r"Customer\[2\]"):
        with db_session:
            customer = shop.Order[2].customer
            elsewhere(db_session(lambda: [shop.Order[2].delete(), shop.Customer[2].delete()]))
            customer.age = 41


def test_reading_a_row_that_is_gone(shop):
    """36. Reading a reference whose row is gone says that the row is not there."""
    with db_session:
        customer = shop.Order[2].customer
        elsewhere(db_session(lambda: [shop.Order[2].delete(), shop.Customer[2].delete()]))
        with pytest.raises(ObjectNotFound, match=r"Customer\[2\]"):
            customer.name


# --- 41: what is refused -----------------------------------------------------------------------------------

REFUSED = [
    ("name", None, ValueError),
    ("name", "", ValueError),
    ("name", 5, TypeError),
    ("age", "x", TypeError),
    ("age", -1, ValueError),
    ("age", 151, ValueError),
    ("balance", "1e9", ValueError),
    ("seen", "yesterday", TypeError),
    ("settings", {"a": {1, 2}}, TypeError),
    ("biography", "x" * 41, ValueError),
    ("friend", "x", TypeError),
    ("friend", object(), TypeError),
    ("orders", [5], TypeError),
    ("orders", "x", TypeError),
]


@pytest.mark.parametrize("name, value, error", REFUSED)
def test_a_refused_value_changes_nothing(shop, name, value, error):
    """41. A refused value raises with entity and attribute, and leaves the object and the database as they were."""
    with db_session:
        ann = shop.Customer[1]
        ann.load("biography")
        before = ann.to_dict(with_collections=True, with_lazy=True)
        with pytest.raises(error, match=rf"Customer.*{name}"):
            setattr(ann, name, value)
        with pytest.raises(error, match=rf"Customer.*{name}"):
            shop.Customer(**{"name": "Carl", name: value})
        assert ann.to_dict(with_collections=True, with_lazy=True) == before
        with sent(shop.db) as spent:
            flush()
        assert spent.statements == 0
    assert len(shop.column("id")) == 2


@pytest.mark.parametrize("name, value, error", REFUSED)
def test_a_refused_value_keeps_the_change_before_it(shop, name, value, error):
    """41. A change made before stays pending when a later value for the same attribute is refused."""
    good = {"name": "Eve", "age": 5, "balance": Decimal(5), "seen": datetime(2024, 1, 1), "settings": {"z": 1}}
    good |= {"biography": "y", "friend": shop.Customer, "orders": []}
    with db_session:
        ann = shop.Customer[1]
        wanted = shop.Customer[2] if name == "friend" else good[name]
        if name != "orders":
            setattr(ann, name, wanted)
        with pytest.raises(error):
            setattr(ann, name, value)
    with db_session:
        if name == "orders":
            assert len(shop.Customer[1].orders) == 1
        else:
            wanted = shop.Customer[2] if name == "friend" else good[name]
            assert getattr(shop.Customer[1], name) == wanted


@pytest.mark.parametrize("name, value, error", REFUSED)
def test_set_assigns_all_or_nothing(shop, name, value, error):
    """41. If ``set()`` is refused one value, it assigns none of them."""
    with db_session:
        ann = shop.Customer[1]
        with pytest.raises(error):
            ann.set(**{"rating": 1.5, "active": False, name: value, "points": 9})
        assert (ann.rating, ann.active, ann.points) == (None, True, 7)
    assert shop.column("points") == [7, 7]


def test_unknown_attributes_are_refused(shop):
    """41. An attribute that does not exist is an error with the one that was meant, in every way of assigning."""
    with db_session:
        ann = shop.Customer[1]
        with pytest.raises(AttributeError, match=r"Customer.*'nmae'.*'name'"):
            ann.nmae = "Eve"
        with pytest.raises(TypeError, match=r"'nmae' of Customer.*'name'"):
            ann.set(age=5, nmae="Eve")
        with pytest.raises(TypeError, match=r"'nmae' of Customer.*'name'"):
            shop.Customer(nmae="Eve")
        with pytest.raises(AttributeError, match=r"Customer\.name"):
            del ann.name
        assert ann.name == "Ann" and ann.age == 30


# --- 42: after the delete ----------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [True, False])
def test_a_deleted_object_cannot_be_changed(shop, flushes):
    """42. Every way of changing an object after its delete is an error that names it."""
    with db_session:
        ann = shop.Customer[1]
        settings, orders = ann.settings, ann.orders
        order = shop.Order(customer=shop.Customer[2])
        ann.delete()
        if flushes:
            flush()
        for change in (
            lambda: setattr(ann, "name", "Eve"),
            lambda: setattr(ann, "name", "Ann"),
            lambda: setattr(ann, "age", shop.Customer.age + 1),
            lambda: setattr(ann, "friend", None),
            lambda: ann.set(age=1),
            lambda: settings.update(a=2),
            lambda: orders.add(order),
            lambda: orders.create(total=1),
        ):
            with pytest.raises(OperationWithDeletedObjectError, match=r"Customer\[1\].*deleted"):
                change()
        ann.delete()  # a second time is nothing new
        assert order.customer is shop.Customer[2]
    assert shop.column("name") == ["Bob"]


def test_a_deleted_object_is_readable(shop):
    """42. What was loaded of a deleted object can be read; its deletion is undone by a rollback."""
    with db_session:
        ann = shop.Customer[1]
        ann.delete()
        flush()
        assert ann.name == "Ann"
        rollback()
        ann.name = "Anna"
    assert shop.column("name") == ["Anna", "Bob"]


def test_nothing_refers_to_a_deleted_object(shop):
    """42. A reference to a deleted object is refused."""
    with db_session:
        ann, bob = shop.Customer[1], shop.Customer[2]
        ann.delete()
        for attempt in (lambda: setattr(bob, "friend", ann), lambda: shop.Order(customer=ann)):
            with pytest.raises(ConstraintError, match=r"Customer\[1\].*deleted"):
                attempt()
        flush()
        assert bob.friend is None


def test_an_object_of_an_ended_scope_cannot_be_changed(shop):
    """42. After the scope every change is an error, none is lost in silence."""
    with db_session:
        ann = shop.Customer[1]
        settings, orders = ann.settings, ann.orders
        orders.load()
        new = shop.Customer(name="Carl")
        commit()
    changes = (
        lambda: setattr(ann, "name", "Eve"),
        lambda: setattr(ann, "friend", None),
        lambda: ann.set(age=1),
        lambda: ann.delete(),
        lambda: settings.update(a=2),
        lambda: orders.clear(),
        lambda: setattr(new, "name", "Eve"),
    )
    for change in changes:
        with pytest.raises(DatabaseSessionIsOver, match=r"Customer\["):
            change()
    assert (ann.name, settings, len(orders), new.name) == ("Ann", {"a": 1}, 1, "Carl")
