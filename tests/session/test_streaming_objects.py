"""126. The objects of a stream: changed ones are saved, kept ones stay the objects of their rows, known ones know better."""

import gc
import weakref

import pytest

from dbsession import (
    OptimisticCheckError,
    UnrepeatableReadError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import rows, sent
from tests.session.library import BATCH, BOOKS, DATABASES, alive, change_elsewhere, make_library

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)


class Odd(Exception):
    pass


@pytest.fixture
def library(db):
    return make_library(db)


def stream(library):
    return library.Book.select().order_by(library.Book.year).stream(BATCH)


def titles(db):
    return rows(db, "SELECT title FROM book ORDER BY year")


# --- changes ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("flushes", [False, True])
def test_what_is_changed_is_saved(db, library, flushes):
    """126. A change is saved though nobody holds the object any more, be it flushed on the way or not."""
    with db_session:
        for book in stream(library):
            if book.year % 3 == 0:
                book.title = f"changed {book.year}"
            if flushes and book.year in (5, 12, 13):
                flush()
        del book
        gc.collect()
    assert titles(db) == [f"book {year}" if year % 3 else f"changed {year}" for year in range(BOOKS)]


def test_changes_in_place_are_saved(db, library):
    """126. So is a change within a Json value, and one of a collection."""
    with db_session:
        reader = library.Reader(name="reader")
        for book in stream(library):
            if book.year % 5 == 0:
                book.tags["seen"] = True
                book.readers.add(reader)
        del book
    with db_session:
        assert [book.year for book in library.Book.select().order_by(library.Book.id) if "seen" in book.tags] == [
            0,
            5,
            10,
            15,
            20,
        ]
        assert sorted(book.year for book in library.Reader.get().books) == [0, 5, 10, 15, 20]


def test_what_is_deleted_is_gone(db, library):
    """126. Objects can be deleted as they come."""
    with db_session:
        for book in stream(library):
            if book.year % 2:
                book.delete()
            if book.year == 15:
                flush()
    assert titles(db) == [f"book {year}" for year in range(0, BOOKS, 2)]


def test_changes_of_a_stream_can_be_rolled_back(db, library):
    """126. After rollback() the changed objects that the program holds show the database's values."""
    with db_session:
        kept = []
        for book in stream(library):
            book.title = "changed"
            kept.append(book)
        flush()
        rollback()
        assert [book.title for book in kept] == [f"book {year}" for year in range(BOOKS)]
        assert all(library.Book[book.id] is book for book in kept)
    assert titles(db) == [f"book {year}" for year in range(BOOKS)]


# --- one object for each row ------------------------------------------------------------------------------


def test_kept_objects_stay_the_objects_of_their_rows(db, library):
    """126. Whatever brings the row of an object that the program holds brings that object: get, fetch, a stream."""
    with db_session:
        kept = {book.year: book for book in stream(library) if book.year % 4 == 0}
        gc.collect()
        assert alive(library.Book) == len(kept)
        assert library.Book[kept[4].id] is kept[4]
        assert library.Book.get(year=8) is kept[8]
        again = {book.year: book for book in stream(library)}
        assert all(again[year] is book for year, book in kept.items())
        fetched = {book.year: book for book in library.Book.select()}
        assert fetched == again


def test_a_reference_leads_to_the_kept_object(db, library):
    """126. So does a reference to it."""
    with db_session:
        card = library.Card(book=library.Book.get(year=3))
        flush()
        key = card.id
    with db_session:
        kept = [book for book in stream(library) if book.year == 3]
        gc.collect()
        assert library.Card[key].book is kept[0]
        author = library.Author.get(name="author 3")
        assert kept[0] in author.books
        assert any(book is kept[0] for book in author.books)


def test_what_nobody_holds_is_loaded_again(db, library):
    """126. A row whose object is gone makes a new one, with one statement."""
    with db_session:
        list_of_keys = [book.id for book in stream(library)]
        gc.collect()
        with sent(db) as spent:
            assert library.Book[list_of_keys[3]].year == 3
        assert spent.statements == 1


def test_objects_that_were_known_stay_known(db, library):
    """126. A stream lets go of what it has brought, and of nothing else."""
    with db_session:
        known = library.Book.get(year=3).id
        new = library.Book(title="new", year=BOOKS)
        flush()
        assert len(list(stream(library))) == BOOKS + 1
        gc.collect()
        with sent(db) as spent:
            assert library.Book[known].year == 3
            assert library.Book[new.id] is new
        assert spent.statements == 0


def test_a_kept_object_that_is_loaded_again_is_known_again(db, library):
    """126. What is asked for by key, or fetched, is in the session like anything else, whatever a stream let go."""
    with db_session:
        kept = [book for book in stream(library) if book.year == 3]
        key, reference = kept[0].id, weakref.ref(kept[0])
        library.Book.get(year=3)
        del kept
        gc.collect()
        assert reference() is not None
        with sent(db) as spent:
            assert library.Book[key] is reference()
        assert spent.statements == 0


