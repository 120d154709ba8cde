"""How much of a flush shares one round trip, and that each object gets its own row's values all the same."""

import random

import pytest

from dbsession import (
    Optional,
    PrimaryKey,
    Required,
    Set,
    db_session,
    flush,
)
from tests.observing import rows, sent
from tests.session.recording import recorded


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


@pytest.fixture
def Item(db):
    class Item(db.Entity):
        token = Required(int)
        name = Required(str)
        stamp = Optional(str, sql_default="'made'", volatile=True)
        note = Optional(str, sql_default="'none'")
        count = Optional(int, sql_default="5")
        log = Optional(str)

    db.generate_mapping(create_tables=True)
    return Item


def shuffled_items(Item, number):
    """Make items whose values repeat, in no order."""
    tokens = list(range(number))
    random.Random(49).shuffle(tokens)
    return [Item(token=token, name=f"name {token % 7}") for token in tokens]


# --- inserts ----------------------------------------------------------------------------------------


def test_a_thousand_inserts_take_few_trips_and_keep_their_keys(db, Item):
    """49. 1000 like rows, with values that repeat, go in one round trip; each object has the key of its own row."""
    with sent(db) as spent, db_session:
        items = shuffled_items(Item, 1000)
    assert rows(db, "SELECT id, token FROM item ORDER BY id") == sorted((item.id, item.token) for item in items)
    assert {item.id for item in items} == set(range(1, 1001))
    if is_postgres(db):
        assert spent.round_trips == 1


def test_equal_rows_get_different_keys(db, Item):
    """49. Rows that differ in nothing but the key are told apart."""
    with db_session:
        items = [Item(token=1, name="same") for _ in range(600)]
        flush()
        assert len({item.id for item in items}) == 600
        assert all(Item[item.id] is item for item in items)
    assert rows(db, "SELECT count(*) FROM item") == [600]


def test_inserts_with_different_columns_share_a_trip(db, Item):
    """50. 100 objects that leave different columns to the database, in no order, are still one round trip."""
    with sent(db) as spent, db_session:
        items = []
        for number in range(100):
            given = {"stamp": "given", "note": f"note {number}", "count": number}
            chosen = {name: value for bit, (name, value) in enumerate(given.items()) if number & (1 << bit)}
            items.append(Item(token=number, name="n", **chosen))
    if is_postgres(db):
        assert spent.round_trips == 1
    found = {token: rest for token, *rest in rows(db, "SELECT token, id, stamp, note, count FROM item")}
    for item in items:
        assert found[item.token] == [item.id, item.stamp, item.note, item.count]
        assert item.stamp == ("given" if item.token & 1 else "made")
        assert item.note == (f"note {item.token}" if item.token & 2 else "none")
        assert item.count == (item.token if item.token & 4 else 5)


def test_given_and_generated_keys_share_a_trip(db, Item):
    """50. Some keys are given by hand, the others by the database."""
    with sent(db) as spent, db_session:
        items = [Item(id=1000 + n, token=n, name="n") if n % 3 == 0 else Item(token=n, name="n") for n in range(30)]
    assert {item.id: item.token for item in items} == dict(rows(db, "SELECT id, token FROM item"))
    if is_postgres(db):
        assert spent.round_trips == 1


def test_rows_without_any_column_share_a_trip(db):
    """50. An entity with nothing but a generated key."""

    class Ticket(db.Entity):
        pass

    db.generate_mapping(create_tables=True)
    with sent(db) as spent, db_session:
        tickets = [Ticket() for _ in range(20)]
    assert sorted(ticket.id for ticket in tickets) == rows(db, "SELECT id FROM ticket ORDER BY id")
    assert len({ticket.id for ticket in tickets}) == 20
    if is_postgres(db):
        assert spent.round_trips == 1


def test_several_tables_share_a_trip(db):
    """50. Inserts into tables that do not depend on each other's new keys, updates and deletes: one round trip."""

    class Red(db.Entity):
        n = Required(int)

    class Blue(db.Entity):
        n = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for n in range(10):
            Red(n=n)
            Blue(n=n)
    with db_session:
        reds, blues = Red.select().fetch(), Blue.select().fetch()
        with sent(db) as spent:
            for red, blue in zip(reds, blues, strict=True):
                red.n += 100
                blue.delete()
                Red(n=red.n)
                Blue(n=blue.n)
            flush()
    if is_postgres(db):
        assert spent.round_trips == 1
    assert rows(db, "SELECT count(*) FROM red WHERE n >= 100") == [20]
    assert rows(db, "SELECT count(*) FROM blue") == [10]


# --- too many parameters ------------------------------------------------------------------------------


def test_more_parameters_than_one_statement_takes(db):
    """60. 100 columns times 1500 rows are more than 65535 parameters; the INSERTs are split, the transaction is not."""
    namespace = {f"c{number}": Required(int) for number in range(100)}
    Wide = type(db.Entity)("Wide", (db.Entity,), namespace)
    db.generate_mapping(create_tables=True)
    with sent(db) as spent, db_session:
        wides = [Wide(**{f"c{column}": row * column for column in range(100)}) for row in range(1500)]
    assert spent.transactions == 1
    found = rows(db, "SELECT id, c1, c99 FROM wide ORDER BY id")
    assert found == [(wide.id, wide.c1, wide.c99) for wide in wides]
    assert [wide.c1 for wide in wides] == list(range(1500))
    if is_postgres(db):
        assert spent.round_trips == 1


def test_no_statement_is_larger_than_the_database_takes(db, Item, monkeypatch):
    """60. Inserts, updates and deletes of 12000 rows stay below the limit, statement by statement."""
    with recorded(monkeypatch) as batches:
        with db_session:
            items = [Item(token=n, name="n") for n in range(12000)]
            flush()
            for item in items:
                item.name = "changed"
            flush()
            for item in items:
                item.delete()
    limit = db.backend.dialect.max_parameters
    sizes = [
        len(statement.params[0] if statement.many else statement.params)
        for statement in batches.statements
        if statement.params
    ]
    assert sizes and max(sizes) <= limit
    assert rows(db, "SELECT count(*) FROM item") == [0]


def test_many_objects_are_loaded_by_their_keys_in_pieces(db):
    """60. Touching one of 40000 unloaded references loads them all, in one round trip and in statements that fit."""

    class Owner(db.Entity):
        key = PrimaryKey(int)
        things = Set("Thing")

    class Thing(db.Entity):
        key = PrimaryKey(int)
        owner = Required(Owner)

    db.generate_mapping(create_tables=True)
    number = 40000
    with db_session:
        numbers = "generate_series(1, %s)" if is_postgres(db) else "counted"
        start = (
            ""
            if is_postgres(db)
            else ("WITH RECURSIVE counted (n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM counted WHERE n < %s) ")
        )
        source = f"SELECT n FROM {numbers} AS n" if is_postgres(db) else "SELECT n FROM counted"
        db.execute(f"{start}INSERT INTO owner (key) {source}", [number])
        db.execute("INSERT INTO thing (key, owner) SELECT key, key FROM owner")
    with db_session:
        things = Thing.select().fetch()
        owners = [thing.owner for thing in things]
        with sent(db) as spent:
            owners[0].load()
        assert len(owners) == number
        assert spent.round_trips <= 1
