"""One object per row, for as long as the scope lasts (scenarios 17-25 and 30)."""

from __future__ import annotations

import gc
import threading
import weakref
from uuid import UUID

import pytest

from dbsession import (
    ConstraintError,
    Database,
    MultipleObjectsFoundError,
    ObjectNotFound,
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
    flush,
)
from dbsession.model.entity import EntityBase
from tests.observing import elsewhere, rows, sent


class Shop:
    """Customers with orders, and lines with a natural key."""

    def __init__(self, db: Database) -> None:
        class Customer(db.Entity):
            name = Required(str)
            orders = Set("Order")

        class Order(db.Entity):
            customer = Required(Customer)
            total = Required(int, default=0)
            lines = Set("Line")

        class Line(db.Entity):
            order = Required(Order)
            article = Required(str)
            count = Required(int, default=1)
            PrimaryKey(order, article)

        class Country(db.Entity):
            code = PrimaryKey(str)
            name = Optional(str)

        db.generate_mapping(create_tables=True)
        self.Customer, self.Order, self.Line, self.Country = Customer, Order, Line, Country
        with db_session:
            ann, bob = Customer(name="Ann"), Customer(name="Bob")
            orders = [Order(customer=ann, total=10), Order(customer=ann, total=20), Order(customer=bob, total=30)]
            Line(order=orders[0], article="bolt")
            Line(order=orders[0], article="nut", count=7)
            Country(code="de", name="Germany")


@pytest.fixture
def shop(db):
    return Shop(db)


# --- 17, 18: one object ------------------------------------------------------------------------------


@db_session
def test_one_object_however_it_is_loaded(shop):
    """17. A row got by key, by a query, by a reference and through a collection is one object."""
    ann = shop.Customer[1]
    assert shop.Customer.get(id=1) is ann
    assert shop.Customer.get(name="Ann") is ann
    assert shop.Customer.select(name="Ann").first() is ann
    assert ann in shop.Customer.select().fetch()
    first = shop.Order[1]
    assert first.customer is ann
    assert {order.id for order in ann.orders} == {1, 2}
    assert first in ann.orders and next(order for order in ann.orders if order.id == 1) is first
    assert ann.orders.select(total=10).get() is first
    assert shop.Line[1, "bolt"].order is first


@db_session
def test_a_reference_is_the_object_that_is_loaded_later(shop):
    """17. An object of which only the key is known is the one that a later query loads."""
    customer = shop.Order[1].customer
    assert shop.Customer.select(name="Ann").get() is customer
    assert customer.name == "Ann"


@db_session
def test_a_new_object_is_the_one_that_is_got_after_its_flush(shop):
    """17. An object saved in this scope is what its key, a query and its relations give."""
    carl = shop.Customer(name="Carl")
    order = shop.Order(customer=carl)
    flush()
    assert shop.Customer[carl.id] is carl
    assert shop.Customer.get(name="Carl") is carl
    assert shop.Order.select(customer=carl).get() is order and order.customer is carl


def test_a_loaded_object_is_got_without_sql(db, shop):
    """18. An object that was loaded is got again by its key without any SQL."""
    with db_session:
        shop.Customer.select().fetch()
        line = shop.Line[1, "nut"]
        with sent(db) as spent:
            assert shop.Customer[1].name == "Ann" and shop.Customer.get(id=2).name == "Bob"
            assert shop.Line[1, "nut"] is line and shop.Line.get(order=1, article="nut") is line
            assert shop.Line.get(article="nut", order=line.order) is line
    assert spent.statements == 0


def test_the_map_keeps_what_the_program_has_dropped(db, shop):
    """18. A row is not loaded again after the program has dropped every reference to its object."""
    with db_session:
        seen = weakref.ref(shop.Customer[1])
        gc.collect()
        with sent(db) as spent:
            assert shop.Customer[1] is seen()
    assert spent.statements == 0


