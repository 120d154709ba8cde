"""expire, and discard=True, of objects with relations: both ends agree, and what is unsaved is kept or thrown away."""

from types import SimpleNamespace

import pytest

from dbsession import (
    CacheIndexError,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    composite_key,
    db_session,
    flush,
    rollback,
    select,
)
from tests.observing import elsewhere, rows, sent
from tests.session.shop import make_shop


@pytest.fixture
def shop(db):
    return make_shop(db)


def change(shop, sql):
    """Let somebody else run *sql*."""
    elsewhere(db_session(lambda: shop.db.execute(sql)))


# --- collections ---------------------------------------------------------------------------------------


def test_collections_are_loaded_again(shop):
    """The items of both kinds of collections are forgotten; who holds the collection sees the new ones."""
    with db_session as session:
        a = shop.Customer[1]
        orders, tags = a.orders, a.tags
        assert (len(orders), {tag.text for tag in tags}) == (2, {"x", "y"})
        change(shop, "INSERT INTO purchase (total, customer) VALUES (3, 1)")
        change(shop, "DELETE FROM customer_tag WHERE tag = 'x'")
        session.expire(a)
        assert a.orders is orders
        with sent(shop.db) as spent:
            assert {order.total for order in orders} == {1, 2, 3}
            assert {tag.text for tag in a.tags} == {"y"}
        assert spent.round_trips == 2


def test_the_owner_of_an_expired_item(shop):
    """An expired item may be elsewhere by now: its owner loads its items again, and may be told of what comes."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        card = a.card
        change(shop, "UPDATE purchase SET customer = 2 WHERE id = 1")
        session.expire(first)
        assert (set(a.orders), set(b.orders)) == ({second}, {first})
        for item in (first, second, card):
            session.expire(item)
        first.customer, card.owner = a, b
        second.delete()
        assert (set(a.orders), set(b.orders), a.card, b.card) == ({first}, set(), None, card)
        rollback()
        assert (set(a.orders), set(b.orders), a.card, b.card) == ({second}, {first}, card, None)


def test_a_collection_alone(shop):
    """A named collection is forgotten, and nothing else."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, len(a.orders), len(a.tags)) == ("a", 2, 2)
        change(shop, "DELETE FROM purchase")
        session.expire(a, "orders")
        with sent(shop.db) as spent:
            assert (a.name, len(a.tags)) == ("a", 2)
            assert spent.round_trips == 0
            assert not a.orders.is_loaded
            assert a.orders.is_empty()


def test_what_is_unsaved_in_a_collection_stays(shop):
    """Items that were added and removed, and are not saved yet, are merged into what is loaded, and saved."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        x, y = sorted(a.tags, key=lambda tag: tag.text)
        first.customer = b
        third = shop.Order(total=3, customer=a)
        z = shop.Tag(text="z")
        a.tags.remove(x)
        a.tags.add(z)
        change(shop, "INSERT INTO purchase (total, customer) VALUES (4, 1)")
        session.expire(a)
        session.expire(b)
        session.expire(y)
        assert {order.total for order in a.orders} == {2, 3, 4}
        assert (set(b.orders), set(a.tags), set(y.customers), set(x.customers)) == ({first}, {y, z}, {a}, set())
        assert third in a.orders
        assert second in a.orders
    assert rows(shop.db, "SELECT total FROM purchase WHERE customer = 1 ORDER BY total") == [2, 3, 4]
    assert rows(shop.db, "SELECT tag FROM customer_tag ORDER BY tag") == ["y", "z"]


def test_what_is_saved_and_not_committed_does_not_stand_in_the_way(shop):
    """Items that were moved away, saved, and brought back by SQL of the user's own are found; a rollback undoes all."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        x = shop.Tag["x"]
        first.customer = b
        a.tags.remove(x)
        flush()
        shop.db.execute(f"UPDATE purchase SET customer = 1 WHERE id = {first.id}")
        shop.db.execute("INSERT INTO customer_tag (customer, tag) VALUES (1, 'x')")
        session.expire_all()
        assert (set(a.orders), set(b.orders), {tag.text for tag in a.tags}) == ({first, second}, set(), {"x", "y"})
        rollback()
        assert (set(a.orders), set(b.orders), {tag.text for tag in a.tags}) == ({first, second}, set(), {"x", "y"})
        assert first.customer is a


