"""SQL of the user's own: one style of parameters on every database, and always within the session."""

from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from uuid import UUID

import pytest

from dbsession import (
    BindingError,
    Database,
    MultipleRowsFound,
    NoScopeError,
    OperationalError,
    Optional,
    ProgrammingError,
    Required,
    RowNotFound,
    SessionDoomed,
    TransactionError,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.errors import OrmError
from tests.observing import rows, sent


class Odd(Exception):
    pass


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        likes = Required(int, default=0)
        parent = Optional("Note", reverse="child")
        child = Optional("Note", reverse="parent")

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="a", likes=1)
        Note(text="b", likes=2)
    return Note


SELECT = "SELECT text, likes FROM note ORDER BY id"


# --- results ------------------------------------------------------------------------------------------------


@db_session
def test_execute(db, Note):
    """execute() answers with rows as tuples, their number and their columns, and can be iterated."""
    result = db.execute(SELECT)
    assert result.rows == [("a", 1), ("b", 2)]
    assert list(result) == result.rows
    assert (result.rowcount, result.columns, len(result)) == (2, ("text", "likes"), 2)
    changed = db.execute("UPDATE note SET likes = likes + 1")
    assert (changed.rowcount, changed.rows, changed.columns) == (2, [], ())
    assert db.execute("UPDATE note SET likes = 5 WHERE text = %s RETURNING id, likes", ["b"]).rows == [(2, 5)]
    assert db.execute("DELETE FROM note WHERE likes > %s", [100]).rowcount == 0


@db_session
def test_select(db, Note):
    """select() gives named tuples; with one column the values themselves."""
    first, second = db.select(SELECT)
    assert (first.text, first.likes) == ("a", 1) == first
    assert second == ("b", 2)
    assert db.select("SELECT text FROM note ORDER BY text") == ["a", "b"]
    assert db.select("SELECT text FROM note WHERE likes > 100") == []
    (odd,) = db.select('SELECT 1 AS "class", 2 AS "with blank", 3 AS ok, 4 AS ok')
    assert tuple(odd) == (1, 2, 3, 4) and odd.ok == 3


@db_session
def test_get(db, Note):
    """get() gives the only row, or says that there is none or that there are several."""
    assert db.get("SELECT likes FROM note WHERE text = %s", ["b"]) == 2
    assert db.get(SELECT + " LIMIT 1").text == "a"
    with pytest.raises(RowNotFound, match=r"gave no row, and get\(\) needs one"):
        db.get("SELECT 1 FROM note WHERE likes > 100")
    with pytest.raises(MultipleRowsFound, match=r"gave 2 rows, and get\(\) takes one; use select\(\)"):
        db.get(SELECT)


@db_session
def test_exists(db, Note):
    """exists() tells whether there is a row."""
    assert db.exists("SELECT 1 FROM note WHERE text = %s", ["b"]) is True
    assert db.exists("SELECT 1 FROM note WHERE text = %s", ["x"]) is False


# --- parameters ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["execute", "select", "get", "exists"])
@db_session
def test_parameters_by_place_and_by_name(db, Note, verb):
    """%s takes a list or a tuple, %(name)s a dict, in every verb, with names used twice or not at all."""
    run = getattr(db, verb)
    by_place = run("SELECT id FROM note WHERE text = %s AND likes = %s", ["b", 2])
    by_tuple = run("SELECT id FROM note WHERE text = %s AND likes = %s", ("b", 2))
    by_name = run(
        "SELECT id FROM note WHERE text = %(text)s AND likes = %(n)s AND likes < %(n)s + 1",
        {"n": 2, "text": "b", "x": 0},
    )
    if verb == "execute":
        assert by_place.rows == by_tuple.rows == by_name.rows == [(2,)]
    else:
        assert by_place == by_tuple == by_name == {"select": [2], "get": 2, "exists": True}[verb]


