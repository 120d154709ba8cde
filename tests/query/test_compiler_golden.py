"""The SQL of queries, form by form: what stands in GOLDEN is what is sent, on both databases.

The keys are Python, evaluated as they stand. Where the databases differ, the SQL of each is given. The
columns of an entity are written ``*``, a parameter ``?``. No database is asked.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta, timezone
from decimal import Decimal
from enum import Enum
from typing import Any, NamedTuple
from uuid import UUID

import pytest

from dbsession import Database, Discriminator, Json, Optional, PrimaryKey, Required, Set, db_session, desc
from dbsession.query.sql.changing import compile_delete
from dbsession.query.sql.compiled import compile_count, compile_exists, compile_fetch


class Colour(Enum):
    RED = "r"
    BLUE = "b"


def declare(db):
    """Declare what the queries below are about."""

    class User(db.Entity):
        name = Required(str, 40)
        age = Optional(int)
        active = Required(bool, default=True)
        balance = Required(Decimal, 12, 2, default=0)
        seen = Optional(datetime, tz=True)
        bio = Optional(str, lazy=True)
        boss = Optional("User", reverse="staff", column="boss_no")
        staff = Set("User", reverse="boss")
        seat = Optional("Seat")
        tags = Set("Tag")

    class Seat(db.Entity):
        row = Required(int)
        place = Required(str)
        PrimaryKey(row, place)
        users = Set(User)

    class Tag(db.Entity):
        name = PrimaryKey(str)
        colour = Optional(Colour, column="the colour")
        key = Optional(UUID)
        day = Optional(date)
        data = Optional(Json)
        users = Set(User)

    class Animal(db.Entity):
        kind = Discriminator(int)
        _discriminator_ = 1
        name = Required(str)

    class Dog(Animal):
        _discriminator_ = 2
        owner = Optional("Person")

    class Puppy(Dog):
        _discriminator_ = 3

    class Person(db.Entity):
        dog = Optional(Dog)

    db.generate_mapping(check_tables=False)
    return db


class Both(NamedTuple):
    """What differs between the databases."""

    sqlite: Any
    postgresql: Any


COLUMNS = {
    "User": '"id", "name", "age", "active", "balance", "seen", "boss_no", "seat_row", "seat_place"',
    "Seat": '"row", "place"',
    "Tag": '"name", "the colour", "key", "day", "data"',
    "Animal": '"id", "kind", "name", "owner"',
}
CET = timezone(timedelta(hours=1))

# What stands behind "SELECT * FROM the table", and the parameters.
GOLDEN: dict[str, tuple[Any, list[Any] | Both]] = {
    # --- values
    "User.select()": ("", []),
    "User.select(name='Ann')": ('WHERE "name" = ?', ["Ann"]),
    "User.select(User.age > 18, name='Ann')": ('WHERE "age" > ? AND "name" = ?', [18, "Ann"]),
    "User.select(User.age > 18).filter(User.age < 30)": ('WHERE "age" > ? AND "age" < ?', [18, 30]),
    "User.select(18 >= User.age)": ('WHERE "age" <= ?', [18]),
    "User.select(User.age != 17.5)": ('WHERE "age" <> ?', [17.5]),
    "User.select(age=None)": ('WHERE "age" IS NULL', []),
    "User.select(User.age != None)": ('WHERE "age" IS NOT NULL', []),
    "User.select(User.active)": ('WHERE "active"', []),
    "User.select(active=False)": ('WHERE "active" = ?', Both([0], [False])),
    "User.select(User.balance >= 10)": ('WHERE "balance" >= ?', Both(["10.00"], [Decimal(10)])),
    "User.select(seen=datetime(2026, 1, 1, tzinfo=CET))": (
        'WHERE "seen" = ?',
        Both(["2025-12-31 23:00:00.000000+00:00"], [datetime(2025, 12, 31, 23, tzinfo=UTC)]),
    ),
    "Tag.select(Tag.colour == 'r')": ('WHERE "the colour" = ?', ["r"]),
    "Tag.select(colour=Colour.RED, day=date(2026, 1, 2))": (
        'WHERE "the colour" = ? AND "day" = ?',
        Both(["r", "2026-01-02"], ["r", date(2026, 1, 2)]),
    ),
    "Tag.select(data={'a': [1]})": (Both('WHERE "data" = ? COLLATE dbs_json', 'WHERE "data" = ?'), ['{"a":[1]}']),
    # --- logic
    "User.select((User.age > 1) & (User.name == 'x') | ~User.active)": (
        'WHERE "age" > ? AND "name" = ? OR NOT "active"',
        [1, "x"],
    ),
    "User.select(~((User.age > 1) | (User.age == None)))": ('WHERE NOT ("age" > ? OR "age" IS NULL)', [1]),
    "User.select(User.age.in_([1, 2]))": ('WHERE "age" IN (?, ?)', [1, 2]),
    "User.select(User.age.in_([1, None]))": ('WHERE "age" IN (?) OR "age" IS NULL', [1]),
    "User.select(User.age.in_([]))": ("WHERE 1 = 0", []),
    "User.select(User.age.between(18, User.boss))": ('WHERE "age" BETWEEN ? AND "boss_no"', [18]),
    # --- arithmetic
    "User.select(User.age + 1 == 2 * User.age)": ('WHERE "age" + ? = ? * "age"', [1, 2]),
    "User.select(-(User.age - 1) / 2 > 3)": ('WHERE - ("age" - ?) / ? > ?', [1, 2.0, 3]),
    "User.select(User.balance * 2 > User.age)": (
        Both(
            'WHERE dbs_mul("balance", ?) COLLATE dbs_decimal > CAST("age" AS TEXT) COLLATE dbs_decimal',
            'WHERE "balance" * ? > "age"',
        ),
        Both(["2"], [Decimal(2)]),
    ),
    "User.select(User.age + 1 > User.balance)": (
        Both('WHERE CAST("age" + ? AS TEXT) COLLATE dbs_decimal > "balance"', 'WHERE "age" + ? > "balance"'),
        [1],
    ),
    # --- text
    "User.select(User.name.startswith('50%'))": (
        Both('WHERE substr("name", 1, length(?)) = ?', 'WHERE starts_with("name", ?)'),
        Both(["50%", "50%"], ["50%"]),
    ),
    "User.select(User.name.endswith('_'))": (
        Both(
            'WHERE substr("name", length("name") - length(?) + 1) = ?',
            'WHERE right("name", length(?)) = ?',
        ),
        ["_", "_"],
    ),
    "User.select(~User.name.lower().contains('ä'))": (
        Both('WHERE instr(dbs_lower("name"), ?) = 0', 'WHERE strpos(lower("name"), ?) = 0'),
        ["ä"],
    ),
    "User.select(User.name.upper() == 'ANN')": (
        Both('WHERE dbs_upper("name") = ?', 'WHERE upper("name") = ?'),
        ["ANN"],
    ),
    # --- references
    "User.select(boss=7)": ('WHERE "boss_no" = ?', [7]),
    "User.select(User.boss == None)": ('WHERE "boss_no" IS NULL', []),
    "User.select(User.boss == User.id)": ('WHERE "boss_no" = "id"', []),
    "User.select(seat=(1, 'a'))": ('WHERE "seat_row" = ? AND "seat_place" = ?', [1, "a"]),
    "User.select(User.seat != (1, 'a'))": ('WHERE "seat_row" <> ? OR "seat_place" <> ?', [1, "a"]),
    "User.select(User.seat == None)": ('WHERE "seat_row" IS NULL AND "seat_place" IS NULL', []),
    "User.select(User.seat.in_([(1, 'a'), None]))": (
        Both(
            'WHERE ("seat_row", "seat_place") IN (VALUES (?, ?)) OR "seat_row" IS NULL AND "seat_place" IS NULL',
            'WHERE ("seat_row", "seat_place") IN ((?, ?)) OR "seat_row" IS NULL AND "seat_place" IS NULL',
        ),
        [1, "a"],
    ),
    # --- order and limit
    "User.select().order_by(User.name, desc(User.age))": ('ORDER BY "name", "age" DESC', []),
    "User.select().order_by(desc(User.seat))": ('ORDER BY "seat_row" DESC, "seat_place" DESC', []),
    "User.select().order_by(User.age > 18, 'name')": ('ORDER BY ("age" > ?), "name"', [18]),
    "User.select().order_by(User.name).order_by()": ("", []),
    "User.select(age=1).limit(10, offset=5)": ('WHERE "age" = ? LIMIT 10 OFFSET 5', [1]),
    "User.select().limit(None, offset=5)": (Both("LIMIT -1 OFFSET 5", "OFFSET 5"), []),
    "User.select().limit(10, offset=5).limit(20, offset=2)": ("LIMIT 8 OFFSET 7", []),
    # --- locks
    "User.select(age=1).for_update()": (Both('WHERE "age" = ?', 'WHERE "age" = ? FOR UPDATE'), [1]),
    "User.select().limit(1).for_update(nowait=True)": (Both("LIMIT 1", "LIMIT 1 FOR UPDATE NOWAIT"), []),
    "User.select().for_update(of=User, nowait=True)": (Both("", "FOR UPDATE NOWAIT"), []),
    "User.select().for_update(skip_locked=True)": (Both("", "FOR UPDATE SKIP LOCKED"), []),
    # --- hierarchies and collections
    "Dog.select(name='Rex')": ('WHERE "name" = ? AND "kind" IN (?, ?)', ["Rex", 2, 3]),
    "Puppy.select()": ('WHERE "kind" IN (?)', [3]),
    "Animal.select(Dog.name == 'Rex')": ('WHERE "name" = ?', ["Rex"]),
    "some_user.staff.select(age=5)": ('WHERE "boss_no" = ? AND "age" = ?', [77, 5]),
    "some_user.tags.select()": (
        Both(
            'WHERE "name" IN (SELECT "tag" FROM "Tag_User" WHERE "user" = ?)',
            'WHERE "name" IN (SELECT "tag" FROM "tag_user" WHERE "user" = ?)',
        ),
        [77],
    ),
    "some_tag.users.select(active=True).order_by('id').limit(1)": (
        Both(
            'WHERE "id" IN (SELECT "user" FROM "Tag_User" WHERE "tag" = ?) AND "active" = ? ORDER BY "id" LIMIT 1',
            'WHERE "id" IN (SELECT "user" FROM "tag_user" WHERE "tag" = ?) AND "active" = ? ORDER BY "id" LIMIT 1',
        ),
        Both(["red", 1], ["red", True]),
    ),
}

# What count(), exists() and delete(bulk=True) make of a query.
VERBS: dict[str, Any] = {
    "User.select(age=1).order_by(User.name)": {
        "count": 'SELECT count(*) FROM * WHERE "age" = ?',
        "exists": 'SELECT 1 FROM * WHERE "age" = ? LIMIT 1',
        "delete": 'DELETE FROM * WHERE "age" = ?',
    },
    "User.select().order_by(User.name).limit(5, offset=2)": {
        "count": 'SELECT count(*) FROM (SELECT 1 FROM * ORDER BY "name" LIMIT 5 OFFSET 2) AS counted',
        "exists": "SELECT 1 FROM * LIMIT 1 OFFSET 2",
        "delete": Both(
            'DELETE FROM * WHERE "id" IN (SELECT "id" FROM * ORDER BY "name" LIMIT 5 OFFSET 2)',
            'WITH "dbs_chosen" AS MATERIALIZED (SELECT "id" FROM * ORDER BY "name" LIMIT 5 OFFSET 2 FOR UPDATE) '
            'DELETE FROM * WHERE "id" IN (SELECT * FROM "dbs_chosen")',
        ),
    },
    "User.select().limit(0)": {
        "count": "SELECT count(*) FROM (SELECT 1 FROM * LIMIT 0) AS counted",
        "exists": "SELECT 1 FROM * LIMIT 0",
        "delete": Both(
            'DELETE FROM * WHERE "id" IN (SELECT "id" FROM * LIMIT 0)',
            'WITH "dbs_chosen" AS MATERIALIZED (SELECT "id" FROM * LIMIT 0 FOR UPDATE) '
            'DELETE FROM * WHERE "id" IN (SELECT * FROM "dbs_chosen")',
        ),
    },
}


@pytest.fixture(params=["sqlite", "postgresql"], scope="module")
def db(request):
    """A database that is never connected to: what is compiled depends on its kind alone."""
    db = declare(Database("sqlite://" if request.param == "sqlite" else "postgresql://nobody@nowhere.invalid/nothing"))
    yield db
    assert db.counters.connections == 0
    db.close()


def evaluate(db, source):
    """Evaluate the *source* of a query; ``some_user`` and ``some_tag`` are objects that are not saved."""
    names = {**db.entities, "Colour": Colour, "CET": CET, "date": date, "datetime": datetime, "desc": desc}
    with db_session as session:
        names["some_user"] = db.entities["User"](id=77, name="x")
        names["some_tag"] = db.entities["Tag"](name="red")
        query = eval(source, names)  # the keys of GOLDEN
        compiled = compile_fetch(query.selected)
        others = {
            "count": compile_count(query.selected),
            "exists": compile_exists(query.selected),
            "delete": compile_delete(query.selected),
        }
        session.rollback()
    assert compiled.sql == query.get_sql()
    return query, compiled, {verb: other.sql for verb, other in others.items()}


def of(db, what):
    """Return what *what* is on the database."""
    return getattr(what, db.backend.dialect.name) if isinstance(what, Both) else what


@pytest.mark.parametrize("source", GOLDEN)
def test_select(db, source):
    """The SELECT of a query and its parameters; every value is a parameter, every name is quoted."""
    query, compiled, _ = evaluate(db, source)
    behind, params = (of(db, part) for part in GOLDEN[source])
    root = query.selected.mapping.root
    sql = " ".join(filter(None, [f"SELECT {COLUMNS[root.name]} FROM {root.quoted}", behind]))
    assert compiled.sql == sql.replace("?", db.backend.dialect.placeholder)
    assert repr(list(compiled.bind(query.values))) == repr(params)  # 1 is not True, nor Decimal(1)


@pytest.mark.parametrize("source", VERBS)
@pytest.mark.parametrize("verb", ["count", "exists", "delete"])
def test_verbs(db, source, verb):
    """What the other verbs make of the same query."""
    query, _, others = evaluate(db, source)
    expected = of(db, VERBS[source][verb]).replace("FROM *", f"FROM {query.selected.mapping.quoted}")
    assert others[verb] == expected.replace("?", db.backend.dialect.placeholder)
