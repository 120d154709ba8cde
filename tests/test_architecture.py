"""The house as data, and the rules that keep it.

Each rule is tested twice: on `dbsession` itself, where it finds nothing, and on a few bad lines, where
it must.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest

from tests.architecture import (
    Package,
    Room,
    check_circles,
    check_exports,
    check_imports,
    check_local_imports,
    check_rooms,
    check_sizes,
)
from tests.architecture_flows import (
    check_bare_yields,
    check_flow_annotations,
    check_flow_calls,
    check_flow_parameters,
    check_surroundings,
    check_way_out,
)

FILE_LINES = 500
FUNCTION_LINES = 60

CORE = ("errors", "backends")
HOUSE = (*CORE, "model", "query", "session", "scope")
DRIVERS = ("drivers", "sqlite", "postgres", "embedded")
ROOMS = (
    Room("errors", "the error tree", ("errors",), ()),
    Room(
        "backends",
        "what flows and databases say to each other",
        ("backends", "backends.statements", "backends.flow", "backends.base"),
        ("errors",),
    ),
    Room("model", "what the data is", ("model", "model.*"), CORE),
    Room("query", "how to read it", ("query", "query.*"), (*CORE, "model")),
    Room("session", "how to change it", ("session", "session.*"), (*CORE, "model", "query")),
    Room("scope", "how code enters", ("scope", "scope.*"), (*CORE, "model", "query", "session")),
    # Drivers know values and errors, never entities. Only `urls` and `database` know that there are drivers.
    Room(
        "drivers",
        "what drivers share",
        ("backends.fork", "backends.json_text", "backends.placeholders"),
        CORE,
    ),
    Room("sqlite", "a driver", ("backends.sqlite*",), (*CORE, "drivers")),
    Room("postgres", "a driver", ("backends.postgres*",), (*CORE, "drivers")),
    Room("embedded", "a server of one's own", ("backends.embedded*",), (*CORE, "drivers", "postgres")),
    Room("urls", "which driver a URL names", ("backends.urls",), (*CORE, *DRIVERS)),
    Room("database", "a URL becomes a database", ("database",), (*HOUSE, *DRIVERS, "urls")),
    Room("package", "the public names", ("",), (*HOUSE, "database")),
    Room(
        "integrations",
        "other people's frameworks",
        ("integrations", "integrations.*"),
        (*HOUSE, "database", "package"),
    ),
    Room(
        "command line",
        "the command dbsession",
        ("cli", "__main__"),
        (*HOUSE, "database", "package", "integrations"),
    ),
)

# Where a flow is returned, assigned or handed on, and run by somebody else: "module:Class.function" -> why.
# Calls of functions that have a parameter of type Flow (run, arun, ...) need no entry.
PASSED_ON: dict[str, str] = {}

# The vocabulary of flows, for the bad examples.
FLOW = {
    "backends.flow": """
        Flow: TypeAlias = Generator[Batch, list[Result], T]
        def execute(*statements: Statement) -> Flow[list[Result]]:
            return (yield statements)
        def run(flow: Flow[T], executor: Executor) -> T:
            next(flow)
    """
}


@pytest.fixture(scope="module")
def package() -> Package:
    """The sources of `dbsession`."""
    package = Package.read(Path(__file__).resolve().parent.parent / "dbsession")
    assert "dbsession.backends.flow" in package.modules
    return package


def with_flows(name: str, source: str) -> Package:
    """Return a package with one module that imports the vocabulary of flows."""
    header = "from dbsession.backends.flow import Flow, execute, run\n"
    body = Package.of({name: source}).modules[f"dbsession.{name}"].source
    return Package.of({**FLOW, name: header + body})


# --- imports --------------------------------------------------------------------------------------------


def test_every_module_stands_in_a_room(package):
    """A new module belongs to one of the rooms, or the table above gets a new row."""
    assert check_rooms(package, ROOMS) == []


def test_a_module_outside_the_rooms_is_found():
    """Self-test."""
    assert check_rooms(Package.of({"helpers": "", "model.entity": ""}), ROOMS) == [
        "dbsession.helpers stands in no room"
    ]


def test_the_table_of_rooms_is_sound():
    """Rooms import only rooms that stand before them, so that the table itself allows no circle."""
    names = [room.name for room in ROOMS]
    assert len(set(names)) == len(names)
    for position, room in enumerate(ROOMS):
        assert set(room.imports) <= set(names[:position]), room


def test_imports_go_one_way(package):
    """Each room imports only what stands before it, under TYPE_CHECKING too; `database` alone knows drivers."""
    assert check_imports(package, ROOMS) == []


@pytest.mark.parametrize(
    ("module", "source"),
    [
        ("model.entity", "from dbsession.session.session import Session"),
        ("model.entity", "if TYPE_CHECKING:\n    from dbsession.session.session import Session"),
        ("model.entity", "import dbsession.scope.stack as stack"),
        ("model.entity", "from dbsession import Database"),
        ("model.entity", "from ..session import session"),
        ("session.session", "from dbsession.backends import sqlite"),
        ("backends.flow", "from dbsession.backends.sqlite import SqliteBackend"),
        ("backends.sqlite", "from dbsession.model.mapping import Mapping"),
        ("backends.sqlite", "from .postgres import connect"),
        ("scope.stack", "def look():\n    from dbsession.database import Database"),
        ("errors", "from dbsession.backends.statements import Statement"),
    ],
)
def test_an_import_against_the_direction_is_found(module, source):
    """Self-test: upward, sideways, relative, for types only, and inside a function."""
    known = {"backends.sqlite": "", "backends.postgres": "", "session.session": "", "scope.stack": "", "": ""}
    assert len(check_imports(Package.of({**known, module: source}), ROOMS)) == 1


def test_an_import_in_the_direction_is_fine():
    """Self-test: downward, and within a room."""
    source = "from dbsession.model.entity import Entity\nfrom dbsession.session import identity_map"
    modules = {"model.entity": "", "session.identity_map": "", "session.session": source}
    assert check_imports(Package.of(modules), ROOMS) == []


def test_no_module_needs_itself(package):
    """Within a room, too, imports run in no circle (those for types only may)."""
    assert check_circles(package) == []


def test_a_circle_is_found():
    """Self-test."""
    bad = {
        "model.a": "from dbsession.model.b import B",
        "model.b": "from dbsession.model import c",
        "model.c": "import dbsession.model.a",
    }
    assert check_circles(Package.of(bad)) == [
        "dbsession.model.a -> dbsession.model.b -> dbsession.model.c -> dbsession.model.a"
    ]
    fine = {"model.a": "from dbsession.model.b import B", "model.b": "if TYPE_CHECKING:\n    import dbsession.model.a"}
    assert check_circles(Package.of(fine)) == []


def test_no_import_hides_in_a_function(package):
    """A circle is not dodged by importing later."""
    assert check_local_imports(package) == []


@pytest.mark.parametrize(
    "source",
    [
        "def f():\n    from dbsession.model.entity import Entity",
        "class A:\n    async def f(self):\n        if self:\n            import dbsession.errors",
        "entity = importlib.import_module('dbsession.model.entity')",
        "def f():\n    return __import__('dbsession')",
    ],
)
def test_a_hidden_import_is_found(source):
    """Self-test."""
    assert len(check_local_imports(Package.of({"session.session": source}))) == 1


# --- sizes and exports ------------------------------------------------------------------------------------


def test_files_and_functions_stay_small(package):
    """What grows beyond these sizes lacks a noun."""
    assert check_sizes(package, FILE_LINES, FUNCTION_LINES) == []


def test_a_long_file_and_a_long_function_are_found():
    """Self-test, on both sides of the limits."""
    longest = "def f():\n" + "    pass\n" * (FUNCTION_LINES - 1)
    assert check_sizes(Package.of({"a": longest, "b": "\n" * FILE_LINES}), FILE_LINES, FUNCTION_LINES) == []
    found = check_sizes(
        Package.of({"a": longest + "    pass\n", "b": "\n" * (FILE_LINES + 1)}), FILE_LINES, FUNCTION_LINES
    )
    assert found == ["dbsession.b: 501 lines, of 500", "dbsession.a:f (line 1): 61 lines, of 60"]


def test_public_names_are_exported(package):
    """In every module that has an ``__all__``, it is the list of the public names."""
    assert check_exports(package) == []


@pytest.mark.parametrize(
    "source",
    [
        "__all__ = ['f']\ndef f(): ...\ndef g(): ...",
        "__all__ = ['f', 'g']\ndef f(): ...",
        "__all__ = ['f', 'f']\ndef f(): ...",
        "__all__ = ['T']\nT = TypeVar('T')",
        "__all__ = []\nif sys.version_info > (3, 12):\n    NAME: Final = 1",
    ],
)
def test_a_wrong_list_of_names_is_found(source):
    """Self-test."""
    assert len(check_exports(Package.of({"model.a": source}))) == 1


def test_a_right_list_of_names_is_fine():
    """Self-test: private names and type parameters are not public, imports may be, and are in ``__init__``."""
    source = "from os import path, sep\n__all__ = ['f', 'sep']\nT = TypeVar('T')\n_x = 1\ndef f(): ..."
    package_source = "from __future__ import annotations\nfrom dbsession.model import f as g\n__all__ = ['g']"
    assert check_exports(Package.of({"model.a": source, "": package_source})) == []
    assert len(check_exports(Package.of({"": package_source.replace("'g'", "")}))) == 1


def test_the_package_has_the_public_names_and_no_others():
    """What can be imported from `dbsession` is what its ``__all__`` says; modules below it do not count."""
    dbsession = import_module("dbsession")
    found = {name for name, value in vars(dbsession).items() if not isinstance(value, (ModuleType, type(annotations)))}
    assert {name for name in found if not name.startswith("_")} == set(dbsession.__all__)
    assert set(import_module("dbsession.errors").__all__) <= set(dbsession.__all__)


# --- flows --------------------------------------------------------------------------------------------------


def test_every_flow_is_run(package):
    """A flow that is called without ``yield from`` does nothing, and in a flush that is a lost write."""
    assert check_flow_calls(package, PASSED_ON) == []


@pytest.mark.parametrize(
    "line",
    [
        "execute(statement)",
        "self.save(row)",
        "results = execute(statement)",
        "results = self.save(row)",
        "return self.save(row)",
        "yield self.save(row)",
        "rows = [self.save(row) for row in rows]",
        "later(self.save(row))",
        "later(self.save)",
        "flow.execute(statement)",
        "loader(row)",
        "self.maker(row)",
        "self.alias(row)",
        "if ready: self.other.save(row)",
        "await self.save(row)",
    ],
)
def test_a_dropped_flow_is_found(line):
    """Self-test: by a function's name, a method's, and through an attribute or parameter that makes flows."""
    source = f"""
        from dbsession.backends import flow
        Loader: TypeAlias = Callable[[Row], Flow[None]]
        class Unit:
            maker: Callable[[Row], Flow[None]]
            alias: Loader
            def save(self, row: Row) -> Flow[None]: ...
            async def flush(self, loader: Loader):
                {line}
    """
    found = check_flow_calls(with_flows("session.unit", source), {})
    assert len(found) == 1
    assert "dbsession.session.unit:Unit.flush" in found[0]


@pytest.mark.parametrize(
    "line",
    [
        "yield from self.save(row)",
        "result = yield from execute(statement)",
        "return (yield from (self.save(row) if row else self.save(None)))",
        "return run(self.save(row), connection)",
        "run(executor=connection, flow=self.save(row))",
        "yield from self.guarded(self.save(row))",
        "cursor.execute(statement)",
        "os.save(row)",
        "save = 1; print(save)",
    ],
)
def test_a_flow_that_is_run_is_fine(line):
    """Self-test: ``yield from``, `run`, functions that take flows, and what only looks like a flow."""
    source = f"""
        import os
        class Unit:
            def save(self, row: Row) -> Flow[None]: ...
            def guarded(self, flow: Flow[T]) -> Flow[T]: return (yield from flow)
            def flush(self):
                {line}
    """
    assert check_flow_calls(with_flows("session.unit", source), {}) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("self.flush()", 0),
        ("self.unit.flush()", 1),
        ("self.made.flush()", 1),
        ("self.other.unit.flush()", 1),
        ("super().flush()", 1),
        ("unit.flush()", 1),
        ("unit = Unit(); unit.flush()", 1),
        ("for each in self.units.values(): each.flush()", 1),
        ("for key, each in self.units.items(): each.flush()", 1),
        ("self.units[key].flush()", 1),
        ("self.units.get(key).flush()", 1),
        ("found = yield from find(); found.flush()", 1),
        ("with open_unit() as made: made.flush()", 1),
        ("made = open_unit(); made.flush()", 1),
        ("untold.flush()", 1),
        ("anything.flush()", 1),
        ("session.flush()", 0),
        ("stream.flush()", 0),
        ("sys.stdout.flush()", 0),
        ("{}.flush()", 0),
        ("cast('Session', untold).flush()", 0),
        ("for each in sessions: each.flush()", 0),
        ("[each.flush() for each in sessions]", 0),
        ("self.proxied.flush()", 0),
        ("connection = sqlite3.connect(''); connection.flush()", 0),
    ],
)
def test_a_method_is_told_by_the_type_of_its_object(line, count):
    """Self-test: where no annotation tells the type, a name that may be a flow's is taken for one."""
    source = f"""
        import io, sqlite3, sys
        from typing import Any, cast
        class Unit:
            def __enter__(self) -> Self: return self
            def flush(self) -> Flow[None]: ...
        def open_unit() -> Unit: ...
        def find() -> Flow[Unit]: ...
        class Session(Unit):
            unit: Unit | None
            units: dict[str, Unit]
            def __init__(self, other: "Session") -> None:
                self.made = Unit()
                self.other = other
            @property
            def proxied(self) -> io.TextIO: ...
            def flush(self) -> None: ...
            def work(
                self, unit: Unit, session: Session, sessions: list[Session], anything: Any, stream: str
            ) -> Flow[None]:
                {line}
    """
    assert len(check_flow_calls(with_flows("session.unit", source), {})) == count


