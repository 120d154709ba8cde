"""What the database refuses: which constraint, table and columns, on which object, why, and what to do; never a value."""

from decimal import Decimal

import pytest

from dbsession import (
    Database,
    DatabaseError,
    DataError,
    IntegrityError,
    Optional,
    OrmError,
    ProgrammingError,
    Required,
    SessionDoomed,
    Set,
    TransactionError,
    TransactionIntegrityError,
    composite_key,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent

SECRET = "hunter2"


@pytest.fixture
def entities(db):
    class Shop(db.Entity):
        name = Required(str, unique=True)
        items = Set("Item")

    class Item(db.Entity):
        name = Required(str)
        code = Optional(int)
        shop = Optional(Shop)
        price = Required(int, size=32, default=1)
        composite_key(name, code)

    class Hooked(db.Entity):
        name = Required(str)

        def before_insert(self):
            if self.name == "fail":
                raise LookupError(self.name)

    db.generate_mapping(create_tables=True)
    with db_session:
        Item(name="old", code=1, shop=Shop(name="old"))
        Item(name=SECRET, code=2)
        db.execute(
            "CREATE TABLE stock (item INTEGER NOT NULL REFERENCES item (id), amount INTEGER, "
            "CONSTRAINT enough CHECK (amount > 0), CONSTRAINT one_each UNIQUE (item, amount))"
        )
    return db.entities


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


# --- by the entities ----------------------------------------------------------------------------------------------


def check_refusal(db, error, table, columns):
    """What every refused write has: its classes, names, SQL and the driver's own error, and no value."""
    assert isinstance(error, TransactionIntegrityError)
    assert isinstance(error, TransactionError) and isinstance(error, IntegrityError) and isinstance(error, OrmError)
    assert error.table is None if table is None else error.table.lower() == table
    assert tuple(error.columns) == columns
    assert error.sql and SECRET not in error.sql
    assert SECRET not in str(error) and not any(SECRET in note for note in getattr(error, "__notes__", ()))
    assert error.original_exc is not None
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert cause is error.original_exc
    if is_postgres(db):
        assert error.sqlstate == error.original_exc.sqlstate


@pytest.mark.parametrize("others", [0, 50], ids=["alone", "among others"])
def test_a_unique_constraint_of_several_columns(db, entities, others):
    """86. An INSERT that is refused: constraint, table and columns, the object, the usual cause and the way out."""
    Item = entities["Item"]
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        for number in range(others):
            Item(name=f"other {number}", code=number)
        Item(name=SECRET, code=2)
    check_refusal(db, caught.value, "item", ("name", "code"))
    assert "Item[new]" in str(caught.value)
    assert "another row has this value already" in str(caught.value)
    assert (caught.value.constraint is not None) is is_postgres(db)
    assert rows(db, "SELECT count(*) FROM item") == [2]


@pytest.mark.parametrize("others", [0, 3], ids=["alone", "among others"])
def test_an_update_that_is_refused(db, entities, others):
    """86. An UPDATE alike; of several objects in one round trip the one that was refused is named."""
    Item = entities["Item"]
    with db_session:
        for number in range(others):
            Item(name=f"other {number}", code=number)
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        for item in Item.select(Item.id > 2):
            item.name += "!"
        Item[1].set(name=SECRET, code=2)
    check_refusal(db, caught.value, "item", ("name", "code"))
    assert "Item[1]" in str(caught.value)
    assert sorted(rows(db, "SELECT name FROM item WHERE id <= 2")) == [SECRET, "old"]
    assert rows(db, "SELECT count(*) FROM item WHERE name LIKE '%!'") == [0]


def test_a_delete_that_is_refused(db, entities):
    """86, 53. A DELETE of what others refer to: the object is named, and it is as it was."""
    Item = entities["Item"]
    with db_session:
        db.execute("INSERT INTO stock VALUES (1, 5)")
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        Item[2].name = "changed"
        Item[1].delete()
    error = caught.value
    assert "Item[1]" in str(error)
    assert "other rows refer to the one that is to go" in str(error)
    if is_postgres(db):
        assert (error.table, error.constraint) == ("stock", "stock_item_fkey")
    assert sorted(rows(db, "SELECT name FROM item")) == [SECRET, "old"]


def test_a_reference_to_a_row_that_is_gone(db, entities):
    """86. An INSERT that refers to what somebody else has deleted: the object, and what it refers to."""
    Shop, Item = entities["Shop"], entities["Item"]
    with db_session:
        Shop(name="short")
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        shop = Shop.get(name="short")
        Item(name=SECRET, code=9, shop=shop)
        elsewhere(db_session(lambda: Shop.get(name="short").delete()))
    check_refusal(db, caught.value, "item" if is_postgres(db) else None, ("shop",) if is_postgres(db) else ())
    assert "Item[new]" in str(caught.value) and "it refers to a row that is not there" in str(caught.value)
    assert "shop=Shop[2]" in str(caught.value)


# --- by SQL of the user's -----------------------------------------------------------------------------------------

REFUSALS = {
    "unique": ("INSERT INTO stock VALUES (1, 5), (1, 5)", "one_each", ("item", "amount")),
    "check": ("INSERT INTO stock VALUES (1, -1)", "enough", ()),
    "not null": ("INSERT INTO stock VALUES (NULL, 1)", None, ("item",)),
    "foreign key": ("INSERT INTO stock VALUES (99, 1)", "stock_item_fkey", ("item",)),
}


@pytest.mark.parametrize("kind", REFUSALS)
def test_raw_sql_that_is_refused(db, entities, kind):
    """86. Each kind of constraint, by raw SQL: the same class, and the names that the database tells."""
    sql, constraint, columns = REFUSALS[kind]
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        db.execute(sql)
    error = caught.value
    assert isinstance(error, DatabaseError) and error.original_exc is not None
    assert error.sql == sql
    if is_postgres(db):
        assert (error.constraint, error.table, tuple(error.columns)) == (constraint, "stock", columns)
    elif kind == "check":
        assert error.constraint == constraint
    elif kind != "foreign key":  # of which SQLite tells nothing
        assert (error.table, tuple(error.columns)) == ("stock", columns)
    assert rows(db, "SELECT * FROM stock") == []


@pytest.mark.parametrize(
    "sql, kind",
    [
        ("SELECT no_such FROM item", ProgrammingError),
        ("SELEC 1", ProgrammingError),
        ("SELECT * FROM no_such", ProgrammingError),
        ("SELECT 1 / 0", DataError),
        ("SELECT CAST('x' AS integer)", DataError),
        ("SELECT pg_terminate_backend('x', 1, 2, 3)", ProgrammingError),
    ],
)
def test_errors_that_are_no_refusals(postgres_url, sql, kind):
    """86. Any error of the database is one of the family, with its SQLSTATE, its SQL and the driver's error."""
    db = Database(postgres_url)
    with pytest.raises(DatabaseError) as caught, db_session:
        db.execute(sql)
    assert type(caught.value) is kind
    assert caught.value.sqlstate == caught.value.original_exc.sqlstate
    assert caught.value.sql == sql
    db.close()


def test_prepared_statements_that_do_not_fit_are_explained(postgres_url):
    """86. What a transaction pooler makes of prepared statements: the error has the way out."""
    db = Database(postgres_url)
    for sql in ("EXECUTE no_such", "PREPARE twice AS SELECT 1"):
        with (
            pytest.raises(DatabaseError, match=r"behind a transaction pooler, say prepare=false in the URL"),
            db_session,
        ):
            db.execute(sql)
            db.execute(sql)
    db.close()


def test_a_value_that_does_not_fit(postgres_url):
    """86. A value that the column has no room for: DataError, without the value, and nothing of the flush is saved."""
    db = Database(postgres_url)

    class Thing(db.Entity):
        name = Required(str)
        price = Required(Decimal, 10, 2)

    db.generate_mapping(create_tables=True)
    with db_session:
        db.execute("ALTER TABLE thing ALTER name TYPE varchar(5)")
    with pytest.raises(DataError, match=r"value too long.*while saving Thing\[new\]") as caught, db_session:
        Thing(name="ok", price=1)
        Thing(name=SECRET, price=1)
    assert SECRET not in str(caught.value)
    assert not isinstance(caught.value, (IntegrityError, TransactionError))
    assert rows(db, "SELECT * FROM thing") == []
    db.close()


# --- the flush ahead of a query -----------------------------------------------------------------------------------

QUERIES = {
    "select": ("a query of Item", lambda _, Item: Item.select(name="x").fetch()),
    "get": ("a query of Item", lambda _, Item: Item.get(name="x", code=3)),
    "count": ("a query of Item", lambda _, Item: Item.select().count()),
    "exists": ("a query of Item", lambda _, Item: Item.exists(code=3)),
    "lock": ("a query of Item", lambda _, Item: Item.get_for_update(code=3)),
    "bulk": ("a query of Item", lambda _, Item: Item.select(code=3).delete(bulk=True)),
    "bulk update": ("a query of Item", lambda _, Item: Item.select(code=3).update(name="y")),
    "by SQL": ("SQL of the user's own", lambda _, Item: Item.get_by_sql("SELECT 1 AS id")),
    "raw": ("SQL of the user's own", lambda db, _: db.select("SELECT 1")),
    "raw write": ("SQL of the user's own", lambda db, _: db.execute("DELETE FROM item")),
}


@pytest.mark.parametrize("query", QUERIES)
def test_an_error_of_the_flush_ahead_of_a_query(db, entities, query):
    """87. It names the object, says which query it came ahead of, and that this was not sent; the session is doomed."""
    what, run = QUERIES[query]
    Item = entities["Item"]
    with pytest.raises(SessionDoomed), db_session:
        Item(name=SECRET, code=2)
        with sent(db) as spent, pytest.raises(TransactionIntegrityError, match=r"Item\[new\]") as caught:
            run(db, Item)
        (note,) = caught.value.__notes__
        assert note.startswith(f"raised by the flush ahead of {what}, which was not sent")
        assert "session.no_autoflush()" in note
        assert spent.round_trips <= 2  # the flush, and ROLLBACK
        check_refusal(db, caught.value, "item", ("name", "code"))
    assert sorted(rows(db, "SELECT name FROM item")) == [SECRET, "old"]


def test_flush_by_hand_has_no_such_note(entities):
    """87. What was not caused by a query does not speak of one."""
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        entities["Item"](name="old", code=1)
        flush()
    assert getattr(caught.value, "__notes__", []) == []


# --- errors in a hook ---------------------------------------------------------------------------------------------


def test_an_error_of_a_hook_ahead_of_a_query(db, entities):
    """88, 87. A hook that fails in the flush ahead of a query: its own error, the session is doomed, and not stuck."""
    Hooked, Item = entities["Hooked"], entities["Item"]
    with db_session as session:
        Item[1].name = "changed"
        Hooked(name="fail")
        with pytest.raises(LookupError) as caught:
            Hooked.select().fetch()
        assert "the flush ahead of a query of Hooked" in caught.value.__notes__[0]
        with pytest.raises(SessionDoomed, match="LookupError"):
            Hooked.select().fetch()
        with pytest.raises(SessionDoomed, match="LookupError"):
            session.flush()
        rollback()
        Hooked(name="works")
        assert Hooked.select().count() == 1
    assert rows(db, "SELECT name FROM hooked") == ["works"]
    assert rows(db, "SELECT name FROM item WHERE id = 1") == ["old"]


def test_the_scope_after_an_error_of_a_hook(db, entities):
    """88, 85. The next scope flushes as ever."""
    Hooked = entities["Hooked"]
    for _ in range(2):
        with pytest.raises(LookupError), db_session:
            Hooked(name="before")
            Hooked(name="fail")
        with db_session:
            Hooked(name="works")
            flush()
    assert rows(db, "SELECT name FROM hooked") == ["works", "works"]


def test_a_table_that_is_gone(db, entities):
    """86, 85. The table was dropped by somebody else: a ProgrammingError that names table and object; others go on."""
    Hooked = entities["Hooked"]
    elsewhere(db_session(lambda: db.execute("DROP TABLE hooked")))
    with pytest.raises(ProgrammingError, match=r"(?i)hooked.*while saving Hooked\[new\]"), db_session:
        Hooked(name="x")
    with db_session:
        assert entities["Item"].select().count() == 2
