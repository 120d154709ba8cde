"""126. A stream: what it gives, what it costs, how much is in memory at a time, and how it is left."""

import gc
import logging
import math
import tracemalloc

import psycopg
import pytest

from dbsession import (
    DatabaseSessionIsOver,
    DataError,
    NoScopeError,
    QueryLeftScope,
    Required,
    SessionDoomed,
    commit,
    count,
    db_session,
    raw_sql,
    rollback,
    select,
    set_sql_debug,
)
from tests.observing import elsewhere, sent
from tests.session.library import BATCH, BOOKS, DATABASES, alive, make_library
from tests.session.recording import recorded

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)


class Odd(Exception):
    pass


@pytest.fixture
def library(db):
    return make_library(db)


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


def stream(library):
    return library.Book.select().order_by(library.Book.year).stream(BATCH)


# --- what it gives ----------------------------------------------------------------------------------------


def test_it_gives_what_the_query_gives(db, library):
    """126. All objects, in order, as fetch() gives them; each is the object of its row."""
    with db_session:
        streamed = list(stream(library))
        assert [book.title for book in streamed] == [f"book {year}" for year in range(BOOKS)]
        assert streamed == library.Book.select().order_by(library.Book.year).fetch()
        assert all(library.Book[book.id] is book for book in streamed)


@pytest.mark.parametrize("batch", [1, 3, BOOKS - 1, BOOKS, BOOKS + 1, 1000])
def test_batches_of_every_size(db, library, batch):
    """126. However the result is cut, it is whole."""
    with db_session:
        query = library.Book.select().order_by(library.Book.year.desc())
        assert [book.year for book in query.stream(batch)] == list(reversed(range(BOOKS)))
        assert [book.year for book in query.stream(batch=batch)] == list(reversed(range(BOOKS)))


def test_conditions_limits_and_nothing(db, library):
    """126. What narrows a query narrows its stream; a stream of nothing is empty."""
    Book = library.Book
    with db_session:
        query = Book.select(Book.year >= 5).order_by(Book.year)
        assert [book.year for book in query.stream(4)] == list(range(5, BOOKS))
        assert [book.year for book in query.limit(9, 2).stream(4)] == list(range(7, 16))
        assert [book.title for book in Book.select(title="book 7").stream(4)] == ["book 7"]
        assert list(Book.select(Book.year > 100).stream(4)) == []
        assert [book.year for book in Book.select().order_by(Book.year).limit(0).stream(4)] == []


def test_values_and_tuples(db, library):
    """126. A stream gives values and tuples as its query does."""
    Book, Author = library.Book, library.Author
    with db_session:
        assert list(select(b.year for b in Book).order_by(Book.year).stream(BATCH)) == list(range(BOOKS))
        pairs = list(select((b, b.author, b.year) for b in Book).stream(BATCH))
        assert {(b.title, a.name, year) for b, a, year in pairs} == {
            (f"book {year}", f"author {year % 5}", year) for year in range(BOOKS)
        }
        assert sorted(select((a.name, count(a.books)) for a in Author).stream(2)) == [
            (f"author {number}", 5) for number in range(5)
        ]


def test_objects_of_subclasses(db):
    """126. Each object is of the class of its row."""

    class Animal(db.Entity):
        name = Required(str)

    class Dog(Animal):
        age = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for number in range(9):
            Dog(name=f"dog {number}", age=number) if number % 3 else Animal(name="cat")
    with db_session:
        found = list(Animal.select().order_by(Animal.id).stream(2))
        assert [type(animal) for animal in found] == [Dog if number % 3 else Animal for number in range(9)]
        assert sum(dog.age for dog in Dog.select().stream(2)) == 27


def test_loading_ahead(db, library):
    """126. What is to be loaded ahead comes with each batch, goes with it, and can be read of what is kept."""
    Book = library.Book
    with db_session:
        kept = []
        query = Book.select().order_by(Book.id).prefetch(Book.author, Book.text)
        with sent(db) as spent:
            for book in query.stream(BATCH):
                kept += [book] if book.year % 7 == 0 else []
                assert (book.author.name, book.text) == (f"author {book.year % 5}", "once")
                assert book.year % 6 or alive(Book) <= BATCH + 2 + len(kept)
        assert spent.round_trips == 3 + 3 + is_postgres(db)
        kept += [book for book in query.stream(BATCH) if book.year % 7 == 1]
    assert [book.author.name for book in kept] == [f"author {book.year % 5}" for book in kept]


def test_loading_collections_ahead(db, library):
    """126. So do the items of collections."""
    Author = library.Author
    with db_session:
        for author in Author.select().prefetch(Author.books).stream(1):
            assert len(author.books) == 5
            gc.collect()
            assert alive(library.Book) <= 10
        kept = list(Author.select().prefetch(Author.books).stream(2))
    assert sorted(book.year for author in kept for book in author.books) == list(range(BOOKS))


