"""Sessions that somebody holds, in odd orders: parts left open, ends that fail, scopes of several databases."""

import contextvars
import copy
import pickle
import warnings

import psycopg
import pytest

from dbsession import (
    CommitOutcomeUnknown,
    Database,
    DatabaseSessionIsOver,
    InvalidRequestError,
    LockNotAvailable,
    NestedScopeError,
    NoScopeError,
    OptimisticCheckError,
    PrimaryKey,
    Required,
    Session,
    Set,
    TransactionIntegrityError,
    db_session,
)
from dbsession.backends.statements import Kind
from dbsession.integrations.testing import lose_connection
from dbsession.scope import stack
from dbsession.session.link import Link
from dbsession.session.sql_log import SqlLog
from dbsession.session.unit_of_work import UnitOfWork
from tests.counting import counted
from tests.observing import elsewhere, rows


@pytest.fixture
def Note(db):
    class Note(db.Entity):
        text = Required(str, unique=True)
        count = Required(int, default=0)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def Memo():
    """An entity of another database."""
    other = Database("sqlite://")

    class Memo(other.Entity):
        text = Required(str)

    other.generate_mapping(create_tables=True)
    yield Memo
    other.close()


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


def memos(Memo):
    return sorted(rows(Memo._catalog_, "SELECT text FROM memo"))


def add_one(Note, key=1):
    """Add one to a count in a scope of another thread."""

    @db_session
    def work():
        Note[key].count += 1

    elsewhere(work)


# --- parts that are left open -----------------------------------------------------------------------------


@pytest.mark.parametrize("inner", ["db_session", "Session"])
def test_an_inner_scope_with_an_open_part_fails_as_a_whole(db, Note, inner):
    """75. An inner scope that fails with a begin_nested() open in it leaves nothing behind; the outer one goes on."""
    with db_session as outer:
        Note(text="outer")
        with pytest.raises(ZeroDivisionError), db_session if inner == "db_session" else Session(db) as session:
            Note(text="inner")
            session.begin_nested()
            Note(text="part")
            1 / 0
        outer.commit()
        Note(text="more")
    assert texts(db) == ["first", "more", "outer"]


def test_a_scope_that_ends_well_saves_its_open_parts(db, Note):
    """A begin_nested() that nobody has ended is left to what is around it at the end."""
    with db_session:
        with db_session as session:
            session.begin_nested()
            Note(text="part")
        Note(text="outer")
    with Session(db) as session:
        session.begin_nested()
        Note(text="another")
    assert texts(db) == ["another", "first", "outer", "part"]


def test_an_error_undoes_the_parts_within(db, Note):
    """3, 75. An error out of a begin_nested() undoes what was begun within it, too, and stays the error that it is."""
    session = Session(db)
    session.add(Note(text="before"))
    with pytest.raises(ZeroDivisionError), session.begin_nested():
        session.add(Note(text="one"))
        session.begin_nested()
        session.add(Note(text="two"))
        1 / 0
    session.commit()
    session.close()
    assert texts(db) == ["before", "first"]


def test_rollback_ends_open_parts(db, Note):
    """13. rollback() of a held session undoes its savepoints as well: try/except/finally needs to know of none."""
    session = Session(db)
    try:
        part = session.begin_nested()
        session.add(Note(text="first"))
        with pytest.raises(NestedScopeError, match="begin_nested"):
            session.commit()
        session.flush()
    except TransactionIntegrityError:
        session.rollback()
    with pytest.raises(NestedScopeError, match="ended already"):
        part.rollback()
    session.add(Note(text="x"))
    session.commit()
    session.close()
    assert texts(db) == ["first", "x"]


def test_a_part_is_entered_once(db, Note):
    """A savepoint that has ended cannot be entered: the block would run without one."""
    with Session(db) as session:
        part = session.begin_nested()
        part.commit()
        with pytest.raises(NestedScopeError, match="new one"), part:
            pass
        with session.begin_nested() as part, pytest.raises(NestedScopeError, match="new one"), part:
            pass


def test_closing_with_an_open_part(db, Note):
    """close() undoes what was begun, and says what is lost."""
    session = Session(db)
    session.begin_nested()
    session.add(Note(text="x"))
    with pytest.warns(RuntimeWarning, match="Note"):
        session.close()
    assert texts(db) == ["first"]


# --- behind the block -------------------------------------------------------------------------------------


def test_a_joined_session_is_over_behind_its_block(db, Note):
    """What has joined an outer scope does nothing more behind its own block, and nothing to the outer scope."""
    with db_session as outer:
        with Session(db) as session:
            Note(text="x")
        for verb in (session.commit, session.rollback, session.flush):
            with pytest.raises(DatabaseSessionIsOver):
                verb()
        session.close()
        assert outer.new != frozenset()
    assert texts(db) == ["first", "x"]


