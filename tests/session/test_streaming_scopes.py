"""126. A stream and what goes on around it: transactions, inner scopes, other streams, threads, interrupts."""

import itertools

import pytest

from dbsession import (
    InvalidRequestError,
    ProgrammingError,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    on_commit,
    rollback,
    savepoint,
)
from dbsession.session.transaction import Phase
from tests.observing import rows
from tests.session.library import BATCH, BOOKS, DATABASES, make_library

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)

YEARS = list(range(BOOKS))


class Odd(Exception):
    pass


@pytest.fixture
def library(db):
    return make_library(db)


def stream(library, batch=BATCH):
    return library.Book.select().order_by(library.Book.year).stream(batch)


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


def phase(session, db):
    return session._core.unit(db).transaction.phase


def cursors(db):
    """Return the cursors that are open in the session."""
    return db.select("SELECT name FROM pg_cursors WHERE name LIKE 'dbs%'") if is_postgres(db) else []


# --- the end of its transaction ---------------------------------------------------------------------------


@pytest.mark.parametrize("end", [commit, rollback])
@pytest.mark.parametrize("batch", [2, BATCH, 1000])
@pytest.mark.parametrize("writes", [False, True])
def test_the_transaction_ends_on_the_way(db, library, end, batch, writes):
    """126. commit() and rollback() end a stream: the next step says so, however large the batches are."""
    with db_session:
        seen = []
        with pytest.raises(InvalidRequestError) as caught:
            for book in stream(library, batch):
                seen.append(book.year)
                if writes:
                    book.title = "changed"
                if book.year == 5:
                    end()
        assert seen == [0, 1, 2, 3, 4, 5]
        assert str(caught.value) == (
            "Cannot go on with the stream of Book: commit() or rollback() has ended the transaction that its cursor "
            "lived in; call it when the loop is done, or read pages by key, which need no cursor: "
            f"Book.select(Book.id > last).order_by(Book.id)[:{batch}]"
        )
        assert [book.year for book in stream(library)] == YEARS
        assert cursors(db) == []
    changed = 6 if writes and end is commit else 0
    assert rows(db, "SELECT count(*) FROM book WHERE title = 'changed'") == [changed]


def test_the_transaction_ends_behind_the_last_object(db, library):
    """126. A commit() for the last object comes in time: the stream has nothing more to give."""
    with db_session:
        for book in stream(library):
            book.title = "changed"
            if book.year == BOOKS - 1:
                commit()
    assert rows(db, "SELECT count(*) FROM book WHERE title = 'changed'") == [BOOKS]


def test_the_page_in_the_error_works(db, library):
    """126. What the error shows is a way to commit in between."""
    Book, last, seen = library.Book, 0, []
    with db_session:
        while page := Book.select(Book.id > last).order_by(Book.id)[:10]:
            seen += [book.year for book in page]
            last = page[-1].id
            commit()
    assert seen == YEARS


def test_a_transaction_of_a_stream_ends_with_it(db, library):
    """126. Reading leaves no transaction open: what fails later fails alone."""
    with db_session as session:
        books = stream(library)
        next(books)
        assert phase(session, db) is (Phase.OPEN if is_postgres(db) else Phase.IDLE)
        other = stream(library)
        next(other)
        assert len(list(books)) == BOOKS - 1
        assert phase(session, db) is (Phase.OPEN if is_postgres(db) else Phase.IDLE)  # the other one needs it
        assert len(list(other)) == BOOKS - 1
        assert phase(session, db) is Phase.IDLE
        with pytest.raises(ProgrammingError):
            db.select("SELECT year FROM nowhere")
        assert library.Book.get(year=3).title == "book 3"