def test_expire_all_and_collections(shop):
    """Collections of all objects are loaded again, those of changed ones too, a kind in one round trip."""
    with db_session as session:
        a, b = shop.Customer.select().order_by(shop.Customer.id).fetch()
        assert [len(customer.orders) for customer in (a, b)] == [2, 0]
        a.name = "c"
        change(shop, "INSERT INTO purchase (total, customer) VALUES (3, 1), (4, 2)")
        session.expire_all()
        with sent(shop.db) as spent:
            assert [len(customer.orders) for customer in (a, b)] == [3, 1]
        assert spent.round_trips == 1


# --- one-to-one ----------------------------------------------------------------------------------------


def test_the_end_without_a_column_is_looked_up_again(shop):
    """Customer.card has no column: who refers to the customer is asked again, for an expired one and by name."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        card = a.card
        assert (card.number, b.card) == ("1", None)
        change(shop, "UPDATE card SET owner = 2")
        session.expire(a)
        session.expire(card)
        session.expire(b, "card")
        assert (a.card, b.card, card.owner) == (None, card, b)


def test_an_unsaved_partner_is_kept(shop):
    """The partner that a new or changed object has made itself is found again, though its row does not say so yet."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        card = a.card
        card.owner = b
        session.expire(a)
        session.expire(b)
        assert (a.card, b.card) == (None, card)
        new = shop.Card(number="2", owner=a)
        session.expire_all()
        assert (a.card, b.card) == (new, card)


# --- discard -------------------------------------------------------------------------------------------


def test_discarded_references_are_as_loaded_on_both_ends(shop):
    """An order that was moved is where it was; so are both collections, loaded or not."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        first.customer = b
        second.customer = None
        assert set(b.orders) == {first}
        session.expire(first, discard=True)
        session.expire(second, "customer", discard=True)
        with sent(shop.db) as spent:
            flush()
        assert spent.round_trips == 0
        assert (set(a.orders), set(b.orders)) == ({first, second}, set())
        assert (first.customer, second.customer) == (a, a)
    assert rows(shop.db, "SELECT customer FROM purchase") == [1, 1]


def test_discarded_blind_changes(shop):
    """A reference that was assigned to an object of which nothing was loaded: the new target is left again."""
    with db_session as session:
        b = shop.Customer[2]
        assert not b.orders
        order = shop.Order[1]
        session.expire(order)
        order.customer = b
        assert set(b.orders) == {order}
        session.expire(order, discard=True)
        assert set(b.orders) == set()
        assert order.customer is shop.Customer[1]
        a, card = shop.Customer[1], shop.Card[1]
        session.expire(card)
        card.owner = a  # as it is already, which nobody knows
        assert a.card is card
        session.expire(card, discard=True)
        assert a.card is card


def test_discarded_partners(shop):
    """A card that went to another owner, or to a new one, is its old owner's again."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        card = a.card
        card.owner = b
        session.expire(card, discard=True)
        assert (a.card, b.card, card.owner) == (card, None, a)
        card.owner = b
        other = shop.Card(number="2", owner=a)
        with pytest.raises(CacheIndexError, match=r"Customer\[1\] has Card.new"):
            session.expire(card, discard=True)
        assert (a.card, b.card, card.owner) == (other, card, b)
        flush()
    assert rows(shop.db, "SELECT number, owner FROM card ORDER BY number") == [("1", 2), ("2", 1)]


