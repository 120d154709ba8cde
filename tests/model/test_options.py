"""Options of attributes: columns, keys, indexes, checks, loading; and what a wrong option is told."""

from __future__ import annotations

import threading
from decimal import Decimal

import pytest

from dbsession import (
    CacheIndexError,
    Database,
    ERDiagramError,
    Json,
    OptimisticCheckError,
    Optional,
    PrimaryKey,
    Required,
    Set,
    TransactionIntegrityError,
    composite_index,
    composite_key,
    db_session,
)
from tests.counting import counted

# --- other options ------------------------------------------------------------------------------------


def test_positional_options(db):
    """``Required(Decimal, 12, 2)``, ``Required(str, 40)``, ``Required(int, 64)``: precision and scale, length, bits."""

    class Thing(db.Entity):
        price = Required(Decimal, 5, 1)
        code = Required(str, 3)
        blob = Optional(bytes, 2)
        big = Required(int, 64, default=2**40)

    db.generate_mapping(create_tables=True)
    with db_session:
        thing = Thing(price="1234.56", code="abc")
        assert thing.price == Decimal("1234.6")
        for name, value in {"price": 12345, "code": "abcd", "blob": b"abc", "big": 2**63}.items():
            with pytest.raises(ValueError, match=rf"Thing\.{name}"):
                setattr(thing, name, value)
    with db_session:
        assert (Thing[1].price, Thing[1].big) == (Decimal("1234.6"), 2**40)


def test_py_check(db):
    """A value for which py_check is false is refused; None is not asked about; an error of its own goes through."""

    class Thing(db.Entity):
        even = Optional(int, py_check=lambda value: value % 2 == 0)
        name = Optional(str, py_check=lambda value: value.isupper() or 1 / 0)

    db.generate_mapping(create_tables=True)
    with db_session:
        thing = Thing(even=2, name="A")
        with pytest.raises(ValueError, match=r"Thing\.even: py_check refused 3"):
            thing.even = 3
        with pytest.raises(ZeroDivisionError):
            thing.name = "a"
        thing.even = None
        assert thing.name == "A"