def test_a_transaction_that_has_more_to_do_goes_on(db, library):
    """126. A transaction that was written in, or that the scope wants, does not end with a stream."""
    with db_session as session:
        library.Author(name="new").flush()
        list(stream(library))
        assert phase(session, db) is Phase.OPEN
        rollback()
    with db_session(immediate=True) as session:
        list(stream(library))
        assert phase(session, db) is Phase.OPEN
    with db_session as session:
        for book in stream(library):
            if book.year == 3:
                library.Author(name="flushed").flush()
        assert phase(session, db) is Phase.OPEN
        rollback()
    with db_session as session:
        for _book in stream(library):
            library.Author(name="unsaved")
        assert phase(session, db) is (Phase.OPEN if is_postgres(db) else Phase.IDLE)
        rollback()
    assert rows(db, "SELECT count(*) FROM author") == [5]


@pytest.mark.parametrize("options", [{"serializable": True}, {"read_only": True}, {"immediate": True}, {"ddl": True}])
def test_scopes_of_every_kind(db, library, options):
    """126. A stream is read in whatever transaction the scope has asked for."""
    with db_session(**options):
        assert [book.year for book in stream(library)] == YEARS
        assert [book.year for book in itertools.islice(stream(library), 3)] == [0, 1, 2]
    with db_session:
        assert cursors(db) == []


def test_hooks_of_the_scope_wait_for_the_scope(db, library):
    """126. The COMMIT of a stream's own transaction is none of the session's."""
    happened = []
    with db_session:
        on_commit(lambda: happened.append("commit"))
        list(stream(library))
        assert happened == []
    assert happened == ["commit"]


# --- other statements meanwhile ---------------------------------------------------------------------------


def test_everything_else_goes_on(db, library):
    """126. Queries, gets, references, collections, flushes and SQL may come between the steps."""
    Book, Author = library.Book, library.Author
    with db_session:
        seen = []
        for book in stream(library):
            seen.append(book.year)
            assert Book.select(Book.year < 3).count() == 3
            assert book.author.name == f"author {book.year % 5}"
            assert Author[1 + book.year % 5].books.count() == 5
            if book.year % 4 == 0:
                Author(name=f"new {book.year}")
                flush()
            if book.year == 10:
                db.execute("UPDATE book SET title = 'raw' WHERE year IN (9, 12)")
            assert db.get("SELECT count(*) FROM book") == BOOKS
        assert seen == YEARS
    assert rows(db, "SELECT year FROM book WHERE title = 'raw' ORDER BY year") == [9, 12]
    assert rows(db, "SELECT count(*) FROM author") == [5 + 7]


def test_changes_of_what_it_is_ordered_by(db, library):
    """126. Rows that move ahead in the order do not come again, and none is left out."""
    with db_session(ddl=True):
        db.execute("CREATE INDEX by_year ON book (year)")
    with db_session:
        seen = []
        for book in library.Book.select(library.Book.year >= 0).order_by(library.Book.year).stream(3):
            seen.append(book.id)
            book.year += 13
            flush()
        assert len(seen) == len(set(seen)) == BOOKS
    assert rows(db, "SELECT year FROM book ORDER BY year") == [year + 13 for year in YEARS]


def test_two_streams_at_once(db, library):
    """126. Streams do not disturb each other, of one entity or of two, side by side or within each other."""
    Book, Author = library.Book, library.Author
    with db_session:
        pairs = list(zip(stream(library, 3), stream(library, 4), strict=True))
        assert all(one is other for one, other in pairs)
        assert [one.year for one, _ in pairs] == YEARS
        found = {
            author.name: [book.year for book in Book.select(author=author).order_by(Book.year).stream(2)]
            for author in Author.select().stream(2)
        }
        assert found == {f"author {number}": list(range(number, BOOKS, 5)) for number in range(5)}
        assert cursors(db) == []


def test_a_flush_that_fails_on_the_way(db, library):
    """126. A session that has lost its transaction takes no further step; after rollback() the stream is over."""
    with db_session:
        library.Card(id=77, book=library.Book.get(year=1))
    with db_session:
        books = stream(library)
        library.Card(id=77, book=next(books))
        with pytest.raises(TransactionIntegrityError):
            flush()
        with pytest.raises(SessionDoomed, match="rolled back because of TransactionIntegrityError"):
            next(books)
        rollback()
        assert list(books) == []
        assert [book.year for book in stream(library)] == YEARS


