"""Attributes: how they are declared, what their options do, and what a wrong declaration is told."""

from __future__ import annotations

import itertools
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from enum import Enum
from uuid import UUID, uuid4

import pytest

from dbsession import (
    Database,
    Entity,
    ERDiagramError,
    Json,
    Optional,
    PrimaryKey,
    Required,
    Set,
    composite_key,
    db_session,
)
from tests.counting import counted


class Colour(Enum):
    RED = "red"
    BLUE = "blue"


class Level(Enum):
    LOW = 1
    HIGH = 30000


def stored(db, python, *args, **options):
    """Declare an entity with one attribute ``value``, and make its table."""

    class Thing(db.Entity):
        value = Optional(python, *args, **options)

    db.generate_mapping(create_tables=True)
    return Thing


# --- the forms of a declaration -------------------------------------------------------------------


def test_both_forms_declare_the_same(db):
    """``class User(db.Entity)`` and ``class User(Entity, db=db)`` are two spellings of one thing."""

    class User(db.Entity):
        name = Required(str)
        orders = Set("Order")

    class Order(Entity, db=db):
        user = Required(User)
        total = Required(int)

    db.generate_mapping(create_tables=True)
    assert db.entities == {"User": User, "Order": Order}
    assert issubclass(User, Entity) and issubclass(Order, Entity)
    with db_session:
        User(name="Ann").orders.create(total=5)
    with db_session:
        assert [order.total for order in User.get(name="Ann").orders] == [5]


def test_an_entity_without_a_key_gets_an_id(db):
    """Without a PrimaryKey there is ``id``, an int that the database makes; it stands first."""

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann, bob = User(name="Ann"), User(name="Bob")
        assert ann.id is None
    assert (ann.id, bob.id) == (1, 2)
    with db_session:
        assert list(User[2].to_dict()) == ["id", "name"]


