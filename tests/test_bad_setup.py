"""What people do wrong before they begin: URLs, servers, entities, tables. Each error says what, where, what to do."""

import pytest

from dbsession import (
    BindingError,
    Database,
    DBSchemaError,
    Entity,
    ERDiagramError,
    MappingError,
    OperationalError,
    Optional,
    ProgrammingError,
    Required,
    Set,
    TableDoesNotExist,
    db_session,
)
from tests.observing import rows

# --- where the database is ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "url, message",
    [
        ("mysql://me@host/name", "there is no support for mysql:// databases"),
        ("oracle://me@host/name", "there is no support for oracle:// databases"),
        ("mongodb+srv://host", r"there is no support for mongodb\+srv:// databases"),
        ("postgresql+psycopg://me@host/name", "write postgresql:// without the name of a driver"),
        ("sqlite+aiosqlite:///x.db", "write sqlite:// without the name of a driver"),
        ("app.db", "this is not a database URL: it has no scheme"),
        ("", "this is not a database URL: it has no scheme"),
        (5, "a database URL is text, not int"),
    ],
)
def test_an_unknown_scheme(url, message):
    """A URL that is no database of ours names the two that there are, each with an example."""
    with pytest.raises(BindingError, match=message) as caught:
        Database(url)
    assert "postgresql://user@host/database" in str(caught.value)
    assert "sqlite:///file.db" in str(caught.value)


def test_an_unknown_provider():
    """The same for keywords."""
    with pytest.raises(BindingError, match=r"there is no support for the provider 'mysql'.*PostgreSQL .* and SQLite"):
        Database(provider="mysql", host="x")


def test_a_path_with_too_few_slashes():
    """The usual mistake with SQLite's URLs is named."""
    with pytest.raises(BindingError, match="a path needs three slashes"):
        Database("sqlite://app.db")


def test_a_folder_that_is_not_there(tmp_path):
    """A SQLite file in a folder that does not exist."""
    with pytest.raises(BindingError, match=r"the folder .*missing does not exist; make it first, or correct the path"):
        Database(f"sqlite:///{tmp_path}/missing/app.db")
    with pytest.raises(BindingError, match="is a folder, not a database file"):
        Database(f"sqlite:///{tmp_path}")


def test_a_file_that_is_no_database(tmp_path):
    """A file that is something else is left as it is."""
    path = tmp_path / "notes.txt"
    path.write_text("these are my notes, and no database at all\n" * 100)
    db = Database(f"sqlite:///{path}")
    with pytest.raises(OperationalError, match="file is not a database"), db_session:
        db.select("SELECT 1")
    assert path.read_text().startswith("these are my notes")
    db.close()


def connect(url):
    """Ask for a row, in a scope; return the error. The scope is clean afterwards, and another database works."""
    db = Database(url)
    with pytest.raises(OperationalError) as caught, db_session:
        db.get("SELECT 1")
    db.close()
    fine = Database("sqlite://")
    with db_session:
        assert fine.get("SELECT 1") == 1
    fine.close()
    return str(caught.value)


def test_a_server_that_is_not_there():
    """Nobody listens at that port, or at that socket: the message has the URL without the password, and a hint."""
    message = connect("postgresql://me:s3cret@127.0.0.1:1/app")
    assert "cannot connect to postgresql://me@127.0.0.1:1/app" in message
    assert "refused" in message
    assert "is PostgreSQL running, and does it listen there?" in message
    assert "s3cret" not in message
    assert "is PostgreSQL running" in connect("postgresql:///app?host=/nowhere/at/all")


def test_a_host_that_does_not_exist():
    """A misspelt host."""
    message = connect("postgresql://me@no-such-host.invalid/app")
    assert "no-such-host.invalid" in message
    assert "check the host in the URL" in message


def test_a_database_that_is_not_there(postgres_tcp):
    """The server is there, and the database is not."""
    message = connect(postgres_tcp.url.replace(f"/{postgres_tcp.database}?", "/no_such_database?"))
    assert 'database "no_such_database" does not exist' in message
    assert "create it first, for instance with createdb" in message


@pytest.mark.parametrize("password", [":wr0ng", ""])
def test_a_wrong_password(postgres_tcp, password):
    """A wrong password, or none: the message says where one is given, and does not show it."""
    server = postgres_tcp
    message = connect(f"postgresql://{server.user}{password}@{server.host}:{server.port}/{server.database}")
    assert "password" in message
    assert "check user and password (URL, PGPASSWORD, ~/.pgpass)" in message
    assert "wr0ng" not in message


def test_a_role_that_is_not_there(postgres_tcp):
    """A user that the server does not know."""
    message = connect(postgres_tcp.url.replace(f"{postgres_tcp.user}@", "nobody_i_know@", 1))
    assert 'role "nobody_i_know" does not exist' in message
    assert "name another user in the URL" in message