def test_a_kept_object_that_is_rolled_back_and_deleted(db, library):
    """126. What has become of a kept object holds for its row: deleted, it is not found any more."""
    Book = library.Book
    with db_session:
        kept = [book for book in stream(library) if book.year == 3]
        key = kept[0].id
        kept[0].title = "changed"
        flush()
        rollback()
        assert kept[0].title == "book 3"
        kept[0].delete()
        flush()
        assert Book.get(id=key) is None
        db.execute("INSERT INTO book (id, title, year) VALUES (%s, 'again', 3)", [key])
        again = Book.get(year=3)
        assert again is not kept[0]
        assert again.title == "again"


def test_a_filter_by_a_reference(db, library):
    """126. Objects that are made of keys, for a reference that a stream is filtered by, go as well."""
    Author, Book = library.Author, library.Book
    with db_session as session:
        assert len(list(Book.select(Book.author != None).stream(BATCH))) == BOOKS  # noqa: E711
        gc.collect()
        assert alive(Author) == 0
        assert not session._core.unit(db).identity.hollow_of(Author._mapping_)
        kept = [book.author for book in Book.select(Book.author != None).order_by(Book.year).stream(BATCH)]  # noqa: E711
        gc.collect()
        assert alive(Author) == 5
        assert {author.name for author in kept} == {f"author {number}" for number in range(5)}


# --- what was read ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_kept_object_is_checked_when_it_is_changed(db, library, is_committed):
    """126, 89. What was read of an object before the stream let go of it is compared when it is written."""
    with db_session:
        commit() if is_committed else None
        kept = [book for book in stream(library) if book.title and book.year < 5]
        gc.collect()
        change_elsewhere(library, 2, title="theirs")
        kept[2].year = 100
        with pytest.raises(OptimisticCheckError, match="title"):
            flush()
        rollback()
    with db_session:
        kept = [book for book in stream(library) if book.id]
        change_elsewhere(library, 3, title="theirs")
        kept[3].year = 200  # nothing else was read of it
    assert rows(db, "SELECT year FROM book WHERE title = 'theirs' ORDER BY year") == [2, 200]


@pytest.mark.parametrize("is_committed", [False, True])
def test_a_second_read_of_a_kept_object(db, library, is_committed):
    """126. A re-read that shows another value than the program has read of a kept object is an error, as ever."""
    with db_session:
        if is_committed:
            library.Author(name="new")
            commit()
        kept = [book for book in stream(library) if book.title and book.year < 5]
        gc.collect()
        change_elsewhere(library, 2, title="theirs", year=102)
        with pytest.raises(UnrepeatableReadError, match="was read as 'book 2', but the row has 'theirs' now"):
            library.Book.select().fetch()
        del kept


def test_a_filter_counts_as_read(db, library):
    """126. What a stream is filtered by is compared when its objects are written."""
    with db_session:
        for book in library.Book.select(library.Book.title == "book 3").stream():
            change_elsewhere(library, 3, title="theirs")
            book.text = "mine"
            with pytest.raises(OptimisticCheckError, match="title"):
                flush()
            break
        rollback()


def test_a_row_that_was_read_before_the_stream(db, library):
    """126. A stream that shows another value than the program has read before is an error in that step."""
    with db_session:
        book = library.Book.get(year=15)
        assert book.title == "book 15"
        change_elsewhere(library, 15, title="theirs")
        with pytest.raises(UnrepeatableReadError, match="was read as 'book 15', but the row has 'theirs' now"):
            for _ in stream(library):
                pass
        assert library.Book.get(year=14).title == "book 14"


# --- rollback ---------------------------------------------------------------------------------------------


def test_kept_objects_of_a_transaction_that_is_rolled_back(db, library):
    """126. What a stream has shown of changes that are rolled back is not shown any more."""
    Book = library.Book
    with db_session:
        Book.select(Book.year < 20).update(title="in bulk")
        kept = list(stream(library))
        gc.collect()
        assert {book.title for book in kept[:20]} == {"in bulk"}
        rollback()
        assert [book.title for book in kept] == [f"book {year}" for year in range(BOOKS)]
        assert all(Book[book.id] is book for book in kept)


def test_kept_objects_of_an_inner_scope_that_fails(db, library):
    """126. The same, where it is an inner scope that has changed them."""
    Book = library.Book
    with db_session:
        before = list(Book.select(Book.year < 5).order_by(Book.year).stream(2))
        with pytest.raises(Odd), db_session:
            Book.select(Book.year >= 15).update(title="in bulk")
            kept = list(stream(library))
            gc.collect()
            assert kept[20].title == "in bulk"
            raise Odd
        assert [book.title for book in kept] == [f"book {year}" for year in range(BOOKS)]
        assert before == kept[:5]


def test_an_inner_scope_that_ends_well_leaves_it_to_the_outer_one(db, library):
    """126. What an inner scope has streamed is let go of, and put back, by the outer one as well."""
    Book = library.Book
    with pytest.raises(Odd), db_session:
        with pytest.raises(KeyError), db_session:
            with db_session:
                Book.select(Book.year >= 15).update(title="in bulk")
                kept = [book for book in stream(library) if book.year > 20]
            gc.collect()
            assert alive(Book) <= len(kept) + 1
            raise KeyError
        assert [book.title for book in kept] == [f"book {year}" for year in range(21, BOOKS)]
        raise Odd
