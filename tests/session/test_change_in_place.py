"""Values that are changed in place, and values that are converted (scenarios 34 and 35)."""

from __future__ import annotations

import copy
import json
import pickle
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal

import pytest

from dbsession import (
    ConstraintError,
    Database,
    DatabaseSessionIsOver,
    Json,
    OptimisticCheckError,
    Optional,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, sent
from tests.recording import recorded, set_columns, verbs

FIRST = {"a": 1, "list": [1, 2, {"deep": "x"}], "none": None}


class Box:
    """One entity with values that can be changed in place."""

    def __init__(self, db: Database) -> None:
        class Item(db.Entity):
            data = Optional(Json)
            blob = Optional(bytearray, max_len=8)
            fixed = Optional(bytes)
            note = Optional(str)

        db.generate_mapping(create_tables=True)
        self.db, self.Item = db, Item
        with db_session:
            Item(data=FIRST, blob=b"abc", fixed=bytearray(b"abc"))

    def stored(self, name: str) -> object:
        """Return what others read of the first object, as plain values."""

        @db_session
        def read() -> object:
            value = getattr(self.Item[1], name)
            return copy.deepcopy(value)

        return elsewhere(read)


@pytest.fixture
def box(db):
    return Box(db)


# --- 34: Json --------------------------------------------------------------------------------------------

JSON_CHANGES = {
    "set a key": (lambda d: d.__setitem__("b", {"new": [1]}), FIRST | {"b": {"new": [1]}}),
    "replace a key": (lambda d: d.__setitem__("a", 2), FIRST | {"a": 2}),
    "delete a key": (lambda d: d.__delitem__("a"), {"list": FIRST["list"], "none": None}),
    "clear": (lambda d: d.clear(), {}),
    "pop": (lambda d: d.pop("a"), {"list": FIRST["list"], "none": None}),
    "popitem": (lambda d: d.popitem(), {"a": 1, "list": FIRST["list"]}),
    "setdefault": (lambda d: d.setdefault("b", []).append(1), FIRST | {"b": [1]}),
    "update": (lambda d: d.update({"a": 5}, b=6), FIRST | {"a": 5, "b": 6}),
    "or": (lambda d: d.__ior__({"b": 6}), FIRST | {"b": 6}),
    "deep": (lambda d: d["list"][2].update(deep="y"), FIRST | {"list": [1, 2, {"deep": "y"}]}),
    "append": (lambda d: d["list"].append({"n": 3}), FIRST | {"list": [*FIRST["list"], {"n": 3}]}),
    "append and go in": (
        lambda d: (d["list"].append({}), d["list"][-1].update(n=3)),
        FIRST | {"list": [*FIRST["list"], {"n": 3}]},
    ),
    "extend": (lambda d: d["list"].extend((3, 4)), FIRST | {"list": [*FIRST["list"], 3, 4]}),
    "add": (lambda d: d["list"].__iadd__([3]), FIRST | {"list": [*FIRST["list"], 3]}),
    "multiply": (lambda d: d["list"].__imul__(2), FIRST | {"list": [*FIRST["list"], *FIRST["list"]]}),
    "insert": (lambda d: d["list"].insert(0, 0), FIRST | {"list": [0, *FIRST["list"]]}),
    "remove": (lambda d: d["list"].remove(1), FIRST | {"list": FIRST["list"][1:]}),
    "pop an item": (lambda d: d["list"].pop(), FIRST | {"list": [1, 2]}),
    "clear a list": (lambda d: d["list"].clear(), FIRST | {"list": []}),
    "reverse": (lambda d: d["list"].reverse(), FIRST | {"list": [{"deep": "x"}, 2, 1]}),
    "sort": (lambda d: d["list"].sort(key=str, reverse=True), FIRST | {"list": [{"deep": "x"}, 2, 1]}),
    "slice": (lambda d: d["list"].__setitem__(slice(0, 2), [9, 8, 7]), FIRST | {"list": [9, 8, 7, {"deep": "x"}]}),
    "delete a slice": (lambda d: d["list"].__delitem__(slice(0, 2)), FIRST | {"list": [{"deep": "x"}]}),
    "true for one": (lambda d: d.__setitem__("a", True), FIRST | {"a": True}),
}


@pytest.mark.parametrize("name", JSON_CHANGES)
def test_a_change_in_place_is_saved(box, name):
    """34. Whatever changes a Json value in place, at any depth, is noticed and saved, and nothing is dirty after it."""
    change, wanted = JSON_CHANGES[name]
    with db_session:
        item = box.Item[1]
        change(item.data)
        assert item.data == wanted
        with recorded() as statements:
            flush()
        assert set_columns(statements[-1]) == ["data"]
        with sent(box.db) as spent:
            flush()
        assert spent.statements == 0
    assert json.dumps(box.stored("data"), sort_keys=True) == json.dumps(wanted, sort_keys=True)


def test_changes_in_place_of_a_new_object(box):
    """34. The value of an object that is not saved yet may change in place, and the argument is not shared."""
    with db_session:
        given = {"list": [1]}
        item = box.Item(data=given)
        item.data["list"].append(2)
        given["list"].append(99)
        flush()
        given["list"].append(100)
        item.data["list"].append(3)
        number = item.id
    with db_session:
        assert box.Item[number].data == {"list": [1, 2, 3]}


def test_what_is_assigned_is_tracked_and_not_shared(box):
    """34. An assigned value is a copy: the program's own dict stays its own, the attribute's is tracked."""
    with db_session:
        item, given = box.Item[1], {"list": [1]}
        item.data = given
        flush()
        given["list"].append(99)
        item.data["list"].append(2)
        item.data["part"] = part = {"x": 1}
        part["x"] = 99
    assert box.stored("data") == {"list": [1, 2], "part": {"x": 1}}


def test_changed_in_place_and_changed_back(box):
    """32, 34. A value that was changed in place and is as before at the flush is not written."""
    with db_session:
        item = box.Item[1]
        item.data["list"].append(3)
        item.data["list"].pop()
        item.data["a"] = item.data.pop("a")
        with sent(box.db) as spent:
            flush()
        assert spent.statements == 0


@pytest.mark.parametrize("flushes", [True, False])
def test_a_rollback_undoes_changes_in_place(box, flushes):
    """34. After a rollback the attribute has the value of the database, and a stale container refuses changes."""
    with db_session:
        item = box.Item[1]
        data = item.data
        data["list"].append(3)
        item.blob.append(1)
        if flushes:
            flush()
        rollback()
        assert item.data == FIRST and item.blob == b"abc"
        with pytest.raises(ConstraintError, match=r"Item\[1\]\.data.*read Item\[1\]\.data again"):
            data["list"].append(4)
        assert data["list"] == [1, 2, {"deep": "x"}, 3]
        item.data["a"] = 2
    assert box.stored("data") == FIRST | {"a": 2}


def test_a_container_of_a_row_that_was_loaded_again(box):
    """34. A value that somebody else has changed meanwhile is not changed through a container read before."""
    with db_session:
        item = box.Item[1]
        data = item.data
        elsewhere(db_session(lambda: box.Item[1].data.update(a="other")))
        box.Item.select().fetch()
        with pytest.raises(ConstraintError, match=r"Item\[1\]\.data"):
            data["b"] = 1
        assert item.data == FIRST | {"a": "other"}
        item.data["b"] = 1
    assert box.stored("data") == FIRST | {"a": "other", "b": 1}


def test_a_container_lives_through_flush_commit_and_queries(box):
    """34. A container stays the attribute's own when its value was saved, committed and loaded again by a query."""
    with db_session:
        data = box.Item[1].data
        for number in range(3):
            data["list"].append(number)
            if number == 1:
                commit()
            assert [item.data is data for item in box.Item.select()] == [True]
    assert box.stored("data")["list"] == [1, 2, {"deep": "x"}, 0, 1, 2]


def test_a_value_that_was_replaced_is_free(box):
    """34. A container whose attribute was assigned another value is a plain one from then on."""
    with db_session:
        item = box.Item[1]
        old = item.data
        item.data = {"new": 1}
        old["a"] = 99
        inner = item.data.setdefault("inner", {})
        item.data = {"newer": 1}
        inner["x"] = 1
        flush()
        old.clear()
        with sent(box.db) as spent:
            flush()
        assert spent.statements == 0
    old["b"] = 1
    assert box.stored("data") == {"newer": 1}


@pytest.mark.parametrize("change", [lambda d: d.update(b=1), lambda d: d["list"].append(1), lambda d: d["list"].sort()])
def test_after_the_scope_a_container_is_read_only(box, change):
    """34. After the scope a container can be read and copied; a change raises, and changes nothing."""
    with db_session:
        item = box.Item[1]
        data, blob = item.data, item.blob
    with pytest.raises(DatabaseSessionIsOver, match=r"Item\[1\]\.data"):
        change(data)
    with pytest.raises(DatabaseSessionIsOver, match=r"Item\[1\]\.blob"):
        blob.append(1)
    assert data == FIRST and blob == b"abc"
    for plain in (copy.copy(data), copy.deepcopy(data), data.copy(), pickle.loads(pickle.dumps(data))):
        assert type(plain) is dict and type(plain["list"]) is list and plain == FIRST
        change({**plain, "list": [1]})
    assert json.loads(json.dumps(data)) == FIRST


@pytest.mark.parametrize("value", [{1, 2}, {"x": object()}, [float("nan")], {1: 2}, [float("inf")], "a\0b", {"\0": 1}])
def test_what_json_does_not_have_is_refused_inside_too(box, value):
    """34, 41. A value that JSON does not have is refused in place too, with the attribute, and changes nothing."""
    with db_session:
        item = box.Item[1]
        for change in (
            lambda: item.data.__setitem__("b", value),
            lambda: item.data["list"].append(value),
            lambda: item.data["list"].extend([3, value]),
            lambda: item.data.update(a=2, b=value),
            lambda: setattr(item, "data", [value]),
        ):
            with pytest.raises((TypeError, ValueError), match=r"Item\.data has .*\$"):
                change()
        with pytest.raises(TypeError):
            item.data["list"].sort()
        assert item.data == FIRST
        with sent(box.db) as spent:
            flush()
        assert spent.statements == 0


def test_a_json_value_of_any_shape_changes_to_any_other(box):
    """34. The whole value may be a dict, list, str, number, bool or None, and each is told from each other."""
    shapes = [
        {},
        [],
        "",
        "text",
        '"text"',
        "null",
        "[1]",
        0,
        1,
        True,
        False,
        1.5,
        None,
        [None],
        {"a": None},
        [True],
        [1],
    ]
    with db_session:
        item = box.Item[1]
        for shape in shapes:
            for before in shapes:
                item.data = before
                flush()
                item.data = shape
                flush()
                assert json.dumps(box.Item.select().get().data) == json.dumps(shape)
    assert box.stored("data") == [1]


# --- 34: bytes -------------------------------------------------------------------------------------------

BYTE_CHANGES = {
    "append": (lambda b: b.append(100), b"abcd"),
    "extend": (lambda b: b.extend(b"de"), b"abcde"),
    "add": (lambda b: b.__iadd__(b"de"), b"abcde"),
    "multiply": (lambda b: b.__imul__(2), b"abcabc"),
    "insert": (lambda b: b.insert(0, 0), b"\0abc"),
    "remove": (lambda b: b.remove(97), b"bc"),
    "pop": (lambda b: b.pop(0), b"bc"),
    "clear": (lambda b: b.clear(), b""),
    "reverse": (lambda b: b.reverse(), b"cba"),
    "set": (lambda b: b.__setitem__(0, 122), b"zbc"),
    "slice": (lambda b: b.__setitem__(slice(0, 2), b"xyz"), b"xyzc"),
    "delete": (lambda b: b.__delitem__(slice(1, None)), b"a"),
}


@pytest.mark.parametrize("name", BYTE_CHANGES)
def test_a_bytearray_is_changed_in_place(box, name):
    """34. An attribute declared as bytearray is changed in place, and saved; nothing is dirty after it."""
    change, wanted = BYTE_CHANGES[name]
    with db_session:
        item = box.Item[1]
        assert isinstance(item.blob, bytearray) and item.blob == b"abc"
        change(item.blob)
        with recorded() as statements:
            flush()
        assert verbs(statements) == ["UPDATE"] and set_columns(statements[-1]) == ["blob"]
        with sent(box.db) as spent:
            flush()
            assert item.blob == wanted
        assert spent.statements == 0
    assert box.stored("blob") == wanted


def test_a_bytearray_stays_within_its_limits(box):
    """34, 41. A change in place that makes the value too long is refused, and changes nothing."""
    with db_session:
        item = box.Item[1]
        with pytest.raises(ValueError, match=r"Item\.blob is too long: 9 bytes"):
            item.blob.extend(b"defghi")
        with pytest.raises(IndexError):
            item.blob.pop(10)
        assert item.blob == b"abc"
        with sent(box.db) as spent:
            flush()
        assert spent.statements == 0


def test_bytes_are_never_shared(box):
    """34. A bytes attribute holds bytes, whatever was assigned: the program's bytearray stays its own."""
    with db_session:
        item, given = box.Item[1], bytearray(b"xyz")
        item.fixed = given
        given.append(33)
        assert type(item.fixed) is bytes and item.fixed == b"xyz"
        item.fixed = memoryview(given)[:2]
    assert box.stored("fixed") == b"xy"


# --- 35: conversions -------------------------------------------------------------------------------------

AMSTERDAM = timezone(timedelta(hours=2))
NOON = datetime(2024, 5, 1, 12, tzinfo=UTC)


@pytest.fixture
def measure(db):
    class Measure(db.Entity):
        price = Optional(Decimal, 10, 3)
        at = Optional(datetime, tz=True)
        rough = Optional(datetime, precision=0)
        level = Optional(float)
        watched = Optional(float, optimistic=True)

    db.generate_mapping(create_tables=True)
    return Measure


SPELLINGS = [
    ("price", [1, Decimal("1.0"), "1.000", 1.0, Decimal("1.0004")], Decimal("1.000")),
    ("at", [NOON, NOON.astimezone(AMSTERDAM), "2024-05-01T14:00:00+02:00"], NOON),
    (
        "rough",
        [datetime(2024, 5, 1, 12, 0, 0, microsecond) for microsecond in (0, 7, 999_999)],
        datetime(2024, 5, 1, 12),
    ),
    ("level", [1, True, 1.0, Decimal(1)], 1.0),
    ("level", [0.0, -0.0], 0.0),
    ("level", [float("inf"), Decimal("Infinity")], float("inf")),
]


@pytest.mark.parametrize("name, spellings, wanted", SPELLINGS)
def test_one_value_in_several_spellings(db, measure, name, spellings, wanted):
    """35. Equality is by the type of the column: another spelling of the value is no change, before a flush or after."""
    with db_session:
        made = measure(**{name: spellings[-1]})
        flush()
        for spelling in spellings:
            setattr(made, name, spelling)
        with sent(db) as spent:
            flush()
        assert spent.statements == 0
        assert getattr(made, name) == wanted and type(getattr(made, name)) is type(wanted)
    with sent(db) as spent, db_session:
        made = measure.get(id=1)
        for spelling in (*spellings, getattr(made, name), *spellings):
            setattr(made, name, spelling)
    assert (spent.statements, spent.transactions) == (1, 0)


def test_a_zone_is_normalised(db, measure):
    """35. A moment in another zone is held in UTC at once, as a reload gives it."""
    with db_session:
        made = measure(at=NOON.astimezone(AMSTERDAM))
        assert made.at == NOON and made.at.tzinfo is UTC
        flush()
        assert measure.select(at=NOON.astimezone(AMSTERDAM)).get() is made
    with db_session:
        assert measure[1].at.tzinfo is UTC and str(measure[1].at) == "2024-05-01 12:00:00+00:00"


def test_not_a_number(db, measure):
    """35. NaN, where the database takes it, is never dirty for being unequal to itself; SQLite refuses it at once."""
    nan, other = float("nan"), -float("nan")
    with db_session:
        if db.backend.dialect.name == "sqlite":
            with pytest.raises(ValueError, match=r"Measure\.level is not a number"):
                measure(level=nan)
            made = measure(level=1)
            with pytest.raises(ValueError, match=r"Measure\.level is not a number"):
                made.level = nan
            assert made.level == 1
            return
        made = measure(level=nan, watched=nan)
        flush()
        made.level, made.watched = other, other
        with sent(db) as spent:
            flush()
        assert spent.statements == 0
    with db_session:
        made = measure[1]
        assert str(made.level) == str(made.watched) == "nan"
        assert measure.select().get() is made
        made.level = 1
        made.level = nan
        made.price = 1
        with recorded() as statements:
            commit()
        assert set_columns(statements[-1]) == ["price"]


@pytest.mark.parametrize("value", [Decimal("1.5"), NOON, 2.5])
def test_a_check_of_a_converted_value(db, measure, value):
    """35. The optimistic check compares what the column holds: no false conflict, and no conflict missed."""
    name = {Decimal: "price", datetime: "at", float: "watched"}[type(value)]
    with db_session:
        made = measure(**{name: value})
    with db_session:
        made = measure[1]
        assert getattr(made, name) == value
        made.rough = datetime(2024, 1, 1)
    with pytest.raises(OptimisticCheckError, match=rf"Measure\[1\].*{name}"):
        with db_session:
            made = measure[1]
            assert getattr(made, name) == value
            elsewhere(db_session(lambda: setattr(measure[1], name, value + (timedelta(1) if name == "at" else 1))))
            made.rough = datetime(2024, 1, 2)
