"""126. Streams that lock: each batch is locked when it comes, and shows what the locked rows hold."""

import gc
import threading

import pytest

from dbsession import (
    InvalidRequestError,
    LockNotAvailable,
    OptimisticCheckError,
    PrimaryKey,
    Required,
    commit,
    db_session,
    flush,
    rollback,
)
from dbsession.session.transaction import Phase
from tests.observing import elsewhere, rows, sent
from tests.session.library import BATCH, BOOKS, DATABASES, alive, change_elsewhere, make_library

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)

YEARS = list(range(BOOKS))


@pytest.fixture
def library(db):
    return make_library(db)


def stream(library, **options):
    return library.Book.select().order_by(library.Book.year).for_update(**options).stream(BATCH)


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


def try_to_lock(library, year):
    """Lock the book of *year* elsewhere; False if somebody else has the lock."""
    try:
        elsewhere(db_session(lambda: library.Book.get_for_update(year=year, nowait=True)))
    except LockNotAvailable:
        return False
    return True


def test_what_has_come_is_locked(db, library):
    """126, 93. What has come is locked until the transaction ends; on SQLite that is the whole database."""
    with db_session as session:
        books = stream(library)
        assert try_to_lock(library, 3)
        assert next(books).year == 0
        assert not try_to_lock(library, 3)
        assert try_to_lock(library, 20) is is_postgres(db)
        assert [book.year for book in books] == YEARS[1:]
        assert not try_to_lock(library, 20)
        assert session._core.unit(db).transaction.phase is Phase.OPEN
    assert try_to_lock(library, 3)


def test_what_it_costs(db, library):
    """126. PostgreSQL takes two round trips for a batch: one to fetch it, one to lock it."""
    with sent(db) as spent, db_session:
        assert len(list(stream(library))) == BOOKS
    assert spent.round_trips == (6 if is_postgres(db) else 3) + 1
    assert spent.transactions == 1


def test_the_locked_row_counts(db, library):
    """126, 93. Objects show what the locked rows hold, whatever was read before, or when the cursor was opened."""
    if not is_postgres(db):
        pytest.skip("on SQLite nobody else can write meanwhile")
    with db_session:
        known = library.Book.get(year=15)
        assert (known.title, known.text) == ("book 15", "once")
        books = stream(library)
        next(books)
        change_elsewhere(library, 15, title="theirs", text="theirs")
        change_elsewhere(library, 16, title="theirs")
        found = {book.year: book for book in books}
        assert found[15] is known
        assert (known.title, known.text, found[16].title) == ("theirs", "theirs", "theirs")
        known.title = "mine"
    assert rows(db, "SELECT title FROM book WHERE year IN (15, 16) ORDER BY year") == ["mine", "theirs"]


def test_rows_that_do_not_fit_any_more(db, library):
    """126. A row that has changed so that it does not fit, or is gone, is left out when it is to be locked."""
    if not is_postgres(db):
        pytest.skip("on SQLite nobody else can write meanwhile")
    Book = library.Book
    with db_session:
        books = Book.select(Book.title != "theirs").order_by(Book.year).for_update().stream(BATCH)
        next(books)
        change_elsewhere(library, 15, title="theirs")
        elsewhere(db_session(lambda: Book.get(year=16).delete()))
        assert [book.year for book in books] == [*range(1, 15), *range(17, BOOKS)]


def test_what_the_session_has_changed_since_comes_too(db, library):
    """126. A row that this session has changed since is locked already, and comes as it is now."""
    with db_session:
        seen = []
        for book in stream(library):
            if book.year == 2:
                library.Book.get(year=20).title = "mine"
                library.Book.get(year=21).delete()
                flush()
            seen.append((book.year, book.title))
        assert seen == [(year, "mine" if year == 20 else f"book {year}") for year in YEARS if year != 21]


def test_changes_of_locked_rows_are_saved(db, library):
    """126, 89. What is locked can be changed by nobody else, and is saved."""
    with db_session:
        for book in stream(library):
            book.title = f"{book.title}!"
    assert rows(db, "SELECT title FROM book ORDER BY year") == [f"book {year}!" for year in YEARS]


def test_an_unsaved_change_of_what_somebody_else_has_changed(db, library):
    """126, 93. A lock that shows another value under an unsaved change is a conflict."""
    if not is_postgres(db):
        pytest.skip("on SQLite nobody else can write meanwhile")
    with db_session:
        known = library.Book.get(year=15)
        books = stream(library)
        next(books)
        change_elsewhere(library, 15, title="theirs")
        assert known.title == "book 15"
        known.title = "mine"
        with pytest.raises(OptimisticCheckError):
            list(books)
        rollback()


def test_nowait_and_skip_locked(db, library):
    """126, 94. A row that is locked elsewhere is an error, or left out, when its batch is locked."""
    locked, release = threading.Event(), threading.Event()

    @db_session
    def hold():
        assert library.Book.get_for_update(year=15)
        locked.set()
        assert release.wait(60)

    holder = threading.Thread(target=hold)
    holder.start()
    try:
        assert locked.wait(60)
        with db_session:
            if not is_postgres(db):
                with pytest.raises(LockNotAvailable):
                    next(stream(library, nowait=True))
                return
            seen = []
            with pytest.raises(LockNotAvailable):
                seen += [book.year for book in stream(library, nowait=True)]
            rollback()
            found = [book.year for book in stream(library, skip_locked=True)]
            assert found == [year for year in YEARS if year != 15]
    finally:
        release.set()
        holder.join()


def test_what_is_left_out_is_let_go_of(db, library):
    """126. Rows that were fetched, and are left out when they are to be locked, leave nothing in memory."""
    if not is_postgres(db):
        pytest.skip("on SQLite nobody else can write meanwhile")
    Book = library.Book
    with db_session:
        books = Book.select(Book.title != "theirs").order_by(Book.year).for_update().stream(3)
        kept = next(books)
        elsewhere(db_session(lambda: Book.select(Book.year > 3).update(title="theirs")))
        assert [book.year for book in books] == [1, 2, 3]  # which were locked with the first
        gc.collect()
        assert alive(Book) == 1
        assert kept.year == 0


def test_commit_gives_the_locks_back(db, library):
    """126. commit() ends the transaction with its locks, and the stream with it."""
    with db_session:
        books = stream(library)
        next(books)
        commit()
        assert try_to_lock(library, 3)
        with pytest.raises(InvalidRequestError, match="has ended the transaction"):
            next(books)


def test_keys_of_several_parts_and_subclasses(db):
    """126. Rows are locked by whatever key they have, of whatever class they are."""

    class Place(db.Entity):
        row = Required(int)
        column = Required(int)
        PrimaryKey(row, column)
        name = Required(str)

    class Seat(Place):
        price = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        for row in range(3):
            for column in range(4):
                Seat(row=row, column=column, name="seat", price=row) if row else Place(
                    row=row, column=column, name="place"
                )
    with db_session:
        found = list(Place.select().order_by(Place.row, Place.column).for_update().stream(5))
        assert [(place.row, place.column) for place in found] == [(r, c) for r in range(3) for c in range(4)]
        assert [type(place) for place in found] == [Place] * 4 + [Seat] * 8
        assert sum(seat.price for seat in Seat.select(Seat.price > 1).for_update().stream(3)) == 8