def test_a_key_of_ones_own(db):
    """A key may have any type and any place in the class; what the database makes is asked for by auto=True."""

    class Country(db.Entity):
        name = Required(str)
        code = PrimaryKey(str, 2)

    class Ticket(db.Entity):
        number = PrimaryKey(int, auto=True)
        key = Required(UUID, default=uuid4, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Country(name="Chad", code="TD")
        ticket = Ticket()
    assert ticket.number == 1
    with db_session:
        assert Country["TD"].name == "Chad"
        assert Ticket.get(key=ticket.key).number == 1


def test_mixins_and_abstract_bases_share_attributes(db):
    """Attributes of a plain class and of an abstract entity become those of each entity, with tables of their own."""

    class Stamped:
        created = Required(datetime, default=lambda: datetime(2026, 1, 2))

        def year(self):
            return self.created.year

    class Named(db.Entity, abstract=True):
        name = Required(str)
        rank = Required(int, default=0)
        composite_key(name, rank)

    class City(Stamped, Named):
        people = Optional(int)

    class River(Stamped, Named):
        length = Optional(int)

    db.generate_mapping(create_tables=True)
    assert set(db.entities) == {"City", "River"}
    assert list(City._attributes_) == ["id", "name", "rank", "created", "people"]
    assert db.schema_sql().count('UNIQUE ("name", "rank")') == 2
    with db_session:
        City(name="Rome", people=3), River(name="Po", length=652)
    with db_session:
        assert (City[1].year(), City[1].name, River[1].year(), River[1].length) == (2026, "Rome", 2026, 652)


def test_an_abstract_entity_is_no_entity(db):
    """What is abstract has no table and no objects."""

    class Named(db.Entity, abstract=True):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    for use in (lambda: Named(name="x"), Named.select, lambda: Named[1]):
        with db_session, pytest.raises(ERDiagramError, match="Named is no entity of a database, only a base"):
            use()


def test_methods_and_properties_of_an_entity_are_kept(db):
    """An entity is a class: it may have methods, properties with setters and class attributes beside its attributes."""

    class User(db.Entity):
        kinds = ("guest", "member")
        first = Required(str)
        last = Required(str)

        @property
        def name(self):
            return f"{self.first} {self.last}"

        @name.setter
        def name(self, value):
            self.first, self.last = value.split()

    db.generate_mapping(create_tables=True)
    with db_session:
        User(first="Ann", last="Lee").name = "Bob Ray"
    with db_session:
        assert (User[1].name, User[1].first, User.kinds[1]) == ("Bob Ray", "Bob", "member")


# --- types ----------------------------------------------------------------------------------------

CET = timezone(timedelta(hours=1))
UUID_1 = UUID("12345678-1234-5678-1234-567812345678")

# (type, options, what is assigned, what it is from then on)
VALUES = [
    (str, {}, "  Ünïcödé 'quoted' \\ % _ \"  ", "Ünïcödé 'quoted' \\ % _ \""),
    (str, {"autostrip": False}, "  x  ", "  x  "),
    (str, {}, "\U0001f600\n\t\r line", "\U0001f600\n\t\r line"),
    (str, {"nullable": False}, None, ""),
    (int, {}, -(2**31), -(2**31)),
    (int, {}, "17", 17),
    (int, {}, 3.0, 3),
    (int, {"size": 64}, 2**63 - 1, 2**63 - 1),
    (int, {"size": 8, "unsigned": True}, 255, 255),
    (int, {"size": 32, "unsigned": True}, 2**32 - 1, 2**32 - 1),
    (bool, {}, True, True),
    (bool, {}, 0, False),
    (float, {}, 0.1, 0.1),
    (float, {}, 3, 3.0),
    (float, {}, float("inf"), float("inf")),
    (Decimal, {}, Decimal("-0.10"), Decimal("-0.10")),
    (Decimal, {}, 5, Decimal("5.00")),
    (Decimal, {}, 0.29, Decimal("0.29")),
    (
        Decimal,
        {"precision": 30, "scale": 10},
        "12345678901234567890.0123456789",
        Decimal("12345678901234567890.0123456789"),
    ),
    (datetime, {}, datetime(1999, 12, 31, 23, 59, 59, 999999), datetime(1999, 12, 31, 23, 59, 59, 999999)),
    (datetime, {}, "2026-01-02 03:04", datetime(2026, 1, 2, 3, 4)),
    (datetime, {"precision": 3}, datetime(2026, 1, 1, 0, 0, 0, 123999), datetime(2026, 1, 1, 0, 0, 0, 123000)),
    (datetime, {"tz": True}, datetime(2026, 1, 1, tzinfo=CET), datetime(2025, 12, 31, 23, tzinfo=UTC)),
    (date, {}, date(1, 1, 1), date(1, 1, 1)),
    (date, {}, "2026-02-28", date(2026, 2, 28)),
    (time, {}, time(23, 59, 59, 1), time(23, 59, 59, 1)),
    (timedelta, {}, timedelta(days=-3, microseconds=1), timedelta(days=-3, microseconds=1)),
    (UUID, {}, UUID_1, UUID_1),
    (UUID, {}, str(UUID_1), UUID_1),
    (bytes, {}, bytes(range(256)), bytes(range(256))),
    (bytes, {}, bytearray(b"\0x"), b"\0x"),
    (Json, {}, {"a": [1, 2.5, None, True, {"ü": "\"'"}]}, {"a": [1, 2.5, None, True, {"ü": "\"'"}]}),
    (Json, {}, [(1, 2), Decimal("1.0"), date(2026, 1, 1), Colour.RED], [[1, 2], "1.0", "2026-01-01", "red"]),
    (Json, {}, "text", "text"),
    (Json, {}, False, False),
    (Colour, {}, Colour.BLUE, Colour.BLUE),
    (Colour, {}, "red", Colour.RED),
    (Level, {"size": 16}, Level.HIGH, Level.HIGH),
]


@pytest.mark.parametrize(("python", "options", "given", "kept"), VALUES, ids=lambda value: repr(value)[:30])
def test_a_value_is_in_memory_what_a_reload_gives(db, python, options, given, kept):
    """35. What is assigned is normalised at once, so that memory equals the database, to the type."""
    Thing = stored(db, python, **options)
    with db_session:
        thing = Thing(value=given)
        assert repr(thing.value) == repr(kept)
        changed = Thing()
        changed.value = given
        assert changed.value == kept
    for key in (1, 2):
        with db_session:
            loaded = Thing[key].value
            assert loaded == kept
            assert isinstance(loaded, type(kept)) and repr(loaded) == repr(kept)
    with counted(db) as sent:
        with db_session:
            Thing[1].value = given  # equal: nothing to save
    assert sent.statements == 1


@pytest.mark.parametrize(
    ("items", "given", "kept"),
    [
        (int, (1, 2, None), [1, 2, None]),
        (str, [], []),
        (str, ["a", "ü,'\"{}\\"], ["a", "ü,'\"{}\\"]),
        (Decimal, ["1.5"], [Decimal("1.50")]),
        (date, ["2026-01-01"], [date(2026, 1, 1)]),
        (UUID, [UUID_1], [UUID_1]),
    ],
)
def test_arrays_on_postgresql(postgres_url, items, given, kept):
    """``list[int]`` is an array of PostgreSQL; it can be read, changed in place, compared, and checked on writing."""
    db = Database(postgres_url)
    Thing = stored(db, list[items])
    with db_session:
        Thing(value=given), Thing(value=None)
    with db_session:
        thing = Thing[1]
        assert thing.value == kept
        assert Thing.select(Thing.value == kept).fetch() == [thing]
        thing.value.append(None)
    with db_session:
        assert Thing[1].value == [*kept, None]
        assert Thing.select(Thing.value == None).fetch() == [Thing[2]]  # noqa: E711
    db.close()


def test_sqlite_has_no_arrays():
    """An array on SQLite is refused when the mapping is made, with the way out."""
    db = Database("sqlite://")
    with pytest.raises(ERDiagramError, match=r"Thing\.value: SQLite has no arrays: use Json"):
        stored(db, list[int])


WRONG = [
    (str, {}, 5, TypeError, "must be a str, not int"),
    (str, {"max_len": 3}, "abcd", ValueError, "too long: 4 characters, and at most 3"),
    (str, {}, "a\0b", ValueError, "NUL"),
    (int, {}, 1.5, TypeError, "must be an int"),
    (int, {}, "x", TypeError, "must be an int"),
    (int, {}, 2**63, ValueError, "must be between -9223372036854775808 and 9223372036854775807"),
    (int, {"size": 8}, 128, ValueError, "between -128 and 127"),
    (int, {"unsigned": True}, -1, ValueError, "between 0 and"),
    (int, {"min": 3, "max": 5}, 6, ValueError, "between 3 and 5"),
    (bool, {}, 2, TypeError, "must be a bool"),
    (bool, {}, "yes", TypeError, "must be a bool"),
    (float, {}, "1.5", TypeError, "must be a float"),
    (float, {"max": 1.0}, 1.5, ValueError, "above the largest"),
    (Decimal, {}, "abc", TypeError, "must be a Decimal"),
    (Decimal, {}, Decimal("NaN"), ValueError, "no number that can be stored"),
    (Decimal, {"precision": 4, "scale": 2}, 100, ValueError, "too large for 4 digits"),
    (Decimal, {"precision": 4, "scale": 2}, "99.999", ValueError, "too large for 4 digits"),
    (Decimal, {"min": 1}, "0.5", ValueError, "below the smallest"),
    (datetime, {}, date(2026, 1, 1), TypeError, "must be a datetime"),
    (datetime, {}, datetime(2026, 1, 1, tzinfo=UTC), ValueError, "tz=True"),
    (datetime, {"tz": True}, datetime(2026, 1, 1), ValueError, "without a time zone"),
    (date, {}, datetime(2026, 1, 1), TypeError, "must be a date"),
    (time, {}, time(1, tzinfo=UTC), ValueError, "time zone"),
    (timedelta, {}, 5, TypeError, "must be a timedelta"),
    (UUID, {}, "no uuid", TypeError, "must be a UUID"),
    (bytes, {}, "text", TypeError, "must be bytes"),
    (bytes, {"max_len": 1}, b"ab", ValueError, "too long: 2 bytes"),
    (Json, {}, {"a": [1, {2}]}, TypeError, r"a set at \$\.a\[1\]"),
    (Json, {}, {1: 2}, TypeError, r"key that is no str at \$"),
    (Json, {}, [float("nan")], ValueError, r"nan at \$\[0\]"),
    (Colour, {}, "green", ValueError, "one of 'red', 'blue'"),
    (Colour, {}, Level.LOW, ValueError, "one of 'red', 'blue'"),
]


@pytest.mark.parametrize(("python", "options", "value", "error", "message"), WRONG, ids=lambda value: repr(value)[:30])
def test_a_value_that_does_not_fit_is_refused_at_once(db, python, options, value, error, message):
    """41. A wrong value is a TypeError or ValueError that names the attribute, and changes nothing."""
    Thing = stored(db, python, **options)
    with db_session:
        thing = Thing()
        for assign in (
            lambda: setattr(thing, "value", value),
            lambda: Thing(value=value),
            lambda: thing.set(value=value),
        ):
            with pytest.raises(error, match=rf"^Thing\.value .*{message}"):
                assign()
        assert thing.value is None
    with db_session:
        assert [thing.value for thing in Thing.select()] == [None]


def test_a_required_attribute_needs_a_value(db):
    """None and "" are refused for Required; None is what Optional has by default."""

    class User(db.Entity):
        name = Required(str)
        nick = Optional(str)
        age = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for wrong in ({}, {"name": None}, {"name": ""}, {"name": "  "}, {"name": "x"}, {"name": "x", "age": None}):
            with pytest.raises(ValueError, match=r"^User\.(name|age) is required"):
                User(**wrong)
        user = User(name="x", age=0)
        assert user.nick is None
        with pytest.raises(ValueError, match=r"^User\.age is required, and cannot be None"):
            user.age = None
        user.nick = ""
    with db_session:
        assert [(user.name, user.nick, user.age) for user in User] == [("x", "", 0)]


def test_an_unknown_attribute_is_refused(db):
    """A name that is mistyped is an error, in the constructor, in set() and in an assignment, and is corrected."""

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        with pytest.raises(TypeError, match="unexpected attribute 'nmae' of User; did you mean 'name'"):
            User(nmae="x")
        user = User(name="x")
        with pytest.raises(TypeError, match="unexpected attribute 'nmae' of User; did you mean 'name'"):
            user.set(nmae="x")
        with pytest.raises(AttributeError, match="User has no attribute 'nmae'; did you mean 'name'"):
            user.nmae = "x"
        with pytest.raises(AttributeError, match="nmae"):
            user.nmae
        with pytest.raises(AttributeError, match="cannot be deleted"):
            del user.name


# --- defaults ---------------------------------------------------------------------------------------


def test_defaults(db):
    """A default is a value, or a function that is called for each object; what is given wins."""
    numbers = itertools.count(1)

    class Thing(db.Entity):
        number = Required(int, default=lambda: next(numbers))
        colour = Required(Colour, default=Colour.RED)
        price = Required(Decimal, 8, 3, default="1.5")
        tags = Required(Json, default=[])
        flag = Optional(bool, default=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        first, second, third = Thing(), Thing(), Thing(number=70, colour="blue", flag=None)
        first.tags.append("x")
        assert [thing.number for thing in (first, second, third)] == [1, 2, 70]
    with db_session:
        assert [thing.tags for thing in Thing.select().order_by(Thing.id)] == [["x"], [], []]
        assert (Thing[2].colour, Thing[2].price, Thing[2].flag) == (Colour.RED, Decimal("1.500"), True)
        assert (Thing[3].colour, Thing[3].flag) == (Colour.BLUE, None)


def test_sql_default_is_made_by_the_database(db):
    """33. What is not given is left to the database and comes back with the INSERT; None that is given is NULL."""

    class Thing(db.Entity):
        name = Required(str)
        state = Required(str, sql_default="'new'")
        score = Optional(int, sql_default="41 + 1")

    db.generate_mapping(create_tables=True)
    with counted(db) as sent:
        with db_session:
            things = [Thing(name="a"), Thing(name="b", state="old"), Thing(name="c", score=None)]
            assert things[0].state is None  # not known before it is saved
    assert sent.round_trips == 1
    with counted(db) as sent:
        assert [(thing.state, thing.score) for thing in things] == [("new", 42), ("old", 42), ("new", None)]
    assert sent.statements == 0
    with db_session:
        assert [(t.state, t.score) for t in Thing.select().order_by(Thing.id)] == [
            ("new", 42),
            ("old", 42),
            ("new", None),
        ]