def test_a_place_that_passes_a_flow_on_is_listed():
    """Self-test: listed places may hand on, but not drop; an entry that is not needed any more is found."""
    source = """
        def save() -> Flow[None]: ...
        def choose(): return save
        def drop(): save()
    """
    place = "dbsession.session.unit"
    package = with_flows("session.unit", source)
    assert len(check_flow_calls(package, {f"{place}:choose": "..."})) == 1
    assert len(check_flow_calls(package, {f"{place}:choose": "...", f"{place}:drop": "..."})) == 2
    assert len(check_flow_calls(package, {})) == 2


def test_a_flow_that_is_taken_is_run(package):
    """A parameter of type Flow is run with ``yield from``, or handed to a function that takes flows."""
    assert check_flow_parameters(package, PASSED_ON) == []


def test_a_flow_that_is_taken_and_lost_is_found():
    """Self-test."""
    source = """
        def lose(flow: Flow[T]) -> Flow[T]:
            print(flow)
        def keep(flow: Flow[T], connection): return run(flow, connection)
        class Taker(Protocol):
            def take(self, flow: Flow[T]) -> T: ...
    """
    found = check_flow_parameters(with_flows("session.unit", source), {})
    assert found == ["dbsession.session.unit:lose never runs flow"]


def test_whoever_runs_a_flow_is_one(package):
    """A generator that runs a flow is annotated Flow, so that the rules see it."""
    assert check_flow_annotations(package) == []


