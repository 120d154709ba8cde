"""`with Session(db) as session:` is a scope: alone, within others, and with others within it."""

import gc
import warnings

import pytest

from dbsession import (
    CacheIndexError,
    Database,
    DatabaseSessionIsOver,
    InvalidRequestError,
    NestedScopeError,
    NoScopeError,
    ObjectNotFound,
    Required,
    Session,
    SessionDoomed,
    TransactionIntegrityError,
    commit,
    db_session,
    on_commit,
    rollback,
    savepoint,
    select,
    sessionmaker,
)
from dbsession.scope import stack
from tests.counting import counted
from tests.observing import rows


def declare(db):
    class Note(db.Entity):
        text = Required(str, unique=True)

    db.generate_mapping(create_tables=True)
    with db_session:
        Note(text="first")
    return Note


@pytest.fixture
def Note(db):
    return declare(db)


@pytest.fixture
def other():
    """Another database, with an entity of its own."""
    other = Database("sqlite://")

    class Memo(other.Entity):
        text = Required(str)

    other.generate_mapping(create_tables=True)
    yield other
    other.close()


def texts(db):
    return sorted(rows(db, "SELECT text FROM note"))


# --- alone ----------------------------------------------------------------------------------------------


def test_it_commits_at_its_end(db, Note):
    """2. The block is a scope: class verbs work, objects built in it are its own, its end commits."""
    with counted(db) as sent, Session(db) as session:
        note = Note(text="x")
        session.add(note)  # it is there already
        assert session.new == {note}
    assert sent.round_trips == 1
    assert texts(db) == ["first", "x"]
    assert (note.id, note.text) == (2, "x")
    assert stack.current_frame() is None


def test_nothing_in_it_costs_nothing(db, Note):
    """1. An unused block takes no connection and sends nothing."""
    with counted(db) as sent, Session(db):
        pass
    assert sent.statements == 0


def test_an_exception_rolls_back(db, Note):
    """3. An exception undoes everything, and reaches the caller as it is."""
    error = KeyError("mine")
    with pytest.raises(KeyError) as caught, Session(db) as session:
        Note(text="x")
        Note[1].text = "changed"
        session.flush()
        raise error
    assert caught.value is error
    assert texts(db) == ["first"]
    with pytest.raises(DatabaseSessionIsOver):
        session.commit()


def test_module_functions_are_for_it(db, Note):
    """commit(), rollback(), on_commit() and select() in the block are for its session."""
    called = []
    with Session(db) as session:
        Note(text="x")
        on_commit(lambda: called.append("saved"))
        commit()
        assert called == ["saved"]
        Note(text="y")
        rollback()
        assert session.new == frozenset()
        assert sorted(select(note.text for note in Note)) == ["first", "x"]
        assert [note.text for note in session.query(Note).order_by(Note.text)] == ["first", "x"]
    assert texts(db) == ["first", "x"]


def test_a_swallowed_failure_is_no_success(db, Note):
    """62, 84. A block that swallows a refused flush raises at its end; rollback() in it makes it whole again."""
    with pytest.raises(SessionDoomed), Session(db) as session:
        Note(text="first")
        with pytest.raises(TransactionIntegrityError):
            session.flush()
    with Session(db) as session:
        Note(text="first")
        with pytest.raises(TransactionIntegrityError):
            session.flush()
        session.rollback()
        Note(text="x")
    assert texts(db) == ["first", "x"]


def test_it_is_entered_once(db, Note):
    """A session is entered once, and ends with its block."""
    session = Session(db)
    with session as entered:
        assert entered is session
        with pytest.raises(InvalidRequestError, match="entered already"):
            session.__enter__()
        with pytest.raises(InvalidRequestError, match="ends with the block"):
            session.close()
        with db_session as inner, pytest.raises(InvalidRequestError, match="entered already"):
            inner.__enter__()
    with pytest.raises(DatabaseSessionIsOver):
        session.__enter__()
    session.close()


def test_what_was_done_before_it_is_entered(db, Note):
    """An open session that is entered takes its work along; the end of the block saves that, too."""
    session = Session(db)
    session.add(Note(text="before"))
    with session:
        Note(text="within")
    assert texts(db) == ["before", "first", "within"]


