"""Hooks after the commit: they run for a proven commit alone, and never within the transaction that has ended."""

import logging
from types import SimpleNamespace

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    Database,
    NoScopeError,
    PartialCommitException,
    Required,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    on_commit,
    on_rollback,
    rollback,
)
from dbsession.errors import OrmError
from tests.observing import elsewhere, rows, sent
from tests.wire import WireCounter


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
        db.execute("CREATE TABLE child (parent INTEGER REFERENCES note (id) DEFERRABLE INITIALLY DEFERRED)")
    return Note


@pytest.fixture
def Note(db):
    return declare(db)


@pytest.fixture
def heard():
    """What the hooks of a scope have said, and a function that registers them."""
    said = []

    def listen():
        on_commit(lambda: said.append("committed"))
        on_rollback(lambda: said.append("rolled back"))

    return SimpleNamespace(said=said, listen=listen)


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


# --- SQL in a hook ------------------------------------------------------------------------------------------------


def test_the_scope_is_over_when_its_hooks_run(db, Note, caplog):
    """64. What a hook does with the database is refused, since there is no scope any more, and sends nothing."""
    refused = []

    def use():
        for verb in (lambda: Note(text="late"), lambda: Note[1], lambda: db.execute("SELECT 1"), flush, commit):
            with pytest.raises(NoScopeError):
                verb()
            refused.append(verb)

    with sent(db) as spent, db_session:
        Note(text="new")
        on_commit(use)
    assert len(refused) == 5 and caplog.records == []
    assert (spent.statements, spent.transactions) == (1, 0)
    assert texts(db) == ["first", "new"]


def test_a_scope_of_its_own_is_another_transaction(db, Note):
    """64. A hook that opens a scope finds what was committed; if it fails, only its own work is undone."""
    seen = []

    def save(text):
        with db_session:
            seen.append(sorted(note.text for note in Note.select()))
            Note(text=text)

    def fail():
        with db_session:
            Note(text="undone").flush()
            raise LookupError

    with db_session:
        Note(text="new")
        Note[1].text = "changed"
        on_commit(lambda: save("by a hook"))
        on_commit(fail)
        on_commit(lambda: save("by another"))
    assert seen == [["changed", "new"], ["by a hook", "changed", "new"]]
    assert texts(db) == ["by a hook", "by another", "changed", "new"]


def test_a_hook_needs_no_second_connection(postgres_url):
    """64, 109. The connection has gone back before hooks run: a pool of one is enough for scopes in them."""
    db = Database(postgres_url, max_size=1, timeout=10)
    Note = declare(db)
    with sent(db) as spent, db_session:
        Note(text="new").flush()
        on_commit(lambda: db_session(lambda: Note(text="by a hook"))())
    assert spent.connections == 0
    assert texts(db) == ["by a hook", "first", "new"]
    db.close()


def test_hooks_after_commit_in_the_middle(db, Note):
    """64, 9. After commit() hooks run within the scope, in the transaction that comes next: it is undone with that."""

    def within():
        seen.append(elsewhere(db_session(lambda: Note.exists(text="saved"))))
        Note(text="by a hook").flush()

    seen = []
    with pytest.raises(ZeroDivisionError), db_session:
        Note(text="saved")
        on_commit(within)
        commit()
        assert Note.exists(text="by a hook")
        1 / 0
    assert seen == [True]
    assert texts(db) == ["first", "saved"]


# --- when they run ------------------------------------------------------------------------------------------------


def _at_the_end(db, Note):
    pass


def _by_commit(db, Note):
    commit()


def _with_a_swallowed_read(db, Note):
    commit()
    with pytest.raises(OrmError):
        db.select("SELECT no_such FROM note")


@pytest.mark.parametrize("how", [_at_the_end, _by_commit, _with_a_swallowed_read])
def test_a_proven_commit(db, Note, heard, how):
    """64. The hooks of a commit run once, those of a rollback do not."""
    with db_session:
        heard.listen()
        Note(text="new")
        how(db, Note)
    assert heard.said == ["committed"]
    assert texts(db) == ["first", "new"]


