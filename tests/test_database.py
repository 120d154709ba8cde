"""`Database`: binding it, early or late; closing it; several of them; what its counters count."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
from contextlib import closing
from pathlib import Path
from urllib.parse import quote

import pytest

from dbsession import (
    BindingError,
    Database,
    Entity,
    MappingError,
    Optional,
    PoolTimeout,
    Required,
    db_session,
)
from tests.counting import counted


def with_users(db):
    """Declare an entity in *db*."""
    return type(db.Entity)("User", (db.Entity,), {"name": Required(str), "age": Optional(int)})


def use(db, User):
    """Save a user and read it again."""
    with db_session:
        User(name="Ann")
    with db_session:
        return User.get(name="Ann").id


# --- binding ------------------------------------------------------------------------------------------------


def test_bind_late(db_url):
    """Entities are declared first, and the database is named when the program starts."""
    db = Database()
    User = with_users(db)
    assert repr(db) == "<Database not bound>"
    for early in (db.generate_mapping, lambda: db.counters, lambda: db.backend):
        with pytest.raises(
            BindingError, match=r"the database is not bound yet: give Database\(\) a URL, or call db.bind"
        ):
            early()
    with pytest.raises(MappingError):
        db.create_tables()
    with db_session, pytest.raises(MappingError, match=r"User has no mapping yet: call db\.generate_mapping"):
        User(name="x")
    db.close()  # nothing to close
    db.bind(db_url)
    db.generate_mapping(create_tables=True)
    assert use(db, User) == 1
    db.close()


def test_raw_sql_of_a_database_that_is_not_bound():
    """db.select() of an unbound database says so, in a scope too."""
    with db_session, pytest.raises(BindingError, match="not bound yet"):
        Database().select("SELECT 1")


def test_bind_twice(db_url):
    """A database is bound once; a second time is an error that says to what, without the password."""
    db = Database(db_url)
    with pytest.raises(BindingError, match="this database is bound already, to "):
        db.bind(db_url)
    other = Database("postgresql://me:s3cret@localhost/app")
    with pytest.raises(BindingError) as caught:
        other.bind("sqlite://")
    assert "postgresql://me@localhost/app" in str(caught.value) and "s3cret" not in str(caught.value) + repr(other)
    db.close()


def test_a_failed_bind_may_be_tried_again(db_url):
    """A database that could not be bound is not bound."""
    db = Database()
    with pytest.raises(BindingError):
        db.bind("mysql://host/name")
    db.bind(db_url)
    db.close()


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((), {"provider": "sqlite", "filename": "app.db", "create_db": True}),
        (("sqlite",), {"filename": "app.db", "create_db": True}),
        (("sqlite", "app.db"), {"create_db": True}),
        (("SQLite", "app.db"), {"create_db": True, "timeout": 1.0}),
        (("sqlite:///app.db",), {}),
        (("sqlite:///app.db",), {"timeout": 1.0}),
    ],
)
@pytest.mark.parametrize("late", [True, False])
def test_sqlite_by_keywords(tmp_path, monkeypatch, args, options, late):
    """The keywords that Pony takes, and the same as a URL, in bind() and in Database()."""
    monkeypatch.chdir(tmp_path)
    db = Database() if late else Database(*args, **options)
    if late:
        db.bind(*args, **options)
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    use(db, User)
    db.close()
    with closing(sqlite3.connect(tmp_path / "app.db")) as connection:
        assert connection.execute("SELECT name FROM User").fetchall() == [("Ann",)]


def test_postgres_by_keywords(postgres_tcp):
    """The keywords of libpq, with ``database`` for dbname, and a libpq string."""
    server = postgres_tcp
    keywords = {"user": server.user, "password": server.password, "host": server.host, "port": server.port}
    text = (
        f"host={server.host} port={server.port} user={server.user} password={server.password} dbname={server.database}"
    )
    for number, db in enumerate(
        [
            Database(provider="postgres", database=server.database, **keywords),
            Database("postgres", database=server.database, **keywords),
            Database("postgresql", text),
            Database(provider="postgresql", dbname=server.database, **keywords),
            Database(text),
            Database(text, max_size=1),
        ]
    ):
        User = with_users(db)
        db.generate_mapping(create_tables=True)
        with db_session:
            User(name=f"U{number}")
            assert User.select().count() == number + 1
        db.close()


@pytest.mark.parametrize(
    ("args", "options"),
    [
        ((), {"filename": "app.db"}),
        (("sqlite://",), {"provider": "sqlite"}),
        (("sqlite://", "app.db"), {}),
        (("sqlite", "app.db", "more"), {}),
        ((None, "app.db"), {}),
        ((), {"host": "x"}),
    ],
)
def test_bindings_that_say_too_much_or_too_little(args, options):
    """What could be read in two ways, or in none, is refused with the ways that there are."""
    with pytest.raises(BindingError, match="say where the database is in one way"):
        Database(*args, **options)


def test_wrong_options():
    """An option that does not exist is named, with those that do."""
    with pytest.raises(BindingError, match=r"there is no option 'timeot'; there are: timeout, create_db"):
        Database("sqlite://", timeot=1)
    with pytest.raises(BindingError, match=r"'max_sise'"):
        Database("postgresql://localhost/x?max_sise=3")


# --- files ----------------------------------------------------------------------------------------------------


def test_a_relative_path_is_meant_when_it_is_bound(tmp_path, monkeypatch):
    """Three slashes are a path from the current folder; going elsewhere later changes nothing."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "elsewhere").mkdir()
    db = Database("sqlite:///app.db")
    monkeypatch.chdir(tmp_path / "elsewhere")
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    use(db, User)
    db.close()
    assert sorted(path.name for path in tmp_path.rglob("*.db")) == ["app.db"]
    assert (tmp_path / "app.db").exists()


