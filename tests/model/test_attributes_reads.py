"""Reads are tracked for free: what loading stores, what the first read stores, and what the second one runs."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from contextlib import contextmanager
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from typing import Any

import pytest

import dbsession
from dbsession import Json, NotLoadedError, Optional, PrimaryKey, Required, Set, db_session, flush
from dbsession.model.state import NOT_LOADED
from tests.observing import elsewhere, sent

PACKAGE = str(Path(dbsession.__file__).parent)


class Colour(Enum):
    RED = "red"


@pytest.fixture
def Person(db):
    class Person(db.Entity):
        name = Required(str)
        age = Required(int)
        born = Optional(datetime, tz=True)
        balance = Optional(Decimal, 10, 2)
        active = Optional(bool)
        colour = Optional(Colour)
        data = Optional(Json)
        blob = Optional(bytearray)
        nothing = Optional(str)
        about = Optional(str, lazy=True)
        boss = Optional("Person", reverse="staff")
        staff = Set("Person", reverse="boss")
        groups = Set("Group")
        badge = Optional("Badge")

    class Group(db.Entity):
        people = Set(Person)

    class Badge(db.Entity):
        number = PrimaryKey(str)
        person = Required(Person)

    db.generate_mapping(create_tables=True)
    with db_session:
        ann = Person(
            name="Ann",
            age=30,
            born=datetime(1990, 1, 1, tzinfo=UTC),
            balance=5,
            active=True,
            colour="red",
            data={"a": [1]},
            blob=b"x",
            about="long",
        )
        Person(name="Bob", age=40, boss=ann)
        Group(people=[ann])
        Badge(number="7", person=ann)
    return Person


NAMES = [
    *("id", "name", "age", "born", "balance", "active", "colour", "data", "blob", "nothing", "about"),
    *("boss", "staff", "groups", "badge"),
]


# --- what runs ---------------------------------------------------------------------------------------------


@contextmanager
def no_collection():
    """Keep the garbage collector, whose finalizers and callbacks may be Python, out of the block."""
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


@contextmanager
def python_calls():
    """Note every Python function, of anybody's, that the block calls, by the profiler and by the tracer."""
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "call" and frame.f_code.co_filename != __file__:
            calls.append(f"{frame.f_code.co_filename}:{frame.f_code.co_qualname}")

    before = sys.getprofile(), sys.gettrace()
    with no_collection():
        sys.setprofile(note)
        sys.settrace(note)
        try:
            yield calls
        finally:
            sys.setprofile(before[0])
            sys.settrace(before[1])
    calls[:] = [call for call in calls if "contextlib" not in call]


@contextmanager
def c_calls():
    """Note every C function that the block calls."""
    calls: list[str] = []

    def note(frame: Any, event: str, argument: Any) -> None:
        if event == "c_call" and argument is not sys.setprofile:
            calls.append(argument.__qualname__)

    before = sys.getprofile()
    with no_collection():
        sys.setprofile(note)
        try:
            yield calls
        finally:
            sys.setprofile(before)


def read(obj: Any, name: str) -> Callable[[], Any]:
    """Return code that does nothing but read the attribute."""
    return eval(f"lambda: obj.{name}", {"obj": obj})


@pytest.mark.parametrize("name", NAMES)
def test_the_second_read_runs_no_python(db, Person, name):
    """The first read of an attribute runs Python of ours; the second is a plain attribute access of Python itself."""
    with db_session:
        ann = Person[1]
        reading = read(ann, name)
        with python_calls() as first:
            value = reading()
        assert any(call.startswith(PACKAGE) for call in first)
        with sent(db) as spent:
            with python_calls() as second:
                again = reading()
        assert [call for call in second if "<lambda>" not in call] == []
        assert spent.statements == 0 and again is value
        with c_calls() as called:
            ann.__dict__
        bare = list(called)
        with c_calls() as called:
            reading()
        assert called == bare


@pytest.mark.skipif(not hasattr(sys, "monitoring"), reason="sys.monitoring came with Python 3.12")
@pytest.mark.parametrize("name", NAMES)
def test_the_second_read_as_the_interpreter_sees_it(Person, name):
    """The interpreter's own monitoring sees no function of ours start, and no call made, in the second read."""
    monitoring: Any = getattr(sys, "monitoring")  # noqa: B009 - not there in 3.11
    tool, seen = monitoring.PROFILER_ID, []
    with db_session:
        reading = read(Person[1], name)
        reading()
        monitoring.use_tool_id(tool, "reads")
        try:
            for event in (monitoring.events.PY_START, monitoring.events.CALL):
                monitoring.register_callback(tool, event, lambda code, *rest: seen.append((code.co_filename, rest)))
            monitoring.set_events(tool, monitoring.events.PY_START | monitoring.events.CALL)
            reading()
            monitoring.set_events(tool, 0)
        finally:
            monitoring.free_tool_id(tool)
    assert any(code in {__file__, "<string>"} for code, _ in seen)  # it does see what is called
    assert [code for code, _ in seen if code.startswith(PACKAGE)] == []