def test_a_bad_batch(db, library):
    """126. What cannot be the size of a batch is refused at once."""
    with db_session:
        for batch in (0, -1):
            with pytest.raises(ValueError, match=f"and {batch} would load none"):
                library.Book.select().stream(batch)
        for batch in ("10", None, 2.0, True):
            with pytest.raises(TypeError, match="batch is the number of objects to load at a time"):
                library.Book.select().stream(batch)


# --- what it costs ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("books", [0, 1, BATCH - 1, BATCH, BATCH + 1, 2 * BATCH, BOOKS])
def test_round_trips(db, books):
    """126. A batch is a round trip; where the cursor needs a transaction, its COMMIT is one more. The scope adds none."""
    library = make_library(db, books)
    with sent(db) as spent:
        with db_session:
            assert len(list(stream(library))) == books
    assert spent.round_trips == max(1, math.ceil(books / BATCH)) + is_postgres(db)
    assert spent.transactions == is_postgres(db)


def test_the_statements(db, library, monkeypatch):
    """126. BEGIN, DECLARE and the first FETCH travel together; then a FETCH at a time, and at the end a COMMIT."""
    with recorded(monkeypatch) as batches, db_session:
        list(stream(library))
    words = [" ".join([statement.sql.split()[0] for statement in batch]) for batch in batches.batches]
    if is_postgres(db):
        assert words == ["BEGIN DECLARE FETCH", "FETCH", "FETCH", "COMMIT"]
    else:
        assert words == ["SELECT FETCH", "FETCH", "FETCH"]


def test_nothing_is_sent_before_the_first_step(db, library):
    """126. stream() alone sends nothing, and a stream that is not read leaves nothing."""
    with sent(db) as spent, db_session:
        stream(library)
        iter(stream(library))
    assert spent.statements == 0


def test_within_a_transaction(db, library):
    """126. Where a transaction is open the stream is read in it, and COMMIT comes with the end of the scope."""
    with sent(db) as spent, db_session(immediate=True):
        assert len(list(stream(library))) == BOOKS
        commit()
        library.Book(title="new", year=BOOKS)
        assert len(list(stream(library))) == BOOKS + 1
    assert spent.transactions == 2
    assert spent.round_trips == (3 + 1) + (1 + 3 + 1)


def test_changes_keep_the_transaction(db, library):
    """126. With something to save, the transaction of the cursor is the one that it is saved in."""
    with sent(db) as spent, db_session:
        for book in stream(library):
            if book.year in (3, 23):
                book.title = "changed"
    assert (spent.round_trips, spent.transactions) == (3 + 1, 1)


def test_the_log_shows_it(db, library, caplog):
    """126. The log has the cursor, with its values if they are asked for."""
    set_sql_debug(True, show_values=True)
    try:
        with caplog.at_level(logging.INFO, "dbsession.sql"), db_session:
            assert len(list(library.Book.select(title="book 3").stream(7))) == 1
    finally:
        set_sql_debug(False, show_values=False)
    lines = [record.getMessage() for record in caplog.records]
    assert any("SELECT" in line and "book 3" in line for line in lines)
    assert any(line.startswith("FETCH 8 FROM dbs_cursor_") for line in lines)


# --- what is in memory ------------------------------------------------------------------------------------


def test_as_many_objects_as_a_batch(db):
    """126. Never more objects are in memory than a batch and the one that the loop holds."""
    library = make_library(db, 100)
    with db_session:
        for book in stream(library):
            assert book.title
            assert book.year % 17 or alive(library.Book) <= BATCH + 2
        del book
        assert alive(library.Book) == 0


@pytest.mark.parametrize("what", ["tags", "readers", "author"])
def test_objects_in_circles_go_with_the_garbage(db, what):
    """126. What a Json value, a collection or the collection of another object holds goes, too, when Python looks."""
    library = make_library(db, 100)
    with db_session:
        for number, book in enumerate(stream(library)):
            if what == "author":
                assert book.author.books.count() == 20
            elif what == "readers":
                assert len(book.readers) == 0
            else:
                assert book.tags["year"] == book.year
            if number % (3 * BATCH) == 3:
                gc.collect()
                assert alive(library.Book) <= BATCH + 2


@pytest.mark.parametrize("before", ["written", "committed", "both", "an inner scope"])
def test_in_a_transaction_that_has_written(db, before):
    """126. What a rollback, or the next read, needs to know of loaded objects does not keep them in memory."""
    library = make_library(db, 100)
    with db_session:
        if before in ("committed", "both"):
            library.Author(name="committed")
            commit()
        if before in ("written", "both"):
            library.Author(name="written").flush()
        if before == "an inner scope":
            with db_session:
                library.Author(name="inner").flush()
                read_in_little_memory(library)
        read_in_little_memory(library)


def read_in_little_memory(library):
    for book in stream(library):
        assert book.year % 17 or alive(library.Book) <= BATCH + 2


