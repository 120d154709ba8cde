"""126. Streams in a session that knows better: what was changed, deleted or loaded behind the back of the cursor."""

import gc

import pytest

from dbsession import (
    CacheIndexError,
    DatabaseSessionIsOver,
    db_session,
    flush,
    rollback,
    select,
)
from tests.observing import elsewhere, rows, sent
from tests.session.library import BATCH, BOOKS, DATABASES, alive, change_elsewhere, make_library

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)


@pytest.fixture
def library(db):
    return make_library(db)


def stream(library):
    return library.Book.select().order_by(library.Book.year).stream(BATCH)


def titles(db):
    return rows(db, "SELECT title FROM book ORDER BY year")


# --- what the session knows better ------------------------------------------------------------------------


def test_it_shows_what_was_there_when_it_was_opened(db, library):
    """126. Rows that others insert, change or delete meanwhile come as they were; a second stream shows what is new."""
    with db_session:
        books = stream(library)
        assert next(books).title == "book 0"

        @db_session
        def change():
            library.Book(title="new", year=BOOKS)
            library.Book.get(year=20).title = "theirs"
            library.Book.get(year=21).delete()

        elsewhere(change)
        assert [book.title for book in books] == [f"book {year}" for year in range(1, BOOKS)]
    with db_session:
        years = [*range(21), *range(22, BOOKS + 1)]
        assert [book.year for book in stream(library)] == years


def test_what_was_saved_since_is_newer(db, library):
    """126. A row that this session has changed and flushed since then comes as it is now, not as the cursor has it."""
    with db_session:
        for book in stream(library):
            if book.year == 2:
                later = library.Book.get(year=20)
                later.title = "mine"
                flush()
            if book.year == 20:
                assert book is later
            assert book.title == ("mine" if book.year == 20 else f"book {book.year}")
        later.text = "mine, too"
    assert rows(db, "SELECT title, text FROM book WHERE year = 20") == [("mine", "mine, too")]


def test_what_was_loaded_since_is_newer(db, library):
    """126. A row that was loaded since then, after somebody else has changed it, stays as it was loaded."""
    with db_session:
        books = stream(library)
        next(books)
        change_elsewhere(library, 20, title="theirs")
        loaded = library.Book.get(year=20)
        if db.backend.dialect.name == "postgresql":  # SQLite reads nothing newer while it is about to read the rest
            assert loaded.title == "theirs"
        assert [book.title for book in books if book is loaded] == [loaded.title]


def test_an_unsaved_expression_that_rests_on_something_newer(db, library):
    """126. An SQL expression that was assigned to what was loaded since then rests on that."""
    Book = library.Book
    with db_session:
        books = stream(library)
        next(books)
        change_elsewhere(library, 20, year=50)
        loaded = Book.get(title="book 20")
        before = loaded.year  # 20 on SQLite in a file, which reads nothing newer meanwhile
        loaded.year = Book.year + 100
        assert loaded in list(books)
        if before == 50:
            assert loaded.year == 150
        rollback()


def test_unsaved_changes_stay(db, library):
    """126. A row with an unsaved change brings its object as the program left it."""
    Book = library.Book
    with db_session:
        changed, counted, keyless = Book.get(year=20), Book.get(year=21), Book.get(year=22)
        books = stream(library)
        next(books)
        changed.title = "mine"
        counted.year = Book.year + 100
        keyless.text = "mine"
        found = {book.id: book for book in books}
        assert found[changed.id] is changed
        assert found[counted.id] is counted
        assert changed.title == "mine"
        assert counted.year == 121
    assert rows(db, "SELECT title, year, text FROM book WHERE id BETWEEN 21 AND 23 ORDER BY id") == [
        ("mine", 20, "once"),
        ("book 21", 121, "once"),
        ("book 22", 22, "mine"),
    ]


@pytest.mark.parametrize("how", ["delete", "delete and flush", "in bulk"])
def test_what_was_deleted_since_does_not_come(db, library, how):
    """126. A row that this session has deleted since does not come as an object that lives."""
    Book = library.Book
    with db_session:
        books = stream(library)
        next(books)
        if how == "in bulk":
            Book.select(Book.year.between(8, 23)).delete(bulk=True)
        else:
            for book in Book.select(Book.year.between(8, 23)):
                book.delete()
            if "flush" in how:
                flush()
        assert [book.year for book in books] == [*range(1, 8), 24]
    assert titles(db) == [f"book {year}" for year in [*range(8), 24]]


