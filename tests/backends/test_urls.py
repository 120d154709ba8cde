"""URLs, libpq strings and keywords: what they lead to, and what is said of wrong ones."""

from pathlib import Path

import pytest

from dbsession.backends.postgres import PostgresBackend
from dbsession.backends.sqlite import SqliteBackend
from dbsession.backends.statements import Statement
from dbsession.backends.urls import make_backend, make_backend_from_provider
from dbsession.errors import BindingError


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def one(backend):
    """Use *backend* once, and close it."""
    connection = backend.acquire()
    rows = connection.execute((Statement("SELECT 1"),))[0].rows
    backend.release(connection)
    backend.close()
    return rows


def refused(*args, **options):
    with pytest.raises(BindingError) as caught:
        make_backend(*args, **options)
    return str(caught.value)


# --- SQLite ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("url", ["sqlite://", "sqlite:///:memory:", "SQLite://"])
def test_sqlite_in_memory(folder, url):
    """No path means a database in memory."""
    assert one(make_backend(url)) == [(1,)]
    assert list(folder.iterdir()) == []


def test_sqlite_files(folder):
    """Three slashes are a relative path, four an absolute one; percent-encoding is undone."""
    for url, path in (
        ("sqlite:///a.db", folder / "a.db"),
        (f"sqlite:///{folder}/b.db", folder / "b.db"),
        ("sqlite:///c%20d.db?timeout=2.5", folder / "c d.db"),
        ("sqlite:///./e.db", folder / "e.db"),
    ):
        assert one(make_backend(url)) == [(1,)]
        assert path.exists()


def test_sqlite_url_says_where_it_is(folder):
    """The backend's own URL is absolute."""
    assert make_backend("sqlite:///a.db").url == f"sqlite:///{folder}/a.db"


def test_sqlite_wrong_paths(folder):
    """A missing folder and a missing file are told at bind; nothing is made."""
    assert "does not exist" in refused("sqlite:///no/a.db")
    assert "create_db=True" in refused("sqlite:///a.db?create_db=false")
    assert "create_db=True" in refused("sqlite:///a.db", create_db=False)
    assert "sqlite:///file" in refused("sqlite://a.db")
    assert list(folder.iterdir()) == []


def test_sqlite_options():
    """Unknown options and bad values are told, with what there is."""
    assert refused("sqlite://?tiemout=3") == "there is no option 'tiemout'; there are: timeout, create_db"
    assert refused("sqlite://?timeout=soon") == "timeout=soon is not a value of that option"
    assert refused("sqlite:///a.db?create_db=perhaps") == "create_db=perhaps is not a value of that option"
    assert "max_size" in refused("sqlite://", max_size=4)


# --- PostgreSQL ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, shown",
    [
        ("postgresql://me:secret@db.example/shop", "postgresql://me@db.example/shop"),
        ("postgres://me:secret@db.example:5433/shop?sslmode=require", "postgresql://me@db.example:5433/shop"),
        ("postgresql://me@a:1,b:2/shop?target_session_attrs=any", "postgresql://me@a:1,b:2/shop"),
        ("postgresql://me:se%40cret@a/shop?max_size=3&min_size=1&timeout=0.5&prepare=off", "postgresql://me@a/shop"),
        ("postgresql:///shop?host=/var/run/postgresql&user=me", "postgresql://me@/shop?host=/var/run/postgresql"),
        ("postgresql://me@/shop?host=/run&port=6", "postgresql://me@/shop?host=/run&port=6"),
        ("host=a port=5 dbname=shop user=me password=secret", "postgresql://me@a:5/shop"),
        (" dbname = shop", "postgresql:///shop"),
    ],
)
def test_postgres_urls(url, shown):
    """URLs and libpq strings are read by libpq; the backend shows them without the password."""
    backend = make_backend(url)
    assert isinstance(backend, PostgresBackend)
    assert backend.url == shown
    assert "secret" not in repr(backend) + str(vars(backend.dialect))