def test_create_db(tmp_path):
    """provider= makes no file unless create_db=True says so, as in Pony."""
    path = tmp_path / "app.db"
    with pytest.raises(BindingError, match=r"there is no database file .*app\.db; create_db=True makes one"):
        Database(provider="sqlite", filename=str(path))
    assert not path.exists()


def test_data_in_a_file_stay(sqlite_file_url):
    """What was committed is there when the file is opened again."""
    for number in (1, 2, 3):
        db = Database(sqlite_file_url)
        User = with_users(db)
        db.generate_mapping(create_tables=True)
        with db_session:
            User(name=f"U{number}")
            assert User.select().count() == number
        db.close()


@pytest.mark.parametrize("name", ["with space.db", "ünïcödé.db", "50%.db", "a?b#c.db", "quote's.db"])
def test_strange_file_names(tmp_path, name):
    """A file may have any name; in a URL it is percent-encoded."""
    path = tmp_path / name
    for args in ((f"sqlite:///{quote(str(path))}",), ("sqlite", str(path))):
        db = Database(*args)
        User = with_users(db)
        db.generate_mapping(create_tables=True)
        with db_session:
            User(name="Ann")
        db.close()
    with db_session:
        assert User.select().count() == 2
    db.close()
    assert [entry.name for entry in tmp_path.glob("*") if not entry.name.endswith(("-wal", "-shm"))] == [name]


# --- closing ----------------------------------------------------------------------------------------------------


def test_close_and_use_again(db_url, tmp_path):
    """A closed database connects again when it is used; what was in memory is gone."""
    url = f"sqlite:///{tmp_path}/app.db" if db_url == "sqlite://" else db_url
    db = Database(url)
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    use(db, User)
    for _ in range(2):
        db.close()
        with db_session:
            assert User.get(name="Ann").id == 1
    before = db.counters.connections
    db.close()
    db.close()
    assert db.counters.connections == before >= 3
    assert repr(db) == f"<Database {db.backend.url}>"


def test_memory_is_gone_when_it_is_closed():
    """Two databases in memory have nothing to do with each other, and close() empties one."""
    one, two = Database("sqlite://"), Database("sqlite://")
    users = [with_users(db) for db in (one, two)]
    for db in (one, two):
        db.generate_mapping(create_tables=True)
    use(one, users[0])
    with db_session:
        assert (users[0].select().count(), users[1].select().count()) == (1, 0)
    one.close()
    one.create_tables()
    with db_session:
        assert users[0].select().count() == 0
    one.close(), two.close()


def test_close_within_a_scope(db):
    """Closing while a scope is at work does not lose its work in silence: it ends, or it is an error."""
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    saved = True
    try:
        with db_session as session:
            User(name="Ann")
            session.flush()
            db.close()
    except Exception:
        saved = False
    if db.backend.dialect.name == "sqlite":
        return  # its memory is gone either way
    with db_session:
        assert User.exists(name="Ann") is saved


# --- several ------------------------------------------------------------------------------------------------------


def test_several_databases_on_one_file(tmp_path, db_url):
    """Two Database objects on one URL see each other's commits, and share nothing else."""
    url = f"sqlite:///{tmp_path}/app.db" if db_url == "sqlite://" else db_url
    one, two = Database(url), Database(url)
    First, Second = with_users(one), with_users(two)
    one.generate_mapping(create_tables=True)
    two.generate_mapping(create_tables=True)
    with db_session:
        First(name="Ann")
    with db_session:
        assert Second.get(name="Ann").id == 1
        assert First[1] is not Second[1]
        with pytest.raises(TypeError, match="User"):
            First.select(Second.name == "Ann").fetch()
    assert one.counters.statements != 0 != two.counters.statements and one.counters is not two.counters
    one.close()
    with db_session:
        assert Second[1].name == "Ann"
    two.close()