@db_session
def test_percent_signs(db, Note):
    """With parameters %% is a percent sign, in texts too; without parameters the SQL is sent as it is."""
    db.execute("UPDATE note SET text = '100%' WHERE id = 1")
    assert db.get("SELECT text FROM note WHERE id = 1") == "100%"
    assert db.select("SELECT id FROM note WHERE text LIKE '%0%'") == [1]
    assert db.select("SELECT id FROM note WHERE text LIKE '%%0%%' AND likes = %s", [1]) == [1]
    assert db.select("SELECT id FROM note WHERE text LIKE '%%0%%' AND likes = %(n)s", {"n": 1}) == [1]
    assert db.get("SELECT 7 %% %s", [4]) == 3
    assert db.get("SELECT 7 % 4") == 3
    assert db.get("SELECT '%s'") == "%s"
    assert db.get("SELECT '%%s' WHERE 1 = %s", [1]) == "%s"


@db_session
def test_values_that_look_like_sql_stay_values(db, Note):
    """Quotes, percent signs, question marks and colons in values and in literals mean nothing."""
    for text in ("it's", '"', "%s", "%(x)s", "?", ":name", "$1", "'; DROP TABLE note; --", "é\n\t\\"):
        assert db.get("SELECT text FROM note WHERE id = %s", [1])
        db.execute("UPDATE note SET text = %s WHERE id = 1", [text])
        assert db.get("SELECT text FROM note WHERE text = %(text)s", {"text": text}) == text
    assert db.get("SELECT ':x ? $1' WHERE 1 = %s", [1]) == ":x ? $1"


@pytest.mark.parametrize(
    "value",
    [5, 2**40, "x", 1.5, True, None, Decimal("1.50"), b"\x00x", date(2024, 2, 29), UUID(int=5)],
    ids=lambda value: type(value).__name__,
)
@db_session
def test_values_of_every_type_can_be_parameters(db, Note, value):
    """Values travel as they do in entities of the same type."""
    types = {int: "bigint", str: "text", float: "double precision", bool: "boolean", Decimal: "numeric(12, 2)"}
    types |= {bytes: "bytea", date: "date", UUID: "uuid", type(None): "text"}
    db.execute(f"CREATE TABLE sample (value {types[type(value)]})")
    db.execute("INSERT INTO sample VALUES (%s)", [value])
    if value is None:
        assert db.exists("SELECT 1 FROM sample WHERE value IS NULL")
    else:
        assert db.exists("SELECT 1 FROM sample WHERE value = %s", [value])


@db_session
def test_datetimes_can_be_parameters(db):
    """A datetime finds what an entity has stored, with a time zone and without."""
    stamp = datetime(2024, 2, 29, 12, 30, 0, 5)
    kind = "timestamp" if db.backend.dialect.name == "postgresql" else "TEXT"
    zoned = "timestamptz" if kind == "timestamp" else "TEXT"
    db.execute(f"CREATE TABLE sample (plain {kind}, zoned {zoned})")
    db.execute("INSERT INTO sample VALUES (%s, %s)", [stamp, stamp.replace(tzinfo=UTC)])
    later = (stamp + timedelta(seconds=1)).replace(tzinfo=UTC)
    assert db.exists("SELECT 1 FROM sample WHERE plain = %s AND zoned < %s", [stamp, later])