def test_a_new_object_is_got_without_sql(db, shop):
    """18. A new object with a key of its own is got by it at once, saved or not."""
    with db_session:
        france = shop.Country(code="fr")
        with sent(db) as spent:
            assert shop.Country["fr"] is france
        assert spent.statements == 0
        flush()
        with sent(db) as spent:
            assert shop.Country["fr"] is france
        assert spent.statements == 0


# --- 19, 20: keys ------------------------------------------------------------------------------------


@db_session
def test_composite_keys_in_every_form(shop):
    """19. A composite key is given as a tuple, with keys or objects as its parts, or by names."""
    line = shop.Line[1, "nut"]
    order = shop.Order[1]
    assert shop.Line[(1, "nut")] is line and shop.Line[order, "nut"] is line
    assert shop.Line.get(order=order, article="nut") is line and shop.Line.get(article="nut", order=1) is line
    assert line.get_pk() == (1, "nut") and repr(line) == "Line[1, 'nut']"
    assert shop.Line.get(order=1, article="screw") is None
    with pytest.raises(ObjectNotFound, match=r"Line\[1, 'screw'\]"):
        shop.Line[1, "screw"]


@db_session
def test_part_of_a_composite_key_is_a_condition(shop):
    """19. Some parts of the key by name are conditions of a query."""
    assert shop.Line.get(article="nut") is shop.Line[1, "nut"]
    with pytest.raises(MultipleObjectsFoundError):
        shop.Line.get(order=1)


@pytest.mark.parametrize("key", [1, "nut", (1,), (1, "nut", 2), (), [1, "nut"], None, (1, None), (None, "nut")])
def test_a_key_of_another_shape_is_refused(db, shop, key):
    """19. A composite key with too few, too many or missing parts is a TypeError before any SQL."""
    with db_session, sent(db) as spent:
        with pytest.raises(TypeError, match="Line"):
            shop.Line[key]
    assert spent.statements == 0


@pytest.mark.parametrize("key", [None, (), (1, 2), "x", 1.5, "1.0", float("nan"), object(), [1]])
def test_a_key_of_another_type_is_refused(db, shop, key):
    """19, 20. What can be no key of the entity is a TypeError before any SQL."""
    with db_session, sent(db) as spent:
        with pytest.raises(TypeError, match="Customer"):
            shop.Customer[key]
    assert spent.statements == 0


def test_a_wrong_name_is_refused(db, shop):
    """19. A name that the entity does not have is a TypeError before any SQL, with the name that was meant."""
    with db_session, sent(db) as spent:
        with pytest.raises(TypeError, match=r"Line.*'artikle'.*'article'"):
            shop.Line.get(order=1, artikle="nut")
        with pytest.raises(TypeError, match="'nr'"):
            shop.Customer.get(nr=1)
    assert spent.statements == 0


def test_a_number_in_any_spelling_is_one_key(db, shop):
    """20. 1, "1", True and 1.0 are one key, and one object."""
    with db_session:
        ann = shop.Customer[1]
        with sent(db) as spent:
            assert all(shop.Customer[key] is ann for key in (1, "1", " 1 ", True, 1.0, (1,)))
            assert shop.Customer.get(id="1") is ann and shop.Line._key_from_(("1", "nut")) == (1, "nut")
        assert spent.statements == 0
        assert shop.Order(customer="1").customer is ann


def test_a_uuid_in_any_spelling_is_one_key(db):
    """20. A UUID, its text in either case and its bytes are one key, and one object."""

    class Token(db.Entity):
        id = PrimaryKey(UUID)
        note = Optional(str)

    db.generate_mapping(create_tables=True)
    key = UUID("6fa459ea-ee8a-3ca4-894e-db77e160355e")
    with db_session:
        Token(id=str(key).upper(), note="x")
    with db_session:
        token = Token[key]
        assert token.id == key and type(token.id) is UUID
        with sent(db) as spent:
            for spelling in (str(key), str(key).upper(), key.hex, f"{{{key}}}", key.bytes):
                assert Token[spelling] is token
        assert spent.statements == 0
        with pytest.raises(TypeError, match=r"Token\.id"):
            Token["6fa459ea"]