def test_a_block_that_is_left_before_the_inner_one(db, Note):
    """An end out of order is an error, and undoes the work of the block; the inner one ends as it should."""
    first, second = Session(db), Session(db, nested="independent")
    first.__enter__()
    Note(text="lost")
    second.__enter__()
    with pytest.raises(NoScopeError, match="rolled back"):
        first.__exit__(None, None, None)
    Note(text="x")
    second.__exit__(None, None, None)
    with pytest.raises(InvalidRequestError, match="had not been entered"):
        first.__exit__(None, None, None)
    stack.set_frame(None)
    assert texts(db) == ["first", "x"]


def test_a_block_that_is_left_elsewhere(db, Note):
    """118. A block whose session is handed to another thread is left there."""
    session = Session(db)

    def enter():
        session.__enter__()
        Note(text="x")

    def leave():
        with pytest.raises(NoScopeError):
            session.__exit__(None, None, None)
        session.adopt()
        session.__exit__(None, None, None)

    contextvars.copy_context().run(enter)
    elsewhere(leave)
    assert texts(db) == ["first", "x"]


# --- several databases ------------------------------------------------------------------------------------


def test_a_db_session_does_not_reach_beyond_a_session_that_it_joins(db, Note, Memo):
    """5. What an inner db_session could not undo is refused in it, with the ways out."""
    with Session(Memo._catalog_), Session(db):
        with pytest.raises(NoScopeError, match="independent"), db_session:
            Memo(text="x")
        with db_session(nested="independent"):
            Memo(text="own")
    assert memos(Memo) == ["own"]


def test_the_nearest_scope_of_a_database_is_asked(db, Note, Memo):
    """A block that joins an outer scope for its database leaves the other databases to the scopes between."""
    with db_session:
        with pytest.raises(ZeroDivisionError), Session(Memo._catalog_, nested="independent"):
            with Session(db):
                Memo(text="x")
                Note(text="x")
            1 / 0
    assert memos(Memo) == []
    assert texts(db) == ["first", "x"]


def test_a_joined_session_keeps_what_is_its_own(db, Note, Memo):
    """info, autoflush and execute() of a block are its own, whether it has joined another scope or not."""
    for outer in (db_session, Session(db)):
        with outer as around:
            with Session(db, info={"tenant": 1}, autoflush=False) as session:
                assert session.info == {"tenant": 1}
                Note(text="x")
                assert session.query(Note).count() == 1
                assert session.execute("SELECT 1").rows == [(1,)]
            assert Note.select().count() == 2
            assert around.info == {}
            around.rollback()


# --- SQLite's lock ----------------------------------------------------------------------------------------