def test_a_hook_may_stream(db):
    """126. A hook of a flush may read a stream, and what it changes is saved."""

    class Note(db.Entity):
        text = Required(str)
        number = Required(int, default=0)

        def before_insert(self):
            self.number = sum(1 for _ in Note.select().stream(2))

        def after_insert(self):
            for note in Note.select(Note.number < 2).stream(2):
                note.text += "!"

    db.generate_mapping(create_tables=True)
    with db_session:
        for text in "abc":
            Note(text=text)
            flush()
    assert rows(db, "SELECT text, number FROM note ORDER BY id") == [("a!!!", 0), ("b!!", 1), ("c", 2)]


# --- inner scopes -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [db_session, savepoint, lambda: db_session(nested="savepoint")])
def test_inner_scopes_on_the_way(db, library, inner):
    """126. Inner scopes may begin and end between the steps, well or not; the stream goes on."""
    with db_session:
        seen = []
        for book in stream(library, 3):
            seen.append(book.year)
            with inner():
                book.title = "inner"
            if book.year % 3 == 0:
                with pytest.raises(Odd), inner():
                    book.title = "undone"
                    flush()
                    raise Odd
        assert seen == YEARS
    assert rows(db, "SELECT count(*) FROM book WHERE title = 'inner'") == [BOOKS]


@pytest.mark.parametrize("writes", [False, True])
def test_steps_within_an_inner_scope_that_fails(db, library, writes):
    """126. Steps that were taken in an inner scope are taken: undoing it does not turn the cursor back."""
    with db_session:
        library.Author(name="outer").flush()
        books = stream(library, 3)
        seen = [next(books).year]
        with pytest.raises(Odd), db_session:
            if writes:
                library.Author(name="inner").flush()
            seen += [next(books).year for _ in range(9)]
            raise Odd
        seen += [book.year for book in books]
        assert seen == YEARS
    assert rows(db, "SELECT name FROM author WHERE id > 5") == ["outer"]


@pytest.mark.parametrize("is_open", [False, True])
def test_a_stream_of_an_inner_scope_that_fails(db, library, is_open):
    """126. A cursor that was opened in an inner scope is undone with it."""
    with db_session:
        if is_open:
            library.Author(name="outer").flush()
        with pytest.raises(Odd), db_session:
            books = stream(library, 3)
            next(books)
            raise Odd
        with pytest.raises(InvalidRequestError, match="the inner db_session that it was opened in has failed"):
            next(books)
        assert [book.year for book in stream(library, 3)] == YEARS
        assert cursors(db) == []


@pytest.mark.parametrize("is_open", [False, True])
def test_a_stream_of_an_inner_scope_that_ends_well(db, library, is_open):
    """126. One that was opened in an inner scope that has ended well goes on, until the outer one fails."""
    with db_session:
        if is_open:
            library.Author(name="outer").flush()
        with pytest.raises(Odd), db_session:
            with db_session:
                books = stream(library, 3)
                assert next(books).year == 0
            assert next(books).year == 1
            assert [book.year for book in itertools.islice(books, 5)] == [2, 3, 4, 5, 6]
            raise Odd
        with pytest.raises(InvalidRequestError, match="the inner db_session that it was opened in has failed"):
            next(books)
        assert len(list(stream(library))) == BOOKS


def test_an_independent_scope_on_the_way(db, library):
    """126. A scope of its own commits on its own, between the steps; the stream is not its business."""
    with db_session:
        seen = []
        for book in stream(library, 3):
            seen.append(book.year)
            with db_session(nested="independent"):
                library.Author(name=f"for {book.year}")
                assert library.Book.get(year=book.year) is not book
        assert seen == YEARS
        assert rows(db, "SELECT count(*) FROM author") == [5 + BOOKS]
        commit()
    assert rows(db, "SELECT count(*) FROM author") == [5 + BOOKS]