def test_a_database_that_is_bound_twice_or_never():
    """A database is bound once."""
    db = Database("sqlite://")
    with pytest.raises(BindingError, match="bound already, to sqlite://"):
        db.bind("sqlite://")
    db.close()
    with pytest.raises(BindingError, match=r"not bound yet: give Database\(\) a URL, or call db\.bind\(url\)"):
        Database().generate_mapping()


# --- what it is ---------------------------------------------------------------------------------------------


def test_an_entity_after_generate_mapping(db):
    """An entity that comes too late says so, and the others work."""

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with pytest.raises(
        MappingError, match=r"Late was declared after generate_mapping\(\); declare all entities before it"
    ):

        class Late(db.Entity):
            name = Required(str)

    with pytest.raises(MappingError, match="was called already; call it once, after all entities are declared"):
        db.generate_mapping()
    with db_session:
        User(name="x")
    assert set(db.entities) == {"User"}


def test_use_before_generate_mapping(db):
    """An entity that is used too early names the call that is missing."""

    class User(db.Entity):
        name = Required(str)

    for use in (lambda: User[1], lambda: User(name="x"), User.select, lambda: User.get(name="x")):
        with pytest.raises(MappingError, match=r"User has no mapping yet: call db\.generate_mapping\(\)"), db_session:
            use()
    with pytest.raises(MappingError, match=r"call db\.generate_mapping\(\) first"):
        db.create_tables()


def test_an_entity_of_no_database():
    """An entity belongs to a database, and both ways of saying so are shown."""
    with pytest.raises(
        ERDiagramError, match=r"User belongs to no database: write class User\(Entity, db=db\) or class User\(db"
    ):

        class User(Entity):
            name = Required(str)


def test_a_missing_reverse(db):
    """A relation whose other side is not declared shows the line that is missing."""

    class User(db.Entity):
        orders = Set("Order")

    class Order(db.Entity):
        total = Required(int)

    with pytest.raises(ERDiagramError) as caught:
        db.generate_mapping()
    message = str(caught.value)
    assert "the reverse of User.orders is missing: declare it in Order" in message
    assert 'user = Optional("User")' in message


def test_a_missing_collection(db):
    """The same from the other side."""

    class User(db.Entity):
        name = Required(str)

    class Order(db.Entity):
        user = Required(User)

    with pytest.raises(ERDiagramError) as caught:
        db.generate_mapping()
    message = str(caught.value)
    assert "the reverse of Order.user is missing: declare it in User" in message
    assert 'orders = Set("Order")' in message


def test_two_candidates_for_a_reverse(db):
    """Two attributes that could both be the other side are named, and how to choose."""

    class User(db.Entity):
        bought = Set("Order")
        sold = Set("Order")

    class Order(db.Entity):
        buyer = Required(User)
        seller = Required(User)

    with pytest.raises(ERDiagramError) as caught:
        db.generate_mapping()
    message = str(caught.value)
    assert "has several candidates for its reverse" in message
    assert "Order.buyer and Order.seller" in message or "User.bought and User.sold" in message
    assert "choose with reverse=" in message


def test_an_entity_that_does_not_exist(db):
    """A relation to an entity that there is not guesses which was meant."""

    class Customer(db.Entity):
        order = Optional("Oder")

    class Order(db.Entity):
        customer = Required(Customer)

    with pytest.raises(
        ERDiagramError, match=r"Customer\.order refers to Oder, and there is no such entity; did you mean 'Order'"
    ):
        db.generate_mapping()


def test_a_table_that_is_missing(db):
    """A table that is not there: which, where, and two ways to make it. The mapping can be used once it is."""

    class User(db.Entity):
        name = Required(str)

    with pytest.raises(TableDoesNotExist) as caught:
        db.generate_mapping()
    message = str(caught.value)
    assert "the table user is not in " in message.lower()
    assert "generate_mapping(create_tables=True)" in message and "db.schema_sql()" in message
    db.create_tables()
    with db_session:
        User(name="x")


def test_a_table_with_other_columns(db):
    """A table that lacks columns: which ones, and which it has. It is left as it is."""
    with db_session:
        db.execute('CREATE TABLE "user" (id integer PRIMARY KEY, nmae text)')

    class User(db.Entity):
        _table_ = "user"
        name = Required(str)
        age = Optional(int)

    with pytest.raises(DBSchemaError) as caught:
        db.generate_mapping(create_tables=True)
    message = str(caught.value)
    assert "the table user" in message and "lacks name, age; it has id, nmae" in message
    assert "Change the table, or name its columns with column=" in message
    assert rows(db, 'SELECT * FROM "user"') == []


def test_a_table_that_was_dropped_meanwhile(db):
    """A table that is gone when it is used: the database's words, and the scope is clean afterwards."""

    class User(db.Entity):
        name = Required(str)

    db.generate_mapping(create_tables=True)
    with db_session:
        db.execute('DROP TABLE "user"')
    for use in (lambda: User[1], lambda: User(name="x").flush(), lambda: User.select().count()):
        with (
            pytest.raises(ProgrammingError, match=r"(?i)no such table: user|relation .*user.* does not exist"),
            db_session,
        ):
            use()