def test_a_block_that_is_left_is_no_lost_session(db, Note):
    """A session that was left says nothing when it goes."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with Session(db) as session:
            Note(text="x")
        del session
        gc.collect()


def test_options_of_the_block(db, Note):
    """The options of a scope are those of the session; allowed exceptions commit."""
    with pytest.raises(ZeroDivisionError), Session(db, allowed_exceptions=ZeroDivisionError):
        Note(text="x")
        raise ZeroDivisionError
    assert texts(db) == ["first", "x"]
    with pytest.raises(NestedScopeError), db_session, Session(db, nested="forbid"):
        pass


# --- within another one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("outer_is", ["db_session", "Session"])
def test_it_joins_the_scope_around_it(db, Note, outer_is):
    """5. Within a scope on its database it joins: one identity map, one transaction, no end of its own."""
    with counted(db) as sent:
        with db_session if outer_is == "db_session" else Session(db) as outer:
            mine = Note[1]
            with Session(db) as inner:
                assert inner._core is outer._core
                assert inner.get(Note, 1) is mine
                Note(text="x")
                with pytest.raises(NestedScopeError):
                    inner.commit()
            assert outer.new != frozenset()
    assert sent.round_trips == 2
    assert texts(db) == ["first", "x"]


def test_an_inner_one_fails_alone(db, Note):
    """5, 75. An inner block that fails leaves nothing of its own behind, if the outer one goes on."""
    with db_session:
        Note[1].text = "outer"
        with pytest.raises(ZeroDivisionError), Session(db):
            Note[1].text = "inner"
            Note(text="x")
            1 / 0
        assert Note[1].text == "outer"
    assert texts(db) == ["outer"]


def test_an_independent_one(db, Note):
    """nested="independent" gives a block within a scope a session of its own."""
    with pytest.raises(ZeroDivisionError), db_session:
        mine = Note[1]
        with Session(db, nested="independent") as session:
            assert session.get(Note, 1) is not mine
            Note(text="x")
        1 / 0
    assert texts(db) == ["first", "x"]


def test_an_open_session_within_a_scope_is_its_own(db, Note):
    """Without `with` it does not join the scope in which it is made."""
    with db_session:
        mine = Note[1]
        session = Session(db)
        theirs = session.get(Note, 1)
        assert theirs is not mine
        built = Note(text="x")
        assert built not in session  # a scope is current: it is built for that
        session.close()
    assert texts(db) == ["first", "x"]


def test_scopes_within_it_join_it(db, Note):
    """5. db_session, decorated functions, savepoint and begin_nested() within the block join its session."""

    @db_session
    def work():
        Note(text="decorated")

    with Session(db) as session:
        with db_session as inner:
            assert inner._core is session._core
            Note(text="block")
        work()
        with pytest.raises(TransactionIntegrityError), savepoint:
            Note(text="first")
        with pytest.raises(TransactionIntegrityError), session.begin_nested():
            Note(text="first")
        assert {note.text for note in session.new} | {note.text for note in session.query(Note)} == {
            "first",
            "block",
            "decorated",
        }
    assert texts(db) == ["block", "decorated", "first"]


# --- several databases ----------------------------------------------------------------------------------


def test_it_is_for_its_database_alone(db, Note, other):
    """Within the block nothing but its database can be used, unless there is another scope for it."""
    Memo = other.entities["Memo"]
    with Session(db):
        with pytest.raises(NoScopeError, match="alone"):
            Memo(text="x")
        with pytest.raises(NoScopeError, match="alone"), db_session:
            Memo.select().first()
        with Session(other) as second:
            Memo(text="x")
            Note(text="x")  # finds its way to the outer block
            assert second.get(Memo, 9) is None
    with db_session:
        assert (Memo.select().count(), Note.select().count()) == (1, 2)


def test_within_a_scope_for_every_database(db, Note, other):
    """The other databases of a db_session around the block can be used within it."""
    Memo = other.entities["Memo"]
    with db_session:
        with Session(db) as session:
            Memo(text="x")
            Note(text="x")
            assert {type(obj) for obj in session.new} == {Memo, Note}
            assert session.execute("SELECT 1").rows == [(1,)]
            with pytest.raises(InvalidRequestError, match="alone"):
                session.get(Memo, 1)
        with db_session as every, pytest.raises(InvalidRequestError, match=r"db\.execute"):
            every.execute("SELECT 1")
        assert Memo.select().count() == 1
    assert texts(db) == ["first", "x"]


def test_back_to_the_first_database(db, Note, other):
    """Session(a) in Session(b) in Session(a) joins the outermost one, and each end is its own."""
    Memo = other.entities["Memo"]
    with Session(db) as first:
        with Session(other):
            with Session(db) as third:
                assert third._core is first._core
                Note(text="x")
            Memo(text="m")
            with pytest.raises(NestedScopeError):
                with Session(db) as third:
                    third.commit()
        with db_session:
            assert Note.get(text="x") is not None
        with pytest.raises(ObjectNotFound), Session(db):
            Note[99]
        first.commit()
    assert texts(db) == ["first", "x"]
    assert rows(other, "SELECT text FROM memo") == ["m"]


def test_the_first_error_of_the_inner_database(db, Note, other):
    """A failing block on one database does not undo what an outer block on another one goes on with."""
    Memo = other.entities["Memo"]
    with Session(db):
        Note(text="x")
        with pytest.raises(ZeroDivisionError), Session(other):
            Memo(text="lost")
            1 / 0
    assert texts(db) == ["first", "x"]
    assert rows(other, "SELECT text FROM memo") == []


# --- factories ------------------------------------------------------------------------------------------


def test_a_factory_in_a_with_block(db, Note):
    """Sessionmaker's sessions are scopes in a `with` block, with the options of the factory."""
    Held = sessionmaker(bind=db, read_only=True)
    with pytest.raises(Exception, match=r"read.only"), Held():
        Note(text="x")
    with Held(read_only=False) as session:
        session.add(Note(text="x"))
    assert texts(db) == ["first", "x"]


def test_adding_to_several_databases_is_one_thing(db, Note, other):
    """add_all() of objects of several databases adds all of them, or, if one is refused, none."""
    Memo = other.entities["Memo"]
    held = Session(db)  # while it is open, objects are built for nobody
    memo, note, double = Memo(text="m"), Note(text="x"), Note(id=1, text="double")
    with db_session as session:
        assert Note[1].text == "first"
        with pytest.raises(CacheIndexError):
            session.add_all([memo, note, double])
        assert session.new == frozenset()
        session.add_all([memo, note])
        assert session.new == {memo, note}
    held.close()
    assert texts(db) == ["first", "x"]
    assert rows(other, "SELECT text FROM memo") == ["m"]