def test_one_entity_class_belongs_to_one_database(db_url):
    """Entities are registered where they are declared; two databases may have entities of one name."""
    one, two = Database(), Database()

    class User(Entity, db=one):
        name = Required(str)

    First = User

    class User(Entity, db=two):
        title = Required(str)

    assert (one.entities, two.entities) == ({"User": First}, {"User": User})
    one.bind("sqlite://")
    two.bind(db_url)
    one.generate_mapping(create_tables=True)
    two.generate_mapping(create_tables=True)
    with db_session:
        First(name="a"), User(title="b")
    with db_session:
        assert (First[1].to_dict(), User[1].to_dict()) == ({"id": 1, "name": "a"}, {"id": 1, "title": "b"})
    one.close(), two.close()


def test_a_database_without_entities(db):
    """A database may be used for raw SQL alone."""
    db.generate_mapping(create_tables=True)
    assert (db.entities, db.schema_sql()) == ({}, "")
    db.check_tables()
    db.drop_all_tables()
    with db_session:
        assert db.get("SELECT 1") == 1


# --- counters ------------------------------------------------------------------------------------------------------


def test_counters(db):
    """Statements, round trips and transactions are counted; an empty scope, and one that hits the map, adds nothing."""
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    with counted(db) as sent:
        with db_session:
            pass
    assert (sent.statements, sent.round_trips, sent.transactions) == (0, 0, 0)
    with counted(db) as sent:
        with db_session:
            User(name="Ann"), User(name="Bob", age=3)
    assert (sent.round_trips, sent.transactions) == (1, 1)
    with counted(db) as sent:
        with db_session:
            ann = User.get(name="Ann")
            assert User[ann.id] is ann
    assert (sent.statements, sent.round_trips, sent.transactions) == (1, 1, 0)
    with counted(db) as sent:
        with db_session:
            User[1].age = 5
    assert sent.round_trips == 2


def test_nothing_is_connected_before_it_is_needed():
    """1. Binding, declaring, mapping without a check and building queries open no connection."""
    for url in ("sqlite://", "postgresql://nobody@nowhere.invalid/nothing"):
        db = Database(url)
        User = with_users(db)
        db.generate_mapping(check_tables=False)
        assert "CREATE TABLE" in db.schema_sql()
        with db_session:
            User.select(User.age > 3).order_by(User.name)
            User(name="x").delete()
        assert db.counters.connections == 0
        db.close()


# --- the pool ---------------------------------------------------------------------------------------------------------


def at_once(db, count, release):
    """Hold *count* connections at the same time, each in a thread of its own; return the errors."""
    errors = []
    holding = threading.Barrier(count + 1, timeout=30)

    def work():
        try:
            with db_session:
                db.get("SELECT 1")
                db.execute("SELECT 1")  # from here on the connection belongs to the scope
                holding.wait()
                release.wait(30)
        except Exception as error:
            errors.append(error)

    threads = [threading.Thread(target=work) for _ in range(count)]
    for thread in threads:
        thread.start()
    holding.wait()
    return threads, errors


def test_pool_size(postgres_url):
    """109. max_size scopes work at once; one more waits for `timeout` seconds and is a PoolTimeout that says so."""
    db = Database(postgres_url, max_size=2, timeout=0.2)
    release = threading.Event()
    threads, errors = at_once(db, 2, release)
    with pytest.raises(PoolTimeout, match="max_size"):
        with db_session:
            db.get("SELECT 1")
    release.set()
    for thread in threads:
        thread.join()
    assert errors == []
    with db_session:
        assert db.get("SELECT 1") == 1
    assert db.counters.connections == 2
    db.close()


def test_connections_are_used_again(db):
    """110. Scopes one after the other use one connection."""
    User = with_users(db)
    db.generate_mapping(create_tables=True)
    before = db.counters.connections
    for number in range(20):
        with db_session:
            User(name=f"U{number}")
    assert db.counters.connections == before


PROGRAM = """
from dbsession import Database, Required, db_session
db = Database({url!r})
class User(db.Entity):
    name = Required(str)
db.generate_mapping(create_tables=True)
with db_session:
    User(name="x")
with db_session:
    print(User[1].name)
"""


def test_a_program_ends_without_closing(db_url, tmp_path):
    """A program that never calls close() ends at once, with nothing on stderr."""
    url = f"sqlite:///{tmp_path}/app.db" if db_url == "sqlite://" else db_url
    root = str(Path(__file__).resolve().parent.parent)
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", PROGRAM.format(url=url)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
        env={**os.environ, "PYTHONPATH": root},
    )
    assert (done.stdout, done.stderr, done.returncode) == ("x\n", "", 0)