# --- 21, 22: rows that are not there -------------------------------------------------------------------


def test_a_missing_row_is_none_or_an_error_by_the_verb(db, shop):
    """21. ``get()`` answers None for a row that is not there, ``[]`` raises ObjectNotFound with entity and key."""
    with db_session:
        assert shop.Customer.get(id=99) is None
        with pytest.raises(ObjectNotFound, match=r"Customer\[99\]") as caught:
            shop.Customer[99]
    assert caught.value.entity is shop.Customer and caught.value.key == 99


def test_that_a_row_was_missing_is_not_remembered(db, shop):
    """21. A row that was missing is found when it has been inserted: here, by SQL, or by somebody else."""
    with db_session:
        assert shop.Country.get(code="fr") is None and shop.Country.get(code="es") is None
        france = shop.Country(code="fr")
        assert shop.Country.get(code="fr") is france and shop.Country["fr"] is france
    with db_session:
        assert shop.Country.get(code="es") is None
        elsewhere(db_session(lambda: shop.Country(code="es", name="Spain")))
        assert shop.Country["es"].name == "Spain"
        assert shop.Country.get(code="it") is None
        db.execute(f"""INSERT INTO "{shop.Country._mapping_.table}" (code) VALUES ('it')""")
        assert shop.Country["it"].name is None


def test_a_deleted_object_is_not_found_again(shop):
    """22. After ``delete()`` the key finds nothing, before the flush and after it, and no query revives the object."""
    with db_session:
        ann = shop.Customer[1]
        orders = list(ann.orders)
        ann.delete()
        for _ in range(2):
            assert shop.Customer.get(id=1) is None
            with pytest.raises(ObjectNotFound):
                shop.Customer[1]
            assert [customer.name for customer in shop.Customer.select()] == ["Bob"]
            assert shop.Order.get(id=1) is None and shop.Order.select(total=10).get() is None
            flush()
        assert orders[0] not in shop.Order.select().fetch()
    with db_session:
        assert shop.Customer.get(id=1) is None


def test_a_query_without_flush_does_not_revive(shop):
    """22. A query that sees the row still, because nothing was flushed, leaves the deleted object out."""
    with db_session as session:
        ann = shop.Customer[1]
        ann.delete()
        with session.no_autoflush():
            assert [customer.name for customer in shop.Customer.select()] == ["Bob"]
            assert shop.Customer.get(name="Ann") is None


# --- 23: objects of other scopes ------------------------------------------------------------------------


def test_an_object_of_another_live_scope_is_refused(db, shop):
    """23. An object of another live scope is refused in references and collections, with both objects named."""
    ready, done = threading.Event(), threading.Event()
    borrowed = []

    def hold():
        with db_session:
            borrowed.append(shop.Customer[2])
            borrowed.append(shop.Order[3])
            ready.set()
            done.wait(60)

    thread = threading.Thread(target=hold)
    thread.start()
    try:
        assert ready.wait(60)
        bob, order = borrowed
        with db_session:
            mine = shop.Order[1]
            with pytest.raises(ConstraintError, match=r"Order\[1\].*Customer\[2\].*another live session"):
                mine.customer = bob
            with pytest.raises(ConstraintError, match=r"Customer\[2\].*another live session"):
                shop.Order(customer=bob)
            with pytest.raises(ConstraintError, match=r"Customer\[1\].*Order\[3\].*another live session"):
                shop.Customer[1].orders.add(order)
            assert mine.customer is shop.Customer[1] and len(shop.Customer[1].orders) == 2
            assert shop.Customer[2] is not bob
    finally:
        done.set()
        thread.join()
    assert rows(db, f'SELECT count(*) FROM "{shop.Order._mapping_.table}"') == [3]


