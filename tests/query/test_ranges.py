"""What a generator expression goes through is known before its first step, and nothing is sent for it."""

from __future__ import annotations

import gc
import itertools

import pytest

from dbsession import (
    DatabaseSessionIsOver,
    MappingError,
    NoScopeError,
    Optional,
    QueryLeftScope,
    Required,
    Set,
    db_session,
)
from dbsession.query.translation.ranges import range_of
from tests.counting import counted


@pytest.fixture
def shop(db):
    """Two users, and three orders of the first."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")
        friends = Set("User", reverse="friends")

    class Order(db.Entity):
        user = Required(User)
        total = Optional(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(name="Ann")
        for total in (1, 2, 3):
            Order(user=ann, total=total)
        ann.friends.add(User(name="Bob"))
    return db


@pytest.fixture
def User(shop):
    return shop.entities["User"]


@pytest.fixture
def Order(shop):
    return shop.entities["Order"]


def test_an_entity(shop, User):
    """A generator over an entity leads to the entity, in a scope and outside, and asks nobody."""
    with counted(shop) as sent:
        assert range_of(user for user in User) is User
        with db_session:
            assert range_of(user.name for user in User if user.name) is User
            assert range_of((user, friend) for user in User for friend in user.friends) is User
    assert sent.statements == 0


def test_a_query(shop, User):
    """A generator over a query leads to that query."""
    with counted(shop) as sent:
        query = User.select(User.name == "Ann").order_by(User.name).limit(3)
        assert range_of(user for user in query) is query
        with db_session:
            assert range_of(user for user in query if user.name) is query
    assert sent.statements == 0


@pytest.mark.parametrize("kind", ["orders", "friends"])
def test_a_collection(shop, User, kind):
    """A generator over a collection leads to it, loaded or not, and does not load it; outside of the scope, too."""
    with db_session:
        collection = getattr(User[1], kind)
        with counted(shop) as sent:
            assert range_of(item for item in collection) is collection
        assert sent.statements == 0
        assert not collection.is_loaded
        collection.load()
        assert range_of(item for item in collection) is collection
    assert range_of(item for item in collection) is collection


def test_new_and_empty_collections(shop, User):
    """A collection that needs no loading, as its owner is new, or that is loaded and empty, is found as well."""
    with db_session:
        eve = User(name="Eve")
        assert range_of(order for order in eve.orders) is eve.orders
        bob = User[2]
        bob.orders.load()
        assert range_of(order for order in bob.orders) is bob.orders


def test_what_is_none_of_ours(shop, User):
    """Lists, their iterators, generators and whatever else are left to Python."""

    def generate():
        yield from User

    listed = [1, 2]
    for others in (
        listed,
        iter(listed),
        {},
        "text",
        range(3),
        zip(listed, listed, strict=True),
        generate(),
        map(str, ()),
    ):
        assert range_of(item for item in others) is None
    assert range_of(pair for pair in enumerate(User)) is None
    assert range_of(item for item in itertools.chain(User)) is None
    for other in (None, 1, User, User.select(), iter(User), listed, generate(), lambda: 1, (x for x in ()).gi_code):
        assert range_of(other) is None


def test_what_is_under_way(shop, User):
    """A generator that has begun is Python's, as a part of its items is gone; so is one that has ended."""
    with db_session:
        collection = User[1].orders
        for loaded in (False, True):
            for what in (User, User.select(), collection):
                generator = (item for item in what)
                next(generator)
                assert range_of(generator) is None
                list(generator)
                assert range_of(generator) is None
                closed = (item for item in what)
                closed.close()
                assert range_of(closed) is None
            assert collection.is_loaded
            assert loaded or list(collection)


