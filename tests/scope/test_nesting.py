"""What an inner scope may ask for: more than the outer one has, a session of its own, or nothing to change."""

from types import SimpleNamespace

import pytest

from dbsession import (
    Database,
    LockNotAvailable,
    NestedScopeError,
    Required,
    Set,
    TransactionError,
    commit,
    db_session,
    flush,
    savepoint,
)
from dbsession.scope import stack
from tests.observing import rows, sent
from tests.recording import recorded


class Odd(Exception):
    pass


def declare(db):
    class Page(db.Entity):
        text = Required(str, unique=True)
        reads = Required(int, default=0)
        tags = Set("Tag")

    class Tag(db.Entity):
        pages = Set(Page)

    db.generate_mapping(create_tables=True)
    with db_session:
        Page(text="old")
        Tag()
    return SimpleNamespace(db=db, Page=Page, Tag=Tag)


@pytest.fixture
def book(db):
    return declare(db)


@pytest.fixture
def file_book(sqlite_file_url):
    db = Database(sqlite_file_url)
    yield declare(db)
    db.close()


def texts(book):
    return set(rows(book.db, "SELECT text FROM page"))


# --- asking for more ---------------------------------------------------------------------------------------------

MORE = [
    {"immediate": True},
    {"optimistic": False},
    {"serializable": True},
    {"isolation": "repeatable read"},
    {"isolation": "serializable"},
    {"statement_timeout": 60},
    {"lock_timeout": 60.5},
    {"serializable": True, "read_only": True, "deferrable": True},
]


def name_of(options):
    return "-".join(options)


def run(form, scope, work):
    """Run *work* in *scope*, in the `with` form or in that of the decorator."""
    if form == "decorator":
        return scope(work)()
    with scope:
        return work()


@pytest.mark.parametrize("options", MORE, ids=name_of)
@pytest.mark.parametrize("form", ["block", "decorator"])
def test_an_unused_outer_scope_is_upgraded(book, form, options):
    """6. As long as nothing was sent the outer scope takes over what an inner one asks for, and keeps it."""
    with recorded() as alone, db_session(**options):
        book.Page.get(text="old")
    begin = [each.sql for each in alone if each.kind.name != "READ" and each.sql != "COMMIT"]
    with db_session:
        with recorded() as statements:
            run(form, db_session(**options), lambda: book.Page.get(text="old"))
        wanted = [sql.replace(" READ ONLY", "") for sql in begin]
        found = [each.sql for each in statements if each.kind.name not in {"READ", "SAVEPOINT"}]
        assert found and found[0].startswith("BEGIN")
        if "read_only" not in options:
            assert found == wanted
        with recorded() as statements:
            assert book.Page.get(text="none") is None
        assert not any(each.sql.startswith("BEGIN") for each in statements)  # it is the same transaction
        book.Page(text="new")
    assert "new" in texts(book)


@pytest.mark.parametrize("options", MORE, ids=name_of)
@pytest.mark.parametrize("form", ["block", "decorator"])
@pytest.mark.parametrize("uses", ["reads", "writes"])
def test_a_used_outer_scope_is_not(book, form, options, uses):
    """6. Later it is an error that names what was asked for, in both forms; nothing is run, and the outer scope goes on."""
    ran = []
    with db_session as session:
        book.Page.get(text="old").reads = 5
        if uses == "writes":
            flush()
        with sent(book.db) as spent, pytest.raises(NestedScopeError, match="has used the database") as caught:
            run(form, db_session(**options), lambda: ran.append(1))
        assert any(f"{name}={value!r}" in str(caught.value) for name, value in options.items())
        assert spent.statements == 0 and not ran
        assert stack.current_session() is session._core
        with pytest.raises(Odd), savepoint():
            book.Page(text="inner")
            raise Odd
        commit()
    assert rows(book.db, "SELECT text, reads FROM page") == [("old", 5)]


@pytest.mark.parametrize(
    ("outer", "inner"),
    [
        ({"serializable": True}, {"isolation": "read committed"}),
        ({"serializable": True}, {"isolation": "serializable"}),
        ({"isolation": "repeatable read"}, {"isolation": "repeatable read"}),
        ({"serializable": True}, {"optimistic": False}),
        ({"serializable": True}, {"immediate": True}),
        ({"optimistic": False}, {"immediate": True}),
        ({"statement_timeout": 5}, {"statement_timeout": 60}),
        ({"lock_timeout": 5}, {"lock_timeout": 5}),
        ({}, {"read_only": True}),
        ({"ddl": True}, {"ddl": True}),
    ],
)
def test_what_the_outer_scope_gives_already(book, outer, inner):
    """6. An inner scope that asks for no more than there is joins, whatever was sent before."""
    with db_session(**outer) as session:
        book.Page.get(text="old").reads = 5
        flush()
        with db_session(**inner) as joined:
            assert joined._core is session._core
            assert book.Page.get(text="old").reads == 5
    assert rows(book.db, "SELECT reads FROM page") == [5]


