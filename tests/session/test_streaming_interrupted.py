"""126. Streams that somebody else steps, drops or cuts short: threads, interrupts, lost connections, generators."""

import itertools

import pytest

from dbsession import ConnectionLost, DatabaseSessionIsOver, ScopeOwnershipError, SessionDoomed, db_session, rollback
from dbsession.backends.statements import Kind
from tests.observing import elsewhere, rows, sent
from tests.scope.test_interrupts import interrupted
from tests.session.library import BATCH, BOOKS, DATABASES, make_library

pytestmark = pytest.mark.parametrize("db_url", DATABASES, indirect=True)

YEARS = list(range(BOOKS))


@pytest.fixture
def library(db):
    return make_library(db)


def stream(library, batch=BATCH):
    return library.Book.select().order_by(library.Book.year).stream(batch)


def is_postgres(db):
    return db.backend.dialect.name == "postgresql"


def cursors(db):
    """Return the cursors that are open in the session."""
    return db.select("SELECT name FROM pg_cursors WHERE name LIKE 'dbs%'") if is_postgres(db) else []


# --- threads, tasks, interrupts ---------------------------------------------------------------------------


def test_another_thread(db, library):
    """126, 114. A stream is stepped by the thread that its scope belongs to: in the middle of a batch, too."""
    with db_session:
        books = stream(library)
        next(books)
        with pytest.raises(ScopeOwnershipError, match="belongs to thread 'MainThread'"):
            elsewhere(next, books)
        assert list(books) == []
        assert [book.year for book in stream(library)] == YEARS


def test_a_session_that_is_handed_on(db, library):
    """126. With its session a stream is handed on."""
    handed = []

    def go_on():
        handed[0].adopt()
        handed.append([book.year for book in handed[1]])

    with db_session as session:
        books = stream(library, 3)
        next(books)
        handed += [session, books]
        elsewhere(go_on)
        session.adopt()
        assert handed[2] == YEARS[1:]


def test_a_stream_that_another_thread_drops(db, library):
    """126. A stream that is dropped elsewhere, by the garbage collector for instance, disturbs nobody."""
    with db_session:
        held = [stream(library)]
        next(held[0])
        elsewhere(held.clear)
        assert [book.year for book in stream(library)] == YEARS
        library.Author(name="new")
    with db_session:
        assert cursors(db) == []


def test_an_interrupt_between_the_steps(db, library):
    """126. An interrupt in the loop leaves it like any error."""
    with pytest.raises(KeyboardInterrupt), db_session:
        for book in stream(library):
            book.title = "lost"
            raise KeyboardInterrupt
    with db_session:
        assert [book.title for book in stream(library)][:1] == ["book 0"]
        assert cursors(db) == []


@pytest.mark.parametrize("behind", [False, True], ids=["before", "behind"])
@pytest.mark.parametrize("step", [1, 2])
def test_an_interrupt_of_a_step(db, library, behind, step):
    """126, 13. An interrupt while a batch is fetched loses the transaction; the session is told so."""
    with db_session:
        books = stream(library, 5)
        if step == 2:
            assert len(list(itertools.islice(books, 6))) == 6
        with interrupted(behind=behind, kind=Kind.CURSOR), pytest.raises(KeyboardInterrupt):
            next(books)
        with pytest.raises(SessionDoomed):
            library.Book.select().first()
        assert list(books) == []
        rollback()
        assert [book.year for book in stream(library)] == YEARS


def test_a_lost_connection(db, library):
    """126, 108. A connection that breaks on the way ends the stream and the transaction; work can be retried."""
    if not is_postgres(db):
        pytest.skip("there is no connection to lose")

    def kill():
        pid = db.get("SELECT pg_backend_pid()")
        elsewhere(db_session(lambda: db.get("SELECT pg_terminate_backend(%s, 5000)", [pid])))

    runs = []

    @db_session(retry=1)
    def read():
        runs.append([])
        for book in stream(library, 5):
            runs[-1].append(book.year)
            if book.year == 7 and len(runs) == 1:
                kill()

    read()
    assert runs == [list(range(11)), YEARS]
    with pytest.raises(ConnectionLost), db_session:
        for _book in stream(library, 5):
            kill()


# --- generators -------------------------------------------------------------------------------------------


def test_a_generator_that_streams(db, library):
    """126, 12. A generator with a scope of its own streams to its consumer, which is in another scope."""

    @db_session
    def each():
        for book in stream(library, 3):
            book.text = "read"
            yield book.title

    with db_session:
        seen = []
        for title in each():
            seen.append(title)
            assert library.Book.get(title=title).title == title
    assert seen == [f"book {year}" for year in YEARS]
    assert rows(db, "SELECT count(*) FROM book WHERE text = 'read'") == [BOOKS]


def test_a_generator_that_is_closed_on_the_way(db, library):
    """126, 12. Closed early, it gives up its cursor and its connection."""

    @db_session
    def each():
        for book in stream(library, 3):
            yield book.title

    for _ in range(3):
        titles = each()
        assert next(titles) == "book 0"
        titles.close()
    with sent(db) as spent, db_session:
        assert cursors(db) == []
        list(stream(library))
    assert spent.connections == 0


def test_a_generator_within_the_scope(db, library):
    """126. A plain generator may stream in the scope of whoever steps it, and is over with that."""

    def each():
        yield from stream(library, 3)

    with db_session:
        books = each()
        assert [next(books).year for _ in range(5)] == [0, 1, 2, 3, 4]
    with pytest.raises(DatabaseSessionIsOver):
        next(books)


@pytest.mark.parametrize("writer", ["thread", "independent"])
def test_nobody_waits_for_a_stream(db, library, writer):
    """126. While a stream is under way others can write: it holds no lock, on no database."""
    with db_session:
        books = stream(library, 3)
        next(books)

        def write():
            library.Book(title="theirs", year=100)

        if writer == "thread":
            elsewhere(db_session(write))
        else:
            db_session(nested="independent")(write)()
        assert [book.year for book in books] == YEARS[1:]