def test_lazy_attributes_are_loaded_when_they_are_read(db):
    """A lazy attribute is left out of every SELECT, and costs one statement when it is first read."""

    class Book(db.Entity):
        title = Required(str)
        text = Required(str, lazy=True)
        notes = Optional(Json, lazy=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Book(title="A", text="long", notes=[1])
    with db_session:
        with counted(db) as sent:
            (book,) = Book.select()
            assert book.title == "A"
        assert sent.statements == 1
        with counted(db) as sent:
            assert (book.text, book.text) == ("long", "long")
        assert sent.statements == 1
        book.notes.append(2)
    with db_session:
        with counted(db) as sent:
            assert Book.get(text="long").title == "A"
        assert sent.statements == 1
        book = Book[1]
        book.text = "blind"  # no need to know what was there
    with db_session:
        assert (Book[1].text, Book[1].notes) == ("blind", [1, 2])


def test_volatile_attributes_come_back_with_every_write(db):
    """38. What somebody else may change is read back after an UPDATE, and does not count for the optimistic check."""

    class Counter(db.Entity):
        name = Required(str)
        hits = Required(int, default=0, volatile=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Counter(name="a")
    with db_session as session:
        counter = Counter[1]
        assert counter.hits == 0
        elsewhere(db, lambda Counter: setattr(Counter[1], "hits", 7))
        counter.name = "b"
        session.flush()
        assert counter.hits == 7
    with db_session:
        assert (Counter[1].name, Counter[1].hits) == ("b", 7)


def test_optimistic_false_leaves_an_attribute_out_of_the_check(db):
    """95. An attribute with optimistic=False may change elsewhere without a conflict; others may not."""

    class Counter(db.Entity):
        name = Required(str)
        hits = Required(int, default=0, optimistic=False)
        rank = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Counter(name="a")
    with db_session:
        counter = Counter[1]
        assert counter.hits == 0
        elsewhere(db, lambda Counter: setattr(Counter[1], "hits", 7))
        counter.name = "b"
    with pytest.raises(OptimisticCheckError, match=r"Counter\[1\] was changed .*rank: 0 was seen, 5 is there now"):
        with db_session:
            counter = Counter[1]
            assert counter.rank == 0
            elsewhere(db, lambda Counter: setattr(Counter[1], "rank", 5))
            counter.name = "c"


def elsewhere(db, change):
    """Run *change* in a thread of its own, which sees no scope of this one."""
    failures = []

    def work():
        try:
            with db_session:
                change(db.entities["Counter"])
        except BaseException as error:
            failures.append(error)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert not failures, failures


def test_a_value_that_a_trigger_makes(db):
    """38. ``sql_default=True``: the database makes the value by itself, and the table says nothing of it."""

    class Thing(db.Entity):
        name = Required(str)
        code = Required(str, sql_default=True)

    db.generate_mapping(check_tables=False)
    assert "DEFAULT" not in db.schema_sql().replace("BY DEFAULT", "")
    with db_session:
        kind = "SERIAL" if db.backend.dialect.name == "postgresql" else "INTEGER"
        db.execute(
            f"CREATE TABLE {Thing._mapping_.quoted} (id {kind} PRIMARY KEY, name TEXT, code TEXT DEFAULT 'made')"
        )
    with db_session:
        things = [Thing(name="a"), Thing(name="b", code="given")]
    assert [thing.code for thing in things] == ["made", "given"]


# --- tables and columns -----------------------------------------------------------------------------


def test_names_of_tables_and_columns(db):
    """``_table_``, column= and columns= choose the names in the database; the program keeps its own."""

    class User(db.Entity):
        _table_ = "people"
        key = PrimaryKey(int, column="user_no")
        name = Required(str, column="full name")
        place = Optional("Place", columns=["place_x", "place_y"])
        boss = Optional("User", column="boss_no", reverse="staff")
        staff = Set("User", reverse="boss")

    class Place(db.Entity):
        x = Required(int)
        y = Required(int, column="Y-axis")
        PrimaryKey(x, y)
        users = Set(User)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = User(key=1, name="Ann", place=Place(x=3, y=4))
        User(key=2, name="Bob", boss=ann)
    with db_session:
        rows = db.select('SELECT user_no, "full name", place_x, place_y, boss_no FROM people ORDER BY user_no')
        assert list(map(tuple, rows)) == [(1, "Ann", 3, 4, None), (2, "Bob", None, None, 1)]
        assert db.get('SELECT "Y-axis" FROM "' + db.backend.dialect.table_name("Place") + '"') == 4
        assert User[2].boss.place.y == 4
        assert [user.name for user in User.select(User.place == Place[3, 4])] == ["Ann"]


def test_a_reference_names_its_columns_after_the_key(db):
    """A reference has the column ``attr``; to a composite key, ``attr_pk`` for each part."""

    class Point(db.Entity):
        x = Required(int)
        y = Required(int)
        PrimaryKey(x, y)
        marks = Set("Mark")

    class Mark(db.Entity):
        point = Required(Point)
        notes = Set("Note")

    class Note(db.Entity):
        mark = Required(Mark)

    db.generate_mapping(create_tables=True)
    assert [column.name for column in Mark._mapping_.columns] == ["id", "point_x", "point_y"]
    assert [column.name for column in Note._mapping_.columns] == ["id", "mark"]


def test_a_table_in_a_schema(postgres_url):
    """On PostgreSQL ``_table_ = ("schema", "name")`` names the schema too; a like name elsewhere is another table."""
    db = Database(postgres_url)

    class Entry(db.Entity):
        _table_ = ("audit", "entry")
        text = Required(str)

    class Public(db.Entity):
        _table_ = "entry"
        number = Required(int)

    with db_session:
        db.execute("CREATE SCHEMA audit")
    db.generate_mapping(create_tables=True)
    with db_session:
        Entry(text="x"), Public(number=5)
    with db_session:
        assert db.get("SELECT text FROM audit.entry") == Entry[1].text == "x"
        assert db.get("SELECT number FROM public.entry") == Public[1].number == 5
    db.close()


def test_one_column_cannot_have_two_attributes(db):
    """Two attributes with the same column are refused when the mapping is made."""

    class User(db.Entity):
        name = Required(str)
        title = Optional(str, column="name")

    with pytest.raises(ERDiagramError, match=r"User\.title and User\.name have the same column 'name'"):
        db.generate_mapping()


def test_sql_type(db):
    """sql_type= stands in the table as it is written."""

    class Thing(db.Entity):
        small = Required(int, sql_type="SMALLINT")

    db.generate_mapping(create_tables=True)
    assert '"small" SMALLINT NOT NULL' in db.schema_sql()


def test_nullable(db):
    """``nullable`` decides about NOT NULL; an Optional int that may not be NULL has to be given a value."""

    class Thing(db.Entity):
        a = Required(int)
        b = Optional(int)
        c = Optional(str, nullable=False)
        d = Optional(int, nullable=False, default=3)

    db.generate_mapping(create_tables=True)
    columns = {column.name: column.nullable for column in Thing._mapping_.columns}
    assert columns == {"id": False, "a": False, "b": True, "c": False, "d": False}
    with db_session:
        thing = Thing(a=1)
        assert (thing.b, thing.c, thing.d) == (None, "", 3)
        thing.c = None
        assert thing.c == ""
        with pytest.raises(ValueError, match=r"Thing\.d cannot be None"):
            thing.d = None


# --- keys and indexes ---------------------------------------------------------------------------------


def test_unique(db):
    """``unique=True`` is a constraint of the database; breaking it is an error that names it."""

    class User(db.Entity):
        email = Required(str, unique=True)
        code = Optional(int, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        User(email="a"), User(email="b")  # two codes that are NULL
    with pytest.raises(TransactionIntegrityError) as caught:
        with db_session:
            User(email="a")
    assert tuple(caught.value.columns) == ("email",)
    with db_session:
        assert User.select().count() == 2


def test_composite_key_and_index(db):
    """``composite_key`` is unique, ``composite_index`` is not; both take references."""

    class User(db.Entity):
        seats = Set("Seat")

    class Seat(db.Entity):
        row = Required(int)
        number = Required(int)
        user = Optional(User)
        composite_key(row, number)
        composite_index(user, row)

    db.generate_mapping(create_tables=True)
    with db_session:
        user = User()
        Seat(row=1, number=1, user=user), Seat(row=1, number=2, user=user)
    with pytest.raises(TransactionIntegrityError):
        with db_session:
            Seat(row=1, number=1)
    sql = db.schema_sql()
    assert 'UNIQUE ("row", "number")' in sql
    assert '("user", "row")' in sql


def test_indexes_and_their_names(db):
    """``index=True`` makes an index, ``index="name"`` one with that name, False none on a reference."""

    class User(db.Entity):
        name = Required(str, index=True)
        age = Optional(int, index="by_age")
        friend = Optional("User", reverse="friend_of", index=False)
        friend_of = Set("User", reverse="friend")
        boss = Optional("User", reverse="staff")
        staff = Set("User", reverse="boss")

    db.generate_mapping(create_tables=True)
    table = User._mapping_.table
    made = [line for line in db.schema_sql().splitlines() if line.startswith("CREATE INDEX")]
    assert made == [
        f'CREATE INDEX IF NOT EXISTS "dbs_ix_{table}__name" ON "{table}" ("name");',
        f'CREATE INDEX IF NOT EXISTS "by_age" ON "{table}" ("age");',
        f'CREATE INDEX IF NOT EXISTS "dbs_ix_{table}__boss" ON "{table}" ("boss");',
    ]


def test_a_composite_primary_key(db):
    """19. A key of several attributes: by tuple, by names; another number of parts is an error before any SQL."""

    class Seat(db.Entity):
        row = Required(int)
        letter = Required(str, 1)
        PrimaryKey(row, letter)
        name = Optional(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        seat = Seat(row=1, letter="A")
        assert Seat[1, "A"] is seat is Seat.get(letter="A", row=1)
        assert (seat.get_pk(), repr(seat)) == ((1, "A"), "Seat[1, 'A']")
        with pytest.raises(CacheIndexError, match=r"Seat\[1, 'A'\] exists in this session already"):
            Seat(row=1, letter="A")
    with db_session:
        with counted(db) as sent:
            for wrong in (1, (1,), (1, "A", 2), "1A"):
                with pytest.raises(TypeError, match=r"the key of Seat has 2 parts \(row, letter\)"):
                    Seat[wrong]
            with pytest.raises(TypeError, match=r"Seat\.row must be an int"):
                Seat["A", 1]
        assert sent.statements == 0