@pytest.mark.parametrize("flushes", [False, True])
@pytest.mark.parametrize("batch", [1, 1000])
def test_what_was_deleted_does_not_come_from_the_same_batch(db, library, flushes, batch):
    """126. It makes no difference whether a row that is deleted has been loaded with others, or is to be loaded."""
    Book = library.Book
    with db_session:
        seen = []
        for book, year in select((b, b.year) for b in Book).order_by(2).stream(batch):
            seen.append(year)
            if year % 2 == 0 and year < BOOKS - 1:
                Book.get(year=year + 1).delete()
                flush() if flushes else None
            assert book.title
        assert seen == list(range(0, BOOKS, 2))


def test_what_was_made_since_does_not_come(db, library):
    """126. A new object does not come, saved or not."""
    with db_session:
        books = stream(library)
        next(books)
        library.Book(title="new", year=50)
        flush()
        library.Book(title="newer", year=51)
        assert [book.year for book in books] == list(range(1, BOOKS))


def test_an_object_of_which_only_the_key_was_known(db, library):
    """126. A row fills the object that a reference has made of its key."""
    with db_session:
        library.Card(book=library.Book.get(year=3))
    with db_session:
        card = library.Card.get()
        book = card.book
        with sent(db) as spent:
            assert [found.title for found in stream(library) if found is book] == ["book 3"]
            assert book.title == "book 3"
        assert spent.round_trips <= 4


# --- what follows objects that nobody but the program holds -----------------------------------------------


def test_kept_children_follow_a_deleted_parent(db, library):
    """126. A kept object whose parent is deleted refers to nothing, as its row does."""
    with db_session:
        kept = [book for book in stream(library) if book.year == 3]
        gc.collect()
        library.Author.get(name="author 3").delete()
        flush()
        assert kept[0].author is None
    assert rows(db, "SELECT count(*) FROM book WHERE author IS NULL") == [5]


def test_kept_objects_leave_collections(db, library):
    """126. A kept object whose loaded collection has a deleted one does without it."""
    with db_session:
        reader = library.Reader(name="reader")
        for book in library.Book.select():
            book.readers.add(reader)
    with db_session:
        kept = [book for book in stream(library) if len(book.readers) and book.year == 3]
        gc.collect()
        library.Reader.get().delete()
        assert len(kept[0].readers) == 0
        flush()
        assert len(kept[0].readers) == 0


def test_a_kept_end_of_a_one_to_one_relation(db, library):
    """126. A kept object that refers to another one is found when that is referred to by somebody else."""
    with db_session:
        library.Card(book=library.Book.get(year=3))
    with db_session:
        kept = list(library.Card.select().stream())
        gc.collect()
        book = library.Book.get(year=3)
        with pytest.raises(CacheIndexError, match=r"has Card\[1\] as its card already"):
            library.Card(book=book)
        assert book.card is kept[0]


def test_one_to_one_relations_of_every_batch(db, library):
    """126. Who refers to whom is known of the objects of each batch anew, and keeps none of them in memory."""
    Card = library.Card
    with db_session:
        for book in library.Book.select():
            Card(book=book)
    del book
    gc.collect()
    with db_session:
        for card in Card.select().order_by(Card.id).stream(2):
            with pytest.raises(CacheIndexError, match="as its card already"):
                Card(book=card.book)
        del card
        gc.collect()
        assert alive(Card) <= 1
        assert len(list(Card.select().stream(2))) == BOOKS


def test_a_bulk_update_reaches_kept_objects(db, library):
    """126, 125. An UPDATE for many rows is seen by objects that only the program holds."""
    Book = library.Book
    with db_session:
        kept = [book for book in stream(library) if book.title and book.year < 3]
        gc.collect()
        Book.select(Book.year == 1).update(title="in bulk")
        assert [book.title for book in kept] == ["book 0", "in bulk", "book 2"]


def test_a_strict_scope_takes_its_kept_objects_away(db, library):
    """126. A strict scope leaves nothing but keys of objects, also of those that only the program holds."""
    with db_session(strict=True):
        kept = [book for book in stream(library) if book.title and book.year < 3]
        gc.collect()
    assert [book.get_pk() for book in kept] == [1, 2, 3]
    with pytest.raises(DatabaseSessionIsOver):
        _ = kept[0].title


def test_kept_objects_read_after_the_scope(db, library):
    """126, 120. What was loaded of a kept object can be read after the scope."""
    with db_session:
        kept = list(stream(library))
    assert [book.title for book in kept] == [f"book {year}" for year in range(BOOKS)]
    with pytest.raises(DatabaseSessionIsOver):
        _ = kept[0].text
