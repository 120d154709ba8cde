"""What a unit of work costs on PostgreSQL: round trips, with the connection warm and the optimistic checks on.

The numbers are those of the table in the documentation, "What it costs". Each is counted by the backend;
the most telling ones are counted on the wire too, by a proxy that knows the protocol.
"""

from types import SimpleNamespace

import pytest

from dbsession import Database, Optional, Required, Set, commit, db_session
from tests.observing import sent
from tests.wire import WireCounter

WARM = 8  # psycopg prepares a statement when it has run five times


def declare(db):
    """Declare the shop in *db*, make its tables and fill them."""

    class Customer(db.Entity):
        name = Required(str)
        age = Optional(int)
        city = Optional(str)
        orders = Set("Order")

    class Order(db.Entity):
        _table_ = "purchase"
        total = Required(int)
        customer = Required(Customer)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(100):
            customer = Customer(name=f"c{number}", age=number)
            for _ in range(2):
                Order(total=number, customer=customer)
    return SimpleNamespace(db=db, Customer=Customer, Order=Order)


@pytest.fixture
def shop(postgres_url):
    db = Database(postgres_url)
    yield declare(db)
    db.close()


@pytest.fixture
def wired(postgres_tcp):
    """The same through a proxy that counts round trips: `wired.wire`."""
    server = postgres_tcp
    with WireCounter(server.host, server.port) as wire:
        password = f"{server.user}:{server.password}"
        db = Database(
            f"postgresql://{password}@127.0.0.1:{wire.port}/{server.database}?sslmode=disable&gssencmode=disable"
        )
        shop = declare(db)
        shop.wire = wire
        yield shop
        db.close()


# --- the units of work ----------------------------------------------------------------------------------


def empty_scope(shop, turn):
    with db_session:
        pass


def get_by_key(shop, turn):
    with db_session:
        assert shop.Customer[1].name


def get_change_commit(shop, turn):
    with db_session:
        customer = shop.Customer[1]
        customer.age = customer.age + 1


def lock_change_commit(shop, turn):
    with db_session:
        customer = shop.Customer.get_for_update(id=1)
        customer.age = customer.age + 1


def insert_1(shop, turn):
    with db_session:
        shop.Customer(name="new")


def insert_100(shop, turn):
    with db_session:
        made = [shop.Customer(name=f"new {number}") for number in range(100)]
    assert len({customer.id for customer in made}) == 100


def change_100_in_other_columns(shop, turn):
    with db_session:
        for number, customer in enumerate(shop.Customer.select().order_by(shop.Customer.id).limit(100)):
            if number % 3 == 0:
                customer.name = f"{customer.name}'"
            if number % 3 == 1:
                customer.age = (customer.age or 0) + 1
            if number % 3 == 2 or number % 5 == 0:
                customer.city = f"city {turn} {customer.city or ''}"[:20]


def delete_100(shop, turn):
    with db_session:
        customers = shop.Customer.select().order_by(shop.Customer.id).limit(100).fetch()
        assert len(customers) == 100
        for customer in customers:
            customer.delete()


def inner_scope_with_an_insert(shop, turn):
    with db_session:
        with db_session:
            shop.Customer(name="inner")


def gets_inserts_and_updates(shop, turn):
    with db_session:
        first, second = shop.Customer[1], shop.Customer[2]
        order = shop.Order[1]
        shop.Order(total=5, customer=second)
        first.age = first.age + 1
        second.city = f"{second.name} {turn}"
        order.total = order.total + 1


def touch_the_children_of_50_parents(shop, turn):
    with db_session:
        customers = shop.Customer.select(shop.Customer.id <= 50).fetch()
        assert [len(customer.orders) for customer in customers] == [2] * 50


TABLE = [
    (empty_scope, 0),
    (get_by_key, 1),
    (get_change_commit, 2),
    (lock_change_commit, 2),
    (insert_1, 1),
    (insert_100, 1),
    (change_100_in_other_columns, 2),
    (delete_100, 2),
    (inner_scope_with_an_insert, 1),
    (gets_inserts_and_updates, 4),
    (touch_the_children_of_50_parents, 3),
]


def prepared(shop, work):
    """Let the connection be warm, and the rows be there that *work* wants."""
    for turn in range(WARM):
        if work is delete_100:
            insert_100(shop, turn)
        work(shop, turn)
    if work is delete_100:
        insert_100(shop, WARM)


@pytest.mark.parametrize("work, trips", TABLE, ids=[work.__name__ for work, _ in TABLE])
def test_round_trips(shop, work, trips):
    """49, 50, 91. The unit of work takes as many round trips as the table says, the first time and when it is warm."""
    if work is not delete_100:
        with sent(shop.db) as spent:
            work(shop, -1)
        assert spent.round_trips == trips
    prepared(shop, work)
    with sent(shop.db) as spent:
        work(shop, WARM)
    assert spent.round_trips == trips


@pytest.mark.parametrize("work, trips", TABLE, ids=[work.__name__ for work, _ in TABLE])
def test_round_trips_on_the_wire(wired, work, trips):
    """49, 50, 91. What is counted is what the client waits for: the same numbers from the protocol itself."""
    prepared(wired, work)
    for turn in range(WARM, WARM + 3):
        if work is delete_100:
            insert_100(wired, turn)
        with wired.wire.trips() as counted:
            work(wired, turn)
        assert counted.count == trips


# --- and around them -------------------------------------------------------------------------------------


def test_a_scope_that_touches_nothing_takes_no_connection(shop):
    """1. Entering and leaving sends nothing and takes nothing from the pool."""
    with sent(shop.db) as spent:
        for turn in range(10):
            empty_scope(shop, turn)
    assert (spent.statements, spent.connections, spent.transactions) == (0, 0, 0)


def test_reads_take_no_transaction(shop):
    """10, 11. A scope that only reads has no BEGIN and no COMMIT, and commit() sends nothing."""
    with sent(shop.db) as spent, db_session:
        shop.Customer[1].load()
        shop.Customer.select(age=3).fetch()
        commit()
        commit()
    assert (spent.round_trips, spent.statements, spent.transactions) == (2, 2, 0)


def test_a_lone_write_needs_no_transaction_of_its_own(shop):
    """A single row that is written with nothing open is one statement: autocommit makes it a transaction."""
    with sent(shop.db) as spent:
        insert_1(shop, 0)
    assert (spent.round_trips, spent.statements) == (1, 1)
    with sent(shop.db) as spent:
        get_change_commit(shop, 0)
    assert (spent.round_trips, spent.statements) == (2, 2)


def test_each_commit_of_a_scope_is_one_trip(shop):
    """9. commit() in the middle keeps what is loaded: each further unit of work costs its write alone."""
    with sent(shop.db) as spent, db_session:
        customers = shop.Customer.select().order_by(shop.Customer.id).limit(2).fetch()
        for _turn in range(3):
            for customer in customers:
                customer.age = customer.age + 1
            commit()
    assert spent.round_trips == 1 + 3


def test_references_of_many_children_are_one_trip(shop):
    """N+1 the other way round: touching the parents of 100 children loads them all at once."""
    with sent(shop.db) as spent, db_session:
        orders = shop.Order.select().fetch()
        assert len({order.customer.name for order in orders}) == 100
    assert spent.round_trips == 2
