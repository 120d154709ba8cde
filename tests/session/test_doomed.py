"""A session whose flush has failed: what it refuses, what can still be read, and how it goes on."""

import pytest

from dbsession import (
    DatabaseError,
    NestedScopeError,
    OptimisticCheckError,
    Optional,
    Required,
    SessionDoomed,
    Set,
    TransactionIntegrityError,
    commit,
    db_session,
    flush,
    rollback,
)
from tests.observing import elsewhere, rows, sent


@pytest.fixture
def entities(db):
    class User(db.Entity):
        name = Required(str, unique=True)
        age = Optional(int)
        bio = Optional(str, lazy=True)
        orders = Set("Order")

    class Order(db.Entity):
        user = Required(User)
        total = Required(int, default=1)

    db.generate_mapping(create_tables=True)
    with db_session:
        user = User(name="Ann", age=30, bio="long")
        Order(user=user)
        User(name="Bob")
    return db.entities


def snapshot(db):
    return [sorted(rows(db, f"SELECT * FROM {table}"), key=repr) for table in ('"user"', '"order"')]


def _not_unique(db, e):
    e["User"](name="Bob")


def _not_null_in_the_database(db, e):
    e["User"][1].orders.create(total=5)
    e["User"](name="new")
    e["User"][1].name = "Bob"


def _changed_elsewhere(db, e):
    user = e["User"][1]
    user.age += 1
    elsewhere(db_session(lambda: setattr(e["User"][1], "age", 99)))


def _gone_elsewhere(db, e):
    order = e["Order"][1]
    elsewhere(db_session(lambda: e["Order"][1].delete()))
    order.total = 7


FAILURES = [_not_unique, _not_null_in_the_database, _changed_elsewhere, _gone_elsewhere]
ERRORS = (TransactionIntegrityError, OptimisticCheckError)


@pytest.fixture(params=FAILURES)
def doom(request, db, entities):
    """Return a function that makes the changes that cannot be saved."""
    return lambda: request.param(db, entities)


@pytest.mark.parametrize("save", [flush, commit, lambda: None], ids=["flush", "commit", "leave"])
def test_a_failed_flush_saves_nothing(db, entities, doom, save):
    """84. Whether it fails at flush(), at commit() or at the end: nothing of the scope is saved, before it or after."""
    with pytest.raises(ERRORS), db_session:
        doom()
        entities["User"](name="before").flush()
        save()
    names = rows(db, 'SELECT name FROM "user"')
    assert "before" not in names and len(names) == 2


@pytest.mark.parametrize("save", [flush, commit], ids=["flush", "commit"])
def test_a_swallowed_flush_error_saves_nothing(db, entities, doom, save):
    """84, 62. Swallowing the error of flush() or commit() does not help: leaving the scope raises, from that error."""
    with pytest.raises(SessionDoomed) as caught, db_session:
        entities["User"](name="before")
        doom()
        with pytest.raises(ERRORS) as failure:
            save()
    assert caught.value.__cause__ is failure.value
    assert type(failure.value).__name__ in str(caught.value)
    assert "call rollback() or leave the scope" in str(caught.value)
    assert "before" not in rows(db, 'SELECT name FROM "user"')


def test_a_doomed_session_refuses_everything_that_needs_the_database(db, entities, doom):
    """84. Everything but rollback() and leaving says what doomed the session, and sends nothing."""
    User, Order = entities["User"], entities["Order"]
    with db_session as session:
        bob = User[2]
        doom()
        with pytest.raises(ERRORS):
            flush()
        verbs = {
            "get by key": lambda: User[77],
            "get": lambda: User.get(name="Bob"),
            "select": lambda: User.select().fetch(),
            "count": lambda: User.select().count(),
            "lock": lambda: User.get_for_update(id=2),
            "lazy attribute": lambda: bob.bio,
            "collection": lambda: list(bob.orders),
            "execute": lambda: db.execute("SELECT 1"),
            "raw select": lambda: db.select("SELECT 1"),
            "bulk delete": lambda: User.select().delete(bulk=True),
            "bulk update": lambda: User.select().update(age=1),
            "select by SQL": lambda: User.select_by_sql("SELECT 1 AS id"),
            "flush": flush,
            "flush of an object": lambda: (setattr(bob, "age", 5), bob.flush()),
            "commit": commit,
            "again": session.commit,
        }
        with sent(db) as spent:
            for name, verb in verbs.items():
                with pytest.raises(SessionDoomed, match="rolled back because of") as caught:
                    verb()
                assert isinstance(caught.value.__cause__, ERRORS), name
        assert spent.statements == 0
        rollback()