def test_discarded_links(shop):
    """Links that were to be made and removed are forgotten at both ends; those of other objects are saved."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        x, y = shop.Tag["x"], shop.Tag["y"]
        assert set(a.tags) == {x, y}
        new = shop.Tag(text="z", customers=[a, b])
        a.tags.remove(x)
        assert set(x.customers) == set()
        session.expire(a, discard=True)
        assert (set(a.tags), set(x.customers), set(new.customers)) == ({x, y}, {a}, {b})
        b.tags.add(x)
        session.expire(x, "customers", discard=True)
        assert (set(b.tags), set(x.customers)) == ({new}, {a})
    assert rows(shop.db, "SELECT customer, tag FROM customer_tag ORDER BY tag") == [(1, "x"), (1, "y"), (2, "z")]


def test_links_are_kept_without_discard(shop):
    """Links are unsaved changes of two objects: expiring one of them neither loses them nor is refused."""
    with db_session as session:
        b, x = shop.Customer[2], shop.Tag["x"]
        b.tags.add(x)
        session.expire(b)
        session.expire(x)
        assert set(b.tags) == {x}
    assert rows(shop.db, "SELECT customer FROM customer_tag WHERE tag = 'x' ORDER BY customer") == [1, 2]


def test_a_link_to_itself(db):
    """In a symmetric relation a pair is one link, from whichever end it is discarded."""

    class Person(db.Entity):
        name = Required(str)
        friends = Set("Person", reverse="friends")

    db.generate_mapping(create_tables=True)
    with db_session:
        Person(name="a", friends=[Person(name="b"), Person(name="c")])
    with db_session as session:
        a, b, c = Person.select().order_by(Person.name).fetch()
        b.friends.add(c)
        a.friends.remove(c)
        session.expire(c, discard=True)
        assert (set(a.friends), set(b.friends), set(c.friends)) == ({b, c}, {a}, {a})
        flush()
        assert select(p for p in Person if c in p.friends).fetch() == [a]


# --- keys and hierarchies ------------------------------------------------------------------------------


@pytest.fixture
def zoo(db):
    class Cage(db.Entity):
        house, number = Required(str), Required(int)
        composite_key(house, number)
        note = Optional(str)
        animals = Set("Animal")

    class Place(db.Entity):
        row, seat = Required(int), Required(int)
        PrimaryKey(row, seat)
        note = Optional(str)

    class Animal(db.Entity):
        name = Required(str)
        cage = Optional(Cage)

    class Cat(Animal):
        lives = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        Cat(name="Tom", lives=9, cage=Cage(house="h", number=1))
        Animal(name="Rex")
        Place(row=1, seat=2, note="n")
    return SimpleNamespace(db=db, Cage=Cage, Place=Place, Animal=Animal, Cat=Cat)


def test_objects_of_subclasses(zoo):
    """Objects of a hierarchy keep their class, and are loaded again together, each with its own attributes."""
    with db_session as session:
        tom, rex = zoo.Animal.select().order_by(zoo.Animal.id).fetch()
        assert (type(tom), tom.lives) == (zoo.Cat, 9)
        change(zoo, "UPDATE animal SET lives = 8, name = 'T' WHERE id = 1")
        session.expire_all()
        with sent(zoo.db) as spent:
            assert (tom.lives, tom.name, rex.name) == (8, "T", "Rex")
            assert (type(tom), zoo.Cat[tom.id]) == (zoo.Cat, tom)
        assert spent.round_trips == 1
        session.expire(tom)
        assert zoo.Cat[1] is tom
        session.expire(tom, "lives")
        assert tom.lives == 8


def test_composite_keys(zoo):
    """A key of several parts stays; a discarded change of it leaves the object where it is."""
    with db_session as session:
        place = zoo.Place[1, 2]
        change(zoo, "UPDATE place SET note = 'new'")
        session.expire(place)
        assert (place.row, place.get_pk(), place.note) == (1, (1, 2), "new")
        place.set(row=5, seat=6)
        session.expire(place, discard=True)
        assert (place.get_pk(), zoo.Place[1, 2], zoo.Place.get(row=5, seat=6)) == ((1, 2), place, None)
        flush()
        place.seat = 7
        new = zoo.Place(row=1, seat=2)
        with pytest.raises(CacheIndexError, match="new"):
            session.expire(place, discard=True)
        assert (place.get_pk(), zoo.Place.get(row=1, seat=2)) == ((1, 7), new)


# --- inner scopes and rollbacks ------------------------------------------------------------------------


def test_an_inner_scope_that_fails_leaves_what_the_outer_one_had_read(shop):
    """75. Values, collections and reads of the outer scope are as before: a write that rests on them is checked."""
    with db_session as session:
        a = shop.Customer[1]
        assert (a.name, len(a.orders), a.card.number) == ("a", 2, "1")
        with pytest.raises(ZeroDivisionError), db_session:
            session.expire_all()
            change(shop, "UPDATE customer SET name = 'c' WHERE id = 1")
            assert a.name == "c"
            raise ZeroDivisionError
        with sent(shop.db) as spent:
            assert (a.name, len(a.orders), a.card.number) == ("a", 2, "1")
        assert spent.round_trips == 0
        a.count = 1
        with pytest.raises(OptimisticCheckError, match="name"):
            flush()
        rollback()


def test_an_inner_scope_that_fails_has_discarded_nothing(shop):
    """75. What the outer scope had not saved is unsaved again, on both ends of relations, and saved."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        a.count = 7
        first.customer = b
        b.tags.add(shop.Tag["x"])
        with pytest.raises(ZeroDivisionError), db_session:
            for obj in (a, first, b):
                session.expire(obj, discard=True)
            assert (a.count, set(a.orders), set(b.tags)) == (0, {first, second}, set())
            raise ZeroDivisionError
        assert (a.count, set(a.orders), set(b.orders)) == (7, {second}, {first})
        assert set(b.tags) == {shop.Tag["x"]}
    assert rows(shop.db, "SELECT count FROM customer WHERE id = 1") == [7]
    assert rows(shop.db, "SELECT customer FROM purchase ORDER BY id") == [2, 1]
    assert rows(shop.db, "SELECT customer FROM customer_tag WHERE tag = 'x' ORDER BY customer") == [1, 2]