def test_an_open_session_does_not_wait_for_the_scope_around(tmp_path):
    """A held session that would wait for the lock of the scope in which it is used is refused at once."""
    db = Database(f"sqlite:///{tmp_path}/notes.db", timeout=60)

    class Note(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    before = Session(db)
    with db_session as outer:
        Note(text="x")
        outer.flush()
        for session in (before, Session(db)):
            assert session.query(Note).all() == []  # WAL: readers wait for nobody
            with pytest.raises(LockNotAvailable, match="the outer"):
                session.execute("DELETE FROM note")
            session.close()
    assert rows(db, "SELECT text FROM note") == ["x"]
    db.close()


# --- keys -------------------------------------------------------------------------------------------------


def test_get_by_keys_of_every_form(db):
    """19. get() takes scalar keys, composite ones, and those that are references to either; locked or not."""

    class Place(db.Entity):
        row = Required(int)
        seat = Required(int)
        tickets = Set("Ticket")
        PrimaryKey(row, seat)

    class Ticket(db.Entity):
        place = PrimaryKey(Place)
        price = Required(int)

    db.generate_mapping(create_tables=True)
    with db_session:
        Ticket(place=Place(row=1, seat=2), price=5)
    for for_update in (False, True):
        with Session(db) as session:
            assert session.get(Place, (1, 2), for_update=for_update).seat == 2
            assert session.get(Ticket, (1, 2), for_update=for_update).price == 5
            assert session.get(Ticket, session.get(Place, (1, 2)), for_update=for_update).price == 5
            assert session.get(Place, (1, 3), for_update=for_update) is None


# --- conflicts and lost commits ---------------------------------------------------------------------------


def test_a_held_session_can_try_again_after_a_conflict(db, Note):
    """68, 96. After a conflict rollback() forgets what was loaded: the same objects show what is there now."""
    session = Session(db)
    note = session.get(Note, 1)
    assert note.count == 0
    add_one(Note)
    note.count += 5
    with pytest.raises(OptimisticCheckError):
        session.commit()
    session.rollback()
    with counted(db) as sent:
        assert note.count == 1
    assert sent.round_trips == 1
    note.count += 5
    session.commit()
    session.close()
    assert rows(db, "SELECT count FROM note") == [6]


def test_a_row_that_is_gone_is_gone_after_the_conflict(db, Note):
    """92. After a conflict over a deleted row, rollback() lets get() find that there is none."""
    session = Session(db)
    session.get(Note, 1).count = 5

    @db_session
    def delete():
        Note[1].delete()

    assert session.get(Note, 1).text == "first"
    elsewhere(delete)
    with pytest.raises(OptimisticCheckError):
        session.commit()
    session.rollback()
    assert session.get(Note, 1) is None
    session.close()


def test_values_stay_readable_behind_an_ordinary_rollback(db, Note):
    """68. Without a conflict rollback() shows the values as they were loaded, and sends nothing for it."""
    with Session(db) as session:
        note = Note[1]
        note.count = 7
        session.rollback()
        with counted(db) as sent:
            assert (note.text, note.count) == ("first", 0)
        assert sent.statements == 0
    assert note.text == "first"


@pytest.mark.parametrize("end", ["close", "rollback"])
@pytest.mark.parametrize("was_done", [True, False])
def test_a_commit_of_unknown_outcome_is_not_done_twice(db, Note, end, was_done):
    """63. Objects of a commit whose reply was lost are not transient: to add them again would save them twice."""
    session = Session(db)
    new, old = Note(text="x"), session.get(Note, 1)
    session.add(new)
    old.count = 3
    with lose_connection(db, at="commit", done=was_done), pytest.raises(CommitOutcomeUnknown):
        session.commit()
    if end == "close":
        with pytest.warns(RuntimeWarning, match="nobody knows"):
            session.close()
    else:
        session.rollback()
        assert old.count == (3 if was_done else 0)
        assert new not in session
        session.close()
    with Session(db) as again, pytest.raises(DatabaseSessionIsOver, match="nobody knows whether it was saved"):
        again.add(new)
    assert texts(db) == (["first", "x"] if was_done else ["first"])


def test_going_on_after_the_connection_was_killed(postgres_url):
    """108. A held session whose connection was killed fails once, and goes on after rollback()."""
    db = Database(postgres_url)

    class Note(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    session = Session(db)
    session.add(Note(text="lost"))
    session.flush()
    (pid,) = session.execute("SELECT pg_backend_pid()").rows[0]
    with psycopg.connect(postgres_url, autocommit=True) as killer:
        killer.execute("SELECT pg_terminate_backend(%s, 5000)", (pid,))
    with pytest.raises(Exception, match=r"connection|terminat"):
        session.execute("SELECT 1")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.rollback()
    session.add(Note(text="x"))
    session.commit()
    session.close()
    assert rows(db, "SELECT text FROM note") == ["x"]
    db.close()


# --- interrupted ------------------------------------------------------------------------------------------


def test_a_rollback_that_is_interrupted(db, Note, monkeypatch):
    """13. After a Ctrl-C in rollback() the session goes on over another connection, and what it saves is saved."""
    session = Session(db)
    session.add(Note(text="a"))
    session.flush()
    send = Link.execute

    def interrupted(self, batch):
        if batch[0].kind is Kind.ROLLBACK:
            self._discard = True  # as `execute` does where it is interrupted
            raise KeyboardInterrupt
        return send(self, batch)

    monkeypatch.setattr(Link, "execute", interrupted)
    with pytest.raises(KeyboardInterrupt):
        session.rollback()
    monkeypatch.undo()
    session.add(Note(text="after"))
    session.commit()
    session.close()
    assert texts(db) == ["after", "first"]


def test_a_hook_cannot_end_its_own_session(db):
    """58. A session is neither entered nor ended from a hook of its own flush: the flush would go on without it."""

    class Item(db.Entity):
        name = Required(str)

        def before_insert(self):
            for end in ends:
                with pytest.raises(InvalidRequestError, match="hook of a flush"):
                    end()

    db.generate_mapping(create_tables=True)
    session = Session(db)
    ends = [session.__enter__, session.close, session.commit]
    session.add(Item(name="one"))
    session.commit()
    session.close()
    scope = Session(db)
    ends = [scope.__exit__]
    with scope:
        Item(name="two")
    assert sorted(rows(db, "SELECT name FROM item")) == ["one", "two"]


def test_a_session_that_is_lost_at_work_saves_nothing(db):
    """112. A session that goes with its last reference while it flushes is an error, and holds no connection."""

    class Item(db.Entity):
        name = Required(str)

        def before_insert(self):
            held.clear()

    db.generate_mapping(create_tables=True)
    held = [Session(db)]
    item = Item(name="x")
    held[0].add(item)
    with pytest.raises(DatabaseSessionIsOver), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        item.flush()
    with db_session:
        assert Item.select().count() == 0


def test_what_was_never_sent_is_not_lost(tmp_path):
    """A flush that could not begin leaves nothing that close() would warn of once the rest is committed."""
    db = Database(f"sqlite:///{tmp_path}/notes.db", timeout=0.01)

    class Note(db.Entity):
        text = Required(str)

    db.generate_mapping(create_tables=True)
    session = Session(db)
    session.add(Note(text="x"))
    with Session(db) as other:
        other.add(Note(text="y"))
        other.flush()
        with pytest.raises(LockNotAvailable):
            session.flush()
    session.commit()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        session.close()
    assert sorted(rows(db, "SELECT text FROM note")) == ["x", "y"]
    db.close()


def test_a_session_is_not_copied(db):
    """A handle is one: copies and pickles of it, and of what holds it, are refused."""
    session = Session(db)
    for copied in (copy.copy, copy.deepcopy, pickle.dumps):
        with pytest.raises(TypeError, match="adopt"):
            copied(session)
    session.close()


@pytest.mark.parametrize("place", ["log", "loop"])
def test_an_interrupt_beside_the_driver(db, Note, place, monkeypatch):
    """13. A Ctrl-C between two lines of a flush: behind rollback() what is committed is saved, on a sound connection."""
    with Session(db) as session:
        Note(text="a")
        session.flush()
        Note(text="b")
        if place == "log":
            monkeypatch.setattr(SqlLog, "write", interrupt)
            session._core.units[0].link.log = SqlLog(is_on=True, shows_values=False)
        else:
            monkeypatch.setattr(UnitOfWork, "pending", interrupt)
        with pytest.raises(KeyboardInterrupt):
            session.flush()
        monkeypatch.undo()
        session.rollback()
        Note(text="after")
        session.commit()
        assert texts(db) == ["after", "first"]
    assert texts(db) == ["after", "first"]


def interrupt(*_, **__):
    """Be struck by Ctrl-C."""
    raise KeyboardInterrupt


def test_an_interrupt_behind_the_commit(db, Note, monkeypatch):
    """13, 63. A Ctrl-C when COMMIT was answered, and the objects do not show it yet: they are not saved again."""
    session = Session(db)
    notes = [Note(text="a"), Note(text="b")]
    session.add_all(notes)
    monkeypatch.setattr(UnitOfWork, "committed", interrupt)
    with pytest.raises(KeyboardInterrupt):
        session.commit()
    monkeypatch.undo()
    session.rollback()
    session.commit()
    assert texts(db) == ["a", "b", "first"]
    assert session.new == frozenset()
    session.close()


def test_an_interrupt_of_a_flush_leaves_no_flush_running(db, Note, monkeypatch):
    """13, 88. A Ctrl-C as a flush begins: the scope ends with it, and gives its connection back."""
    begin = UnitOfWork.begin_flush

    def begin_and_interrupt(self):
        begin(self)
        monkeypatch.undo()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt), Session(db) as session:
        Note(text="a")
        session.flush()
        Note(text="b")
        monkeypatch.setattr(UnitOfWork, "begin_flush", begin_and_interrupt)
        session.flush()
    with db_session:
        Note(text="free")
    assert texts(db) == ["first", "free"]


def test_what_was_made_of_a_session_stays_with_it(db, Note):
    """A session that was used before it is entered stays on its own, with its queries, within another scope, too."""
    session = Session(db)
    query = session.query(Note)
    with pytest.raises(ZeroDivisionError), db_session:
        with session:
            Note(text="x")
            assert sorted(note.text for note in query) == ["first", "x"]
            assert all(note in session for note in query)
        1 / 0
    assert texts(db) == ["first", "x"]


def test_generators_that_are_closed_out_of_order(db, Note):
    """12. Of two suspended blocks the outer one is left first: it is undone, and nothing joins it afterwards."""

    def held(text):
        with Session(db, nested="independent") as session:
            session.add(Note(text=text))
            yield session

    def run():
        one, two = held("one"), held("two")
        next(one)
        next(two)
        with pytest.raises(NoScopeError, match="rolled back"):
            one.close()
        two.close()
        with db_session:
            Note(text="later")

    contextvars.copy_context().run(run)
    assert texts(db) == ["first", "later"]


def test_hooks_of_a_held_session(db, Note):
    """64. on_commit() and on_rollback() of a session without `with` run behind its next end."""
    happened = []
    session = Session(db)
    session.on_commit(lambda: happened.append("saved"))
    session.add(Note(text="x"))
    session.commit()
    session.on_commit(lambda: happened.append("never"))
    session.on_rollback(lambda: happened.append("undone"))
    session.rollback()
    with pytest.raises(TypeError, match="without arguments"):
        session.on_commit("text")
    session.close()
    assert happened == ["saved", "undone"]