@pytest.mark.parametrize(
    "sql, params, message",
    [
        ("SELECT %s", [], r"the SQL has 1 placeholders? \(%s\), but 0 parameters are given"),
        ("SELECT %s, %s", [1], r"the SQL has 2 placeholders \(%s\), but 1 parameters? (is|are) given"),
        ("SELECT 1", [1], r"the SQL has 0 placeholders \(%s\), but 1 parameters? (is|are) given"),
        ("SELECT %(a)s", {}, r"no parameter is given for %\(a\)s"),
        ("SELECT %(a)s", {"A": 1}, r"no parameter is given for %\(a\)s"),
        ("SELECT %(a)s", [1], r"the SQL has %\(name\)s, so its parameters must be a dictionary"),
        ("SELECT %s", {"a": 1}, "the SQL has %s, so its parameters must be a list or a tuple"),
        ("SELECT %s, %(a)s", {"a": 1}, r"%s and %\(name\)s cannot be mixed"),
        ("SELECT %s", "x", "parameters must be a list, a tuple or a dictionary, not str"),
        ("SELECT %s", 5, "parameters must be a list, a tuple or a dictionary, not int"),
        ("SELECT %s", {5}, "parameters must be a list, a tuple or a dictionary, not set"),
        ("SELECT 5 % 3 + %s", [1], "'% ' in the SQL is not a placeholder: write %s or %"),
        ("SELECT %d", [1], "'%d' in the SQL is not a placeholder"),
        ("", None, "there is no SQL to run"),
        ("  \n ", None, "there is no SQL to run"),
        ("-- nothing", None, "there is no SQL to run"),
    ],
)
@pytest.mark.parametrize("verb", ["execute", "select", "get", "exists"])
def test_wrong_parameters(db, Note, verb, sql, params, message):
    """Parameters that do not fit the SQL are an error that says how, before anything is sent; nothing is lost."""
    with db_session:
        note = Note(text="new")
        with sent(db) as spent, pytest.raises(ProgrammingError, match=message):
            getattr(db, verb)(sql, params)
        assert spent.statements == 0
        note.likes = 5
    assert rows(db, "SELECT likes FROM note WHERE text = 'new'") == [5]


@pytest.mark.parametrize("sql", [5, None, b"SELECT 1", ["SELECT 1"]])
def test_sql_is_text(db, Note, sql):
    """SQL that is no text is a TypeError."""
    with db_session, pytest.raises(TypeError, match="SQL is a str, not "):
        db.execute(sql)


def test_wrong_sql(db, Note):
    """Wrong SQL is a ProgrammingError with the driver's words and the SQL; a value is not shown."""
    with pytest.raises(ProgrammingError, match="no_such_table") as caught, db_session:
        db.select("SELECT * FROM no_such_table WHERE x = %s", ["secret"])
    assert "no_such_table" in caught.value.sql
    assert "secret" not in str(caught.value)
    assert caught.value.original_exc is not None
    with pytest.raises(ProgrammingError, match="syntax error"), db_session:
        db.execute("SELEKT 1")


# --- transactions -------------------------------------------------------------------------------------------

WORDS = [
    *("BEGIN", "begin", "START TRANSACTION", "COMMIT", "commit;", "END", "ROLLBACK", "Rollback to x", "ABORT"),
    *(
        "SAVEPOINT x",
        "RELEASE x",
        " \n COMMIT",
        "/* why */ COMMIT",
        "-- why\nROLLBACK",
        "/* a */ -- b\n /* c */END;",
        ";COMMIT",
    ),
    *("BEGIN;", "COMMIT WORK", "COMMIT/**/", "PREPARE TRANSACTION 'x'"),
]


@pytest.mark.parametrize("sql", WORDS)
@pytest.mark.parametrize("verb", ["execute", "select"])
def test_transaction_words_are_refused(db, Note, sql, verb):
    """SQL that begins or ends a transaction is refused, before it is sent: the session has to know where it stands."""
    with pytest.raises(Odd), db_session:
        Note(text="undone").flush()
        with (
            sent(db) as spent,
            pytest.raises(ProgrammingError, match=r"belongs to the session.*commit\(\), rollback\(\)"),
        ):
            getattr(db, verb)(sql)
        assert spent.statements == 0
        raise Odd
    assert rows(db, "SELECT text FROM note") == ["a", "b"]