def test_memory(db):
    """126. A stream takes a fraction of what fetch() takes at its peak, drivers' rows included."""
    library = make_library(db, 3000)

    def peak(read):
        with db_session:
            gc.collect()
            tracemalloc.start()
            try:
                total = sum(len(book.title) for book in read())
                return total, tracemalloc.get_traced_memory()[1]
            finally:
                tracemalloc.stop()

    peak(lambda: library.Book.select().stream(100))  # caches
    fetched = peak(library.Book.select().fetch)
    streamed = peak(lambda: library.Book.select().stream(100))
    assert streamed[0] == fetched[0]
    assert streamed[1] < fetched[1] / 4


# --- how it is left ---------------------------------------------------------------------------------------


def leave_by_break(library):
    for book in stream(library):
        if book.year == 3:
            break


def leave_by_an_error(library):
    with pytest.raises(Odd):
        for _book in stream(library):
            raise Odd


def leave_by_close(library):
    books = stream(library)
    next(books)
    books.close()
    assert list(books) == []


def leave_at_the_end(library):
    assert len(list(stream(library))) == BOOKS


WAYS_OUT = pytest.mark.parametrize("leave", [leave_by_break, leave_by_an_error, leave_by_close, leave_at_the_end])


def cursors(db):
    """Return the cursors that are open in the session."""
    return db.select("SELECT name FROM pg_cursors WHERE name LIKE 'dbs%'")


@WAYS_OUT
def test_the_cursor_is_closed(db, library, leave):
    """126. However the loop is left the cursor is closed, and nothing is sent for that alone."""
    with db_session:
        leave(library)
        if is_postgres(db):
            with sent(db) as spent:
                assert cursors(db) == []
            assert spent.round_trips == 1
        else:
            db.execute("DROP TABLE card")  # SQLite would refuse it while a SELECT is half read


@WAYS_OUT
def test_no_snapshot_is_held(db_url, db, library, leave):
    """126. On SQLite, the file takes over all of its log at once: nobody reads an older state of it."""
    if not db_url.startswith("sqlite:///"):
        pytest.skip("of SQLite in a file")

    @db_session
    def is_read():
        library.Author(name="new")
        commit()
        _, pages, taken = db.select("PRAGMA wal_checkpoint(PASSIVE)")[0]
        return taken < pages

    with db_session:
        books = stream(library)
        next(books)
        assert elsewhere(is_read)
        next(books)
        del books
        assert not elsewhere(is_read)
        leave(library)
        assert not elsewhere(is_read)


def test_the_scope_ends_with_the_stream_under_way(db, library):
    """126. The connection goes back clean, and the next step says that the scope is over."""
    for _ in range(3):
        with sent(db) as spent:
            with db_session:
                books = stream(library)
                assert next(books).year == 0
        assert spent.connections == 0
        assert spent.round_trips == 1 + is_postgres(db)
        with db_session:
            if is_postgres(db):
                assert cursors(db) == []
            else:
                db.execute("CREATE TABLE other (id INTEGER)")
                db.execute("DROP TABLE other")
        with pytest.raises(DatabaseSessionIsOver, match="go on with the stream of Book: the database session is over"):
            next(books)
        assert list(books) == []


def test_the_scope_fails_with_the_stream_under_way(db, library):
    """126. The same, where the scope is rolled back."""
    with pytest.raises(Odd), db_session:
        books = stream(library)
        book = next(books)
        book.title = "lost"
        raise Odd
    with pytest.raises(DatabaseSessionIsOver, match="because of Odd"):
        next(books)
    with db_session:
        assert library.Book.get(year=0).title == "book 0"


def test_a_stream_belongs_to_the_scope_of_its_first_step(db, library):
    """126. A stream that nobody has stepped is like a query: a value. Without a scope its first step is an error."""
    unscoped = stream(library)
    with db_session:
        scoped, later = stream(library), stream(library)
    with pytest.raises(NoScopeError, match="outside any db_session"):
        next(unscoped)
    with pytest.raises(QueryLeftScope, match="This query for Book was made in a db_session"):
        next(scoped)
    with db_session:
        assert len(list(later)) == BOOKS


def test_a_query_can_be_streamed_again(db, library):
    """126. Each stream() is one of its own; a stream is read once."""
    with db_session:
        query = library.Book.select()
        books = query.stream(BATCH)
        assert (len(list(books)), len(list(books))) == (BOOKS, 0)
        assert len(list(query.stream(BATCH))) == BOOKS


def test_an_error_in_the_middle(db, library):
    """126. An error of the database in a later batch ends the stream and, as in any transaction, loses that."""
    if not is_postgres(db):
        pytest.skip("SQLite divides by zero, and finds NULL")
    with db_session:
        books = select(b for b in library.Book if raw_sql("10 / (15 - b.year)") > -100)
        books = books.stream(5)  # in no order, which would want all rows first
        assert [next(books).year for _ in range(6)] == list(range(6))
        with pytest.raises(DataError, match="division by zero") as caught:
            list(books)
        assert isinstance(caught.value.original_exc, psycopg.errors.DivisionByZero)
        with pytest.raises(SessionDoomed):
            library.Book.select().first()
        with pytest.raises(StopIteration):
            next(books)
        rollback()
        assert len(list(stream(library))) == BOOKS
