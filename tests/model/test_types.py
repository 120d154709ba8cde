"""Every type, with whatever values it has: memory is what a reload gives, and nothing is dirty after it."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal, localcontext
from enum import Enum, IntEnum, StrEnum
from typing import Any, NamedTuple
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dbsession import Database, DataError, ERDiagramError, Json, Optional, PrimaryKey, Required, db_session, flush
from tests.observing import sent
from tests.recording import recorded, set_columns


class Colour(Enum):
    RED = "red"
    BLUE = "bl'ue"


class Size(IntEnum):
    SMALL = 1
    LARGE = 40_000


class Mood(StrEnum):
    GOOD = "good"
    BAD = "bad"


class Kind(NamedTuple):
    """A type as declared, and its values."""

    python: Any
    options: dict[str, Any]
    values: st.SearchStrategy[Any]
    compares: bool = True  # whether a query by the value finds the row


def ints(bits: int, *, unsigned: bool = False) -> st.SearchStrategy[int]:
    """Return the values of an int of that size, the ends of its range often."""
    low, high = (0, 2**bits - 1) if unsigned else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    return st.integers(low, high) | st.sampled_from([low, low + 1, 0, 1, high - 1, high])


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=40)
OFFSETS = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
NAIVE = st.datetimes(datetime(1, 1, 1), datetime.max)
AWARE = st.datetimes(datetime(1, 1, 3), datetime(9999, 12, 29), timezones=OFFSETS)
SPANS = st.timedeltas(timedelta(days=-100_000_000), timedelta(days=100_000_000)) | st.sampled_from(
    [timedelta(0), timedelta(microseconds=-1), timedelta(days=-1, microseconds=1), timedelta(hours=-36)]
)
NUMBERS = st.integers(-(10**40), 10**40) | st.floats(allow_nan=False, allow_infinity=False)
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=8,
)


def decimals(precision: int, scale: int) -> st.SearchStrategy[Decimal]:
    """Return the values of a Decimal of that shape, and some with more digits behind the point."""
    most = 10**precision - 1
    exact = st.integers(-most, most).map(lambda number: Decimal(f"{number}E-{scale}"))
    return exact | st.integers(-most * 99, most * 99).map(lambda number: Decimal(f"{number}E-{scale + 2}"))


KINDS = {
    "int": Kind(int, {}, ints(32)),
    "int8": Kind(int, {"size": 8}, ints(8)),
    "int16": Kind(int, {"size": 16}, ints(16)),
    "int24": Kind(int, {"size": 24}, ints(24)),
    "int32": Kind(int, {"size": 32}, ints(32)),
    "int64": Kind(int, {"size": 64}, ints(64)),
    "uint8": Kind(int, {"size": 8, "unsigned": True}, ints(8, unsigned=True)),
    "uint16": Kind(int, {"size": 16, "unsigned": True}, ints(16, unsigned=True)),
    "uint24": Kind(int, {"size": 24, "unsigned": True}, ints(24, unsigned=True)),
    "uint32": Kind(int, {"size": 32, "unsigned": True}, ints(32, unsigned=True)),
    "uint64": Kind(int, {"size": 64, "unsigned": True}, ints(64, unsigned=True)),
    "bool": Kind(bool, {}, st.booleans() | st.sampled_from([0, 1])),
    "str": Kind(str, {}, TEXT),
    "str as it is": Kind(str, {"autostrip": False, "max_len": 40}, TEXT),
    "float": Kind(float, {}, st.floats(allow_nan=False) | st.integers(-(2**60), 2**60)),
    "Decimal": Kind(Decimal, {}, decimals(12, 2)),
    "Decimal(40, 20)": Kind(Decimal, {"precision": 40, "scale": 20}, decimals(40, 20)),
    "Decimal(5, 5)": Kind(Decimal, {"precision": 5, "scale": 5}, decimals(5, 5)),
    "Decimal(10, 0)": Kind(Decimal, {"precision": 10, "scale": 0}, decimals(10, 0)),
    "datetime": Kind(datetime, {}, NAIVE),
    "datetime(3)": Kind(datetime, {"precision": 3}, NAIVE),
    "datetime(0)": Kind(datetime, {"precision": 0}, NAIVE),
    "datetime tz": Kind(datetime, {"tz": True}, AWARE),
    "datetime tz(2)": Kind(datetime, {"tz": True, "precision": 2}, AWARE),
    "date": Kind(date, {}, st.dates()),
    "time": Kind(time, {}, st.times()),
    "time(1)": Kind(time, {"precision": 1}, st.times()),
    "timedelta": Kind(timedelta, {}, SPANS),
    "UUID": Kind(UUID, {}, st.uuids() | st.uuids().map(str) | st.uuids().map(lambda uuid: uuid.bytes)),
    "bytes": Kind(bytes, {}, st.binary(max_size=60)),
    "bytearray": Kind(bytearray, {}, st.binary(max_size=60).map(bytearray)),
    "Json": Kind(Json, {}, JSON.filter(lambda value: value is not None), compares=False),
    "Enum of str": Kind(Colour, {}, st.sampled_from([*Colour, "red"])),
    "Enum of int": Kind(Size, {}, st.sampled_from([*Size, 40_000])),
    "StrEnum": Kind(Mood, {"max_len": 30}, st.sampled_from([*Mood, "good"])),
}

ARRAYS = {
    "int": Kind(list[int], {}, st.lists(st.none() | ints(32), max_size=5)),
    "int64": Kind(list[int], {"size": 64}, st.lists(st.none() | ints(64), max_size=5)),
    "str": Kind(list[str], {}, st.lists(st.none() | TEXT, max_size=5)),
    "bool": Kind(list[bool], {}, st.lists(st.none() | st.booleans(), max_size=5)),
    "float": Kind(list[float], {}, st.lists(st.none() | st.floats(allow_nan=False), max_size=5)),
    "Decimal": Kind(list[Decimal], {"precision": 20, "scale": 4}, st.lists(st.none() | decimals(20, 4), max_size=5)),
    "datetime": Kind(list[datetime], {}, st.lists(st.none() | NAIVE, max_size=5)),
    "datetime tz": Kind(list[datetime], {"tz": True}, st.lists(st.none() | AWARE, max_size=5)),
    "date": Kind(list[date], {}, st.lists(st.none() | st.dates(), max_size=5)),
    "time": Kind(list[time], {}, st.lists(st.none() | st.times(), max_size=5)),
    "timedelta": Kind(list[timedelta], {}, st.lists(st.none() | SPANS, max_size=5)),
    "UUID": Kind(list[UUID], {}, st.lists(st.none() | st.uuids(), max_size=5)),
    "bytes": Kind(list[bytes], {}, st.lists(st.none() | st.binary(max_size=9), max_size=5)),
    "Enum": Kind(list[Colour], {}, st.lists(st.none() | st.sampled_from(Colour), max_size=5)),
    "list": Kind(list[list[int]], {}, st.lists(st.lists(ints(32), min_size=2, max_size=2), max_size=3)),
}


def declare(db: Database, kind: Kind) -> Any:
    """Declare an entity with one attribute of *kind* and another one, and make its table."""

    class Row(db.Entity):
        value = Optional(kind.python, **kind.options)
        other = Optional(int)

    db.generate_mapping(create_tables=True)
    return Row


def shown(value: Any) -> Any:
    """Return *value* so that values differ if the program could tell them apart."""
    if isinstance(value, dict | list):
        return json.dumps(value, sort_keys=True, default=repr)
    return type(value).__mro__[-2 if isinstance(value, bytearray) else 0], value


def unsent(db: Database, change: Callable[[], None]) -> bool:
    """Tell whether nothing is sent when *change* is flushed."""
    with sent(db) as spent:
        change()
        flush()
    return spent.statements == 0


def check(db: Database, Row: Any, kind: Kind, first: Any, second: Any) -> None:
    """Save *first*, load it, change it to *second*, load that."""
    with db_session:
        row = Row(value=first)
        held = row.value
        flush()
        assert shown(row.value) == shown(held)
        assert unsent(db, lambda: (setattr(row, "value", first), setattr(row, "value", held)))
        number = row.id
    assert shown(row.value) == shown(held)
    with db_session:
        row = Row[number]
        assert shown(row.value) == shown(held)
        assert unsent(db, lambda: (setattr(row, "value", first), setattr(row, "value", row.value)))
        row.other = 1  # the check compares the value that was read
    with db_session:
        row = Row[number]
        assert unsent(db, lambda: setattr(row, "value", first))  # unread
        row.value = second
        held = row.value
        flush()
        assert shown(row.value) == shown(held)
    with db_session:
        row = Row.select(value=held, id=number).get() if kind.compares else Row[number]
        assert shown(row.value) == shown(held)
        row.value = None
    with db_session:
        assert Row[number].value is None


def examples(db: Database) -> settings:
    """Return how many values to try: fewer where each takes several round trips."""
    number = 40 if db.backend.dialect.name == "sqlite" else 12
    return settings(max_examples=number, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])


@pytest.mark.parametrize("name", KINDS)
def test_memory_is_what_a_reload_gives(db, name):
    """35. After an assignment, a flush, a commit and a reload a value is the same, to its type, and not dirty."""
    kind = KINDS[name]
    if name == "uint64" and db.backend.dialect.name == "sqlite":
        with pytest.raises(ERDiagramError, match=r"Row\.value: SQLite's integers have 64 bits with a sign"):
            declare(db, kind)
        return
    Row = declare(db, kind)

    @examples(db)
    @given(first=kind.values, second=kind.values)
    def values(first, second):
        check(db, Row, kind, first, second)

    values()


@pytest.mark.parametrize("name", ARRAYS)
def test_arrays(db, name):
    """35. The same for arrays, with None among their items; SQLite has none, and says so when the mapping is made."""
    kind = ARRAYS[name]
    if db.backend.dialect.name == "sqlite":
        with pytest.raises(ERDiagramError, match=r"Row\.value: SQLite has no arrays: use Json"):
            declare(db, kind)
        return
    Row = declare(db, kind)

    @examples(db)
    @given(first=kind.values, second=kind.values)
    def values(first, second):
        check(db, Row, kind, first, second)

    values()


def test_an_array_of_json_is_refused(postgres_url):
    """An array of Json is refused when it is declared, with the way out."""
    db = Database(postgres_url)
    with pytest.raises(ERDiagramError, match=r"Row\.value: .*array of Json.*Json attribute holds lists"):
        declare(db, Kind(list[Json], {}, JSON))
    db.close()


def test_json_of_every_shape(db):
    """35. JSON null at the top is NULL; a str, a number or a list at the top is itself, and not its own text."""
    Row = declare(db, Kind(Json, {}, JSON))
    shapes = [
        None,
        "",
        "null",
        '"x"',
        "[]",
        "{}",
        "1",
        0,
        1,
        -1,
        0.5,
        True,
        False,
        [],
        {},
        [[]],
        [None],
        {"": {"": None}},
    ]
    shapes += [
        1e16,
        1e23,
        -1e308,
        5e-324,
        10**23,
        ["1e+16", 1e16, '"1e+17'],
        {'1e+18"': [1e22]},
        1.0,
        -1.5e300,
        "\\",
        '\\"',
    ]
    with db_session:
        made = [Row(value=shape) for shape in shapes]
        flush()
        assert [json.dumps(row.value) for row in made] == list(map(json.dumps, shapes))
    with db_session:
        found = Row.select().order_by(Row.id).fetch()
        assert [json.dumps(row.value) for row in found] == list(map(json.dumps, shapes))
        for row, shape in zip(found, reversed(shapes), strict=True):
            row.value = shape
    with db_session:
        found = Row.select().order_by(Row.id).fetch()
        assert [json.dumps(row.value) for row in found] == list(map(json.dumps, reversed(shapes)))


# --- keys --------------------------------------------------------------------------------------------------

KEYS = [
    "int64",
    "str",
    "Decimal",
    "datetime",
    "datetime tz",
    "date",
    "time",
    "timedelta",
    "UUID",
    "bytes",
    "Enum of str",
]


@pytest.mark.parametrize("name", KEYS)
def test_keys_of_every_type(db, name):
    """19, 20. An object is found by a key of any type, and by every spelling of it, as one object."""
    kind = KINDS[name]

    class Thing(db.Entity):
        key = PrimaryKey(kind.python, **kind.options)
        note = Optional(str)

    db.generate_mapping(create_tables=True)

    @examples(db)
    @given(key=kind.values.filter(lambda key: not isinstance(key, str) or key.strip()), note=st.none() | st.just("x"))
    def keys(key, note):
        with db_session:
            db.execute("DELETE FROM thing")
        with db_session:
            thing = Thing(key=key)
            assert Thing[key] is thing and Thing[thing.key] is thing
        with db_session:
            thing = Thing[key]
            with sent(db) as spent:
                assert Thing[key] is thing and Thing[thing.key] is thing
            assert spent.statements == 0
            assert Thing.select().fetch() == [thing] and Thing.select(key=thing.key).get() is thing
            thing.note = note

    keys()


# --- limits ------------------------------------------------------------------------------------------------

REFUSED = [
    (int, {"size": 64}, 2**63),
    (int, {}, 10**400),
    (int, {}, float("inf")),
    (int, {}, Decimal("1e999999")),
    (int, {}, Decimal("NaN")),
    (float, {}, 10**400),
    (Decimal, {}, Decimal("1e10")),
    (Decimal, {}, Decimal("9999999999.995")),
    (Decimal, {}, Decimal("sNaN")),
    (datetime, {"tz": True}, datetime.min.replace(tzinfo=timezone(timedelta(hours=1)))),
    (datetime, {"tz": True}, datetime.max.replace(tzinfo=timezone(timedelta(hours=-1)))),
    (Json, {}, 10**5000),
    (float, {}, 10**5000),
    (Json, {}, {"a": ["x\0"]}),
    (Json, {}, {"x\0": 1}),
    (bytes, {"max_len": 3}, memoryview(b"abcd")),
    (Size, {}, 2),
    (Colour, {}, Mood.GOOD),
]


@pytest.mark.parametrize("python, options, value", REFUSED, ids=lambda value: getattr(value, "__name__", ""))
def test_what_is_beyond_a_type_is_refused_at_once(db, python, options, value):
    """41. A value that the column cannot hold is refused when it is assigned, with the attribute, not when it is sent."""
    Row = declare(db, Kind(python, options, st.none()))
    with db_session:
        row = Row()
        with pytest.raises((TypeError, ValueError), match=r"^Row\.value "):
            row.value = value
        with pytest.raises((TypeError, ValueError), match=r"^Row\.value "):
            Row(value=value)
        flush()
        assert row.value is None and Row.select().count() == 1


def test_the_longest_timedelta(db):
    """41. PostgreSQL holds every timedelta; SQLite, which counts microseconds, refuses what it cannot count."""
    Row = declare(db, KINDS["timedelta"])
    for value in (timedelta.max, timedelta.min):
        with db_session:
            if db.backend.dialect.name == "sqlite":
                with pytest.raises(ValueError, match=r"^Row\.value is .*292 000 years"):
                    Row(value=value)
            else:
                number = Row(value=value)
                flush()
                assert number.value == value
    with db_session:
        for row in Row.select():
            assert row.value in {timedelta.max, timedelta.min}


def test_a_decimal_does_not_depend_on_the_context(db):
    """35. Whatever the program's decimal context is, a value is rounded as the database rounds: half away from zero."""
    Row = declare(db, KINDS["Decimal(40, 20)"])
    exact = Decimal("12345678901234567890.12345678901234567890")
    with localcontext(prec=3, rounding="ROUND_DOWN"), db_session:
        Row(value=exact)
        halves = [Row(value=Decimal(sign + "0.000000000000000000015")) for sign in ("", "-")]
        flush()
    assert [row.value for row in halves] == [Decimal("2E-20"), Decimal("-2E-20")]
    with localcontext(prec=3), db_session:
        row = Row[1]
        assert row.value == exact
        assert unsent(db, lambda: setattr(row, "value", exact))
        assert Row.select(value=exact).get() is row


