"""A batch that fails tells what was done before: `error.results` has the replies to the statements before the failing one."""

import psycopg
import pytest

from dbsession import Database
from dbsession.backends.base import RowCountMismatch
from dbsession.backends.statements import Kind, Statement
from dbsession.errors import ConnectionLost, DataError, InterfaceError, OrmError, TransactionIntegrityError

BEGIN = Statement("BEGIN", kind=Kind.BEGIN)
COMMIT = Statement("COMMIT", kind=Kind.COMMIT)
ROLLBACK = Statement("ROLLBACK", kind=Kind.ROLLBACK)
SAVEPOINT = Statement("SAVEPOINT s", kind=Kind.SAVEPOINT)
ROLLBACK_TO = Statement("ROLLBACK TO s", kind=Kind.ROLLBACK_TO)


class Items:
    """A connection with a table of items, in the words of its database."""

    def __init__(self, db):
        self.mark = db.backend.dialect.placeholder
        self.connection = db.backend.acquire()
        self.raw("CREATE TABLE item (id INTEGER PRIMARY KEY, name VARCHAR(20))")
        self.raw("INSERT INTO item VALUES (1, 'first')")

    def raw(self, sql):
        self.connection.execute((Statement(sql, None, Kind.RAW),))

    def insert(self, key, name="x", **options):
        sql = f"INSERT INTO item VALUES ({self.mark}, {self.mark})"
        return Statement(sql, (key, name), Kind.WRITE, **options)

    def insert_returning(self, key):
        return self.insert(key, returns=True)._replace(sql=self.insert(key).sql + " RETURNING id, name")

    def insert_where_missing(self, *keys):
        sql = self.insert(0).sql + " ON CONFLICT DO NOTHING"
        return Statement(sql, [(key, "x") for key in keys], Kind.WRITE, many=True)

    def update(self, *keys):
        sql = f"UPDATE item SET name = 'y' WHERE id = {self.mark}"
        return Statement(sql, [(key,) for key in keys], Kind.WRITE, many=True, expect=1, tag=100)

    def names(self):
        return dict(self.connection.execute((Statement("SELECT id, name FROM item", returns=True),))[0].rows)


@pytest.fixture
def items(db):
    items = Items(db)
    yield items
    db.backend.release(items.connection, discard=True)


def failing(items, kind, *batch):
    with pytest.raises(kind) as caught:
        items.connection.execute(batch)
    return caught.value


def test_the_replies_before_the_failing_statement(items):
    """Rows, counts and command tags, as if there had been nothing behind them."""
    error = failing(
        items,
        TransactionIntegrityError,
        BEGIN,
        items.insert_returning(2),
        items.update(1, 2),
        SAVEPOINT,
        items.insert(1),
        items.insert(3),
        COMMIT,
    )
    assert error.statement == items.insert(1)
    begin, inserted, updated, savepoint = error.results
    assert inserted.rows == [(2, "x")]
    assert inserted.columns == ("id", "name")
    assert (updated.rows, updated.rowcount) == ([], 2)
    assert savepoint.rows == begin.rows == []
    items.connection.execute((ROLLBACK_TO,))
    items.connection.execute((items.insert(3), COMMIT))
    assert items.names() == {1: "y", 2: "y", 3: "x"}


def test_the_first_statement_fails(items):
    """Nothing was done, in a batch and alone; an error that was never near a database has no replies either."""
    assert list(failing(items, TransactionIntegrityError, BEGIN, items.insert(1), COMMIT).results[1:]) == []
    items.connection.execute((ROLLBACK,))
    assert list(failing(items, TransactionIntegrityError, items.insert(1)).results) == []
    assert list(OrmError("x").results) == []


def test_a_value_that_cannot_be_sent(items):
    """The driver refuses it; what stood before it was done, as the database's own refusal would have it."""
    error = failing(items, DataError, BEGIN, items.insert_returning(2), items.insert(3, "\ud800"), COMMIT)
    assert [result.rows for result in error.results] == [[], [(2, "x")]]
    items.connection.execute((ROLLBACK,))
    assert items.names() == {1: "first"}


def test_an_error_of_the_server_before_a_value_that_cannot_be_sent(items):
    """Only what the database has done counts, whichever of the two errors is raised."""
    error = failing(items, OrmError, BEGIN, items.insert_returning(2), items.insert(1), items.insert(3, "\ud800"))
    assert [result.rows for result in error.results] == [[], [(2, "x")]]
    items.connection.execute((ROLLBACK,))


def test_a_mismatch(items):
    """A row that was not matched ends the batch like an error; its statement has no reply, though it ran in part."""
    error = failing(items, RowCountMismatch, BEGIN, items.insert_returning(2), items.update(1, 7, 2), COMMIT)
    assert error.tag == 101
    assert [result.rows for result in error.results] == [[], [(2, "x")]]


def test_runs_that_touched_nothing(items):
    """Whoever reads the replies sees the SAVEPOINT behind them, and so knows that they are complete."""
    error = failing(
        items, TransactionIntegrityError, BEGIN, items.insert_where_missing(1, 1, 1), SAVEPOINT, items.insert(1)
    )
    assert error.statement == items.insert(1)
    assert [result.rowcount for result in error.results] == [0, 0, 0]


def test_a_mistake_in_a_batch(items):
    """A statement that could not be sent at all."""
    wrong = Statement("SELECT 1", (1,), Kind.WRITE, many=True)
    error = failing(items, InterfaceError, BEGIN, items.insert_returning(2), wrong)
    assert [result.rows for result in error.results] == [[], [(2, "x")]]


def test_a_lost_connection(postgres_url):
    """Whatever was answered is undone by the server: there are no replies."""
    db = Database(postgres_url)
    items = Items(db)
    pid = items.connection.link.info.backend_pid
    end = Statement(f"SELECT pg_terminate_backend({pid}), pg_sleep(60)", None, Kind.RAW)
    error = failing(items, ConnectionLost, BEGIN, items.insert_returning(2), end)
    assert list(error.results) == []
    with psycopg.connect(postgres_url) as other:
        assert other.execute("SELECT count(*) FROM item").fetchone() == (1,)
    db.backend.release(items.connection)
    db.close()