def test_ddl_within_a_scope_that_was_used(book):
    """6. A schema change asks for nothing special on PostgreSQL; SQLite would have had to switch foreign keys off."""

    def change():
        with db_session(ddl=True):
            book.db.execute("ALTER TABLE page ADD COLUMN extra INTEGER")

    with db_session:
        assert book.Page.get(text="old").reads == 0
        if book.db.backend.dialect.name == "sqlite":
            with pytest.raises(NestedScopeError, match="ddl=True"):
                change()
        else:
            change()
    if book.db.backend.dialect.name == "sqlite":
        with db_session:  # which has not been used
            change()
    assert rows(book.db, "SELECT extra FROM page") == [None]


# --- promising to change nothing -------------------------------------------------------------------------------------

CHANGES = {
    "new": lambda book: book.Page(text="new"),
    "changed": lambda book: setattr(book.old, "reads", 7),
    "set": lambda book: book.old.set(reads=7),
    "expression": lambda book: setattr(book.old, "reads", book.Page.reads + 1),
    "deleted": lambda book: book.old.delete(),
    "bulk": lambda book: book.Page.select(reads=0).delete(bulk=True),
    "bulk update": lambda book: book.Page.select(reads=0).update(reads=7),
    "insert by SQL": lambda book: book.Page.select_by_sql(
        "INSERT INTO page (text, reads) VALUES ('x', 1) RETURNING id"
    ),
    "raw": lambda book: book.db.execute("UPDATE page SET reads = 7"),
}


@pytest.mark.parametrize("depth", [1, 2])
@pytest.mark.parametrize("change", CHANGES)
def test_a_read_only_scope_changes_nothing(book, change, depth):
    """An inner scope with read_only refuses every change, also in scopes within it; the outer one may change everything."""
    with db_session:
        page = book.old = book.Page.get(text="old")
        with db_session(read_only=True):
            assert page.reads == 0 and book.Page.select().count() == 1
            if depth == 1:
                with pytest.raises(TransactionError, match="read_only=True"):
                    CHANGES[change](book)
            else:
                with db_session, pytest.raises(TransactionError, match="read_only=True"):
                    CHANGES[change](book)
            assert page.reads == 0
        flush()
        assert page.reads == 0
        page.reads = 3
    assert rows(book.db, "SELECT text, reads FROM page") == [("old", 3)]


def test_a_read_only_scope_sees_what_the_outer_one_has_changed(book):
    """Queries of a read-only inner scope send the outer one's changes, links and what follows from deletions as well."""
    with db_session:
        page, tag = book.Page.get(text="old"), book.Tag.select().first()
        page.reads = 5
        page.tags.add(tag)
        book.Page(text="new")
        with db_session(read_only=True):
            assert book.Page.select(reads=5).count() == 1
            assert book.Page.select().count() == 2
        page.delete()
        with db_session(read_only=True):
            assert book.Page.select().count() == 1
    assert texts(book) == {"new"}
    assert rows(book.db, 'SELECT count(*) FROM "page_tag"') == [0]


# --- independent -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_an_independent_scope_commits_by_itself(book, form):
    """Its own session, objects and commit: what it has saved stays, although the outer scope fails."""
    with pytest.raises(Odd), db_session as outer:
        page = book.Page.get(text="old")

        def work():
            assert stack.current_session() is not outer._core
            mine = book.Page.get(text="old")
            assert mine is not page
            mine.reads = 8
            book.Page(text="independent")

        run(form, db_session(nested="independent"), work)
        assert stack.current_session() is outer._core
        assert texts(book) == {"old", "independent"}
        book.Page(text="outer")
        raise Odd
    assert texts(book) == {"old", "independent"}
    assert rows(book.db, "SELECT reads FROM page WHERE text = 'old'") == [8]


def test_the_failure_of_an_independent_scope_is_its_own(book):
    """The outer scope's work is untouched by an independent one that fails, and by its rollback()."""
    with db_session:
        page = book.Page.get(text="old")
        page.reads = 4
        with pytest.raises(Odd), db_session(nested="independent"):
            book.Page(text="independent")
            raise Odd
        with db_session(nested="independent") as session:
            book.Page(text="independent")
            session.rollback()
        assert page.reads == 4
    assert rows(book.db, "SELECT text, reads FROM page") == [("old", 4)]


def test_scopes_within_an_independent_one_join_it(book):
    """Inside, other scopes join the independent one, may be undone, and leave its commit to it."""
    with pytest.raises(Odd), db_session:
        with db_session(nested="independent") as independent:
            book.Page(text="independent")
            with db_session as joined:
                assert joined._core is independent._core
                with pytest.raises(NestedScopeError):
                    commit()
            with pytest.raises(Odd), savepoint():
                book.Page(text="undone")
                raise Odd
            commit()
        raise Odd
    assert texts(book) == {"old", "independent"}