def test_a_str_that_utf_8_does_not_have(db):
    """41. A lone surrogate is refused with the object that holds it, before or at the flush, and nothing is saved."""
    Row = declare(db, KINDS["str"])
    with pytest.raises((ValueError, DataError), match="Row"):
        with db_session:
            Row(value="\ud800")
    with db_session:
        assert Row.select().count() == 0


def test_a_value_that_an_enum_does_not_have(db):
    """35. A value in the database that is none of the Enum's is an error that says what there is, when it is read."""
    Row = declare(db, KINDS["Enum of str"])
    with db_session:
        db.execute("INSERT INTO row_ (value) VALUES ('green')".replace("row_", '"row"'))
    with db_session:
        row = Row[1]
        assert row.other is None
        with pytest.raises(ValueError, match=r"'green'.*Colour.*'red', \"bl'ue\""):
            row.value
        row.value = Colour.RED
    with db_session:
        assert Row[1].value is Colour.RED


def test_only_what_differs_is_written(db):
    """31, 35. Of many attributes of many types an UPDATE sets those whose values differ, by the type of each."""

    class Wide(db.Entity):
        number = Required(int)
        price = Required(Decimal)
        at = Required(datetime, tz=True)
        data = Required(Json)
        key = Required(UUID)

    db.generate_mapping(create_tables=True)
    key, noon = UUID(int=5), datetime(2024, 1, 1, 12, tzinfo=UTC)
    with db_session:
        Wide(number=1, price=1, at=noon, data={"a": 1}, key=key)
    with db_session:
        wide = Wide[1]
        wide.set(number="1", price="1.001", at="2024-01-01T13:00+01:00", data={"a": True}, key=str(key))
        with recorded() as statements:
            flush()
        assert set_columns(statements[-1]) == ["data"]