def test_loaded_values_stay_readable(db, entities, doom):
    """84. What was loaded can be read in a doomed session, without any SQL."""
    with db_session:
        ann, bob = entities["User"][1], entities["User"][2]
        name, orders = bob.name, list(ann.orders)
        doom()
        with pytest.raises(ERRORS):
            flush()
        with sent(db) as spent:
            assert (bob.name, bob.age, ann.id) == (name, None, 1)
            assert list(ann.orders)[: len(orders)] == orders
            assert bob.to_dict() == {"id": 2, "name": "Bob", "age": None}
        assert spent.statements == 0
        rollback()


def test_rollback_cures_the_session(db, entities, doom):
    """84. After rollback() the objects are as they were, and the session goes on and saves."""
    User = entities["User"]
    with db_session:
        bob = User[2]
        bob.age = 5
        new = User(name="lost")
        doom()
        with pytest.raises(ERRORS):
            flush()
        rollback()
        assert bob.age is None
        assert new.id is None and new.name == "lost"
        assert User.get(name="lost") is None
        bob.age = 6
        User(name="saved")
    assert rows(db, "SELECT age FROM \"user\" WHERE name = 'Bob'") == [6]
    assert {"saved"} == set(rows(db, 'SELECT name FROM "user"')) - {"Ann", "Bob"}


def test_the_next_scope_works(db, entities, doom):
    """85. After a scope that ended with such an error, the next one in this thread works, and nobody has to tidy up."""
    with pytest.raises(ERRORS), db_session:
        doom()
    elsewhere(db_session(lambda: entities["User"](name="elsewhere")))
    with db_session:
        entities["User"](name="here")
    assert {"here", "elsewhere"} <= set(rows(db, 'SELECT name FROM "user"'))


def test_an_autoflush_that_fails_is_a_failed_flush(db, entities):
    """84, 87. The flush before a query fails like any other, and names the object that could not be saved."""
    User = entities["User"]
    with pytest.raises(SessionDoomed), db_session:
        new = User(name="Bob")
        with pytest.raises(TransactionIntegrityError) as caught:
            User.select(age=3).fetch()
        assert "User[new]" in str(caught.value) or "User[new]" in "".join(getattr(caught.value, "__notes__", []))
        assert new.name == "Bob"
    assert len(rows(db, 'SELECT * FROM "user"')) == 2


def test_a_doomed_inner_scope(db, entities):
    """84. A flush that fails in an inner scope dooms that scope; the outer one goes on, and can still roll back."""
    User = entities["User"]
    with db_session:
        User(name="outer")
        with pytest.raises(TransactionIntegrityError), db_session:
            User(name="Bob")
            with pytest.raises(NestedScopeError):
                rollback()
            flush()
        commit()
        User(name="undone")
        rollback()
        User(name="later")
    assert set(rows(db, 'SELECT name FROM "user"')) == {"Ann", "Bob", "outer", "later"}


def test_errors_keep_what_the_driver_said(db, entities):
    """86. The error has the driver's own as its cause, table and columns, and the SQL without values."""
    with pytest.raises(TransactionIntegrityError) as caught, db_session:
        entities["User"](name="Bob", bio="a secret")
        entities["User"](name="also new")
    error = caught.value
    assert isinstance(error, DatabaseError)
    assert error.original_exc is not None
    cause = error
    while cause.__cause__ is not None:
        cause = cause.__cause__
    assert cause is error.original_exc
    assert error.table.lower() == "user"
    assert tuple(error.columns) == ("name",)
    assert "INSERT INTO" in error.sql
    assert "secret" not in str(error) and "secret" not in error.sql


def test_commit_after_a_failure_at_the_end_of_an_allowed_exception(db, entities):
    """4, 84. An allowed exception cannot commit what is doomed: SessionDoomed says so."""
    before = snapshot(db)
    with pytest.raises(SessionDoomed) as caught, db_session(allowed_exceptions=TransactionIntegrityError):
        entities["User"](name="Bob")
        flush()
    assert isinstance(caught.value.__cause__, TransactionIntegrityError)
    assert snapshot(db) == before