def _raised(db, Note):
    raise ZeroDivisionError


def _refused(db, Note):
    Note(text="first")


def _refused_and_swallowed(db, Note):
    with pytest.raises(TransactionIntegrityError):
        Note(text="first").flush()


def _refused_at_commit(db, Note):
    db.execute("INSERT INTO child VALUES (99)")


def _rolled_back(db, Note):
    rollback()


@pytest.mark.parametrize("how", [_raised, _refused, _refused_and_swallowed, _refused_at_commit, _rolled_back])
def test_no_commit(db, Note, heard, how):
    """64, 61, 62. Whatever kept the work from being committed: only the hooks of the rollback run, once."""
    try:
        with db_session:
            heard.listen()
            Note(text="new").flush()
            how(db, Note)
    except (OrmError, ZeroDivisionError):
        pass
    assert heard.said == ["rolled back"]
    assert texts(db) == ["first"]


def test_a_swallowed_error_of_postgresql(postgres_url, heard):
    """64, 62. The server answers COMMIT with ROLLBACK: nothing was committed, and no hook says that it was."""
    db = Database(postgres_url)
    Note = declare(db)
    for behind_our_back in (False, True):
        with pytest.raises(SessionDoomed), db_session as session:
            heard.listen()
            Note(text="new").flush()
            if behind_our_back:
                (unit,) = session._core.units
                with pytest.raises(psycopg.errors.DivisionByZero):
                    unit.link._connection.link.execute("SELECT 1 / 0")
            else:
                with pytest.raises(OrmError):
                    db.execute("SELECT 1 / 0")
    assert heard.said == ["rolled back", "rolled back"]
    assert texts(db) == ["first"]
    db.close()


def test_an_unknown_commit(postgres_tcp, heard):
    """64, 63. Nobody knows: neither the hooks of the commit nor those of the rollback run."""
    user, password, name = postgres_tcp.user, postgres_tcp.password, postgres_tcp.database
    with WireCounter(postgres_tcp.host, postgres_tcp.port) as wire:
        db = Database(f"postgresql://{user}:{password}@127.0.0.1:{wire.port}/{name}?sslmode=disable&gssencmode=disable")
        Note = declare(db)
        with pytest.raises(CommitOutcomeUnknown), db_session:
            heard.listen()
            Note(text="new")
            wire.lose_reply_to("INSERT")
        assert heard.said == []
        db.close()


def test_two_databases(db, Note, sqlite_file_url, heard):
    """64, 66. They run when both have committed; where only one has, none of them does."""
    other = Database(sqlite_file_url)
    Other = declare(other)
    seen = []
    with db_session:
        heard.listen()
        on_commit(lambda: seen.extend([texts(db), texts(other)]))
        Note(text="new")
        Other(text="new")
    assert (heard.said, seen) == (["committed"], [["first", "new"], ["first", "new"]])
    with pytest.raises(PartialCommitException), db_session:
        heard.listen()
        Note(text="kept")
        Other(text="lost")
        other.execute("INSERT INTO child VALUES (99)")
    assert heard.said == ["committed"]
    other.close()


def test_retry(Note, heard):
    """64, 97. Of several runs of a function the hooks of the one that was committed run, and of the others' rollbacks."""
    runs = []

    @db_session(retry=2)
    def work():
        runs.append(1)
        heard.listen()
        Note(text="new" if len(runs) == 3 else "first")

    work()
    assert heard.said == ["rolled back", "rolled back", "committed"]


def test_an_error_in_a_hook(db, Note, heard, caplog):
    """64. An error in a hook is logged, the others run, and the scope has ended well, as it has."""
    with caplog.at_level(logging.ERROR, "dbsession"), db_session:
        Note(text="new")
        on_commit(lambda: 1 / 0)
        heard.listen()
    assert heard.said == ["committed"]
    (record,) = caplog.records
    assert record.exc_info[0] is ZeroDivisionError
    assert texts(db) == ["first", "new"]