def test_words_that_only_look_like_transactions(db, Note):
    """Names that begin like such a word are nothing special."""
    with db_session:
        db.execute("CREATE TABLE commits (beginning integer)")
        assert db.select("SELECT beginning AS ended FROM commits") == []


def test_sql_that_ends_the_transaction_by_a_way_round(postgres_url):
    """If such SQL gets through in a text of several statements, that is noticed: the scope cannot end well."""
    db = Database(postgres_url)
    with db_session:
        db.execute("CREATE TABLE x (y integer)")
    with pytest.raises(SessionDoomed, match="the transaction was ended by SQL of the user's own"), db_session:
        db.execute("INSERT INTO x VALUES (1)")
        with pytest.raises(OperationalError, match="the transaction was ended by SQL of the user's own"):
            db.execute("INSERT INTO x VALUES (2); ROLLBACK")
    assert rows(db, "SELECT y FROM x") == []
    db.close()


def test_several_statements_in_one_text(db, Note):
    """Several statements in one text are sent one by one: where they are not possible, the error says so."""
    with pytest.raises(ProgrammingError, match="one statement at a time"), db_session:
        db.execute("UPDATE note SET likes = 7; UPDATE note SET likes = 8")
    assert rows(db, "SELECT likes FROM note") == [1, 2]


def test_execute_is_in_the_transaction_of_the_session(db, Note):
    """execute() begins the transaction, shares it with the entities, and is undone with it."""
    with pytest.raises(Odd), db_session:
        with sent(db) as spent:
            db.execute("UPDATE note SET likes = 50")
        assert (spent.round_trips, spent.transactions) == (1, 1)
        Note(text="new")
        raise Odd
    assert rows(db, "SELECT likes FROM note") == [1, 2]
    with db_session:
        db.execute("UPDATE note SET likes = 50")
        rollback()
        db.execute("UPDATE note SET likes = likes + 1")
        commit()
        db.execute("UPDATE note SET likes = 99")
        rollback()
    assert rows(db, "SELECT likes FROM note") == [2, 3]


def test_reading_begins_no_transaction(db, Note):
    """select(), get() and exists() are reads: in autocommit until something is written, then in the transaction."""
    with sent(db) as spent, db_session:
        db.select(SELECT)
        db.get("SELECT count(*) FROM note")
        db.exists("SELECT 1")
        db.select("WITH x AS (SELECT 1 AS y) SELECT y FROM x")
        db.select("VALUES (1), (2)")
        db.select("SELECT 'UPDATE' AS x -- it's no UPDATE")
        db.select("SELECT /* INTO 'nowhere' */ 1 AS x")
    assert (spent.round_trips, spent.transactions) == (7, 0)
    with db_session:
        Note(text="new")
        assert db.get("SELECT count(*) FROM note") == 3
        rollback()
        assert db.get("SELECT count(*) FROM note") == 2


WRITES = [
    "UPDATE note SET likes = 9 RETURNING id",
    "INSERT INTO note (text, likes) VALUES ('new', 0) RETURNING id",
    "/* c */ delete from note returning id",
    "CREATE TABLE other (x integer)",
]


@pytest.mark.parametrize("sql", WRITES)
@pytest.mark.parametrize("verb", ["select", "exists"])
def test_a_write_is_in_the_transaction_whatever_the_verb(db, Note, verb, sql):
    """A statement that writes is never in autocommit by accident: by whatever verb it came, it is undone."""
    with pytest.raises(Odd), db_session:
        with sent(db) as spent:
            getattr(db, verb)(sql)
        assert spent.transactions == 1
        raise Odd
    assert rows(db, SELECT) == [("a", 1), ("b", 2)]
    with db_session:
        db.execute("CREATE TABLE other (x integer)")