def test_an_inner_scope_that_ends_well_leaves_its_expiry(shop):
    """What an inner scope has expired is expired in the outer one, and what it has discarded is gone."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        assert a.name == "a"
        b.count = 7
        change(shop, "UPDATE customer SET name = 'c' WHERE id = 1")
        with db_session:
            session.expire(a)
            session.expire(b, discard=True)
        assert (a.name, b.count) == ("c", 0)
    assert rows(shop.db, "SELECT count FROM customer ORDER BY id") == [0, 0]


def test_rollback_behind_expire(shop):
    """68, 70. Saved, expired and read again, then rolled back: the values and items of before."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        a.name, first.customer = "c", b
        a.tags.clear()
        flush()
        session.expire_all()
        assert (a.name, set(a.orders), set(b.orders), len(a.tags)) == ("c", {second}, {first}, 0)
        session.expire(a)
        rollback()
        assert (a.name, set(a.orders), set(b.orders), len(a.tags)) == ("a", {first, second}, set(), 2)
        assert first.customer is a
        session.expire_all()
        rollback()
        assert (a.name, first.customer) == ("a", a)


def test_items_that_came_from_elsewhere(shop):
    """Whom an item belonged to was read; behind expire, that it belongs here now is no error, prefetched or touched."""
    with db_session as session:
        a, b = shop.Customer[1], shop.Customer[2]
        first, second = sorted(a.orders)
        card = a.card
        assert (len(b.orders), b.card, first.customer, card.owner) == (0, None, a, a)
        change(shop, "UPDATE purchase SET customer = 2 WHERE id = 1")
        session.expire(b, "orders")
        assert set(b.orders) == {first}
        change(shop, "UPDATE purchase SET customer = 2 WHERE id = 2")
        change(shop, "UPDATE card SET owner = 2")
        session.expire(b, "orders", "card")
        assert shop.Customer.select(id=2).prefetch(shop.Customer.orders, shop.Customer.card).fetch() == [b]
        with sent(shop.db) as spent:
            assert (set(b.orders), b.card) == ({first, second}, card)
        assert spent.round_trips == 0


@pytest.mark.parametrize("way", ["expire", "expire_all", "refresh"])
def test_a_new_object_that_was_saved_and_expired(shop, way):
    """67. After a rollback it has the values that the program gave it, and none that the database made."""
    with db_session as session:
        new = shop.Customer(name="n", data={"a": 1}, orders=[shop.Order(total=5)])
        order = next(iter(new.orders))
        flush()
        new.count = 4
        flush()
        getattr(session, way)(*(() if way == "expire_all" else (new,)))
        assert (new.status, order.customer) == ("fresh", new)
        with pytest.raises(ZeroDivisionError), db_session:
            inner = shop.Customer(name="i")
            flush()
            session.expire_all()
            raise ZeroDivisionError
        assert (inner.name, inner.id) == ("i", None)
        session.expire(new)
        rollback()
    assert (new.id, new.name, new.count, new.data, new.status) == (None, "n", 4, {"a": 1}, None)
    assert (order.total, order.id, list(new.orders)) == (5, None, [])


def test_a_key_that_another_object_is_to_have(zoo):
    """A changed key can be discarded only while nobody else is about to take the old one; then nothing is discarded."""
    with db_session:
        zoo.Place(row=3, seat=4)
    with db_session as session:
        place, other = zoo.Place[1, 2], zoo.Place[3, 4]
        place.set(row=9, note="x")
        other.set(row=1, seat=2)
        with pytest.raises(CacheIndexError, match=r"Place\[3, 4\] \(dirty\) is to have its old one"):
            session.expire(place, discard=True)
        assert (place.get_pk(), place.note, other.get_pk()) == ((9, 2), "x", (1, 2))
        session.expire(other, discard=True)
        session.expire(place, discard=True)
        assert (place.get_pk(), place.note, other.get_pk()) == ((1, 2), "n", (3, 4))