def _second_read(obj, name):
    reading = read(obj, name)
    reading()
    with python_calls() as calls:
        reading()
    return [call for call in calls if call.startswith(PACKAGE)]


@pytest.mark.parametrize("name", NAMES)
def test_written_and_new_values_are_read_without_python(Person, name):
    """A value that was assigned, or given to a new object, is read as freely as one that was loaded."""
    with db_session:
        ann = Person[1]
        if name not in {"id", "staff", "groups", "badge"}:
            setattr(ann, name, getattr(ann, name))
        new = Person(name="New", age=1, boss=ann)
        for obj in (ann, new) if name not in {"id", "badge"} else (ann,):  # what a new object cannot know yet
            assert _second_read(obj, name) == []
        flush()
        for obj in (ann, new):
            assert _second_read(obj, name) == []


def test_reads_are_free_for_everybody(Person):
    """What was read is readable in another thread, and after the scope, by the same plain access."""
    with db_session:
        ann = Person[1]
        values = {name: getattr(ann, name) for name in NAMES}

        def elsewhere_reads():
            with python_calls() as calls:
                for name in NAMES:
                    assert getattr(ann, name) is values[name]
            return [call for call in calls if call.startswith(PACKAGE)]

        assert elsewhere(elsewhere_reads) == []
    assert elsewhere_reads() == []


# --- what is stored ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "load",
    [
        lambda Person: Person[1],
        lambda Person: Person.get(id=1),
        lambda Person: Person.select().fetch()[0],
        lambda Person: Person.select().order_by(Person.name).first(),
        lambda Person: Person.select()[:1][0],
        lambda Person: next(iter(Person.select())),
        lambda Person: Person.get_for_update(id=1),
    ],
)
def test_loading_stores_the_row_and_nothing_else(Person, load):
    """A loaded object has its row, and no attribute in its ``__dict__`` until one is touched."""
    with db_session:
        ann = load(Person)
        assert ann.__dict__ == {}
        assert not hasattr(ann, "_changes_")
        columns = [column.name for column in Person._mapping_.columns]
        assert len(ann._row_) == len(columns) and ann._row_[columns.index("about")] is NOT_LOADED
        assert ann.age == 30
        assert ann.__dict__ == {"age": 30}
        assert repr(ann) == "Person[1]" and ann.get_pk() == 1 and hash(ann)
        assert set(ann.__dict__) <= {"age", "id"}


def test_what_a_query_filters_by_counts_as_read(Person):
    """A filter is a read of every object that it lets through, and of no other attribute."""
    with db_session:
        assert Person.get(name="Ann").__dict__ == {"name": "Ann"}
        (bob,) = Person.select(Person.age > 35)
        assert bob.__dict__ == {"age": 40}
        assert Person[1].__dict__ == {"name": "Ann"}


def test_objects_made_by_a_reference_or_a_collection(Person):
    """An object of which only the key is known has nothing else; a collection's items have what leads back."""
    with db_session:
        boss = Person[2].boss
        assert boss.__dict__ == {} and boss.id == 1 and boss.__dict__ == {"id": 1}
        assert [item.__dict__ for item in boss.staff] == [{"boss": boss}]
        (group,) = boss.groups
        assert group.__dict__ == {}


def test_a_saved_object_keeps_what_was_given(Person):
    """After the flush a new object has in its ``__dict__`` what the program gave; the database's part is in the row."""
    with db_session:
        new = Person(name="New", age=1)
        before = dict(new.__dict__)
        flush()
        assert new.__dict__ == before and "id" not in before and new.id == 3


def test_reading_before_a_value_is_there(Person):
    """A deleted object's attribute that was never loaded is a clear error, not a None."""
    with db_session:
        ann = Person[1]
        ann.delete()
        flush()
        assert ann.name == "Ann"
        with pytest.raises(NotLoadedError, match=r"Person\[1\]\.about.*deleted"):
            ann.about