def test_a_write_within_a_with_query(postgres_url):
    """The same for a data-modifying WITH, and for a SELECT that locks, whose lock would be gone at once."""
    db = Database(postgres_url)
    with db_session:
        db.execute("CREATE TABLE note (likes integer)")
        db.execute("INSERT INTO note VALUES (1)")
    for sql in (
        "WITH gone AS (DELETE FROM note RETURNING *) SELECT likes FROM gone",
        "SELECT likes FROM note FOR UPDATE",
        "select likes from note for no key update",
        "SELECT likes FROM note FOR SHARE",
        "SELECT 1 AS x INTO other",
        "SELECT likes -- don't\nFROM note FOR UPDATE -- it's locked",
        "SELECT $$--$$ AS x FROM note FOR UPDATE",
        r"SELECT E'it\'s --' AS x FROM note FOR UPDATE",
        "SELECT '/*' AS x FROM note FOR UPDATE /* '*/",
    ):
        with pytest.raises(Odd), db_session:
            with sent(db) as spent:
                db.select(sql)
            assert spent.transactions == 1, sql
            raise Odd
    assert rows(db, "SELECT likes FROM note") == [1]
    assert rows(db, "SELECT to_regclass('other')") == [None]
    db.close()


def test_unsaved_changes_are_flushed_first(db, Note):
    """55. All verbs see what the session has changed, though it is not saved yet."""
    with db_session:
        Note(text="c")
        assert db.get("SELECT count(*) FROM note") == 3
        Note[1].likes = 50
        assert db.exists("SELECT 1 FROM note WHERE likes = 50")
        Note[2].delete()
        assert db.execute("SELECT text FROM note ORDER BY id").rows == [("a",), ("c",)]
        Note(text="d")
        assert db.select("SELECT text FROM note WHERE text = 'd'") == ["d"]
        rollback()


def test_the_flush_can_be_suspended(db, Note):
    """55. In no_autoflush() they see what is flushed only."""
    with db_session as session:
        Note(text="c")
        with session.no_autoflush():
            assert db.get("SELECT count(*) FROM note") == 2
        assert db.get("SELECT count(*) FROM note") == 3


def test_a_flush_that_fails_before_raw_sql(db, Note):
    """55, 87. If the changes cannot be saved, that is the error, and the SQL is not sent."""
    with pytest.raises(SessionDoomed), db_session:
        Note(text="a")
        with pytest.raises(TransactionIntegrityError):
            db.execute("UPDATE note SET likes = 99")
    assert rows(db, "SELECT likes FROM note") == [1, 2]


def test_errors_of_constraints_are_integrity_errors(db, Note):
    """86. A constraint that raw SQL violates is the same error as for an entity."""
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        db.execute("INSERT INTO note (text, likes) VALUES (%s, %s)", ["a", 0])
    assert tuple(caught.value.columns) == ("text",)
    with pytest.raises(TransactionError), db_session:
        db.execute("UPDATE note SET text = NULL")


# --- without scope, without database ------------------------------------------------------------------------


@pytest.mark.parametrize("verb", ["execute", "select", "get", "exists"])
def test_raw_sql_outside_a_scope(db, Note, verb):
    """8. Outside a scope the error names the function and the way out, and nothing is sent."""

    def forgetful():
        return getattr(db, verb)("DELETE FROM note RETURNING id")

    with (
        sent(db) as spent,
        pytest.raises(NoScopeError, match=r"forgetful\(\) uses the database outside any db_session"),
    ):
        forgetful()
    assert spent.statements == 0


def test_raw_sql_without_a_mapping(db_url):
    """Raw SQL needs no entities and no generate_mapping()."""
    db = Database(db_url)
    with db_session:
        assert db.get("SELECT 1 + %s", [1]) == 2
        flush()
    db.close()


def test_raw_sql_without_a_database():
    """A database that is bound to nothing says so."""
    db = Database()
    with db_session, pytest.raises(BindingError, match=r"not bound yet: give Database\(\) a URL, or call db\.bind"):
        db.select("SELECT 1")
    with pytest.raises(OrmError), db_session:
        db.execute("SELECT 1")