def test_an_object_of_an_ended_scope_is_refused(shop):
    """23. An object of a scope that has ended is refused, with what to do instead."""
    with db_session:
        bob = shop.Customer[2]
    with db_session:
        order = shop.Order[1]
        with pytest.raises(ConstraintError, match=r"Order\[1\].*Customer\[2\].*get it again"):
            order.customer = bob
        assert order.customer is shop.Customer[1]


# --- 24: inheritance --------------------------------------------------------------------------------------


def test_a_hierarchy_is_one_space_of_keys(db):
    """24. Got through its base, an object has its own class; a sibling's class does not find it."""

    class Animal(db.Entity):
        name = Required(str)

    class Dog(Animal):
        barks = Required(bool, default=True)

    class Cat(Animal):
        lives = Required(int, default=9)

    class Plant(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        Dog(name="Rex"), Cat(name="Tom"), Plant(name="Fern")
    with db_session:
        rex = Animal[1]
        assert type(rex) is Dog and Dog[1] is rex and rex.barks is True
        assert Cat.get(id=1) is None and Animal.get(id=2) is Cat[2]
        with pytest.raises(ObjectNotFound, match=r"Cat\[1\]"):
            Cat[1]
        assert Plant[1] is not rex and Plant[1].name == "Fern"
        assert Animal.select().order_by(Animal.id).fetch() == [rex, Cat[2]]
        assert [type(cat) for cat in Cat.select()] == [Cat]
    with db_session:
        assert Cat.get(id=1) is None and Dog.get(id=1) is Animal[1]  # the wrong class first


def test_a_reference_to_a_base_is_the_subclass_object(db):
    """24. A reference to the base class has the object of the subclass once it is loaded, and stays one object."""

    class Animal(db.Entity):
        name = Required(str)
        visits = Set("Visit")

    class Dog(Animal):
        chip = Optional(str)

    class Visit(db.Entity):
        animal = Required(Animal)

    db.generate_mapping(create_tables=True)
    with db_session:
        Visit(animal=Dog(name="Rex", chip="x1"))
    with db_session:
        animal = Visit[1].animal
        assert isinstance(animal, Animal)
        assert animal.name == "Rex"
        assert type(animal) is Dog and animal.chip == "x1"
        assert Dog[1] is animal and Animal[1] is animal
    with db_session:
        animal = Visit[1].animal
        assert Dog[1] is animal and animal.chip == "x1"


# --- 25, 30: how long objects are kept ------------------------------------------------------------------


def test_a_changed_object_is_saved_without_a_reference(db, shop):
    """25. A changed, new or deleted object is saved although the program holds it no more."""
    with db_session:
        shop.Customer[1].name = "Anna"
        shop.Customer(name="Carl")
        shop.Order[3].delete()
        gc.collect()
    assert rows(db, f'SELECT name FROM "{shop.Customer._mapping_.table}" ORDER BY id') == ["Anna", "Bob", "Carl"]
    assert rows(db, f'SELECT id FROM "{shop.Order._mapping_.table}" ORDER BY id') == [1, 2]


def _entities_alive() -> int:
    gc.collect()
    return sum(isinstance(obj, EntityBase) for obj in gc.get_objects())


def test_a_scope_leaves_no_object_behind(db, shop):
    """30. After 10 000 scopes, those that failed among them, no entity object is left in memory."""
    before = _entities_alive()
    for number in range(10_000 if db.backend.dialect.name == "sqlite" else 2_000):
        try:
            with db_session:
                customer = shop.Customer[1]
                if number % 100 == 0:
                    shop.Order(customer=customer, total=number)
                    list(customer.orders)
                    customer.name = "Ann"
                    if number % 200 == 0:
                        raise LookupError
        except LookupError:
            pass
    customer = None
    assert _entities_alive() <= before


def test_an_object_that_is_kept_keeps_nothing_else(shop):
    """30. An object that outlives its scope does not keep the others of its scope alive."""
    with db_session:
        kept = shop.Customer[1]
        others = [weakref.ref(obj) for obj in (shop.Customer[2], *shop.Order.select())]
    gc.collect()
    assert kept.name == "Ann" and [ref() for ref in others] == [None] * 4