def test_a_flow_without_the_annotation_is_found():
    """Self-test."""
    source = """
        def save():
            yield from execute(statement)
        def guard(flow: Flow[T]) -> Iterator[T]:
            yield from flow
        def numbers():
            yield from range(3)
    """
    assert len(check_flow_annotations(with_flows("session.unit", source))) == 2


def test_only_execute_yields_a_batch(package):
    """Everything else says ``yield from``: one yield is one round trip."""
    assert check_bare_yields(package) == []


def test_a_bare_yield_is_found():
    """Self-test: in a flow, under whatever name of its type; not in other generators."""
    source = """
        def one() -> Flow[None]: yield (statement,)
        def two() -> "Flow[None]": results = yield (statement,)
        def three() -> flow.Flow[None] | None: yield (statement,)
        def four() -> Generator[Batch, list[Result], None]: yield (statement,)
        def rows() -> Iterator[Row]: yield row
    """
    assert len(check_bare_yields(with_flows("session.unit", source))) == 4


def test_no_flow_talks_on_its_way_out(package):
    """A flow that is thrown away gets GeneratorExit, and must not talk to the database then."""
    assert check_way_out(package) == []


@pytest.mark.parametrize(
    ("clause", "count"),
    [
        ("finally", 1),
        ("except", 1),
        ("except BaseException as error", 1),
        ("except (ValueError, BaseException)", 1),
        ("except GeneratorExit", 1),
        ("except Exception", 0),
        ("except DatabaseError as error", 0),
    ],
)
def test_a_yield_on_the_way_out_is_found(clause, count):
    """Self-test."""
    source = f"""
        def save() -> Flow[None]:
            try:
                pass
            {clause}:
                if ready:
                    yield from execute(rollback)
    """
    assert len(check_way_out(with_flows("session.unit", source))) == count


def test_flows_know_nothing_of_time_and_threads(package):
    """A flow takes no lock, reads no clock, never sleeps and never looks at a ContextVar."""
    assert check_surroundings(package) == []


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("time.monotonic()", 1),
        ("perf_counter()", 1),
        ("datetime.now()", 1),
        ("self.clock.sleep(1)", 1),
        ("current.get()", 0),
        ("ContextVar('x').get()", 1),
        ("threading.Lock()", 1),
        ("with self._lock: pass", 1),
        ("value = datetime(2020, 1, 1).time()", 0),
    ],
)
def test_a_flow_that_looks_around_is_found(line, count):
    """Self-test."""
    source = f"""
        import time, threading
        from time import perf_counter
        from datetime import datetime
        from contextvars import ContextVar
        def save() -> Flow[None]:
            {line}
    """
    assert len(check_surroundings(with_flows("session.unit", source))) == count