def test_postgres_options(postgres_url):
    """Our own options are taken out of the query, or given by keyword, which wins."""
    backend = make_backend(f"{postgres_url}&max_size=1&timeout=5&prepare=no", timeout=25)
    assert backend._max_size == 1 and backend._timeout == 25
    assert one(backend) == [(1,)]


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:s3cret@[host/db",
        "postgresql://me:s3cret@host/db?nonsense=1",
        "host=a password=s3cret nonsense",
        "postgresql://me:s3cret@host/db?max_size=many",
        "postgresql://me:s3cret@host/db?max_size=0",
        "mysql://me:s3cret@host/db",
        "me:s3cret@host/db",
        "postgresql+psycopg2://me:s3cret@host/db",
        "sqlite://me:s3cret@host/x",
    ],
)
def test_no_password_in_messages(url):
    """Whatever is wrong with a URL, its password is not shown."""
    with pytest.raises(BindingError) as caught:
        make_backend(url)
    error = caught.value
    assert "s3cret" not in str(error)
    assert error.__cause__ is None and (error.__context__ is None or error.__suppress_context__)


def test_option_that_libpq_does_not_know():
    """The option is named."""
    assert "there is no option 'nonsense'" in refused("postgresql://me@host/db?nonsense=1")
    assert "percent-encoded" in refused("postgresql://me:a b@host/db")


# --- others ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url", ["mysql://host/db", "oracle://host/db", "cockroachdb://host/db", "db.sqlite", "", "x:y"]
)
def test_unsupported_databases(url):
    """The message names the two databases that there are."""
    message = refused(url)
    assert "PostgreSQL" in message and "SQLite" in message


def test_names_of_drivers():
    """A URL in SQLAlchemy's style is told how to be written."""
    assert refused("postgresql+psycopg2://h/d").startswith("write postgresql:// without the name of a driver")
    assert refused("sqlite+pysqlite:///x").startswith("write sqlite:// without")


def test_not_text():
    """Anything but text is refused."""
    assert "not PosixPath" in refused(Path("/x"))


# --- keywords --------------------------------------------------------------------------------------


def test_provider_sqlite(folder):
    """Pony's keywords; a file that is not there has to be asked for."""
    with pytest.raises(BindingError, match="create_db=True"):
        make_backend_from_provider("sqlite", filename="a.db")
    assert one(make_backend_from_provider("sqlite", filename="a.db", create_db=True)) == [(1,)]
    assert one(make_backend_from_provider("sqlite", filename=folder / "a.db", timeout=1)) == [(1,)]
    assert isinstance(make_backend_from_provider("sqlite", filename=":memory:"), SqliteBackend)
    with pytest.raises(BindingError, match="filename="):
        make_backend_from_provider("sqlite")
    with pytest.raises(BindingError, match="no option 'host'"):
        make_backend_from_provider("sqlite", filename="a.db", host="x")


@pytest.mark.parametrize("provider", ["postgres", "postgresql"])
def test_provider_postgres(provider):
    """The keywords of libpq, and `database`; ours beside them."""
    backend = make_backend_from_provider(
        provider, user="me", password="s3cret p'w", host="h", port=5433, database="shop", max_size=3
    )
    assert backend.url == "postgresql://me@h:5433/shop"
    assert backend._max_size == 3
    with pytest.raises(BindingError, match="there is no option 'hots'") as caught:
        make_backend_from_provider(provider, hots="x", password="s3cret")
    assert "s3cret" not in str(caught.value)


def test_provider_postgres_connects(postgres_tcp):
    """The keywords lead to a server."""
    backend = make_backend_from_provider(
        "postgres",
        user=postgres_tcp.user,
        password=postgres_tcp.password,
        host=postgres_tcp.host,
        port=postgres_tcp.port,
        database=postgres_tcp.database,
    )
    assert one(backend) == [(1,)]


@pytest.mark.parametrize("provider", ["mysql", "oracle", "cockroach"])
def test_unsupported_provider(provider):
    """The message names the two databases that there are."""
    with pytest.raises(BindingError, match=rf"'{provider}'.*PostgreSQL.*SQLite"):
        make_backend_from_provider(provider, host="x")