def test_an_iterator_that_is_under_way(shop, User):
    """A generator over an iterator is over what that goes through, unless it has begun or ended."""
    with db_session:
        collection = User[1].orders
        for _ in range(2):  # not loaded, loaded
            for what in (User, User.select(), collection):
                iterator = iter(what)
                assert range_of(item for item in iterator) is what
                next(iterator)
                assert range_of(item for item in iterator) is None
                list(iterator)
                assert range_of(item for item in iterator) is None
                assert next(iterator, None) is None


def test_within_itself(shop, User):
    """A generator that asks for its own range is under way."""
    with db_session:
        itself = []
        itself.append(range_of(itself[0]) for user in User)
        assert range_of(itself[0]) is User
        assert list(itself[0]) == [None, None]


# --- iterating as before ------------------------------------------------------------------------------------------


def test_the_first_step_sends(shop, User):
    """iter() sends nothing, the first step one statement, the others none; each iter() asks anew."""
    with db_session:
        for what in (User, User.select()):
            with counted(shop) as sent:
                iterator = iter(what)
            assert sent.statements == 0
            with counted(shop) as sent:
                assert next(iterator).name == "Ann"
            assert sent.statements == 1
            with counted(shop) as sent:
                assert [user.name for user in iterator] == ["Bob"]
            assert sent.statements == 0
            with counted(shop) as sent:
                assert iter(iterator) is iterator
                assert len(list(what)) == 2
            assert sent.statements == 1


def test_the_first_step_loads(shop, User):
    """The first step loads a collection; one that is loaded is iterated as it was when iter() was called."""
    with db_session:
        orders = User[1].orders
        iterator = iter(orders)
        assert not orders.is_loaded
        with counted(shop) as sent:
            assert len(list(iterator)) == 3
        assert sent.statements == 1
        with counted(shop) as sent:
            for order in orders:
                orders.remove(order)
            assert len(orders) == 0
        assert sent.statements == 0


def test_unpacking_and_sorting(shop, User, Order):
    """Whatever takes an iterable takes entities, queries and collections."""
    with db_session:
        ann, bob = User
        first, *others = User[1].orders
        assert {ann, bob} == set(User.select())
        assert sorted((order.total for order in Order), reverse=True) == [3, 2, 1]
        assert [first, *others] == sorted(User[1].orders, key=lambda order: order.id)
        assert dict(enumerate(User)) == {0: ann, 1: bob}
        assert bob in User[1].friends and Order[1] in list(Order)
        assert next(iter(User.select(name="Nobody")), None) is None


def test_errors_come_with_the_first_step(shop, User, Order):
    """Outside of a scope it is an error to begin: each says what it was, and where the code is."""
    with db_session:
        orders = User[1].orders
        query = User.select()
    for what in (User, query, orders):
        iter(what)
    with pytest.raises(NoScopeError, match=r"test_errors_come_with_the_first_step\(\) uses the database outside any"):
        list(User)
    with pytest.raises(QueryLeftScope, match="was made in a db_session, but it sends nothing before it is read"):
        list(query)
    with pytest.raises(DatabaseSessionIsOver, match=r"collection User\[1\]\.orders"):
        list(orders)
    generator = (order.total for order in orders)
    with pytest.raises(DatabaseSessionIsOver):
        list(generator)
    with pytest.raises(NoScopeError):
        for _ in User:
            pass


def test_an_entity_without_its_tables(db):
    """Before generate_mapping() it is an error to begin."""

    class User(db.Entity):
        name = Required(str)

    iterator = iter(User)
    with pytest.raises(MappingError):
        next(iterator)


def test_an_iterator_keeps_nothing_alive(shop, User):
    """An iterator that is left in its middle is gone at once, with what it has fetched, and not only when it is collected."""

    def count():
        return sum(isinstance(found, type(iter(User).once)) for found in gc.get_objects())

    gc.collect()
    gc.disable()
    try:
        before = count()
        with db_session:
            iterators = [iter(User), iter(User.select()), iter(User[1].orders)]
            for iterator in iterators:
                next(iterator)
            assert count() == before + 3
            del iterator, iterators
            assert count() == before
    finally:
        gc.enable()
