"""Databases for the tests.

Which fixture to ask for:

- `db`: an open `Database`, closed at the end; the test runs once on every database;
- `db_url`: the URL of an empty database, again on every one (SQLite in memory, PostgreSQL 16 and 18);
- `sqlite_file_url`: a new SQLite file; `postgres_url`: an empty database on each PostgreSQL;
- `postgres_tcp`: the same database as `postgres_url`, as a `Server` with host, port, user and password.

A PostgreSQL database is one for each worker and version, emptied before each test: whoever asks for
two of these fixtures in one test gets the same database twice. Connections that an earlier test left
open are ended then.

`DBSESSION_TEST_DATABASES=sqlite` (or ``sqlite,postgresql-18``; ``postgresql`` means both) leaves the
other databases out. Without it everything runs on SQLite and the newest PostgreSQL, and on the oldest one
what depends on the server most (`ON_OLDEST`); the rest of that is for `.ci/run`, which has the time.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psycopg
import pytest

from tests.servers import VERSIONS, Keeper, Server, request_server

if TYPE_CHECKING:
    from dbsession import Database

POSTGRES = {f"postgresql-{version}": version for version in VERSIONS}
DATABASES = ["sqlite", *POSTGRES]


def _selected() -> list[str]:
    """Return the databases that this run is for, in the order of `DATABASES`."""
    wanted = os.environ.get("DBSESSION_TEST_DATABASES", "").replace(",", " ").split()
    unknown = set(wanted) - {*DATABASES, "postgresql"}
    if unknown:
        msg = f"DBSESSION_TEST_DATABASES: {', '.join(sorted(unknown))} is none of {', '.join(DATABASES)}, postgresql"
        raise pytest.UsageError(msg)
    return [name for name in DATABASES if not wanted or name in wanted or name.partition("-")[0] in wanted]


SELECTED = _selected()
OLDEST, *_ = POSTGRES
ON_OLDEST = ("tests/backends/", "tests/isolation/", "tests/test_")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the oldest PostgreSQL to the tests of `ON_OLDEST`, unless databases were asked for."""
    if os.environ.get("DBSESSION_TEST_DATABASES"):
        return
    left_out = [item for item in items if _is_on_oldest(item) and not item.nodeid.startswith(ON_OLDEST)]
    if left_out:
        config.hook.pytest_deselected(items=left_out)
        gone = set(left_out)
        items[:] = [item for item in items if item not in gone]


def _is_on_oldest(item: pytest.Item) -> bool:
    callspec: Any = getattr(item, "callspec", None)
    return callspec is not None and OLDEST in callspec.params.values()


# --- one keeper of servers for the whole run ------------------------------------------------------------

RUN_DIR = pytest.StashKey[str]()
KEEPER = pytest.StashKey[Keeper]()


def pytest_configure(config: pytest.Config) -> None:
    """Start the keeper of this run; workers of xdist are told where it is."""
    for name in [name for name in os.environ if name.startswith("PG")]:
        del os.environ[name]  # libpq would mix them into every URL
    workerinput: dict[str, Any] | None = getattr(config, "workerinput", None)
    if workerinput is None:
        config.stash[KEEPER] = keeper = Keeper()
        config.stash[RUN_DIR] = str(keeper.run_dir)
    else:
        config.stash[RUN_DIR] = workerinput["dbsession_run_dir"]


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Tell a worker of xdist where the keeper is."""
    node.workerinput["dbsession_run_dir"] = node.config.stash[RUN_DIR]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Stop the servers."""
    if KEEPER in config.stash:
        config.stash[KEEPER].close()


# --- databases --------------------------------------------------------------------------------------------

# Whatever an earlier test left: open connections, all schemas and what is in them, settings.
EMPTY = """
DO $$
DECLARE name text;
BEGIN
    PERFORM pg_terminate_backend(pid, 5000) FROM pg_stat_activity
        WHERE datname = current_database() AND pid <> pg_backend_pid();
    FOR name IN SELECT nspname FROM pg_namespace
        WHERE nspname NOT LIKE 'pg\\_%' AND nspname <> 'information_schema'
    LOOP
        EXECUTE format('DROP SCHEMA %I CASCADE', name);
    END LOOP;
    EXECUTE format('ALTER DATABASE %I RESET ALL', current_database());
    CREATE SCHEMA public;
END $$
"""


class PostgresDatabases:
    """An empty database on the server of each version, for this worker."""

    def __init__(self, run_dir: str) -> None:
        self._run_dir = run_dir
        self._name = f"test_{os.environ.get('PYTEST_XDIST_WORKER', 'main')}"
        self._servers: dict[int, Server] = {}
        self._connections: dict[int, psycopg.Connection] = {}

    def empty(self, version: int) -> Server:
        """Return the server of *version* with the name of a database that has nothing in it."""
        if version not in self._servers:
            server = request_server(self._run_dir, version)
            with psycopg.connect(server.url, autocommit=True) as connection:
                connection.execute(f'CREATE DATABASE "{self._name}"')
            self._servers[version] = server = replace(server, database=self._name)
            self._connections[version] = psycopg.connect(server.url, autocommit=True)
        self._connections[version].execute(EMPTY)
        return self._servers[version]

    def close(self) -> None:
        """Close the connections that empty the databases."""
        for connection in self._connections.values():
            connection.close()


@pytest.fixture(scope="session")
def postgres_databases(request: pytest.FixtureRequest) -> Iterator[PostgresDatabases]:
    """The PostgreSQL databases of this worker; servers start when a test first wants one."""
    databases = PostgresDatabases(request.config.stash[RUN_DIR])
    yield databases
    databases.close()


@pytest.fixture(params=[name for name in SELECTED if name in POSTGRES])
def postgres_tcp(request: pytest.FixtureRequest, postgres_databases: PostgresDatabases) -> Server:
    """An empty database on each PostgreSQL, with the host, port, user and password for TCP."""
    return postgres_databases.empty(POSTGRES[request.param])


@pytest.fixture
def postgres_url(postgres_tcp: Server) -> str:
    """The URL of an empty database on each PostgreSQL, through its unix socket."""
    return postgres_tcp.url


@pytest.fixture
def sqlite_file_url(tmp_path: Path) -> str:
    """The URL of a SQLite file that does not exist yet."""
    return f"sqlite:///{tmp_path / 'test.db'}"


@pytest.fixture(params=SELECTED)
def db_url(request: pytest.FixtureRequest) -> str:
    """The URL of an empty database, of every kind in turn."""
    if request.param in POSTGRES:
        databases: PostgresDatabases = request.getfixturevalue("postgres_databases")
        return databases.empty(POSTGRES[request.param]).url
    if request.param == "sqlite-file":  # @pytest.mark.parametrize("db_url", ["sqlite-file", ...], indirect=True)
        url: str = request.getfixturevalue("sqlite_file_url")
        return url
    return "sqlite://"


@pytest.fixture
def db(db_url: str) -> Iterator[Database]:
    """An open `Database` of every kind in turn, empty and without entities."""
    from dbsession import Database  # here, since other tests do not need the package to be whole

    database = Database(db_url)
    yield database
    database.close()