def test_an_independent_scope_has_its_own_connection(postgres_url):
    """Both have a transaction open at the same time, on PostgreSQL: two connections, and neither sees the other's work."""
    db = Database(postgres_url)
    book = declare(db)
    with db_session:
        book.Page(text="outer")
        flush()
        with db_session(nested="independent"):
            assert {page.text for page in book.Page.select()} == {"old"}
            book.Page(text="independent")
            flush()
            pids = db.select("SELECT pg_backend_pid()")
        assert db.select("SELECT pg_backend_pid()") != pids
        assert {page.text for page in book.Page.select()} == {"old", "outer", "independent"}
    assert texts(book) == {"old", "outer", "independent"}
    db.close()


@pytest.mark.parametrize("place", ["memory", "file"])
@pytest.mark.parametrize("depth", [1, 2])
def test_an_independent_write_on_sqlite(sqlite_file_url, place, depth):
    """SQLite lets one transaction write: an independent one within it is refused at once, naming both, and sends nothing."""
    db = Database("sqlite://" if place == "memory" else sqlite_file_url)
    book = declare(db)
    with db_session as outer:
        page = book.Page.get(text="old")
        page.reads = 5
        flush()
        with sent(db) as spent, pytest.raises(LockNotAvailable, match="would wait for it in vain") as caught:
            with db_session(nested="independent") as first:
                if depth == 2:
                    with db_session(nested="independent"):
                        book.Page(text="independent")
                else:
                    book.Page(text="independent")
        assert str(caught.value).count("<Session ") == 2 and repr(outer) in str(caught.value) and first is not outer
        assert spent.statements == 0
        page.reads = 6
        commit()
        with db_session(nested="independent"):
            book.Page(text="independent")
    assert texts(book) == {"old", "independent"}
    assert sorted(rows(db, "SELECT reads FROM page")) == [0, 6]
    db.close()


def test_an_independent_read_on_sqlite(file_book):
    """A file can be read while the outer scope writes, and shows what is committed."""
    with db_session:
        file_book.Page(text="outer")
        flush()
        with db_session(nested="independent"):
            assert [page.text for page in file_book.Page.select()] == ["old"]
        with db_session(nested="independent", read_only=True):
            assert file_book.Page.select().count() == 1


@pytest.mark.parametrize("outer", [{}, {"read_only": True}])
@pytest.mark.parametrize("inner", [{}, {"read_only": True}])
def test_an_independent_scope_on_sqlite_in_memory(outer, inner):
    """Memory cannot be read while somebody writes, nor written while somebody reads in a transaction: an error at once."""
    db = Database("sqlite://")
    book = declare(db)
    with db_session(**outer):
        if outer:
            book.Page.select().fetch()
        else:
            book.Page(text="outer").flush()
        if outer and inner:
            with db_session(nested="independent", **inner):
                assert book.Page.select().count() == 1
        else:
            with (
                pytest.raises(LockNotAvailable, match="nobody else read meanwhile"),
                db_session(nested="independent", **inner),
            ):
                book.Page(text="inner") if outer else book.Page.select().fetch()
    assert texts(book) == ({"old"} if outer else {"old", "outer"})
    db.close()


def test_an_independent_scope_beside_an_outer_one_that_reads(book):
    """Reads of the outer scope hold no lock, so that an independent one may write, and the outer one after it."""
    with db_session:
        page = book.Page.get(text="old")
        with db_session(nested="independent"):
            book.Page(text="independent")
        page.reads = 1
    assert texts(book) == {"old", "independent"}
    assert sorted(rows(book.db, "SELECT reads FROM page")) == [0, 1]


# --- forbid ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", ["block", "decorator"])
def test_forbid(book, form):
    """nested="forbid" is for the outermost scope: within another one it is an error, and nothing is run."""
    ran = []
    scope = db_session(nested="forbid")
    run(form, scope, lambda: ran.append(book.Page(text="outermost")))
    assert len(ran) == 1
    for outer in (db_session, db_session(nested="independent"), scope):
        with outer as session:
            book.Page(text=f"outer {len(texts(book))}")
            with pytest.raises(NestedScopeError, match="nested='forbid'"):
                run(form, scope, lambda: ran.append(1))
            assert stack.current_session() is session._core
    assert len(ran) == 1
    assert len(texts(book)) == 5


def test_an_inner_scope_of_a_forbidding_one(book):
    """An outermost scope with nested="forbid" may have inner ones: it forbids to be one."""
    with db_session(nested="forbid") as session, db_session as inner:
        assert inner._core is session._core
        book.Page(text="inner")
    assert "inner" in texts(book)
